"""Find what a head gets wrong: its worst classes, most frequent confusions and most confident mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lort_hub.evaluation.arrays import Array, to_array
from lort_hub.evaluation.metrics import log_softmax

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 1024
"""Samples whose probabilities are in memory at once."""


@dataclass(frozen=True)
class Mistake:
    """A test image that a head takes for another class.

    Attributes:
        position: Position in the test set.
        label: Its class.
        predicted: The class that the head says.
        probability: Probability that the head gives to that one.
        of_label: Probability that it gives to its class.
    """

    position: int
    label: int
    predicted: int
    probability: float
    of_label: float


@dataclass(frozen=True)
class Confusion:
    """A class that is taken for another one.

    Attributes:
        label: The class.
        predicted: The other one.
        count: Test images of the class that are taken for the other one.
        tested: Test images of the class.
        examples: Some of the images, the most confident mistakes first.
    """

    label: int
    predicted: int
    count: int
    tested: int
    examples: tuple[Mistake, ...]


@dataclass(frozen=True)
class WorstClass:
    """A class that is often not recognised.

    Attributes:
        label: The class.
        right: Its test images that are right.
        tested: Its test images.
        taken_for: What it is taken for, the most frequent class first, each with its number of images.
        examples: Some of the images, the most confident mistakes first.
    """

    label: int
    right: int
    tested: int
    taken_for: tuple[tuple[int, int], ...]
    examples: tuple[Mistake, ...]


@dataclass(frozen=True)
class Mistakes:
    """What a head gets wrong on a test set.

    Attributes:
        n: Test images.
        wrong: How many of them are wrong.
        worst: Classes with a mistake, the lowest accuracy first, then the most mistakes.
        confusions: Pairs of classes, the most frequent first.
        confident: Mistakes, the largest probability first. A wrong label looks like one of them.
    """

    n: int
    wrong: int
    worst: tuple[WorstClass, ...]
    confusions: tuple[Confusion, ...]
    confident: tuple[Mistake, ...]


def find_mistakes(
    logits: Array | Tensor,
    labels: Array | Tensor,
    *,
    classes: int = 12,
    confusions: int = 12,
    confident: int = 24,
    examples: int = 3,
) -> Mistakes:
    """Find the worst classes, the most frequent confusions and the most confident mistakes.

    Of mistakes alike, the one whose class has the smaller probability is first; what is equal is in the order
    of the classes, or of the images.

    Args:
        logits: Logits (N, K) of a test set.
        labels: Labels (N,).
        classes: Most classes to list.
        confusions: Most confusions to list.
        confident: Most confident mistakes to list.
        examples: Most examples of a class or a confusion.

    Example:
        >>> logits = np.log([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
        >>> found = find_mistakes(logits, np.array([0, 0, 0]))
        >>> [(one.position, round(one.probability, 2)) for one in found.confident]
        [(1, 0.8), (2, 0.6)]
        >>> [(one.label, one.predicted, one.count, one.tested) for one in found.confusions]
        [(0, 1, 2, 3)]
    """
    logits, labels = to_array(logits), to_array(labels).astype(np.int64)
    num_classes = logits.shape[1]
    predicted, said, of_label = _predictions(logits, labels)
    wrong = np.flatnonzero(predicted != labels)
    keys = (wrong, of_label[wrong].round(12), -said[wrong].round(12))  # ties are ties whatever the rounding
    wrong = wrong[np.lexsort(keys)]
    pairs, counts = np.unique(labels[wrong] * num_classes + predicted[wrong], return_counts=True)
    by_count = np.lexsort((pairs, -counts))
    pairs, counts = pairs[by_count], counts[by_count]
    tested = np.bincount(labels, minlength=num_classes)
    mistaken = np.bincount(labels[wrong], minlength=num_classes)
    right = tested - mistaken
    accuracy = right / np.maximum(tested, 1)
    with_mistake = np.flatnonzero(mistaken)
    worst = with_mistake[np.lexsort((with_mistake, -mistaken[with_mistake], accuracy[with_mistake]))]

    def record(positions: Array) -> Iterator[Mistake]:
        for at in positions.tolist():
            probabilities = float(np.exp(said[at])), float(np.exp(of_label[at]))
            yield Mistake(at, int(labels[at]), int(predicted[at]), *probabilities)

    def of_class(k: int) -> WorstClass:
        own = pairs // num_classes == k
        taken_for = zip((pairs[own] % num_classes).tolist(), counts[own].tolist(), strict=True)
        shown = tuple(record(wrong[labels[wrong] == k][:examples]))
        return WorstClass(k, int(right[k]), int(tested[k]), tuple(taken_for), shown)

    def of_pair(pair: int, count: int) -> Confusion:
        label, other = divmod(pair, num_classes)
        own = (labels[wrong] == label) & (predicted[wrong] == other)
        return Confusion(label, other, count, int(tested[label]), tuple(record(wrong[own][:examples])))

    most = zip(pairs[:confusions].tolist(), counts[:confusions].tolist(), strict=True)
    return Mistakes(
        n=len(labels),
        wrong=len(wrong),
        worst=tuple(of_class(k) for k in worst[:classes].tolist()),
        confusions=tuple(of_pair(pair, count) for pair, count in most),
        confident=tuple(record(wrong[:confident])),
    )


def _predictions(logits: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Predicted class (N,), its log-probability (N,) and that of the label (N,)."""
    said, of_label = np.empty(len(labels)), np.empty(len(labels))
    for start in range(0, len(labels), ROWS):
        own = slice(start, start + ROWS)
        log_probabilities = log_softmax(logits[own])
        said[own] = log_probabilities.max(axis=1)
        of_label[own] = log_probabilities[np.arange(len(log_probabilities)), labels[own]]
    return logits.argmax(axis=1), said, of_label
