"""Decode pictures of any format and pixel type to 8-bit RGB, and say why one cannot be decoded."""

from __future__ import annotations

import errno
import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from lort_hub.data.formats import LFS_POINTER, is_lfs_pointer

Encoded = dict[str, Any]
"""The bytes of an image, or the path of its file: a cell of datasets' image column."""

MACHINE_ERRORS = (errno.EMFILE, errno.ENFILE, errno.EIO)
"""Reasons that are the machine's, not the image's."""

HEIC_PACKAGE = "HEIC pictures need pillow-heif: pip install '.[heic]' in the clone of lort_hub"
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def decode(encoded: Encoded | None) -> Image.Image:
    """Decode a cell of an image column to RGB, upright.

    Args:
        encoded: Its bytes or path; None for an empty cell.

    Raises:
        Exception: Whatever a decoder raises at a damaged image; `why_not` says it in words.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> Image.new("L", (3, 2)).save(file, "PNG")
        >>> decode({"bytes": file.getvalue(), "path": None}).mode
        'RGB'
    """
    import datasets

    if is_empty(encoded):
        raise ValueError("the cell is empty")
    register_heif()
    with datasets.Image().decode_example(encoded) as image:  # a file of several frames stays open else
        return to_rgb(image)


def is_empty(encoded: Encoded | None) -> bool:
    """Return whether a cell holds no image at all.

    Example:
        >>> is_empty(None), is_empty({"bytes": None, "path": None}), is_empty({"bytes": b"x", "path": None})
        (True, True, False)
    """
    return encoded is None or (encoded["bytes"] is None and not encoded["path"])


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB.

    Greys of more than 8 bits follow one rule for every image of a data set, so that brightness keeps its
    meaning: whole numbers are 0 (black) to 65535 (white), floating-point numbers 0 to 1.

    Args:
        image: The image.

    Raises:
        ValueError: Pixels outside that range.

    Example:
        >>> to_rgb(Image.new("I;16", (1, 1), 65535)).getpixel((0, 0))
        (255, 255, 255)
        >>> to_rgb(Image.new("F", (1, 1), 0.5)).getpixel((0, 0))
        (128, 128, 128)
    """
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        _check_range(values, "whole numbers", 65535)
        image = Image.fromarray((values // 256).astype(np.uint8))
    elif image.mode == "F":
        values = np.asarray(image)
        _check_range(values, "floating-point numbers", 1)
        image = Image.fromarray((values * 255).round().astype(np.uint8))
    return image.convert("RGB")


def _check_range(values: np.ndarray[Any, Any], kind: str, white: int) -> None:
    least, most = values.min(), values.max()
    if not (least >= 0 and most <= white):  # not a number is neither
        raise ValueError(
            f"its pixels are {kind} from {least:g} to {most:g}, expected 0 (black) to {white} (white). "
            "Scale all pictures of the data set alike and save them with 8 or 16 bits"
        )


def why_not(cause: Exception, encoded: Encoded | None) -> str:
    """Say in words why an image cannot be decoded.

    Args:
        cause: What `decode` raised.
        encoded: The image.

    Example:
        >>> why_not(FileNotFoundError(2, "No such file"), {"bytes": None, "path": "gone.jpg"})
        'no such file'
    """
    if isinstance(cause, FileNotFoundError):
        return "no such file"
    if isinstance(cause, UnidentifiedImageError):
        if encoded is not None and encoded["path"] and is_lfs_pointer(Path(encoded["path"])):
            return LFS_POINTER
        if _is_heif(encoded) and not register_heif():
            return HEIC_PACKAGE
        return "it is not a picture that Pillow can read"
    if "Decompressed data too large" in str(cause) or "Too much memory used for text" in str(cause):
        return (
            "the picture is whole, but the text stored with it is longer than Pillow's limit "
            "(PIL.PngImagePlugin.MAX_TEXT_CHUNK). Save it without its text"
        )
    message = str(cause).strip()
    return (
        message
        if message and isinstance(cause, (OSError, ValueError))
        else f"{type(cause).__name__} {message}".strip()
    )


def _is_heif(encoded: Encoded | None) -> bool:
    if encoded is None:
        return False
    path = str(encoded["path"] or "").lower()
    return path.endswith((".heic", ".heif", ".hif")) or (encoded["bytes"] or b"")[8:12] in HEIF_BRANDS


def opens(data: bytes) -> bool:
    """Return whether Pillow knows some bytes as a picture.

    Example:
        >>> opens(b"no picture")
        False
    """
    register_heif()
    try:
        Image.open(io.BytesIO(data)).close()
    except Exception:  # decoders raise anything at what is no image
        return False
    return True


@cache
def register_heif() -> bool:
    """Let Pillow read HEIC pictures where pillow-heif is installed; return whether it is.

    Example:
        >>> register_heif() in (True, False)
        True
    """
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


@cache
def image_suffixes() -> frozenset[str]:
    """List the extensions of images: those that Pillow reads, and HEIC.

    Example:
        >>> ".jpg" in image_suffixes()
        True
    """
    Image.init()
    readable = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
    return frozenset(readable | {".heic", ".heif", ".hif"}) - {".pdf", ".mpg", ".mpeg", ".h5", ".hdf"}
