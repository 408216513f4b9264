"""Split the images of class folders as lists beside them do: files of names, and no labels of their own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lort_hub.data.image_folder.names import TESTS
from lort_hub.data.image_folder.read import read_image_folder
from lort_hub.data.image_folder.reading import FolderReading, LeftOut
from lort_hub.data.published_lists import TEXTS, may_tell_splits, read_names
from lort_hub.data.published_matches import LabelledImages, MatchedNames, PublishedSplit, below, find_splits
from lort_hub.data.request import Opened, Request
from lort_hub.data.tables.image_files import ImageFiles
from lort_hub.errors import DatasetError
from lort_hub.shorten import shown

MOST_REASONS = 3
"""Lists of which a note says why they are not read."""


def note_unread(files: Sequence[Path], reading: FolderReading) -> list[str]:
    """Name the files that may tell a published split and were not read, in a note, and say why.

    Args:
        files: The files.
        reading: What was read of the class folders.

    Example:
        >>> note_unread([], reading)  # doctest: +SKIP
        []
    """
    told = [file for file in files if may_tell_splits(file) or file.suffix.lower() not in TEXTS]
    names = {file: list(read_names(file)) for file in told}
    names = {file: of for file, of in names.items() if of or may_tell_splits(file)}
    if not names:
        return []
    folders = _class_folders(reading)
    matched = [folders.match(one) for of in names.values() for one in of]
    whole = {one.names.file for one in matched if _is_whole(one, len(reading.train))}
    outside = [one.names.file for one in matched if one.names.split in TESTS and _is_outside(one)]
    if whole and outside:
        return [
            f"{outside[0].name} tells the labels of images that lie in no class folders, and is not read: "
            f'`dataset="{min(whole)}"` reads both lists.'
        ]
    names = {file: of for file, of in names.items() if file not in whole}
    if not names:
        return []
    lost = [one for one in matched if one.missing and not one.is_read]
    advice = "write it as train.txt and test.txt, with the path of an image in each line."
    why = " ".join(one.notes()[0] for one in lost[:MOST_REASONS]) or advice
    called = shown([file.name for file in names], 5)
    return [f"No published split is read, though one may be in {called}: {why}"]


def _is_whole(one: MatchedNames, total: int) -> bool:
    """Whether a list of the training split names all images, which tells no splits."""
    return one.names.split == "train" and len({row for row in one.rows if row >= 0}) == total


def _is_outside(one: MatchedNames) -> bool:
    """Whether a list has labels of images that are there, and none of which lies in a class folder."""
    return "label" in one.names.listed.columns and not one.missing and max(one.rows, default=-1) < 0


def open_published(
    folder: Path, files: Sequence[Path], request: Request, *, only: bool = False
) -> Opened | None:
    """Open class folders in the splits that lists beside them tell.

    Args:
        folder: The folder of the class folders.
        files: The lists; the first is the training split's where the user named it.
        request: The arguments of `load_long_tailed`.
        only: Whether the user named the first list itself.

    Returns:
        The rows of each split; None where there are no class folders, they tell the splits themselves, or no
        list does.

    Raises:
        DatasetError: Lists tell several splits, or contradict the class folders.

    Example:
        >>> open_published(Path("/nonexistent"), [], Request("photos")) is None
        True
    """
    given = [
        one for number, file in enumerate(files) for one in read_names(file, is_train=only and not number)
    ]
    if not given:
        return None
    try:
        reading = read_image_folder(folder, class_folder=request.class_folder)
    except DatasetError:
        if only and given[0].file == files[0] and given[0].listed.columns.keys() <= {"line", "file"}:
            raise  # names alone: folders have to tell the classes
        return None
    if reading is None or reading.test is not None:
        return None
    folders = _class_folders(reading)
    matched = [one for one in map(folders.match, given) if one.is_read]
    lists = [one for one in matched if one.names.split or one.names.file.suffix.lower() in TEXTS]
    if others := list(filter(folders.tells_other_classes, lists)):
        if only:
            return None  # the user named a list of labels
        file = min(others, key=lambda one: one.names.split != "train").names.file
        raise DatasetError(
            f"The labels of {file.name} and the class folders tell different classes of the images.\n"
            f'Give `dataset="{file}"` and `image_root` for the labels, or take it away for the folders.'
        )
    found = find_splits(matched, only=only)
    if len(found) > 1:
        names = [" with ".join(below(folder, file) for file in one.files[:2]) for one in found]
        raise DatasetError(
            f"{len(found)} published splits of '{folder.name}': {shown(names, 5)}.\n"
            f'Give the list of training images of one, e.g. `dataset="{found[0].files[0]}"`, and '
            f'`image_root="{folder}"`.'
        )
    return _in_splits(reading, found[0]) if found else None


def folder_of_names(file: Path) -> Path:
    """Find the folder that the names of a list start from: its own, or one beside that holds the first.

    Example:
        >>> folder_of_names(Path("/nonexistent/labels/train1.txt"))
        PosixPath('/nonexistent/labels')
    """
    listed = next(read_names(file, is_train=True), None)
    first = next(iter(listed.listed.columns.values()))[0] if listed else None
    if not first:
        return file.parent
    above, beside = file.parent.parent, list[Path]()
    with suppress(OSError):  # another user's folder, which cannot be listed
        beside = [path for path in sorted(above.iterdir()) if path.is_dir()]
    names = [first, f"{first}.jpg", f"{first}.png"]
    places = (one for one in (file.parent, above, *beside) if any(os.path.isfile(one / of) for of in names))  # noqa: PTH113
    return next(places, file.parent)


def _class_folders(reading: FolderReading) -> LabelledImages:
    import datasets

    cells = reading.train.cast_column("image", datasets.Image(decode=False))["image"][:]
    rows = {cell["path"]: row for row, cell in enumerate(cells)}
    return LabelledImages(rows, reading.train["label"][:], ImageFiles([reading.folder]))


def _in_splits(reading: FolderReading, published: PublishedSplit) -> Opened:
    import datasets

    names, numbers = reading.train.features["label"].names, reading.train["label"][:]
    once = published.once()
    present = sorted({numbers[row] for rows in once.values() for row in rows})
    codes = {number: code for code, number in enumerate(present)}
    labels = [codes.get(number) for number in numbers]
    classes = datasets.ClassLabel(names=[names[number] for number in present])
    named = reading.train.remove_columns("label").add_column("label", labels, feature=classes)
    notes = published.describe("the class folders", len(named), reading.folder)
    reading = replace(reading, left_out=_without(reading, published.files))
    splits = {split: named.select(rows) for split, rows in once.items()}
    return Opened(splits, [*notes, *reading.lines()], reading.record())


def _without(reading: FolderReading, lists: Sequence[Path]) -> tuple[LeftOut, ...]:
    """What was not read, without the lists that were: as many fewer of their extensions."""
    used, names = (
        Counter(file.suffix.lower() for file in lists if file.is_relative_to(reading.folder)),
        {below(reading.folder, one) for one in lists},
    )
    rest = []
    for row in reading.left_out:
        read = min(row.files, used[row.extension])
        used[row.extension] -= read
        alike = reading.folder.rglob(f"*{row.extension}") if row.example in names else ()
        others = sorted(path.relative_to(reading.folder).as_posix() for path in alike)
        example = next((name for name in others if name not in names), row.example)
        rest += [row._replace(files=row.files - read, example=example)] if read < row.files else []
    return tuple(rest)
