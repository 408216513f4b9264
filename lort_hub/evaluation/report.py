"""Record how good a head is: the typed parts of metrics.json and of results.csv."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lort_hub.serialization import Record

Range = tuple[float, float]
Number = float | None
"""None where it is not defined, such as the accuracy of an empty group."""


@dataclass(frozen=True)
class ClassAccuracy(Record):
    """The accuracy of one class.

    Attributes:
        class_: Number of the class.
        accuracy: Its test accuracy.
    """

    class_: int
    accuracy: float


@dataclass(frozen=True)
class Confused(Record):
    """What the test images of one class are most often taken for.

    Attributes:
        class_: Number of the other class; None where no image is wrong.
        wrong: Images that are taken for it.
        n: Test images of the class.
    """

    class_: int | None
    wrong: int
    n: int


@dataclass(frozen=True)
class Spread(Record):
    """A number of each class, such as its logits magnitude, and how it spreads over the classes.

    Attributes:
        mean: Mean over the classes.
        std: Standard deviation over the classes.
        per_class: The number of each class (K,).
        mean_by_negatives: The mean by each definition of the negative mean of `logits_magnitude`.
        mean_by_spread: The mean by each definition of the spread of `regularized_std`.
    """

    mean: Number
    std: Number
    per_class: tuple[Number, ...]
    mean_by_negatives: dict[str, Number] | None = None
    mean_by_spread: dict[str, Number] | None = None


@dataclass(frozen=True)
class GroupSize(Record):
    """The size of a group of classes.

    Attributes:
        classes: Number of classes.
        train_images: Their training images.
        n: Their test images.
    """

    classes: int
    train_images: int
    n: int


@dataclass(frozen=True)
class Interval(Record):
    """Confidence intervals, as the lower and the upper end of each rate; None for an empty group.

    Attributes:
        level: Their level.
        resamples: Number of bootstrap resamples.
        accuracy: Interval of the accuracy.
        balanced_accuracy: Interval of the balanced accuracy.
        many: Interval of the many-shot accuracy.
        medium: Interval of the medium-shot accuracy.
        few: Interval of the few-shot accuracy.
    """

    level: float
    resamples: int
    accuracy: Range | None
    balanced_accuracy: Range | None
    many: Range | None
    medium: Range | None
    few: Range | None


@dataclass(frozen=True)
class LogitScale(Record):
    """The numbers of a head that depend on the scale of its logits, at one scale.

    Attributes:
        nll: Mean negative log-likelihood.
        ece: Expected calibration error.
        logits_magnitude: Mean LoMa of the classes.
        regularized_std: Mean RSD of the classes, which no scale changes.
        weight_norm: Mean norm of the rows of W; None where W was not given.
    """

    nll: float
    ece: float
    logits_magnitude: Number
    regularized_std: Number
    weight_norm: Number


@dataclass(frozen=True)
class MixScores(Record):
    """The numbers of a head where classes are as frequent as in a mix that is not that of the test set.

    Attributes:
        name: Name of the class mix.
        accuracy: Share of the images that are right.
        nll: Mean negative log-likelihood.
        ece: Expected calibration error.
    """

    name: str
    accuracy: float
    nll: float
    ece: float


@dataclass(frozen=True)
class Report(Record):
    """Every number about a head on a test set; rates are fractions.

    `report["few"]` is `report.few`; a part with parts of its own is a dict there, as in metrics.json.

    Attributes:
        accuracy: Share of the test images that are right.
        balanced_accuracy: Mean of the accuracies of the classes.
        many: Mean over the many-shot classes.
        medium: Mean over the medium-shot classes.
        few: Mean over the few-shot classes.
        worst_class: The class with the lowest accuracy.
        macro_f1: Mean F1 over the tested classes.
        nll: Mean negative log-likelihood.
        ece: Expected calibration error.
        logits_magnitude: LoMa of the classes.
        regularized_std: RSD of the classes.
        weight_norm: Norms of the rows of W; None where W was not given.
        per_class_accuracy: Accuracy of each class (K,); None for one without test images.
        groups: Sizes of "many", "medium" and "few".
        thresholds: Many is above the second number of training images, few below the first.
        calibration: Rows of `calibration_bins`.
        n: Test images.
        interval: Bootstrap intervals; None where none were asked for.
        as_solved: Numbers of the head as solved; None where it was not calibrated, and of a sum of heads.
        calibrated: The same numbers of the calibrated head.
        mix: Its numbers for the class mix that the head was moved to; None where it was not moved.
        confused: What each class is most often taken for (K,); None before lort_hub recorded it.
    """

    accuracy: float
    balanced_accuracy: float
    many: Number
    medium: Number
    few: Number
    worst_class: ClassAccuracy
    macro_f1: float
    nll: float
    ece: float
    logits_magnitude: Spread
    regularized_std: Spread
    weight_norm: Spread | None
    per_class_accuracy: tuple[Number, ...]
    groups: dict[str, GroupSize]
    thresholds: tuple[int, int]
    calibration: tuple[tuple[float, float, float], ...]
    n: int
    interval: Interval | None = None
    as_solved: LogitScale | None = None
    calibrated: LogitScale | None = None
    mix: MixScores | None = None
    confused: tuple[Confused, ...] | None = None

    def __getitem__(self, name: str) -> Any:
        """Return a part by its name in metrics.json."""
        return self.to_json()[name]

    @property
    def untested(self) -> int | None:
        """Number of classes without test images; None where there is none."""
        return self.per_class_accuracy.count(None) or None

    @property
    def at_its_scale(self) -> LogitScale:
        """The numbers that depend on the scale of the logits, as they are."""
        norm = self.weight_norm.mean if self.weight_norm else None
        return LogitScale(self.nll, self.ece, self.logits_magnitude.mean, self.regularized_std.mean, norm)


@dataclass(frozen=True)
class Scores(Record):
    """The numbers of a `Report` that tables show and a head carries; its attributes are described there."""

    accuracy: float
    balanced_accuracy: float
    many: Number
    medium: Number
    few: Number
    macro_f1: float
    ece: float
    nll: float
    n: int
    groups: dict[str, GroupSize]
    thresholds: tuple[int, int]
    interval: Interval | None = None
    untested: int | None = None
    as_solved: LogitScale | None = None
    calibrated: LogitScale | None = None
    mix: MixScores | None = None


@dataclass(frozen=True)
class SelectionRecord(Record):
    """How settings were chosen, and the method where it was chosen too.

    Attributes:
        chosen: The settings.
        by: Name of the score; None where there was no setting to choose, as the two below.
        how: Where the held-out predictions are from.
        score: Score of the chosen settings.
        candidates: All settings tried, each with its score.
        why: Why the method was chosen; None where it was given.
        methods: Score of each method tried; None where it was given.
    """

    chosen: dict[str, float]
    by: str | None = None
    how: str | None = None
    score: float | None = None
    candidates: tuple[dict[str, float], ...] = ()
    why: str | None = None
    methods: dict[str, float] | None = None


@dataclass(frozen=True)
class MetricsRecord(Record):
    """The content of metrics.json: every number of a run.

    Attributes:
        test: Report of the new head.
        baseline: Report of the head it is compared with; None where there is none.
        selection: How its settings were chosen; None where they were given.
        timing: Seconds of each phase.
        history: One row for each epoch of stage 1; None where there was none.
        others: Reports of further heads to compare with, by method; None where there are none.
        note: Note that held-out training images were far easier than the test; None where they were not.
    """

    test: Report
    baseline: Report | None
    selection: SelectionRecord | None
    timing: dict[str, float]
    history: tuple[dict[str, Any], ...] | None = None
    others: dict[str, Report] | None = None
    note: str | None = None


@dataclass(frozen=True)
class ResultRow(Record):
    """One row of results.csv: a head of a comparison or an ablation, and its numbers.

    The rates and the losses are those of `Report`.

    Attributes:
        method: Name of the method or the ablation.
        seed: Seed of the run.
        seconds: Seconds of selection and fit.
        chosen: Settings that were chosen or varied.
        logits_magnitude_mean: Mean LoMa of the classes.
        logits_magnitude_std: Its standard deviation.
        regularized_std_mean: Mean RSD of the classes.
        regularized_std_std: Its standard deviation.
        weight_norm_spread: Standard deviation over mean of the norms of W's rows; None where W was not given.
        n: Test images.
        shifted: Accuracy under other test priors, by name.
        cell: Backbone, data set and cut; None where there is only one.
    """

    method: str
    seed: int
    seconds: float
    chosen: dict[str, Any]
    accuracy: float
    balanced_accuracy: float
    many: Number
    medium: Number
    few: Number
    macro_f1: float
    nll: float
    ece: float
    logits_magnitude_mean: Number
    logits_magnitude_std: Number
    regularized_std_mean: Number
    regularized_std_std: Number
    weight_norm_spread: Number
    n: int
    shifted: dict[str, float]
    cell: str | None = None

    def to_csv(self) -> dict[str, Any]:
        """Return the row of results.csv: `chosen` as JSON, a column for each test prior."""
        row = {**self.to_json(), "chosen": json.dumps(self.chosen)}
        cell = {"cell": row.pop("cell")} if "cell" in row else {}
        shifted = row.pop("shifted")
        return {**cell, **row, **shifted}
