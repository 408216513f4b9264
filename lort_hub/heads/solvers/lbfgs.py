"""Solve the head objective exactly, by preconditioned L-BFGS in the eigenbasis of the features.

LORT's targets keep the softmax near uniform, so that the Hessian is almost

    (1/K) (I - 11'/K)  (x)  (X' Omega X + K weight_decay I),

which is diagonal in the eigenbasis of the features' weighted covariance. With a diagonal preconditioner in
that basis, updated with the current softmax, L-BFGS reaches the optimum of LORT in about ten iterations.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lort_hub.errors import ConfigError, FeatureError
from lort_hub.features.distributed import Processes
from lort_hub.heads.solvers.objective import Objective
from lort_hub.heads.solvers.problem import HeadProblem, LossGradient

TOLERANCE = 1e-5
MEMORY = 10
"""Pairs of steps and gradient changes that L-BFGS keeps."""
PATIENCE = 100
"""Iterations without a smaller gradient after which the solver stops."""
SLOPE_FRACTION = 0.5
"""A line search ends when the slope along the direction has fallen to this fraction."""
LINE_SEARCH_STEPS = 20
PULL_SHARE, COARSE_PULL_SHARE = 0.03, 0.25
"""Largest gradient at which a solve stops, as a fraction of the weight decay's part of it. The objective is
then above its minimum by no more than about the square of this."""
LEAST_OF_COARSE = 0.03
"""Fraction of a coarse tolerance below which the gradient is never asked to be."""


@dataclass(frozen=True)
class Solution:
    """Solved head and the effort of its solver.

    Attributes:
        weight: W (K, D), float64.
        bias: b (K,), float64.
        iterations: Iterations (L-BFGS) or epochs (SGD).
        relative_gradient: Norm of the gradient over its norm at the zero head; None for SGD.
    """

    weight: Tensor
    bias: Tensor
    iterations: int
    relative_gradient: float | None


def minimise(
    problem: HeadProblem,
    *,
    init: tuple[Tensor, Tensor] | None = None,
    class_decay: Tensor | None = None,
    tolerance: float = TOLERANCE,
    max_iterations: int = 2000,
) -> Solution:
    """Minimise the objective exactly, by L-BFGS in an eigenbasis with a diagonal preconditioner.

    Deterministic: no sampling, no step size. Each gradient is one pass over the features with two matrix
    products per block; no logits are stored.

    Args:
        problem: Samples and objective.
        init: Head (K, D), (K,) to start from; None for W = 0 and the bias that is best with it.
        class_decay: Weight decay (K,) of each class, added to the objective's; None for none.
        tolerance: Stop when the gradient's norm, in the unit of the features' spread, is this fraction of
            its norm at the zero head; and of a coarse tolerance, when it is small beside the weight decay's
            part, without which heads of little decay would be those of more, stopped early.
        max_iterations: Largest number of iterations; the gradient reached is reported.

    Returns:
        The optimum.

    Raises:
        ConfigError: The objective has no minimum.
        FeatureError: The gradient is not finite.

    Example:
        >>> from lort_hub.features.matrix import FeatureMatrix
        >>> from lort_hub.heads.solvers.eigenbasis import Eigenbasis
        >>> x, y = FeatureMatrix.of(torch.tensor([[1.0], [-1.0]])), torch.tensor([0, 1])
        >>> half, counts = torch.tensor([0.5, 0.5]), torch.tensor([1, 1])
        >>> basis = Eigenbasis(*(torch.tensor(v, dtype=torch.float64) for v in ([0], [[1]], [1])))
        >>> head = minimise(HeadProblem(x, y, half, basis, counts, Objective(delta=0.5)))
        >>> round((head.weight[0] - head.weight[1]).item(), 4), round(math.log(3), 4)  # the logit gap
        (1.0986, 1.0986)
    """
    _check_objective(problem.objective)
    basis = problem.basis.span
    num_classes, dim = len(problem.class_counts), len(basis.values)
    processes, loss_gradient = problem.matrix.processes, LossGradient(problem, basis)
    # The last column of `head` is the bias; its feature is the constant 1 and has no decay.
    penalty = basis.values.new_full((num_classes, dim + 1), problem.objective.weight_decay)
    penalty += 0.0 if class_decay is None else class_decay.to(penalty)[:, None]
    penalty[:, dim] = 0.0
    shares = penalty.clamp_min(1e-300) / penalty.clamp_min(1e-300).sum(dim=0)
    spectrum = torch.cat([basis.values, basis.values.new_ones(1)])
    # The bias has a floor of its own, or it would hardly move beside features of a large unit.
    largest = problem.basis.values.max()
    floor = torch.cat([largest.expand(dim), spectrum[-1:]]) * (1e-10 / num_classes)

    def gradient(head: Tensor) -> tuple[Tensor, Tensor]:
        g, curvature = loss_gradient(head)
        return g.addcmul_(penalty, head), curvature

    def centred(head: Tensor) -> Tensor:
        """Subtract the shift common to all classes that raises the penalty; the softmax ignores it."""
        return head - (shares * head).sum(dim=0)

    unit = spectrum.clone()
    unit[:dim] = problem.basis.values.mean().clamp_min(1e-300)
    unit = unit.rsqrt()
    gradient_at_zero = max((loss_gradient.at_zero * unit).norm().item(), 1e-300)

    def relative_norm(part: Tensor) -> float:
        """Measure a gradient, or a part of one, by the gradient at the zero head."""
        return processes.broadcast_number((part * unit).norm().item() / gradient_at_zero)

    if init is None:
        head = torch.zeros_like(penalty)
        head[:, dim] = loss_gradient.bias_alone
    else:
        weight, bias = basis.rotate_head(*init)
        head = torch.cat([weight, bias[:, None]], dim=1)
    head = centred(head)
    history: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=MEMORY)
    g, curvature = gradient(head)
    relatives: list[float] = []
    while True:
        relatives.append(relative_norm(g))
        if not math.isfinite(relatives[-1]):
            raise FeatureError(
                "The gradient is NaN or infinite: the features or the head to start from are too large."
            )
        iteration = len(relatives) - 1
        pull = relative_norm(penalty * head)
        if relatives[-1] == min(relatives):
            best = head
        if (
            relatives[-1] <= _small_gradient(tolerance, pull, loss_gradient.least)
            or iteration == max_iterations
            or _has_stalled(relatives)
        ):
            break
        damping = torch.maximum(penalty, _pull_of_loss(g - penalty * head, head) * (penalty > 0))
        scale = (curvature[:, None] * spectrum + damping).clamp_min(floor)
        direction = centred(_lbfgs_direction(g, scale, history))
        previous, slope = g, processes.broadcast_number((g * direction).sum().item())
        if slope >= 0 and history:  # rounding errors in the history have spoilt the direction
            history.clear()
            continue
        step, (g, curvature) = _line_search(gradient, head, direction, slope, processes)
        head = head + step * direction
        change = g - previous
        product = processes.broadcast_number((change * direction).sum().item() * step)
        if product > 0:
            history.append(((step * direction).float(), change.float(), product))
    weight, bias = basis.unrotate(best[:, :dim], best[:, dim])
    processes.broadcast(weight, bias)
    return Solution(weight, bias, iteration, min(relatives))


def _check_objective(objective: Objective) -> None:
    """Refuse an objective without a minimum, and one with tau."""
    if objective.delta == 0 and objective.weight_decay == 0:
        raise ConfigError(
            "Cross-entropy without weight decay has no minimum when the classes are separable.\n"
            'Give a positive `weight_decay`, a positive `delta`, or `solver="sgd"`.'
        )
    if objective.tau:
        raise ConfigError(
            f"tau is {objective.tau}, expected 0: the bias has no decay, so that tau shifts the bias alone.\n"
            "Solve without it, and give the head to `logit_adjusted`."
        )


def _small_gradient(tolerance: float, pull: float, least: float) -> float:
    """Compute the relative gradient at which a solve stops, beside `pull`, the weight decay's part of it."""
    if tolerance <= TOLERANCE:
        return min(tolerance, max(PULL_SHARE * pull, least))
    return min(tolerance, max(COARSE_PULL_SHARE * pull, TOLERANCE, LEAST_OF_COARSE * tolerance))


