"""Define the inputs of a head re-training method and the head it returns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from lort_hub.features.matrix import FeatureMatrix
from lort_hub.heads.discriminant import Discriminant
from lort_hub.heads.solvers.eigenbasis import class_sums, covariance
from lort_hub.heads.solvers.lbfgs import TOLERANCE
from lort_hub.heads.solvers.maxnorm import Limited
from lort_hub.heads.solvers.objective import Objective, sample_weights
from lort_hub.heads.solvers.problem import HeadProblem
from lort_hub.heads.training_set import TrainingSet

PART_NUMBERS = 2**26
"""Largest number of float32 features (256 MiB) that a part of a training set may copy into memory."""


class Head(Protocol):
    """Result of any method: logits as a function of features, which are where the head is."""

    def logits(self, x: Tensor) -> Tensor:
        """Compute logits (N, K) of features (N, D)."""


H = TypeVar("H", bound=Head)


def move_head(head: H, device: torch.device) -> H:
    """Copy a head of any kind to a device, unless it is there.

    Args:
        head: The head, a dataclass.
        device: The device.

    Example:
        >>> move_head(LinearHead(torch.eye(2), torch.zeros(2)), torch.device("cpu")).bias
        tensor([0., 0.])
    """
    tensors = {name: value for name, value in vars(head).items() if isinstance(value, Tensor)}
    moved = {name: value.to(device) for name, value in tensors.items()}
    return replace(head, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class LinearHead:
    """Linear head on the features, the only kind of head that fits back into a backbone.

    Attributes:
        weight: W (K, D), float32.
        bias: b (K,), float32.
        iterations: Iterations of the exact solver, or epochs of SGD; 0 for a closed form.
        relative_gradient: Norm of the gradient over its norm at the zero head; None without an exact solver.
    """

    weight: Tensor
    bias: Tensor
    iterations: int = 0
    relative_gradient: float | None = None

    def logits(self, x: Tensor) -> Tensor:
        """Compute logits (N, K) of features (N, D)."""
        return torch.addmm(self.bias, x.to(self.weight), self.weight.T)


@dataclass
class FitCache:
    """What fits of several settings on the same samples share, filled as they need it.

    Attributes:
        sums: Sums (K, D + 1) of [x, 1] over each class's samples.
        covariances: Weighted mean (D,) and covariance (D, D), by gamma.
        discriminant: The discriminant, of any sphericity.
        max_norms: Last optimum within a radius, by objective.
    """

    sums: Tensor | None = None
    covariances: dict[float, tuple[Tensor, Tensor]] = field(default_factory=dict)
    discriminant: Discriminant | None = None
    max_norms: dict[Objective, Limited] = field(default_factory=dict)


@dataclass(frozen=True)
class FitInputs:
    """Inputs of one fit: a training set or a part of it, heads to start from, tolerance and seed.

    Attributes:
        training: The training set.
        mask: True for the samples (N,) to fit on; None for all. Cross-validation fits on a part.
        base: Trained head (K, D), (K,) on the same images, for the methods that start from one.
        views: Features (N, D) of augmented views; SGD uses them in turn, one per epoch.
        start: Head of a neighbouring setting to start iterations from; it does not change the optimum.
        tolerance: Relative gradient at which solvers stop.
        copies: Views of each image among the samples.
        seed: Seed of the order in which SGD visits the samples.
        cache: What fits on these samples share.
        cross_entropy: Cache for the heads of cross-entropy of these samples, which balanced softmax shares,
            by weight decay and tolerance.
    """

    training: TrainingSet
    mask: Tensor | None = None
    base: tuple[Tensor, Tensor] | None = None
    views: tuple[FeatureMatrix, ...] = ()
    start: LinearHead | None = None
    tolerance: float = TOLERANCE
    copies: int = 1
    seed: int = 0
    cache: FitCache = field(default_factory=FitCache)
    cross_entropy: dict[tuple[float, float], LinearHead] = field(default_factory=dict)

    @cached_property
    def matrix(self) -> FeatureMatrix:
        """Features of the samples to fit on."""
        matrix = self.training.matrix
        return matrix if self.mask is None else matrix.where(self.mask).load(PART_NUMBERS)

    @cached_property
    def labels(self) -> Tensor:
        """Labels of the samples to fit on."""
        return self.training.labels if self.mask is None else self.training.labels[self.mask]

    @cached_property
    def class_counts(self) -> Tensor:
        """Samples to fit on of each class (K,), over all processes, on the CPU."""
        counts = torch.bincount(self.labels, minlength=self.training.num_classes).cpu()
        self.matrix.processes.all_reduce(counts)
        return counts

    @property
    def sums(self) -> Tensor:
        """Sums (K, D + 1) of [x, 1] over each class's samples, over all processes, float64."""
        if self.mask is None:
            return self.training.sums
        if self.cache.sums is None:
            ones = torch.ones(len(self.labels), device=self.labels.device)
            self.cache.sums = class_sums(self.matrix, self.labels, ones, self.training.num_classes)
        return self.cache.sums

    def weighted_sums(self, gamma: float) -> Tensor:
        """Sum omega_i [x_i, 1] over each class's samples (K, D + 1), over all processes, float64."""
        classes = torch.arange(self.training.num_classes, device=self.labels.device)
        return self.sums * sample_weights(classes, self.class_counts, gamma)[:, None]

    def covariance(self, gamma: float) -> tuple[Tensor, Tensor]:
        """Compute the weighted mean (D,) and covariance (D, D) of the samples, over all processes."""
        if self.mask is None:
            return self.training.covariance(gamma)
        if gamma not in self.cache.covariances:
            mean = self.weighted_sums(gamma)[:, :-1].sum(dim=0)
            omega = sample_weights(self.labels, self.class_counts, gamma)
            self.cache.covariances[gamma] = mean, covariance(self.matrix, omega, mean)
        return self.cache.covariances[gamma]

    @property
    def base_or_zeros(self) -> tuple[Tensor, Tensor]:
        """The base head, or zeros (K, D), (K,) without one, where the features are."""
        num_classes = self.training.num_classes
        weight, bias = self.base or (torch.zeros(num_classes, self.matrix.dim), torch.zeros(num_classes))
        return weight.to(self.matrix.device), bias.to(self.matrix.device)

    def problem(self, objective: Objective) -> HeadProblem:
        """Make the problem for the exact solver; all parts of a training set share one eigenbasis."""
        omega = sample_weights(self.labels, self.class_counts, objective.gamma)
        basis = self.training.basis(objective.gamma)
        return HeadProblem(self.matrix, self.labels, omega, basis, self.class_counts, objective)
