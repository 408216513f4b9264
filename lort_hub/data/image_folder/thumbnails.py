"""Leave out thumbnails of pictures that are there too: small copies would be tested on what is trained on."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping

from PIL import Image

from lort_hub.data.image_folder.names import PICTURES, fold
from lort_hub.data.image_folder.tree import Folder

THUMBNAIL = "a thumbnail of another picture"
SAMPLE = 5
"""Pictures of a folder whose sizes are compared."""
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
                known = dict(_pictures_below(folder, inner))
                for one in inner.below():
                    below = one.path.removeprefix(inner.path)
                    keys = {name: _key(f"{below}/{_without_word(_stem(name))}") for name in one.pictures}
                    _pass_over(one, {name: known.get(key, "") for name, key in keys.items()})
    for folder in reversed(folders):
        folder.total = len(folder.pictures) + sum(inner.total for inner in folder.folders)
    return root


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
    """Pass over the thumbnails in a folder, where the first of them are smaller than their pictures."""
    found = {name: path for name, path in pictures.items() if path and path != f"{folder.path}/{name}"}
    if not all(_is_smaller(f"{folder.path}/{name}", path) for name, path in [*found.items()][:SAMPLE]):
        return
    for name in found:
        folder.pass_over(name, THUMBNAIL)
    folder.pictures = [name for name in folder.pictures if name not in found]


def _is_smaller(path: str, other: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which is a matter of decoding
            with Image.open(path) as one, Image.open(other) as two:
                return one.width < two.width and one.height < two.height
    except Exception:  # plugins raise anything at what is not theirs
        return False
