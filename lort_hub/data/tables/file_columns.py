"""Find the column of a list that names image files, among numbers and texts that fit some of them too."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from lort_hub.data.tables.cells import is_file_name
from lort_hub.data.tables.column_names import FILE_WORDS, is_called_as_files, is_label, is_usual
from lort_hub.data.tables.image_files import FileColumn, ImageFiles, parts_of
from lort_hub.data.tables.lists import FileList
from lort_hub.data.tables.splits import split_in_name
from lort_hub.shorten import shown

CLOSE = 0.5
"""Share of the best column's score from which on another one may be meant."""


@dataclass(frozen=True)
class _Candidate:
    """A column of which some cells fit files.

    Attributes:
        column: The column.
        found: For some rows the file, the files that fit equally, or None.
        score: Share of the cells that fit, by how many of them differ.
        names_files: Whether its cells have the extension of an image or folders.
        usualness: How usual its name is for a column of images; -1 where it is one of masks or thumbnails.
    """

    column: FileColumn
    found: Sequence[str | list[str] | None]
    score: float
    names_files: bool
    usualness: int

    @property
    def rank(self) -> tuple[bool, bool, int]:
        return self.usualness >= 0, self.names_files, self.usualness


def find_file_column(
    listed: FileList,
    images: ImageFiles,
    asked: str | None = None,
    split: str | None = None,
    together: Sequence[FileList] = (),
) -> FileColumn | None:
    """Find the column whose cells name image files, each a file of its own.

    Names with an extension or folders go before bare numbers, which may be of rows, and columns that are
    called as files are before others. Where several are left that name different files, `refusal` says so.

    Args:
        listed: The list.
        images: The image files.
        asked: Name of the column, or None.
        split: The list's split, whose folder comes first where a name is there several times.
        together: All lists that are read together, which may name folders of another machine.

    Returns:
        The column; None where none names a file.

    Example:
        >>> from pathlib import Path
        >>> find_file_column(FileList(Path("a.csv"), {"label": ["ant"]}), ImageFiles([])) is None
        True
    """
    is_asked = asked in listed.columns
    tried = (
        _candidate(listed, name, images, split, _elsewhere([listed, *together], name))
        for name in listed.columns
        if name == asked or not is_asked
    )
    found = [one for one in tried if one and (one.names_files or is_asked or not is_label(one.column.name))]
    if not found:
        return None
    close = CLOSE * max(one.score for one in found)
    best = max((one for one in found if one.names_files or one.score >= close), key=_merit)
    if is_asked:
        return best.column
    lost = _lost_ids(listed, best, found)
    is_text = lost and not _are_numbers(listed.columns[lost])  # numbers may be those of these files
    if lost and is_text and _names_each_file(listed, best.column, images, split):
        such = next(filter(None, listed.columns[lost]))
        name = f"'{best.column.name}' of {listed.path.name}"
        note = f"Column {name} names the images, one by one, and '{lost}', such as '{such}', none of them."
        return replace(best.column, note=note)
    return replace(best.column, refusal=_doubt(listed, best, found, close))


def likely_columns(listed: FileList, asked: str | None = None) -> list[str]:
    """List the columns that are likely to name files by their names and extensions, found or not.

    Args:
        listed: The list.
        asked: Name of the column, or None.

    Example:
        >>> from pathlib import Path
        >>> listed = FileList(Path("a.csv"), {"id": ["7"], "image_id": ["3"], "label": ["ant"]})
        >>> likely_columns(listed), likely_columns(listed, "id")
        (['image_id'], ['id'])
    """
    if asked in listed.columns:
        return [name for name in listed.columns if name == asked]
    names = [name for name in listed.columns if not is_label(name) and _usualness(name) >= 0]
    sure = [name for name in names if _usualness(name) == 2 or _has_extensions(listed.columns[name])]
    return sure or [name for name in names if _usualness(name)]


