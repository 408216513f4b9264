"""Read a CSV that gives every class of a data set one number."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from lort_hub.errors import ConfigError, did_you_mean


def read_class_file(
    path: Path, class_names: Sequence[str], columns: Sequence[tuple[str, str]], expected: str
) -> tuple[str, list[str]]:
    r"""Read one number of each class from a CSV with a column of class names.

    Args:
        path: The file, in UTF-8.
        class_names: Names of the K classes.
        columns: Pairs of columns for names and numbers, of which the first that the file has is read.
        expected: The columns that it should have, in words, for errors.

    Returns:
        The column of numbers, and its texts, one for each class.

    Raises:
        ConfigError: The file cannot be read, or does not name every class once.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "counts.csv"
        >>> _ = path.write_text("class,count\ndog,3\ncat,20\n")
        >>> read_class_file(path, ["cat", "dog"], [("class", "count")], "class and count")
        ('count', ['20', '3'])
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            rows, header = list(table), table.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as cause:
        raise ConfigError(
            f"Cannot read '{path}': {cause}.\nExpected a CSV with the columns {expected}."
        ) from cause
    pair = next((pair for pair in columns if set(pair) <= set(header)), None)
    if pair is None:
        raise ConfigError(f"{path} has the columns {', '.join(header) or 'none'},\nexpected {expected}.")
    found: dict[str, str] = {}
    for row in rows:
        name, number = (row[column] or "" for column in pair)
        if name not in class_names:
            hint = did_you_mean(name, class_names)
            raise ConfigError(f"{path} names the class '{name}', which the data set has not.{hint}")
        if name in found:
            raise ConfigError(f"{path} names the class '{name}' twice; expected one row for each class.")
        found[name] = number
    if missing := [name for name in class_names if name not in found]:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise ConfigError(f"{path} has no row for {shown}; expected one for each class, 0 where none occurs.")
    return pair[1], [found[name] for name in class_names]