def _pull_of_loss(loss_gradient: Tensor, head: Tensor) -> Tensor:
    """Compute the weight decay (K, 1) that would hold each class's weights where they are; 0 for none.

    A step of a class by no less curvature is no longer than about its weights. Where the samples are far on
    the right side the loss is flat, and by its curvature there steps are many times too long.
    """
    pull: Tensor = loss_gradient[:, :-1].norm(dim=1) / head[:, :-1].norm(dim=1)
    return pull.nan_to_num(nan=0.0, posinf=0.0)[:, None]


def _has_stalled(relatives: list[float]) -> bool:
    """Decide whether rounding has stopped the descent: no smaller gradient for `PATIENCE` iterations."""
    recent = relatives[-PATIENCE:]
    return len(relatives) > PATIENCE and min(recent) >= min(relatives[:-PATIENCE])


def _lbfgs_direction(g: Tensor, scale: Tensor, history: Sequence[tuple[Tensor, Tensor, float]]) -> Tensor:
    """Run the two-loop recursion with the inverse of the diagonal `scale` as the initial inverse Hessian.

    In place and in float32: a direction need not be exact, and temporary matrices take as long as a pass.
    """
    unit = g.abs().max().clamp_min(1e-300)  # so that gradients of tiny features are no zeros in float32
    q, inverse, coefficients = (-g / unit).float(), (scale.amin() / scale).float(), []
    for step, change, product in reversed(history):
        coefficient = _dot(step, q) / product
        coefficients.append(coefficient)
        q.sub_(change, alpha=coefficient)
    q.mul_(inverse)
    factor = 1 / scale.amin().item()
    if history:  # the newest pair estimates the scale of the curvature better than the diagonal
        _, change, product = history[-1]
        squares = _dot(change, change * inverse)
        factor = product / squares if squares > 0 else factor  # tiny changes are zero in float32
    q.mul_(factor)
    for (step, change, product), coefficient in zip(history, reversed(coefficients), strict=True):
        q.add_(step, alpha=coefficient - _dot(change, q) / product)
    return q.double().mul_(unit)


