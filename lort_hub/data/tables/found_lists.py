"""Find the image files that lists name, in the folders where they may lie."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lort_hub.data.decoding import image_suffixes
from lort_hub.data.formats import advice_on
from lort_hub.data.request import Request
from lort_hub.data.table_files import folders_below
from lort_hub.data.tables.columns import BASE64
from lort_hub.data.tables.file_columns import find_file_column, header_is_row
from lort_hub.data.tables.image_files import ImageFiles
from lort_hub.data.tables.lists import FileList, with_header_as_row
from lort_hub.data.tables.matched import MatchedList
from lort_hub.data.tables.spelling import find_as_spelt, with_files_as_spelt
from lort_hub.data.tables.splits import split_in_name
from lort_hub.errors import DatasetError
from lort_hub.shorten import shown

_PIXELS = re.compile(r"\d+( \d+){40,}")
"""A cell of the pixels of an image."""


def roots_of(asked: Path | None, folder: Path) -> list[Path]:
    """List the folders in which to look for images: the one that was named, or the data folder.

    Raises:
        DatasetError: There is no such folder.

    Example:
        >>> roots_of(None, Path("photos"))
        [PosixPath('photos')]
    """
    if asked is None:
        return [folder]
    root = next((path for path in (asked, folder / asked) if path.is_dir()), None)
    if root is None:
        raise DatasetError(f"No folder '{asked}'.\n`image_root` expects the folder of the images of a list.")
    return [root]


def find_files(
    lists: Sequence[tuple[FileList, str]],
    roots: Sequence[Path],
    request: Request,
    *,
    only: bool,
    as_spelt: bool = False,
) -> list[MatchedList]:
    """Find the files that lists name.

    Args:
        lists: The lists, with their splits.
        roots: Folders in which to look.
        request: The arguments of `load_long_tailed`.
        only: Whether the user named the first list itself, so that none is read where that names no file.
        as_spelt: Whether files are also found where no name of a list is one as it is written.

    Returns:
        The lists that name files.

    Raises:
        DatasetError: Several files fit a name that is written otherwise.

    Example:
        >>> find_files([], [Path("photos")], Request("photos"), only=False)
        []
    """
    matched, images, together = [], ImageFiles(roots), [listed for listed, _ in lists]
    for number, (listed, split) in enumerate(lists):
        own = images if request.image_root else images.beside(listed.path.parent)
        if siblings := _siblings(request.image_root and roots[-1], split):
            own = ImageFiles(siblings)  # the test images of test.csv, not the training images of that name
        column = find_file_column(listed, own, request.image_column, split, together)
        if column and not request.image_column and header_is_row(listed, column, own, split):
            listed = with_header_as_row(listed, column.name)
            column = replace(column, name="file")
        if column and column.share < 1 and not column.refusal:
            listed, column = with_files_as_spelt(listed, column, own, split)
        elif not column and as_spelt:
            listed, column = find_as_spelt(listed, own, request.image_column, split)
        if column:
            matched.append(MatchedList(listed, column, own, split))
        elif number == 0 and only:
            return []
    return matched


def _siblings(root: Path | None, split: str) -> list[Path]:
    """Folders of another split beside the one of the images that was named for the training split."""
    own = split_in_name(root.resolve().name) if root else None
    if root is None or own in (None, split):
        return []
    beside = [path for path in sorted(root.resolve().parent.iterdir()) if path.is_dir()]
    return [path for path in beside if split_in_name(path.name) == split]


def nothing_found(listed: FileList, root: Path) -> DatasetError:
    """Explain why a list names no image, and what to do.

    Example:
        >>> print(nothing_found(FileList(Path("a.csv"), {"url": ["https://a.org/0.jpg"]}), Path("photos")))
        Column 'url' of 'a.csv' holds web addresses, such as https://a.org/0.jpg.
        Download the images first; a list then names their files.
    """
    names = {name: next((cell for cell in cells if cell), "") for name, cells in listed.columns.items()}
    suffixes = image_suffixes()
    likely = [name for name, cell in names.items() if Path(cell).suffix.lower() in suffixes]
    if urls := [name for name, cell in names.items() if "://" in cell]:
        return DatasetError(
            f"Column '{urls[0]}' of '{listed.path}' holds web addresses, such as {names[urls[0]][:60]}.\n"
            "Download the images first; a list then names their files."
        )
    if encoded := [name for name, cell in names.items() if cell.startswith(BASE64)]:
        return DatasetError(
            f"Column '{encoded[0]}' of '{listed.path}' holds images as base64 text.\n"
            "Write each as a file, base64.b64decode(text), and a list of them."
        )
    pixels = [name for name, cell in names.items() if _PIXELS.fullmatch(cell)]
    if pixels or (len(names) > 50 and not likely):
        held = f"has {len(names)} columns and none of files"
        held = f"holds many numbers in a cell of '{pixels[0]}'" if pixels else held
        return DatasetError(
            f"'{listed.path}' {held}: are they pixels?\n"
            "Write each image as a file (PIL.Image.fromarray(array).save('0.png')) and a list of them."
        )
    file = f"'{listed.path}'"
    problem = f"No column of {file} names an image file below '{root}'"
    if likely:
        such = f"names files such as '{names[likely[0]]}', none of which is below '{root}'"
        problem = f"Column '{likely[0]}' of {file} {such}"
    first = next(iter(ImageFiles([root]).files), None)
    below = [] if first else sorted(name for _, names in folders_below(root) for name in names)
    there = f" Images there have names such as '{Path(first).name}'." if first else f" {advice_on(below)}"
    return DatasetError(
        f"{problem}.{there}".rstrip() + "\n"
        f"Its columns: {shown(list(names))}. Name the folder of the images with `image_root`."
    )
