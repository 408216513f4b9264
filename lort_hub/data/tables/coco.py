"""Read COCO annotations as a list of image files where each image has objects of one category."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lort_hub.data.tables.column_names import is_called_as_group
from lort_hub.data.tables.splits import is_called_as_split, may_be_splits, tells_splits

Columns = dict[str, list[str | None]]


def is_coco(content: Any) -> bool:
    """Return whether parsed JSON is COCO's: images, categories and annotations.

    Example:
        >>> is_coco({"images": [], "categories": [], "annotations": []}), is_coco([])
        (True, False)
    """
    return isinstance(content, Mapping) and all(
        isinstance(content.get(name), list) for name in ("images", "categories", "annotations")
    )


def read_coco(content: Mapping[str, Any], name: str) -> tuple[Columns, tuple[str, ...], str]:
    """Read the categories of COCO's images as the classes of files.

    Args:
        content: Parsed JSON.
        name: Name of its file.

    Returns:
        Columns `file_name`, `label` and those of splits and groups, notes, and why they are no classes, where
        some image has objects of several categories.

    Raises:
        KeyError: It lacks what COCO's annotations have.

    Example:
        >>> images, annotations = [{"id": 1, "file_name": "0.jpg"}], [{"image_id": 1, "category_id": 3}]
        >>> categories = [{"id": 3, "name": "ant"}]
        >>> read_coco({"images": images, "annotations": annotations, "categories": categories}, "a.json")[0]
        {'file_name': ['0.jpg'], 'label': ['ant']}
    """
    category = {
        _first(one, "id", "category_id"): str(_first(one, "name", "scientificName"))
        for one in content["categories"]
    }
    images = [(str(one["file_name"]), _first(one, "id", "image_id")) for one in content["images"]]
    of_image: dict[Any, set[str]] = {number: set() for _, number in images}
    for one in content["annotations"]:
        of_image.setdefault(one["image_id"], set()).add(category[one["category_id"]])
    labelled = [(file, sorted(of_image[number])) for file, number in images]
    used = {one["category_id"] for one in content["annotations"]}
    counts = Counter(category[number] for number in used)
    notes, refusal = list[str](), ""
    if shared := [called for called in sorted(counts) if counts[called] > 1]:
        notes.append(
            f"{counts[shared[0]]} categories of {name} are called '{shared[0]}', and are read as one class."
        )
    if without := sum(not names for _, names in labelled):
        notes.append(f"{without:,} images of {name} have no category and are left out.")
    if several := [one for one in labelled if len(one[1]) > 1]:
        file, names = several[0]
        refusal = (
            f"{len(several):,} of {len(labelled):,} images of {name} have objects of several categories, "
            f"such as {file}: {', '.join(names[:4])}.\nOne class per image is read: cut the objects out as "
            "train/CLASS/*.jpg, or write a CSV of files with one label each."
        )
    columns: Columns = {
        "file_name": [file for file, names in labelled if names],
        "label": [names[0] for _, names in labelled if names],
    }
    kept = [one for one, (_, names) in zip(content["images"], labelled, strict=True) if names]
    return columns | _splits_of(kept), tuple(notes), refusal


def _splits_of(images: Sequence[Mapping[str, Any]]) -> Columns:
    """The fields of images that are called as those of splits or groups."""
    columns: Columns = {}
    for name in dict.fromkeys(name for one in images for name in one):
        cells = ["" if one.get(name) is None else str(one[name]) for one in images]
        is_split = tells_splits(name) or is_called_as_split(name) or may_be_splits(name, cells)
        if is_split or is_called_as_group(name):
            columns[name] = [cell or None for cell in cells]
    return columns


def _first(one: Mapping[str, Any], *names: str) -> Any:
    """The value of the first of these names that an object has; the second is that of Herbarium's files."""
    return one[next((name for name in names if name in one), names[0])]
