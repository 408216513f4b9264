"""Write predictions as CSV, JSON lines or parquet, a part of them at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lort_hub.errors import CheckpointError, ConfigError, DatasetError, did_you_mean
from lort_hub.spreadsheets import make_harmless


def check_format(path: Path) -> None:
    """Refuse a file whose extension names no format of predictions.

    Raises:
        ConfigError: The message lists those that do.

    Example:
        >>> check_format(Path("predictions.parquet"))
    """
    if path.suffix.lower() not in WRITERS:
        raise ConfigError(
            f"`output` is {path}: there is no format '{path.suffix}'.{did_you_mean(path.suffix, WRITERS)}\n"
            f"Expected a file that ends in {', '.join(WRITERS)}."
        )


def write_predictions(path: Path, tables: Iterator[pa.Table]) -> None:
    """Write tables of predictions one after the other, in the format that the extension names.

    Args:
        path: The file, which ends in .csv, .jsonl or .parquet.
        tables: At least one, all of the same columns.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "predictions.csv"
        >>> write_predictions(path, iter([pa.table({"file": ["a.jpg"], "class_1": ["ant"]})]))
        >>> path.read_text().split()
        ['file,class_1', 'a.jpg,ant']
    """
    WRITERS[path.suffix.lower()](path, tables)


def check_decoded(path: Path) -> None:
    """Refuse a file of predictions in which every image is broken.

    Args:
        path: What `write_predictions` wrote; it is read up to the first image that is not.

    Raises:
        DatasetError: No image could be decoded.
        CheckpointError: It is no file of predictions.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "predictions.csv"
        >>> write_predictions(path, iter([pa.table({"file": ["a.jpg"], "error": ["not a picture"]})]))
        >>> check_decoded(path)
        Traceback (most recent call last):
        lort_hub.errors.DatasetError: No image of 1 can be decoded: ...
    """
    number = 0
    try:
        for row in READERS[path.suffix.lower()](path):
            if not row["error"]:
                return
            number += 1
    except (KeyError, ValueError, csv.Error, pa.ArrowException) as cause:
        raise CheckpointError(
            f"{path} is no file of predictions.\nPass `overwrite=True` to replace it, or name another file."
        ) from cause
    raise DatasetError(
        f"No image of {number:,} can be decoded: the column error of {path} says why.\nGive others."
    )


def _read_csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["error"]):
            yield from batch.to_pylist()


def _write_csv(path: Path, tables: Iterator[pa.Table]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for number, table in enumerate(tables):
            if number == 0:
                writer.writerow(table.column_names)
            columns = [_cells(name, table[name]) for name in table.column_names]
            writer.writerows(zip(*columns, strict=True))


def _cells(name: str, column: pa.ChunkedArray) -> list[Any]:
    values = _values(column)
    if not pa.types.is_string(column.type):
        return values
    return [make_harmless(name, value) for value in values]


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Python values of a column; probabilities have six digits."""
    values: list[Any] = column.to_pylist()
    if not pa.types.is_floating(column.type):
        return values
    return [None if value is None else float(f"{value:.6g}") for value in values]


def _write_jsonl(path: Path, tables: Iterator[pa.Table]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for table in tables:
            columns = [_values(table[name]) for name in table.column_names]
            for row in zip(*columns, strict=True):
                values = dict(zip(table.column_names, row, strict=True))
                file.write(json.dumps(values, ensure_ascii=False) + "\n")


def _write_parquet(path: Path, tables: Iterator[pa.Table]) -> None:
    first = next(tables)
    with pq.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


WRITERS: dict[str, Callable[[Path, Iterator[pa.Table]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
"""Writer of each format, by the extension of its files."""
READERS: dict[str, Callable[[Path], Iterator[dict[str, Any]]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
"""Reader of each format, row by row."""
