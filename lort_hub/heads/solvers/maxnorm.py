"""MaxNorm: heads whose class weights are no longer than a radius (weight balancing, arXiv 2203.14197).

The constraint is a weight decay of each class's own: lambda_k >= 0, and positive only where ||w_k|| = radius.
So the optimum is found by the solver of the unconstrained objective, on a few settings of lambda.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lort_hub.features.matrix import FeatureMatrix
from lort_hub.heads.solvers.eigenbasis import Eigenbasis
from lort_hub.heads.solvers.lbfgs import TOLERANCE, Solution, minimise
from lort_hub.heads.solvers.objective import Objective

ROUNDS, SPEED = 60, 1.5


def minimise_within(
    matrix: FeatureMatrix,
    labels: Tensor,
    omega: Tensor,
    basis: Eigenbasis,
    class_counts: Tensor,
    objective: Objective,
    *,
    share: float,
    tolerance: float = TOLERANCE,
) -> Solution:
    """Minimise the objective subject to ||w_k|| <= share * (the longest w_k without the constraint).

    Args:
        matrix: Features (N, D).
        labels: Labels (N,).
        omega: Sample weights (N,) summing to one.
        basis: Eigenbasis of these samples, or of a set that they are part of.
        class_counts: Training images of each class (K,).
        objective: What to minimise.
        share: Radius, as a share in (0, 1] of the longest class weight of the unconstrained optimum.
        tolerance: As for `minimise`.

    Returns:
        The constrained optimum, its multipliers exact to a thousandth; `iterations` counts all solves.

    Example:
        >>> x, y = FeatureMatrix.of(torch.tensor([[1.0], [-1.0], [-1.0]])), torch.tensor([0, 1, 1])
        >>> third, counts = torch.full((3,), 1 / 3), torch.tensor([1, 2])
        >>> basis = Eigenbasis(*(torch.tensor(v, dtype=torch.float64) for v in ([0], [[1]], [1])))
        >>> free = minimise(x, y, third, basis, counts, Objective(delta=0.5))
        >>> head = minimise_within(x, y, third, basis, counts, Objective(delta=0.5), share=0.5)
        >>> (head.weight.norm(dim=1) / free.weight.norm(dim=1)).round(decimals=2)
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    head = minimise(matrix, labels, omega, basis, class_counts, objective, tolerance=tolerance)
    slack = max(1e-3, 3 * tolerance)
    radius, iterations = share * head.weight.norm(dim=1).max(), head.iterations
    decay = torch.full(
        (len(class_counts),), float(basis.values.mean()) / len(class_counts), dtype=torch.float64
    )
    for _ in range(ROUNDS):
        head = minimise(
            matrix, labels, omega, basis, class_counts, objective,
            init=(head.weight, head.bias), class_decay=decay, tolerance=tolerance,
        )  # fmt: skip
        iterations += head.iterations
        ratio = head.weight.norm(dim=1) / radius
        if ratio.max() <= 1 + slack and (decay * (1 - ratio)).abs().max() <= slack * decay.max():
            break
        # ||w_k|| falls more slowly than 1 / lambda_k, so this does not overshoot by itself.
        decay = decay * ratio**SPEED
    shorten = (radius / head.weight.norm(dim=1).clamp_min(1e-300)).clamp_max(1)[:, None]
    return replace(head, weight=head.weight * shorten, iterations=iterations)
