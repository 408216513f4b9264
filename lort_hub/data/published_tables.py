"""Split the images of a list of labels as lists of names beside it do."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lort_hub.data.image_folder.names import TRAINVAL, kind_of
from lort_hub.data.published_lists import TEXTS, read_names
from lort_hub.data.published_matches import (
    MOST,
    LabelledImages,
    MatchedNames,
    TableImages,
    find_splits,
)
from lort_hub.data.request import Opened, Request
from lort_hub.data.table_files import split_lists
from lort_hub.data.tables.column_names import is_called_labels
from lort_hub.data.tables.listed import open_lists
from lort_hub.errors import DatasetError
from lort_hub.shorten import shown


def lists_beside(opened: Opened, request: Request) -> list[Path]:
    """List the files beside a list of labels that may tell its published split; none where all is training.

    Args:
        opened: The rows of the list.
        request: The arguments of `load_long_tailed`.

    Example:
        >>> lists_beside(Opened({}), Request("photos"))
        []
    """
    if opened.folder is None or len(opened.splits) > 1:
        return []
    asked = {kind_of(name) or name for name in (request.train_split, request.test_split) if name}
    if request.train_split and asked <= {kind_of(name) or name for name in opened.splits}:
        return []  # every row is one to train on
    return [file for file in split_lists(opened.folder) if file not in opened.lists]


def split_as_listed(opened: Opened, columns: tuple[str, str], files: Sequence[Path]) -> Opened:
    """Split the rows of a list of labels as lists of names do, or say in a note that they may.

    Args:
        opened: The rows, each image once.
        columns: The columns of images and labels.
        files: The lists of names.

    Raises:
        DatasetError: A list of a published split names images that are not in the list, or several for one.

    Example:
        >>> split_as_listed(Opened({}), ("image", "label"), [])
        Opened(splits={}, notes=[], record={}, chosen=None, lists=(), folder=None)
    """
    given = [one for file in files for one in read_names(file)]
    if not given or opened.folder is None:
        return opened
    ((_, rows),) = opened.splits.items()
    image, label = columns
    known = {cell["path"]: row for row, cell in enumerate(rows[image][:]) if cell and cell["bytes"] is None}
    table = LabelledImages(known, rows[label][:], TableImages(opened.folder, list(known)))
    whole = f"the list {shown([file.name for file in opened.lists], 2)}"
    matched = [table.match(one) for one in given]
    read = [one for one in matched if one.is_read and not table.tells_other_classes(one)]
    for one in matched:
        _check_found(one, whole)
    found = find_splits(read)
    if len(found) == 1:
        (published,) = found
        unread = tuple(f"{file.name} is not read: " for file in published.files)
        notes = [note for note in opened.notes if not note.startswith(unread)]
        notes += published.describe(whole, len(rows), opened.folder)
        return Opened({split: rows.select(of) for split, of in published.once().items()}, notes)
    listed = {row for one in read if one.names.split for row in one.rows}
    for one in matched if not found and len(listed - {-1}) < len(rows) else ():
        _check_set(one, read, whole)
    splits = {one.names.file: one.names.split for one in matched if _most_found(one)}
    if {*splits.values()} - {"", "train", TRAINVAL}:
        called = shown([file.name for file in splits], 5)
        advice = "write it into the list as a column 'split', with train and test."
        opened.notes.append(f"No published split is read, though one may be in {called}: {advice}")
    return opened


def open_labels(folder: Path, files: Sequence[Path], request: Request) -> Opened | None:
    """Open a text of labels of images that lie in no class folders, where lists beside it tell its splits.

    Args:
        folder: The data folder.
        files: The lists in it.
        request: The arguments of `load_long_tailed`.

    Returns:
        The rows of the text; None where there is no such text, or several.

    Example:
        >>> open_labels(Path("/nonexistent"), [], Request("photos")) is None
        True
    """
    texts = [file for file in files if file.suffix.lower() in TEXTS and is_called_labels(file.stem)]
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


def _check_found(one: MatchedNames, whole: str) -> None:
    """Refuse names of which one fits several images."""
    if one.doubtful and one.names.split and _most_found(one):
        file, (name, paths) = one.names.file.name, next(iter(one.doubtful.items()))
        raise DatasetError(
            f"'{name}' in {file} fits {len(paths)} images of {whole}: {paths[0]}, {paths[1]}.\n"
            f"Write the folders of its images into {file}, too, or take it away; or give "
            '`train_split="train"`, which reads every row as one to train on.'
        )


def _check_set(one: MatchedNames, read: Sequence[MatchedNames], whole: str) -> None:
    """Refuse a list whose names are no images, where another of its set names some and leaves others out."""
    alike = [other.names.file.name for other in read if other.set_of == one.set_of and other.names.split]
    if one.names.split and alike and not _most_found(one):
        name = one.names.file.name
        raise DatasetError(
            f"{len(one.missing):,} of {len(one.rows):,} rows of {name} name no image of {whole}, such as "
            f"'{one.missing[0]}'; {alike[0]} tells a split of it.\n"
            f"Write the names of its images into {name}, or take it away; or give "
            '`train_split="train"`, which reads every row as one to train on.'
        )
