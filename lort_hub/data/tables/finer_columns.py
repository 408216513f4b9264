"""Find the columns that tell the classes of a table apart more finely than the one called as its label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lort_hub.data.tables.column_names import MAYBE_LABELS, is_called_as_files

if TYPE_CHECKING:
    import datasets

MAYBE_COARSE = (
    *("class", "class_name", "classname", "class_id", "classid"),
    *("category", "category_id", "category_name", "species"),
)
"""Usual names of labels that are also those of a rank above them."""
RANKS = ("kingdom", "phylum", "order", "family", "genus", "species")
"""Ranks of living beings, one of which is called class."""
_FINER = re.compile("species|scientific|categor|breed|genus|disease|variety|taxon|(common|vernacular).?name")
_MAYBE_FINER = {*MAYBE_LABELS, *RANKS} - {"model", "style", "action"}


def finer_columns(rows: datasets.Dataset, column: str, others: Sequence[str]) -> list[str]:
    """Find the columns called as labels that a column groups, the coarsest first.

    Where several ranks of living beings are beside it, a few exceptions do not matter.

    Args:
        rows: The training rows.
        column: The column that its name settles as the label.
        others: Other columns of plain values.

    Example:
        >>> import datasets
        >>> animals = {"class": ["bird", "bird", "fish"] * 2, "genus": ["Pica", "Corvus", "Esox"] * 2}
        >>> finer_columns(datasets.Dataset.from_dict(animals), "class", ["genus"])
        ['genus']
        >>> finer_columns(datasets.Dataset.from_dict(animals), "genus", ["class"])
        []
    """
    import datasets

    if column.lower() not in MAYBE_COARSE or not isinstance(
        rows.features[column], datasets.Value | datasets.ClassLabel
    ):
        return []
    called = [name for name in others if _is_called_finer(name) and _is_named(rows, name)]
    ranks = [name for name in called if name.lower() in RANKS]
    are_ranks = column.lower() == "class" and len(ranks) > 1
    coarse, finer = rows[column][:], dict[str, int]()
    for name in called:
        pairs = {pair for pair in zip(coarse, rows[name][:], strict=True) if not {None, ""} & {*pair}}
        groups, values = ({pair[at] for pair in pairs} for at in (0, 1))
        is_function = len(pairs) == len(values) and 2 * len(values) <= max(len(rows), 4)
        is_rank = are_ranks and name in ranks and 2 * len(pairs) < 3 * len(values) < 3 * len(rows)
        if len(values) > len(groups) and (is_function or is_rank):
            finer[name] = len(values)
    return sorted(finer, key=lambda name: finer[name])


def _is_called_finer(name: str) -> bool:
    """Whether a column is called as one of classes, and not as one of files or persons."""
    called = name.lower()
    is_word = _FINER.search(called) or called in _MAYBE_FINER
    return bool(is_word) and not is_called_as_files(name)


def _is_named(rows: datasets.Dataset, name: str) -> bool:
    """Whether a column holds names, or the numbers of taxa."""
    import datasets

    kind = rows.features[name]
    if not isinstance(kind, datasets.Value):
        return isinstance(kind, datasets.ClassLabel)
    return kind.dtype in ("string", "large_string") or "taxon" in name.lower()
