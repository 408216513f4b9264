"""Join lists of image files and the files they name into the splits of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lort_hub.data.archives import unpack
from lort_hub.data.image_folder.names import TRAINVAL
from lort_hub.data.request import Opened, Request
from lort_hub.data.tables.column_names import is_label
from lort_hub.data.tables.encoded import read_table
from lort_hub.data.tables.found_lists import find_files, nothing_found, roots_of
from lort_hub.data.tables.image_files import ImageFiles, with_images
from lort_hub.data.tables.joined import join
from lort_hub.data.tables.list_classes import (
    check_folders_agree,
    check_splits_beside,
    find_class_folders,
    folders_as_read,
    names_tests_alone,
    tell_no_classes,
)
from lort_hub.data.tables.lists import LISTS, FileList, read_list
from lort_hub.data.tables.matched import MatchedList, without_nameless_rows, without_names_alone
from lort_hub.data.tables.splits import (
    kinds_of_cells,
    note_joined,
    set_in_name,
    split_in_name,
    split_of_file,
    stem_of_shard,
    tells_splits,
)
from lort_hub.data.tables.training_lists import check_training_images, note_lists_of_one_class
from lort_hub.data.tables.unnamed import note_unnamed
from lort_hub.data.tables.wrapped_classes import check_wrapped_classes
from lort_hub.errors import DatasetError
from lort_hub.shorten import shown

if TYPE_CHECKING:
    import datasets


def open_lists(
    files: Sequence[Path],
    folder: Path,
    request: Request,
    *,
    archives: Sequence[Path] = (),
    only: bool = False,
    by_card: Mapping[Path, str] | None = None,
) -> Opened | None:
    """Open lists of image files as the splits of a data set.

    Args:
        files: The lists; the first is the training split's where no name tells the split.
        folder: The data folder, below which images are looked for where `image_root` is not given.
        request: The arguments of `load_long_tailed`.
        archives: Archives that hold the images where no folder does.
        only: Whether the user named the first list itself, so that class folders say nothing.
        by_card: Split of each list where README.md tells it.

    Returns:
        Its rows; None where no list names images, or where class folders tell the classes.

    Raises:
        DatasetError: A list that was named finds no image, or lists and class folders contradict each other.

    Example:
        >>> open_lists([], Path("/nonexistent"), Request("photos")) is None
        True
    """
    lists, notes = _read(files, folder, by_card or {}, only=only)
    roots = roots_of(request.image_root, folder)
    matched = find_files(lists, roots, request, only=only)
    if not matched and archives:
        roots = [unpack(archives), *roots]
        matched = find_files(lists, roots, request, only=only)
    if (
        lists
        and not matched
        and (only or request.image_root or not any(folders_as_read(root, request) for root in roots))
    ):
        matched = find_files(lists, roots, request, only=only, as_spelt=True)
    names_alone = {one.listed.path for one in matched}
    matched = without_names_alone(matched)
    names_alone -= {one.listed.path for one in matched}
    lists = [(listed, split) for listed, split in lists if listed.path not in names_alone]
    matched = [without_nameless_rows(one) for one in _with_splits(matched, notes)]
    if not matched:
        table = lists and lists[0][0].path.suffix.lower() not in LISTS  # a table may hold something else
        if lists and not table and (only or request.image_root or not ImageFiles([folder]).files):
            raise nothing_found(lists[0][0], roots[0])
        return None
    if not only and names_tests_alone(matched, folder, request):
        return None
    if not only and tell_no_classes(matched, folder, request):
        return None
    if told := {} if only or request.label_column else find_class_folders(matched, folder, request):
        check_folders_agree(matched, told, folder)
        return None
    check_splits_beside(matched)
    if not (only and request.image_root):
        check_training_images(matched)
    if not request.label_column:
        notes += note_lists_of_one_class(matched)
    notes += _unmatched(lists, matched)
    notes += [note for one in matched for note in one.listed.notes if note not in notes]
    if refusal := next(filter(None, (one.listed.refusal or one.column.refusal for one in matched)), ""):
        raise DatasetError(refusal)
    notes += [one.column.note for one in matched if one.column.note]
    notes += check_wrapped_classes(matched, folder, request, only=only)
    notes += _several_sets(matched)
    named: set[Path] = set()
    names = list(dict.fromkeys(one.split for one in matched))
    splits = {split: _join(split, matched, request, notes, named) for split in names}
    notes += note_unnamed(matched, named)
    folders = (folder, *(root for root in roots if not _hold_one_another(folder, root)))
    opened = Opened(splits, notes, lists=tuple(one.listed.path for one in matched), folders=folders)
    return opened if len(splits) > 1 else _by_folder(opened, roots)


def _unmatched(lists: Sequence[tuple[FileList, str]], matched: Sequence[MatchedList]) -> list[str]:
    """Notes of lists of a split that name no image which is there."""
    used, most = {one.listed.path for one in matched}, 3
    unread = [listed.path.name for listed, split in lists if split and listed.path not in used]
    notes = [f"{name} is not read: no image that it names is there." for name in unread[:most]]
    return notes + [f"{len(unread) - most:,} more lists are not read either."] * (len(unread) > most)


def _several_sets(matched: Sequence[MatchedList]) -> list[str]:
    """Notes of lists of one split that are joined, though their names tell several sets."""
    notes = []
    for split in dict.fromkeys(one.split for one in matched):
        own = [one.listed for one in matched if one.split == split]
        sets = {frozenset(filter(str.isalpha, set_in_name(stem_of_shard(one.path.name)))) for one in own}
        if len({tuple(one.columns) for one in own}) > 1:
            continue
        if len(sets) > 1:
            notes.append(f"Joined as the split '{split}': {shown([one.path.name for one in own])}.")
        else:
            notes += note_joined({split: [one.path for one in own]})
    return notes


def _read(
    files: Sequence[Path], folder: Path, by_card: Mapping[Path, str], *, only: bool
) -> tuple[list[tuple[FileList, str]], list[str]]:
    """Read lists with their splits, without those that are none."""
    lists, notes = [], []
    for number, file in enumerate(files):
        named = only and number == 0
        if "submission" in file.name.lower() and not named:
            notes.append(f"{file.name} is not read: the labels of a submission are not the true ones.")
            continue
        try:
            listed = read_list(file) if file.suffix.lower() in LISTS else _from_table(file)
        except DatasetError as error:
            if named:
                raise
            if split_in_name(stem_of_shard(file.name)):
                reason = str(error).splitlines()[0].replace(str(file), file.name).rstrip(",")
                notes.append(f"{file.name} is not read: {reason}")
            continue
        if listed.is_by_class and not only:
            continue
        split = by_card.get(file) or ("train" if named else split_of_file(file.relative_to(folder)) or "")
        lists.append((listed, split))
        notes += listed.notes
    return lists, notes


def _with_splits(matched: Sequence[MatchedList], notes: list[str]) -> list[MatchedList]:
    """Lists whose names tell no split are the training split's, unless another one is called that."""
    if any(one.split in ("train", TRAINVAL) for one in matched):
        notes += [
            f"{one.listed.path.name} is not read: its name tells no split."
            for one in matched
            if not one.split
        ]
        return [one for one in matched if one.split]
    return [replace(one, split=one.split or "train") for one in matched]


