"""Find the column of labels in a table by its name, its type and its values."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from lort_hub.data.tables.column_names import (
    LABEL_NAMES,
    check_exists,
    choose_one,
    describes_files,
    is_label,
    may_be_called_label,
    several_fit,
)
from lort_hub.data.tables.finer_columns import finer_columns
from lort_hub.errors import DatasetError
from lort_hub.shorten import shown

if TYPE_CHECKING:
    import datasets

NO_LABELS = ("__key__", "__url__", "__index_level_0__")
"""Columns that libraries add to a table."""

LABELS = ("label", "labels")
"""Names of a column that is the label whatever the types of others are."""

PLAIN_LABELS = ("string", "large_string", "int", "uint", "bool", "float", "double")
MOST_CLASSES = 0.5
"""Classes per row above which a column of another name is not taken for the label."""
_FLAGS = dict.fromkeys(("1", "1.0", "true", "yes", "y", "x"), 1) | dict.fromkeys(
    ("0", "0.0", "-1", "-1.0", "false", "no", "n", ""), 0
)
"""What cells say with 1 and 0, in small letters; -1 stands for no, too, or for what is uncertain."""
_YES = ("yes", "y", "x")
"""Those of 1 that pandas reads as texts."""


def find_label_column(rows: datasets.Dataset, asked: str | None, image: str) -> str:
    """Find the column of labels: of class labels, else of numbers or texts that repeat.

    Args:
        rows: The training rows.
        asked: Its name where it is given, else None.
        image: The column of images.

    Raises:
        DatasetError: There is none, or several.

    Example:
        >>> import datasets
        >>> rows = datasets.Dataset.from_dict({"image": [b""] * 3, "species": ["ant", "bee", "ant"]})
        >>> find_label_column(rows, None, "image")
        'species'
    """
    import datasets

    kinds = {name: kind for name, kind in rows.features.items() if name not in (image, *NO_LABELS)}
    named = [name for name, kind in kinds.items() if isinstance(_inner(kind), datasets.ClassLabel)]
    plain = [
        name
        for name, kind in kinds.items()
        if name not in named
        and str(getattr(_inner(kind), "dtype", "")).startswith(PLAIN_LABELS)
        and not _object_in(rows, name)
    ]
    if asked is not None:
        check_exists(rows, asked, "label_column")
        if asked not in named + plain:
            held = _object_in(rows, asked) or rows.features[asked]
            raise DatasetError(
                f"Column '{asked}' holds {held}, expected class labels, numbers or texts.\n"
                f"`label_column` could be one of: {', '.join(named + plain) or 'none'}."
            )
        return asked
    usual = [name for name in plain if is_label(name)]
    called = [name for name in usual if name.lower() in LABELS and _repeats(rows, name)]
    if called and named and not any(is_label(name) for name in named):
        named = _without_numbers(rows, [*named, *called])
    if fitting := named or usual:
        preferred = [name for name in fitting if is_label(name)]
        if len(preferred) > 1:
            fitting = _without_numbers(rows, preferred)
        settled = choose_one(fitting, "label", "label_column", LABEL_NAMES)
        if finer := finer_columns(rows, settled, [name for name in named + plain if name != settled]):
            raise several_fit([settled, *finer], "label", "label_column", finer[-1])
        return settled
    flags = _all_flags(rows, plain)
    repeated = [name for name in plain if _repeats(rows, name)]
    varied = [name for name in repeated if not _is_constant(rows, name)]
    if not varied and any(_object_in(rows, name) for name in kinds):
        raise DatasetError(_no_label(rows, plain))
    candidates = varied or repeated
    each = {sum(row) for row in zip(*flags.values(), strict=True)}
    others = [name for name in candidates if name not in flags]
    called = list(filter(may_be_called_label, others))
    if len(flags) > 1 and (not others or (len(flags) > 2 and (each == {1} or called != candidates))):
        raise DatasetError(_one_hot(rows, [*flags], each, called))
    if not candidates:
        raise DatasetError(_no_label(rows, plain))
    if all(map(describes_files, candidates)):
        raise DatasetError(_description(candidates))
    return choose_one(candidates, "label", "label_column", LABEL_NAMES)


def _without_numbers(rows: datasets.Dataset, candidates: list[str]) -> list[str]:
    """The one column of names where the others number the same classes, else all columns."""
    import datasets

    kinds = [rows.features[name] for name in candidates]
    if len(candidates) < 2 or any(is_list(kind) for kind in kinds):
        return candidates
    columns = [rows[name][:] for name in candidates]
    counts = {len(set(column)) for column in (*columns, list(zip(*columns, strict=True)))}
    texts = [
        name
        for name, kind in zip(candidates, kinds, strict=True)
        if isinstance(kind, datasets.ClassLabel) or kind.dtype in ("string", "large_string")
    ]
    return texts[:1] if len(counts) == 1 and texts else candidates


def _inner(kind: Any) -> Any:
    """What a list holds; other kinds as they are."""
    return kind.feature if is_list(kind) else kind


def is_list(kind: Any) -> bool:
    """Tell by the type of a column whether it holds lists.

    Example:
        >>> import datasets
        >>> is_list(datasets.List(datasets.Value("int64"))), is_list(datasets.Value("int64"))
        (True, False)
    """
    import datasets

    return isinstance(kind, datasets.List | datasets.LargeList)


def _object_in(rows: datasets.Dataset, column: str) -> str:
    """The first cell of a column of texts that spell JSON objects; empty for any other column."""
    if getattr(rows.features[column], "dtype", "") not in ("string", "large_string"):
        return ""
    texts = [text for text in rows[:100][column] if text]
    return (
        texts[0][:60] if texts and all(re.fullmatch(r"\{\".*\}", text, re.DOTALL) for text in texts) else ""
    )


def _values(rows: datasets.Dataset, column: str) -> list[Any]:
    values: list[Any] = rows[column][:]
    return [value for value in values if value is not None]


def _all_flags(rows: datasets.Dataset, columns: Sequence[str]) -> dict[str, list[int]]:
    """The columns that say yes or no, without ticks beside others that say no, and without a lone label."""
    flags = {name: cells for name in columns if (cells := _flags_in(rows, name))}
    answers = {name: cells for name, cells in flags.items() if _says_no(rows, name)}
    flags = answers or flags
    called = [name for name in flags if may_be_called_label(name)]
    if len(called) == 1 and {sum(row) for row in zip(*flags.values(), strict=True)} != {1}:
        del flags[called[0]]
    return flags


def _says_no(rows: datasets.Dataset, column: str) -> bool:
    """Whether a column of yes and no has a cell that says no, and not only empty ones."""
    texts = {str(value).strip().lower() for value in _values(rows, column)} - {""}
    return any(_FLAGS[text] == 0 for text in texts)


def _flags_in(rows: datasets.Dataset, column: str) -> list[int]:
    """The cells of a column as 0 and 1, where they say yes or no and both are there; none of any other."""
    if is_list(rows.features[column]):
        return []
    flags = [_FLAGS.get("" if value is None else str(value).strip().lower(), -1) for value in rows[column][:]]
    return flags if set(flags) == {0, 1} else []


def _repeats(rows: datasets.Dataset, column: str) -> bool:
    """Whether the values of a column are few enough to be classes."""
    if is_list(rows.features[column]):
        return True
    values = _values(rows, column)
    return not _has_fractions(values) and len(set(values)) <= MOST_CLASSES * max(len(values), 4)


def _has_fractions(values: Sequence[Any]) -> bool:
    return any(isinstance(value, float) and not value.is_integer() for value in values)


def _is_constant(rows: datasets.Dataset, column: str) -> bool:
    return not is_list(rows.features[column]) and len(set(_values(rows, column))) < 2


def _one_hot(
    rows: datasets.Dataset, flags: Sequence[str], each: Collection[int], called: Sequence[str]
) -> str:
    if each == {1}:
        cells = {str(value) for value in _values(rows, flags[0])}
        words = sorted(cell for cell in cells if cell.strip().lower() in _YES)
        table = f'(table[[...]] == "{words[0]}")' if words else "table[[...]]"
        return (
            f"The label is spread over {len(flags)} one-hot columns: {shown(flags)}.\n"
            f'Write it into one column, in pandas: table["label"] = {table}.idxmax(axis=1).'
        )
    return (
        f"Columns {shown(flags)} say yes or no, and a row has {min(each)} to {max(each)} of them set: "
        "several labels an image.\nExpected one class per image; multi-label data are not read. Write a "
        f"column 'label', or name one with `label_column`{f', such as {shown(called)}' * bool(called)}."
    )


def _description(columns: Sequence[str]) -> str:
    return (
        f"No column is left for the label but those whose names describe images: {', '.join(columns)}.\n"
        f'Where it is the label itself: `label_column="{columns[0]}"`.\n'
        "Else write a column of labels into the table."
    )


def _no_label(rows: datasets.Dataset, plain: Sequence[str]) -> str:
    others = [name for name in rows.column_names if name not in plain]
    objects = {name: text for name in others if (text := _object_in(rows, name))}
    objects = {name: text for name, text in objects.items() if not _is_constant(rows, name)} or objects
    if other := next((name for name in others if is_label(name) or name in objects), None):
        held = objects.get(other) or getattr(rows.features[other], "dtype", rows.features[other])
        return (
            f"Column '{other}' holds {held}, expected class labels, numbers or texts.\n"
            "Write the names of the classes into it, or name another column with `label_column`."
        )
    fractions = [name for name in plain if _has_fractions(_values(rows, name))]
    if len(fractions) > 1 and fractions == list(plain):
        return (
            f"No label column found among: {', '.join(rows.column_names)}.\n"
            f"{shown(fractions)} hold fractions, such as {_values(rows, fractions[0])[0]}.\n"
            "Write the class of each image into a column 'label'; of shares of classes, pandas' "
            "idxmax(axis=1) finds the largest."
        )
    if plain:
        counts = ", ".join(f"'{name}' has {len(set(map(str, _values(rows, name))))}" for name in plain[:5])
        return (
            f"No label column found among: {', '.join(rows.column_names)}.\n"
            f"Of {len(rows)} rows, {counts} different values, too many for classes. If one of them is the "
            "label, name it with `label_column`."
        )
    return (
        f"No label column found among: {', '.join(rows.column_names)}.\n"
        "Name it with `label_column`; an image folder needs two classes or more, as train/CLASS/*.jpg."
    )
