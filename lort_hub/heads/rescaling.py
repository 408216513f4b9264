"""Learn a few numbers per class on top of a trained head: LWS and DisAlign."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lort_hub.errors import ConfigError
from lort_hub.features.matrix import BLOCK, FeatureMatrix
from lort_hub.heads.base import Head
from lort_hub.heads.solvers.descent import descend
from lort_hub.heads.solvers.eigenbasis import class_sums
from lort_hub.heads.solvers.objective import Objective, sample_weights
from lort_hub.heads.solvers.problem import LOADED_NUMBERS

LWS_TOLERANCE = 1e-8
LWS_ITERATIONS = 100
RIDGE = 1e-12
"""Ridge of the Hessian, as a share of its largest diagonal entry: a zero class weight has no curvature."""
ARMIJO = 1e-4
"""Share of the predicted decrease that a step must reach."""
MIN_STEP = 1e-10
"""Largest entry of a step at which the line search gives up."""
DISALIGN_TOLERANCE = 1e-6
DISALIGN_ITERATIONS = 200


def learned_weight_scaling(
    weight: Tensor,
    bias: Tensor,
    matrix: FeatureMatrix,
    labels: Tensor,
    class_counts: Tensor,
    *,
    delta: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Learn one factor per class weight: learnable weight scaling, LWS (arXiv 1910.09217).

    Minimises sum_i omega_i CE(softmax(s * W x_i + b), t_i) over s (K,), with class-balanced omega (gamma = 1)
    and targets smoothed by delta. The problem is convex; Newton's method starts from s = 1. The bias stays as
    it is: the paper's head has none (its code scales it too).

    Stops at 1e-8 of the initial gradient, or after 100 iterations: there is no minimum if delta = 0 and some
    scaling separates the samples.

    Args:
        weight: W (K, D).
        bias: b (K,).
        matrix: Features (N, D).
        labels: Labels (N,).
        class_counts: Training images n_k of each class (K,).
        delta: Label smoothing in [0, 1).

    Returns:
        Head (K, D), (K,) with the factors folded in, float32.

    Raises:
        ConfigError: delta is out of range.

    Example:
        >>> x, y = FeatureMatrix.of(torch.tensor([[2.0], [-2.0]])), torch.tensor([0, 1])
        >>> counts = torch.tensor([1, 1])
        >>> head = torch.tensor([[1.0], [-1.0]]), torch.zeros(2)
        >>> weight, _ = learned_weight_scaling(*head, x, y, counts, delta=0.5)
        >>> round((weight[0] - weight[1]).item() * 2, 4), round(math.log(3), 4)  # delta's logit gap
        (1.0986, 1.0986)
    """
    objective = Objective(delta=delta, gamma=1.0)
    omega = sample_weights(labels, class_counts, objective.gamma)
    head = weight.double(), bias.double()

    def derivatives(factors: Tensor) -> tuple[float, Tensor, Tensor]:
        return _lws_derivatives(factors, *head, matrix, labels, omega, objective.delta)

    factors = torch.ones_like(bias, dtype=torch.float64)
    value, gradient, hessian = derivatives(factors)
    threshold = LWS_TOLERANCE * gradient.abs().max()
    for _ in range(LWS_ITERATIONS):
        if gradient.abs().max() <= threshold:
            break
        hessian.diagonal().add_(RIDGE * hessian.diagonal().max())
        step = -torch.linalg.solve(hessian, gradient)
        slope = (gradient @ step).item()
        while True:
            trial = derivatives(factors + step)
            if trial[0] <= value + ARMIJO * slope or step.abs().max() < MIN_STEP:
                break
            step, slope = step / 2, slope / 2
        factors = factors + step
        value, gradient, hessian = trial
    return (factors[:, None] * weight.double()).float(), bias.float()


