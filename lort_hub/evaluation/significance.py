"""Test differences between methods, and weight accuracies by other test priors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lort_hub.heads.methods import CHOICES

Array = npt.NDArray[Any]


RATIOS = (50, 25, 10, 5, 2)


def paired_p_value(
    right: Array, other: Array, labels: Array, *, resamples: int = 10_000, seed: int = 0
) -> float:
    """Compute the two-sided bootstrap p-value of a difference in balanced accuracy between two heads.

    The test images are resampled within each class. The p-value depends neither on their order nor on which
    head comes first.

    Args:
        right: Whether one head is right on each test image (N,): 0 or 1, or a mean over seeds.
        other: The same for the other head.
        labels: Labels (N,).
        resamples: Number of resamples; the smallest p-value is one over it.
        seed: Seed of the resamples.

    Example:
        >>> labels = np.repeat([0, 1], 50)
        >>> paired_p_value(np.ones(100), np.tile([0, 1], 50), labels, resamples=100)
        0.01
    """
    means = _resampled_means(right, other, labels, resamples, seed)
    below, above = np.mean(means <= 0), np.mean(means >= 0)
    return float(np.clip(2 * min(below, above), 1 / resamples, 1.0))


def paired_interval(
    right: Array,
    other: Array,
    labels: Array,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Compute the bootstrap interval of a difference in balanced accuracy, by the resamples of the p-value.

    Args:
        right: Whether one head is right on each test image (N,), as in `paired_p_value`.
        other: The same for the head that is subtracted.
        labels: Labels (N,).
        level: Its level.
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Example:
        >>> labels = np.repeat([0, 1], 50)
        >>> low, high = paired_interval(np.ones(100), np.tile([0, 1], 50), labels)
        >>> low < 0.5 < high
        True
    """
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(
        _resampled_means(right, other, labels, resamples, seed), [tail, 100 - tail]
    ).tolist()
    return low, high


def _resampled_means(right: Array, other: Array, labels: Array, resamples: int, seed: int) -> Array:
    """Mean over the classes of the difference of two heads, in each resample of each class's images."""
    difference = np.asarray(right, dtype=np.float64) - other
    of_class = [labels == label for label in np.unique(labels)]
    # The same random numbers whichever head comes first: of the two signs, the one that sorts last.
    first = max(difference, -difference, key=lambda signed: [sorted(signed[own]) for own in of_class])
    sign = 1.0 if first is difference else -1.0
    rng, total = np.random.default_rng(seed), np.zeros(resamples)
    for own in of_class:
        values, counts = np.unique(first[own], return_counts=True)
        drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=resamples)
        total += drawn @ values / counts.sum()
    means: Array = sign * total.round(12) / len(of_class)  # ties are ties whatever the order of the sum
    return means


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for the number of tests by Holm's method.

    Args:
        p_values: P-value of each test, by its name.

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    corrected, largest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        corrected[name] = largest
    return corrected


def paired_tests(right: Mapping[str, Sequence[Array]], labels: Array) -> dict[str, dict[str, float]]:
    """Test single methods against cross-entropy and against the best of them, with corrected p-values.

    Args:
        right: Whether each test image (N,) was right, one array for each seed, by method.
        labels: Labels (N,) of the test images.

    Returns:
        P-values by method, by title of the column; a method is not tested against itself.

    Example:
        >>> labels = np.repeat([0, 1], 50)
        >>> list(paired_tests({"ce": [labels == 0], "lort": [labels == labels]}, labels))
        ['p vs ce', 'p vs best']
    """
    mean = {name: np.mean(runs, axis=0) for name, runs in right.items()}
    present = np.unique(labels)
    score = {name: np.mean([value[labels == k].mean() for k in present]) for name, value in mean.items()}
    columns = {}
    singles = [name for name in score if name not in CHOICES]
    best = max(singles, key=lambda name: float(score[name]), default=None)
    for title, rival in (("p vs ce", "ce"), ("p vs best", best)):
        if rival in mean:
            others = {name: value for name, value in mean.items() if name not in (rival, *CHOICES)}
            columns[title] = holm(
                {n: paired_p_value(value, mean[rival], labels) for n, value in others.items()}
            )
    return columns


def shifted_accuracy(per_class_accuracy: Sequence[float | None], class_counts: Array) -> dict[str, float]:
    """Compute the accuracy under exponential test priors, in the order of the training counts or the reverse.

    This is the protocol of SADE (arXiv 2107.09249) in expectation: the accuracies of the classes, weighted by
    the test prior.

    Args:
        per_class_accuracy: Test accuracy (K,) of each class; None where it has no test image.
        class_counts: Training images (K,), which order the classes.

    Returns:
        Accuracy by "forward 50" ... "forward 2", "uniform", "backward 2" ... "backward 50".

    Example:
        >>> {name: round(value, 2) for name, value in shifted_accuracy([1.0, 0.0], np.array([9, 1])).items()}[
        ...     "forward 2"]
        0.67
    """
    accuracy = np.array([np.nan if value is None else value for value in per_class_accuracy])
    priors = shifted_priors(np.isfinite(accuracy), class_counts)
    return {name: float(np.nansum(prior * accuracy)) for name, prior in priors.items()}


def shifted_priors(tested: Array, class_counts: Array) -> dict[str, Array]:
    """Compute exponential test priors (K,), in the order of the training counts or the reverse.

    Args:
        tested: Whether each class (K,) has a test image; others have the prior 0.
        class_counts: Training images (K,), which order the classes.

    Returns:
        Priors by "forward 50" ... "forward 2", "uniform", "backward 2" ... "backward 50".

    Example:
        >>> shifted_priors(np.array([True, True]), np.array([9, 1]))["forward 50"].round(2)
        array([0.98, 0.02])
    """
    order = np.argsort(-np.asarray(class_counts), kind="stable")
    order = order[tested[order]]
    place = np.arange(len(order)) / max(1, len(order) - 1)
    slopes = {f"forward {ratio}": -np.log(ratio) for ratio in RATIOS}
    slopes |= {"uniform": 0.0, **{f"backward {ratio}": np.log(ratio) for ratio in reversed(RATIOS)}}
    priors = {}
    for name, slope in slopes.items():
        priors[name] = np.zeros(len(tested))
        priors[name][order] = np.exp(slope * place) / np.exp(slope * place).sum()
    return priors
