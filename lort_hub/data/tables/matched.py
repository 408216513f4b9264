"""Hold lists whose files were found, and tell what their columns and the folders of their files may say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lort_hub.data.tables.cells import is_file_name
from lort_hub.data.tables.column_names import is_label
from lort_hub.data.tables.image_files import FileColumn, ImageFiles
from lort_hub.data.tables.lists import FileList
from lort_hub.data.tables.splits import split_in_name, tells_splits

TOTALS = re.compile(r"((grand |sub)?totals?|sum|all|count|overall):?", re.IGNORECASE)
"""What the first cell of a row of totals says."""


@dataclass(frozen=True)
class MatchedList:
    """A list whose files were found.

    Attributes:
        listed: The list.
        column: Its column of files.
        images: The files, in which those that it names are found.
        split: Split that its name tells; empty where it tells none.
    """

    listed: FileList
    column: FileColumn
    images: ImageFiles
    split: str

    @property
    def names(self) -> list[str | None]:
        """What each row names as its file."""
        return self.listed.columns[self.column.name]

    @property
    def others(self) -> dict[str, list[str | None]]:
        """The columns beside the one of files."""
        return {name: cells for name, cells in self.listed.columns.items() if name != self.column.name}

    @cached_property
    def paths(self) -> list[str | None]:
        """File of each row; None where none fits its name, or several do."""
        found = map(self.find, self.names)
        return [path if isinstance(path, str) else None for path in found]

    def find(self, name: str | None) -> str | list[str] | None:
        """Find the file of a name, as `ImageFiles.find` does."""
        return self.images.find(name, self.split, self.column.skip) if name else None


def without_nameless_rows(one: MatchedList) -> MatchedList:
    """Leave out the rows of a list that name no file, such as one of totals or below all others, with a note.

    Example:
        >>> listed = FileList(Path("a.csv"), {"file": ["0.jpg", None], "label": ["ant", "24"]})
        >>> left = without_nameless_rows(MatchedList(listed, FileColumn("file"), ImageFiles([]), "train"))
        >>> left.listed.columns, left.listed.notes
        ({'file': ['0.jpg'], 'label': ['ant']}, ('1 of 2 rows of a.csv name no file and are left out.',))
    """
    remarks = _remarks(one)
    kept = [row for row, name in enumerate(one.names) if name and row not in remarks]
    if len(kept) == len(one.names):
        return one
    columns = {name: [cells[row] for row in kept] for name, cells in one.listed.columns.items()}
    count = f"{len(one.names) - len(kept):,} of {len(one.names):,} rows"
    note = f"{count} of {one.listed.path.name} name no file and are left out."
    return replace(one, listed=replace(one.listed, columns=columns, notes=(*one.listed.notes, note)))


def _remarks(one: MatchedList) -> set[int]:
    """Rows of words alone, as "Total: 24 images" is, or of totals, as "Total,24", that name no file."""
    others, first = list(one.others.values()), next(iter(one.listed.columns.values()))
    last = len(one.names) - 1
    alone = {row for row in range(len(one.names)) if not any(cells[row] for cells in others)}
    are_few = 2 * len(alone) <= len(one.names)
    remarks = set()
    for row, name in enumerate(one.names):
        if not name or is_file_name(name):
            continue
        is_text = are_few and row in alone and " " in name
        is_total = TOTALS.fullmatch(name) or (row == last and TOTALS.fullmatch(first[row] or ""))
        if (is_text or is_total) and one.find(name) is None:
            remarks.add(row)
    return remarks


def without_names_alone(matched: Sequence[MatchedList]) -> list[MatchedList]:
    """Leave out lists of a split that hold names alone, most of which another list has with their labels.

    Example:
        >>> without_names_alone([])
        []
    """
    labelled = [one for one in matched if may_be_classes(one)]
    known = {path for one in labelled for path in one.paths if path}
    kept = []
    for one in matched:
        may_repeat = one not in labelled and split_in_name(one.listed.path.stem)
        paths = list(filter(None, one.paths)) if may_repeat else []
        if not paths or 2 * sum(path in known for path in paths) <= len(paths):
            kept.append(one)
    return kept


def label_of(listed: FileList) -> str | None:
    """Find the column of a list that bears a usual name of labels.

    Example:
        >>> label_of(FileList(Path("a.csv"), {"file": ["0.jpg"], "Species": ["ant"]}))
        'Species'
    """
    return next((name for name in listed.columns if is_label(name)), None)


def may_be_classes(one: MatchedList) -> list[str]:
    """List the columns, besides files and splits, whose values repeat, or that are called as labels.

    Example:
        >>> cells = {"file": ["0.jpg"] * 4, "sex": ["f", "m"] * 2, "split": ["train", "test"] * 2}
        >>> listed = FileList(Path("a.csv"), cells)
        >>> may_be_classes(MatchedList(listed, FileColumn("file"), ImageFiles([]), "train"))
        ['sex']
    """
    most = len(one.names) // 2
    return [
        name
        for name, cells in one.others.items()
        if is_label(name) or (not tells_splits(name) and 2 <= len({*cells} - {None}) <= most)
    ]


def ways_to_files(matched: Sequence[MatchedList], root: Path) -> dict[str, tuple[str, ...]]:
    """List the folders on the way to each file, from the data folder or, where splits lie there, the list's.

    Args:
        matched: The lists.
        root: The data folder.

    Returns:
        Folders by file; empty where a file lies elsewhere, or a list with labels does not say which of
        several files is meant.

    Example:
        >>> ways_to_files([], Path("/nonexistent"))
        {}
    """
    ways: dict[str, tuple[str, ...]] = {}
    for one in matched:
        place = one.listed.path.parent.resolve()
        for fitting in map(one.find, one.names):
            if isinstance(fitting, list) and label_of(one.listed):
                return {}
            for path in [fitting] if isinstance(fitting, str) else fitting or []:
                if not Path(path).is_relative_to(root):
                    return {}
                way = way_to(place, path)
                has_splits = any(split_in_name(part) for part in way[:-1])
                ways[path] = way if has_splits else way_to(root, path)
    return ways


def way_to(folder: Path, path: str) -> tuple[str, ...]:
    """List the folders on the way from a folder to a file; none where it lies elsewhere.

    Example:
        >>> way_to(Path("/photos"), "/photos/images/ant/0.jpg"), way_to(Path("/photos"), "/0.jpg")
        (('images', 'ant'), ())
    """
    return Path(path).relative_to(folder).parts[:-1] if Path(path).is_relative_to(folder) else ()


def lie_apart(matched: Sequence[MatchedList]) -> bool:
    """Tell whether the images of each split's lists lie in one folder of its own: classes would be in all.

    Args:
        matched: The lists.

    Example:
        >>> lie_apart([])
        False
    """
    folders: dict[str, set[str]] = {}
    for one in matched:
        folders.setdefault(one.split, set()).update(str(Path(path).parent) for path in one.paths if path)
    are_apart = all(len(one) == 1 for one in folders.values()) and len(folders) > 1
    return (
        are_apart and len(set.union(*folders.values())) == len(folders) and all(map(may_be_classes, matched))
    )
