"""Predict training samples by ridge regression fitted without each, in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lort_hub.heads.scorers import Predictions, gather_predictions
from lort_hub.heads.solvers.eigenbasis import leave_group_out, leave_one_out
from lort_hub.heads.solvers.objective import Settings
from lort_hub.heads.training_set import TrainingSet

LEAST_RIDGE = 1e-5
"""Least ridge of leave-one-out, over the largest eigenvalue: what float32 leaves of smaller ones is noise."""


def predict_leave_one_out(
    training: TrainingSet,
    path: Sequence[Settings],
    *,
    classes: Tensor | None = None,
    likelihood: bool = False,
) -> Iterator[Predictions]:
    """Predict each sample by LORT's closed-form limit fitted without its group, for each setting of a path.

    Args:
        training: Features and labels; without groups, each sample is left out alone.
        path: Settings that differ in weight decay alone.
        classes: Mask (K,) of the classes whose samples are predicted, as one of those; None for all.
        likelihood: Whether to compute likelihoods too, which costs more than the predictions.

    Example:
        >>> training = TrainingSet(torch.tensor([[0.0], [0.1], [1.0], [1.1]]), torch.tensor([0, 0, 1, 1]), 2)
        >>> next(predict_leave_one_out(training, [{"gamma": 0.0, "weight_decay": 0.01}])).predicted
        tensor([0, 0, 1, 1])
    """
    gamma, processes = path[0]["gamma"], training.processes
    kept = torch.ones_like(training.class_counts, dtype=torch.bool) if classes is None else classes
    kept = kept.to(training.device)
    mask = scored = training.scoring_mask & kept[training.labels]
    basis, groups = training.basis(gamma), training.groups
    if training.all_groups is not None and len(training.all_groups.unique()) == 1:
        scored = torch.zeros_like(scored)  # without the only group nothing is left to fit a head on
    if groups is not None:  # a group is needed whole, in whatever process its samples are
        mask = torch.isin(groups, processes.gather(groups[scored]))
    least = LEAST_RIDGE * float(basis.values.max())
    ridges = [max(training.num_classes * settings["weight_decay"], least) for settings in path]
    sums, x = basis.rotate_sums(training.weighted_sums(gamma)), basis.rotate(training.matrix.where(mask))
    labels, omega = training.labels[mask], training.weights(gamma)[mask]
    if groups is None:
        for ridge in ridges:
            logits = leave_one_out(basis, x, labels, omega, sums, ridge)
            yield gather_predictions(logits, labels, kept, processes, likelihood=likelihood)
        return
    first = int(processes.gather(torch.tensor([len(labels)]))[: processes.index].sum())
    own = first + scored[mask].nonzero().flatten()
    x, labels, omega, groups = (processes.gather(one) for one in (x, labels, omega, groups[mask]))
    for ridge in ridges:
        logits = leave_group_out(basis, x, labels, omega, groups, sums, ridge)[own]
        yield gather_predictions(logits, labels[own], kept, processes, likelihood=likelihood)
