"""Choose the weights of heads in a sum by held-out samples, and leave out heads that bring nothing."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lort_hub.features.distributed import Processes
from lort_hub.heads.folds import effective_samples
from lort_hub.heads.scorers import error_share, expected_logit, in_blocks
from lort_hub.heads.solvers.objective import Settings, logit_adjustment

PRIOR_SAMPLES = 10.0
"""Samples that the prior of equal weights is worth, counted as if all classes had as many."""
TAU = "tau"
"""Name of the weight of the negative log prior, as in logit adjustment."""
SLOPE = "slope"
"""Name of the change of a class's scale by the log of its training images."""
SLOPE_SAMPLES = 300.0
"""Samples that the prior of one scale for all classes is worth."""
LEAST_SCALE = 0.1
"""Least scale of a class, over that of a class of middle size."""
SUM = "sum"
"""Name of a finished sum, where it is weighed anew with `SLOPE`."""
LEAST_SHARE = 0.05
"""Share of the members' logits below which a member is left out."""
NEWTON_STEPS, HALVINGS = 100, 60
"""Largest number of Newton's steps, and of halvings of one."""
GROWTH = 10.0
"""Largest step, over the largest weight or 1: where a sum is too sure, Newton's are far too long."""
DECREASE = 1e-4
"""Share of the decrease that the slope promises which a step has to bring."""
PRECISION = 1e-15
"""Decrease of the mean negative log-likelihood that is rounding."""
RIDGE = 1e-12
"""Curvature that is added, as a share of the largest or of 1, as heads that are the same have none apart."""


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


def choose_slope(
    logits: Mapping[str, Tensor],
    labels: Tensor,
    settings: Settings,
    log_counts: Tensor,
    scored: Tensor | None = None,
    processes: Processes | None = None,
) -> Settings:
    """Choose the scale of each class's logit, on a line in the log of its images, by held-out samples.

    Calibration by one temperature for each class, in one parameter: vector scaling (arXiv 1706.04599) with
    scales that depend on the class size as in CDT (arXiv 2001.01385). The prior draws them to equal ones.
    They stay equal where one would be less than `LEAST_SCALE` all the same.

    Args:
        logits: Calibrated held-out logits (M, S) of the members for the scored classes, by name, centred over
            all K classes.
        labels: Labels (M,), numbered among the scored classes.
        settings: Weights of the members and `TAU`, from `choose_members`.
        log_counts: Of `centred_log_counts` (K,).
        scored: Mask (K,) of the scored classes; None for all.
        processes: Processes, each with samples of its own; None for this one alone.

    Returns:
        The settings with `SLOPE`: the weights times one factor, and `TAU` chosen anew.

    Example:
        >>> labels, log_counts = torch.arange(40) % 2, torch.tensor([1.0, -1.0])
        >>> centred = 3 * torch.nn.functional.one_hot(labels, 2) - 1.5 + torch.randn(40, 2)
        >>> list(choose_slope({"head": centred}, labels, {"head": 1.0, "tau": 0.0}, log_counts))
        ['head', 'tau', 'slope']
    """
    line = log_counts if scored is None else log_counts[scored.to(log_counts.device)]
    total = weighted_sum(logits, {**settings, TAU: 0.0}, line)
    line = line.to(total)
    parts = {SUM: total, SLOPE: line * total, TAU: (-line).expand_as(total)}
    best = best_weights(parts, labels, processes, centre=[SUM], prior_samples=SLOPE_SAMPLES, free=[SLOPE])
    scales = best[SUM] + best[SLOPE] * log_counts
    if scales.min() <= LEAST_SCALE * best[SUM]:
        return {**settings, SLOPE: 0.0}
    scaled = {name: weight * best[SUM] for name, weight in settings.items()}
    return {**scaled, TAU: best[TAU], SLOPE: best[SLOPE] / best[SUM]}


def weighted_sum(logits: Mapping[str, Tensor], settings: Settings, log_counts: Tensor) -> Tensor:
    """Add up the logits (..., K) of the members of a sum by its settings: the sum's logits.

        (1 + slope l_k) sum_m w_m z_mk - tau l_k,  l = log_counts

    Args:
        logits: Calibrated logits (..., K) of each member, centred over classes, by name.
        settings: Weight of each member, `TAU` and `SLOPE`; 0 for those that are not given.
        log_counts: Of `centred_log_counts` (K,).

    Example:
        >>> weighted_sum({"head": torch.tensor([1.0, -1])}, {"head": 2.0, "tau": 0.5}, torch.tensor([1, -1]))
        tensor([ 1.5000, -1.5000])
    """
    total, line = torch.zeros_like(next(iter(logits.values()))), log_counts.to(next(iter(logits.values())))
    for name, z in logits.items():
        total.add_(z, alpha=settings.get(name, 0.0))
    return total.mul_(1 + settings.get(SLOPE, 0.0) * line).sub_(settings.get(TAU, 0.0) * line)


