"""Leave out thumbnails of pictures that are there too: small copies would be tested on what is trained on."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image, ImageOps

from lort_hub.data.image_folder.names import PICTURES, fold
from lort_hub.data.image_folder.tree import Folder

THUMBNAIL = "a thumbnail of another picture"
SAMPLE = 5
"""Pictures of a folder that are compared."""
SIDE = 8
"""Pixels a side, at most, to which two pictures are made smaller to compare them."""
MOST_APART = 8
"""Mean difference of the grey, of 255, above which one is no thumbnail of the other."""
_CALLED = re.compile(r"(.+)_thumb(nail)?", re.IGNORECASE)
_FOLDER = re.compile(r"thumb(nail)?s?")


def leave_out_thumbnails(root: Folder) -> Folder:
    """Count as not read what is called a thumbnail, is smaller than a picture and has that one's name.

    Args:
        root: From `list_pictures`; it is changed.

    Returns:
        The same.

    Example:
        >>> leave_out_thumbnails(Folder("photos", "", ["0.jpg"], total=1)).pictures
        ['0.jpg']
    """
    folders = list(root.below())
    for folder in folders:
        beside = {_stem(name): f"{folder.path}/{name}" for name in folder.pictures}
        called = [name for name in folder.pictures if "_thumb" in name.lower()]
        _pass_over(folder, {name: beside.get(_without_word(_stem(name)), "") for name in called})
        for inner in folder.folders:
            if inner.total and _FOLDER.fullmatch(fold(inner.name)):
                found = _namesakes(folder, inner)
                if not _is_among_classes(folder, inner) or _are_all_copies(inner, found):
                    for one, pictures in found:
                        _pass_over(one, pictures)
    for folder in reversed(folders):
        folder.total = len(folder.pictures) + sum(inner.total for inner in folder.folders)
    return root


def _namesakes(folder: Folder, inner: Folder) -> list[tuple[Folder, dict[str, str]]]:
    """Pictures in each folder of thumbnails, and the path of the picture that has the name of each, or ""."""
    known, found = dict(_pictures_below(folder, inner)), []
    for one in inner.below():
        below = one.path.removeprefix(inner.path)
        keys = {name: _key(f"{below}/{_without_word(_stem(name))}") for name in one.pictures}
        found.append((one, {name: known.get(key, "") for name, key in keys.items()}))
    return found


def _is_among_classes(folder: Folder, inner: Folder) -> bool:
    return any(one is not inner and fold(one.name) not in PICTURES for one in folder.filled)


def _are_all_copies(inner: Folder, found: Sequence[tuple[Folder, Mapping[str, str]]]) -> bool:
    """Whether a folder beside classes is called and filled as one of thumbnails alone."""
    return fold(inner.name).endswith("s") and all(
        all(pictures.values()) and _are_copies(folder, pictures) for folder, pictures in found
    )


def _pictures_below(folder: Folder, without: Folder) -> Iterator[tuple[str, str]]:
    """Pictures below a folder by what their thumbnails would be called, without those of one folder."""
    left_out = {id(one) for one in without.below()}
    for one in folder.below():
        if id(one) not in left_out:
            below = one.path.removeprefix(folder.path)
            yield from ((_key(f"{below}/{_stem(name)}"), f"{one.path}/{name}") for name in one.pictures)


def _key(path: str) -> str:
    return "_".join(part for part in path.split("/") if part and fold(part) not in PICTURES)


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


def _without_word(stem: str) -> str:
    called = _CALLED.fullmatch(stem)
    return called[1] if called else stem


def _pass_over(folder: Folder, pictures: Mapping[str, str]) -> None:
    """Pass over the thumbnails in a folder, where the first of them are small copies of their pictures."""
    found = {name: path for name, path in pictures.items() if path and path != f"{folder.path}/{name}"}
    if not _are_copies(folder, found):
        return
    for name in found:
        folder.pass_over(name, THUMBNAIL)
    folder.pictures = [name for name in folder.pictures if name not in found]


def _are_copies(folder: Folder, pictures: Mapping[str, str]) -> bool:
    sample = [*pictures.items()][:SAMPLE]
    return all(_is_small_copy(f"{folder.path}/{name}", path) for name, path in sample)


def _is_small_copy(path: str, other: str) -> bool:
    """Whether a picture is smaller than another one, of the same shape, and shows the same."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which is a matter of decoding
            with Image.open(path) as opened, Image.open(other) as opened_too:
                one, two = ImageOps.exif_transpose(opened), ImageOps.exif_transpose(opened_too)
                is_smaller = one.width < two.width and one.height < two.height
                shape_apart = abs(one.width * two.height - one.height * two.width)
                if not is_smaller or shape_apart > max(two.size):  # that of a pixel
                    return False
                size = min(SIDE, one.width), min(SIDE, one.height)
                greys = [image.convert("L").resize(size) for image in (one, two)]
    except Exception:  # plugins raise anything at what is not theirs
        return False
    first, second = (np.asarray(grey, dtype=float) for grey in greys)
    return float(np.abs(first - second).mean()) <= MOST_APART
