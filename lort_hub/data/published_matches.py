"""Find the images that lists of splits name, among those that have labels, and the published splits."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from lort_hub.data.image_folder.names import KINDS, TRAINVAL
from lort_hub.data.published_lists import ListedNames, columns_of_splits
from lort_hub.data.tables.file_columns import find_file_column
from lort_hub.data.tables.image_files import ImageFiles
from lort_hub.data.tables.spelling import find_as_spelt
from lort_hub.data.tables.splits import rows_of_splits, without_split
from lort_hub.errors import DatasetError
from lort_hub.shorten import shown

NEARLY_ALL = 0.9
"""Share of a list's images that are those of the class folders."""
MOST = 0.5
"""Share of a list's names above which those without an image are of files that are missing."""


@dataclass(frozen=True)
class PublishedSplit:
    """A published split: the files that tell it, and the rows of the images in each of its parts."""

    files: tuple[Path, ...]
    rows: dict[str, list[int]]
    notes: tuple[str, ...] = ()

    def once(self) -> dict[str, list[int]]:
        """Return the rows by split, in the usual order, none twice."""
        in_order = sorted(self.rows, key=lambda split: [*KINDS, split].index(split))
        return {split: list(dict.fromkeys(self.rows[split])) for split in in_order}

    def covers(self, total: int) -> bool:
        """Return whether most of so many images are in the split."""
        return len({row for rows in self.rows.values() for row in rows}) > MOST * total

    def describe(self, whole: str, total: int, folder: Path) -> list[str]:
        """Say which lists tell the splits, and what they name twice or not at all, in notes.

        Args:
            whole: What holds the images, such as "the list labels.csv".
            total: Number of its images.
            folder: The data folder.
        """
        lists, once = shown([below(folder, file) for file in self.files], 5), self.once()
        title = whole.removeprefix("the ")
        notes = [f"{title[0].upper()}{title[1:]} in the splits of {lists}: {', '.join(once)}.", *self.notes]
        if again := sum(len(self.rows[split]) - len(rows) for split, rows in once.items()):
            notes.append(
                f"{again:,} rows of {lists} name an image that an earlier row names; it is counted once."
            )
        if left := total - len({row for rows in once.values() for row in rows}):
            notes.append(f"{left:,} images of {whole} are in no split of {lists}, and are left out.")
        return notes


@dataclass(frozen=True)
class MatchedNames:
    """Names with their column of files and the row of each among the images; -1 where it is none of them.

    Missing are the names of no image at all, doubtful those that fit several; `of` says of what.
    """

    names: ListedNames
    column: str
    rows: list[int]
    missing: list[str]
    doubtful: dict[str, list[str]]
    is_read: bool
    of: str = ""

    @property
    def set_of(self) -> tuple[Path, str]:
        """What the lists of one set share: the folder, and the name without its split."""
        return self.names.file.parent, without_split(self.names.file.name)

    def notes(self) -> list[str]:
        """Say how many names are of no image, and how others are written."""
        count = f"{len(self.missing):,} of {len(self.rows):,} rows of {self.names.file.name}"
        lost = [f"{count} name no image{self.of}, such as {self.missing[0]}."] if self.missing else []
        return [*lost, *self.names.listed.notes]


class TableImages(ImageFiles):
    """The images that a table names, and no others.

    Example:
        >>> images = TableImages([Path("/nonexistent")], ["/nonexistent/images/7.png"])
        >>> images.find("7"), images.find("8")
        ('/nonexistent/images/7.png', None)
    """

    def __init__(self, folders: Sequence[Path], paths: Sequence[str]) -> None:
        """Take the data folders, and the paths of the images, which may lie elsewhere."""
        above = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""  # noqa: PTH120
        above = above.rstrip("/")
        roots = [Path(above)] if above else sorted({Path(*Path(path).parts[:2]) for path in paths})
        super().__init__([*roots, *folders])
        self.files, self._known = list(paths), set(paths)

    def find(self, name: str, split: str | None = None, skip: int = 0) -> str | list[str] | None:
        """Find the image of a name, as `ImageFiles` does."""
        found = super().find(name, split, skip)
        return None if isinstance(found, str) and found not in self._known else found


