"""Define a split of labelled images and the long-tailed data set of two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pyarrow.compute import struct_field

from lort_hub.data.decoding import MACHINE_ERRORS, Encoded, decode, is_empty, why_not
from lort_hub.errors import DatasetError

if TYPE_CHECKING:
    import datasets


class BadImageError(DatasetError):
    """An image that cannot be decoded.

    Attributes:
        reason: Why, in words.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class ImageSplit:
    """Images, not yet decoded, with checked labels.

    Attributes:
        images: The rows; `image_column` holds encoded bytes or a path.
        labels: Labels (N,).
        rows: Row (N,) of each image in the original split.
        image_column: Column of the images.
        name: Name of the original split.
        class_names: Names of the K classes.
        dataset: Hub id or folder that it is from.
        contents: Numbers (N,), the same for images of the same bytes; None where nobody has looked.
        groups: Numbers (N,), the same for images that belong together; None where each is alone.
        notes: Lines for the user: what was not read.
        whole: `names` of the original split, by whose rows images are known; None where nobody has looked.
        root: Folder that the names of its files start from, which are written without it.
    """

    images: datasets.Dataset
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    image_column: str
    name: str
    class_names: tuple[str, ...]
    dataset: str = ""
    contents: NDArray[np.int64] | None = None
    groups: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()
    whole: str | None = None
    root: str = ""

    @classmethod
    def of_rows(
        cls,
        rows: datasets.Dataset,
        labels: NDArray[np.int64],
        image_column: str,
        name: str = "",
        class_names: tuple[str, ...] = (),
        dataset: str = "",
    ) -> ImageSplit:
        """Make a split of all rows of a table, its images not decoded."""
        import datasets

        images = rows.select_columns(image_column)
        undecoded = images.cast_column(image_column, datasets.Image(decode=False))
        return cls(undecoded, labels, np.arange(len(rows)), image_column, name, class_names, dataset)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """Decode one image to RGB, upright.

        Args:
            index: Position in this split.

        Raises:
            BadImageError: It cannot be decoded; the message names its row, file and class.
        """
        return self.decode(index, *self.encoded([index]))

    def encoded(self, indices: Sequence[int]) -> list[Encoded | None]:
        """Read the images at these positions, not decoded: one look into the table for all of them."""
        rows: list[Encoded | None] = self.images[[int(index) for index in indices]][self.image_column]
        return rows

    def decode(self, index: int, encoded: Encoded | None) -> Image.Image:
        """Decode an image that `encoded` has read, to RGB and upright."""
        try:
            return decode(encoded)
        except Exception as cause:  # decoders raise anything at a damaged file
            if isinstance(cause, OSError) and cause.errno in MACHINE_ERRORS:
                raise
            reason = why_not(cause, encoded)
        # Raised here, and not from its cause, whose traceback would keep the file open.
        path = encoded.get("path") if encoded else None
        raise BadImageError(
            f"Cannot decode row {self.rows[index]} of split '{self.name}'"
            f"{f' ({path})' if path else ''}, class '{self.class_names[self.labels[index]]}': {reason}.\n"
            'Mend or remove the image, or leave all such images out with `on_bad_image="skip"`.',
            reason,
        )

    def files(self) -> list[str | None]:
        """List the paths (N,) of the images, or the names beside their bytes; None where there is none."""
        images = self.images.select_columns(self.image_column).with_format("arrow")
        columns = (batch.column(0) for batch in images.iter(batch_size=1000))
        return [path for column in columns for path in struct_field(column, "path").to_pylist()]

    def name_of(self, path: str) -> str:
        """Shorten the path of an image to what is below the data folder."""
        return path.removeprefix(f"{self.root}/") if self.root else path

    def take(self, indices: NDArray[np.int64]) -> ImageSplit:
        """Take the images at these positions."""
        return replace(
            self,
            images=self.images.select(indices),
            labels=self.labels[indices],
            rows=self.rows[indices],
            contents=None if self.contents is None else self.contents[indices],
            groups=None if self.groups is None else self.groups[indices],
        )

    def spaced(self, most: int = 16) -> list[int]:
        """Choose the positions of some images, evenly spaced."""
        chosen: list[int] = np.linspace(0, len(self) - 1, min(most, len(self))).astype(int).tolist()
        return chosen

    def names(self) -> str:
        """Hash the number of images and the names of their files, whatever their labels are."""
        names = "/".join([str(len(self)), *(PurePath(file or "").name for file in self.files())])
        return hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()

    def listing(self) -> str:
        """Hash labels and names of files: the same on every machine that has the same images."""
        digest = hashlib.sha256(repr(self.class_names).encode() + self.labels.tobytes())
        digest.update(self.names().encode())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """Compute the checksum of the content, once."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        """sha256 over labels and encoded images; images kept as files count by name, size and time."""
        digest = hashlib.sha256(self.labels.tobytes())
        for batch in self.images.select_columns(self.image_column).iter(batch_size=1000):
            for encoded in batch[self.image_column]:
                if not is_empty(encoded):
                    digest.update(
                        encoded["bytes"] if encoded["bytes"] is not None else _state(encoded["path"])
                    )
        return digest.hexdigest()


class Duplicate(NamedTuple):
    """An image whose bytes another image has too.

    Attributes:
        sha256: Of its bytes.
        used_for: "training" or "test".
        split: Name of its split.
        row: Its row there.
        file: Its file, below the data folder; empty where it is none.
        class_name: Its class there.
    """

    sha256: str
    used_for: str
    split: str
    row: int
    file: str
    class_name: str


def _state(path: str) -> bytes:
    """Name, size and time of a file; its name alone where it is missing."""
    file = Path(path)
    try:
        state = file.stat()
    except OSError:
        return f"{file.name} missing".encode()
    return f"{file.name} {state.st_size} {state.st_mtime_ns}".encode()


def brightness_note(split: ImageSplit) -> str | None:
    """Decode a sample of the images, and note where they use under a tenth of the range from black to white.

    Args:
        split: The images.

    Returns:
        The note, or one that none of the sample can be decoded; None where the range is used.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> brightness_note(load_long_tailed("digits").train) is None
        True
    """
    darkest, brightest, errors = 255, 0, []
    chosen = split.spaced()
    for index in chosen:
        try:
            least, most = zip(*split.image(index).getextrema(), strict=True)
        except BadImageError as error:
            errors.append(error)
        else:
            darkest, brightest = min(darkest, *least), max(brightest, *most)
    if errors and len(errors) == len(chosen):
        return f"None of {len(chosen)} sampled images of '{split.name}' can be decoded: {errors[0].reason}."
    if brightest - darkest >= 256 / 10:
        return None
    return (
        f"The pixels of {len(chosen) - len(errors)} sampled images of '{split.name}' lie between {darkest} "
        f"and {brightest}, of 0 (black) to 255 (white): are the images nearly blank, or of 12 bits in 16?"
    )


@dataclass(frozen=True)
class LongTailedData:
    """A long-tailed training set and its test set.

    Attributes:
        name: Short name of the data set.
        train: Training images, after the subset.
        test: Test images, all of them.
        class_names: Names of the K classes.
        source: JSON description of where it is from and how it was cut.
        notes: Lines for the user: what was not read, and what the numbers cannot tell.
        duplicates: Images that are used for training and for the test.
    """

    name: str
    train: ImageSplit
    test: ImageSplit
    class_names: tuple[str, ...]
    source: dict[str, Any]
    notes: tuple[str, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.class_names)

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """Training images of each class (K,)."""
        return np.bincount(self.train.labels, minlength=self.num_classes)

    def describe(self) -> str:
        """Describe the data in half a line: images, classes, imbalance and test split."""
        counts = self.class_counts
        return (
            f"{len(self.train)} training images of {len(counts)} classes ({counts.max()} to {counts.min()} "
            f"each, {self.source['imbalance']}), {len(self.test)} test images ({self.source['test_split']})"
        )

    def listing(self) -> str:
        """Hash labels and names of files, as `ImageSplit.listing` does."""
        return self.train.listing() + self.test.listing()

    def leave_out(self, train: Iterable[int], test: Iterable[int]) -> LongTailedData:
        """Leave out the images at these positions, and record them in `source["left_out"]`.

        Args:
            train: Positions of training images that cannot be decoded.
            test: Positions of such test images.

        Raises:
            DatasetError: A class has no training image left, or there is no test image left.
        """
        record, splits = [], []
        for split, positions in ((self.train, sorted(train)), (self.test, sorted(test))):
            names = [split.class_names[split.labels[k]] for k in positions]
            record += [
                {"split": split.name, "row": int(split.rows[k]), "class": name}
                for k, name in zip(positions, names, strict=True)
            ]
            stays = np.delete(np.arange(len(split)), positions)
            splits.append(split.take(stays) if positions else split)
        data = replace(self, train=splits[0], test=splits[1], source={**self.source, "left_out": record})
        empty = [name for name, count in zip(self.class_names, data.class_counts, strict=True) if not count]
        if empty:
            raise DatasetError(
                f"No training image of {', '.join(map(repr, empty[:5]))} can be decoded.\n"
                "Mend their images, or remove the classes from the data set."
            )
        if not len(data.test):
            raise DatasetError(f"No test image of split '{self.test.name}' can be decoded.\nMend them.")
        return data

    def left_out(self) -> list[str]:
        """List the images that `leave_out` left out, a line each."""
        line = "left out, not decodable: row {row} of '{split}', class '{class}'"
        return [line.format_map(row) for row in self.source.get("left_out", [])]
