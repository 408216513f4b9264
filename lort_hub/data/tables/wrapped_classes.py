"""Tell whether a column of a list holds the classes, or the folders of its images in a folder of them all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lort_hub.data.image_folder.names import are_parts
from lort_hub.data.request import Request
from lort_hub.data.tables.column_names import is_likely_label, may_be_called_label
from lort_hub.data.tables.matched import MatchedList, label_of, lie_apart, may_be_classes, ways_to_files
from lort_hub.data.tables.splits import kinds_of_cells, split_in_name
from lort_hub.errors import DatasetError
from lort_hub.shorten import quoted, shown


def check_wrapped_classes(
    matched: Sequence[MatchedList], folder: Path, request: Request, *, only: bool
) -> list[str]:
    """Refuse lists whose images lie in `images/CLASS`, where a column may be a mere attribute of them.

    A column that is called as one of labels, or tells the folders, is the label. Folders that are numbered,
    as those of patients are, are no classes, which is said.

    Args:
        matched: The lists, which are to tell the classes.
        folder: The data folder.
        request: The arguments of `load_long_tailed`.
        only: Whether the user named the first list itself, so that it is read, which is said.

    Returns:
        A note where a column is read though the folders may be the classes.

    Raises:
        DatasetError: Columns and folders may both be the classes.

    Example:
        >>> check_wrapped_classes([], Path("/nonexistent"), Request("photos"), only=False)
        []
    """
    if request.label_column or any(label_of(one.listed) for one in matched) or lie_apart(matched):
        return []
    inner = _inside_the_wrapper(ways_to_files(matched, folder.resolve()))
    folders = sorted({way[0] for way in inner.values()})
    if len(folders) < 2 or 2 * len(folders) > len(inner) or are_parts(folders):
        return []
    if any(_tells(one, request.group_column, inner) for one in matched if request.group_column):
        return []
    columns = {name: one for one in matched for name in _attributes(one) if name != request.group_column}
    if not columns or any(_tells(one, name, inner) for name, one in columns.items()):
        return []
    if len(columns) > 1 and all(_holds_flags(one, name) for name, one in columns.items()):
        return []  # which is refused as one-hot or multi-label
    name, one = next(iter(columns.items()))
    file = one.listed.path.name
    is_clear = len(columns) == 1 and (may_be_called_label(name) or _are_numbered(folders))
    if only or is_clear:
        return [
            f"The labels are column {quoted(list(columns), 8)} of {file}, and not the folders of the "
            f"images, {shown(folders, 3)}: where these are the classes, give the folder without {file}."
        ]
    raise DatasetError(
        f"The images of {file} lie in the folders {shown(folders, 3)}, which no column of it tells: are they "
        "the classes?\n"
        f'Where a column holds the labels ({shown(list(columns), 4)}), name it: `label_column="{name}"`.\n'
        f"Where the folders are the classes, take {file} away, or leave {shown(list(columns), 4)} out of it."
    )


def _inside_the_wrapper(ways: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Folders on the way to each file, below those that hold all files; none where some lie in these."""
    inner: dict[str, Sequence[str]] = {
        path: [part for part in way if not split_in_name(part)] for path, way in ways.items()
    }
    while inner and all(len(way) > 1 for way in inner.values()) and len({w[0] for w in inner.values()}) == 1:
        inner = {path: way[1:] for path, way in inner.items()}
    return inner if all(inner.values()) else {}


def _attributes(one: MatchedList) -> list[str]:
    """Columns whose values may be classes and do not tell splits."""
    names = []
    for name in may_be_classes(one):
        kinds = set(kinds_of_cells(name, [cell or "" for cell in one.listed.columns[name]]).values())
        if "" in kinds or len(kinds) < 2:
            names.append(name)
    return names


def _tells(one: MatchedList, column: str | None, inner: Mapping[str, Sequence[str]]) -> bool:
    """Whether a column names the first or the last folder of each image, one by one."""
    if column not in one.listed.columns:
        return False
    cells = zip(one.paths, one.listed.columns[column], strict=True)
    found = [(path, cell) for path, cell in cells if path and cell]
    for level in (0, -1):
        pairs = {(inner[path][level], cell) for path, cell in found}
        if len(pairs) == len({part for part, _ in pairs}) == len({cell for _, cell in pairs}):
            return True
    return False


def _holds_flags(one: MatchedList, column: str) -> bool:
    return {*one.listed.columns[column]} <= {"0", "1", "0.0", "1.0", None}


def _are_numbered(folders: Sequence[str]) -> bool:
    """Whether folders differ in their numbers alone, or have names of one or two letters, as shards."""
    stems = {re.sub(r"\d+", "", name.lower()) for name in folders}
    if any(is_likely_label(name) or re.fullmatch(r"n\d{8}", name) for name in folders):
        return False  # class_1, and n01440764 of WordNet
    return len(stems) == 1 or all(len(name) < 3 for name in folders)
