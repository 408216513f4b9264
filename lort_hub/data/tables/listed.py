"""Join lists of image files and the files they name into the splits of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lort_hub.data.archives import unpack
from lort_hub.data.decoding import image_suffixes
from lort_hub.data.image_folder.classes import classes_of
from lort_hub.data.image_folder.names import are_parts, kind_of
from lort_hub.data.image_folder.splits import find_layout
from lort_hub.data.image_folder.tree import list_pictures
from lort_hub.data.request import Opened, Request
from lort_hub.data.tables.columns import LABEL_NAMES
from lort_hub.data.tables.encoded import read_table
from lort_hub.data.tables.image_files import (
    FileColumn,
    ImageFiles,
    find_file_column,
    with_images,
)
from lort_hub.data.tables.joined import join
from lort_hub.data.tables.labels import shown
from lort_hub.data.tables.lists import LISTS, FileList, read_list
from lort_hub.data.tables.splits import split_in_name, split_of_file, stem_of_shard, tells_splits
from lort_hub.errors import DatasetError

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class _MatchedList:
    """A list whose files were found."""

    listed: FileList
    column: FileColumn
    images: ImageFiles
    split: str


def open_lists(
    files: Sequence[Path],
    folder: Path,
    request: Request,
    *,
    archives: Sequence[Path] = (),
    only: bool = False,
) -> Opened | None:
    """Open lists of image files as the splits of a data set.

    Args:
        files: The lists; the first is the training split's where no name tells the split.
        folder: The data folder, below which images are looked for where `image_root` is not given.
        request: The arguments of `load_long_tailed`.
        archives: Archives that hold the images where no folder does.
        only: Whether the user named the first list itself, so that class folders say nothing.

    Returns:
        Its rows; None where no list names images, or where class folders tell the classes.

    Raises:
        DatasetError: A list that was named finds no image, or lists and class folders contradict each other.

    Example:
        >>> open_lists([], Path("/nonexistent"), Request("photos")) is None
        True
    """
    lists, notes = _read(files, folder, only=only)
    roots = _roots(request.image_root, folder)
    matched = _find(lists, roots, request, only=only)
    if not matched and archives:
        matched = _find(lists, [unpack(archives), *roots], request, only=only)
    matched = _with_splits(matched, notes)
    if not matched or (not only and _tests_alone(matched, folder, request)):
        table = lists and lists[0][0].path.suffix.lower() not in LISTS  # a table may hold something else
        if (
            lists
            and not matched
            and not table
            and (only or request.image_root or not ImageFiles([folder]).files)
        ):
            raise _nothing_found(lists[0], roots[0])
        return None
    told = {} if only or request.label_column else _class_folders(matched, folder, request)
    if told:
        return _folders_win(matched, told, folder)
    notes += _unmatched(lists, matched)
    if refusal := next((one.listed.refusal for one in matched if one.listed.refusal), ""):
        raise DatasetError(refusal)
    named: set[Path] = set()
    names = list(dict.fromkeys(one.split for one in matched))
    splits = {split: _join(split, matched, request, notes, named) for split in names}
    if unnamed := _unnamed(named):
        of = shown([one.listed.path.name for one in matched])
        notes.append(f"{len(unnamed):,} images have no row in {of}, such as {unnamed[0]}.")
    opened = Opened(splits, notes)
    return opened if len(splits) > 1 else _by_folder(opened, roots)


def _tests_alone(matched: Sequence[_MatchedList], folder: Path, request: Request) -> bool:
    """Whether lists name the test images alone, and class folders hold the images to train on."""
    named = any(one.split not in ("test", "validation") for one in matched)
    if named or request.train_split or request.label_column:
        return False
    return bool(_folders_as_read(folder, request))


def _unmatched(
    lists: Sequence[tuple[FileList, str]], matched: Sequence[_MatchedList], most: int = 3
) -> list[str]:
    """Notes of lists of a split that name no image which is there."""
    used = [id(one.listed) for one in matched]
    unread = [listed.path.name for listed, split in lists if split and id(listed) not in used]
    notes = [f"{name} is not read: no image that it names is there." for name in unread[:most]]
    return notes + [f"So are {len(unread) - most:,} more lists."] * (len(unread) > most)


def _read(files: Sequence[Path], folder: Path, *, only: bool) -> tuple[list[tuple[FileList, str]], list[str]]:
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
        split = "train" if named else split_of_file(file.relative_to(folder)) or ""
        lists.append((listed, split))
        notes += listed.notes
    return lists, notes


def _with_splits(matched: Sequence[_MatchedList], notes: list[str]) -> list[_MatchedList]:
    """Lists whose names tell no split are the training split's, unless another one is called that."""
    if any(one.split == "train" for one in matched):
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