def centred_log_counts(class_counts: Tensor) -> Tensor:
    """Compute log n_k (K,) less its mean over classes, float64; a class without samples counts as of one.

    Example:
        >>> centred_log_counts(torch.tensor([4, 1])).exp()
        tensor([2.0000, 0.5000], dtype=torch.float64)
    """
    log_counts = class_counts.double().clamp_min(1).log()
    return log_counts - log_counts.mean()


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
        centre: Heads that the prior draws to, and that are weighed alike at the start; empty for all.
        prior_samples: c; 0 for no prior.
        free: Names of weights that may be negative.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 1, 1, 1])
        >>> z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
        >>> {name: round(w, 2) for name, w in best_weights({"two of three": z}, labels).items()}
        {'two of three': 0.64}
    """
    processes = processes or Processes()
    counts = torch.bincount(labels, minlength=next(iter(logits.values())).shape[1])
    processes.all_reduce(counts)
    present = counts > 0
    drawn = [name for name in logits if name != TAU]
    start = centre or drawn
    samples = effective_samples(counts[present]) if present.any() else 1.0
    apart = _distance_to(start, list(logits))
    pull = prior_samples * len(drawn) / samples * apart.T @ apart
    omega = 1 / (counts[labels].double() * present.sum())
    loss = _Loss(list(logits.values()), labels, omega, error_share(counts), pull, processes)
    weights = torch.tensor([float(name in start) / len(start) for name in logits], dtype=torch.float64)
    lowest = torch.tensor([-torch.inf if name in free else 0.0 for name in logits], dtype=torch.float64)
    value, gradient, curvature = loss(weights)
    for _ in range(NEWTON_STEPS):
        step = _newton_step(gradient, curvature, lowest - weights)
        longest = GROWTH * max(1.0, float(weights.abs().max()))
        step *= longest / max(longest, float(step.abs().max()))
        processes.broadcast(step)
        if gradient @ step >= -PRECISION:
            break
        for _ in range(HALVINGS):
            tried = loss(weights + step)
            if tried[0] <= value + DECREASE * float(gradient @ step):
                break
            step = step / 2
        else:
            break
        weights, (value, gradient, curvature) = (weights + step).clamp_min(lowest), tried
    return dict(zip(logits, weights.tolist(), strict=True))


@dataclass(frozen=True)
class _Loss:
    """The problem of `best_weights`, as a function of the weights (M,), in float64.

    Attributes:
        logits: Logits (N, K) of each head.
        labels: Labels (N,).
        omega: Weights (N,) of the samples.
        error: Share of the samples that count as of another class.
        pull: Curvature (M, M) of the prior.
        processes: Processes, each with samples of its own.
    """

    logits: Sequence[Tensor]
    labels: Tensor
    omega: Tensor
    error: float
    pull: Tensor
    processes: Processes

    def __call__(self, weights: Tensor) -> tuple[float, Tensor, Tensor]:
        """Compute the loss, its gradient (M,) and its curvature (M, M)."""
        own, size = weights.to(self.omega.device), len(weights)
        sums = self.omega.new_zeros(1 + size + size**2)
        for y, share, *parts in in_blocks(self.labels, self.omega, *self.logits):
            z = torch.stack(parts).double()
            total = torch.tensordot(own, z, dims=1)
            p = total.softmax(dim=1)
            expected = torch.linalg.vecdot(p.expand_as(z), z)
            sums[0] += share @ (total.logsumexp(dim=1) - expected_logit(total, y, self.error))
            sums[1 : 1 + size] += (expected - expected_logit(z, y, self.error)) @ share
            away = z.sub_(expected[..., None]).mul_(p.mul_(share[:, None]).sqrt_()).flatten(1)
            sums[1 + size :] += (away @ away.T).flatten()
        self.processes.all_reduce(sums)
        value, gradient, curvature = sums.cpu().split([1, size, size**2])
        pulled = self.pull @ weights
        return float(value + pulled @ weights / 2), gradient + pulled, curvature.view(size, size) + self.pull


def _newton_step(gradient: Tensor, curvature: Tensor, least: Tensor) -> Tensor:
    """Find the minimum (M,) of the quadratic model among steps that are at least `least` (M,)."""
    from scipy.optimize import lsq_linear

    ridge = RIDGE * max(1.0, float(curvature.diagonal().max()))
    root = torch.linalg.cholesky(curvature + ridge * torch.eye(len(gradient)))
    goal = torch.linalg.solve_triangular(root, -gradient[:, None], upper=False)[:, 0]
    bounds, rounds = (least.numpy(), torch.inf), 10 * len(gradient)
    found = lsq_linear(root.T.numpy(), goal.numpy(), bounds, "bvls", max_iter=rounds, tol=1e-14)
    return torch.from_numpy(found.x)


def _distance_to(centre: Sequence[str], names: Sequence[str]) -> Tensor:
    """Matrix (M, M) from the weights of so named heads to their distances from equal ones of the centre."""
    drawn = torch.tensor([float(name != TAU) for name in names], dtype=torch.float64)
    shares = torch.tensor([float(name in centre) / len(centre) for name in names], dtype=torch.float64)
    return drawn.diag() - torch.outer(shares, drawn)
