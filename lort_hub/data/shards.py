"""Sort the tables and archives of a folder into splits, and see whether all shards of each are there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lort_hub.data.copied_files import files_once
from lort_hub.data.image_folder.names import kind_of
from lort_hub.data.request import Request
from lort_hub.data.spec import parse_spec
from lort_hub.data.tables.configurations import Configuration, sets_by_name
from lort_hub.data.tables.splits import note_joined, split_of_file, stem_of_shard
from lort_hub.errors import DatasetError
from lort_hub.shorten import shown

_SHARD = re.compile(r"(.*?)(\d+)([-_]of[-_])(\d{1,6})(-[0-9a-f]{8,})?([ (].*)?\.\w+")
"""What the shards of a set are called, maybe with a checksum, and a mark such as (1) where it is a copy."""


def files_by_split(
    files: Sequence[Path], folder: Path, configuration: Configuration, request: Request
) -> tuple[dict[str, list[Path]], list[str]]:
    """Sort files into splits, by the patterns of README.md or else by their names.

    Args:
        files: The tables or archives.
        folder: The folder of the configuration.
        configuration: What README.md says of its files.
        request: The arguments of `load_long_tailed`.

    Returns:
        Files by split, and notes on how they were sorted.

    Raises:
        DatasetError: Shards of the training or the test split are missing, and the data set is not one of the
            Hub, which has no others.

    Example:
        >>> files = [Path("d/train-0.parquet"), Path("d/dev.parquet")]
        >>> splits, notes = files_by_split(files, Path("d"), Configuration("d"), Request("d"))
        >>> {split: [file.name for file in of] for split, of in splits.items()}
        {'train': ['train-0.parquet'], 'validation': ['dev.parquet']}
    """
    listed = by_pattern(files, folder, configuration)
    splits = listed or _by_name(files, folder)
    notes = note_joined(splits)
    sets = [] if listed else list(sets_by_name(file.relative_to(folder).as_posix() for file in files))
    if len(sets) > 1:
        notes.append(
            f"The tables of {shown(sets)} are read as one set: where they are several, "
            f'`dataset="{request.spec}:{sets[0]}"` reads one.'
        )
    for split, of in splits.items():
        for there, total, missing in _incomplete(of):
            lost = [file for file in missing if not file.exists()]
            if listed:
                lost = [file for own in by_pattern(lost, folder, configuration).values() for file in own]
            if lost and _is_used(split, splits, request) and not parse_spec(request.spec).repo_id:
                raise DatasetError(
                    f"Split '{split}' of '{folder}': {there:,} of {total:,} shards are here, and there is no "
                    f"{shown([file.name for file in lost], 3)}.\n"
                    "Download what is missing; or, to read what is here, put it into a folder of its own, "
                    "without the number of all shards in its names."
                )
            notes += _notes(split, there, total, lost)
    return splits, notes


def note_shards(split: str, files: Sequence[Path]) -> list[str]:
    """Say in notes which shards of a split are not read, where the user named the files.

    Example:
        >>> note_shards("train", [Path("train-0-of-2.parquet")])
        ["Split 'train' is read from 1 of 2 shards, without train-1-of-2.parquet."]
    """
    return [note for there, total, lost in _incomplete(files) for note in _notes(split, there, total, lost)]


def _notes(split: str, there: int, total: int, lost: Sequence[Path]) -> list[str]:
    names = shown([file.name for file in lost], 3)
    return [f"Split '{split}' is read from {there:,} of {total:,} shards, without {names}."] if lost else []


def _incomplete(files: Sequence[Path]) -> Iterator[tuple[int, int, list[Path]]]:
    """How many shards of each set are there, of how many, and those that are not."""
    sets: dict[tuple[str, int], list[tuple[Path, re.Match[str]]]] = {}
    for file in files:
        if called := _SHARD.fullmatch(file.name):
            sets.setdefault((called[1], int(called[4])), []).append((file, called))
    for (start, total), shards in sets.items():
        numbers = {int(called[2]) for _, called in shards}
        file, called = shards[0]
        first = int(total in numbers and 0 not in numbers)
        lost = [
            file.with_name(f"{start}{number:0{len(called[2])}}{called[3]}{called[4]}{file.suffix}")
            for number in range(first, first + total)
            if number not in numbers
        ]
        yield total - len(lost), total, lost


def _is_used(split: str, splits: Mapping[str, Sequence[Path]], request: Request) -> bool:
    """Whether a split is trained on or tested on, so far as names tell."""
    kinds = {kind_of(one) for one in splits}
    used = (
        request.train_split or "train",
        request.test_split or ("test" if "test" in kinds else "validation"),
    )
    return len(splits) == 1 or split in used or (kind_of(split) or "") in map(kind_of, used)


def by_pattern(files: Sequence[Path], folder: Path, configuration: Configuration) -> dict[str, list[Path]]:
    """Sort files into splits as README.md lists them; none where it lists none that are there.

    Args:
        files: The files.
        folder: The folder of the configuration.
        configuration: What README.md says of its files.

    Example:
        >>> by_pattern([Path("d/a.csv")], Path("d"), Configuration("d", patterns={"train": ("a.*",)}))
        {'train': [PosixPath('d/a.csv')]}
    """
    below = {f"{configuration.folder}/{file.relative_to(folder)}".strip("/"): file for file in files}
    listed = configuration.files(below) or {}
    return {split: files_once(below[name] for name in of) for split, of in listed.items() if of}


def _by_name(files: Sequence[Path], folder: Path) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(split_of_file(file.relative_to(folder)) or "", []).append(file)
    if set(splits) == {""}:
        return {"train": files_once(splits[""])}
    for file in splits.pop("", []):
        splits.setdefault(stem_of_shard(file.name), []).append(file)
    return {split: files_once(of) for split, of in splits.items()}
