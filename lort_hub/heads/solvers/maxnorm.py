"""Solve MaxNorm: limit the norm of each class's weight to a radius (weight balancing, arXiv 2203.14197).

The multipliers of the constraint act as a weight decay lambda_k >= 0 of each class, which is positive only
where ||w_k|| = radius. So a few solves of the unconstrained objective with other lambda find the optimum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lort_hub.heads.solvers.lbfgs import TOLERANCE, Solution, minimise
from lort_hub.heads.solvers.problem import HeadProblem

MAX_ROUNDS = 60
EXPONENT, LARGEST_EXPONENT = 1.5, 4.0
"""Power of ||w_k|| / radius by which a class's decay is multiplied: the first, and the largest."""
LEAST_DECAY = 1e-6
"""Decay that any class is taken to have, as a share of the mean variance over K."""
SEEN = 0.02
"""Least change of the logarithm of a decay from which its effect on the norm is measured."""
FIRST_DECAY = 1.0
"""Decay that the search starts from where the objective has less, in the same unit. Solves with it are quick;
with next to none in the other classes, all weight would move there from those that are limited."""
FINER, FINEST = 0.3, 1e-7
"""Factor on a tolerance that is too coarse to see changes of the decays, and the least tolerance."""
SEARCH_TOLERANCE = 1e-3
"""Least tolerance of the solves that search for the multipliers at first."""


@dataclass(frozen=True)
class Limited:
    """Optimum within a radius, and what the search for another radius starts from.

    Attributes:
        head: The optimum; `iterations` counts those of all solves that found it.
        solved: Head of the last solve, `head` but for norms that exceed the radius by the tolerance.
        decay: Multipliers lambda (K,) of the constraint.
    """

    head: Solution
    solved: Solution
    decay: Tensor


def minimise_max_norm(
    problem: HeadProblem, radius: float, *, near: Limited | None = None, tolerance: float = TOLERANCE
) -> Limited:
    """Minimise the objective subject to ||w_k|| <= radius.

    Args:
        problem: Samples and objective.
        radius: Largest norm of a class's weight, less than the unconstrained optimum has.
        near: Optimum of the same problem for another radius, to start from.
        tolerance: As for `minimise`.

    Returns:
        The constrained optimum, its multipliers exact to a thousandth.

    Example:
        >>> from lort_hub.features.matrix import FeatureMatrix
        >>> from lort_hub.heads.solvers.eigenbasis import Eigenbasis
        >>> from lort_hub.heads.solvers.objective import Objective
        >>> x, y = FeatureMatrix.of(torch.tensor([[1.0], [-1.0], [-1.0]])), torch.tensor([0, 1, 1])
        >>> third, counts = torch.full((3,), 1 / 3), torch.tensor([1, 2])
        >>> basis = Eigenbasis(*(torch.tensor(v, dtype=torch.float64) for v in ([0], [[1]], [1])))
        >>> problem = HeadProblem(x, y, third, basis, counts, Objective(delta=0.5))
        >>> minimise_max_norm(problem, 0.25).head.weight.norm(dim=1).round(decimals=2)
        tensor([0.2500, 0.2500], dtype=torch.float64)
    """
    radius = max(radius, 1e-300)
    unit = float(problem.basis.values.mean()) / len(problem.class_counts)
    least = problem.objective.weight_decay + LEAST_DECAY * unit
    first = max(least, FIRST_DECAY * unit)
    total = near.decay + least if near else problem.omega.new_full((len(problem.class_counts),), first)
    init, iterations = (near.solved.weight, near.solved.bias) if near else None, 0
    exponent, before = torch.full_like(total, EXPONENT), None
    goal = current = max(tolerance, SEARCH_TOLERANCE)
    for _ in range(MAX_ROUNDS):
        head = minimise(problem, init=init, class_decay=total - least, tolerance=current)
        init = head.weight, head.bias
        iterations += head.iterations
        if not head.iterations:
            current = max(FINER * current, FINEST)
        ratio, slack = head.weight.norm(dim=1) / radius, max(1e-3, 3 * goal)
        off = ((total - least) * (1 - ratio)).abs().max()
        if ratio.max() <= 1 + slack and off <= slack * (total - least).max():
            if goal == tolerance:
                break
            goal = tolerance
            current = min(current, goal)
            continue
        if before:
            exponent = _exponent(before, (total, ratio), exponent)
        before = total, ratio
        total = (total * ratio**exponent).clamp_min(least)
        problem.matrix.processes.broadcast(total)
    if goal != tolerance:
        head = minimise(problem, init=init, class_decay=total - least, tolerance=tolerance)
        iterations += head.iterations
    shorten = (radius / head.weight.norm(dim=1).clamp_min(1e-300)).clamp_max(1)[:, None]
    limited = replace(head, weight=head.weight * shorten, iterations=iterations)
    return Limited(limited, head, total - least)


def _exponent(before: tuple[Tensor, Tensor], now: tuple[Tensor, Tensor], exponent: Tensor) -> Tensor:
    """Measure by two rounds how norms answer decays: the exponent (K,) that would meet the radius."""
    (decay_before, ratio_before), (decay, ratio) = before, now
    rise, fall = (decay / decay_before).log(), (ratio_before / ratio).log()
    measured = (rise.abs() > SEEN) & (rise * fall > 0)
    return torch.where(measured, (rise / fall).clamp(1, LARGEST_EXPONENT), exponent)
