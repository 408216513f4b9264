"""Test classifiers side by side on the same images, with classes mapped by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lort_hub.classifiers.class_counts import TrainingCounts
from lort_hub.classifiers.mapped import Classifier
from lort_hub.data.dataset import ImageSplit
from lort_hub.data.labelled import LabelledData
from lort_hub.data.transforms import EVAL_VIEW
from lort_hub.errors import DatasetError
from lort_hub.evaluation.metrics import GROUP_THRESHOLDS, evaluate
from lort_hub.evaluation.report import Report
from lort_hub.evaluation.significance import holm, paired_interval, paired_p_value
from lort_hub.features.distributed import Processes
from lort_hub.features.extract import extract_features
from lort_hub.features.nodes import collect_parts
from lort_hub.serialization import Record

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Difference(Record):
    """How much better a classifier is than the first one, in balanced accuracy, on the same images.

    Attributes:
        difference: Its balanced accuracy minus that of the first one.
        interval: Paired bootstrap interval (95 %) of the difference.
        p: Two-sided p-value of sign flips, Holm-corrected for the number of classifiers.
    """

    difference: float
    interval: tuple[float, float]
    p: float


@dataclass(frozen=True)
class Evaluated:
    """A classifier on the test images.

    Attributes:
        classifier: The classifier.
        logits: Logits (N, K + E), float32: of the K classes of the data set, -inf where the model does not
            have the class, and then of the E classes that only the model has.
        report: Every number.
        difference: Comparison with the first classifier; None for itself.
    """

    classifier: Classifier
    logits: NDArray[np.float32]
    report: Report
    difference: Difference | None = None

    @property
    def name(self) -> str:
        """The model as the user named it."""
        return self.classifier.name

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Predicted class (N,): a class of the data set, or from K on one that only the model has."""
        predicted: NDArray[np.int64] = self.logits.argmax(axis=1)
        return predicted


@dataclass(frozen=True)
class Evaluation:
    """Classifiers on the same test images.

    Attributes:
        data: The data set.
        test: The test images that were decoded (N).
        training: Training images of each class.
        results: The classifiers, in the order in which they were named.
        skipped: Number of test images that could not be decoded.
    """

    data: LabelledData
    test: ImageSplit
    training: TrainingCounts
    results: tuple[Evaluated, ...]
    skipped: int = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes."""
        return self.data.class_names

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the user: on the data, the training counts and the classes of each classifier."""
        skipped = [f"{self.skipped:,} of {len(self.data.test):,} test images cannot be decoded: skipped"]
        of_models = [line for one in self.results for line in one.classifier.notes]
        return (*self.data.notes, *self.training.notes, *of_models, *(skipped * bool(self.skipped)))

    @property
    def reports(self) -> dict[str, Report]:
        """Report of each classifier, by its name."""
        return {one.name: one.report for one in self.results}

    def describe(self) -> str:
        """Describe what was measured, in a line or two."""
        level, groups = self.results[0].report.interval, "No groups: the training counts are not known."
        if self.training.counts is not None:
            low, high = self.results[0].report.thresholds
            sizes = self.results[0].report.groups.items()
            numbers = ", ".join(f"{size.classes:,} {name}" for name, size in sizes)
            groups = (
                f"Groups by {self.training.source}: {numbers} (many: over {high}, few: under {low} images)."
            )
        ends = f" In brackets: {100 * level.level:.0f} % bootstrap intervals." if level else ""
        return f"{len(self.test):,} test images ({self.data.split}). {groups}{ends}"


