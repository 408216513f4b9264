"""Read labels as class numbers, with the class names of every file of a data set agreeing by name."""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lort_hub.data.tables.label_texts import NO_VALUES, check_single
from lort_hub.errors import DatasetError
from lort_hub.shorten import quoted, shown

if TYPE_CHECKING:
    import datasets

MISSING = -1
"""Code of a row without a label."""


@dataclass(frozen=True)
class CodedLabels:
    """Labels of some rows as numbers.

    Attributes:
        codes: Position (N,) of each row's label in `names`, or `MISSING`.
        names: Names of the classes, in the order of the file or, where it has none, sorted.
        unknown: Rows whose number has no name, and those numbers.
    """

    codes: NDArray[np.int64]
    names: tuple[str, ...]
    unknown: tuple[tuple[int, int], ...] = ()

    @property
    def none_known(self) -> bool:
        """Whether no row has a label: all cells are empty, or hold the -1 of unlabelled data sets."""
        missing = len(self.codes) > 0 and bool((self.codes == MISSING).all())
        return missing and all(number == -1 for _, number in self.unknown)

    @property
    def used(self) -> list[str]:
        """The names that some row has."""
        return [self.names[k] for k in np.unique(self.codes[self.codes != MISSING])]


def code_labels(rows: datasets.Dataset, column: str) -> CodedLabels:
    """Read a column of labels as numbers.

    Class labels keep their names and order. Texts are stripped, whole floats are numbers, lists of one are
    unwrapped, and names whose accents differ in their Unicode form alone are one. Classes are then sorted, as
    numbers where all are.

    Args:
        rows: The rows.
        column: Column of the labels.

    Raises:
        DatasetError: It holds no labels, or several for a row.

    Example:
        >>> import datasets
        >>> coded = code_labels(datasets.Dataset.from_dict({"label": [2.0, None, 10.0]}), "label")
        >>> coded.codes.tolist(), coded.names
        ([0, -1, 1], ('2', '10'))
    """
    import datasets

    kind, values = rows.features[column], rows[column][:]
    if isinstance(kind, datasets.List | datasets.LargeList):
        values, kind = _unwrapped(values, column), kind.feature
    if isinstance(kind, datasets.ClassLabel):
        empty = np.array([value is None for value in values], dtype=bool)
        codes = np.array([MISSING if value is None else value for value in values], dtype=np.int64)
        outside = np.flatnonzero(~empty & ((codes < 0) | (codes >= len(kind.names))))
        unknown = tuple((int(row), int(codes[row])) for row in outside)
        codes[outside] = MISSING
        return CodedLabels(codes, tuple(kind.names), unknown)
    lists = [_as_list(value) for value in values]
    if any(lists) and all(value is None or one is not None for value, one in zip(values, lists, strict=True)):
        values = _unwrapped(lists, column)
    spelt: dict[str, str] = {}  # accents in one piece or in two, as macOS writes them
    texts = (_plain(value, column, kind) for value in values)
    plain = [None if text is None else spelt.setdefault(_composed(text), text) for text in texts]
    names = sorted_names({value for value in plain if value is not None})
    check_single(names, column)
    number = {name: k for k, name in enumerate(names)}
    codes = np.array([MISSING if value is None else number[value] for value in plain], dtype=np.int64)
    return CodedLabels(codes, tuple(names))


def _unwrapped(values: list[Any], column: str) -> list[Any]:
    several = next((row for row, value in enumerate(values) if value and len(value) > 1), None)
    if several is not None:
        raise DatasetError(
            f"Column '{column}' holds several labels a row: row {several} has {str(values[several])[:60]}.\n"
            "Expected one class per image: multi-label and one-hot labels are not read. Write the one class "
            "of each image in a column of its own, or leave out the images that have several."
        )
    return [value[0] if value else None for value in values]


def _as_list(value: Any) -> list[Any] | None:
    """The list that a text spells, as JSON, pandas and NumPy write it; None where it is another text."""
    if not (isinstance(value, str) and value.startswith("[") and value.endswith("]")):
        return None
    if re.fullmatch(r"\[[\d.]+(\s+[\d.]+)+\s*\]", value):
        return value[1:-1].split()
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return None
    return found if isinstance(found, list) else None


