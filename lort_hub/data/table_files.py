"""List the files of a folder that may describe a data set: tables, lists and archives, not far below it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lort_hub.data.archives import ARCHIVES
from lort_hub.data.image_folder.tree import is_no_data, is_output
from lort_hub.data.published_lists import TEXTS, may_tell_splits
from lort_hub.data.tables.column_names import is_called_labels
from lort_hub.data.tables.encoded import TABLES
from lort_hub.data.tables.lists import LISTS, TABLE_LISTS

DEPTH = 4
"""Folders below the data folder in which tables are looked for."""
MOST_JSON = 10
"""JSON files in a folder above which each is taken to describe one picture."""
MOST_LISTS = 100
"""Files in a folder, called as lists of a split, above which each is taken to describe one picture."""


def table_files(folder: Path) -> list[Path]:
    """List the tables, lists and archives in a folder and not far below it, sorted.

    Args:
        folder: The folder.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "labels.csv").touch()
        >>> [file.name for file in table_files(folder)]
        ['labels.csv']
    """
    found = []
    for here, names in folders_below(folder):
        many = sum(name.lower().endswith(".json") for name in names) > MOST_JSON
        kinds = (*TABLES, *TABLE_LISTS, *ARCHIVES, *([] if many else [".json"]))
        found += [here / name for name in names if name.lower().endswith(kinds)]
    return found


def split_lists(folder: Path) -> list[Path]:
    """List the files that may tell a published split of class folders: those called so, tables, and labels.

    Args:
        folder: The folder.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "train.txt").touch()
        >>> [file.name for file in split_lists(folder)]
        ['train.txt']
    """
    found = []
    for here, names in folders_below(folder):
        files = [here / name for name in names if name.lower().endswith((*LISTS, ".mat"))]
        called = [file for file in files if may_tell_splits(file)]
        found += [file for file in files if file.suffix.lower() in TABLE_LISTS and file not in called]
        found += called if len(called) <= MOST_LISTS else []
        labels = [file for file in files if file.suffix.lower() in TEXTS and is_called_labels(file.stem)]
        found += [file for file in labels if file not in called] if len(labels) <= MOST_LISTS else []
    return sorted(found)


def folders_below(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Walk a folder and those not far below it, each with the sorted names of the files that are not hidden.

    Args:
        folder: The folder.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "photos").mkdir()
        >>> [here.relative_to(folder).as_posix() for here, _ in folders_below(folder)]
        ['.', 'photos']
    """
    seen = set()
    for path, folders, names in os.walk(folder, followlinks=True):
        here = Path(path)
        depth = len(here.relative_to(folder).parts)
        real = os.path.realpath(path)
        if real in seen or depth > DEPTH or (depth and is_output(path)):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_no_data(name))
        yield here, sorted(name for name in names if not name.startswith("."))
