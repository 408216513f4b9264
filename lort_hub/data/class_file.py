"""Read a CSV that gives every class of a data set one number."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from lort_hub.errors import ConfigError, did_you_mean
from lort_hub.shorten import shown
from lort_hub.spreadsheets import make_harmless

DELIMITERS = ",;\t"
Rows = list[list[str]]


def read_class_file(
    path: Path, class_names: Sequence[str], columns: Sequence[tuple[str, str]], expected: str
) -> tuple[str, list[str]]:
    r"""Read one number of each class from a CSV with a column of class names.

    Capitals and blanks around a cell do not matter, unless two classes differ in nothing else. Without names
    of columns, a class and its number are expected in each row.

    Args:
        path: The file, with commas, semicolons or tabs, in UTF-8, UTF-16 or Windows' Latin-1.
        class_names: Names of the K classes.
        columns: Pairs of columns for names and numbers, of which the first that the file has is read.
        expected: The columns that it should have, in words, for errors.

    Returns:
        The column of numbers, "number" where it has no name, and its texts, one for each class.

    Raises:
        ConfigError: The file cannot be read, or does not name every class once.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "counts.csv"
        >>> _ = path.write_text("Class;Count\nDog;3\ncat;20\n")
        >>> read_class_file(path, ["cat", "dog"], [("class", "count")], "class and count")
        ('count', ['20', '3'])
    """
    class_of = _class_finder(class_names)
    column, rows = _numbers(_tables(path, expected), class_of, columns, path, expected)
    found: dict[str, tuple[str, str]] = {}
    for cell, number in rows:
        name = class_of(cell)
        if name is None:
            hint = did_you_mean(cell, class_names)
            raise ConfigError(f"{path} names the class '{cell}', which the data set has not.{hint}")
        if name in found:
            both = f"{_row(*found[name])} and {_row(cell, number)}"
            raise ConfigError(
                f"{path} names the class '{name}' twice, in the rows {both}.\n"
                "Expected one row for each class: leave out one of them, or put their sum in one."
            )
        found[name] = cell, number
    if missing := [name for name in class_names if name not in found]:
        raise ConfigError(
            f"{path} has no row for {shown(missing, 5)}; expected one for each class, 0 where none occurs."
        )
    return column, [found[name][1] for name in class_names]


def _row(cell: str, number: str) -> str:
    return repr(f"{cell}, {number}")


def _class_finder(class_names: Sequence[str]) -> Callable[[str], str | None]:
    """Make what finds the class that a cell means: by its name, as it is or made harmless, or one alike."""
    exact, counts = {name: name for name in class_names}, Counter(map(_plain, class_names))
    alike = {_plain(name): name for name in class_names if counts[_plain(name)] == 1}
    exact = {make_harmless("class", name): name for name in class_names} | exact
    return lambda cell: exact.get(cell) or exact.get(cell.strip()) or alike.get(_plain(cell))


def _plain(cell: str) -> str:
    return cell.strip().casefold()


def _tables(path: Path, expected: str) -> list[Rows]:
    """Rows of cells by each delimiter, without empty rows."""
    try:
        text = _decode(path.read_bytes())
        readers = [csv.reader(io.StringIO(text, newline=""), delimiter=mark) for mark in DELIMITERS]
        return [[row for row in reader if any(map(str.strip, row))] for reader in readers]
    except (OSError, UnicodeDecodeError, csv.Error) as cause:
        raise ConfigError(
            f"Cannot read '{path}': {cause}.\nExpected a CSV with the columns {expected}."
        ) from cause


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")


def _numbers(
    tables: Sequence[Rows],
    class_of: Callable[[str], str | None],
    columns: Sequence[tuple[str, str]],
    path: Path,
    expected: str,
) -> tuple[str, list[tuple[str, str]]]:
    """Name of the column of numbers, and the name and number of each row, by the delimiter that fits."""
    for first, *rest in filter(None, tables):
        at = {_plain(cell): k for k, cell in enumerate(first)}
        if pair := next((pair for pair in columns if set(pair) <= at.keys()), None):
            return pair[1], _cells(rest, at[pair[0]], at[pair[1]], len(first), path)
        if len(first) == 2 and class_of(first[0]) and re.fullmatch(r"[\d.,]+ ?%?", first[1].strip()):
            return "number", _cells([first, *rest], 0, 1, 2, path)
    header = max((rows[0] for rows in tables if rows), key=len, default=["none"])
    raise ConfigError(f"{path} has the columns {', '.join(header)},\nexpected {expected}.")


def _cells(rows: Rows, name: int, number: int, width: int, path: Path) -> list[tuple[str, str]]:
    """The name and the number of each row, empty where a row is too short."""
    if wrong := next((row for row in rows if any(row[width:])), None):
        raise ConfigError(
            f"{path} has a row of {len(wrong)} cells, expected {width}: {', '.join(wrong[:6])}.\n"
            "Put cells that hold the delimiter in quotation marks."
        )
    padded = ([*row, *[""] * width] for row in rows)
    return [(row[name], row[number]) for row in padded]
