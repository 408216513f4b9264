"""Count the images that no row of a list names, beside those that rows name and in folders of their own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lort_hub.data.decoding import image_suffixes
from lort_hub.data.image_folder.names import is_companion
from lort_hub.data.tables.labels import shown
from lort_hub.data.tables.matched import MatchedList
from lort_hub.data.tables.splits import split_in_name, stem_of_shard


def note_unnamed(matched: Sequence[MatchedList], named: set[Path]) -> list[str]:
    """Say how many images no row names, in notes.

    Folders of masks are not meant, nor those of another split than the lists are called as.

    Args:
        matched: The lists.
        named: The files that their rows name.

    Example:
        >>> note_unnamed([], set())
        []
    """
    lists, notes = shown([one.listed.path.name for one in matched]), []
    if beside := _beside(named):
        notes.append(f"{len(beside):,} images have no row in {lists}, such as {beside[0]}.")
    if folders := _elsewhere(matched, named):
        count = f"{folders.total():,} images lie in other folders than those of {lists}"
        notes.append(f"{count}, and are not read: {shown(sorted(folders), 4)}.")
    return notes


def _beside(named: set[Path]) -> list[str]:
    """Images in the folders of the named ones."""
    suffixes = image_suffixes()
    folders = sorted({file.parent for file in named})
    beside = (path for folder in folders for path in sorted(folder.iterdir()))
    return [
        path.name
        for path in beside
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path not in named
    ]


def _elsewhere(matched: Sequence[MatchedList], named: set[Path]) -> Counter[str]:
    """Number of images in each of the other folders."""
    called = {split_in_name(stem_of_shard(one.listed.path.name)) for one in matched}
    used = {os.path.realpath(folder) for folder in {file.parent for file in named}}
    others: Counter[str] = Counter()
    for images in dict.fromkeys(one.images.listed_by or one.images for one in matched):
        for path in images.files:
            root, *folders = images.folders_of(path)
            is_other = None not in called and images.split_of(path) not in (None, *called)
            if not is_other and not any(map(is_companion, folders)):
                others["/".join(folders) or root] += os.path.realpath(os.path.dirname(path)) not in used  # noqa: PTH120
    return +others
