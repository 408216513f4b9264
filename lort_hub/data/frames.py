"""Say which pictures hold several frames or pages, of which the first is read."""

from __future__ import annotations

import io

from PIL import Image

from lort_hub.data.dataset import ImageSplit
from lort_hub.data.decoding import Encoded, is_empty, register_heif

ONE_PICTURE = ("MPO", "ICO", "ICNS", "HEIF", "AVIF", "PSD")
"""Formats whose further frames are previews, layers or other sizes of the first."""


def frames_note(split: ImageSplit) -> str | None:
    """Count the pictures of a sample that hold several frames, as stacks and animations do.

    Args:
        split: The images.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> frames_note(load_long_tailed("digits").train) is None
        True
    """
    chosen = split.spaced()
    several = [cell for cell in split.encoded(chosen) if _frames(cell) > 1]
    if not several:
        return None
    such = next((f", such as {cell['path']}" for cell in several if cell and cell["path"]), "")
    return (
        f"{len(several)} of {len(chosen)} sampled images of '{split.name}' hold several frames or "
        f"pages{such}: the first of each is read."
    )


def _frames(encoded: Encoded | None) -> int:
    if encoded is None or is_empty(encoded):
        return 0
    register_heif()
    try:
        source = encoded["path"] if encoded["bytes"] is None else io.BytesIO(encoded["bytes"])
        with Image.open(source) as image:
            return 1 if image.format in ONE_PICTURE else int(getattr(image, "n_frames", 1))
    except Exception:  # decoders raise anything at a damaged image, which is counted elsewhere
        return 0