def _plain(value: Any, column: str, kind: Any) -> str | None:
    """A label as text; None where there is none."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, str):
        return None if value.strip() in ("", *NO_VALUES) else value.strip()
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    raise DatasetError(
        f"Column '{column}' holds {value!r} ({getattr(kind, 'dtype', kind)}), expected class labels, whole "
        "numbers or texts.\nName another column with `label_column`, or put the values into classes."
    )


def sorted_names(names: Iterable[str]) -> list[str]:
    """Sort class names: as numbers where all are whole numbers, else as texts.

    Example:
        >>> sorted_names({"10", "9"}), sorted_names({"10", "9", "ant"})
        (['9', '10'], ['10', '9', 'ant'])
    """
    names = sorted(names)
    numbers = all(name.removeprefix("-").isdecimal() for name in names)
    return sorted(names, key=int) if numbers else names


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def agree(parts: Sequence[CodedLabels], places: Sequence[str]) -> CodedLabels:
    """Number the labels of several files by the names of the first, whatever their own order.

    Args:
        parts: Labels of each file.
        places: Where each is from, for messages.

    Returns:
        The labels of all, one after the other; names that only later files use follow the first's.

    Raises:
        DatasetError: The names of two files have nothing in common.

    Example:
        >>> one = CodedLabels(np.array([0, 1]), ("ant", "bee"))
        >>> other = CodedLabels(np.array([0, 1]), ("bee", "ant"))
        >>> agree([one, other], ["train", "test"]).codes.tolist()
        [0, 1, 1, 0]
    """
    names, codes = list(parts[0].names), [parts[0].codes]
    for part, place in zip(parts[1:], places[1:], strict=True):
        spelt = {_composed(name): name for name in names} | {name: name for name in names}
        own = [spelt.get(name) or spelt.get(_composed(name), name) for name in part.names]
        part = replace(part, names=tuple(own))
        used = part.used
        if used and names and not set(used) & set(names):
            raise DatasetError(
                f"The label names of '{places[0]}' and '{place}' have nothing in common.\n"
                f"{places[0]}: {shown(names)}. {place}: {shown(used)}.\n"
                "Write the same names into both; numbers cannot be told from each other without them."
            )
        names += [name for name in used if name not in set(names)]
        number = {name: k for k, name in enumerate(names)}
        table = np.array([*(number.get(name, MISSING) for name in part.names), MISSING], dtype=np.int64)
        codes.append(table[part.codes])
    return CodedLabels(np.concatenate(codes), tuple(names))


def note_test_labels(train: datasets.Dataset, test: datasets.Dataset, column: str, name: str) -> list[str]:
    """Say where class labels of two splits differ in order, and where all labels of the test are one.

    Args:
        train: Training rows.
        test: Test rows.
        column: Column of the labels.
        name: Name of the test split.

    Example:
        >>> import datasets
        >>> train = datasets.Dataset.from_dict({"label": ["0", "1"]})
        >>> test = datasets.Dataset.from_dict({"label": ["0", "0"]})
        >>> print(note_test_labels(train, test, "label", "test")[0].partition(":")[0])
        All 2 rows of 'test' have one label, '0'
    """
    one, other = (getattr(rows.features[column], "names", None) for rows in (train, test))
    notes = []
    if one and other and list(one) != list(other):
        notes.append("The label names of the two splits differ in order or number; they are read by name.")
    used = code_labels(test, column).used
    if len(used) == 1 < len(test):
        notes.append(
            f"All {len(test):,} rows of '{name}' have one label, '{used[0]}': where it stands for none, "
            "leave it out, and a fifth of each class is held out instead."
        )
    return notes


def read_labels(
    train: datasets.Dataset, test: datasets.Dataset | None, column: str, splits: tuple[str, str | None]
) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64]]:
    """Read labels as numbers 0..K-1 and check every one of them.

    Args:
        train: Training rows.
        test: Test rows, or None.
        column: Column of the labels.
        splits: Names of the two splits, for messages.

    Returns:
        Names of the K classes, training labels (N,), test labels (M,) or an empty array.

    Raises:
        DatasetError: A label is missing, outside the names, or only in the test split.

    Example:
        >>> from lort_hub.data.presets import digits
        >>> rows = digits()
        >>> names, train, test = read_labels(rows["train"], rows["test"], "label", ("train", "test"))
        >>> names[:3], train[:3]
        (('0', '1', '2'), array([0, 1, 2]))
    """
    places = [name for name in splits if name]
    parts = [code_labels(rows, column) for rows in (train, test) if rows is not None]
    for part, place in zip(parts, places, strict=True):
        _check_complete(part, column, place)
    whole = agree(parts, places)
    if unknown := whole.names[len(parts[0].names) :]:
        raise DatasetError(
            f"Classes with test images but no training image: {quoted(unknown)}.\n"
            f"The {len(parts[0].names)} training classes: {shown(parts[0].names)}.\n"
            "A head cannot know them: add training images, or remove them from the test split."
        )
    return whole.names, whole.codes[: len(train)], whole.codes[len(train) :]


def _check_complete(labels: CodedLabels, column: str, place: str) -> None:
    if labels.unknown:
        row, number = labels.unknown[0]
        raise DatasetError(
            f"Row {row} of split '{place}' has label {number}, expected 0..{len(labels.names) - 1}, the "
            f"{len(labels.names)} names of column '{column}' ({len(labels.unknown)} such rows).\n"
            "Mend the labels, or name another column with `label_column` or split with `test_split`."
        )
    missing = np.flatnonzero(labels.codes == MISSING)
    if missing.size:
        raise DatasetError(
            f"Row {missing[0]} of split '{place}' has no label in column '{column}' "
            f"({missing.size} of {len(labels.codes)} rows are empty or hold {' or '.join(NO_VALUES[:2])}).\n"
            "Fill in the labels, remove the rows, or name another column with `label_column`."
        )
