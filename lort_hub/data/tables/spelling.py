"""Find files that a list names with another extension, or as other numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path, PurePath

from lort_hub.data.image_folder.names import is_companion
from lort_hub.data.tables.cells import is_file_name
from lort_hub.data.tables.file_columns import find_file_column, likely_columns
from lort_hub.data.tables.image_files import FileColumn, ImageFiles, parts_of
from lort_hub.data.tables.lists import FileList
from lort_hub.errors import DatasetError


def _parts(name: str) -> tuple[str, str]:
    """A name without the extension of an image, and that extension, where it has one."""
    return (PurePath(name).stem, PurePath(name).suffix) if is_file_name(name) else (name, "")


def _without_extension(name: str) -> list[str]:
    stem, suffix = _parts(name)
    return [stem.casefold()] if suffix else []


def _as_number(name: str) -> list[str]:
    """The plain number of a name, with its extension first: 7.png and 7 of 007.png, 12 of 12.0."""
    stem, suffix = _parts(name)
    number = re.fullmatch(r"0*(\d+)(\.0+)?", stem)
    return [f"{number[1]}{suffix.casefold()}", number[1]] if number else []


WAYS: dict[str, Callable[[str], list[str]]] = {
    "with another extension": _without_extension,
    "by another form of its number": _as_number,
}
"""Forms of names in which a list's agree with those of the files, by how they differ else."""


def find_as_spelt(
    listed: FileList, images: ImageFiles, asked: str | None, split: str | None
) -> tuple[FileList, FileColumn | None]:
    """Find the files of a list none of whose names is one as it is written.

    Args:
        listed: The list.
        images: The image files.
        asked: Name of the column of files, or None.
        split: The list's split.

    Returns:
        The list with files in the place of names and a note, and its column of files; the list as it was and
        None where there is none.

    Raises:
        DatasetError: Several files fit a name.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "007.png").touch()
        >>> listed = FileList(Path("a.csv"), {"id": ["7.0"], "label": ["ant"]})
        >>> find_as_spelt(listed, ImageFiles([folder]), None, None)[0].notes
        ("1 of 1 rows of a.csv name their file by another form of its number, such as '7.0' for 007.png.",)
    """
    tried = {
        name: _respelt(listed, FileColumn(name), images, split) for name in likely_columns(listed, asked)
    }
    found = {name: one for name, one in tried.items() if one}
    columns = listed.columns | {name: one.columns[name] for name, one in found.items()}
    best = find_file_column(replace(listed, columns=columns), images, asked, split) if found else None
    return (found[best.name], best) if best and best.name in found else (listed, None)


def with_files_as_spelt(
    listed: FileList, column: FileColumn, images: ImageFiles, split: str | None
) -> tuple[FileList, FileColumn]:
    """Find the files of the other names, where some names of a list are files as they are written.

    Args:
        listed: The list.
        column: Its column of files.
        images: The image files.
        split: The list's split.

    Returns:
        The list and its column; as they were where some names have no file.

    Example:
        >>> listed, column = FileList(Path("a.csv"), {"id": ["7"], "label": ["ant"]}), FileColumn("id")
        >>> with_files_as_spelt(listed, column, ImageFiles([]), None)[1].share
        0.0
    """
    is_likely = column.name in likely_columns(listed)
    respelt = _respelt(listed, column, images, split) if is_likely else None
    return (respelt, FileColumn(column.name, share=1.0)) if respelt else (listed, column)


def _respelt(listed: FileList, column: FileColumn, images: ImageFiles, split: str | None) -> FileList | None:
    """The list with a file for each name, where all that are not found are written in one other way."""
    cells = listed.columns[column.name]
    found = {cell: images.find(cell, split, column.skip) for cell in dict.fromkeys(cells) if cell}
    lost = [cell for cell, path in found.items() if path is None]
    known = {path for path in found.values() if isinstance(path, str)}
    for how, form in WAYS.items() if lost else ():
        if not all(form(parts_of(cell)[-1]) for cell in lost if parts_of(cell)):
            continue
        files = _Files(images, form)
        fitting = {cell: fit for cell in lost if (fit := files.find(cell, split, column.skip))}
        if len(fitting) < len(lost) or any(map(files.has_twin, known)):
            continue
        if several := next((cell for cell, paths in fitting.items() if len(paths) > 1), None):
            if known:
                return None
            paths = fitting[several][:2]
            is_one = len(_folders_of(paths)) == 1
            names = " and ".join(path.rpartition("/")[2] if is_one else path for path in paths)
            raise DatasetError(
                f"'{several}' of column '{column.name}' of '{listed.path}' is not there, and {names} both "
                "fit it.\n"
                "Write the names of the files into the list, or name the folder of the images with "
                f"`image_root`.\nWhere it lists no images, take {listed.path.name} away."
            )
        put = {cell: path for cell, (path,) in fitting.items()}
        if len({*put.values()} | known) < len(lost) + len(known):
            continue
        if known and not _folders_of(put.values()) <= _folders_of(known):
            continue
        rows = f"{sum(cell in put for cell in cells):,} of {len(cells):,} rows of {listed.path.name}"
        such = f"'{lost[0]}' for {put[lost[0]].rpartition('/')[2]}"
        note = f"{rows} name their file {how}, such as {such}."
        put |= {cell: path for cell, path in found.items() if isinstance(path, str)}
        named = [put.get(cell, cell) if cell else None for cell in cells]
        return replace(listed, columns=listed.columns | {column.name: named}, notes=(*listed.notes, note))
    return None


def _folders_of(paths: Iterable[str]) -> set[Path]:
    return {Path(path).parent for path in paths}


class _Files:
    """Image files by a form of their names, without masks and the like."""

    def __init__(self, images: ImageFiles, form: Callable[[str], list[str]]) -> None:
        self.images, self.form = images, form
        self.by_form: dict[str, list[str]] = {}
        for path in (images.listed_by or images).files:
            root = next(root for root in (images.listed_by or images).roots if path.startswith(f"{root}/"))
            *folders, name = Path(path).relative_to(root).parts
            for key in [] if any(map(is_companion, folders)) else dict.fromkeys(form(name)):
                self.by_form.setdefault(key, []).append(path)

    def find(self, name: str, split: str | None, skip: int) -> list[str]:
        """The files of a name in the folders that it gives, those of the split first."""
        *folders, last = parts_of(name)[skip:] or [""]
        tail = [part.casefold() for part in folders]
        paths = [
            path
            for path in self.by_form.get(next(iter(self.form(last)), ""), [])
            if not tail or [part.casefold() for part in Path(path).parts[-len(tail) - 1 : -1]] == tail
        ]
        return [path for path in paths if split and self.images.split_of(path) == split] or paths

    def has_twin(self, path: str) -> bool:
        """Whether another file in its folder has the same form of the name, so that forms tell no file."""
        alike = [other for key in self.form(Path(path).name) for other in self.by_form.get(key, [])]
        return any(other != path and Path(other).parent == Path(path).parent for other in alike)
