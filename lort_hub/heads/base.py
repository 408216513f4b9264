"""Define what a re-training method is given and the head it ends in."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from lort_hub.features.matrix import FeatureMatrix
from lort_hub.heads.solvers.eigenbasis import Eigenbasis, class_sums, covariance
from lort_hub.heads.solvers.lbfgs import TOLERANCE
from lort_hub.heads.solvers.objective import sample_weights
from lort_hub.heads.training_set import TrainingSet


class Head(Protocol):
    """What every method ends in."""

    def logits(self, x: Tensor) -> Tensor:
        """Logits (N, K) of features (N, D)."""


@dataclass(frozen=True)
class LinearHead:
    """A linear head on the features, the only kind that drops back into a backbone.

    Attributes:
        weight: W (K, D), float32.
        bias: b (K,), float32.
        iterations: Iterations of the exact solver, or epochs of SGD; 0 for a closed form.
        relative_gradient: Norm of the gradient over its norm at the zero head; None where nothing is solved.
    """

    weight: Tensor
    bias: Tensor
    iterations: int = 0
    relative_gradient: float | None = None

    def logits(self, x: Tensor) -> Tensor:
        """Logits (N, K) of features (N, D)."""
        return torch.addmm(self.bias, x.to(self.weight), self.weight.T)


@dataclass(frozen=True)
class Sample:
    """What a method is given to fit a head on: a training set, or the part of it that a fold keeps.

    Attributes:
        training: The training set.
        kept: Which of its samples (N,) to fit on; None for all.
        base: A head (K, D), (K,) trained on the same images before, for the methods that start from one.
        views: Features (N, D) of augmented views, which SGD sees in turn, one each epoch.
        start: The head of a neighbouring setting, to start iterating from; the optimum does not depend on it.
        tolerance: Relative gradient to solve to.
        seed: Seed of SGD's order.
        known: Sums of the kept samples, and by gamma their mean and covariance, once they were asked for.
    """

    training: TrainingSet
    kept: Tensor | None = None
    base: tuple[Tensor, Tensor] | None = None
    views: tuple[FeatureMatrix, ...] = ()
    start: LinearHead | None = None
    tolerance: float = TOLERANCE
    seed: int = 0
    known: dict[str | float, Any] = field(default_factory=dict)

    @cached_property
    def matrix(self) -> FeatureMatrix:
        """Features of the kept samples."""
        return self.training.matrix if self.kept is None else self.training.matrix.where(self.kept)

    @cached_property
    def labels(self) -> Tensor:
        """Labels of the kept samples."""
        return self.training.labels if self.kept is None else self.training.labels[self.kept]

    @cached_property
    def class_counts(self) -> Tensor:
        """Kept samples of each class (K,), over all processes."""
        counts = torch.bincount(self.labels, minlength=self.training.num_classes)
        self.matrix.processes.all_reduce(counts)
        return counts

    @property
    def sums(self) -> Tensor:
        """Sums (K, D + 1) of [x, 1] over each class's kept samples, over all processes, float64."""
        if self.kept is None:
            return self.training.sums
        if "sums" not in self.known:
            ones = torch.ones(len(self.labels))
            self.known["sums"] = class_sums(self.matrix, self.labels, ones, self.training.num_classes)
        sums: Tensor = self.known["sums"]
        return sums

    def weighted_sums(self, gamma: float) -> Tensor:
        """Sums (K, D + 1) of omega_i [x_i, 1] over each class's kept samples, over all processes, float64."""
        each = torch.arange(self.training.num_classes)
        return self.sums * sample_weights(each, self.class_counts, gamma)[:, None]

    def covariance(self, gamma: float) -> tuple[Tensor, Tensor]:
        """Weighted mean (D,) and covariance (D, D) of the kept samples."""
        if self.kept is None:
            return self.training.covariance(gamma)
        if gamma not in self.known:
            mean = self.weighted_sums(gamma)[:, :-1].sum(dim=0)
            omega = sample_weights(self.labels, self.class_counts, gamma)
            self.known[gamma] = mean, covariance(self.matrix, omega, mean)
        moments: tuple[Tensor, Tensor] = self.known[gamma]
        return moments

    @property
    def trained(self) -> tuple[Tensor, Tensor]:
        """The base head, or zeros."""
        num_classes = self.training.num_classes
        return self.base or (torch.zeros(num_classes, self.matrix.dim), torch.zeros(num_classes))

    def for_solver(self, gamma: float) -> tuple[FeatureMatrix, Tensor, Tensor, Eigenbasis, Tensor]:
        """What the exact solver takes: matrix, labels, omega, a basis that serves all folds, class counts."""
        omega = sample_weights(self.labels, self.class_counts, gamma)
        return self.matrix, self.labels, omega, self.training.basis(gamma), self.class_counts
