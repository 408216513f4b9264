"""The exact solver of the head objective, in the eigenbasis of the features.

Near-uniform softmax (what LORT's targets ask for) makes the Hessian almost

    (1/K) (I - 11'/K)  (x)  (X' Omega X + K weight_decay I),

diagonal in the eigenbasis of the features' weighted covariance. There a diagonal preconditioner, refreshed
with the current softmax, takes L-BFGS to the optimum of LORT in about ten iterations.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lort_hub.errors import ConfigError, FeatureError
from lort_hub.features.distributed import Processes
from lort_hub.features.matrix import FeatureMatrix
from lort_hub.heads.solvers.eigenbasis import Eigenbasis, class_sums
from lort_hub.heads.solvers.objective import Objective, logit_adjustment, smoothing

TOLERANCE = 1e-5
MEMORY = 10
PATIENCE = 100
FLAT = 0.5
"""A step ends where the slope along its direction has fallen to this fraction."""
LINE_STEPS = 20


@dataclass(frozen=True)
class Solution:
    """A head and how it was reached.

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
    matrix: FeatureMatrix,
    labels: Tensor,
    omega: Tensor,
    basis: Eigenbasis,
    class_counts: Tensor,
    objective: Objective,
    *,
    init: tuple[Tensor, Tensor] | None = None,
    class_decay: Tensor | None = None,
    tolerance: float = TOLERANCE,
    max_iterations: int = 2000,
) -> Solution:
    """Minimise the objective exactly, by L-BFGS in an eigenbasis with a diagonal preconditioner.

    Deterministic: no sampling, no step size. Each gradient is one pass over the features, two matrix products
    with each block of them; no logits are kept.

    Args:
        matrix: Features (N, D).
        labels: Labels (N,).
        omega: Sample weights (N,) summing to one over all processes.
        basis: The eigenbasis of these samples, or of a set that they are part of.
        class_counts: Training images of each class (K,), for the logit adjustment.
        objective: What to minimise; it has a minimum only if delta or weight_decay is positive.
        init: Head (K, D), (K,) to start from; None for zero.
        class_decay: Weight decay (K,) of each class to add to the objective's; None for none.
        tolerance: Stop when the gradient's norm, in the unit of the features' spread, is this fraction of
            its norm at the zero head.
        max_iterations: Stop anyway, and report the gradient reached.

    Returns:
        The optimum.

    Raises:
        ConfigError: The objective has no minimum.

    Example:
        >>> x, y = FeatureMatrix.of(torch.tensor([[1.0], [-1.0]])), torch.tensor([0, 1])
        >>> half, counts = torch.tensor([0.5, 0.5]), torch.tensor([1, 1])
        >>> basis = Eigenbasis(*(torch.tensor(v, dtype=torch.float64) for v in ([0], [[1]], [1])))
        >>> head = minimise(x, y, half, basis, counts, Objective(delta=0.5))
        >>> round((head.weight[0] - head.weight[1]).item(), 4), round(math.log(3), 4)  # the logit gap
        (1.0986, 1.0986)
    """
    if objective.delta == 0 and objective.weight_decay == 0:
        raise ConfigError(
            "Cross-entropy without weight decay has no minimum when the classes are separable.\n"
            "Give a positive --weight-decay, a positive --delta, or --solver sgd."
        )
    num_classes, dim, processes = len(class_counts), matrix.dim, matrix.processes
    slopes = _Slopes(matrix, labels, omega, basis, class_counts, objective)
    # Column D of `head` is the bias; its feature is the constant 1 and carries no decay.
    penalty = torch.full((num_classes, dim + 1), objective.weight_decay, dtype=torch.float64)
    penalty += 0.0 if class_decay is None else class_decay.to(penalty)[:, None]
    penalty[:, dim] = 0.0
    shares = penalty.clamp_min(1e-300) / penalty.clamp_min(1e-300).sum(dim=0)
    spectrum = torch.cat([basis.values, torch.ones(1, dtype=torch.float64)])
    floor = 1e-10 * spectrum.max() / num_classes

    def gradient(head: Tensor) -> tuple[Tensor, Tensor]:
        slope, confidence = slopes(head)
        return slope.addcmul_(penalty, head), confidence

    def centred(head: Tensor) -> Tensor:
        """Less the common vector that the softmax does not see and the penalty is least without."""
        return head - (shares * head).sum(dim=0)

    zero = torch.zeros(num_classes, dim + 1, dtype=torch.float64)
    unit = spectrum.clone()
    unit[:dim] = basis.values.mean().clamp_min(1e-300)
    unit = unit.rsqrt()
    scale_of_gradient = max((slopes.at_zero * unit).norm().item(), 1e-300)
    head = zero
    if init is not None:
        weight, bias = basis.rotate_head(*init)
        head = torch.cat([weight, bias[:, None]], dim=1)
    head = centred(head)
    history: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=MEMORY)
    g, confidence = gradient(head)
    relatives: list[float] = []
    while True:
        relatives.append(processes.broadcast_number((g * unit).norm().item() / scale_of_gradient))
        if not math.isfinite(relatives[-1]):
            raise FeatureError(
                "The gradient is NaN or infinite: the features or the head to start from are too large."
            )
        iteration = len(relatives) - 1
        if relatives[-1] <= tolerance or iteration == max_iterations or _stalled(relatives):
            break
        scale = (confidence[:, None] * spectrum + penalty).clamp_min(floor)
        direction = centred(_lbfgs_direction(g, scale, history))
        previous, slope = g, processes.broadcast_number((g * direction).sum().item())
        if slope >= 0 and history:  # rounding has spoilt what the history says
            history.clear()
            continue
        step, (g, confidence) = _line_search(gradient, head, direction, slope, processes)
        head = head + step * direction
        change = g - previous
        product = processes.broadcast_number((change * direction).sum().item() * step)
        if product > 0:
            history.append(((step * direction).float(), change.float(), product))
    weight, bias = basis.unrotate(head[:, :dim], head[:, dim])
    processes.broadcast(weight, bias)
    return Solution(weight, bias, iteration, relatives[-1])


