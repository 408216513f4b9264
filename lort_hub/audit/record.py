"""Record what an audit found: the typed content of audit.json and the rows of its lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from lort_hub.records import Environment
from lort_hub.serialization import Record


class Place(NamedTuple):
    """Where an image is.

    Attributes:
        used_for: "training" or "test".
        split: Name of its split.
        row: Its row there.
        file: Its file, below the data folder; empty where it has no name.
        class_name: Its class there.
    """

    used_for: str
    split: str
    row: int
    file: str
    class_name: str


@dataclass(frozen=True)
class ClassCounts(Record):
    """The images of one class.

    Attributes:
        class_: Its name.
        training: Training images.
        test: Test images.
        group: "many", "medium" or "few".
    """

    class_: str
    training: int
    test: int
    group: str


@dataclass(frozen=True)
class GroupCounts(Record):
    """The classes of one group.

    Attributes:
        group: "many", "medium" or "few".
        training_images: In words, such as "20 to 100".
        classes: How many classes.
        training: Their training images.
        test: Their test images.
    """

    group: str
    training_images: str
    classes: int
    training: int
    test: int


@dataclass(frozen=True)
class Spread(Record):
    """How a number of pixels spreads over the images that can be decoded.

    Attributes:
        least: Smallest.
        tenth: A tenth of the images have fewer.
        median: Half of the images have fewer.
        ninetieth: A tenth of the images have more.
        most: Largest.
    """

    least: int
    tenth: int
    median: int
    ninetieth: int
    most: int


@dataclass(frozen=True)
class RepeatCounts(Record):
    """Images that are in the data more than once.

    Attributes:
        images: Images of which there is another one.
        within_training: Training images of which there is another training image.
        within_test: Test images of which there is another test image.
        across: Test images of which there is a training image.
        other_class: Images of which another one has another class.
    """

    images: int
    within_training: int
    within_test: int
    across: int
    other_class: int


@dataclass(frozen=True)
class LabelCounts(Record):
    """What the features say of the labels.

    Attributes:
        backbone: Source of the features.
        agreement: Share of the judged images to which a head fitted without them gives their own label.
        suspicious: Images whose label neither that head nor a neighbour has.
        judged: Images that a head was fitted without.
    """

    backbone: str
    agreement: float
    suspicious: int
    judged: int


@dataclass(frozen=True)
class AuditRecord(Record):
    """The content of audit.json.

    Attributes:
        arguments: Arguments of the recipe, by name.
        environment: Software.
        name: Short name of the data set.
        dataset: Hub id or folder.
        training: Training images.
        test: Test images.
        plan: What a recipe would do with the data, a line each.
        findings: What should be looked at, the most serious first, a line each.
        imbalance_ratio: Training images of the largest class over those of the smallest.
        thresholds: Training images of a class below which it is few-shot, and above which many-shot.
        classes: Counts of each class.
        groups: Counts of many-, medium- and few-shot classes.
        widths: Pixels in a row; None where no image can be decoded.
        heights: Rows; None where no image can be decoded.
        modes: Images of each kind of pixels.
        formats: Images of each file format.
        broken: Images that cannot be decoded.
        copies: Images of the same bytes.
        near_duplicates: Images that are the same but for their file.
        near_pairs: Pairs of them.
        labels: What the features say of the labels; None where no backbone was given.
    """

    arguments: dict[str, Any]
    environment: Environment
    name: str
    dataset: str
    training: int
    test: int
    plan: tuple[str, ...]
    findings: tuple[str, ...]
    imbalance_ratio: float
    thresholds: tuple[int, int]
    classes: tuple[ClassCounts, ...]
    groups: tuple[GroupCounts, ...]
    widths: Spread | None
    heights: Spread | None
    modes: dict[str, int]
    formats: dict[str, int]
    broken: int
    copies: RepeatCounts
    near_duplicates: RepeatCounts
    near_pairs: int
    labels: LabelCounts | None