def _lws_derivatives(
    factors: Tensor,
    weight: Tensor,
    bias: Tensor,
    matrix: FeatureMatrix,
    labels: Tensor,
    omega: Tensor,
    delta: float,
) -> tuple[float, Tensor, Tensor]:
    """Compute value, gradient (K,) and Hessian (K, K) of the LWS objective."""
    num_classes = len(factors)
    value, gradient = factors.new_zeros(()), torch.zeros_like(factors)
    hessian = factors.new_zeros(num_classes, num_classes)
    for x, at in matrix:
        z, y, w = (x @ weight.to(x).T).double(), labels[at], omega[at]
        logits = factors * z + bias
        value += w @ F.cross_entropy(logits, y, label_smoothing=delta, reduction="none")
        p = logits.softmax(dim=1)
        pz = p * z
        hessian.diagonal().add_(w @ (pz * z))
        hessian.addmm_(pz.T, w[:, None] * pz, alpha=-1)
        target = torch.full_like(p, delta / num_classes)
        target[torch.arange(len(y), device=y.device), y] += 1 - delta
        gradient += w @ ((p - target) * z)
    matrix.processes.all_reduce(value, gradient, hessian)
    return value.item(), gradient, hessian


def spread_over(base: Head, head: Head, matrix: FeatureMatrix) -> float:
    """Divide the spread of a trained head's logits by that of a head learned on it: a factor on the latter.

    Where some scaling separates the samples, a learned head is as large as the solver had time to make it.
    With this factor it is as large as the trained head, and heads of folds are comparable to that of all
    samples. The spread is the standard deviation over classes, meaned over the samples.

    Args:
        base: The trained head.
        head: The learned head.
        matrix: Features (N, D).

    Returns:
        The factor; 1 if one of the heads tells nothing.

    Example:
        >>> from lort_hub.heads.base import LinearHead
        >>> one, three = (LinearHead(scale * torch.eye(2), torch.zeros(2)) for scale in (1, 4))
        >>> spread_over(one, three, FeatureMatrix.of(torch.eye(2)))
        0.25
    """
    spreads = torch.zeros(2, dtype=torch.float64, device=matrix.device)
    for x, _ in matrix:
        spreads += torch.stack([each.logits(x).double().std(dim=1).sum() for each in (base, head)])
    matrix.processes.all_reduce(spreads)
    trained, learned = spreads.tolist()
    return trained / learned if trained * learned > 0 else 1.0


@dataclass(frozen=True)
class DisAlignHead:
    """Linear head whose logits are rescaled per class, weighted by a confidence in each sample.

    z' = sigma(x) (alpha * z + beta) + (1 - sigma(x)) z with z = W x + b and sigma(x) = sigmoid(v.x + c). The
    product of sigma and z is not linear in x, so this head cannot be written as a (W, b).

    Attributes:
        weight: W (K, D), float32.
        bias: b (K,), float32.
        alpha: Factors (K,), float64.
        beta: Offsets (K,), float64.
        v: Weight (D,) of the confidence, float64.
        c: Bias () of the confidence, float64.

    Example:
        >>> one, zero = torch.ones(2), torch.zeros(2)
        >>> DisAlignHead(torch.eye(2), zero, 3 * one, zero, zero, torch.tensor(0.0)).logits(torch.eye(2))
        tensor([[2., 0.],
                [0., 2.]], dtype=torch.float64)
    """

    weight: Tensor
    bias: Tensor
    alpha: Tensor
    beta: Tensor
    v: Tensor
    c: Tensor

    def logits(self, x: Tensor) -> Tensor:
        """Compute logits (N, K) of features (N, D), float64.

        Where the loss has no minimum, alpha and beta are so large that float32 would lose z beside them.
        """
        return torch.cat([self._logits(rows) for rows in x.split(BLOCK)])

    def times(self, factor: float) -> DisAlignHead:
        """Multiply the logits by a factor."""
        return replace(self, weight=factor * self.weight, bias=factor * self.bias, beta=factor * self.beta)

    def _logits(self, x: Tensor) -> Tensor:
        z = torch.addmm(self.bias, x, self.weight.T).double()
        confidence = x.double() @ self.v.double() + self.c
        return _aligned(z, confidence, self.alpha, self.beta)


