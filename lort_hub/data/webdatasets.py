"""Tell WebDataset shards from other archives, such as class folders with notes beside the pictures."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath

from lort_hub.data.archives import refuse_damage
from lort_hub.data.decoding import image_suffixes
from lort_hub.data.image_folder.names import are_parts
from lort_hub.data.image_folder.tree import SYSTEM_FILES
from lort_hub.data.tables.splits import split_in_name
from lort_hub.errors import DatasetError
from lort_hub.shorten import quoted

NOTES = (".txt", ".xml")
"""Types of what may lie beside each picture without being its label."""
LONGEST_TEXT = 4096


def webdatasets(files: Iterable[Path], label_column: str | None = None) -> list[Path]:
    """Find the WebDataset shards among files: .tar files with members of one stem one after the other.

    Class folders of pictures with a text or boxes beside each are none, unless a column is asked for, or
    another shard holds no such folders.

    Args:
        files: The files.
        label_column: Column of the labels, or None.

    Raises:
        DatasetError: They could be both.

    Example:
        >>> webdatasets([Path("photos.zip")])
        []
    """
    shards = [file for file in files if file.name.lower().endswith(".tar") and _has_samples(file)]
    if label_column is not None:
        return shards
    texts = [_texts_by_class(shard) for shard in shards]
    by_class = [pairs for pairs in texts if pairs is not None]
    if len(by_class) < len(texts):
        return shards
    for shard, pairs in zip(shards, by_class, strict=True):
        _refuse_two_readings(shard, pairs)
    return []


def _has_samples(path: Path) -> bool:
    try:
        with refuse_damage(path), tarfile.open(path) as archive:
            names = [member.name for member, _ in zip(archive, range(16), strict=False) if member.isfile()]
    except DatasetError:
        return False
    ends = [name.rpartition(".")[2] for name in names]  # those of cat.0.jpg and cat.1.jpg are the same
    members = pairwise(zip(map(_key, names), ends, strict=True))
    return any(one[0] == other[0] and one[1] != other[1] for one, other in members)


def _key(name: str) -> str:
    """What the members of one sample have in common."""
    return name.rpartition("/")[0] + "/" + name.rpartition("/")[2].partition(".")[0]


def _texts_by_class(path: Path) -> list[tuple[str, str]] | None:
    """Class folders of a .tar file with the text beside each picture; None where it holds other samples."""
    folders, beside, others = dict[str, str](), list[tuple[str, str]](), set[str]()
    try:
        with refuse_damage(path), tarfile.open(path) as archive:
            for member in filter(tarfile.TarInfo.isfile, archive):
                name = PurePosixPath(member.name)
                suffix, key = name.suffix.lower(), _key(member.name)
                if name.name.startswith(".") or name.name.lower() in SYSTEM_FILES:
                    continue
                if suffix in image_suffixes():
                    way = [part for part in name.parts[:-1] if not split_in_name(part)]
                    folders[key] = way[-1] if way else ""
                elif suffix in NOTES:
                    opened = archive.extractfile(member) if suffix == ".txt" else None
                    if opened:
                        beside.append((key, opened.read(LONGEST_TEXT).decode(errors="replace").strip()))
                elif key in folders:
                    return None
                else:
                    others.add(key)
    except DatasetError:
        return None
    classes = sorted(set(folders.values()))
    if len(classes) < 2 or "" in classes or are_parts(classes) or all(map(str.isdigit, classes)):
        return None
    if others & folders.keys():
        return None
    return [(folders[key], text) for key, text in beside if key in folders]


def _refuse_two_readings(path: Path, texts: Sequence[tuple[str, str]]) -> None:
    """Refuse texts that could be the classes as well as their folders."""
    folders, classes = ({pair[k] for pair in texts} for k in (0, 1))
    if 2 <= len(classes) <= len(texts) / 2 and len(set(texts)) > len(folders):
        raise DatasetError(
            f"'{path}' holds class folders, {quoted(sorted(folders))}, and a text beside each picture, "
            f"{quoted(sorted(classes))}: both could be the classes.\n"
            'Unpack it and give the folder, to read the folders; or `label_column="txt"`, to read the texts.'
        )
