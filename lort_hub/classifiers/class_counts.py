"""Count the training images of each class: by a file, by the data, or by the record of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lort_hub.classifiers.mapped import Classifier
from lort_hub.data.class_file import read_class_file
from lort_hub.data.labelled import LabelledData
from lort_hub.errors import ConfigError
from lort_hub.hub.head_file import HeadFacts

COLUMNS = (("name", "train_images"), ("class", "count"))
"""Columns of class names and counts: those of per_class.csv, and those that people write."""


@dataclass(frozen=True)
class TrainingCounts:
    """Training images of each class, which define the groups.

    Attributes:
        counts: Numbers (K,); None where nothing tells them.
        source: What told them, in words.
        notes: Lines for the user.
    """

    counts: NDArray[np.int64] | None
    source: str
    notes: tuple[str, ...] = ()


def count_training(
    data: LabelledData, classifiers: Sequence[Classifier], file: Path | None = None
) -> TrainingCounts:
    """Count the training images of each class: by a file, the data's training split or a model's record.

    Args:
        data: The data set.
        classifiers: The classifiers; the first one that has a record tells where nothing else does.
        file: CSV of `read_counts`, which goes before the others.

    Raises:
        ConfigError: The file cannot be read, or does not fit the classes.

    Example:
        >>> from lort_hub.data.labelled import load_labelled
        >>> count_training(load_labelled("digits", train_split="none"), []).counts is None
        True
    """
    names = data.class_names
    records = {one.name: recorded_counts(one) for one in classifiers}
    known = {name: counts for name, counts in records.items() if counts is not None}
    if file is not None:
        counts, source = read_counts(file, names), str(file)
    elif data.class_counts is not None:
        counts, source = data.class_counts, f"the training split '{data.source['train_split']}' of the data"
    elif known:
        name, counts = next(iter(known.items()))
        source = f"the record of {name}"
    else:
        note = (
            "No training counts are known, so there are no many-, medium- and few-shot classes: give "
            "`train_counts`, a CSV with the columns class and count"
        )
        return TrainingCounts(None, "nothing", (note,))
    notes = [
        f"{name} was trained on {own.sum():,} images of these classes, its record says, {own.max():,} to "
        f"{own.min():,} each; the groups are those of {source}, {counts.max():,} to {counts.min():,} each"
        for name, own in known.items()
        if not np.array_equal(own, counts)
    ]
    return TrainingCounts(counts, source, tuple(notes))


def read_counts(path: Path, class_names: Sequence[str]) -> NDArray[np.int64]:
    r"""Read the training images of each class from a CSV.

    Args:
        path: A file with the columns class and count, or the per_class.csv of an output folder.
        class_names: Names of the K classes.

    Returns:
        Counts (K,).

    Raises:
        ConfigError: The file cannot be read, or does not give every class one whole number from 0.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "counts.csv"
        >>> _ = path.write_text("class,count\ndog,3\ncat,20\n")
        >>> read_counts(path, ["cat", "dog"])
        array([20,  3])
    """
    column, texts = read_class_file(path, class_names, COLUMNS, "class and count")
    for name, text in zip(class_names, texts, strict=True):
        if not text.strip().isdecimal():
            raise ConfigError(
                f"{path}: the {column} of '{name}' is {text!r}, expected a whole number from 0."
            )
    return np.array([int(text) for text in texts], dtype=np.int64)


def recorded_counts(classifier: Classifier) -> NDArray[np.int64] | None:
    """Look up the training images of each class in the record of a model; None where it has no such record.

    Args:
        classifier: The classifier.

    Returns:
        Counts (K,) of the classes of the data set; 0 where the model does not have the class.

    Example:
        >>> from lort_hub.classifiers.class_names import OutputName, map_classes
        >>> classes = map_classes(["Dog", "owl"], [OutputName("cat"), OutputName("dog")], "m")
        >>> recorded_counts(Classifier("m", None, {"class_counts": [20, 3]}, classes))
        array([3, 0])
    """
    counts = HeadFacts.of(classifier.record, classifier.name).class_counts
    classes = classifier.classes
    if not counts:
        return None
    return np.where(classes.known, np.array(counts, dtype=np.int64)[classes.outputs], 0)
