"""Walk a folder of pictures: list every picture below it, and count every other file with the reason.

Links are followed, but no folder is listed twice; hidden folders, system files and lort_hub's own output
folders are no data. What Pillow opens is a picture: usual extensions are believed, other files are opened.
"""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from typing import NamedTuple

from PIL import Image

from lort_hub.data.decoding import HEIC_PACKAGE, register_heif
from lort_hub.errors import DatasetError
from lort_hub.files import RECORDS

USUAL = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".gif",
        ".bmp",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    ]
)
CAMERA_RAW = frozenset(
    [".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"]
)
PICTURE_TYPES = CAMERA_RAW | frozenset(
    [".heic", ".heif", ".hif", ".avif", ".jxl", ".svg", ".eps", ".ai", ".djvu", ".exr", ".dcm"]
)
"""Types of pictures that Pillow may be unable to open."""
HEIF = frozenset([".heic", ".heif", ".hif"])
NOT_DECODED = frozenset(["BUFR", "GRIB", "HDF5", "MPEG", "WMF", "EPS", "IPTC", "MCIDAS"])
"""Formats that Pillow recognises but does not decode by itself."""
SYSTEM_FILES = frozenset([".ds_store", "thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"])
SYSTEM_FOLDERS = frozenset(
    ("__macosx", ".ipynb_checkpoints", ".git", ".cache", "__pycache__", "lost+found", "$recycle.bin")
) | {"system volume information", "@eadir", "@tmp", "@recycle", "#recycle", "#snapshot"}
"""Folders of systems, their programs and network disks, in small letters."""

NO_IMAGE = "no image"
HIDDEN = "hidden"
SYSTEM = "system file"
BROKEN_LINK = "broken link"
READ_ELSEWHERE = "link to a folder that is read elsewhere"
OUTPUT_FOLDER = "output folder of lort_hub"
NOT_OPENED = "a picture that Pillow cannot open"
HEIF_NOT_OPENED = f"{NOT_OPENED}: {HEIC_PACKAGE}"
DICOM_NOT_OPENED = f"{NOT_OPENED}: DICOM, to be written as PNG"


class Passed(NamedTuple):
    """A kind of files that are not read: those of one extension, for one reason."""

    extension: str
    reason: str


@dataclass(eq=False)
class Folder:
    """A folder with what lies in it.

    Attributes:
        name: Its name, printable.
        path: Where it lies, as the system spells it.
        pictures: Names of the pictures in it, sorted, as the system spells them.
        folders: The folders in it, sorted by name.
        passed: Number of the other files in it, by kind.
        examples: Name of one of each kind.
        total: Number of pictures in it and below it.
    """

    name: str
    path: str
    pictures: list[str] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    passed: Counter[Passed] = field(default_factory=Counter)
    examples: dict[tuple[str, str], str] = field(default_factory=dict)
    total: int = 0

    @property
    def filled(self) -> list[Folder]:
        """The folders in it that have a picture, in them or below."""
        return [folder for folder in self.folders if folder.total]

    def below(self) -> Iterator[Folder]:
        """Walk the folder itself and all below it, each before those in it, in the order of their names."""
        waiting = [self]
        while waiting:
            folder = waiting.pop()
            yield folder
            waiting.extend(reversed(folder.folders))

    def pass_over(self, name: str, reason: str, extension: str | None = None) -> None:
        """Count a file that is not read."""
        kind = Passed(extension_of(name) if extension is None else extension, reason)
        self.passed[kind] += 1
        self.examples.setdefault(kind, printable(name))


def list_pictures(path: str) -> Folder:
    """List a folder and all below it.

    Args:
        path: The folder.

    Raises:
        DatasetError: It, or a folder below it, cannot be listed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> photos = Path(tempfile.mkdtemp())
        >>> (photos / "ant").mkdir()
        >>> for name in ("0.jpg", "0.txt", ".DS_Store"):
        ...     _ = (photos / "ant" / name).write_text("")
        >>> ant, = list_pictures(str(photos)).folders
        >>> ant.pictures, [(kind.extension, kind.reason) for kind in ant.passed]
        (['0.jpg'], [('', 'system file'), ('.txt', 'no image')])
    """
    root, seen = Folder(printable(os.path.basename(path)), path), set[tuple[int, int]]()  # noqa: PTH119
    listed, real, links = list[Folder](), [(root, root)], deque[tuple[Folder, Folder]]()
    while real or links:  # links wait until all real folders are listed
        parent, folder = real.pop() if real else links.popleft()
        if (key := _key(folder.path)) in seen:
            parent.pass_over(folder.name, READ_ELSEWHERE, "folder")
            continue
        seen.add(key)
        entries = _entries(folder.path)
        if folder is not root:
            if any(entry.name in RECORDS for entry in entries) and is_output(folder.path):
                parent.pass_over(folder.name, OUTPUT_FOLDER, "folder")
                continue
            parent.folders.append(folder)
        listed.append(folder)
        for entry in entries:
            if _leads_to(entry.is_dir):
                child = Folder(printable(entry.name), entry.path)
                if entry.name.lower() in SYSTEM_FOLDERS:
                    folder.pass_over(entry.name, SYSTEM, "folder")
                elif entry.name.startswith("."):
                    _count_hidden(folder, child)
                else:
                    (links if entry.is_symlink() else real).append((folder, child))
            elif reason := _why_not(entry):
                folder.pass_over(entry.name, reason)
            else:
                folder.pictures.append(entry.name)
    for folder in reversed(listed):  # those below come before those above
        folder.folders.sort(key=attrgetter("name"))
        folder.total = len(folder.pictures) + sum(inner.total for inner in folder.folders)
    return root


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=attrgetter("name"))
    except OSError as cause:
        raise DatasetError(
            f"Cannot list '{printable(path)}': {cause.strerror}.\n"
            "Mend its permissions, or move it out of the data folder."
        ) from cause


