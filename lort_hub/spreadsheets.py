"""Make texts harmless that a spreadsheet would run as formulas: others name files and classes."""

from __future__ import annotations

from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First letters of cells that spreadsheets may run."""


def make_harmless(column: str, value: Any) -> Any:
    """Put something before a text that a spreadsheet would run; what is no text stays.

    Args:
        column: Name of its column: of files where it ends in "file".
        value: The cell.

    Example:
        >>> make_harmless("file", "=1.jpg"), make_harmless("class", "=1"), make_harmless("margin", -0.5)
        ('./=1.jpg', "'=1", -0.5)
    """
    if not (isinstance(value, str) and value.startswith(FORMULA)):
        return value
    guard = "./" if column.endswith("file") else "'"  # ./=1.jpg is the same file as =1.jpg
    return f"{guard}{value}"