def _roots(asked: Path | None, folder: Path) -> list[Path]:
    """Folders in which to look for images: the one that was named, or the data folder."""
    if asked is None:
        return [folder]
    root = next((path for path in (asked.expanduser(), folder / asked) if path.is_dir()), None)
    if root is None:
        raise DatasetError(f"No folder '{asked}'.\n`image_root` expects the folder of the images of a list.")
    return [root]


def _find(
    lists: Sequence[tuple[FileList, str]], roots: Sequence[Path], request: Request, *, only: bool
) -> list[_MatchedList]:
    matched, images = [], ImageFiles(roots)
    for number, (listed, split) in enumerate(lists):
        own = images if request.image_root else images.beside(listed.path.parent)
        if siblings := _siblings(request.image_root and roots[-1], split):
            own = ImageFiles(siblings)  # the test images of test.csv, not the training images of that name
        column = find_file_column(listed, own, request.image_column, split)
        if column:
            matched.append(_MatchedList(listed, column, own, split))
        elif number == 0 and only:
            return []
    return matched


def _siblings(root: Path | None, split: str) -> list[Path]:
    """Folders of another split beside the one of the images that was named for the training split."""
    own = split_in_name(root.resolve().name) if root else None
    if root is None or own in (None, split):
        return []
    beside = [path for path in sorted(root.resolve().parent.iterdir()) if path.is_dir()]
    return [path for path in beside if split_in_name(path.name) == split]


def _nothing_found(first: tuple[FileList, str], root: Path) -> DatasetError:
    listed, _ = first
    names = {name: next((cell for cell in cells if cell), "") for name, cells in listed.columns.items()}
    suffixes = image_suffixes()
    likely = [name for name, cell in names.items() if Path(cell).suffix.lower() in suffixes]
    if urls := [name for name, cell in names.items() if "://" in cell]:
        return DatasetError(
            f"Column '{urls[0]}' of '{listed.path}' holds web addresses, such as {names[urls[0]][:60]}.\n"
            "Download the images first; a list then names their files."
        )
    if len(names) > 50 and not likely:
        return DatasetError(
            f"'{listed.path}' has {len(names)} columns and none of files: are they pixels?\n"
            "Write each image as a file (PIL.Image.fromarray(array).save('0.png')) and a list of them."
        )
    file = f"'{listed.path}'"
    problem = f"No column of {file} names an image file below '{root}'"
    if likely:
        such = f"names files such as '{names[likely[0]]}', none of which is below '{root}'"
        problem = f"Column '{likely[0]}' of {file} {such}"
    return DatasetError(
        f"{problem}.\nIts columns: {shown(list(names))}. Name the folder of the images with `image_root`."
    )


def _folders_as_read(folder: Path, request: Request) -> set[str]:
    """The class folders of the training split; none where the folders can be read in two ways."""
    try:
        layout = find_layout(list_pictures(str(folder.resolve())), request.train_split, request.test_split)
        classes = classes_of(layout.train, layout.train_name, request.class_folder)
    except DatasetError:
        return set()
    is_told = len(classes) > 1 and not are_parts(list(classes))
    return {one.path for folders in classes.values() for one in folders} if is_told else set()


def _class_folders(matched: Sequence[_MatchedList], folder: Path, request: Request) -> dict[str, str]:
    """The class folder of each listed file, where all lie in two or more folders that name no split.

    Where all lie in one, so does the list where it is of one class alone, and the folders tell the classes.
    """
    classes: dict[str, str] = {}
    like_splits: dict[str, str] = {}
    for one in matched:
        for name in one.listed.columns[one.column.name]:
            fitting = one.images.find(name, one.split, one.column.skip) if name else None
            if isinstance(fitting, list) and _label_of(one.listed):
                return {}  # the list says which class, but not of which file
            for path in [fitting] if isinstance(fitting, str) else fitting or []:
                if not Path(path).is_relative_to(folder.resolve()):
                    return {}
                parts = _folders_of(Path(path), folder, one.listed.path.parent)
                inner = [part for part in parts if not split_in_name(part)]
                if inner:
                    classes[path] = inner[0]
                elif len(parts) > 1 and not kind_of(parts[-1]) and parts[-1] != parts[-2]:
                    like_splits[path] = parts[-1]  # as bullet_train, beside other classes
                else:
                    return {}
    names = sorted(set(classes.values()))
    if len(names) == 1 and not like_splits and not any(_label_of(one.listed) for one in matched):
        places = {str(one.listed.path.parent.resolve()) for one in matched}
        is_class = not are_parts(names) and places <= _folders_as_read(folder, request)
        return classes if is_class else {}
    classes = classes | like_splits if classes else {}
    names = sorted(set(classes.values()))
    return classes if len(names) > 1 and not are_parts(names) else {}


