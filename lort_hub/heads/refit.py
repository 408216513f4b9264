"""Fit a head again by the settings, weights and scales of an earlier one, where nothing can be held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from lort_hub.features.matrix import FeatureMatrix
from lort_hub.heads.class_mix import carry_mix
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitted import Fit
from lort_hub.heads.methods import STACK
from lort_hub.heads.scorers import Predictions
from lort_hub.heads.stack import MEMBER_TOLERANCE, combine
from lort_hub.heads.sum_weights import SLOPE, TAU
from lort_hub.heads.training_set import TrainingSet
from lort_hub.records import ChosenSettings, HeadRecord


def refit(
    training: TrainingSet,
    head: HeadRecord,
    class_counts: Sequence[int],
    *,
    baseline: Fit,
    solver: str | None = None,
    views: Sequence[FeatureMatrix] = (),
    held_out: Predictions | None = None,
    seed: int = 0,
) -> Fit:
    """Re-train a head on other features of the same classes, with all that an earlier one chose.

    A backbone that was trained on every image has none left to choose by: on images that it has memorised,
    each head looks right and sure.

    Args:
        training: Features (N, D) and labels.
        head: Record of the earlier head, which was not moved to a class mix.
        class_counts: Training samples (K,) that it was fitted on.
        baseline: Head that methods start from.
        solver: The solver that `fit_head` was given, if any.
        views: Augmented features (N, D), as many as the earlier head had.
        held_out: Decisions of the earlier head on held-out samples.
        seed: Seed of SGD.

    Returns:
        The head, with the class mix and the held-out decisions of the earlier one.

    Example:
        >>> training = TrainingSet(torch.eye(2).repeat(4, 1), torch.tensor([0, 1] * 4), num_classes=2)
        >>> objective = {"delta": 0, "gamma": 0, "tau": 0, "weight_decay": 0}
        >>> head = HeadRecord("ncm", "", 0, None, {}, **objective, scale=2.0)
        >>> refit(training, head, [9, 9], baseline=fit_head(training, "ce")).weight
        tensor([[2., 0.],
                [0., 2.]])
    """
    fit_chosen = partial(fit_head, training, baseline=baseline, seed=seed)
    if head.method == STACK and head.candidates:
        members = {
            name: fit_chosen(name, chosen=head.candidates[name], tolerance=MEMBER_TOLERANCE)
            for name in head.settings
            if name not in (TAU, SLOPE)
        }
        fit = combine(members, head.settings, training.class_counts)
    else:
        chosen = ChosenSettings(head.settings, head.scale or 1.0)
        fit = fit_chosen(head.method, chosen=chosen, solver=solver, views=views)
    mix = head.mix and carry_mix(head.mix, torch.tensor(class_counts), training.class_counts)
    return replace(fit, mix=mix, held_out=held_out, candidates=head.candidates)
