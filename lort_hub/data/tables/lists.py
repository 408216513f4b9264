"""Read lists of image files: CSV, TSV, JSON and text files with a column of files and one of labels."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lort_hub.data.tables.cells import is_file_name, read_cells, without_boxes
from lort_hub.data.tables.coco import is_coco, read_coco
from lort_hub.data.tables.json_lists import columns_of, columns_of_json
from lort_hub.data.tables.label_texts import MAYBE_NO_VALUES, NO_VALUES
from lort_hub.data.tables.splits import MOST_SPLITS, split_in_name
from lort_hub.errors import DatasetError
from lort_hub.spreadsheets import read_harmless

TABLE_LISTS = (".csv", ".tsv", ".jsonl", ".manifest")
LISTS = (*TABLE_LISTS, ".json", ".txt", ".lst")


@dataclass(frozen=True)
class FileList:
    """A list of image files.

    Attributes:
        path: Its file.
        columns: Cells of each column, as texts; None where a cell is empty.
        notes: What the user should know of how it was read.
        refusal: Why its labels are no classes of images; empty where they may be.
        header: Its first line, where that was taken for the names of the columns.
        is_by_class: Whether it is an object of files by class, pairs that are not StyleGAN's, or lists of
            lists: reports of all kinds look so, and it is read where the user names it.
    """

    path: Path
    columns: dict[str, list[str | None]]
    notes: tuple[str, ...] = ()
    refusal: str = ""
    header: tuple[str, ...] = ()
    is_by_class: bool = False


def read_list(path: Path) -> FileList:
    r"""Read a list: its delimiter is the one of its first line, its encoding UTF-8, else Latin-1.

    Args:
        path: A .csv or .tsv file with or without names of the columns, .jsonl or SageMaker's .manifest with
            an object a line, .json with a list of objects, or one for each split, also of lists that begin
            with the file and end with its label, a label for each file, the files of each class, pairs as
            `labels`, or COCO's annotations, or .txt with a file and a label a line.

    Raises:
        DatasetError: It is empty or no list.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "train.csv"
        >>> _ = file.write_text("image;label\n0.jpg;ant\n")
        >>> read_list(file).columns
        {'image': ['0.jpg'], 'label': ['ant']}
    """
    text, notes = text_of(path)
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line.strip()]
    if not lines:
        raise DatasetError(f"'{path}' is empty; expected a line for each image.")
    kind = path.suffix.lower()
    try:
        if kind == ".json" and not _are_objects(lines):
            return _read_json(text, path)
        if kind in (".json", ".jsonl", ".manifest"):
            objects = [_object(line, number, path) for number, line in enumerate(lines, 1)]
            return FileList(path, columns_of(objects), notes)
    except RecursionError as cause:
        raise DatasetError(
            f"'{path}' is JSON that is nested too deeply to be read.\n"
            "Expected a list of objects, one for each image, with its file and its label."
        ) from cause
    cells, titles = read_cells(text, path)
    has_names = not any(map(is_file_name, cells[0]))
    names = _distinct(cells[0]) if has_names else _positions(cells)
    rows = [row for row in cells[1:] if row != cells[0]] if has_names else cells
    _check_widths(rows, names, path)
    rows, boxes = without_boxes(rows)
    titles = (
        *titles,
        *(f"Column '{names[k]}' of {path.name} holds boxes; their words are read." for k in boxes),
    )
    header = tuple(cells[0]) if has_names else ()
    again = len(cells) - len(rows) - has_names
    if has_names and rows and all(re.fullmatch(r"\[\w+\]", cell) for cell in rows[0]):
        rows = rows[1:]
        titles = (*titles, f"The types of the columns, below their names in {path.name}, are left out.")
    if again:
        titles = (
            *titles,
            f"{again:,} rows of {path.name} repeat the names of its columns; they are left out.",
        )
    columns = _without_guards(_by_name(names, rows))
    return FileList(path, columns, (*notes, *titles), header=header)


def _check_widths(rows: Sequence[Sequence[str]], names: Sequence[str], path: Path) -> None:
    wide = [k for k, row in enumerate(rows) if any(row[len(names) :])]
    if not wide:
        return
    next_step = "Put cells that hold the delimiter in quotation marks."
    if {len(row) for row in rows} == {len(names) + 1} and not any(is_file_name(row[0]) for row in rows):
        next_step += (
            "\nWhere the first cell of each row is its number, as R writes it, add a name for that column."
        )
    raise DatasetError(
        f"Row {wide[0]} of '{path}' has {len(rows[wide[0]])} cells, expected {len(names)}: "
        f"{', '.join(names[:6])}.\n{next_step}"
    )


def with_header_as_row(listed: FileList, column: str) -> FileList:
    """Read the names of the columns as the first row, where they name an image.

    Args:
        listed: A list.
        column: Its column of files.

    Example:
        >>> listed = FileList(Path("a.csv"), {"7": ["8"], "ant": ["bee"]}, header=("7", "ant"))
        >>> with_header_as_row(listed, "7").columns
        {'file': ['7', '8'], 'label': ['ant', 'bee']}
    """
    below = zip(*listed.columns.values(), strict=True)
    rows = [listed.header, *([cell or "" for cell in row] for row in below)]
    note = f"{listed.path.name} has no names of columns: its first line is the row of '{column}'."
    names = _positions(rows, list(listed.columns).index(column))
    return replace(listed, columns=_by_name(names, rows), notes=(*listed.notes, note), header=())


def _by_name(names: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, list[str | None]]:
    return {
        name: [(row[k] or None) if k < len(row) else None for row in rows] for k, name in enumerate(names)
    }


def _without_guards(columns: dict[str, list[str | None]]) -> dict[str, list[str | None]]:
    """Read the classes of a table of predictions as they were before they were made harmless."""
    if not {"class_1", "probability_1"} <= columns.keys():
        return columns
    guarded = [name for name in columns if re.fullmatch(r"class_\d+", name)]
    return columns | {name: [cell and read_harmless(cell) for cell in columns[name]] for name in guarded}


def _positions(rows: Sequence[Sequence[str]], file: int | None = None) -> list[str]:
    """Names of columns that have none: of files, of splits, and of labels where nothing else can be."""
    columns = [[row[k] if k < len(row) else "" for row in rows] for k in range(len(rows[0]))]
    if file is None:
        counts = [sum(map(is_file_name, column)) for column in columns]
        file = counts.index(max(counts))
    others = [k for k, column in enumerate(columns) if k != file and any(column)]
    split = next((k for k in others if len(others) > 1 and _tell_splits(columns[k])), None)
    others = [k for k in others if k != split]
    varied = [k for k in others if len(set(columns[k])) > 1] or others
    names = [k for k in varied if not all(re.fullmatch(r"-?[\d.]*", cell) for cell in columns[k])]
    if varied and _number_the_same([columns[k] for k in varied]):
        label: int | None = (names or varied)[0]
    else:
        repeated = [k for k in names if 2 * len(set(columns[k])) <= len(rows)]
        label = 1 if 1 in (others if file else names) and not {*repeated} - {1} else None
    known = {file: "file", split: "split", label: "label"}
    return [known.get(k, f"column {k}") for k in range(len(columns))]


def _number_the_same(columns: Sequence[Sequence[str]]) -> bool:
    """Whether columns tell the same classes, as their names and their numbers do."""
    together = list(zip(*columns, strict=True))
    return len({len(set(column)) for column in (*columns, together)}) == 1


def _tell_splits(column: Sequence[str]) -> bool:
    cells = set(column)
    return len(cells) <= MOST_SPLITS and all(split_in_name(cell) or cell == "UNASSIGNED" for cell in cells)


def text_of(path: Path) -> tuple[str, tuple[str, ...]]:
    """Read the text of a list, UTF-8, UTF-16 or else Latin-1, and notes of that.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "train.txt"
        >>> _ = file.write_text("0.jpg", encoding="utf-16")
        >>> text_of(file)
        ('0.jpg', ())
    """
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace"), ()
    if b"\0" in data[:2]:  # UTF-16 without the mark that says so
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le", errors="replace"), ()
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), (
            f"{path.name} is not UTF-8; it was read as Latin-1.",
        )


def _are_objects(lines: Sequence[str]) -> bool:
    """Tell whether the lines are objects of one line each, as many programs write them into .json too."""
    return len(lines) > 1 and all(line.strip()[0] == "{" and line.strip()[-1] == "}" for line in lines)


def _object(line: str, number: int, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as cause:
        raise DatasetError(f"Line {number} of '{path}' is not JSON: {cause}.") from cause
    if not isinstance(row, dict):
        raise DatasetError(f"Line {number} of '{path}' is {str(row)[:40]}, expected an object of columns.")
    return row


def _read_json(text: str, path: Path) -> FileList:
    try:
        content = json.loads(text)
        if is_coco(content):
            return FileList(path, *read_coco(content, path.name))
    except (ValueError, KeyError, TypeError) as cause:
        raise DatasetError(f"Cannot read '{path}' as JSON: {type(cause).__name__}: {cause}.") from cause
    columns, is_by_class = columns_of_json(content, path)
    return FileList(path, columns, is_by_class=is_by_class)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of columns, none of them twice or empty."""
    distinct: list[str] = []
    for k, name in enumerate(names):
        distinct.append(name if name and name not in distinct else f"{name or 'column'} {k}".strip())
    return distinct


def typed(cells: Sequence[str | None]) -> tuple[list[Any], str]:
    """Read a column's texts as numbers where all of them are, and name their type.

    Numbers with leading zeros, such as 007, are names, and so is 1E1: programs write the sign of an exponent.
    Beside numbers, NaN, NA and the like are no values.

    Example:
        >>> typed(["1", None]), typed(["1.0", "2.5"]), typed(["007", "1"])
        (([1, None], 'int64'), ([1.0, 2.5], 'float64'), (['007', '1'], 'string'))
        >>> typed(["1", "NaN"]), typed(["ant", "NaN"])
        (([1, None], 'int64'), (['ant', 'NaN'], 'string'))
    """
    numbers = [None if cell in (*NO_VALUES, *MAYBE_NO_VALUES) else cell for cell in cells]
    present = [cell for cell in numbers if cell is not None]
    for pattern, read, kind in (
        (r"-?(0|[1-9]\d{0,17})", int, "int64"),
        (r"-?(0|[1-9]\d{0,17})(\.\d*)?([eE][-+]\d+)?", float, "float64"),
    ):
        if present and all(re.fullmatch(pattern, cell) for cell in present):
            return [None if cell is None else read(cell) for cell in numbers], kind
    return list(cells), "string"