def evaluate_classifiers(
    classifiers: Sequence[Classifier],
    data: LabelledData,
    training: TrainingCounts,
    accelerator: Accelerator,
    *,
    thresholds: tuple[int, int] = GROUP_THRESHOLDS,
    bootstrap: int = 1000,
    seed: int = 0,
    **options: Any,
) -> Evaluation | None:
    """Test classifiers on the same images; every process calls this.

    Args:
        classifiers: The classifiers; the others are compared with the first.
        data: The data set.
        training: Training images of each class.
        accelerator: Device, precision and processes.
        thresholds: As in `class_groups`.
        bootstrap: Resamples of the intervals; 0 for none.
        seed: Seed of the resamples.
        options: Arguments of `extract_features`: batch_size, num_workers, on_bad_image, folder.

    Returns:
        The evaluation; None on all processes but the main one.

    Raises:
        BadImageError: An image cannot be decoded.
        DatasetError: No image can be decoded.

    Example:
        >>> from accelerate import Accelerator
        >>> from lort_hub.data.labelled import load_labelled
        >>> data = load_labelled("digits")
        >>> models = [load_mapped("out/digits", data)]  # doctest: +SKIP
        >>> evaluate_classifiers(models, data, count_training(data, models), Accelerator())  # doctest: +SKIP
        Evaluation(...)
    """
    stores = [
        extract_features(one.backbone, data.test, accelerator=accelerator, **options) for one in classifiers
    ]
    for store in stores:
        collect_parts(store, EVAL_VIEW, Processes.of(accelerator))
    if not accelerator.is_main_process:
        return None
    skipped = sorted(set().union(*(store.skipped() for store in stores)))
    if len(skipped) == len(data.test):
        raise DatasetError(f"No test image of split '{data.test.name}' can be decoded.\nMend them.")
    test = data.test.take(np.delete(np.arange(len(data.test)), skipped)) if skipped else data.test
    options = {"thresholds": thresholds, "bootstrap": bootstrap, "seed": seed}
    results: list[Evaluated] = []
    for one, store in zip(classifiers, stores, strict=True):
        features = store.load()
        kept = ~np.isin(features.rows.numpy(), skipped)
        logits = _logits(one, features.x.numpy()[kept])
        results.append(Evaluated(one, logits, _report(one, logits, test.labels, training.counts, options)))
    return Evaluation(data, test, training, _compared(results, test.labels, seed), len(skipped))


def _logits(classifier: Classifier, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits (N, K + E) of features (N, D), in the order of the data set's classes."""
    backbone, classes = classifier.backbone, classifier.classes
    weight, bias = (part.float().cpu().numpy() for part in (backbone.weight, backbone.bias))
    own = features @ weight.T + bias
    ordered = np.where(classes.known, own[:, classes.outputs], np.float32(-np.inf))
    return np.concatenate([ordered, own[:, classes.unused]], axis=1)


def _report(
    classifier: Classifier,
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    counts: NDArray[np.int64] | None,
    options: Mapping[str, Any],
) -> Report:
    classes, weight = classifier.classes, classifier.backbone.weight.float().cpu().numpy()
    report = evaluate(
        logits,
        labels,
        np.zeros(len(classes.known), dtype=np.int64) if counts is None else counts,
        weight=np.where(classes.known[:, None], weight[classes.outputs], np.nan),
        others=len(classes.unused),
        **options,
    )
    if counts is not None:
        return report
    unknown: dict[str, Any] = {"many": None, "medium": None, "few": None}
    interval = report.interval and replace(report.interval, **unknown)
    return replace(report, groups={}, interval=interval, **unknown)


def _compared(results: Sequence[Evaluated], labels: NDArray[np.int64], seed: int) -> tuple[Evaluated, ...]:
    """The results, each with its difference from the first."""
    first, *others = results
    reference = first.predicted == labels
    right = {one.name: one.predicted == labels for one in others}
    p_values = holm({n: paired_p_value(own, reference, labels, seed=seed) for n, own in right.items()})
    compared = [first]
    for one in others:
        gain = one.report.balanced_accuracy - first.report.balanced_accuracy
        interval = paired_interval(right[one.name], reference, labels, seed=seed)
        compared.append(replace(one, difference=Difference(gain, interval, p_values[one.name])))
    return tuple(compared)
