"""Tell the training, test and validation split of files and folders by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath

from lort_hub.data.image_folder.names import KIND_OF

SPLIT_COLUMNS = ("split", "splits", "partition", "data_split", "dataset_split", "split_name")
"""Columns that tell nothing but the split of a row."""
_OTHER = {"train": "test", "test": "train"}
_SHARD = re.compile(r"[-_.]\d+[-_]of[-_]\d+$")


def split_in_name(name: str) -> str | None:
    """Return the split that one of the words of a name stands for, where only one split is named.

    Example:
        >>> split_in_name("train_labels"), split_in_name("testImages"), split_in_name("train_test_split")
        ('train', 'test', None)
    """
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    kinds = {KIND_OF[word.lower()] for word in words if word.lower() in KIND_OF}
    return kinds.pop() if len(kinds) == 1 else None


def split_of_file(path: PurePath) -> str | None:
    """Return the split of a table by its path below the data folder: of its name, else of its folders.

    Example:
        >>> names = ("data/train-00-of-02.parquet", "dev/0.parquet", "extra-0-of-1.parquet", "0.parquet")
        >>> [split_of_file(PurePath(name)) for name in names]
        ['train', 'validation', 'extra', None]
    """
    if split := split_in_name(stem_of_shard(path.name)):
        return split
    if stem_of_shard(path.name) != path.stem:
        return stem_of_shard(path.name)
    return next((split for part in reversed(path.parts[:-1]) if (split := split_in_name(part))), None)


def stem_of_shard(name: str) -> str:
    """Return a file name without its extension and its number among others.

    Example:
        >>> stem_of_shard("train-00000-of-00002.parquet"), stem_of_shard("photos.csv")
        ('train', 'photos')
    """
    return _SHARD.sub("", name.rpartition(".")[0] if "." in name else name)


def tells_splits(column: str) -> bool:
    """Tell by its name whether a column says of which split each row is.

    Example:
        >>> tells_splits("Split"), tells_splits("is_training"), tells_splits("set")
        (True, True, False)
    """
    return column.lower() in SPLIT_COLUMNS or bool(answers_of(column))


def answers_of(column: str) -> dict[str, str]:
    """Return what the cells of a column such as is_training mean; empty for any other column.

    Example:
        >>> answers_of("is_test")["0"], answers_of("isTrain")["true"], answers_of("is_valid")
        ('train', 'train', {})
    """
    asked = re.fullmatch(r"[iI]s_?([a-zA-Z_]+)", column)
    split = split_in_name(asked[1]) if asked else None
    if split not in _OTHER:
        return {}
    return dict.fromkeys(("1", "true", "yes"), split) | dict.fromkeys(("0", "false", "no"), _OTHER[split])


def kinds_of_cells(column: str, cells: Iterable[str]) -> dict[str, str]:
    """Return the split that each cell of a column stands for; "" where it stands for none.

    Example:
        >>> kinds_of_cells("split", ["train", "val", "3"])
        {'3': '', 'train': 'train', 'val': 'validation'}
    """
    answers = answers_of(column)
    return {cell: answers.get(cell.lower()) or split_in_name(cell) or "" for cell in sorted(set(cells))}