def _stalled(relatives: list[float]) -> bool:
    """Whether rounding has ended the descent: the gradient has not shrunk for `PATIENCE` iterations."""
    recent = relatives[-PATIENCE:]
    return len(relatives) > PATIENCE and min(recent) >= min(relatives[:-PATIENCE])


class _Slopes:
    """Gradient (K, D + 1), in the eigenbasis, of the objective's mean loss at a head given there.

    The features stay as they are: the head is turned to them, and their sums back. That the vectors are
    float32 there changes the coordinates a little, not the optimum.
    """

    def __init__(
        self,
        matrix: FeatureMatrix,
        labels: Tensor,
        omega: Tensor,
        basis: Eigenbasis,
        class_counts: Tensor,
        objective: Objective,
    ) -> None:
        self.matrix, self.omega = matrix.subtract(basis.mean), omega.float()
        self.vectors = basis.vectors.float()
        self.prior = logit_adjustment(class_counts, objective.tau).float()
        sums = class_sums(self.matrix, labels, omega, len(class_counts))
        certain = (1 - smoothing(objective, class_counts))[:, None] * sums
        self.target = certain - certain.mean(dim=0)  # of t_i - 1/K
        self.uniform = sums[:, -1].sum() * (1 - 1 / len(class_counts)) / len(class_counts)

    @cached_property
    def at_zero(self) -> Tensor:
        if self.prior.any():
            return self(torch.zeros_like(self.target))[0]
        return self._rotated(-self.target)

    def __call__(self, head: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient, and the mean of p_k (1 - p_k) over the samples (K,), float64."""
        weight, bias = head[:, :-1].float() @ self.vectors.T, head[:, -1].float() + self.prior
        sums, squares = torch.zeros_like(self.target), torch.zeros(len(bias), dtype=torch.float64)
        for x, at in self.matrix:
            deviation = _deviation(torch.addmm(bias.to(x), x, weight.to(x).T))
            weighted = deviation * self.omega[at, None]
            sums[:, :-1] += weighted.T @ x
            sums[:, -1] += weighted.sum(dim=0, dtype=torch.float64)
            squares += weighted.mul_(deviation).sum(dim=0, dtype=torch.float64)
        self.matrix.processes.all_reduce(sums, squares)
        confidence = self.uniform + (1 - 2 / len(bias)) * sums[:, -1] - squares
        return self._rotated(sums.sub_(self.target)), confidence

    def _rotated(self, sums: Tensor) -> Tensor:
        return torch.cat([(sums[:, :-1].float() @ self.vectors).double(), sums[:, -1:]], dim=1)


def _deviation(logits: Tensor) -> Tensor:
    """Softmax minus 1/K, to the relative precision of the logits even where they are tiny, as LORT's are."""
    u = logits.sub_(logits.amax(dim=1, keepdim=True)).expm1_()
    mean = u.mean(dim=1, keepdim=True)
    return u.sub_(mean).div_((1 + mean) * logits.shape[1])


def _lbfgs_direction(g: Tensor, scale: Tensor, history: Sequence[tuple[Tensor, Tensor, float]]) -> Tensor:
    """The two-loop recursion with the inverse of the diagonal `scale` as the initial inverse Hessian."""
    q, coefficients = -g, []
    for step, change, product in reversed(history):
        coefficient = (step * q).sum().item() / product
        coefficients.append(coefficient)
        q = q.sub_(change, alpha=coefficient)
    q = q.div_(scale)
    if history:  # the newest pair knows the scale of the curvature better than the diagonal does
        _, change, product = history[-1]
        q = q.mul_(product / (change * (change / scale)).sum().item())
    for (step, change, product), coefficient in zip(history, reversed(coefficients), strict=True):
        q = q.add_(step, alpha=coefficient - (change * q).sum().item() / product)
    return q


def _line_search(
    gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
    head: Tensor,
    direction: Tensor,
    slope: float,
    processes: Processes,
) -> tuple[float, tuple[Tensor, Tensor]]:
    """The step from a head at which the slope along a direction has all but gone, and the gradient there.

    By convexity the slope grows with the step, so a secant kept inside its bracket finds it.
    """
    step, below, above = 1.0, (0.0, slope), None
    for left in reversed(range(LINE_STEPS)):
        found = gradient(head + step * direction)
        here = (step, processes.broadcast_number((found[0] * direction).sum().item()))
        if abs(here[1]) <= FLAT * abs(slope) or not left:
            break
        if here[1] < 0 and above is None:
            step = min(_secant(below, here, math.inf), 10 * step)
            below = here
        else:
            below, above = (here, above) if here[1] < 0 else (below, here)
            assert above is not None
            tenth = (above[0] - below[0]) / 10
            step = min(max(_secant(below, above, below[0]), below[0] + tenth), above[0] - tenth)
    return step, found


def _secant(one: tuple[float, float], other: tuple[float, float], parallel: float) -> float:
    """Where the line through two (step, slope) is zero; `parallel` where it is level or falls."""
    rise = (other[1] - one[1]) / (other[0] - one[0])
    return one[0] - one[1] / rise if rise > 0 else parallel
