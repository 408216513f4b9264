"""Find the folder that the names of files start from, so that what is written holds no paths above it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lort_hub.data.dataset import ImageSplit
from lort_hub.files import cache_path


def with_root(splits: Sequence[ImageSplit]) -> list[ImageSplit]:
    """Add to splits the folder that the names of their files start from.

    Args:
        splits: All splits of a data set.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> with_root([load_long_tailed("digits").test])[0].root
        '.'
    """
    root = str(_root(Path(splits[0].dataset), splits))
    return [replace(split, root=root) for split in splits]


def _root(source: Path, splits: Sequence[ImageSplit]) -> Path:
    """The data folder, a list's, or the one that an archive or the Hub's files lie in, or all files do."""
    folder = source if source.is_dir() else source.parent
    inside = {file.rpartition("/")[0] for split in splits for file in split.files() if file}
    if not inside or not all(Path(one).is_absolute() for one in inside):
        return folder
    common = Path(os.path.commonpath(inside))
    archives = cache_path("archives")
    for unpacked in (archives, archives.resolve()):  # which may lie beside the archive
        if common != unpacked and common.is_relative_to(unpacked):
            return unpacked / common.relative_to(unpacked).parts[0]
    if common.is_relative_to(folder):
        return folder
    snapshot = [at for at, part in enumerate(common.parts) if part == "snapshots"]  # of the Hub's cache
    return Path(*common.parts[: snapshot[-1] + 2]) if snapshot else common