def _count_hidden(parent: Folder, hidden: Folder) -> None:
    for _, _, names in os.walk(hidden.path):
        for name in names:
            parent.pass_over(f"{hidden.name}/{name}", HIDDEN)


def _key(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _leads_to(is_kind: Callable[[], bool]) -> bool:
    try:
        return is_kind()
    except OSError:  # links in a circle
        return False


def _why_not(entry: os.DirEntry[str]) -> str | None:
    """Why a file is not read; None where it is."""
    if entry.name.lower() in SYSTEM_FILES or entry.name.startswith("._"):
        return SYSTEM
    if entry.name.startswith("."):
        return HIDDEN
    if not _leads_to(entry.is_file):
        return BROKEN_LINK if entry.is_symlink() else NO_IMAGE
    if is_picture(entry.path):
        return None
    extension = extension_of(entry.name)
    if extension in HEIF:
        return HEIF_NOT_OPENED
    if not extension.strip(".0123456789") and _is_dicom(entry.path):
        return DICOM_NOT_OPENED
    return NOT_OPENED if extension in PICTURE_TYPES else NO_IMAGE


def _is_dicom(path: str) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def is_no_data(folder: str) -> bool:
    """Tell by its name whether a folder is hidden or one of the system, and holds no data.

    Example:
        >>> is_no_data(".cache"), is_no_data("$RECYCLE.BIN"), is_no_data("recycle")
        (True, True, False)
        >>> is_no_data("recycler")  # which may be a class
        False
    """
    return folder.startswith(".") or folder.lower() in SYSTEM_FOLDERS


def is_picture(path: str) -> bool:
    """Tell whether a file is a picture: by a usual extension, else by whether Pillow opens it.

    Example:
        >>> is_picture("photo.JPG"), is_picture("/nonexistent/photo")
        (True, False)
    """
    extension = extension_of(path)
    return extension in USUAL or (extension not in CAMERA_RAW and _is_opened(path, extension))


def is_output(path: str) -> bool:
    """Tell whether a folder was written by a recipe of lort_hub."""
    for name in RECORDS:
        no_record = suppress(OSError, ValueError, KeyError, TypeError, RecursionError)
        with no_record, open(f"{path}/{name}", "rb") as file:  # noqa: PTH123
            return "lort_hub" in json.load(file)["environment"]["versions"]
    return False


def extension_of(name: str) -> str:
    """Take the extension of a file name, in lower case, with its dot; empty where there is none.

    Example:
        >>> extension_of("a.b.JPG"), extension_of("README"), extension_of(".hidden")
        ('.jpg', '', '')
    """
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def _is_opened(path: str, extension: str) -> bool:
    """Whether Pillow opens a file, which it is asked only where the first bytes look like a format's."""
    try:
        with open(path, "rb") as file, warnings.catch_warnings():  # noqa: PTH123
            prefix = file.read(16).ljust(16, b"\0")
            likely = [name for name, accepts in _formats().items() if accepts(prefix) is True]
            likely += _UNMARKED.get(extension, [])
            warnings.simplefilter("ignore")  # of its size, which is a matter of decoding
            return bool(likely) and bool(Image.open(file, formats=likely))
    except Image.DecompressionBombError:
        return True
    except Exception:  # plugins raise anything at what is not theirs
        return False


@cache
def _formats() -> dict[str, Callable[[bytes], bool | str]]:
    """Tests of a file's first bytes, by format."""
    Image.init()
    register_heif()
    tests = {name: accepts for name, (_, accepts) in Image.OPEN.items() if name not in NOT_DECODED}
    return {name: accepts for name, accepts in tests.items() if accepts is not None}


_UNMARKED = {".tga": ["TGA"], ".pcd": ["PCD"], ".im": ["IM"]}
"""Formats that have no first bytes of their own, by extension."""


def printable(name: str) -> str:
    r"""Decode a file name to text: bytes that are not UTF-8 as Latin-1, the other usual encoding of names.

    Example:
        >>> printable("caf\udce9"), printable("café")
        ('café', 'café')
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(name).decode("latin-1")
    return name
