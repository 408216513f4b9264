"""Solve MaxNorm: limit the norm of each class's weight to a radius (weight balancing, arXiv 2203.14197).

The multipliers of the constraint act as a weight decay lambda_k >= 0 of each class, which is positive only
where ||w_k|| = radius. So a few solves of the unconstrained objective with other lambda find the optimum.
"""

from __future__ import annotations

from dataclasses import replace

from lort_hub.heads.solvers.lbfgs import TOLERANCE, HeadProblem, Solution, minimise

MAX_ROUNDS, EXPONENT = 60, 1.5


def minimise_max_norm(problem: HeadProblem, *, share: float, tolerance: float = TOLERANCE) -> Solution:
    """Minimise the objective subject to ||w_k|| <= share * (largest ||w_j|| without the constraint).

    Args:
        problem: Samples and objective.
        share: Radius, as a share in (0, 1] of the largest class weight of the unconstrained optimum.
        tolerance: As for `minimise`.

    Returns:
        The constrained optimum, its multipliers exact to a thousandth; `iterations` counts all solves.

    Example:
        >>> import torch
        >>> from lort_hub.features.matrix import FeatureMatrix
        >>> from lort_hub.heads.solvers.eigenbasis import Eigenbasis
        >>> from lort_hub.heads.solvers.objective import Objective
        >>> x, y = FeatureMatrix.of(torch.tensor([[1.0], [-1.0], [-1.0]])), torch.tensor([0, 1, 1])
        >>> third, counts = torch.full((3,), 1 / 3), torch.tensor([1, 2])
        >>> basis = Eigenbasis(*(torch.tensor(v, dtype=torch.float64) for v in ([0], [[1]], [1])))
        >>> problem = HeadProblem(x, y, third, basis, counts, Objective(delta=0.5))
        >>> free, head = minimise(problem), minimise_max_norm(problem, share=0.5)
        >>> (head.weight.norm(dim=1) / free.weight.norm(dim=1)).round(decimals=2)
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    head = minimise(problem, tolerance=tolerance)
    slack = max(1e-3, 3 * tolerance)
    radius, iterations = share * head.weight.norm(dim=1).max(), head.iterations
    num_classes = len(problem.class_counts)
    values = problem.basis.values
    decay = values.new_full((num_classes,), float(values.mean()) / num_classes)
    for _ in range(MAX_ROUNDS):
        init = (head.weight, head.bias)
        head = minimise(problem, init=init, class_decay=decay, tolerance=tolerance)
        iterations += head.iterations
        ratio = head.weight.norm(dim=1) / radius
        if ratio.max() <= 1 + slack and (decay * (1 - ratio)).abs().max() <= slack * decay.max():
            break
        # ||w_k|| falls more slowly than 1 / lambda_k, so an exponent above 1 does not overshoot.
        decay = decay * ratio**EXPONENT
    shorten = (radius / head.weight.norm(dim=1).clamp_min(1e-300)).clamp_max(1)[:, None]
    return replace(head, weight=head.weight * shorten, iterations=iterations)
