"""Compute the metrics of long-tailed recognition: accuracy by group, calibration, logits magnitude.

All are computed in float64 from the logits of the whole test set. A number that is not defined, such as the
accuracy of an empty group, is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lort_hub.errors import ConfigError, FeatureError
from lort_hub.evaluation.arrays import Array, to_array
from lort_hub.evaluation.intervals import accuracy_intervals
from lort_hub.evaluation.magnitude import NEGATIVES, SPREADS, logits_magnitude, regularized_std
from lort_hub.evaluation.report import (
    ClassAccuracy,
    Confused,
    GroupSize,
    LogitScale,
    Number,
    Report,
    Spread,
)

if TYPE_CHECKING:
    from torch import Tensor

GROUP_THRESHOLDS = (20, 100)
ECE_BINS = 15


def class_groups(class_counts: Array, thresholds: tuple[int, int] = GROUP_THRESHOLDS) -> dict[str, Array]:
    """Group the classes by their number of training images: many, medium, few (docs/method.md).

    Args:
        class_counts: Training images (K,).
        thresholds: Few is below the first number, many above the second, medium from the first to the second.

    Returns:
        Numbers of the classes in "many", "medium" and "few".

    Raises:
        ConfigError: The thresholds are not in order.

    Example:
        >>> class_groups(np.array([101, 100, 20, 19]))
        {'many': array([0]), 'medium': array([1, 2]), 'few': array([3])}
    """
    if len(thresholds) != 2 or not 0 <= thresholds[0] <= thresholds[1]:
        got = " and ".join(map(str, thresholds))
        raise ConfigError(f"Group thresholds are {got}, expected 0 <= few < LOW <= HIGH < many.")
    low, high = thresholds
    counts = to_array(class_counts)
    return {
        "many": np.flatnonzero(counts > high),
        "medium": np.flatnonzero((counts >= low) & (counts <= high)),
        "few": np.flatnonzero(counts < low),
    }


def log_softmax(logits: Array) -> Array:
    """Compute log-probabilities (N, K) of logits (N, K), float64.

    Example:
        >>> np.exp(log_softmax(np.zeros((1, 2))))
        array([[0.5, 0.5]])
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_probabilities: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_probabilities


def calibration_bins(
    log_probabilities: Array, labels: Array, bins: int = ECE_BINS, weights: Array | None = None
) -> Array:
    """Count the top predictions and their accuracy in bins of equal width of their probability.

    Args:
        log_probabilities: Log-probabilities (N, K).
        labels: Labels (N,).
        bins: Number of bins over (0, 1].
        weights: How much each sample counts (N,); None for 1.

    Returns:
        Columns samples, mean confidence, accuracy (bins, 3); the latter two are zero for an empty bin.

    Example:
        >>> calibration_bins(np.log([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]), bins=2)
        array([[0.  , 0.  , 0.  ],
               [2.  , 0.85, 0.5 ]])
    """
    confidence = np.exp(log_probabilities.max(axis=1))
    correct = log_probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    weights = np.ones(len(labels)) if weights is None else weights
    samples = np.bincount(place, weights, minlength=bins)
    filled = np.where(samples > 0, samples, 1)
    sums = [np.bincount(place, weights * values, minlength=bins) / filled for values in (confidence, correct)]
    return np.stack([samples, *sums], axis=1)


def calibration_error(log_probabilities: Array, labels: Array, weights: Array | None = None) -> float:
    """Compute the expected calibration error, over bins of equal width.

    Args:
        log_probabilities: Log-probabilities (N, K).
        labels: Labels (N,).
        weights: How much each sample counts (N,); None for 1.

    Example:
        >>> round(calibration_error(np.log([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0])), 2)
        0.15
    """
    bins = calibration_bins(log_probabilities, labels, weights=weights)
    return float(bins[:, 0] @ np.abs(bins[:, 1] - bins[:, 2])) / float(bins[:, 0].sum())


