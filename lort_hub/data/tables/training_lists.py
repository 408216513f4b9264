"""Refuse training lists whose names fit images of another split, and note those of one class each."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from lort_hub.data.image_folder.names import TESTS
from lort_hub.data.tables.column_names import may_be_called_label
from lort_hub.data.tables.image_files import parts_of
from lort_hub.data.tables.matched import MatchedList
from lort_hub.data.tables.splits import (
    kinds_of_cells,
    set_in_name,
    split_in_name,
    stem_of_shard,
    tells_splits,
)
from lort_hub.errors import DatasetError
from lort_hub.shorten import shown

_CHECKSUM = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=[-_.])(?=[a-f]*\d)[0-9a-f]{8,}")
"""What programs add to the names of shards."""


def check_training_images(matched: Sequence[MatchedList]) -> None:
    """Refuse a list called as one to train on where all its files lie in folders of test images.

    It may name its folders itself or have a column of splits, and the list of a test split may name other
    files of the same folders.

    Args:
        matched: The lists.

    Raises:
        DatasetError: There is one.

    Example:
        >>> check_training_images([])
    """
    for one in matched:
        if split_in_name(stem_of_shard(one.listed.path.name)) != "train" or _tells_splits(one):
            continue
        first = next(_files(one), None)
        if first is None or not all(_is_of_a_test(one, *found) for found in _files(one)):
            continue
        own = {path for _, path in _files(one)}
        tested = {path for other in matched if other.split in TESTS for _, path in _files(other)}
        if _folders(tested) & _folders(own) and not tested & own:
            continue
        name, path = first
        raise DatasetError(
            f"{one.listed.path.name} names images to train on, and '{name}' is there only among those of "
            f"another split: {path}.\n"
            "Unpack the training images, or, where these are meant, name their folder with `image_root`."
        )


def note_lists_of_one_class(matched: Sequence[MatchedList]) -> list[str]:
    """Say of lists of one split that they may be of one class each, in notes.

    Args:
        matched: The lists.

    Example:
        >>> note_lists_of_one_class([])
        []
    """
    notes = []
    for split in dict.fromkeys(one.split for one in matched):
        own = [one for one in matched if one.split == split]
        columns = {frozenset(one.others) for one in own}
        if len(columns) == 1:
            notes += note_one_class_each([one.listed.path.name for one in own], columns.pop())
    return notes


def note_one_class_each(files: Sequence[str], columns: Collection[str]) -> list[str]:
    """Say of files of one split that are called as classes may be, where no column is called as labels are.

    Args:
        files: Their names.
        columns: Their columns, without those of images.

    Example:
        >>> note_one_class_each(["ants.csv", "bees.csv"], ["diagnosis"])
        []
        >>> note_one_class_each(["train-0-of-2-4ab3d1c9.parquet", "train-1-of-2-bd01ac2e.parquet"], ["sex"])
        []
        >>> note_one_class_each(["ants.csv", "bees.csv"], ["sex"])[0].partition(":")[0]
        'ants.csv, bees.csv may be of one class each'
    """
    stems = [_CHECKSUM.sub("", stem_of_shard(name)) for name in files]
    own = ({word for word in set_in_name(stem) if len(word) > 1} for stem in stems)
    words = {frozenset(filter(str.isalpha, one)) for one in own}
    if len(files) < 2 or len(words - {frozenset()}) < len(files) or any(map(may_be_called_label, columns)):
        return []
    return [
        f"{shown(files, 4)} may be of one class each: no column is called as labels are. Where their names "
        "are the classes, write one table of them all, with a column 'label'."
    ]


def _tells_splits(one: MatchedList) -> bool:
    """Whether a column of a list says which rows are of which split."""
    for name, cells in one.others.items():
        kinds = set(kinds_of_cells(name, [cell or "" for cell in cells]).values())
        if tells_splits(name) or ("" not in kinds and len(kinds) > 1):
            return True
    return False


def _files(one: MatchedList) -> Iterator[tuple[str, str]]:
    """Names in a list, and the file of each that has one."""
    return ((name, path) for name, path in zip(one.names, one.paths, strict=True) if name and path)


def _is_of_a_test(one: MatchedList, name: str, path: str) -> bool:
    """Whether folders that neither the name nor the list's own path holds are called as tests alone."""
    told = {*parts_of(name), *one.listed.path.parent.parts}
    parts = [part for part in one.images.folders_of(path)[1:] if part not in told and split_in_name(part)]
    return {split_in_name(part) for part in parts} <= set(TESTS) and any(
        part.lower().startswith(("test", "val"))
        for part in parts  # dev may be a user, and val end a name
    )


def _folders(paths: set[str]) -> set[Path]:
    return {Path(path).parent for path in paths}
