"""Find images of the same content, and those that a training and a test split share."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lort_hub.data.dataset import Duplicate, ImageSplit
from lort_hub.errors import DatasetError
from lort_hub.files import write_csv
from lort_hub.spreadsheets import make_harmless

TAIL = 4096
"""Bytes at the end of an image, which tell most images of one size apart."""
BATCH = 1000
OnDuplicate = Literal["keep", "drop"]


def number_contents(*splits: ImageSplit) -> list[NDArray[np.int64]]:
    """Number images so that those with the same bytes have the same number, in whatever split they are.

    Images of a size that no other has are not read, and only those that end alike are read whole.

    Args:
        splits: The images.

    Returns:
        Numbers (N,) of the images of each split.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> few = load_long_tailed("digits").test.take(range(4))
        >>> [numbers.tolist() for numbers in number_contents(few, few.take([3, 1]))]
        [[0, 1, 2, 3], [3, 1]]
    """
    first = np.cumsum([0, *map(len, splits)]).tolist()
    sizes = [size for split in splits for size in sizes_of(split)]
    keys: dict[int, Hashable] = {at: size for at, size in enumerate(sizes) if size}
    for part_of in (_tail, _checksum):
        keys = _repeated(keys)
        for split, start, end in zip(splits, first, first[1:], strict=False):
            own = [at - start for at in keys if start <= at < end]
            for at, content, path in _read(split, own):
                keys[at + start] = keys[at + start], part_of(content, path)
    numbers, known = np.arange(first[-1]), dict[Hashable, int]()
    for at, key in _repeated(keys).items():
        numbers[at] = known.setdefault(key, at)
    return np.split(numbers, first[1:-1])


def are_in(split: ImageSplit, other: ImageSplit) -> NDArray[np.bool_]:
    """Mark the images (N,) of a split that are in another one too, byte for byte."""
    assert split.contents is not None
    assert other.contents is not None
    return np.isin(split.contents, other.contents)


def list_duplicates(train: ImageSplit, test: ImageSplit) -> tuple[Duplicate, ...]:
    """List the images that are used for training and for the test, those of the same content together.

    Args:
        train: The training images, with their contents.
        test: The test images, with theirs.

    Raises:
        DatasetError: They are the same files.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> few = load_long_tailed("digits").test.take(range(3))
        >>> [one.row for one in list_duplicates(few.take([0, 1]), few.take([1, 2]))]
        [1, 1]
    """
    chosen = {"training": (train, are_in(train, test)), "test": (test, are_in(test, train))}
    found, files = _described(chosen)
    if same := sorted(files["training"] & files["test"]):
        others = (
            "Unpack the test images where others of these names are meant. " if len(same) == len(test) else ""
        )
        raise DatasetError(
            f"{len(same):,} training images are test images, the same files, e.g. {same[0]}.\n"
            f'{others}Name other splits, or leave them out of the training with `on_duplicate="drop"`.'
        )
    return found


def note_other_classes(splits: Sequence[ImageSplit]) -> list[str]:
    """Count the images that another class of their split has too, byte for byte, in a note.

    Args:
        splits: The images, with their contents.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> note_other_classes([load_long_tailed("digits").test])
        []
    """
    number, examples = 0, list[str]()
    for split in splits:
        assert split.contents is not None
        pairs, first = np.unique([split.contents, split.labels], axis=1, return_index=True)
        each, classes = np.unique(pairs[0], return_counts=True)
        several = each[classes > 1]
        number += int(np.isin(split.contents, several).sum())
        of_one = [] if examples else first[np.isin(pairs[0], several[:1])].tolist()
        for at, _, path in _read(split, of_one):
            name = split.name_of(path) if path else f"row {split.rows[at]}"
            examples.append(f"{name} ({split.class_names[split.labels[at]]!r})")
    if not number:
        return []
    return [
        f"{number:,} images lie in two classes or more, byte for byte, such as {' and '.join(examples[:2])}. "
        "They are kept in each; take those away whose class is wrong."
    ]


def list_copies(train: ImageSplit, test: ImageSplit) -> tuple[Duplicate, ...]:
    """List the images whose content another image has too, in whatever split, those of one content together.

    Args:
        train: The training images, with their contents.
        test: The test images, with theirs.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> few = load_long_tailed("digits").test.take(range(3))
        >>> [(one.used_for, one.row) for one in list_copies(few.take([0, 1, 1]), few.take([2]))]
        [('training', 1), ('training', 1)]
    """
    assert train.contents is not None
    assert test.contents is not None
    each, number = np.unique(np.concatenate([train.contents, test.contents]), return_counts=True)
    several = each[number > 1]
    chosen = {
        use: (split, np.isin(split.contents, several))  # type: ignore[arg-type]
        for use, split in (("training", train), ("test", test))
    }
    return _described(chosen)[0]


def _described(
    chosen: Mapping[str, tuple[ImageSplit, NDArray[np.bool_]]],
) -> tuple[tuple[Duplicate, ...], dict[str, set[str]]]:
    """The marked images of each use, by their content, and the files that they are."""
    found, files = list[Duplicate](), {use: set[str]() for use in chosen}
    for use, (split, marked) in chosen.items():
        for at, content, path in _read(split, np.flatnonzero(marked).tolist()):
            file = split.name_of(path) if path else ""
            place = (split.name, int(split.rows[at]), file, split.class_names[split.labels[at]])
            found.append(Duplicate(_checksum(content, path).hex(), use, *place))
            if content is None:
                files[use].add(os.path.realpath(path or ""))
    return tuple(sorted(found, key=lambda one: one.sha256)), files


def write_duplicates(folder: Path, duplicates: Iterable[Duplicate]) -> None:
    """Write duplicates.csv, a row for each image, where there are any.

    Args:
        folder: Where to write it.
        duplicates: From `list_duplicates`; each is written once.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_duplicates(folder, [Duplicate("ab", "test", "test", 0, "test/ant/0.jpg", "ant")] * 2)
        >>> (folder / "duplicates.csv").read_text().splitlines()[1:]
        ['ab,test,test,0,test/ant/0.jpg,ant']
    """
    rows = [one._asdict() for one in dict.fromkeys(duplicates)]
    if rows:
        guarded = [{name: make_harmless(name, value) for name, value in row.items()} for row in rows]
        write_csv(folder / "duplicates.csv", guarded)


def count_duplicates(duplicates: Sequence[Duplicate]) -> dict[str, int]:
    """Count the training images and test images, and those test images that have another class in training.

    Args:
        duplicates: From `list_duplicates`.

    Example:
        >>> count_duplicates([Duplicate("ab", use, use, 0, "", use) for use in ("training", "test")])
        {'training': 1, 'test': 1, 'other_class': 1}
    """
    trained = {(one.sha256, one.class_name) for one in duplicates if one.used_for == "training"}
    tested = [(one.sha256, one.class_name) for one in duplicates if one.used_for == "test"]
    other_class = sum(pair not in trained for pair in tested)
    return {"training": len(duplicates) - len(tested), "test": len(tested), "other_class": other_class}


def _repeated(keys: Mapping[int, Hashable]) -> dict[int, Hashable]:
    """The images whose key another one has too."""
    counts = Counter(keys.values())
    return {at: key for at, key in keys.items() if counts[key] > 1}


def sizes_of(split: ImageSplit) -> Iterator[int]:
    """Measure the bytes of each image; 0 where it cannot be found."""
    import pyarrow.compute

    for _, column in _columns(split, range(len(split))):
        sizes = pyarrow.compute.binary_length(column.field("bytes")).to_pylist()
        for size, path in zip(sizes, column.field("path").to_pylist(), strict=True):
            yield _size_of_file(path) if size is None and path else size or 0


def _size_of_file(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return 0


def _read(split: ImageSplit, positions: Sequence[int]) -> Iterator[tuple[int, bytes | None, str | None]]:
    """Positions of images with their bytes or their file."""
    for batch, column in _columns(split, positions):
        contents, paths = column.field("bytes").to_pylist(), column.field("path").to_pylist()
        yield from zip(batch, contents, paths, strict=True)


def _columns(split: ImageSplit, positions: Sequence[int]) -> Iterator[tuple[Sequence[int], Any]]:
    """Batches of positions with their images as Arrow's arrays, which hold no copies."""
    images = split.images.select_columns(split.image_column).with_format("arrow")
    for start in range(0, len(positions), BATCH):
        at = start
        for part in _parts(images[positions[start : start + BATCH]].column(0)):
            yield positions[at : at + len(part)], part
            at += len(part)


def _parts(column: Any) -> list[Any]:
    """A column in one array, or in its parts where one array cannot hold their more than 2 GiB."""
    try:
        return [column.combine_chunks()]
    except pa.ArrowInvalid:
        return list(column.chunks)


def _tail(content: bytes | None, path: str | None) -> bytes:
    if content is not None:
        return content[-TAIL:]
    with open(path or "", "rb") as file:  # noqa: PTH123
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        return file.read()


def _checksum(content: bytes | None, path: str | None) -> bytes:
    return hashlib.sha256(Path(path or "").read_bytes() if content is None else content).digest()