def evaluate(
    logits: Array | Tensor,
    labels: Array | Tensor,
    class_counts: Array | Tensor | Sequence[int],
    *,
    weight: Array | Tensor | None = None,
    others: int = 0,
    scale: float = 1.0,
    thresholds: tuple[int, int] = GROUP_THRESHOLDS,
    bootstrap: int = 0,
    seed: int = 0,
) -> Report:
    """Compute every number about a head from its logits on a test set; rates are fractions.

    The balanced accuracy and the accuracies of the groups are means over classes. The intervals are those of
    `accuracy_intervals`.

    A column of -inf is a class that the head does not have: its samples are wrong, in the ECE too; the
    NLL leaves them out.

    Args:
        logits: Logits (N, K) of the test set, as a tensor or an array.
        labels: Labels (N,).
        class_counts: Training images (K,), which define the groups.
        weight: W (K, D) for the norms of its rows; None to leave them out.
        others: Number of columns after the K, of classes that the test set does not have: wrong answers.
        scale: Factor that calibrated the logits and W, as `Fit.scale`; the numbers that depend on it are then
            reported of the head as solved too.
        thresholds: As in `class_groups`.
        bootstrap: Resamples of the intervals; 0 for none.
        seed: Seed of the resamples.

    Returns:
        The report; `report.to_json()` is what metrics.json holds.

    Raises:
        FeatureError: The logits are empty, of another shape or not finite, or a label is out of range.

    Example:
        >>> report = evaluate(np.eye(3), np.array([0, 1, 1]), np.array([200, 50, 5]))
        >>> round(report.accuracy, 3), report.many, report.medium, report.few
        (0.667, 1.0, 0.5, None)
    """
    from lort_hub.heads.scorers import macro_f1  # not above: it loads torch, which recipes import late

    logits, labels, counts = (to_array(values) for values in (logits, labels, class_counts))
    known = _check(logits, labels, len(counts), others)[: len(counts)]
    logits = logits.astype(np.float64)
    own = logits[:, : len(counts)]
    own = own if known.all() else np.where(known, own, np.nan)
    tested = np.bincount(labels, minlength=len(counts))
    predicted = logits.argmax(axis=1)
    correct = np.bincount(labels[predicted == labels], minlength=len(counts))
    accuracies = np.where(tested > 0, correct / np.maximum(tested, 1), np.nan)
    groups = class_groups(counts, thresholds)
    log_probabilities = log_softmax(logits)
    bins = calibration_bins(log_probabilities, labels)
    norms = None if weight is None else np.linalg.norm(to_array(weight), axis=1)
    worst = int(np.nanargmin(accuracies))
    report = Report(
        accuracy=float(correct.sum() / len(labels)),
        balanced_accuracy=float(np.nanmean(accuracies)),
        many=_mean(accuracies[groups["many"]]),
        medium=_mean(accuracies[groups["medium"]]),
        few=_mean(accuracies[groups["few"]]),
        worst_class=ClassAccuracy(worst, float(accuracies[worst])),
        macro_f1=macro_f1(labels, predicted),
        nll=_nll(log_probabilities, labels),
        ece=calibration_error(log_probabilities, labels),
        logits_magnitude=_spread(
            logits_magnitude(own, labels),
            mean_by_negatives={over: _mean(logits_magnitude(own, labels, over)) for over in NEGATIVES},
        ),
        regularized_std=_spread(
            regularized_std(own, labels),
            mean_by_spread={over: _mean(regularized_std(own, labels, over)) for over in SPREADS},
        ),
        weight_norm=None if norms is None else _spread(norms),
        per_class_accuracy=_numbers(accuracies),
        groups={
            name: GroupSize(len(c), int(counts[c].sum()), int(tested[c].sum())) for name, c in groups.items()
        },
        thresholds=(int(thresholds[0]), int(thresholds[1])),
        calibration=tuple((float(n), float(p), float(right)) for n, p, right in bins),
        n=len(labels),
        interval=accuracy_intervals(accuracies, tested, groups, resamples=bootstrap, seed=seed)
        if bootstrap
        else None,
        confused=_confused(labels, predicted, tested),
    )
    if scale == 1:
        return report
    as_solved = _at_scale(logits, labels, norms, 1 / scale)
    return replace(report, as_solved=as_solved, calibrated=report.at_its_scale)


def _confused(labels: Array, predicted: Array, tested: Array) -> tuple[Confused, ...]:
    """Find the class that each is most often taken for; of equally frequent ones the first."""
    wrong = labels != predicted
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    most: dict[int, tuple[int, int]] = {}
    for (label, other), count in zip(pairs.tolist(), counts.tolist(), strict=True):
        if count > most.get(label, (0, 0))[1]:
            most[label] = other, count
    return tuple(
        Confused(*most[k], n) if k in most else Confused(None, 0, n) for k, n in enumerate(tested.tolist())
    )


def _nll(log_probabilities: Array, labels: Array) -> float:
    of_label = log_probabilities[np.arange(len(labels)), labels]
    return float(-of_label[np.isfinite(of_label)].mean())


def _at_scale(logits: Array, labels: Array, norms: Array | None, factor: float) -> LogitScale:
    log_probabilities = log_softmax(factor * logits)
    return LogitScale(
        nll=_nll(log_probabilities, labels),
        ece=calibration_error(log_probabilities, labels),
        logits_magnitude=_mean(logits_magnitude(factor * logits, labels)),
        regularized_std=_mean(regularized_std(factor * logits, labels)),
        weight_norm=None if norms is None else _mean(factor * norms),
    )


def _check(logits: Array, labels: Array, num_classes: int, others: int) -> Array:
    """Which columns (K + others,) are of classes that the head has."""
    expected = (len(labels), num_classes + others)
    if logits.ndim != 2 or logits.shape != expected or len(labels) == 0:
        raise FeatureError(
            f"Got logits of shape {logits.shape} for {len(labels)} labels, "
            f"expected {expected} with at least one sample:\na row for each label, and a column for each of "
            f"the {num_classes} classes of `class_counts`."
        )
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if bad.size:
        raise FeatureError(f"Sample {bad[0]} has label {labels[bad[0]]}, expected 0..{num_classes - 1}.")
    known: Array = (logits != -np.inf).any(axis=0)
    bad = np.flatnonzero(~np.isfinite(logits[:, known]).all(axis=1))
    if bad.size:
        raise FeatureError(f"Sample {bad[0]} has NaN or infinite logits ({bad.size} such samples).")
    if not known[labels].any():
        raise FeatureError("The head has none of the classes of these samples.")
    return known


def _mean(values: Array) -> Number:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else None


def _spread(values: Array, **means: dict[str, Number]) -> Spread:
    defined = values[np.isfinite(values)]
    return Spread(
        mean=_mean(values),
        std=float(defined.std()) if defined.size else None,
        per_class=_numbers(values),
        **means,
    )


def _numbers(values: Array) -> tuple[Number, ...]:
    return tuple(value if np.isfinite(value) else None for value in values.tolist())
