"""What a re-training method is given, the head it ends in, and how each method fits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from lort_hub.cosine import fit_cosine
from lort_hub.eigenbasis import Eigenbasis, class_sums, covariance, eigenbasis, ridge_head
from lort_hub.errors import ConfigError
from lort_hub.lort_path import linearly_adjusted, lort_step
from lort_hub.matrix import FeatureMatrix
from lort_hub.maxnorm import minimise_within
from lort_hub.objectives import Objective, sample_weights
from lort_hub.posthoc import logit_adjusted, nearest_class_mean, tau_normalised
from lort_hub.rescaling import disalign, learned_weight_scaling
from lort_hub.sgd import sgd
from lort_hub.solvers import TOLERANCE, Solution, minimise
from lort_hub.training_set import TrainingSet

Settings = Mapping[str, float]

DEFAULTS: dict[str, float] = {given.name: given.default for given in fields(Objective)}  # type: ignore[misc]


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
        self.matrix.processes.total(counts)
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


def exact(sample: Sample, settings: Settings) -> LinearHead:
    """The optimum of the objective.

    Args:
        sample: What to fit on.
        settings: Fields of `Objective`.

    Example:
        >>> training = TrainingSet(torch.eye(2), torch.tensor([0, 1]), 2)
        >>> exact(Sample(training), {"delta": 0.9}).logits(torch.eye(2)).argmax(dim=1)
        tensor([0, 1])
    """
    objective = objective_of(settings)
    init = (sample.start.weight, sample.start.bias) if sample.start else None
    arguments = sample.for_solver(objective.gamma)
    return _linear(minimise(*arguments, objective, init=init, tolerance=sample.tolerance))


def closed_form(sample: Sample, settings: Settings) -> LinearHead:
    """The objective's optimum in the limit of delta -> 1: ridge regression, in one pass over the features.

    The head is (1 - delta) K times that of ridge K * weight_decay on the one-hot labels (PAPER section 7).

    Args:
        sample: What to fit on.
        settings: Fields of `Objective`.

    Raises:
        ConfigError: The settings have no such limit.

    Example:
        >>> training = TrainingSet(torch.eye(2), torch.tensor([0, 1]), 2)
        >>> settings = {"delta": 0.9, "weight_decay": 0.1}
        >>> closed_form(Sample(training), settings).logits(torch.eye(2)).argmax(dim=1)
        tensor([0, 1])
    """
    objective = objective_of(settings)
    if objective.tau or objective.label_aware or not objective.delta or not objective.weight_decay:
        raise ConfigError(
            f"--solver closed-form is the limit of over-smoothed labels with weight decay, got {objective}.\n"
            "Use it with --method lort, a positive --delta and a positive --weight-decay."
        )
    sums, (mean, covariance) = sample.weighted_sums(objective.gamma), sample.covariance(objective.gamma)
    num_classes = len(sums)
    ridge = num_classes * objective.weight_decay * torch.eye(len(mean), dtype=torch.float64)
    centred = sums[:, :-1] - sums[:, -1:] * mean
    factor, failed = torch.linalg.cholesky_ex(covariance + ridge)
    if failed:  # a ridge below the rounding of float32 products, which the eigenvalues are clamped against
        basis = eigenbasis(mean, covariance)
        weight, bias = basis.unrotate(*ridge_head(basis, basis.rotate_sums(sums), float(ridge[0, 0])))
    else:
        weight = torch.cholesky_solve(centred.T, factor).T.contiguous()
        bias = sums[:, -1] - weight @ mean
    sample.matrix.processes.agree(weight, bias)
    scale = (1 - objective.delta) * num_classes
    return LinearHead((scale * weight).float(), (scale * (bias - bias.mean())).float())


def published(sample: Sample, settings: Settings) -> LinearHead:
    """The paper's stage 2: SGD from the trained head (PAPER section 4).

    It visits the samples in random order, so every process holds those of all in memory.
    """
    processes = sample.training.processes
    views = sample.views or (sample.training.matrix,)
    if sample.kept is not None:
        views = tuple(view.where(sample.kept) for view in views)
    head = sgd(
        [processes.gather(view.whole()) for view in views],
        processes.gather(sample.labels),
        sample.class_counts,
        objective_of(settings),
        init=sample.trained,
        lr=settings.get("lr", 5e-4),
        seed=sample.seed,
    )
    return _linear(head)


def objective_of(settings: Settings) -> Objective:
    """The objective that settings name; those that are none of its fields are left out.

    Example:
        >>> objective_of({"delta": 0.5, "share": 0.3}).delta
        0.5
    """
    return Objective(**{name: settings[name] for name in DEFAULTS if name in settings})  # type: ignore[arg-type]


def within(sample: Sample, settings: Settings) -> LinearHead:
    """MaxNorm, of the objective."""
    objective = objective_of(settings)
    arguments = sample.for_solver(objective.gamma)
    return _linear(
        minimise_within(*arguments, objective, share=settings["share"], tolerance=sample.tolerance)
    )


def _linear(head: Solution) -> LinearHead:
    return LinearHead(head.weight.float(), head.bias.float(), head.iterations, head.relative_gradient)


def tau_norm(sample: Sample, settings: Settings) -> LinearHead:
    """tau-norm of the base head."""
    return LinearHead(*tau_normalised(*sample.trained, settings["power"]))


def logit_adjust(sample: Sample, settings: Settings) -> LinearHead:
    """Logit adjustment of the base head."""
    return LinearHead(*logit_adjusted(*sample.trained, sample.class_counts, settings["tau"]))


def class_means(sample: Sample, _: Settings) -> LinearHead:
    """The nearest class mean."""
    return LinearHead(*nearest_class_mean(sample.sums))


def lort_path(sample: Sample, settings: Settings) -> LinearHead:
    """LORT's first step from the base head."""
    return LinearHead(*lort_step(*sample.trained, sample.sums, strength=settings["strength"]))


def linear_adjust(sample: Sample, settings: Settings) -> LinearHead:
    """That step along the mean feature alone."""
    return LinearHead(*linearly_adjusted(*sample.trained, sample.class_counts, strength=settings["strength"]))


def lws(sample: Sample, settings: Settings) -> LinearHead:
    """Learned weight scaling of the base head."""
    delta = settings.get("delta", 0.0)
    return LinearHead(
        *learned_weight_scaling(
            *sample.trained, sample.matrix, sample.labels, sample.class_counts, delta=delta
        )
    )


def distribution_alignment(sample: Sample, settings: Settings) -> Head:
    """Distribution alignment on the base head."""
    return disalign(*sample.trained, sample.matrix, sample.labels, sample.class_counts, rho=settings["rho"])


def cosine(sample: Sample, settings: Settings) -> Head:
    """The cosine classifier, with LDAM's margin where one is set."""
    return fit_cosine(sample.matrix, sample.labels, sample.class_counts, **settings)
