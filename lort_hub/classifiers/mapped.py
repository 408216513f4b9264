"""Load a classifier with its outputs mapped to the classes of a data set."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lort_hub.backbones.backbone import Backbone
from lort_hub.classifiers.class_names import ClassMap, map_classes, name_outputs
from lort_hub.classifiers.load import find_classifier, is_timm_name, load_classifier
from lort_hub.data.dataset import ImageSplit
from lort_hub.data.holdout import unseen_images
from lort_hub.data.labelled import LabelledData
from lort_hub.errors import CheckpointError
from lort_hub.records import TrainedOn
from lort_hub.shorten import quoted


@dataclass(frozen=True)
class Classifier:
    """A classifier whose outputs are mapped to the classes of a data set.

    Attributes:
        name: The model as the user named it.
        backbone: The complete model.
        record: Content of its head's config.json; {} where it is not lort_hub's.
        classes: Which output stands for which class.
        notes: Lines for the user: how its classes were mapped, and whether it has seen the test images.
    """

    name: str
    backbone: Backbone
    record: dict[str, Any]
    classes: ClassMap
    notes: tuple[str, ...] = ()

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the classes (E,) whose logits follow those of the data set's classes."""
        return self.classes.unused_names


def load_mapped(
    source: str, data: LabelledData, *, image_size: int | None = None, class_names: Path | None = None
) -> Classifier:
    """Load a classifier and map its classes to those of a data set.

    Args:
        source: What `load_classifier` takes.
        data: The data set.
        image_size: Side of the square input in pixels; None for the model's own.
        class_names: Text file of class names, for a model that names none.

    Raises:
        BackboneError: It is no image classifier that ends in one linear layer.
        CheckpointError: Its classes have no names, or it has none of the test images' classes.
        DatasetError: A class could be several outputs.

    Example:
        >>> load_mapped("out/photos", load_labelled("./photos")).classes.missing  # doctest: +SKIP
        ()
    """
    backbone, record = load_classifier(source, image_size=image_size, named=False)
    outputs, note = name_outputs(replace(backbone, spec=source), class_names)
    names, tested = data.class_names, np.unique(data.test.labels)
    classes = map_classes(names, outputs, source)
    if not classes.known[tested].any():
        raise CheckpointError(
            f"'{source}' has none of the classes of the test images.\n"
            f"It has {quoted([one.name for one in outputs])}; they are {quoted([names[k] for k in tested])}."
        )
    notes = [note, *(f"{source}: {line}" for line in classes.notes()), _seen_note(source, data.test)]
    return Classifier(source, backbone, record, classes, tuple(line for line in notes if line))


def _seen_note(source: str, test: ImageSplit) -> str | None:
    """Warn where test images are of those that the record of a model says it was trained on."""
    if is_timm_name(source):
        return None
    try:
        run = json.loads((find_classifier(source) / "run.json").read_text())
        data = run["data"]
        head = (data["dataset"], data["train_split"], tuple(data["train_rows"]), data["fingerprint"])
        records = [TrainedOn(*head)]
        if stage1 := run["backbone"].get("trained_on"):
            records.append(TrainedOn.from_json(stage1))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CheckpointError):
        return None
    seen = np.zeros(len(test), dtype=bool)
    for record in records:
        if (unseen := unseen_images(record, test)) is not None:
            seen |= ~unseen
    if not seen.any():
        return None
    return (
        f"{source}: {seen.sum():,} of {len(test):,} test images are of those that it was trained on; "
        "its numbers are too rosy"
    )