def disalign(
    weight: Tensor, bias: Tensor, matrix: FeatureMatrix, labels: Tensor, class_counts: Tensor, *, rho: float
) -> DisAlignHead:
    """Learn a rescaling of each class's logit, gated by a confidence: DisAlign (arXiv 2103.16370).

    Minimises sum_i omega_i CE(softmax(z'_i), y_i), omega_i proportional to (1 / pi_{y_i})^rho, over alpha,
    beta, v and c of `DisAlignHead`, from alpha = 1, beta = 0, v = 0, c = 0, where z' = z.

    The problem is not convex, and has no minimum if the head separates the samples. So the stopping rule is
    part of the method: 1e-6 of the initial gradient, or 200 iterations. The confidence is learned on features
    that are centred and scaled by one number, so the result depends on neither their mean nor their unit.

    Args:
        weight: W (K, D).
        bias: b (K,).
        matrix: Features (N, D).
        labels: Labels (N,).
        class_counts: Training images n_k of each class (K,).
        rho: Class-balance exponent of the sample weights.

    Raises:
        ConfigError: rho is out of range.

    Example:
        >>> x, y, counts = torch.eye(2), torch.tensor([0, 1]), torch.tensor([1, 1])
        >>> head = disalign(0.1 * torch.eye(2), torch.zeros(2), FeatureMatrix.of(x), y, counts, rho=1.0)
        >>> (F.cross_entropy(head.logits(x), y) < F.cross_entropy(0.1 * x, y)).item()
        True
    """
    if not 0 <= rho < math.inf:
        raise ConfigError(f"rho is {rho}, expected a number >= 0.")
    omega = sample_weights(labels, class_counts, rho)
    num_classes, dim = weight.shape
    mean = class_sums(matrix, torch.zeros_like(labels), torch.ones_like(omega), 1)[0, :-1]
    mean /= class_counts.sum()

    def read() -> Iterator[tuple[Tensor, slice, Tensor]]:
        """Centred features, where they are, and the head's logits."""
        for x, at in matrix:
            yield x - mean.to(x), at, torch.addmm(bias.to(x), x, weight.to(x).T).double()

    kept = list(read()) if len(labels) * (dim + num_classes) <= LOADED_NUMBERS else None
    squares = torch.zeros_like(mean)
    for x, _, _ in kept or read():
        squares += x.square().sum(dim=0)
    matrix.processes.all_reduce(squares)
    deviation = (squares.sum() / (dim * class_counts.sum())).sqrt().clamp_min(1e-30)
    alpha = mean.new_ones(num_classes).requires_grad_()
    beta = torch.zeros_like(alpha, requires_grad=True)
    slope = torch.zeros_like(mean, requires_grad=True)
    intercept = mean.new_zeros(()).requires_grad_()

    def terms() -> Iterator[Tensor]:
        for x, at, z in kept or read():
            confidence = (x @ (slope / deviation).to(x)).double() + intercept
            aligned = _aligned(z, confidence, alpha, beta)
            yield omega[at] @ F.cross_entropy(aligned, labels[at], reduction="none")

    descend(
        terms,
        [alpha, beta, slope, intercept],
        tolerance=DISALIGN_TOLERANCE,
        max_iterations=DISALIGN_ITERATIONS,
        processes=matrix.processes,
    )
    v = slope / deviation
    learned = (tensor.detach() for tensor in (alpha, beta, v, intercept - mean @ v))
    return DisAlignHead(weight.float(), bias.float(), *learned)


def _aligned(z: Tensor, confidence: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return torch.addcmul(z, torch.sigmoid(confidence)[:, None], torch.addcmul(beta, z, alpha - 1))
