"""Read the tables and archives of a split so that no image counts twice: refuse copies of a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lort_hub.data.dataset import ImageSplit
from lort_hub.data.overlap import number_contents, sizes_of
from lort_hub.data.request import Request
from lort_hub.data.tables.column_names import is_label
from lort_hub.data.tables.columns import find_image_column
from lort_hub.data.tables.encoded import read_table
from lort_hub.data.tables.saved import read_webdataset
from lort_hub.errors import DatasetError

if TYPE_CHECKING:
    import datasets

FEW = 5
"""Images of a shard below which it may hold nothing but what another one holds too."""


def files_once(files: Iterable[Path]) -> list[Path]:
    """Leave out the links to files that are there too.

    Example:
        >>> files_once([Path("train.parquet"), Path("train.parquet")])
        [PosixPath('train.parquet')]
    """
    files = list(dict.fromkeys(files))
    kept = {file.resolve(): file for file in sorted(files, key=Path.is_symlink, reverse=True)}
    return [file for file in files if kept[file.resolve()] == file]


def read_tables(
    files: Sequence[Path], request: Request, features: datasets.Features | None = None
) -> tuple[datasets.Dataset, list[str]]:
    """Read the tables of a split, none of which is a copy of another one.

    Tables of the same images whose labels differ are both read.

    Args:
        files: The files, in order.
        request: The arguments of `load_long_tailed`.
        features: Types of the columns where a file does not say them itself; None to see them.

    Returns:
        Their rows, and notes on tables of the same images.

    Raises:
        DatasetError: A file is damaged, holds no image but those of another one, or does not belong there.

    Example:
        >>> files = [Path("train.parquet"), Path("train-extra.parquet")]
        >>> read_tables(files, Request("photos"))  # doctest: +SKIP
        (Dataset({features: ['image', 'label'], num_rows: 1000}), [])
    """
    rows = read_table(files, features)
    if len(files) < 2:
        return rows, []
    parts = {file: read_table([file], features) for file in files}
    return rows, _check_copies(parts, request)


def read_shards(files: Sequence[Path]) -> datasets.Dataset:
    """Read the WebDataset archives of a split, none of which is a copy of another one.

    Args:
        files: The .tar files, in order.

    Raises:
        DatasetError: They are damaged, do not belong together, or one holds no image but those of another.

    Example:
        >>> read_shards([Path("train-000000.tar")])  # doctest: +SKIP
        Dataset({features: ['jpg', 'cls'], num_rows: 1000})
    """
    rows = read_webdataset(files)
    if len(files) > 1:
        numbers: dict[Path, list[int]] = {}
        for row, url in enumerate(rows["__url__"][:]):
            numbers.setdefault(Path(url), []).append(row)
        _check_copies({file: rows.select(own) for file, own in numbers.items()}, Request(""))
    return rows


def _check_copies(parts: Mapping[Path, datasets.Dataset], request: Request) -> list[str]:
    """Refuse files all images of which are in another one, byte for byte, unless they are shards of a set.

    Those with other labels there are left to the user, with a note.
    """
    try:
        splits = {file: _split(rows, request.image_column) for file, rows in parts.items() if len(rows)}
    except DatasetError:  # columns are a later matter
        return []
    pairs, noted = _alike(splits), dict[frozenset[Path], str]()
    likely = list(dict.fromkeys(file for pair in pairs for file in pair))
    numbers = number_contents(*(splits[file] for file in likely)) if likely else []
    contents = {file: of.tolist() for file, of in zip(likely, numbers, strict=True)}
    for file, other in pairs:
        if set(contents[file]) <= set(contents[other]):
            names = set(parts[file].column_names) & set(parts[other].column_names)
            names = {one for one in names if one == request.label_column or is_label(one)}
            labelled = [_labelled(contents[one], parts[one], names) for one in (file, other)]
            if labelled[0] <= labelled[1]:
                raise DatasetError(
                    f"All {len(splits[file]):,} images of '{file}' are in '{other}' too, byte for byte, and "
                    "both are of one split.\n"
                    f'Take one of them away, or give the one to read, e.g. `dataset="{other}"`; rows that '
                    "are meant to be there twice have to be put into one file."
                )
            noted.setdefault(
                frozenset((file, other)),
                f"{file.name} and {other.name} hold the same images with other labels: both are read.",
            )
    return list(noted.values())


def _labelled(
    contents: Sequence[int], rows: datasets.Dataset, names: Iterable[str]
) -> set[tuple[object, ...]]:
    """Numbers of the images, each with what the columns of labels say of it."""
    columns = [map(repr, rows[name][:]) for name in sorted(names)]
    return set(zip(contents, *columns, strict=True))


def _alike(splits: Mapping[Path, ImageSplit]) -> list[tuple[Path, Path]]:
    """Pairs of files by the sizes of their images: all sizes of the first are sizes in the second."""
    sizes = {file: set(sizes_of(split)) - {0} for file, split in splits.items()}
    holders: dict[int, set[Path]] = {}
    for file, own in sizes.items():
        for size in own:
            holders.setdefault(size, set()).add(file)
    pairs = []
    for file, own in sizes.items():
        others = set(splits) - {file} if own else set()
        for size in own:
            others &= holders[size]
        pairs += [(file, one) for one in sorted(others) if not _are_shards(file, one, len(splits[file]))]
    return pairs


def _split(rows: datasets.Dataset, image_column: str | None) -> ImageSplit:
    labels = np.zeros(len(rows), dtype=np.int64)
    return ImageSplit.of_rows(rows, labels, find_image_column(rows, image_column))


def _are_shards(one: Path, other: Path, images: int) -> bool:
    """Whether two files are called as parts of one set, by a number of a known total or, if small, by any."""
    in_set, by_number = r"\d+(?=[-_]of[-_]\d+\.\w+$)", r"\d+"
    patterns = (in_set, by_number) if images < FEW else (in_set,)
    return any(re.sub(pattern, "0", str(one)) == re.sub(pattern, "0", str(other)) for pattern in patterns)
