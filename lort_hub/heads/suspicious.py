"""Find images whose label the features contradict: a head fitted without the image, and its neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lort_hub.features.neighbours import nearest_neighbours
from lort_hub.heads.base import FitInputs
from lort_hub.heads.discriminant import Discriminant
from lort_hub.heads.fitters import fit_method
from lort_hub.heads.folds import FOLDS, stratified_folds
from lort_hub.heads.methods import METHODS
from lort_hub.heads.training_set import TrainingSet

NEIGHBOURS = 5
SPHERICITY = 0.25
"""Of the discriminant; what the search chooses on real features is near."""
LOOKED_UP = 2048
"""Images whose neighbours are looked up at once."""


class SuspiciousLabel(NamedTuple):
    """An image whose label neither the head fitted without it nor any of its neighbours has.

    Attributes:
        row: Position of the image.
        label: Its label.
        predicted: The likeliest class.
        margin: Logit of that class less that of the label: the log of how much likelier it is.
        neighbours: Positions of its nearest neighbours by the features.
    """

    row: int
    label: int
    predicted: int
    margin: float
    neighbours: tuple[int, ...]


@dataclass(frozen=True)
class LabelCheck:
    """What the features say of the labels.

    Attributes:
        agreement: Share of the images to which the head fitted without them gives their own label.
        suspicious: The suspicious labels, by descending margin.
        judged: Images that a head was fitted without, which the agreement is a share of.
    """

    agreement: float
    suspicious: tuple[SuspiciousLabel, ...]
    judged: int


def check_labels(training: TrainingSet) -> LabelCheck:
    """Find images whose label the features contradict, the most suspicious first.

    The head is `eb-lda`, fitted without the image, or without the fold of its group where there are groups.
    Nothing is said of the only image, or group, of a class.

    Args:
        training: Features of all images that have a label, for training or for the test, in one process.

    Returns:
        The images that the head gives another class and whose nearest neighbours all have another label.
        Where the agreement is low the features tell the classes apart badly, and the list is of little use.

    Example:
        >>> x = torch.tensor([[0.0, 0.1], [0.1, 0.0], [0.1, 0.1], [1.0, 1.1], [1.1, 1.0], [1.1, 1.1]])
        >>> training = TrainingSet(x.repeat(2, 1), torch.tensor([0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1]), 2)
        >>> [(one.row, one.label, one.predicted) for one in check_labels(training).suspicious]
        [(2, 1, 0)]
    """
    margins, predicted = _held_out(training)
    known = (training.class_counts.to(training.device)[training.labels] > 1) & (margins > -torch.inf)
    found = list[SuspiciousLabel]()
    for rows in ((margins > 0) & known).nonzero().flatten().split(LOOKED_UP):
        near = nearest_neighbours(training.matrix, rows, NEIGHBOURS, training.groups)[1]
        alien = ((training.labels[near] != training.labels[rows, None]) | (near < 0)).all(dim=1)
        rows, near = rows[alien], near[alien]
        columns = (one.tolist() for one in (rows, training.labels[rows], predicted[rows], margins[rows]))
        neighbours = (tuple(at for at in row if at >= 0) for row in near.tolist())
        found += map(SuspiciousLabel, *columns, neighbours)
    judged = int(known.sum())
    agreement = int((margins[known] <= 0).sum()) / max(judged, 1)
    return LabelCheck(agreement, tuple(sorted(found, key=lambda one: -one.margin)), judged)


def _held_out(training: TrainingSet) -> tuple[Tensor, Tensor]:
    """Margins and likeliest classes (N,) of all samples; minus infinity where none could be held out."""
    margins = torch.full((len(training.labels),), -torch.inf, device=training.device)
    predicted = training.labels.clone()
    for mask, logits, labels in _predictions(training):
        own = logits.gather(1, labels[:, None])
        others = logits.scatter(1, labels[:, None], -torch.inf).max(dim=1)
        margins[mask], predicted[mask] = others.values - own[:, 0], others.indices
    return margins, predicted


def _predictions(training: TrainingSet) -> Iterator[tuple[Tensor | slice, Tensor, Tensor]]:
    """Samples, a mask (N,) or a slice, with their logits (n, K) by heads without them, and their labels."""
    if training.groups is None:
        model = Discriminant.estimate(training.sums, *training.covariance(0.0), sphericity=SPHERICITY)
        vectors = model.basis.vectors
        for block, rows in training.matrix.subtract(model.basis.mean).each(lambda x: x @ vectors.to(x)):
            yield rows, model.leave_one_out(block, training.labels[rows]), training.labels[rows]
        return
    fold_of = stratified_folds(training.all_labels, FOLDS, seed=0, groups=training.all_groups)
    for fold in range(FOLDS):
        held_out = training.own_rows(fold_of == fold)
        head = fit_method(METHODS["eb-lda"], FitInputs(training, ~held_out), {"sphericity": SPHERICITY})
        yield held_out, training.matrix.where(held_out).map(head.logits), training.labels[held_out]
