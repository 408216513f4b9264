"""Metrics of long-tailed recognition: accuracy by group, calibration, logits magnitude and its spread.

Everything is computed in float64 from the logits of a whole test set; a number that is not defined, such as
the accuracy of an empty group, is None.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lort_hub.errors import ConfigError, FeatureError

GROUP_THRESHOLDS = (20, 100)
ECE_BINS = 15
SPREADS: tuple[Literal["pooled", "positives", "negatives"], ...] = ("pooled", "positives", "negatives")
LEVEL = 0.95

Array = npt.NDArray[Any]


def class_groups(class_counts: Array, thresholds: tuple[int, int] = GROUP_THRESHOLDS) -> dict[str, Array]:
    """Group the classes by their number of training images: many, medium, few (docs/method.md).

    Args:
        class_counts: Training images (K,).
        thresholds: Many is above the second, few below the first, medium between, both included.

    Returns:
        Class numbers of "many", "medium" and "few".

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
    counts = np.asarray(class_counts)
    return {
        "many": np.flatnonzero(counts > high),
        "medium": np.flatnonzero((counts >= low) & (counts <= high)),
        "few": np.flatnonzero(counts < low),
    }


def logits_magnitude(
    logits: Array, labels: Array, negatives: Literal["samples", "classes"] = "samples"
) -> Array:
    """Compute the logits magnitude LoMa of each class: mean positive minus mean negative logit.

    The paper leaves open whether the negative mean runs over samples or over class means; the two agree on a
    balanced set.

    Args:
        logits: Logits (N, K).
        labels: Labels (N,).
        negatives: What the negative mean runs over.

    Returns:
        LoMa (K,); NaN for a class without samples, or alone.

    Example:
        >>> logits = np.array([[3.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> logits_magnitude(logits, np.array([0, 0, 1]))
        array([2., 1.])
    """
    positive, negative = _positive_and_negative_means(logits, labels, negatives)
    return positive - negative


def regularized_std(
    logits: Array, labels: Array, spread: Literal["pooled", "positives", "negatives"] = "pooled"
) -> Array:
    """Compute the standard deviation of each class's logit over its LoMa (RSD); rescaling leaves it as it is.

    The paper leaves open which samples the deviation runs over; "pooled" takes positives about their mean and
    negatives about theirs, over all N samples.

    Args:
        logits: Logits (N, K).
        labels: Labels (N,).
        spread: Which samples the standard deviation runs over.

    Returns:
        RSD (K,); NaN where LoMa is.

    Example:
        >>> logits = np.array([[3.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> regularized_std(logits, np.array([0, 0, 1]), spread="positives")
        array([0.5, 0. ])
    """
    z, onehot = np.asarray(logits, dtype=np.float64), _onehot(labels, np.shape(logits)[1])
    positive, negative = _positive_and_negative_means(logits, labels, "samples")
    residual = np.where(onehot, z - positive, z - negative) ** 2
    counted = {"pooled": np.ones_like(onehot), "positives": onehot, "negatives": ~onehot}[spread]
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.where(counted, residual, 0).sum(axis=0) / counted.sum(axis=0)
        ratio: Array = np.sqrt(variance) / (positive - negative)
    return ratio


def _onehot(labels: Array, num_classes: int) -> npt.NDArray[np.bool_]:
    onehot: npt.NDArray[np.bool_] = np.asarray(labels)[:, None] == np.arange(num_classes)
    return onehot


def _positive_and_negative_means(logits: Array, labels: Array, negatives: str) -> tuple[Array, Array]:
    z = np.asarray(logits, dtype=np.float64)
    onehot = _onehot(labels, z.shape[1])
    counts = onehot.sum(axis=0)
    sums = onehot.T.astype(np.float64) @ z  # sums[c, k]: class k's logit over the samples of class c
    with np.errstate(invalid="ignore", divide="ignore"):
        positive = np.diag(sums) / counts
        if negatives == "samples":
            return positive, (z.sum(axis=0) - np.diag(sums)) / (len(z) - counts)
        means = np.where(counts[:, None] > 0, sums / counts[:, None], 0.0)
        others = (counts > 0).sum() - (counts > 0)
        return positive, (means.sum(axis=0) - np.diag(means)) / others


