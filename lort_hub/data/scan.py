"""Decode every image once, and keep its size, mode and format, a small grey print, or why it is broken."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lort_hub.data.dataset import BadImageError, ImageSplit
from lort_hub.data.decoding import Encoded
from lort_hub.data.image_loader import map_in_threads
from lort_hub.progress import image_bar

PRINT_SIZE = 64
"""Side in pixels of the grey print of an image: 4 KiB, so that a million of them take 4 GB."""
LEAST_SIDE, BATCH = 24, 32


class ImageFacts(NamedTuple):
    """What is kept of one image.

    Attributes:
        width: Pixels in a row, as stored; 0 where the image is broken.
        height: Rows, as stored; 0 where it is broken.
        mode: Pillow's name of its kind of pixels, as stored.
        format: Pillow's name of its file format.
        error: Why it cannot be decoded; empty where it can.
    """

    width: int
    height: int
    mode: str
    format: str
    error: str = ""


@dataclass(frozen=True)
class ImageScan:
    """What is known of the N images of a split after each was decoded once.

    Attributes:
        facts: Of each image.
        prints: Grey prints (N, 64, 64) from black to white, uint8; black where an image is broken or has a
            side of fewer than 24 pixels, which are too few to tell one picture from another.
    """

    facts: tuple[ImageFacts, ...]
    prints: NDArray[np.uint8]


def find_broken(facts: Sequence[ImageFacts]) -> dict[int, str]:
    """Find the images that cannot be decoded: why, by their position.

    Example:
        >>> find_broken([ImageFacts(8, 8, "L", "PNG"), ImageFacts(0, 0, "", "", "it is empty")])
        {1: 'it is empty'}
    """
    return {at: one.error for at, one in enumerate(facts) if one.error}


def scan_images(split: ImageSplit, num_workers: int = 0) -> ImageScan:
    """Decode every image of a split once; a broken one is a finding, no error.

    Args:
        split: The images.
        num_workers: Decoding threads.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> scan = scan_images(load_long_tailed("digits").test.take(range(3)))
        >>> scan.facts[0], scan.prints.shape, find_broken(scan.facts)
        (ImageFacts(width=8, height=8, mode='L', format='PNG', error=''), (3, 64, 64), {})
    """
    facts, prints = list[ImageFacts](), np.zeros((len(split), PRINT_SIZE, PRINT_SIZE), np.uint8)
    batches = [range(start, min(start + BATCH, len(split))) for start in range(0, len(split), BATCH)]
    with image_bar(len(split), f"images of {split.name}") as progress:
        for batch in map_in_threads(partial(_scan, split), batches, num_workers):
            for one, pixels in batch:
                prints[len(facts)] = pixels
                facts.append(one)
            progress.update(len(batch))
    return ImageScan(tuple(facts), prints)


def _scan(split: ImageSplit, indices: Sequence[int]) -> list[tuple[ImageFacts, NDArray[np.uint8] | int]]:
    return [_look(split, *pair) for pair in zip(indices, split.encoded(indices), strict=True)]


def _look(
    split: ImageSplit, index: int, encoded: Encoded | None
) -> tuple[ImageFacts, NDArray[np.uint8] | int]:
    try:
        image = split.decode(index, encoded)
    except BadImageError as error:
        return ImageFacts(0, 0, "", "", error.reason), 0
    assert encoded is not None  # or it would not have been decoded
    grey: NDArray[np.uint8] | int = 0
    if min(image.size) >= LEAST_SIDE:
        grey = np.asarray(image.convert("L").resize((PRINT_SIZE, PRINT_SIZE), Image.Resampling.BOX))
    data = encoded["bytes"]
    with Image.open(encoded["path"] if data is None else io.BytesIO(data)) as stored:  # its header alone
        return ImageFacts(*stored.size, stored.mode, stored.format or ""), grey
