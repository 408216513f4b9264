"""Define the problem that a linear head solves, and differentiate its loss in one pass over features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lort_hub.features.matrix import FeatureMatrix
from lort_hub.heads.solvers.eigenbasis import Eigenbasis, class_sums
from lort_hub.heads.solvers.objective import Objective, sample_weights, smoothing

LOADED_NUMBERS = 2**27
"""Largest number of float32 features (512 MiB) of which a centred or normalised copy is kept for all
passes."""
LEAST_GRADIENT, LEAST_SMOOTHED_GRADIENT = 1e-10, 1e-6
"""Relative gradient below which no solve goes on, as float32 products are no finer; with smoothed labels the
gradient is a difference of large sums, without them the sum of what samples are off by."""
LEAST_SHARE = 1e-6
"""Share that the start gives to a class without samples, whose best bias is minus infinity."""


@dataclass(frozen=True)
class HeadProblem:
    """Optimisation problem of a linear head: weighted training samples and an objective.

    Attributes:
        matrix: Features (N, D).
        labels: Labels (N,).
        omega: Sample weights (N,) that sum to 1 over all processes.
        basis: Eigenbasis of these samples, or of a set that includes them.
        class_counts: Training images of each class (K,), for their weights and smoothing.
        objective: The objective, without tau; it has a minimum only if delta or weight_decay is positive.
    """

    matrix: FeatureMatrix
    labels: Tensor
    omega: Tensor
    basis: Eigenbasis
    class_counts: Tensor
    objective: Objective


class LossGradient:
    """Gradient (K, R + 1) of the objective's mean loss, as a function of a head in a basis of R directions.

    The features are not rotated: the head is rotated to them, and the sums over them are rotated back. The
    float32 eigenvectors in this change the coordinates a little, but not the optimum.

    Args:
        problem: Samples and objective; the weight decay is no part of the loss.
        basis: The basis.

    Attributes:
        least: Relative gradient below which rounding is all that is left.

    Example:
        >>> x, y = FeatureMatrix.of(torch.tensor([[1.0], [-1.0]])), torch.tensor([0, 1])
        >>> half, counts = torch.tensor([0.5, 0.5]), torch.tensor([1, 1])
        >>> basis = Eigenbasis(*(torch.tensor(v, dtype=torch.float64) for v in ([0], [[1]], [1])))
        >>> problem = HeadProblem(x, y, half, basis, counts, Objective(weight_decay=0.5))
        >>> LossGradient(problem, basis)(torch.zeros(2, 2, dtype=torch.float64))
        (tensor([[-0.5000,  0.0000],
                [ 0.5000,  0.0000]], dtype=torch.float64), tensor([0.2500, 0.2500], dtype=torch.float64))
    """

    def __init__(self, problem: HeadProblem, basis: Eigenbasis) -> None:
        class_counts, num_classes = problem.class_counts, len(problem.class_counts)
        self.matrix = problem.matrix.subtract(basis.mean).load(LOADED_NUMBERS)
        self.omega = problem.omega.float()
        self.vectors = basis.vectors.float()
        # Of float32 numbers in float64 and so exact, in whatever order: the same for any number of processes.
        sums = class_sums(self.matrix, problem.labels, torch.ones_like(problem.omega), num_classes)
        weights = sample_weights(torch.arange(num_classes), class_counts, problem.objective.gamma)
        sums *= weights.to(sums)[:, None]
        unsmoothed = (1 - smoothing(problem.objective, class_counts).to(sums))[:, None] * sums
        self.target = unsmoothed - unsmoothed.mean(dim=0)  # sum of omega_i (t_i - 1/K) [x_i, 1]
        # Sums of multiples of these are exact in float64 in whatever order, up to eight times their bound.
        spread = math.ceil(math.log2(max(problem.basis.values.max().item(), 1e-300)) / 2)
        self.quanta = 2.0 ** (spread - 50), 2.0**-50
        smoothed = problem.objective.delta > 0
        self.labels = None if smoothed else problem.labels
        self.least = LEAST_SMOOTHED_GRADIENT if smoothed else LEAST_GRADIENT
        self.uniform = sums[:, -1].sum() * (1 - 1 / num_classes) / num_classes
        self.mean_share = sums[:, -1].sum() / num_classes

    @property
    def bias_alone(self) -> Tensor:
        """Bias (K,) that minimises the loss where W = 0: the log of the classes' shares."""
        shares = self.target[:, -1] + self.mean_share
        return shares.clamp_min(LEAST_SHARE).log()

    @property
    def at_zero(self) -> Tensor:
        """Gradient at the zero head, which the others are measured by."""
        return self._rotated(-self.target)

    def __call__(self, head: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the gradient and the curvature, the weighted mean of p_k (1 - p_k) (K,), float64."""
        weight, bias = head[:, :-1].float() @ self.vectors.T, head[:, -1]
        sums, squares, sizes = torch.zeros_like(self.target), torch.zeros_like(bias), torch.zeros_like(bias)
        for x, at in self.matrix:
            logits = torch.addmm(bias.to(x), x, weight.to(x).T)
            off = _deviation(logits) if self.labels is None else _residual(logits, self.labels[at])
            weighted = off * self.omega[at, None]
            sums[:, :-1] += _rounded(weighted.T @ x, self.quanta[0])
            sums[:, -1] += _rounded(weighted.sum(dim=0, dtype=torch.float64), self.quanta[1])
            squares += _rounded((weighted * off).sum(dim=0, dtype=torch.float64), self.quanta[1])
            if self.labels is not None:
                sizes += _rounded(weighted.abs_().sum(dim=0, dtype=torch.float64), self.quanta[1])
        self.matrix.processes.all_reduce(sums, squares, sizes)
        if self.labels is not None:
            return self._rotated(sums), sizes - squares
        curvature = self.uniform + (1 - 2 / len(bias)) * sums[:, -1] - squares
        return self._rotated(sums.sub_(self.target)), curvature

    def _rotated(self, sums: Tensor) -> Tensor:
        return torch.cat([(sums[:, :-1].float() @ self.vectors).double(), sums[:, -1:]], dim=1)


def _rounded(part: Tensor, quantum: float) -> Tensor:
    return part.double().div_(quantum).round_().mul_(quantum)


def _deviation(logits: Tensor) -> Tensor:
    """Compute softmax minus 1/K, as precise as the logits even where they are tiny, as LORT's are."""
    u = logits.sub_(logits.amax(dim=1, keepdim=True)).expm1_()
    mean = u.mean(dim=1, keepdim=True)
    return u.sub_(mean).div_((1 + mean) * logits.shape[1])


def _residual(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute softmax minus the one-hot labels, as precise where it is tiny, as of samples that are right."""
    p, rows = logits.softmax(dim=1), torch.arange(len(labels), device=labels.device)
    p[rows, labels] = 0
    p[rows, labels] = -p.sum(dim=1)
    return p
