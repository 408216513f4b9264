"""Record an evaluation: the typed content of metrics.json and run.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lort_hub.classifiers.evaluate import Difference, Evaluated, Evaluation
from lort_hub.evaluation.report import Report
from lort_hub.records import Environment
from lort_hub.serialization import Record


@dataclass(frozen=True)
class ClassifierRecord(Record):
    """A classifier and its numbers on the test images.

    Attributes:
        source: Hub id, folder or timm name of the model.
        revision: Commit of a Hub id; None otherwise.
        library: "timm" or "transformers".
        sha256: Checksum of its weights and buffers but the classifier's.
        image_size: Height of its input in pixels.
        outputs: Number of its outputs.
        missing_classes: Classes of the data set that it does not have; their images count as wrong.
        missing_images: Test images of these classes; the ECE counts them as wrong, the NLL leaves them out.
        unused_classes: Number of its classes that the data set does not have; their answers count as wrong.
        renamed_classes: Name in the model of each class that is spelt otherwise there, by its own name.
        test: Every number.
        difference: Comparison with the first classifier; None for itself.
    """

    source: str
    revision: str | None
    library: str
    sha256: str
    image_size: int
    outputs: int
    missing_classes: tuple[str, ...]
    missing_images: int
    unused_classes: int
    renamed_classes: dict[str, str]
    test: Report
    difference: Difference | None = None

    @classmethod
    def of(cls, one: Evaluated, evaluation: Evaluation) -> ClassifierRecord:
        """Record a classifier of an evaluation."""
        backbone, classes = one.classifier.backbone, one.classifier.classes
        return cls(
            source=backbone.source,
            revision=backbone.revision,
            library=backbone.library,
            sha256=backbone.fingerprint(),
            image_size=backbone.image_size,
            outputs=len(backbone.weight),
            missing_classes=classes.missing,
            missing_images=int((~classes.known[evaluation.test.labels]).sum()),
            unused_classes=len(classes.unused),
            renamed_classes=dict(classes.renamed),
            test=one.report,
            difference=one.difference,
        )


@dataclass(frozen=True)
class EvaluationRecord(Record):
    """The content of an evaluation's metrics.json.

    Attributes:
        name: Short name of the data set.
        dataset: Its Hub id or folder.
        revision: Commit of a Hub id; None otherwise.
        test_split: Name of the test split, or how it was made.
        fingerprint: Checksum of the test images.
        n: Test images.
        skipped: Test images that could not be decoded.
        class_names: Names of the K classes.
        class_counts: Training images (K,), which define the groups; None where they are not known.
        counts_from: What told them, in words.
        notes: What the numbers cannot tell, and how classes were mapped, a line each.
        models: Numbers of each classifier, by the name the user gave it; all are compared with the first.
    """

    name: str
    dataset: str
    revision: str | None
    test_split: str
    fingerprint: str
    n: int
    skipped: int
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...] | None
    counts_from: str
    notes: tuple[str, ...]
    models: dict[str, ClassifierRecord]

    @classmethod
    def of(cls, evaluation: Evaluation) -> EvaluationRecord:
        """Record an evaluation."""
        data, counts = evaluation.data, evaluation.training.counts
        return cls(
            name=data.name,
            dataset=data.source["dataset"],
            revision=data.source["revision"],
            test_split=data.split,
            fingerprint=evaluation.test.fingerprint(),
            n=len(evaluation.test),
            skipped=evaluation.skipped,
            class_names=tuple(data.class_names),
            class_counts=None if counts is None else tuple(counts.tolist()),
            counts_from=evaluation.training.source,
            notes=evaluation.notes,
            models={one.name: ClassifierRecord.of(one, evaluation) for one in evaluation.results},
        )


@dataclass(frozen=True)
class EvaluationRun(Record):
    """The content of an evaluation's run.json.

    Attributes:
        arguments: Arguments of the recipe, by name; none for a run from Python.
        environment: Software.
        timing: Seconds of each phase.
    """

    arguments: dict[str, Any]
    environment: Environment
    timing: Mapping[str, float]
