"""Find the columns of images and labels in a table by what they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lort_hub.data.decoding import opens
from lort_hub.data.tables.column_names import IMAGE_NAMES, check_exists, choose_one
from lort_hub.data.tables.label_columns import find_label_column, is_list
from lort_hub.errors import DatasetError

if TYPE_CHECKING:
    import datasets

BASE64 = ("data:image", "/9j/", "iVBORw0KGgo", "UklGR", "R0lGOD")
"""First letters of images that are written as base64 text."""


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
        check_exists(rows, asked, "image_column")
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
    return choose_one(candidates, "image", "image_column", IMAGE_NAMES)


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
        while is_list(inner):
            inner, depth = inner.feature, depth + 1
        if depth and holds_bytes(inner):
            return f"{problem}\nColumn '{name}' holds lists of images; write one image a row."
        if arrays or (depth and str(getattr(inner, "dtype", "")).startswith(("int", "uint", "float"))):
            return (
                f"{problem}\nIf column '{name}' holds pixels as numbers, write each image as the bytes of a "
                "PNG: PIL.Image.fromarray(array).save(file, 'PNG'). A column of encoded bytes will do."
            )
    return f"{problem}\nName it with `image_column`; a column of encoded bytes, or of paths, will do."