def header_is_row(listed: FileList, column: FileColumn, images: ImageFiles, split: str | None = None) -> bool:
    """Tell whether the names of the columns are a row: they name an image that no row names.

    Args:
        listed: The list.
        column: Its column of files.
        images: The image files.
        split: The list's split.

    Example:
        >>> from pathlib import Path
        >>> header_is_row(FileList(Path("a.csv"), {"id": ["7"]}), FileColumn("id"), ImageFiles([]))
        False
    """
    cells, place = listed.columns[column.name], list(listed.columns).index(column.name)
    first = listed.header[place] if listed.header else ""
    if not first or first in cells or any(is_file_name(cell) for cell in cells if cell):
        return False
    is_named = is_usual(first) or any(map(is_label, listed.header))
    return not is_named and images.find(first, split, column.skip) is not None


def _doubt(listed: FileList, best: _Candidate, found: Sequence[_Candidate], close: float) -> str:
    """Why another column than the best may be meant; empty where none may."""
    name = best.column.name
    rivals = [
        one.column.name
        for one in found
        if not _agree(one, best)
        and (
            (one.rank == best.rank and one.score >= close)
            or CLOSE * one.score > best.score
            or (one.names_files and one.score >= close and not best.usualness)
            or (one.names_files and best.names_files and one.usualness > 0 and one.score > best.score)
        )
    ]
    if rivals:
        return (
            f"Several columns of '{listed.path}' name images, and not the same: {shown([name, *rivals])}.\n"
            f'Choose one, e.g. `image_column="{name}"`.'
        )
    if lost := _lost_ids(listed, best, found):
        return (
            f"Column '{lost}' of '{listed.path}' is called as images are, and none of them is there, such as "
            f"'{next(filter(None, listed.columns[lost]))}'.\n"
            f"The numbers of '{name}' fit images, maybe by chance: if they name them, give "
            f'`image_column="{name}"`.\nElse name the folder of the images with `image_root`.'
        )
    others = [other for other in listed.columns if other != name and _has_extensions(listed.columns[other])]
    if (
        best.usualness == 2
        or not others
        or not _are_numbers(listed.columns[name])
        or any(o.column.name in others for o in found)
    ):
        return ""
    return (
        f"Column '{others[0]}' of '{listed.path}' names files, such as "
        f"'{next(filter(None, listed.columns[others[0]]))}', none of which is there.\n"
        f"The numbers of '{name}' fit images, maybe by chance: if they name them, give "
        f'`image_column="{name}"`.\nElse name the folder of the images with `image_root`.'
    )


def _lost_ids(listed: FileList, best: _Candidate, found: Sequence[_Candidate]) -> str | None:
    """The column such as image_id, none of whose numbers is a file, beside one of numbers such as id."""
    if best.usualness == 2 or not _are_numbers(listed.columns[best.column.name]):
        return None
    known = {one.column.name for one in found}
    rest = [name for name in listed.columns if name not in known and _usualness(name) == 2]
    return next((name for name in rest if _are_ids(listed.columns[name])), None)


def _names_each_file(listed: FileList, column: FileColumn, images: ImageFiles, split: str | None) -> bool:
    """Whether each cell of a column is another file, and no other image lies beside these."""
    found = [images.find(cell or "", split, column.skip) for cell in listed.columns[column.name]]
    named = {path for path in found if isinstance(path, str)}
    folders = {os.path.dirname(path) for path in named}  # noqa: PTH120
    beside = {path for path in (images.listed_by or images).files if os.path.dirname(path) in folders}  # noqa: PTH120
    return len(named) == len(found) and beside == named


def _are_ids(cells: Sequence[str | None]) -> bool:
    present = {cell for cell in cells if cell}
    return len(present) > 2 and all(re.fullmatch(r"\w*\d\w*", cell) for cell in present)


def _merit(one: _Candidate) -> tuple[tuple[bool, bool, int], float]:
    return one.rank, one.score