class LabelledImages:
    """Images with a label each, found by the names that lists give them."""

    def __init__(
        self,
        rows: Mapping[str, int],
        labels: Sequence[Any],
        images: ImageFiles,
        beside: ImageFiles | None = None,
        of: str = "",
    ) -> None:
        """Take the images.

        Args:
            rows: The row of each path.
            labels: The label of each row.
            images: The files among which names are found.
            beside: All files, of which one in a folder of the list's split is meant rather.
            of: What has the images, for messages.
        """
        self.rows, self.labels, self.images, self.beside, self.of = rows, labels, images, beside, of
        self._find = cache(self._find_once)  # each of several splits names most images again

    def match(self, one: ListedNames) -> MatchedNames:
        """Find the rows of a list's names."""
        listed, column = one.listed, find_file_column(one.listed, self.images, split=one.split)
        if not column:
            with suppress(DatasetError):  # of several files that fit: it may list no images
                listed, column = find_as_spelt(listed, self.images, None, one.split)
        if column and column.skip and "last" in listed.columns:  # the label is no folder
            last = find_file_column(listed, self.images, "last", one.split)
            column = last if last and last.skip <= column.skip else column
        name, skip = (column.name, column.skip) if column else (next(iter(listed.columns)), 0)
        cells = listed.columns[name]
        paths = [self._find(cell, one.split, skip) if cell and column else None for cell in cells]
        rows = [self.rows.get(path, -1) if isinstance(path, str) else -1 for path in paths]
        pairs = list(zip(cells, paths, strict=True))
        found, fitting = sum(row >= 0 for row in rows), sum(path is not None for path in paths)
        return MatchedNames(
            replace(one, listed=listed),
            name,
            rows,
            missing=[cell for cell, path in pairs if cell and not path],
            doubtful={cell: path for cell, path in pairs if cell and isinstance(path, list)},
            is_read=found > MOST * len(rows) and found >= NEARLY_ALL * fitting,
            of=self.of,
        )

    def _find_once(self, name: str, split: str, skip: int) -> str | list[str] | None:
        found = self.images.find(name, split, skip)
        other = self.beside.find(name, split, skip) if self.beside and found and split else None
        if not self.beside or not isinstance(other, str) or other in self.rows:
            return found
        return None if self.beside.split_of(other) == split else found

    def tells_other_classes(self, one: MatchedNames) -> bool:
        """Tell whether a list's labels are others than those of the images."""
        beside = {"file": "label", "last": "first", "first": "last"}.get(one.column, "")
        told = one.names.listed.columns.get(beside)
        if not told:
            return False
        pairs = {(self.labels[row], label) for row, label in zip(one.rows, told, strict=True) if row >= 0}
        is_index = len({label for _, label in pairs}) == len(one.rows)
        return not is_index and len(pairs) > min(len({pair[k] for pair in pairs}) for k in (0, 1))


def find_splits(matched: Iterable[MatchedNames], *, only: bool = False) -> list[PublishedSplit]:
    """Find the published splits that lists tell, each once.

    Args:
        matched: The lists that are read.
        only: Whether the user named the first list, so that one of training images alone is a split.

    Example:
        >>> find_splits([])
        []
    """
    found: list[PublishedSplit] = []
    sets: dict[tuple[Path, str], list[MatchedNames]] = {}
    for one in sorted(matched, key=lambda one: one.names.split != "train"):
        names, rows = one.names, one.rows
        if names.split:
            sets.setdefault(one.set_of, []).append(one)
            continue
        for name in columns_of_splits(names.listed):
            texts = [cell or "" for cell in names.listed.columns[name]]
            if told := rows_of_splits(name, texts, "train", is_told=True):
                parts = {split: [rows[k] for k in of if rows[k] >= 0] for split, of in told.items()}
                found.append(PublishedSplit((names.file,), parts, tuple(one.notes())))
    for lists in sets.values():
        lists, parts = _without_trainval(lists), dict[str, list[int]]()
        for one in lists:
            parts.setdefault(one.names.split, []).extend(sorted(row for row in one.rows if row >= 0))
        if "train" in parts and (only or len(parts) > 1):
            lists.sort(key=lambda one: one.names.split != "train")
            files = dict.fromkeys(one.names.file for one in lists)
            notes = dict.fromkeys(note for one in lists for note in one.notes())
            found.append(PublishedSplit(tuple(files), parts, tuple(notes)))
    return [one for k, one in enumerate(found) if all(one.rows != other.rows for other in found[:k])]


def _without_trainval(lists: list[MatchedNames]) -> list[MatchedNames]:
    """The lists of a set, without trainval where train is there, else with it alone for train and val."""
    splits = {one.names.split for one in lists}
    if TRAINVAL not in splits:
        return lists
    left_out = TRAINVAL if "train" in splits else "validation"
    kept = [one for one in lists if one.names.split != left_out]
    called = {TRAINVAL: "train"}
    return [
        replace(one, names=replace(one.names, split=called.get(one.names.split, one.names.split)))
        for one in kept
    ]


def below(folder: Path, file: Path) -> str:
    """Return the path of a file below a folder, else its name.

    Example:
        >>> below(Path("photos"), Path("photos/meta/train.txt")), below(Path("photos"), Path("train.txt"))
        ('meta/train.txt', 'train.txt')
    """
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else file.name
