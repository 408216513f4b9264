"""Solvers of the head objective: an exact one in the features' eigenbasis, and the paper's SGD protocol.

Near-uniform softmax (what LORT's targets ask for) makes the Hessian almost

    (1/K) (I - 11'/K)  (x)  (X' Omega X + K weight_decay I),

diagonal in the eigenbasis of the features' weighted covariance. There a diagonal preconditioner, refreshed
with the current softmax, takes L-BFGS to the optimum of LORT in about ten iterations.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lort_hub.eigenbasis import BLOCK, class_sums
from lort_hub.errors import ConfigError
from lort_hub.objectives import Objective, logit_adjustment, sample_weights, smoothing

TOLERANCE = 1e-5
MEMORY = 10
PATIENCE = 100
FLAT = 0.1
"""A step ends where the slope along its direction has fallen to this fraction."""


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
    x: Tensor,
    labels: Tensor,
    omega: Tensor,
    curvature: Tensor,
    class_counts: Tensor,
    objective: Objective,
    *,
    init: tuple[Tensor, Tensor] | None = None,
    class_decay: Tensor | None = None,
    tolerance: float = TOLERANCE,
    max_iterations: int = 2000,
) -> Solution:
    """Minimise the objective exactly, by L-BFGS in the eigenbasis with a diagonal preconditioner.

    Deterministic: no sampling, no step size. Where a full step along a direction is too long or too short,
    Newton's method finds the right one on the kept logits, at the cost of one more product with the features.

    Args:
        x: Features (N, D) in an eigenbasis, all of `Eigenbasis.x` or some of its rows.
        labels: Labels (N,).
        omega: Sample weights (N,) summing to one.
        curvature: Eigenvalues (D,) of the basis.
        class_counts: Training images of each class (K,), for the logit adjustment.
        objective: What to minimise; it has a minimum only if delta or weight_decay is positive.
        init: Head (K, D), (K,) in the same basis to start from; None for zero.
        class_decay: Weight decay (K,) of each class to add to the objective's; None for none.
        tolerance: Stop when the gradient's norm is this fraction of its norm at the zero head.
        max_iterations: Stop anyway, and report the gradient reached.

    Returns:
        The optimum, in the same basis.

    Raises:
        ConfigError: The objective has no minimum.

    Example:
        >>> x, y = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
        >>> half, counts = torch.tensor([0.5, 0.5]), torch.tensor([1, 1])
        >>> head = minimise(x, y, half, torch.ones(1), counts, Objective(delta=0.5))
        >>> round((head.weight[0] - head.weight[1]).item(), 4), round(math.log(3), 4)  # the logit gap
        (1.0986, 1.0986)
    """
    if objective.delta == 0 and objective.weight_decay == 0:
        raise ConfigError(
            "Cross-entropy without weight decay has no minimum when the classes are separable.\n"
            "Give a positive --weight-decay, a positive --delta, or --solver sgd."
        )
    num_classes, dim = len(class_counts), x.shape[1]
    prior = logit_adjustment(class_counts, objective.tau).to(x)
    weights = omega.to(x)
    sums = class_sums(x, labels, omega, num_classes)
    certain = (1 - smoothing(objective, class_counts)).to(sums)[:, None] * sums
    target = certain - certain.mean(dim=0)  # of t_i - 1/K
    # Column D of `head` is the bias; its feature is the constant 1 and carries no decay.
    penalty = torch.full((num_classes, dim + 1), objective.weight_decay, dtype=torch.float64, device=x.device)
    penalty += 0.0 if class_decay is None else class_decay.to(penalty)[:, None]
    penalty[:, dim] = 0.0
    spectrum = torch.cat(
        [curvature.double().to(x.device), torch.ones(1, dtype=torch.float64, device=x.device)]
    )
    floor = 1e-10 * spectrum.max() / num_classes

    def gradient(head: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        sums, confidence = _softmax_sums(x, logits, weights, prior)
        return sums - target + penalty * head, confidence

    zero = torch.zeros(num_classes, dim + 1, dtype=torch.float64, device=x.device)
    start, _ = gradient(zero, x.new_zeros(len(x), num_classes))
    head = zero if init is None else torch.cat([init[0], init[1][:, None]], dim=1).double()
    if class_decay is None:  # the softmax does not see a common vector; equal decays want it to be zero
        head = head - head.mean(dim=0)
    logits = _logits(x, head)
    history: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=MEMORY)
    scale_of_gradient = max(start.norm().item(), 1e-300)
    g, confidence = gradient(head, logits)
    relatives: list[float] = []
    while True:
        relatives.append(g.norm().item() / scale_of_gradient)
        iteration = len(relatives) - 1
        if relatives[-1] <= tolerance or iteration == max_iterations or _stalled(relatives):
            break
        scale = (confidence[:, None] * spectrum + penalty).clamp_min(floor)
        direction = _lbfgs_direction(g, scale, history)
        if class_decay is None:
            direction = direction - direction.mean(dim=0)
        slope = (g * direction).sum().item()
        previous, moved, step = g, _logits(x, direction), 1.0
        g, confidence = gradient(head + direction, logits + moved)
        if abs((g * direction).sum().item()) > FLAT * abs(slope):
            step = _line_minimum(logits, moved, weights, prior, target, head, direction, penalty, slope)
            g, confidence = gradient(head + step * direction, torch.add(logits, moved, alpha=step))
        head = head + step * direction
        logits = _logits(x, head) if iteration % 10 == 9 else logits.add_(moved, alpha=step)
        change = g - previous
        product = (change * direction).sum().item() * step
        if product > 0:
            history.append((step * direction, change, product))
    return Solution(head[:, :dim], head[:, dim], iteration, relatives[-1])


def _stalled(relatives: list[float]) -> bool:
    """Whether rounding has ended the descent: the gradient has not shrunk for `PATIENCE` iterations."""
    recent = relatives[-PATIENCE:]
    return len(relatives) > PATIENCE and min(recent) >= min(relatives[:-PATIENCE])


def _logits(x: Tensor, head: Tensor) -> Tensor:
    weight, bias = head[:, :-1].to(x.dtype), head[:, -1].to(x.dtype)
    return torch.addmm(bias, x, weight.T)


def _deviation(logits: Tensor) -> Tensor:
    """Softmax minus 1/K, to the relative precision of the logits even where they are tiny, as LORT's are."""
    u = torch.expm1(logits - logits.amax(dim=1, keepdim=True))
    mean = u.mean(dim=1, keepdim=True)
    return (u - mean) / ((1 + mean) * logits.shape[1])


