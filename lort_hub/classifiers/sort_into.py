"""Copy images into folders of their predicted classes, and those the model is unsure of into one more."""

from __future__ import annotations

import io
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from PIL import Image

from lort_hub.data.dataset import ImageSplit
from lort_hub.data.decoding import Encoded
from lort_hub.data.image_folder.names import is_heap, kind_of
from lort_hub.data.image_folder.tree import SYSTEM_FILES, SYSTEM_FOLDERS
from lort_hub.errors import CheckpointError
from lort_hub.files import atomic_folder, check_output_dir

UNSURE = "unsure"
"""Name of the folder of images that no class is probable enough for, unless a class has it."""
LONGEST = 120
"""Longest name of a folder or file, in bytes of UTF-8; file systems take 255, and a number may be added."""
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices."""
UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]')


def safe_name(name: str) -> str:
    """Turn any text into the name of a file or folder on every system, which no listing hides.

    Args:
        name: The text.

    Example:
        >>> safe_name("a/b"), safe_name(".."), safe_name("etc."), safe_name("NUL"), safe_name("")
        ('a_b', '_', 'etc', 'NUL_', '_')
    """
    name = UNSAFE.sub("_", unicodedata.normalize("NFC", name)).strip().rstrip(". ").lstrip(". ")
    stem, suffix = Path(name).stem, Path(name).suffix
    room = LONGEST - len(suffix.encode())
    if room <= 0:
        stem, suffix, room = name, "", LONGEST
    name = stem.encode()[:room].decode(errors="ignore").strip() + suffix
    name = name.rstrip(". ") or "_"
    if RESERVED.fullmatch(name) or name.lower() in SYSTEM_FOLDERS | SYSTEM_FILES:
        return f"{Path(name).stem}_{Path(name).suffix}"
    return name


class DistinctNames:
    """Names given out so far, none of which another system would take for the same as another.

    Example:
        >>> names = DistinctNames()
        >>> [names.take(name) for name in ("a.jpg", "A.jpg", "a.jpg")]
        ['a.jpg', 'A_2.jpg', 'a_3.jpg']
    """

    def __init__(self) -> None:
        """Start with none."""
        self._taken, self._last = set[str](), Counter[str]()

    def take(self, name: str) -> str:
        """Take a name, with a number before its extension where it is taken."""
        key, found = _folded(name), name
        self._last[key] += 1
        while _folded(found) in self._taken:
            self._last[key] += found != name
            number = max(2, self._last[key])
            found = f"{Path(name).stem}_{number}{Path(name).suffix}"
        self._taken.add(_folded(found))
        return found


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def class_folders(class_names: Sequence[str]) -> tuple[dict[str, str], str]:
    """Name a folder for each class, and one for images that the model is unsure of.

    A class called as a split gets another name, as the folders would not be read as classes.

    Args:
        class_names: Names of the classes, no two alike.

    Returns:
        The folder of each class, and the folder of the unsure images.

    Example:
        >>> class_folders(["a/b", "a:b", "a_b", "unsure"])
        ({'a/b': 'a_b_2', 'a:b': 'a_b_3', 'a_b': 'a_b', 'unsure': 'unsure'}, 'unsure_2')
        >>> class_folders(["bus", "train"])[0]
        {'bus': 'bus', 'train': 'train_class'}
    """
    taken, folders = DistinctNames(), dict[str, str]()
    wanted = {name: _class_folder(name) for name in class_names}
    for name in sorted(class_names, key=lambda name: wanted[name] != name):  # good names stay as they are
        folders[name] = taken.take(wanted[name])
    return {name: folders[name] for name in class_names}, taken.take(UNSURE)


def _class_folder(name: str) -> str:
    safe = safe_name(name)
    return f"{safe}_class" if kind_of(safe) or is_heap(safe) else safe


def renamed_folders(class_names: Sequence[str]) -> list[str]:
    """List the classes, and the unsure images, whose folder has another name, a line each.

    Example:
        >>> renamed_folders(["ant", "a/b", "unsure"])
        ["Class 'a/b' is in the folder a_b.", 'Unsure images are in the folder unsure_2.']
    """
    folders, unsure = class_folders(class_names)
    lines = [
        f"Class {name!r} is in the folder {folder}." for name, folder in folders.items() if name != folder
    ]
    return lines + [f"Unsure images are in the folder {unsure}."] * (unsure != UNSURE)


def check_sort_folder(folder: Path, inputs: Sequence[str], output: Path) -> None:
    """Refuse a folder for sorted images that holds something, or lies where the images do.

    Args:
        folder: The folder; it need not exist.
        inputs: What the images are read from.
        output: File of the predictions, which is written before the folder is.

    Raises:
        CheckpointError: It is not empty, cannot be made, lies in an input, or is to hold the output.

    Example:
        >>> check_sort_folder(Path("/tmp/sorted"), ["photos"], Path("/tmp/predictions.csv"))
    """
    if output.resolve().is_relative_to(folder.resolve()):
        raise CheckpointError(
            f"{output} lies in {folder}, which must be empty when the images are sorted into it.\n"
            "Write the predictions beside it, with `output`."
        )
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise CheckpointError(
            f"{folder} is not empty, and files in it are never replaced.\n"
            "Name another folder with `sort_into`, or move it away."
        )
    check_output_dir(folder, overwrite=False)
    for one in inputs:
        if Path(one).is_dir() and folder.resolve().is_relative_to(Path(one).resolve()):
            raise CheckpointError(
                f"{folder} lies in {one}, whose images would then be there twice.\n"
                "Name a folder outside of it with `sort_into`."
            )


def sort_into(
    folder: Path,
    images: ImageSplit,
    predictions: Iterable[pa.Table],
    class_names: Sequence[str],
    min_confidence: float,
) -> None:
    """Copy each image into the folder of its likeliest class, as the bytes that it has.

    Args:
        folder: Where the class folders shall be; it is there with all of them or not at all.
        images: The images.
        predictions: Their predictions, in tables in the same order; broken images are not copied.
        class_names: Names of the classes, no two alike.
        min_confidence: Probability below which an image goes into the folder "unsure".

    Raises:
        CheckpointError: The folder was filled meanwhile, or an image can no longer be read.

    Example:
        >>> sort_into(Path("sorted"), images, parts.tables(), ("ant", "bee"), 0.8)  # doctest: +SKIP
    """
    folders, unsure = class_folders(class_names)
    taken = {name: DistinctNames() for name in [*folders.values(), unsure]}
    with atomic_folder(folder) as staged:
        for row, encoded, name, probability in _predicted(images, predictions):
            place = unsure if probability < min_confidence else folders[name]
            (staged / place).mkdir(exist_ok=True)
            _copy(encoded, staged / place, safe_name(_file_name(row, encoded)), taken[place])


def _predicted(
    images: ImageSplit, predictions: Iterable[pa.Table]
) -> Iterator[tuple[int, Encoded, str, float]]:
    """Position, content, likeliest class and its probability of each image that could be decoded."""
    start = 0
    for table in predictions:
        rows = range(start, start + table.num_rows)
        start = rows.stop
        columns = (table[name].to_pylist() for name in ("class_1", "probability_1"))
        for row, encoded, name, probability in zip(rows, images.encoded(rows), *columns, strict=True):
            if encoded is not None and name is not None:
                yield row, encoded, name, probability


def _file_name(row: int, encoded: Encoded) -> str:
    if encoded["path"]:
        return Path(encoded["path"]).name
    with Image.open(io.BytesIO(encoded["bytes"])) as image:
        return f"{row:06d}.{(image.format or 'img').lower().replace('jpeg', 'jpg')}"


def _copy(encoded: Encoded, folder: Path, name: str, taken: DistinctNames) -> None:
    """Copy an image to a file that is not there yet."""
    data, path = encoded["bytes"], encoded["path"]
    try:
        data = Path(path).read_bytes() if data is None else data
    except OSError as cause:
        raise CheckpointError(
            f"{path} can no longer be read: {cause.strerror}.\n"
            "Nothing was sorted; mend that, then run again with `resume=True`."
        ) from cause
    while True:
        target = folder / taken.take(name)
        try:
            with target.open("xb") as copy:
                copy.write(data)
        except FileExistsError:  # on a file system that takes two names for the same that we do not
            continue
        if encoded["bytes"] is None:
            shutil.copystat(path, target)
        return
