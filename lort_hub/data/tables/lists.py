"""Read lists of image files: CSV, TSV, JSON and text files with a column of files and one of labels."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lort_hub.data.decoding import image_suffixes
from lort_hub.data.tables.coco import is_coco, read_coco
from lort_hub.errors import DatasetError

LISTS = (".csv", ".tsv", ".jsonl", ".json", ".txt", ".lst")


@dataclass(frozen=True)
class FileList:
    """A list of image files.

    Attributes:
        path: Its file.
        columns: Cells of each column, as texts; None where a cell is empty.
        notes: What the user should know of how it was read.
        refusal: Why its labels are no classes of images; empty where they may be.
    """

    path: Path
    columns: dict[str, list[str | None]]
    notes: tuple[str, ...] = ()
    refusal: str = ""


def read_list(path: Path) -> FileList:
    r"""Read a list: its delimiter is the one of its first line, its encoding UTF-8, else Latin-1.

    Args:
        path: A .csv or .tsv file with or without names of the columns, .jsonl with an object a line, .json
            with a list of objects, a label for each file, or COCO's annotations, or .txt with a file and a
            label a line.

    Raises:
        DatasetError: It is empty or no list.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "train.csv"
        >>> _ = file.write_text("image;label\n0.jpg;ant\n")
        >>> read_list(file).columns
        {'image': ['0.jpg'], 'label': ['ant']}
    """
    text, notes = _text(path)
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line.strip()]
    if not lines:
        raise DatasetError(f"'{path}' is empty; expected a line for each image.")
    if path.suffix.lower() == ".json":
        return _read_json(text, path)
    if path.suffix.lower() == ".jsonl":
        return FileList(path, _columns([_object(line, n, path) for n, line in enumerate(lines, 1)]), notes)
    cells = _cells(text, lines, path)
    first = [cell.strip() for cell in cells[0]]
    if len(first) < 2:
        raise DatasetError(
            f"'{path}' has one column, '{first[0][:60]}'; expected a column of files and one of labels,\n"
            "separated by commas, semicolons or tabs."
        )
    has_names = not any(is_file_name(cell) for cell in first)
    names = (
        _distinct(first) if has_names else ["file", "label", *(f"column {k}" for k in range(2, len(first)))]
    )
    rows = cells[1:] if has_names else cells
    if wrong := next(
        (k for k, row in enumerate(rows) if len(row) > len(first) and any(row[len(first) :])), None
    ):
        raise DatasetError(
            f"Row {wrong} of '{path}' has {len(rows[wrong])} cells, expected {len(first)}: "
            f"{', '.join(names[:6])}.\nPut cells that hold the delimiter in quotation marks."
        )
    columns: dict[str, list[str | None]] = {
        name: [(row[k].strip() or None) if k < len(row) else None for row in rows]
        for k, name in enumerate(names)
    }
    return FileList(path, columns, notes)


def _text(path: Path) -> tuple[str, tuple[str, ...]]:
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace"), ()
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), (
            f"{path.name} is not UTF-8; it was read as Latin-1.",
        )


def _cells(text: str, lines: Sequence[str], path: Path) -> list[list[str]]:
    if path.suffix.lower() in (".txt", ".lst") and not set(lines[0]) & set(",;\t"):
        return [line.strip().rsplit(maxsplit=1) for line in lines]
    counts = {mark: [line.count(mark) for line in lines[:20]] for mark in "\t;,|"}
    delimiter = max(counts, key=lambda mark: (min(counts[mark]), counts[mark][0]))
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
    except csv.Error as cause:
        raise DatasetError(f"Cannot read '{path}': {cause}.") from cause


def _object(line: str, number: int, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as cause:
        raise DatasetError(f"Line {number} of '{path}' is not JSON: {cause}.") from cause
    if not isinstance(row, dict):
        raise DatasetError(f"Line {number} of '{path}' is {str(row)[:40]}, expected an object of columns.")
    return row


def _columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[str | None]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [_as_text(row.get(name)) for row in rows] for name in names}


def _read_json(text: str, path: Path) -> FileList:
    """A list of objects, an object of labels by file, or COCO's annotations."""
    try:
        content = json.loads(text)
        if is_coco(content):
            return FileList(path, *read_coco(content, path.name))
    except (ValueError, KeyError, TypeError) as cause:
        raise DatasetError(f"Cannot read '{path}' as JSON: {type(cause).__name__}: {cause}.") from cause
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        return FileList(path, _columns(content))
    if isinstance(content, dict) and content and all(map(is_file_name, content)):
        columns = {"file": list(content), "label": [_as_text(value) for value in content.values()]}
        return FileList(path, columns)
    raise DatasetError(
        f"'{path}' is no list of images.\nExpected a list of objects with a file and a label each, an object "
        "of labels by file, or COCO's images, categories and annotations."
    )


def _as_text(value: Any) -> str | None:
    return None if value is None else str(value).strip() or None


def is_file_name(cell: str) -> bool:
    """Tell whether a text ends as the names of image files do.

    Example:
        >>> is_file_name("imgs/7.PNG"), is_file_name("7")
        (True, False)
    """
    return PurePosixPath(cell.replace("\\", "/")).suffix.lower() in image_suffixes()


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of columns, none of them twice or empty."""
    distinct: list[str] = []
    for k, name in enumerate(names):
        distinct.append(name if name and name not in distinct else f"{name or 'column'} {k}".strip())
    return distinct


def typed(cells: Sequence[str | None]) -> tuple[list[Any], str]:
    """Read a column's texts as numbers where all of them are, and name their type.

    Numbers with leading zeros, such as 007, are names.

    Example:
        >>> typed(["1", None]), typed(["1.0", "2.5"]), typed(["007", "1"])
        (([1, None], 'int64'), ([1.0, 2.5], 'float64'), (['007', '1'], 'string'))
    """
    present = [cell for cell in cells if cell is not None]
    for pattern, read, kind in (
        (r"-?(0|[1-9]\d{0,17})", int, "int64"),
        (r"-?(0|[1-9]\d{0,17})(\.\d*)?([eE][-+]?\d+)?", float, "float64"),
    ):
        if present and all(re.fullmatch(pattern, cell) for cell in present):
            return [None if cell is None else read(cell) for cell in cells], kind
    return list(cells), "string"