def calibration_bins(log_probabilities: Array, labels: Array, bins: int = ECE_BINS) -> Array:
    """Reliability of the top prediction, in bins of equal width of its probability.

    Args:
        log_probabilities: Log-probabilities (N, K).
        labels: Labels (N,).
        bins: Number of bins over (0, 1].

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
    samples = np.bincount(place, minlength=bins).astype(np.float64)
    filled = np.maximum(samples, 1)
    return np.stack(
        [samples, np.bincount(place, confidence, bins) / filled, np.bincount(place, correct, bins) / filled],
        axis=1,
    )


def evaluate(
    logits: Array,
    labels: Array,
    class_counts: Array,
    *,
    weight: Array | None = None,
    thresholds: tuple[int, int] = GROUP_THRESHOLDS,
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Every number lort_hub reports about a head, as JSON-ready values; rates are fractions.

    Groups and balanced accuracy are means of per-class accuracies. The interval is a percentile bootstrap
    that resamples the test images within each class, so a class's number correct is binomial, drawn exactly;
    a class with one test image adds no width to it.

    Args:
        logits: Logits (N, K) of the test set.
        labels: Labels (N,).
        class_counts: Training images (K,), which define the groups.
        weight: W (K, D) for its row norms; None to leave them out.
        thresholds: As in `class_groups`.
        bootstrap: Resamples of the interval; 0 for none.
        seed: Seed of the resamples.

    Raises:
        FeatureError: Empty, misshapen or non-finite logits, or labels out of range.

    Example:
        >>> report = evaluate(np.eye(3), np.array([0, 1, 1]), np.array([200, 50, 5]))
        >>> round(report["accuracy"], 3), report["many"], report["medium"], report["few"]
        (0.667, 1.0, 0.5, None)
    """
    from lort_hub.heads.scorers import macro_f1  # not above: it loads torch, which recipes import late

    logits, labels, counts = (np.asarray(array) for array in (logits, labels, class_counts))
    _check(logits, labels, len(counts))
    logits = logits.astype(np.float64)
    tested = np.bincount(labels, minlength=len(counts))
    predicted = logits.argmax(axis=1)
    correct = np.bincount(labels[predicted == labels], minlength=len(counts))
    accuracies = np.where(tested > 0, correct / np.maximum(tested, 1), np.nan)
    groups = class_groups(counts, thresholds)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    bins = calibration_bins(log_probabilities, labels)
    worst = int(np.nanargmin(accuracies))
    report = {
        "accuracy": correct.sum() / len(labels),
        "balanced_accuracy": np.nanmean(accuracies),
        **{name: _mean(accuracies[classes]) for name, classes in groups.items()},
        "worst_class": {"class": worst, "accuracy": accuracies[worst]},
        "macro_f1": macro_f1(labels, predicted),
        "nll": -log_probabilities[np.arange(len(labels)), labels].mean(),
        "ece": float(bins[:, 0] @ np.abs(bins[:, 1] - bins[:, 2])) / len(labels),
        "logits_magnitude": {
            **_summary(logits_magnitude(logits, labels)),
            "mean_by_negatives": {
                over: _mean(logits_magnitude(logits, labels, over)) for over in ("samples", "classes")
            },
        },
        "regularized_std": {
            **_summary(regularized_std(logits, labels)),
            "mean_by_spread": {over: _mean(regularized_std(logits, labels, over)) for over in SPREADS},
        },
        "weight_norm": None if weight is None else _summary(np.linalg.norm(np.asarray(weight), axis=1)),
        "per_class_accuracy": accuracies,
        "groups": {
            name: {"classes": len(c), "train_images": counts[c].sum(), "n": tested[c].sum()}
            for name, c in groups.items()
        },
        "thresholds": thresholds,
        "calibration": bins,
        "n": len(labels),
    }
    if bootstrap:
        report["interval"] = _interval(accuracies, tested, groups, bootstrap, seed)
    plain: dict[str, Any] = _plain(report)
    return plain


def _check(logits: Array, labels: Array, num_classes: int) -> None:
    if logits.ndim != 2 or logits.shape != (len(labels), num_classes) or len(labels) == 0:
        raise FeatureError(
            f"Got logits of shape {logits.shape} for {len(labels)} labels, "
            f"expected ({len(labels)}, {num_classes}) with at least one sample."
        )
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if bad.size:
        raise FeatureError(f"Sample {bad[0]} has label {labels[bad[0]]}, expected 0..{num_classes - 1}.")
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if bad.size:
        raise FeatureError(f"Sample {bad[0]} has NaN or infinite logits ({bad.size} such samples).")


def _interval(
    accuracies: Array, tested: Array, groups: dict[str, Array], resamples: int, seed: int
) -> dict[str, Any]:
    present = np.flatnonzero(tested)
    rng = np.random.default_rng(seed)
    correct = rng.binomial(tested[present], accuracies[present], size=(resamples, len(present)))
    rates = correct / tested[present]
    tail = 100 * (1 - LEVEL) / 2

    def percentiles(values: Array) -> list[float] | None:
        return np.percentile(values, [tail, 100 - tail]).tolist() if values.size else None

    def mean_of(classes: Array) -> list[float] | None:
        chosen = rates[:, np.isin(present, classes)]
        return percentiles(chosen.mean(axis=1)) if chosen.shape[1] else None

    return {
        "level": LEVEL,
        "resamples": resamples,
        "accuracy": percentiles(correct.sum(axis=1) / tested.sum()),
        "balanced_accuracy": mean_of(present),
        **{name: mean_of(classes) for name, classes in groups.items()},
    }


def _mean(values: Array) -> float | None:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else None


def _summary(values: Array) -> dict[str, Any]:
    defined = values[np.isfinite(values)]
    return {"mean": _mean(values), "std": float(defined.std()) if defined.size else None, "per_class": values}


def _plain(value: Any) -> Any:
    """JSON-ready: plain containers and numbers, None for what is not finite."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