def _folders_of(path: Path, folder: Path, listed_in: Path) -> Sequence[str]:
    """Folders on the way to a file, from the list's own where splits lie in it, or from the data folder."""
    if path.is_relative_to(listed_in.resolve()):
        parts = path.relative_to(listed_in.resolve()).parts[:-1]
        if any(split_in_name(part) for part in parts[:-1]):
            return parts
    return path.relative_to(folder.resolve()).parts[:-1]


def _label_of(listed: FileList) -> str | None:
    return next((name for name in listed.columns if name.lower() in LABEL_NAMES), None)


def _folders_win(matched: Sequence[_MatchedList], classes: dict[str, str], folder: Path) -> Opened | None:
    """Leave the classes to the folders, unless a list has a label of its own that contradicts them."""
    for one in matched:
        label = _label_of(one.listed)
        is_table = one.listed.path.suffix.lower() not in LISTS  # of features: no list of the images' classes
        if label is None or one.listed.refusal or is_table:
            continue
        pairs = set()
        for name, value in zip(one.listed.columns[one.column.name], one.listed.columns[label], strict=True):
            path = one.images.find(name, one.split, one.column.skip) if name else None
            if isinstance(path, str):
                pairs.add((classes[path], value))
        if len(pairs) > len({pair[0] for pair in pairs}) or len(pairs) > len({pair[1] for pair in pairs}):
            file = one.listed.path.relative_to(folder)
            raise DatasetError(
                f"Column '{label}' of '{file}' and the folders {shown(sorted(set(classes.values())), 4)} "
                "tell different classes of the same images.\n"
                f'Give `label_column="{label}"`, or take {file.name} away to read the folders.'
            )
    return None


def _join(
    split: str, matched: Sequence[_MatchedList], request: Request, notes: list[str], named: set[Path]
) -> datasets.Dataset:
    """Rows of the lists of a split, with notes of missing files, and the files that are there."""
    own = [one for one in matched if one.split == split]
    if len({tuple(one.listed.columns) for one in own}) > 1:
        wanted = {request.label_column} if request.label_column else set(LABEL_NAMES)
        labelled = [one for one in own if {name.lower() for name in one.listed.columns} & wanted]
        if len(labelled) != 1:
            names = shown([str(one.listed.path.name) for one in own])
            raise DatasetError(
                f"{len(own)} lists name the images of '{split}': {names}.\n"
                f'Give the one with the labels, e.g. `dataset="{own[0].listed.path}"`.'
            )
        own = labelled
    parts = []
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
        named |= {Path(path) for path in listed.files}
    return join(parts, [str(one.listed.path) for one in own])


def _unnamed(known: set[Path]) -> list[str]:
    """Images beside the named ones that no row names."""
    suffixes = image_suffixes()
    folders = sorted({file.parent for file in known})
    beside = (path for folder in folders for path in sorted(folder.iterdir()))
    return [
        path.name
        for path in beside
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path not in known
    ]


def _by_folder(opened: Opened, roots: Sequence[Path]) -> Opened:
    """Rows of one list in the splits whose folders their files lie in, where all lie in such folders."""
    (rows,) = opened.splits.values()
    if any(tells_splits(name) for name in rows.column_names):
        return opened
    column = next(key for key, kind in rows.features.items() if type(kind).__name__ == "Image")
    splits: dict[str, list[int]] = {}
    for row, cell in enumerate(rows[column][:]):
        path = Path(cell["path"] if cell else "")
        root = next((root.resolve() for root in roots if path.is_relative_to(root.resolve())), None)
        parts = path.relative_to(root).parts[:-1] if root else ()
        named = next((split for part in parts if (split := split_in_name(part))), "")
        splits.setdefault(named if cell else "train", []).append(row)
    if "" in splits or len(splits) < 2:
        return opened
    opened.notes.append(f"The folders of the images tell the splits: {', '.join(splits)}.")
    return Opened({split: rows.select(chosen) for split, chosen in splits.items()}, opened.notes)
