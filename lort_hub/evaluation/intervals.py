"""Compute intervals of the accuracy over all images, over the classes and over each group of classes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lort_hub.evaluation.arrays import Array
from lort_hub.evaluation.report import Interval, Range

LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
ADDED = 2
"""Images that are added to each class for the width of an interval."""


def accuracy_intervals(
    accuracies: Array, tested: Array, groups: Mapping[str, Array], *, resamples: int, seed: int = 0
) -> Interval:
    """Compute 95 % intervals by a percentile bootstrap within each class.

    A class of few images shows too little variance of its own, none if it has one image. So two images that
    are right as often as the mean class are added to each class, for the width alone. And an interval reaches
    as far down as if all of its n images were right, 0.025 ** (1 / n), and as far up as if all were wrong.

    Args:
        accuracies: Accuracy (K,) of each class; not read where it has no test image.
        tested: Test images (K,) of each class.
        groups: Numbers of the classes in "many", "medium" and "few".
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Example:
        >>> groups = {"many": np.array([0]), "medium": np.array([1]), "few": np.array([2])}
        >>> rates, tested = np.array([1.0, 0.8, 0.0]), np.array([50, 50, 1])
        >>> found = accuracy_intervals(rates, tested, groups, resamples=999)
        >>> [tuple(round(end, 3) for end in ends) for ends in (found.many, found.few)]
        [(0.929, 1.0), (0.0, 0.975)]
    """
    present = np.flatnonzero(tested)
    images, right = tested[present], accuracies[present]
    shrunk = (images * right + ADDED * right.mean()) / (images + ADDED)
    drawn = np.random.default_rng(seed).binomial(images, shrunk, size=(resamples, len(present)))
    rates = drawn / images - shrunk + right

    def ends(weights: Array) -> Range:
        """Interval of the sum of the classes' rates times these weights, which add up to 1."""
        low, high = np.quantile(rates @ weights, [TAIL, 1 - TAIL]).tolist()
        least = float(TAIL ** (weights**2 @ (1 / images)))  # the power is 1 / n
        return max(0.0, min(low, least)), min(1.0, max(high, 1 - least))

    def mean_of(classes: Array) -> Range | None:
        chosen = np.isin(present, classes)
        return ends(chosen / chosen.sum()) if chosen.any() else None

    return Interval(
        level=LEVEL,
        resamples=resamples,
        accuracy=ends(images / images.sum()),
        balanced_accuracy=mean_of(present),
        **{name: mean_of(classes) for name, classes in groups.items()},
    )
