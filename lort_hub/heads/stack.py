"""Combine heads into one: a weighted sum of their calibrated logits and the log prior, a linear head too."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lort_hub.features.distributed import Processes
from lort_hub.features.matrix import BLOCK
from lort_hub.heads.base import LinearHead
from lort_hub.heads.choice import Choice
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.fitted import Fit
from lort_hub.heads.folds import effective_samples
from lort_hub.heads.methods import METHODS, STACK, STACKED, class_mix
from lort_hub.heads.posthoc import logit_adjusted
from lort_hub.heads.scorers import (
    SCORERS,
    Predictions,
    among,
    calibration_scale,
    error_share,
    expected_logit,
    log_likelihoods,
)
from lort_hub.heads.search import Selection, fold_heads_of, select
from lort_hub.heads.selected import fit_selected, make_validator
from lort_hub.heads.solvers.objective import logit_adjustment
from lort_hub.heads.training_set import TrainingSet

PRIOR_SAMPLES = 10.0
"""Samples that the prior of equal weights is worth, counted as if all classes had as many."""
TAU = "tau"
"""Name of the weight of the negative log prior, as in logit adjustment."""
LEAST_SHARE = 0.05
"""Share of the members' logits below which a member is left out."""
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
        The head, with the weight of each member and of the negative log prior, tau, as its settings.

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
    choice, scales = choose_weights(validator, selections)
    for name in choice.weights:
        if name not in fits:
            held_out = choice.selections[name].held_out
            start = validator.mean_head(held_out) if held_out else None
            selection = replace(selections[name], start=start)
            fits[name] = fit_selected(
                training, name, selection, baseline=baseline, tolerance=MEMBER_TOLERANCE, seed=seed
            )
    members = {name: replace(fits[name], scale=scales[name]) for name in choice.weights}
    return combine(members, choice, training.class_counts)


def choose_weights(validator: Validator, selections: dict[str, Selection]) -> tuple[Choice, dict[str, float]]:
    """Choose the members of a sum of heads and their weights, all predicting the same held-out samples.

    Args:
        validator: Source of the held-out predictions.
        selections: Settings chosen with this validator for each candidate, by its name in `METHODS`.

    Returns:
        The choice, with the weight of each member on its calibrated logits and of the negative log prior; and
        the factor that calibrates each candidate's logits, by name.

    Example:
        >>> x = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0]])
        >>> validator = Validator(TrainingSet(x, torch.tensor([0, 0, 1, 1]), num_classes=2))
        >>> choice, _ = choose_weights(validator, {"ncm": select(validator, METHODS["ncm"])})
        >>> list(choice.weights)
        ['ncm']
    """
    processes, logits, scales = validator.training.processes, {}, {}
    scored = validator.scored_classes
    class_counts = validator.training.class_counts[scored.cpu()]
    kept, scores = dict[str, Selection](), dict[str, float]()
    for name, selection in selections.items():
        fold_heads = fold_heads_of(validator, METHODS[name], selection)
        logits[name], labels = among(scored, *validator.held_out_logits(fold_heads))
        scales[name] = calibration_scale(logits[name], labels, processes)
        logits[name] *= scales[name]
        held_out = replace(_predictions(logits[name], labels, scored, processes), fold_heads=fold_heads)
        kept[name], scores[name] = replace(selection, held_out=held_out), SCORERS["nll"](held_out)
    balanced = [name for name, chosen in kept.items() if class_mix(name, chosen.chosen) == "balanced"]
    weights, tau = choose_members(logits, labels, class_counts, processes, favoured=balanced)
    total = _sum(logits, weights)
    total -= logit_adjustment(class_counts, tau).to(total)
    scores[STACK] = SCORERS["nll"](_predictions(total, labels, scored, processes))
    how = validator.describe_folds()
    return Choice(STACK, "nll", kept, scores, {}, weights, tau, validation=how), scales


