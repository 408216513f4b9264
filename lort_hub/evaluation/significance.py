"""Test differences between methods, and weight accuracies by other test priors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lort_hub.evaluation.intervals import ADDED
from lort_hub.heads.methods import CHOICES

Array = npt.NDArray[Any]
Key = TypeVar("Key")

RATIOS = (50, 25, 10, 5, 2)
TIE = 1e-12
"""Differences in balanced accuracy up to this are equal."""


def paired_p_value(
    right: Array, other: Array, labels: Array, *, resamples: int = 10_000, seed: int = 0
) -> float:
    """Compute the two-sided p-value of a difference in balanced accuracy between two heads, by sign flips.

    If no head is better than the other, each image on which they differ could as well have gone the other
    way: the p-value is how often random signs bring the difference at least as far from zero as it is. It
    holds for classes of one test image too, and depends neither on the order of the images nor on which head
    comes first.

    Args:
        right: Whether one head is right on each test image (N,): 0 or 1, or a mean over seeds.
        other: The same for the other head.
        labels: Labels (N,).
        resamples: Number of random draws of all signs.
        seed: Seed of the signs.

    Example:
        >>> labels, right = np.repeat([0, 1], 50), np.ones(100)
        >>> other = np.where(np.arange(100) < 4, 0, right)
        >>> 0.11 < paired_p_value(right, other, labels) < 0.14  # 4 of 4 images one way: 2 / 2 ** 4
        True
    """
    _, of_class, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    moves = _differences(right, other) / sizes[of_class] / len(sizes)
    lengths, counts = np.unique(np.abs(moves[moves != 0]), return_counts=True)
    observed = abs(math.fsum(moves))  # exact sums do not see the order
    if observed < TIE:
        return 1.0
    rng, flipped = np.random.default_rng(seed), np.zeros(resamples)
    for length, count in zip(lengths, counts, strict=True):
        flipped += length * (2 * rng.binomial(count, 0.5, size=resamples) - count)
    drawn = (1 + np.sum(np.abs(flipped) >= observed - TIE)) / (1 + resamples)
    hoeffding = 2 * np.exp(-(observed**2) / (2 * math.fsum(moves**2)))  # a bound that many draws would reach
    return float(max(min(drawn, hoeffding), np.finfo(float).tiny))


def paired_interval(
    right: Array,
    other: Array,
    labels: Array,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Compute the interval of a difference in balanced accuracy, by a bootstrap within each class.

    The differences of a class's images are drawn from their shares with two images added that are as those of
    all classes, and as often in favour of either head; the difference stays in the middle. Without them, a
    class of one image would add no width. Zero is inside wherever `paired_p_value` is above 1 - level.

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
    difference = _differences(right, other)
    values = np.unique([difference, -difference])
    classes, of_class = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(classes), len(values)), dtype=np.int64)
    np.add.at(counts, (of_class, np.searchsorted(values, difference)), 1)
    # The same random numbers whichever head comes first.
    swapped = counts[:, ::-1].tolist() > counts.tolist()
    counts = counts[:, ::-1] if swapped else counts
    sizes = counts.sum(axis=1, keepdims=True)
    shares = counts / sizes
    of_all = (shares.mean(axis=0) + shares.mean(axis=0)[::-1]) / 2
    shrunk = (counts + ADDED * of_all) / (sizes + ADDED)
    rng, means = np.random.default_rng(seed), np.full(resamples, ((shares - shrunk) @ values).sum())
    for size, chances in zip(sizes[:, 0], shrunk, strict=True):
        means += rng.multinomial(size, chances, size=resamples) @ values / size
    means = (means / len(classes)).clip(values[0], values[-1])
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail]).tolist()
    low, high = (0.0 - high, 0.0 - low) if swapped else (low, high)
    if paired_p_value(right, other, labels, resamples=resamples, seed=seed) > 1 - level:
        return min(low, 0.0), max(high, 0.0)
    return low, high


def _differences(right: Array, other: Array) -> Array:
    """Differences (N,) of two heads; equal ones are equal whatever the order of the sum over seeds."""
    rounded: Array = (np.asarray(right, dtype=np.float64) - other).round(12) + 0.0  # no -0.0
    return rounded


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Correct p-values for the number of tests by Holm's method.

    Args:
        p_values: P-value of each test.

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

    Which of them is the best is known of the same images only, so any pair could have been the one to test:
    these p-values are corrected for all pairs. Those against cross-entropy are for the methods but itself.

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
    singles = [name for name in score if name not in CHOICES]
    p_values = {
        frozenset(pair): paired_p_value(mean[pair[0]], mean[pair[1]], labels)
        for pair in itertools.combinations(singles, 2)
    }
    against_ce = {pair: p for pair, p in p_values.items() if "ce" in pair}
    best = max(singles, key=lambda name: float(score[name]), default="")
    columns = {}
    for title, rival, tested in (("p vs ce", "ce", against_ce), ("p vs best", best, p_values)):
        if rival in singles:
            corrected = holm(tested)
            columns[title] = {name: corrected[frozenset((name, rival))] for name in singles if name != rival}
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
