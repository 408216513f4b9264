"""Minimise a smooth function, convex or not, by torch's L-BFGS."""

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
    """Minimise a sum of differentiable terms in place, by full-batch L-BFGS with a strong Wolfe line search.

    Deterministic; the value never ends above that of the start. The terms are differentiated one by one, so
    that only one block of samples is in memory at a time.

    Args:
        terms: Yields the scalar terms of the objective anew at each call.
        parameters: Leaf tensors, float64, that require gradients.
        tolerance: Stop when the largest entry of the gradient is this fraction of its value at the start.
        max_iterations: Largest number of iterations.
        processes: Processes, each of which has terms of its own; None for this one alone.

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
        total = parameters[0].new_zeros(())
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
    largest = max(p.grad.abs().max().item() for p in parameters if p.grad is not None)
    optimizer.param_groups[0]["tolerance_grad"] = tolerance * largest
    optimizer.step(value_and_gradient)