def _elsewhere(lists: Sequence[FileList], column: str) -> set[str]:
    """Folders that all paths of a column start with, where they are those of a whole machine."""
    cells = [cell for one in lists for cell in one.columns.get(column, ()) if cell]
    if not cells or not all(re.match(r"([A-Za-z]:)?[\\/]|~", cell) for cell in cells):
        return set()
    levels = zip(*(parts_of(cell)[:-1] for cell in cells), strict=False)
    return {level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels)}


def _candidate(
    listed: FileList, name: str, images: ImageFiles, split: str | None, elsewhere: set[str]
) -> _Candidate | None:
    cells = listed.columns[name]
    rows = cells[:: max(1, len(cells) // 1000)]
    sample = [cell for cell in rows if cell]
    best = None
    for skip in range(max((len(parts_of(cell)) for cell in sample), default=0)):
        found = [images.find(cell, split, skip) if cell else None for cell in rows]
        if skip and _is_elsewhere(rows, found, images, skip, elsewhere):
            break
        share = sum(path is not None for path in found) / len(sample)
        score = share * len(set(sample)) / len(sample)
        if score > (best.score if best else 0):
            like_files = sum(is_file_name(cell) or len(parts_of(cell)) - skip > 1 for cell in sample)
            is_named = 2 * like_files > len(sample)
            best = _Candidate(FileColumn(name, skip, share), found, score, is_named, _usualness(name))
        if share > 0.5:  # fewer parts would fit other files of the same name
            break
    return best


def _is_elsewhere(
    cells: Sequence[str | None],
    found: Sequence[str | list[str] | None],
    images: ImageFiles,
    skip: int,
    elsewhere: set[str],
) -> bool:
    """Whether a file lies in a folder that other cells tell from its own, or in one of another split.

    Files of missing folders are then missing, and not those of the same name that are there. The folders
    of another machine that all paths start with, such as /home/dev, tell no split.
    """
    left_out = [set(parts_of(cell)[:skip]) if cell else set() for cell in cells]
    every = set().union(*left_out)
    for cell, paths, own in zip(cells, found, left_out, strict=True):
        kept = len(parts_of(cell or "")) - skip - 1
        folders = [images.folders_of(path) for path in _as_list(paths or [])]
        above = [names[: len(names) - kept] for names in folders]
        if above and all(
            (every.intersection(names) - own) or _splits_differ(own - elsewhere, names[1:]) for names in above
        ):
            return True
    return False


def _splits_differ(one: Iterable[str], other: Iterable[str]) -> bool:
    """Whether folders on two ways are called as splits, and not both to train on or both to test on."""
    kinds = [{kind == "train" for name in names if (kind := split_in_name(name))} for names in (one, other)]
    return all(kinds) and not kinds[0] & kinds[1]


def _usualness(name: str) -> int:
    if re.search(r"mask|segment|thumb", name.lower()):
        return -1
    more = re.sub(rf"[^a-z]|{'|'.join(FILE_WORDS)}|id|name|path", "", name.lower())  # front_image, image_back
    return 1 if name.lower() == "id" else is_called_as_files(name) * (1 if more else 2)


def _agree(one: _Candidate, other: _Candidate) -> bool:
    """Whether two columns never name different files."""
    pairs = zip(one.found, other.found, strict=True)
    return all(not a or not b or set(_as_list(a)) & set(_as_list(b)) for a, b in pairs)


def _as_list(found: str | list[str]) -> list[str]:
    return [found] if isinstance(found, str) else found


def _are_numbers(cells: Sequence[str | None]) -> bool:
    return all(cell.isdecimal() for cell in cells if cell)


def _has_extensions(cells: Sequence[str | None]) -> bool:
    present = [cell for cell in cells if cell]
    return 2 * sum(is_file_name(cell) and "://" not in cell for cell in present) > len(present)
