"""Minimise a smooth function that need not be convex, by L-BFGS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from lort_hub.features.distributed import Processes

MEMORY = 20


def descend(
    terms: Callable[[], Iterable[Tensor]],
    parameters: Sequence[Tensor],
    *,
    tolerance: float,
    max_iterations: int,
    processes: Processes | None = None,
) -> None:
    """Minimise a sum of differentiable terms in place: full-batch L-BFGS with a strong Wolfe line search.

    Deterministic, and never ends above its start. The terms are differentiated one by one, so that only one
    block of samples is in memory at a time.

    Args:
        terms: Gives the scalar terms of the objective, afresh at each call.
        parameters: Leaf tensors, float64, that require gradients.
        tolerance: Stop when the gradient's largest entry is this fraction of what it was at the start.
        max_iterations: Stop anyway.
        processes: Each of which has terms of its own; None for this one alone.

    Example:
        >>> x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        >>> centre = torch.tensor([1.0, 2.0], dtype=torch.float64)
        >>> descend(lambda: iter([(x - centre).square().sum()]), [x], tolerance=1e-10, max_iterations=100)
        >>> [round(value, 6) for value in x.tolist()]
        [1.0, 2.0]
    """

    def value_and_gradient() -> float:
        for p in parameters:
            p.grad = torch.zeros_like(p)
        total = torch.zeros((), dtype=torch.float64)
        for term in terms():
            term.backward()
            total += term.detach()
        if processes:
            processes.all_reduce(total, *(p.grad for p in parameters if p.grad is not None))
        return total.item()

    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=max_iterations,
        max_eval=10 * max_iterations,
        tolerance_change=0.0,
        history_size=MEMORY,
        line_search_fn="strong_wolfe",
    )
    value_and_gradient()
    steepest = max(p.grad.abs().max().item() for p in parameters if p.grad is not None)
    optimizer.param_groups[0]["tolerance_grad"] = tolerance * steepest
    optimizer.step(value_and_gradient)
