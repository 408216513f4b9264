"""Combine heads into one: a weighted sum of their calibrated logits and the log prior, a linear head too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lort_hub.features.distributed import Processes
from lort_hub.heads.base import LinearHead
from lort_hub.heads.choice import Choice
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.fitted import Fit
from lort_hub.heads.methods import METHODS, STACK, STACKED, class_mix
from lort_hub.heads.scorers import (
    SCORERS,
    Predictions,
    among,
    calibration_scale,
    log_likelihoods,
)
from lort_hub.heads.search import Selection, fold_heads_of, select
from lort_hub.heads.selected import fit_selected, make_validator
from lort_hub.heads.solvers.objective import Settings
from lort_hub.heads.sum_weights import (
    SLOPE,
    TAU,
    centred_log_counts,
    choose_members,
    choose_slope,
    weighted_sum,
)
from lort_hub.heads.training_set import TrainingSet
from lort_hub.records import ChosenSettings

UNFAVOURED = {"crt"}
"""Candidates for balanced classes that the prior on the weights does not draw to, so that samples have to ask
for them: `crt` counts on few images of rare classes more than others do."""
MEMBER_TOLERANCE = 1e-3
"""Relative gradient at which members are solved; seeds change their sum more than what is left."""


def fit_stack(
    training: TrainingSet,
    *,
    baseline: Fit,
    known: Sequence[Fit] = (),
    select_by: str | None = None,
    seed: int = 0,
) -> Fit:
    """Re-train a head as the sum of several, with weights chosen on held-out training samples.

    Args:
        training: Features (N, D) and labels.
        baseline: Head that methods start from: the backbone's own, or cross-entropy on the same features.
        known: Heads of candidates whose settings are chosen already; members are solved alike without them.
        select_by: One of `SCORERS`, to choose the members' settings by; None for each method's own.
        seed: Seed of the folds.

    Returns:
        The head, with the weight of each member, `TAU` and `SLOPE` as its settings.

    Example:
        >>> x = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0]])
        >>> training = TrainingSet(x, torch.tensor([0, 0, 1, 1]), num_classes=2)
        >>> from lort_hub.heads.fit import fit_head
        >>> fit_stack(training, baseline=fit_head(training, "ce")).logits(x).argmax(dim=1)
        tensor([0, 0, 1, 1])
    """
    validator = make_validator(training, baseline, select_by, seed)
    chosen = {fit.method: fit.selection for fit in (baseline, *known) if fit.selection}
    selections = {name: chosen.get(name) or select(validator, METHODS[name]) for name in STACKED}
    fits = {baseline.method: baseline} if baseline.selection else {}
    choice = choose_weights(validator, selections)
    for name in choice.weights:
        if name not in fits:
            held_out = choice.selections[name].held_out
            start = validator.for_method(METHODS[name]).mean_head(held_out) if held_out else None
            selection = replace(selections[name], start=start)
            fits[name] = fit_selected(
                training, name, selection, baseline=baseline, tolerance=MEMBER_TOLERANCE, seed=seed
            )
    members = {name: replace(fits[name], scale=choice.scales[name]) for name in choice.weights}
    candidates = {
        name: ChosenSettings(selections[name].chosen, scale) for name, scale in choice.scales.items()
    }
    settings = {**choice.weights, TAU: choice.tau, SLOPE: choice.slope}
    fit = combine(members, settings, training.class_counts)
    return replace(fit, choice=choice, candidates=candidates)


def choose_weights(validator: Validator, selections: dict[str, Selection]) -> Choice:
    """Choose the members of a sum of heads and their weights, all predicting the same held-out samples.

    Args:
        validator: Source of the held-out predictions.
        selections: Settings chosen with this validator for each candidate, by its name in `METHODS`.

    Returns:
        The choice, with the weight of each member on its calibrated logits and of the negative log prior, the
        slope of the classes' scales, and the factor that calibrates each candidate's logits.

    Example:
        >>> x = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0]])
        >>> validator = Validator(TrainingSet(x, torch.tensor([0, 0, 1, 1]), num_classes=2))
        >>> choice = choose_weights(validator, {"ncm": select(validator, METHODS["ncm"])})
        >>> list(choice.weights)
        ['ncm']
    """
    processes, logits, scales = validator.training.processes, {}, {}
    scored = validator.scored_classes
    class_counts = validator.training.class_counts[scored.cpu()]
    kept, scores = dict[str, Selection](), dict[str, float]()
    for name, selection in selections.items():
        fold_heads = fold_heads_of(validator, METHODS[name], selection)
        every, labels = validator.for_method(METHODS[name]).held_out_logits(fold_heads)
        logits[name], labels = among(scored, every.sub_(every.mean(dim=1, keepdim=True)), labels)
        scales[name] = calibration_scale(logits[name], labels, processes)
        logits[name] *= scales[name]
        held_out = replace(_predictions(logits[name], labels, scored, processes), fold_heads=fold_heads)
        kept[name], scores[name] = replace(selection, held_out=held_out), SCORERS["nll"](held_out)
    balanced = {name for name, chosen in kept.items() if class_mix(name, chosen.chosen) == "balanced"}
    weights, tau = choose_members(logits, labels, class_counts, processes, favoured=balanced - UNFAVOURED)
    members = {name: logits[name] for name in weights}
    log_counts = centred_log_counts(validator.training.class_counts)
    settings = choose_slope(members, labels, {**weights, TAU: tau}, log_counts, scored, processes)
    total = weighted_sum(members, settings, log_counts[scored.cpu()])
    scores[STACK] = SCORERS["nll"](_predictions(total, labels, scored, processes))
    how, weights = validator.describe_folds(), {name: settings[name] for name in weights}
    return Choice(STACK, "nll", kept, scores, {}, weights, settings[TAU], settings[SLOPE], scales, how)


def combine(members: Mapping[str, Fit], settings: Settings, class_counts: Tensor) -> Fit:
    """Add up calibrated linear heads by the settings of a sum, as `weighted_sum` adds up their logits.

    Args:
        members: Fits of all members, by name.
        settings: Their weights, `TAU` and `SLOPE`.
        class_counts: Training images (K,).

    Example:
        >>> one = Fit(LinearHead(torch.eye(2), torch.zeros(2)), "ncm", {})
        >>> head = combine({"ncm": one}, {"ncm": 0.5, "tau": 1.0}, torch.tensor([3, 1]))
        >>> head.weight, head.bias.softmax(dim=0)
        (tensor([[ 0.2500, -0.2500],
                [-0.2500,  0.2500]]), tensor([0.2500, 0.7500]))
    """
    log_counts = centred_log_counts(class_counts)
    heads = {name: torch.cat([fit.weight, fit.bias[:, None]], dim=1).T for name, fit in members.items()}
    centred = {name: head - head.mean(dim=1, keepdim=True) for name, head in heads.items()}
    *_, bias = weighted_sum(centred, settings, log_counts)
    weight = weighted_sum(centred, {**settings, TAU: 0.0}, log_counts)[:-1].T
    return Fit(LinearHead(weight.contiguous(), bias), STACK, dict(settings))


def _predictions(logits: Tensor, labels: Tensor, scored: Tensor, processes: Processes) -> Predictions:
    """Predict by logits of the scored classes; labels are numbered among those."""
    numbers = scored.nonzero().flatten()
    own = numbers[labels], numbers[logits.argmax(dim=1)], log_likelihoods(logits, labels)
    every, predicted, likelihoods = (processes.gather(values.cpu()) for values in own)
    return Predictions(every, predicted, likelihoods)
