"""Count the images that are not read: those not named by a list, or beside tables of images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lort_hub.data.decoding import image_suffixes
from lort_hub.data.image_folder.names import TESTS, is_companion, kind_of
from lort_hub.data.request import Opened, Request
from lort_hub.data.tables.image_files import ImageFiles
from lort_hub.data.tables.matched import MatchedList
from lort_hub.errors import DatasetError
from lort_hub.shorten import shown

if TYPE_CHECKING:
    import datasets


def note_unnamed(matched: Sequence[MatchedList], named: set[Path]) -> list[str]:
    """Say how many images no row names, in notes.

    Folders of masks are not meant.

    Args:
        matched: The lists.
        named: The files that their rows name.

    Example:
        >>> note_unnamed([], set())
        []
    """
    lists, notes = shown([one.listed.path.name for one in matched]), []
    if beside := _beside(named):
        notes.append(f"{len(beside):,} images have no row in {lists}, such as {beside[0]}.")
    if folders := _elsewhere(matched, named):
        count = f"{folders.total():,} images lie in other folders than those of {lists}"
        notes.append(f"{count}, and are not read: {shown(sorted(folders), 4)}.")
    return notes


def check_pictures_beside(opened: Opened, folder: Path, request: Request) -> list[str]:
    """Say in a note how many pictures lie in folders beside tables or archives that hold the images.

    Args:
        opened: The rows of the tables.
        folder: The data folder.
        request: The arguments of `load_long_tailed`.

    Raises:
        DatasetError: The tables hold test images alone, so that those to train on lie in folders.

    Example:
        >>> check_pictures_beside(Opened({}), Path("/nonexistent"), Request("photos"))
        []
    """
    images = ImageFiles([folder])
    ways = [
        way for _, *way in map(images.folders_of, images.files) if way and not any(map(is_companion, way))
    ]
    if not ways or any(map(_name_files, opened.splits.values())):
        return []
    folders = f"{len(ways):,} pictures in folders ({shown(sorted({way[0] for way in ways}), 4)})"
    if not request.train_split and all(kind_of(split) in TESTS for split in opened.splits):
        raise DatasetError(
            f"'{folder}' has its {shown(list(opened.splits))} split in tables, and {folders}: they are not "
            "read together.\nPut all images into folders, train/CLASS/*.jpg and test/CLASS/*.jpg, or all "
            "into tables; or give one folder, of which a fifth of each class is then held out."
        )
    return [f"{folders} are not read: the images are those of the tables beside them."]


def _name_files(rows: datasets.Dataset) -> bool:
    """Whether a table holds the paths of its images, and not the images."""
    import datasets

    columns = [name for name, kind in rows.features.items() if isinstance(kind, datasets.Image)]
    firsts = (rows.cast_column(name, datasets.Image(decode=False))[:1][name] for name in columns)
    return any(cell is None or cell["bytes"] is None for first in firsts for cell in first)


def _beside(named: set[Path]) -> list[str]:
    """Images in the folders of the named ones."""
    suffixes = image_suffixes()
    folders = sorted({file.parent for file in named})
    beside = (path for folder in folders for path in sorted(folder.iterdir()))
    return [
        path.name
        for path in beside
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path not in named
    ]


def _elsewhere(matched: Sequence[MatchedList], named: set[Path]) -> Counter[str]:
    """Number of images in each of the other folders."""
    seen, others = {os.path.realpath(folder) for folder in {file.parent for file in named}}, Counter[str]()
    for images in dict.fromkeys(one.images.listed_by or one.images for one in matched):
        for folder, files in Counter(map(os.path.dirname, images.files)).items():
            root, *inner = images.folders_of(f"{folder}/")
            if any(map(is_companion, inner)) or (real := os.path.realpath(folder)) in seen:
                continue
            seen.add(real)
            others["/".join(inner) or root] += files
    return others
