"""Shorten lists of names for messages: the first few of them, and how many more there are."""

from __future__ import annotations

from collections.abc import Sequence


def shown(names: Sequence[str], most: int = 8) -> str:
    """Join names, the first few of them.

    Example:
        >>> shown(["ant", "bee", "cat"], most=2)
        'ant, bee and 1 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def quoted(names: Sequence[str], most: int = 5) -> str:
    """Quote and join names, the first few of them.

    Example:
        >>> quoted(["ant", "bee", "cat"], most=2)
        "'ant', 'bee' and 1 more"
    """
    return shown([repr(name) for name in names], most)
