"""Join the rows of several tables into one, with their label names agreeing by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lort_hub.data.tables.column_names import is_label
from lort_hub.data.tables.columns import holds_bytes
from lort_hub.data.tables.labels import agree, code_labels
from lort_hub.errors import DatasetError

if TYPE_CHECKING:
    import datasets


def join(parts: Sequence[datasets.Dataset], places: Sequence[str]) -> datasets.Dataset:
    """Join the rows of several files; label names agree by name, columns that not all have are left out.

    Args:
        parts: Rows of each file, at least one.
        places: Where each is from, for messages.

    Raises:
        DatasetError: The files have no column in common, or label names that have nothing in common.

    Example:
        >>> import datasets
        >>> one = datasets.Dataset.from_dict({"image": [b""], "label": ["ant"]})
        >>> len(join([one, one], ["a.parquet", "b.parquet"]))
        2
    """
    import datasets

    if len(parts) == 1:
        return parts[0]
    columns = [name for name in parts[0].column_names if all(name in part.column_names for part in parts)]
    if not columns:
        raise DatasetError(
            f"'{places[0]}' and '{places[-1]}' have no column in common, so they are no parts of one table."
        )
    parts = [part.select_columns(columns) for part in parts]
    for name in columns:
        kinds = [part.features[name] for part in parts]
        if any(kind != kinds[0] for kind in kinds):
            parts = _with_one_kind(parts, places, name)
    return datasets.concatenate_datasets(parts)


def _with_one_kind(parts: Sequence[Any], places: Sequence[str], name: str) -> list[Any]:
    """The parts with one type of a column in which they differ, such as class labels in another order."""
    import datasets

    kinds = [part.features[name] for part in parts]
    if any(isinstance(kind, datasets.Image) for kind in kinds) or all(map(holds_bytes, kinds)):
        return [part.cast_column(name, datasets.Image(decode=False)) for part in parts]
    if not is_label(name) and not any(isinstance(kind, datasets.ClassLabel) for kind in kinds):
        common = _common_type(kinds)
        if common is None:
            return [part.remove_columns(name) for part in parts]
        return [part.cast_column(name, datasets.Value(common)) for part in parts]
    labels = [code_labels(part, name) for part in parts]
    whole = agree(labels, places)
    ends = [sum(len(part) for part in parts[: k + 1]) for k in range(len(parts))]
    kind = datasets.ClassLabel(names=list(whole.names))
    return [
        part.remove_columns(name).add_column(name, whole.codes[end - len(part) : end], feature=kind)
        for part, end in zip(parts, ends, strict=True)
    ]


def _common_type(kinds: Sequence[Any]) -> str | None:
    """The type that holds the values of all; None where they are no plain values."""
    import datasets

    if not all(isinstance(kind, datasets.Value) for kind in kinds):
        return None
    types = {kind.dtype for kind in kinds} - {"null"}
    if len(types) == 1:
        return str(types.pop())
    if any("binary" in one for one in types):
        return None
    whole = all(one.removeprefix("u").startswith("int") for one in types)
    numbers = all(one.removeprefix("u").startswith(("int", "float")) for one in types)
    return "int64" if whole else "float64" if numbers else "string"
