"""Re-train a head by a method's name, or by the name of a choice among methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lort_hub.features.matrix import FeatureMatrix
from lort_hub.heads.class_mix import measure_mix
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitted import Fit
from lort_hub.heads.methods import CHOICES
from lort_hub.heads.stack import fit_stack
from lort_hub.heads.training_set import TrainingSet
from lort_hub.records import ChosenSettings


def fit_by_name(
    training: TrainingSet,
    name: str,
    *,
    known: Sequence[Fit],
    settings: Mapping[str, float | str | None],
    views: Sequence[FeatureMatrix] = (),
    select_by: str | None = None,
    calibrate: bool = True,
    seed: int = 0,
) -> Fit:
    """Re-train a head by a method, "auto" or "best", and measure the class mix that it expects.

    Args:
        training: Features (N, D) and labels.
        name: One of `METHODS` or `CHOICES`.
        known: Heads that are fitted already: the baseline, which others start from, as the first.
        settings: Arguments of `fit_head` for the method: delta, gamma, weight_decay, solver; None to choose.
        views: Augmented features (N, D) to fit on as well.
        select_by: One of `SCORERS`; None for each method's own.
        calibrate: Whether to scale the logits so that probabilities hold.
        seed: Seed of the folds and of SGD.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0]])
        >>> training = TrainingSet(x, torch.tensor([0, 0, 1, 1]), num_classes=2)
        >>> baseline = fit_head(training, "ce")
        >>> fit_by_name(training, "auto", known=[baseline], settings={}).method
        'stack'
    """
    baseline, heads = known[0], {head.method: head for head in known}
    given = {setting: value for setting, value in settings.items() if value is not None}
    if name == "auto":
        fit = fit_stack(training, baseline=baseline, known=known[1:], select_by=select_by, seed=seed)
    elif name in heads and not given and not views:
        fit = heads[name] if calibrate else replace(heads[name], scale=1.0)
    else:
        options = {"views": views, "select_by": select_by, "calibrate": calibrate, "seed": seed, **given}
        fit = fit_head(training, name, baseline=baseline, **options)  # type: ignore[arg-type]
    if not calibrate:
        return fit
    if fit.candidates is None:
        beside = {head.method: ChosenSettings(head.settings, head.scale) for head in known if head.selection}
        fit = replace(fit, candidates=beside or None)
    solver = None if name in CHOICES else given.get("solver")
    return measure_mix(training, fit, baseline, solver=solver, seed=seed)  # type: ignore[arg-type]
