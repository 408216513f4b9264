"""Fit a head again by the settings, weights and scales of an earlier one, where nothing can be held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lort_hub.features.matrix import FeatureMatrix
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitted import Fit
from lort_hub.heads.methods import STACK
from lort_hub.heads.scorers import Predictions
from lort_hub.heads.stack import MEMBER_TOLERANCE, combine
from lort_hub.heads.sum_weights import TAU
from lort_hub.heads.training_set import TrainingSet
from lort_hub.records import ChosenSettings, HeadRecord


def refit(
    training: TrainingSet,
    earlier: HeadRecord,
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
        earlier: Record of the earlier head, not moved to a class mix. A sum needs its `candidates`.
        baseline: Head that methods start from.
        solver: The solver that `fit_head` was given, if any.
        views: Augmented features (N, D), as many as the earlier head had.
        held_out: Decisions of the earlier head on held-out samples.
        seed: Seed of SGD.

    Returns:
        The head, with the class mix and the held-out decisions of the earlier one.

    Example:
        >>> import torch
        >>> training = TrainingSet(torch.eye(2).repeat(4, 1), torch.tensor([0, 1] * 4), num_classes=2)
        >>> objective = {"delta": 0, "gamma": 0, "tau": 0, "weight_decay": 0}
        >>> earlier = HeadRecord("ncm", "", 0, None, {}, **objective, scale=2.0)
        >>> refit(training, earlier, baseline=fit_head(training, "ce")).weight
        tensor([[2., 0.],
                [0., 2.]])
    """
    how = {"baseline": baseline, "seed": seed}
    if earlier.method == STACK and earlier.candidates:
        weights = {name: weight for name, weight in earlier.settings.items() if name != TAU}
        members = {
            name: fit_head(training, name, chosen=chosen, tolerance=MEMBER_TOLERANCE, **how)  # type: ignore[arg-type]
            for name, chosen in earlier.candidates.items()
            if name in weights
        }
        fit = combine(members, weights, earlier.settings[TAU], training.class_counts)
    else:
        chosen = ChosenSettings(earlier.settings, earlier.scale or 1.0)
        how |= {"chosen": chosen, "solver": solver, "views": views}
        fit = fit_head(training, earlier.method, **how)  # type: ignore[arg-type]
    return replace(fit, mix=earlier.mix, held_out=held_out, candidates=earlier.candidates)