def combine(members: Mapping[str, Fit], choice: Choice, class_counts: Tensor) -> Fit:
    """Add up calibrated linear heads by the chosen weights, and adjust the bias by the log prior.

    Args:
        members: Fits of all members, by name.
        choice: Their weights.
        class_counts: Training images (K,).

    Example:
        >>> one = Fit(LinearHead(torch.eye(2), torch.zeros(2)), "ncm", {})
        >>> choice = Choice("stack", "nll", {}, {}, {}, {"ncm": 0.5}, tau=1.0)
        >>> head = combine({"ncm": one}, choice, torch.tensor([3, 1]))
        >>> head.weight, (-head.bias).exp()
        (tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]]), tensor([0.7500, 0.2500]))
    """
    weight, bias = (
        torch.stack([w * getattr(members[name], part) for name, w in choice.weights.items()]).sum(dim=0)
        for part in ("weight", "bias")
    )
    head = LinearHead(*logit_adjusted(weight, bias, class_counts, choice.tau))
    return Fit(head, STACK, {**choice.weights, TAU: choice.tau}, choice=choice)


def choose_members(
    logits: Mapping[str, Tensor],
    labels: Tensor,
    class_counts: Tensor,
    processes: Processes | None = None,
    *,
    favoured: Container[str] = (),
) -> tuple[dict[str, float], float]:
    """Weight heads, and leave out one after the other that moves the sum by less than `LEAST_SHARE` of all.

    The negative log prior is weighed with them: heads of few samples of rare classes still favour the others,
    by how much held-out samples tell.

    Args:
        logits: Calibrated held-out logits (M, K) of each head, by name.
        labels: Labels (M,).
        class_counts: Training images (K,).
        processes: Processes, each with samples of its own; None for this one alone.
        favoured: Heads that the prior draws to equal weights, and the others to none; all if none is left.

    Returns:
        The weights, by name, and that of the negative log prior, tau.

    Example:
        >>> labels, class_counts = torch.arange(40) % 2, torch.tensor([90, 10])
        >>> right = 2 * torch.nn.functional.one_hot(labels, 2) + torch.randn(40, 2)
        >>> list(choose_members({"head": right, "noise": torch.zeros(40, 2)}, labels, class_counts)[0])
        ['head']
    """
    processes = processes or Processes()
    spreads = dict(zip(logits, _spreads(list(logits.values()), processes), strict=True))
    if not any(spreads.values()):  # samples of one class tell nothing
        spreads = dict.fromkeys(logits, 1.0)
    adjustment = -logit_adjustment(class_counts, 1.0).to(next(iter(logits.values())))
    kept = list(logits)
    while True:
        centre = [name for name in kept if name in favoured] or kept
        heads = {name: logits[name] for name in kept} | {TAU: adjustment.expand(len(labels), -1)}
        weights = best_weights(heads, labels, processes, centre=centre, prior_samples=PRIOR_SAMPLES)
        tau = weights.pop(TAU)
        moves = {name: weight * spreads[name] for name, weight in weights.items()}
        least = min(moves, key=lambda name: moves[name])
        if len(kept) == 1 or moves[least] >= LEAST_SHARE * sum(moves.values()):
            return weights, tau
        kept.remove(least)


def _spreads(logits: Sequence[Tensor], processes: Processes) -> list[float]:
    """Compute the mean standard deviation over classes of each head's logits, up to a common factor."""
    deviations = (z.std(dim=1, correction=0) if len(z) else z[:, 0] for z in logits)
    spreads = torch.stack([each.double().sum() for each in deviations])
    processes.all_reduce(spreads)
    return spreads.tolist()


