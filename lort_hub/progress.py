"""Count images on a progress bar."""

from __future__ import annotations

import sys
from typing import Any


def image_bar(total: int, title: str) -> Any:
    """Make a progress bar of images on the first process; in a log it writes a line a minute.

    Args:
        total: Number of images.
        title: What is counted.

    Example:
        >>> with image_bar(2, "images") as progress:
        ...     progress.update(2)
    """
    from accelerate.utils import tqdm

    interval = 0.1 if sys.stderr.isatty() else 60
    return tqdm(total=total, desc=title, unit="img", mininterval=interval, delay=interval)