def _from_table(file: Path) -> FileList:
    import datasets

    rows = read_table([file])
    columns: dict[str, list[str | None]] = {}
    for name, kind in rows.features.items():
        if isinstance(kind, datasets.ClassLabel):
            columns[name] = [None if value is None else kind.int2str(value) for value in rows[name][:]]
        elif isinstance(kind, datasets.Value) and kind.dtype != "binary":
            columns[name] = [None if value is None else str(value) for value in rows[name][:]]
    return FileList(file, columns)


def _join(
    split: str, matched: Sequence[MatchedList], request: Request, notes: list[str], named: set[Path]
) -> datasets.Dataset:
    """Rows of the lists of a split, with notes of missing files, and the files that are there."""
    own = [one for one in matched if one.split == split]
    if len({tuple(one.listed.columns) for one in own}) > 1:
        is_asked = request.label_column.__eq__ if request.label_column else is_label
        labelled = [one for one in own if any(map(is_asked, one.listed.columns))]
        if len(labelled) != 1:
            names = shown([str(one.listed.path.name) for one in own])
            such = f', e.g. `dataset="{labelled[0].listed.path}"`' if labelled else ""
            raise DatasetError(
                f"{len(own)} lists name the images of '{split}': {names}.\n"
                f"Give the one with the label of each image as the data set{such}."
            )
        own = labelled
    parts: list[datasets.Dataset] = []
    files_of: dict[Path, set[Path]] = {}
    for one in own:
        listed = with_images(one.listed, one.column, one.images, one.split)
        rows = listed.rows
        if listed.column != own[0].column.name:
            rows = rows.rename_column(listed.column, own[0].column.name)
        parts.append(rows)
        name = one.listed.path.name
        if listed.missing:
            count = f"{len(listed.missing):,} of {len(rows):,} rows"
            notes.append(f"{count} of {name} name a file that is not there, such as {listed.missing[0]}.")
        files = {Path(path) for path in listed.files}
        _check_apart(one.listed.path, files, files_of)
        files_of[one.listed.path] = files
        named |= files
    return join(parts, [str(one.listed.path) for one in own])


def _check_apart(file: Path, files: set[Path], files_of: Mapping[Path, set[Path]]) -> None:
    """Refuse two lists of a split that name the same images: one is a part or another form of the other."""
    for other, known in files_of.items():
        if same := files & known:
            raise DatasetError(
                f"'{other}' and '{file.name}' are lists of one split, and {len(same):,} images are in both, "
                f"such as {min(same).name}.\n"
                f'Take one of them away, or give the one to read, e.g. `dataset="{other}"`.'
            )


def _hold_one_another(folder: Path, other: Path) -> bool:
    here, there = folder.resolve(), other.resolve()
    return here.is_relative_to(there) or there.is_relative_to(here)


def _by_folder(opened: Opened, roots: Sequence[Path]) -> Opened:
    """Rows of one list in the splits whose folders their files lie in, where all lie in such folders."""
    (rows,) = opened.splits.values()
    for name in filter(tells_splits, rows.column_names):
        kinds = set(kinds_of_cells(name, map(str, rows[name][:])).values())
        if len(kinds) > 1 and "" not in kinds:
            return opened  # the column tells them
    column = next(key for key, kind in rows.features.items() if type(kind).__name__ == "Image")
    splits: dict[str, list[int]] = {}
    roots = [root.resolve() for root in roots]
    for row, cell in enumerate(rows[column][:]):
        path = Path(cell["path"])
        root = next(filter(path.is_relative_to, roots), None)
        parts = path.relative_to(root).parts[:-1] if root else ()
        named = next((split for part in parts if (split := split_in_name(part))), "")
        splits.setdefault(named, []).append(row)
    if "" in splits or len(splits) < 2:
        return opened
    opened.notes.append(f"The folders of the images tell the splits: {', '.join(splits)}.")
    return Opened({split: rows.select(chosen) for split, chosen in splits.items()}, opened.notes)
