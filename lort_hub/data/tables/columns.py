"""Find the columns of images and labels in a table by what they hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lort_hub.data.decoding import opens
from lort_hub.data.tables.labels import shown
from lort_hub.errors import DatasetError, did_you_mean

if TYPE_CHECKING:
    import datasets

IMAGE_NAMES = ("image", "img", "picture", "photo")
LABEL_NAMES = (
    *("label", "labels", "class", "class_name", "classname", "target", "category", "species"),
    *("label_id", "class_id", "classid", "category_id", "class_label", "label_name", "category_name"),
)
"""Names that settle which of several fitting columns is meant."""

FILE_WORDS = ("image", "img", "picture", "photo", "file")
"""First letters of words in the name of a column that names files."""

NO_LABELS = ("__key__", "__url__", "__index_level_0__")
"""Columns that libraries add to a table."""

BASE64 = ("data:image", "/9j/", "iVBORw0KGgo", "UklGR", "R0lGOD")
"""First letters of images that are written as base64 text."""

PLAIN_LABELS = ("string", "large_string", "int", "uint", "bool", "float", "double")
MOST_CLASSES = 0.5
"""Classes per row above which a column of another name is not taken for the label."""


def is_called_as_files(column: str) -> bool:
    """Tell by its name whether a column is likely to name image files.

    Example:
        >>> is_called_as_files("ImageId"), is_called_as_files("path"), is_called_as_files("pathology")
        (True, True, False)
    """
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", column)]
    return any(word == "path" or word.startswith(FILE_WORDS) for word in words)


def is_usual(column: str) -> bool:
    """Tell whether a column bears a usual name of files or labels.

    Example:
        >>> is_usual("Label"), is_usual("file_name"), is_usual("7")
        (True, True, False)
    """
    return column.lower() in LABEL_NAMES or is_called_as_files(column)


def find_columns(
    rows: datasets.Dataset, image: str | None, label: str | None, group: str | None = None
) -> tuple[str, str]:
    """Find the image and label columns by what they hold where they are not named.

    Args:
        rows: The training rows.
        image: Named image column, or None.
        label: Named label column, or None.
        group: Column of groups, which is not one of labels, or None.

    Raises:
        DatasetError: A named column does not exist, none fits, or several do.

    Example:
        >>> from lort_hub.data.presets import digits
        >>> splits = digits()
        >>> find_columns(splits["train"], None, None)
        ('image', 'label')
    """
    image = find_image_column(rows, image)
    ungrouped = rows.remove_columns(group) if group in rows.column_names and group != label else rows
    return image, find_label_column(ungrouped, label, image)


def find_image_column(rows: datasets.Dataset, asked: str | None) -> str:
    """Find the column of images: of `datasets.Image`, of encoded bytes, or of structs that hold them.

    Args:
        rows: The training rows.
        asked: Its name where it is given, else None.

    Raises:
        DatasetError: There is none, or several.

    Example:
        >>> import datasets
        >>> find_image_column(datasets.Dataset.from_dict({"picture": [b"..."], "label": [1]}), None)
        'picture'
    """
    import datasets

    if asked is not None:
        _check_exists(rows, asked, "image_column")
        if not holds_bytes(rows.features[asked]):
            raise DatasetError(_no_image(rows, f"Column '{asked}' holds no encoded images."))
        return asked
    kinds = rows.features
    candidates = [name for name in kinds if isinstance(kinds[name], datasets.Image)]
    if not candidates:
        encoded = [name for name in kinds if holds_bytes(kinds[name])]
        candidates = [name for name in encoded if _is_opened(rows, name)] or encoded
    if not candidates:
        raise DatasetError(_no_image(rows, f"No image column found among: {', '.join(rows.column_names)}."))
    return _only(candidates, "image", "image_column", IMAGE_NAMES)


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
        if name not in named and str(getattr(_inner(kind), "dtype", "")).startswith(PLAIN_LABELS)
    ]
    if asked is not None:
        _check_exists(rows, asked, "label_column")
        if asked not in named + plain:
            raise DatasetError(
                f"Column '{asked}' holds {rows.features[asked]}, expected class labels, numbers or texts.\n"
                f"`label_column` could be one of: {', '.join(named + plain) or 'none'}."
            )
        return asked
    if named:
        return _only(named, "label", "label_column", LABEL_NAMES)
    if usual := [name for name in plain if name.lower() in LABEL_NAMES]:
        return _only(usual, "label", "label_column", LABEL_NAMES)
    flags = [name for name in plain if _is_flag(rows, name)]
    candidates = [name for name in plain if _repeats(rows, name)]
    if len(flags) > 1 and (_flags_a_row(rows, flags) == {1} or set(candidates) <= set(flags)):
        raise DatasetError(_one_hot(rows, flags))
    if not candidates:
        raise DatasetError(_no_label(rows, plain))
    return _only(candidates, "label", "label_column", LABEL_NAMES)


def _check_exists(rows: datasets.Dataset, asked: str, argument: str) -> None:
    columns: list[str] = rows.column_names
    if asked not in columns:
        raise DatasetError(
            f"No column '{asked}'.{did_you_mean(asked, columns)}\n"
            f"`{argument}` expects one of: {', '.join(columns)}."
        )


def _only(candidates: Sequence[str], kind: str, argument: str, usual: Sequence[str]) -> str:
    """The one column that fits, or the one of them that has the usual name."""
    preferred = [name for name in candidates if name.lower() in usual]
    if len(candidates) == 1 or len(preferred) == 1:
        return (preferred or list(candidates))[0]
    raise DatasetError(
        f"Several columns could be the {kind}: {', '.join(candidates)}.\n"
        f'Choose one, e.g. `{argument}="{candidates[0]}"`.'
    )


def _inner(kind: Any) -> Any:
    """What a list holds; other kinds as they are."""
    return kind.feature if _is_list(kind) else kind


def holds_bytes(kind: Any) -> bool:
    """Tell by the type of a column whether it holds encoded images, or bytes that could be.

    Example:
        >>> import datasets
        >>> holds_bytes(datasets.Image()), holds_bytes(datasets.Value("binary")), holds_bytes({"path": "a"})
        (True, True, False)
    """
    import datasets

    if isinstance(kind, datasets.Image):
        return True
    if isinstance(kind, dict):
        return "bytes" in kind and holds_bytes(kind["bytes"])
    return getattr(kind, "dtype", None) in ("binary", "large_binary")


def _is_opened(rows: datasets.Dataset, column: str) -> bool:
    """Whether Pillow knows the first image of a column of bytes."""
    cells = rows.select(range(min(len(rows), 20)))[column][:]
    contents = (cell.get("bytes") if isinstance(cell, dict) else cell for cell in cells)
    return opens(next((data for data in contents if data), b""))


def _values(rows: datasets.Dataset, column: str) -> list[Any]:
    values: list[Any] = rows[column][:]
    return [value for value in values if value is not None]


def _is_flag(rows: datasets.Dataset, column: str) -> bool:
    """Whether a column holds nothing but 0 and 1."""
    values = set(_values(rows, column)) if not _is_list(rows.features[column]) else set()
    return bool(values) and values <= {0, 1}


def _is_list(kind: Any) -> bool:
    import datasets

    return isinstance(kind, datasets.List | datasets.LargeList)


def _flags_a_row(rows: datasets.Dataset, flags: Sequence[str]) -> set[int]:
    """How many of some columns of 0 and 1 a row may have set."""
    return {
        int(sum(value or 0 for value in row)) for row in zip(*(rows[name][:] for name in flags), strict=True)
    }


def _repeats(rows: datasets.Dataset, column: str) -> bool:
    """Whether the values of a column are few enough to be classes."""
    if _is_list(rows.features[column]):
        return True
    values = _values(rows, column)
    if any(isinstance(value, float) and not value.is_integer() for value in values):
        return False
    return len(set(values)) <= MOST_CLASSES * max(len(values), 4)


def _one_hot(rows: datasets.Dataset, flags: Sequence[str]) -> str:
    each = _flags_a_row(rows, flags)
    if each == {1}:
        return (
            f"The label is spread over {len(flags)} one-hot columns: {shown(flags)}.\n"
            'Write it into one column, in pandas: table["label"] = table[[...]].idxmax(axis=1).'
        )
    return (
        f"Columns {shown(flags)} hold 0 or 1, and a row has {min(each)} to {max(each)} of them set: several "
        "labels an image.\nExpected one class per image; multi-label data are not read. Write a column "
        "'label', or name one with `label_column`."
    )


def _no_label(rows: datasets.Dataset, plain: Sequence[str]) -> str:
    other = next(
        (name for name in rows.column_names if name.lower() in LABEL_NAMES and name not in plain), None
    )
    if other:
        kind = rows.features[other]
        return (
            f"Column '{other}' holds {getattr(kind, 'dtype', kind)}, expected class labels, numbers or "
            "texts.\nWrite the names of the classes into it, or name another column with `label_column`."
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


def _no_image(rows: datasets.Dataset, problem: str) -> str:
    """What to do where no column holds encoded images, by what the columns hold instead."""
    import datasets

    for name, kind in rows.features.items():
        first = next((cell for cell in rows[:20][name] if isinstance(cell, str)), "")
        if "://" in first:
            return (
                f"{problem}\nColumn '{name}' holds web addresses, such as {first[:60]}: download them first."
            )
        if first.startswith(BASE64):
            return f"{problem}\nColumn '{name}' holds images as base64 text: write base64.b64decode(text)."
        arrays = isinstance(kind, datasets.Array2D | datasets.Array3D | datasets.Array4D)
        inner, depth = kind, 0
        while _is_list(inner):
            inner, depth = inner.feature, depth + 1
        if depth and holds_bytes(inner):
            return f"{problem}\nColumn '{name}' holds lists of images; write one image a row."
        if arrays or (depth and str(getattr(inner, "dtype", "")).startswith(("int", "uint", "float"))):
            return (
                f"{problem}\nIf column '{name}' holds pixels as numbers, write each image as the bytes of a "
                "PNG: PIL.Image.fromarray(array).save(file, 'PNG'). A column of encoded bytes will do."
            )
    return f"{problem}\nName it with `image_column`; a column of encoded bytes, or of paths, will do."