def best_weights(
    logits: Mapping[str, Tensor],
    labels: Tensor,
    processes: Processes | None = None,
    *,
    centre: Sequence[str] = (),
    prior_samples: float = 0.0,
    free: Sequence[str] = (),
) -> dict[str, float]:
    """Find the weights w >= 0 of heads that maximise the likelihood of their sum; classes count the same.

    A convex problem of as many unknowns as there are heads. A prior on the weights draws them to equal ones
    of some heads, the centre, where there are few samples to choose by:

        -mean_k mean_{y_i = k} log softmax(sum_m w_m z_mi)_k + M c / (2 n) sum_m (w_m - a_m sum_j w_j)^2

    As in `calibration_scale`, a share `error_share` of the samples counts as of another class. n is the
    number of samples, counted as if all classes had as many, c what the prior is worth in samples, and a_m
    one over the size of the centre, or 0 outside. The weight of `TAU` is not drawn: M and the sums in the
    second term are without it.

    Args:
        logits: Logits (N, K) of each head, by name; `TAU` is that of the negative log prior.
        labels: Labels (N,).
        processes: Processes, each with samples of its own; None for this one alone.
        centre: Heads that the prior draws to; empty for all.
        prior_samples: c; 0 for no prior.
        free: Names of weights that may be negative.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 1, 1, 1])
        >>> z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
        >>> {name: round(w, 2) for name, w in best_weights({"two of three": z}, labels).items()}
        {'two of three': 0.64}
    """
    from scipy.optimize import minimize

    processes = processes or Processes()
    counts = torch.bincount(labels, minlength=next(iter(logits.values())).shape[1])
    processes.all_reduce(counts)
    present = counts > 0
    omega, error = 1 / (counts[labels].double() * present.sum()), error_share(counts)
    drawn = [name for name in logits if name != TAU]
    samples = effective_samples(counts[present]) if present.any() else 1.0
    pull = prior_samples * len(drawn) / samples
    apart = _distance_to(centre or drawn, list(logits))

    def loss(values: list[float]) -> tuple[float, list[float]]:
        # In float64: the weights are to be the same for any number of processes.
        weights = torch.as_tensor(values, dtype=torch.float64)
        own, sums = weights.to(omega.device), omega.new_zeros(1 + len(logits))
        blocks = zip(*(each.split(BLOCK) for each in (labels, omega, *logits.values())), strict=True)
        for y, share, *parts in blocks:
            z = torch.stack(parts).double()
            total = torch.tensordot(own, z, dims=1)
            expected = torch.linalg.vecdot(total.softmax(dim=1).expand_as(z), z)
            sums[0] += share @ (total.logsumexp(dim=1) - expected_logit(total, y, error))
            sums[1:] += (expected - expected_logit(z, y, error)) @ share
        processes.all_reduce(sums)
        sums = sums.cpu()
        away = apart @ weights
        value = sums[0] + pull / 2 * away.square().sum()
        return float(value), (sums[1:] + pull * (apart.T @ away)).tolist()

    start = [0.0 if name == TAU else 1 / len(drawn) for name in logits]
    options = {"ftol": 1e-15, "gtol": 1e-9}
    bounds = [(None if name in free else 0, None) for name in logits]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    weights = torch.from_numpy(found.x)
    processes.broadcast(weights)
    return dict(zip(logits, weights.tolist(), strict=True))


def _distance_to(centre: Sequence[str], names: Sequence[str]) -> Tensor:
    """Matrix (M, M) from the weights of so named heads to their distances from equal ones of the centre."""
    drawn = torch.tensor([float(name != TAU) for name in names], dtype=torch.float64)
    shares = torch.tensor([float(name in centre) / len(centre) for name in names], dtype=torch.float64)
    return drawn.diag() - torch.outer(shares, drawn)


def _sum(logits: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    total = torch.zeros_like(next(iter(logits.values())))
    for name, weight in weights.items():
        total.add_(logits[name], alpha=weight)
    return total


def _predictions(logits: Tensor, labels: Tensor, scored: Tensor, processes: Processes) -> Predictions:
    """Predict by logits of the scored classes; labels are numbered among those."""
    numbers = scored.nonzero().flatten()
    own = numbers[labels], numbers[logits.argmax(dim=1)], log_likelihoods(logits, labels)
    every, predicted, likelihoods = (processes.gather(values.cpu()) for values in own)
    return Predictions(every, predicted, likelihoods)
