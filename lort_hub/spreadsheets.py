"""Make texts harmless that a spreadsheet would run as formulas: others name files and classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First letters of cells that spreadsheets may run."""


def make_harmless(column: str, value: Any) -> Any:
    """Put something before a text that a spreadsheet would run; what is no text stays.

    A text that looks as if that were done gets it once more, so that `read_harmless` finds each text again.

    Args:
        column: Name of its column: of files where it ends in "file".
        value: The cell.

    Example:
        >>> make_harmless("file", "=1.jpg"), make_harmless("class", "=1"), make_harmless("margin", -0.5)
        ('./=1.jpg', "'=1", -0.5)
    """
    if not isinstance(value, str):
        return value
    if column.endswith("file"):
        return f"./{value}" if value.startswith(FORMULA) else value  # ./=1.jpg is the same file as =1.jpg
    return f"'{value}" if value.lstrip("'").startswith(FORMULA) else value


def harmless_rows(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make every text of a table's rows harmless.

    Args:
        rows: The rows.

    Example:
        >>> harmless_rows([{"name": "@home", "images": 3}])
        [{'name': "'@home", 'images': 3}]
    """
    return [{name: make_harmless(name, value) for name, value in row.items()} for row in rows]


def read_harmless(cell: str) -> str:
    """Read a text, not of a file, as it was before `make_harmless`.

    Args:
        cell: The cell.

    Example:
        >>> read_harmless("'=1"), read_harmless("'tis"), read_harmless("=1")
        ('=1', "'tis", '=1')
    """
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA) else cell
