"""Load images without labels: the pictures of any folder, or the images of a table or a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lort_hub.data.archives import ARCHIVES
from lort_hub.data.dataset import ImageSplit
from lort_hub.data.formats import advice_on
from lort_hub.data.hub_data import open_hub
from lort_hub.data.image_folder.names import kind_of
from lort_hub.data.image_folder.tree import Folder, Passed, is_picture, list_pictures, printable
from lort_hub.data.local_data import open_any, open_file
from lort_hub.data.picture_lists import listed_pictures
from lort_hub.data.presets import digits
from lort_hub.data.request import Request
from lort_hub.data.spec import DatasetSpec, local_path, parse_spec
from lort_hub.data.tables.columns import find_image_column
from lort_hub.data.tables.encoded import TABLES
from lort_hub.errors import DatasetError, did_you_mean
from lort_hub.files import missing_path

if TYPE_CHECKING:
    import datasets

UNLABELLED = "unlabelled"
"""Name of the one class of images whose class nobody knows."""

ROWS = (".csv", ".tsv", ".json", ".jsonl")
"""Files that may be a table of images, so that what is wrong with them is worth saying."""


def load_unlabelled(
    spec: str | Sequence[str],
    *,
    split: str | None = None,
    image_column: str | None = None,
    image_root: str | Path | None = None,
) -> ImageSplit:
    """Load images for their pixels alone; labels that there may be are not read.

    Args:
        spec: A folder of pictures at any depth, a picture, a list of pictures, a table with a column of
            images, or what else `load_long_tailed` takes; or several folders and pictures.
        split: Name of the split, where there are several.
        image_column: Column of the images; None to find it by its type.
        image_root: Folder of the images that a list names; None for that of the list.

    Returns:
        The images, all of one class; those of folders in the order of their names, each file once, with a
        note where it is named again.

    Raises:
        DatasetError: There are no images, or several splits.
        HubUnavailableError: The Hub is needed and does not answer.

    Example:
        >>> images = load_unlabelled("digits", split="test")
        >>> len(images), images.class_names
        (500, ('unlabelled',))
    """
    specs = [spec] if isinstance(spec, str) else spec
    source = specs[0] if len(specs) == 1 else f"{len(specs):,} inputs"
    root = None if image_root is None else local_path(image_root)
    pictures, notes = _pictures(specs)
    pictures = pictures or (listed_pictures(local_path(source), root) if len(specs) == 1 else [])
    if pictures:
        once = list(dict.fromkeys(pictures))
        notes += _named_again(len(pictures), len(once), source)
        splits = {UNLABELLED: _rows(once)}
    else:
        found = parse_spec(source, argument="images")
        request = Request(source, found.configuration, image_column, image_root=root)
        splits, source = _open(found, request), found.source
    name = split if split is None or split in splits else kind_of(split)
    if name is None and len(splits) == 1:
        name = next(iter(splits))
    if name not in splits:
        what = f"has no split '{split}'.{did_you_mean(split, splits)}" if split else "has several splits."
        if pictures:
            raise DatasetError(f"'{source}' {what}\nPictures in folders have none: give one folder of them.")
        raise DatasetError(f"'{source}' {what}\nName one of them with `split`: {', '.join(splits)}.")
    rows = splits[name]
    if not len(rows):
        raise DatasetError(f"Split '{name}' of '{source}' holds no image.")
    column, labels = find_image_column(rows, image_column), np.zeros(len(rows), dtype=np.int64)
    images = ImageSplit.of_rows(rows, labels, column, name, (UNLABELLED,), source)
    return replace(images, notes=tuple(notes))


def _open(found: DatasetSpec, request: Request) -> dict[str, datasets.Dataset]:
    path = Path(found.source)
    if found.source == "digits":
        return digits()
    if found.repo_id:
        return open_hub(found.repo_id, found.revision, request)[0].splits
    if not path.is_dir():
        return open_file(path, request).splits
    try:
        return open_any(path, request).splits
    except DatasetError as error:
        names = [file.name for file in path.rglob("*") if file.is_file()]
        if any(name.lower().endswith((*TABLES, *ROWS, *ARCHIVES)) for name in names):
            raise
        raise DatasetError(
            f"'{path}' holds no picture. {advice_on(sorted(names))}".rstrip()
            + "\nExpected pictures at any depth, or a table with a column of images."
        ) from error


def _pictures(specs: Sequence[str]) -> tuple[list[str], list[str]]:
    """Paths of pictures and of those in folders, with notes on other files; none for a table."""
    paths, notes = list[str](), list[str]()
    for spec in specs:
        path = local_path(spec)
        if path.is_dir():
            folders = list(list_pictures(str(path)).below())
            found = [str(Path(folder.path) / name) for folder in folders for name in folder.pictures]
            notes += _not_read(spec, folders) if found else []
        else:
            found = [str(path)] if path.is_file() and is_picture(str(path)) else []
        if not found and len(specs) > 1:
            what = f"'{spec}' holds no picture." if path.exists() else missing_path(path, spec, "images")
            raise DatasetError(
                f"{what}\nWhere several inputs are given, each is a picture or a folder of pictures."
            )
        paths += found
    return paths, notes


def _not_read(spec: str, folders: Sequence[Folder]) -> list[str]:
    passed = sum((folder.passed for folder in folders), Counter[Passed]())
    kinds = [f"{number:,} {kind.extension or 'other'} ({kind.reason})" for kind, number in passed.items()]
    return [f"Not read in {printable(spec)}: {', '.join(sorted(kinds))}."] * bool(kinds)


def _named_again(names: int, pictures: int, source: str) -> list[str]:
    where = f"{names - pictures:,} of {names:,} names in {printable(source)}"
    return [f"{where} are of a picture named before: each is read once."] * (pictures < names)


def _rows(paths: list[str]) -> datasets.Dataset:
    import datasets

    images = [
        path if printable(path) == path else {"path": printable(path), "bytes": Path(path).read_bytes()}
        for path in paths
    ]
    return datasets.Dataset.from_dict(
        {"image": images}, features=datasets.Features({"image": datasets.Image()})
    )