def _softmax_sums(x: Tensor, logits: Tensor, omega: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of omega_i (p_i - 1/K) [x_i, 1] (K, D + 1) and of omega_i p_i (1 - p_i) (K,), in float64."""
    num_classes = len(prior)
    sums = torch.zeros(num_classes, x.shape[1] + 1, dtype=torch.float64, device=x.device)
    squares = torch.zeros(num_classes, dtype=torch.float64, device=x.device)
    for block, z, w in zip(x.split(BLOCK), logits.split(BLOCK), omega.split(BLOCK), strict=True):
        deviation = _deviation(z + prior)
        weighted = deviation * w[:, None]
        sums[:, :-1] += (weighted.T @ block).double()
        sums[:, -1] += weighted.sum(dim=0, dtype=torch.float64)
        squares += weighted.mul_(deviation).sum(dim=0, dtype=torch.float64)
    uniform = omega.sum(dtype=torch.float64) * (1 - 1 / num_classes) / num_classes
    return sums, uniform + (1 - 2 / num_classes) * sums[:, -1] - squares


def _lbfgs_direction(g: Tensor, scale: Tensor, history: Sequence[tuple[Tensor, Tensor, float]]) -> Tensor:
    """The two-loop recursion with the inverse of the diagonal `scale` as the initial inverse Hessian."""
    q, coefficients = -g, []
    for step, change, product in reversed(history):
        coefficient = (step * q).sum() / product
        coefficients.append(coefficient)
        q = q - coefficient * change
    q = q / scale
    for (step, change, product), coefficient in zip(history, reversed(coefficients), strict=True):
        q = q + (coefficient - (change * q).sum() / product) * step
    return q


def _line_minimum(
    logits: Tensor,
    moved: Tensor,
    omega: Tensor,
    prior: Tensor,
    target: Tensor,
    head: Tensor,
    direction: Tensor,
    penalty: Tensor,
    initial: float,
) -> float:
    """Step that ends where the slope is `FLAT`; it increases, by convexity, so bracketed Newton finds it."""
    linear = (penalty * head * direction).sum().item() - (target * direction).sum().item()
    quadratic = (penalty * direction.square()).sum().item()

    def slope(step: float) -> tuple[float, float]:
        first, second = linear + step * quadratic, quadratic
        for z, d, w in zip(logits.split(BLOCK), moved.split(BLOCK), omega.split(BLOCK), strict=True):
            deviation = _deviation(torch.add(z + prior, d, alpha=step))
            mean = (deviation * d).sum(dim=1)  # under p - 1/K, as the target is t - 1/K
            first += (w.double() @ mean.double()).item()
            second += (
                w @ ((deviation + 1 / z.shape[1]) * d * d).sum(dim=1) - w @ (mean + d.mean(dim=1)).square()
            ).item()
        return first, second

    low, high, step = 0.0, math.inf, 1.0
    for _ in range(30):
        first, second = slope(step)
        if abs(first) <= FLAT * abs(initial):
            break
        low, high = (step, high) if first < 0 else (low, step)
        newton = step - first / second if second > 0 else math.inf
        step = newton if low < newton < high else (2 * low if high == math.inf else (low + high) / 2)
    return step


def sgd(
    views: Sequence[Tensor],
    labels: Tensor,
    class_counts: Tensor,
    objective: Objective,
    *,
    init: tuple[Tensor, Tensor],
    epochs: int = 20,
    lr: float = 5e-4,
    momentum: float = 0.9,
    batch_size: int = 64,
    seed: int = 0,
) -> Solution:
    """Re-train a head by the paper's stage 2 (PAPER section 4): SGD from the stage-1 head, cosine to zero.

    Args:
        views: Features (N, D) as each epoch sees them; epoch e uses view e modulo their number.
        labels: Labels (N,).
        class_counts: Training images of each class (K,).
        objective: What to minimise; its sample weights scale each sample's loss, averaging to one.
        init: Head (K, D), (K,) to start from.
        epochs: Passes over the data.
        lr: Initial learning rate.
        momentum: SGD's momentum.
        batch_size: Samples per step.
        seed: Seed of the order of the samples.

    Returns:
        The head after the last epoch; the weight decay acts on W alone.

    Example:
        >>> x, y, counts = torch.eye(2), torch.tensor([0, 1]), torch.tensor([1, 1])
        >>> head = sgd([x], y, counts, Objective(), init=(torch.zeros(2, 2), torch.zeros(2)), lr=1.0)
        >>> (x.double() @ head.weight.T + head.bias).argmax(dim=1)
        tensor([0, 1])
    """
    weight, bias = (tensor.detach().float().clone().requires_grad_() for tensor in init)
    groups = [
        {"params": [weight], "weight_decay": objective.weight_decay},
        {"params": [bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=momentum)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    prior = logit_adjustment(class_counts, objective.tau).float()
    scale = (sample_weights(labels, class_counts, objective.gamma) * len(labels)).float()
    order = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        x = views[epoch % len(views)]
        for batch in torch.randperm(len(labels), generator=order).split(batch_size):
            logits = F.linear(x[batch], weight, bias) + prior
            losses = F.cross_entropy(logits, labels[batch], label_smoothing=objective.delta, reduction="none")
            optimizer.zero_grad()
            (losses * scale[batch]).mean().backward()
            optimizer.step()
        schedule.step()
    return Solution(weight.detach().double(), bias.detach().double(), epochs, None)
