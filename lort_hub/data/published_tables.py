"""Split the images of a list of labels as lists of names beside it do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lort_hub.data.image_folder.names import TRAINVAL, is_trainval, kind_of
from lort_hub.data.published_lists import TEXTS, may_tell_splits, read_names
from lort_hub.data.published_matches import (
    MOST,
    LabelledImages,
    MatchedNames,
    PublishedSplit,
    TableImages,
    below,
    find_splits,
)
from lort_hub.data.request import Opened, Request
from lort_hub.data.table_files import split_lists
from lort_hub.data.tables.column_names import is_called_labels
from lort_hub.data.tables.image_files import ImageFiles
from lort_hub.data.tables.listed import open_lists
from lort_hub.data.tables.splits import split_in_name, without_split
from lort_hub.errors import DatasetError
from lort_hub.shorten import shown

if TYPE_CHECKING:
    import datasets

TRAININGS = {"train", TRAINVAL}
"""Splits of training images."""
ADVICE = "write it into the list as a column 'split', with train and test."


def lists_beside(opened: Opened, request: Request) -> list[Path]:
    """List the files beside a list of labels that may tell its published split; none where all is training.

    Args:
        opened: The rows of the list.
        request: The arguments of `load_long_tailed`.

    Example:
        >>> lists_beside(Opened({}), Request("photos"))
        []
    """
    if len(opened.splits) > 1:
        return []
    asked = set(map(_kind, filter(None, (request.train_split, request.test_split))))
    if request.train_split and asked <= set(map(_kind, opened.splits)):
        return []  # every row is one to train on
    for folder in opened.folders:
        files = [file for file in split_lists(folder) if may_tell_splits(file) and file not in opened.lists]
        if files:
            return files
    return []


def _kind(split: str) -> str:
    return TRAINVAL if is_trainval(split) else kind_of(split) or split


def split_as_listed(
    opened: Opened, columns: tuple[str, str], files: Sequence[Path], *, is_asked: bool = False
) -> Opened:
    """Split the rows of a list of labels as lists of names do, or say in a note that they may.

    Args:
        opened: The rows, each image once.
        columns: The columns of images and labels.
        files: The lists of names.
        is_asked: Whether the user asked for splits, so that lists of a few images alone tell some, too.

    Raises:
        DatasetError: A list of a published split names several images for one.

    Example:
        >>> split_as_listed(Opened({}), ("image", "label"), [])
        Opened(splits={}, notes=[], record={}, chosen=None, lists=(), folders=())
    """
    if not files:
        return opened
    folder = opened.folders[0]
    ((_, rows),) = opened.splits.items()
    whole = f"the list {shown([file.name for file in opened.lists], 2)}"
    table = _table_of(rows, columns, opened.folders, f" of {whole}")
    every = [table.match(one) for file in files for one in read_names(file)]
    matched = [one for one in every if not _are_numbers(one, len(rows))]
    read = [one for one in matched if one.is_read and not table.tells_other_classes(one)]
    has_test = any(one.names.split == "test" for one in read)
    if any(is_trainval(file.stem) for file in opened.lists) and not has_test:
        return opened  # all images but those to test on
    found = [one for one in find_splits(read) if is_asked or one.covers(len(rows))]
    for one in matched:
        _check_found(one, matched, found)
    if len(found) == 1:
        beside = [one for one in matched if one.missing and one not in read and _is_beside(one, found[0])]
        notes = [
            *_without(opened.notes, found[0].files),
            *found[0].describe(whole, len(rows), folder),
            *(f"{one.names.file.name} is not read: {one.notes()[0]}" for one in beside),
        ]
        return Opened({split: rows.select(of) for split, of in found[0].once().items()}, notes)
    named = {row for one in read if one.names.split for row in one.rows if row >= 0}
    called, why = _unread(matched, is_part=len(named) < len(rows))
    called += [one.names.file for one in every if one.names.split and one not in matched]
    given = {one.names.file for one in every}
    called += [file for file in files if file not in given and not split_in_name(file.stem)]
    names = shown(sorted({below(folder, file) for file in called}), 5)
    note = f"No published split is read, though one may be in {names}: {why}"
    return replace(opened, notes=[*opened.notes, *[note] * bool(called)])


def _table_of(
    rows: datasets.Dataset, columns: tuple[str, str], folders: Sequence[Path], of: str
) -> LabelledImages:
    """The images of a list of labels, by the paths of their files."""
    cells, labels = (rows[column][:] for column in columns)
    known = {cell["path"]: row for row, cell in enumerate(cells) if cell and cell["bytes"] is None}
    return LabelledImages(known, labels, TableImages(folders, list(known)), ImageFiles(folders), of)


def _without(notes: Sequence[str], files: Sequence[Path]) -> list[str]:
    """The notes but those that files are not read, which are read now."""
    unread = tuple(f"{file.name} is not read: " for file in files)
    return [note for note in notes if not note.startswith(unread)]


def _are_numbers(one: MatchedNames, total: int) -> bool:
    """Whether names are numbers as of rows, classes or patients, not such as 000007 or one above all rows."""
    cells = one.names.listed.columns[one.column]
    if not all(re.fullmatch(r"0|[1-9]\d*", cell or "") for cell in cells):
        return False
    return bool(one.missing) or all(int(cell or 0) <= total for cell in cells)


def _is_beside(one: MatchedNames, published: PublishedSplit) -> bool:
    """Whether a list is of the same set as the files of a split."""
    return any(one.set_of == (file.parent, without_split(file.name)) for file in published.files)


def _unread(matched: Sequence[MatchedNames], *, is_part: bool) -> tuple[list[Path], str]:
    """The lists that may tell a published split and were not read, and what to do or why."""
    found = [one.names for one in matched if _most_found(one)]
    if (found and is_part) or {one.split for one in found} - {"", *TRAININGS}:
        return [one.file for one in found], ADVICE
    lost = [one for one in matched if one.names.split and not any(" " in name for name in one.missing)]
    kinds: dict[tuple[Path, str], set[str]] = {}
    for one in lost:
        kinds.setdefault(one.set_of, set()).add(one.names.split)
    lost = [one for one in lost if kinds[one.set_of] & TRAININGS and kinds[one.set_of] - TRAININGS]
    if not lost or found:
        return [], ADVICE
    return [one.names.file for one in lost], lost[0].notes()[0]


def open_labels(folder: Path, request: Request) -> Opened | None:
    """Open a text of labels of images that lie in no class folders, where lists beside it tell its splits.

    Args:
        folder: The data folder.
        request: The arguments of `load_long_tailed`.

    Returns:
        The rows of the text; None where there is no such text, or several.

    Example:
        >>> open_labels(Path("/nonexistent"), Request("photos")) is None
        True
    """
    texts = [
        file for file in split_lists(folder) if file.suffix.lower() in TEXTS and is_called_labels(file.stem)
    ]
    if len(texts) != 1:
        return None
    with suppress(DatasetError):
        opened = open_lists(texts, folder, request, only=True)
        beside = lists_beside(opened, request) if opened else []
        if opened and beside and "label" in next(iter(opened.splits.values())).column_names:
            split = split_as_listed(opened, ("file", "label"), beside)
            return opened if len(split.splits) > 1 else None
    return None


def _most_found(one: MatchedNames) -> bool:
    return len(one.missing) < (1 - MOST) * len(one.rows)


def _check_found(one: MatchedNames, matched: Sequence[MatchedNames], found: Sequence[PublishedSplit]) -> None:
    """Refuse names of which one fits several images, in a list of a training and a test split."""
    is_train = one.names.split in TRAININGS
    has_partner = any(
        other.set_of == one.set_of and (other.names.split in TRAININGS) != is_train
        for other in matched
        if other.names.split and _most_found(other)
    )
    is_of_split = has_partner if not found else any(_is_beside(one, split) for split in found)
    if one.doubtful and one.names.split and is_of_split and _most_found(one):
        file, (name, paths) = one.names.file.name, next(iter(one.doubtful.items()))
        raise DatasetError(
            f"'{name}' in {file} fits {len(paths)} images{one.of}: {paths[0]}, {paths[1]}.\n"
            f"Write the folders of its images into {file}, too, or take it away; or give "
            '`train_split="train"`, which reads every row as one to train on.'
        )
