"""Find the columns of a test split that the training split's images and labels are called otherwise in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lort_hub.data.image_folder.names import fold
from lort_hub.data.tables.column_names import is_label, may_be_called_label
from lort_hub.data.tables.columns import find_image_column
from lort_hub.data.tables.labels import code_labels
from lort_hub.errors import DatasetError

if TYPE_CHECKING:
    import datasets


def with_columns(rows: datasets.Dataset, columns: tuple[str, str], name: str) -> datasets.Dataset:
    """Return the rows of a test split with its columns called as those of the training split.

    Args:
        rows: The test rows.
        columns: The training split's columns of images and labels.
        name: Name of the test split, for messages.

    Raises:
        DatasetError: It has no such columns.

    Example:
        >>> import datasets
        >>> rows = datasets.Dataset.from_dict({"photo": [b""], "Label": ["ant"]})
        >>> with_columns(rows, ("image", "label"), "test").column_names
        ['image', 'label']
    """
    image, label = columns
    if image not in rows.column_names:
        rows = rows.rename_column(find_image_column(rows, None), image)
    rows = with_label(rows, label)
    if label not in rows.column_names:
        raise _no_column(rows, label, name)
    return rows


def with_label(rows: datasets.Dataset, label: str) -> datasets.Dataset:
    """Return rows where the one column called as the labels, but for capitals, is called so.

    Args:
        rows: The test rows.
        label: The training split's column of labels.

    Example:
        >>> import datasets
        >>> with_label(datasets.Dataset.from_dict({"Class": [0], "view": [1]}), "class").column_names
        ['class', 'view']
    """
    alike = [name for name in rows.column_names if fold(name) == fold(label)]
    return rows.rename_column(alike[0], label) if len(alike) == 1 and alike != [label] else rows


def check_labels_elsewhere(
    rows: datasets.Dataset, train: datasets.Dataset, label: str, name: str
) -> list[str]:
    """Refuse a test split without the column of labels whose labels are in one that is called otherwise.

    Args:
        rows: The test rows.
        train: The training rows.
        label: The training split's column of labels.
        name: Name of the test split, for messages.

    Returns:
        Notes of columns of other names that hold nothing but classes.

    Raises:
        DatasetError: A column called as labels, which the training split has not, holds nothing but classes.

    Example:
        >>> import datasets
        >>> train = datasets.Dataset.from_dict({"label": ["ant", "bee"]})
        >>> check_labels_elsewhere(datasets.Dataset.from_dict({"view": ["left"]}), train, "label", "test")
        []
    """
    notes = []
    for other in () if label in rows.column_names else rows.column_names:
        if other in train.column_names or not _is_plain(rows, other):
            continue
        values = {str(value).strip() for value in rows[other][:] if value is not None}
        may_be_called_so = is_label(other) or not all(value.isdecimal() for value in values)
        if may_be_called_so and len(values) > 1 and values <= set(code_labels(train, label).names):
            if may_be_called_label(other):
                raise _no_column(rows, label, name)
            notes.append(
                f"Column '{other}' of '{name}' holds classes, and is not read as labels: where they are "
                f"these, call it '{label}'."
            )
    return notes


def _is_plain(rows: datasets.Dataset, column: str) -> bool:
    kind = str(getattr(rows.features[column], "dtype", ""))
    return kind.startswith(("string", "large_string", "int", "uint", "bool"))


def _no_column(rows: datasets.Dataset, label: str, name: str) -> DatasetError:
    return DatasetError(
        f"Split '{name}' has no column '{label}', which the training split's labels are in, but "
        f"{', '.join(rows.column_names)}.\n"
        f"Rename its column of labels to '{label}', or name another split with `test_split`."
    )