def _dot(first: Tensor, second: Tensor) -> float:
    return torch.dot(first.view(-1), second.view(-1)).item()


def _line_search(
    gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
    head: Tensor,
    direction: Tensor,
    slope: float,
    processes: Processes,
) -> tuple[float, tuple[Tensor, Tensor]]:
    """Find a step along a direction after which the slope has nearly vanished, and the gradient there.

    The objective is convex, so the slope grows with the step: the secant method in a bracket finds its zero.
    """
    step, below, above = 1.0, (0.0, slope), None  # (step, slope) of the ends of the bracket
    for steps_left in reversed(range(LINE_SEARCH_STEPS)):
        result = gradient(head + step * direction)
        here = (step, processes.broadcast_number((result[0] * direction).sum().item()))
        if abs(here[1]) <= SLOPE_FRACTION * abs(slope) or not steps_left:
            break
        if here[1] < 0 and above is None:
            step = min(_secant(below, here, math.inf), 10 * step)
            below = here
        else:
            below, above = (here, above) if here[1] < 0 else (below, here)
            assert above is not None
            tenth = (above[0] - below[0]) / 10
            step = min(max(_secant(below, above, below[0]), below[0] + tenth), above[0] - tenth)
    return step, result


def _secant(first: tuple[float, float], second: tuple[float, float], default: float) -> float:
    """Find the zero of the line through two (step, slope); `default` where the line does not rise."""
    rise = (second[1] - first[1]) / (second[0] - first[0])
    return first[0] - first[1] / rise if rise > 0 else default
