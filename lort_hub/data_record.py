"""Record a data set and its cut: the part of run.json about data."""

from __future__ import annotations

from dataclasses import dataclass

from lort_hub.serialization import Record


@dataclass(frozen=True)
class LeftOut(Record):
    """An image left out because it could not be decoded.

    Attributes:
        split: Name of its original split.
        row: Its row there.
        class_: Name of its class.
    """

    split: str
    row: int
    class_: str


@dataclass(frozen=True)
class NotRead(Record):
    """Files of an image folder that were not read, of one extension, for one reason.

    Attributes:
        split: Name of their split, or of their folder where it is no split; empty above the splits.
        extension: Extension in lower case, with its dot; "folder" for a folder that was not entered.
        reason: Why they were not read.
        files: How many.
        example: Path of one of them below the data folder.
    """

    split: str
    extension: str
    reason: str
    files: int
    example: str


@dataclass(frozen=True)
class DuplicateCounts(Record):
    """Numbers of images that are used for training and for the test, byte for byte the same.

    Attributes:
        training: Training images.
        test: Test images.
        other_class: Test images that have another class than all such training images.
    """

    training: int
    test: int
    other_class: int


@dataclass(frozen=True)
class DataRecord(Record):
    """A long-tailed data set: its source, its cut and its checksums.

    Attributes:
        name: Short name.
        dataset: Hub id or folder.
        revision: Commit of a Hub id; None otherwise.
        train_split: Name of the training split.
        test_split: Name of the test split.
        image_column: Column of the images.
        label_column: Column of the labels.
        imbalance: Profile that the training split was cut to.
        subset: Which images of a class were kept.
        subset_seed: Seed of a random subset; None otherwise.
        left_out: Images that could not be decoded.
        class_counts: Training images (K,).
        train_rows: Row of each training image in its split.
        train_rows_sha256: Checksum of these rows.
        fingerprint: Checksum of the training images.
        test_fingerprint: Checksum of the test images.
        on_duplicate: "keep" or "drop" for training images that are test images too; None where nobody looked.
        duplicates: How many of them are left.
        groups: What said which images belong together; None where nothing did.
        not_read: Files that were not read; None where it is no image folder.
        empty_classes: Class folders without an image, as SPLIT/CLASS.
    """

    name: str
    dataset: str
    revision: str | None
    train_split: str
    test_split: str
    image_column: str
    label_column: str
    imbalance: str
    subset: str
    subset_seed: int | None
    left_out: tuple[LeftOut, ...]
    class_counts: tuple[int, ...]
    train_rows: tuple[int, ...]
    train_rows_sha256: str
    fingerprint: str
    test_fingerprint: str
    on_duplicate: str | None = None
    duplicates: DuplicateCounts | None = None
    groups: str | None = None
    not_read: tuple[NotRead, ...] | None = None
    empty_classes: tuple[str, ...] | None = None
