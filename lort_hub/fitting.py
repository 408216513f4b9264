"""What a re-training method is given, the head it ends in, and how each method fits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from lort_hub.cosine import fit_cosine
from lort_hub.eigenbasis import Eigenbasis, TrainingSet
from lort_hub.lort_path import linearly_adjusted, lort_step
from lort_hub.maxnorm import minimise_within
from lort_hub.objectives import Objective, sample_weights
from lort_hub.posthoc import logit_adjusted, nearest_class_mean, tau_normalised
from lort_hub.rescaling import disalign, learned_weight_scaling
from lort_hub.solvers import TOLERANCE, Solution, minimise, sgd

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
        return torch.addmm(self.bias, x, self.weight.T)


@dataclass(frozen=True)
class Sample:
    """What a method is given to fit a head on: a training set, or the part of it that a fold keeps.

    Attributes:
        training: The training set.
        kept: Which of its samples (N,) to fit on; None for all.
        base: A head (K, D), (K,) trained on the same images before, for the methods that start from one.
        views: Augmented features (N, D), which SGD sees in turn, one each epoch.
        start: The head of a neighbouring setting, to start iterating from; the optimum does not depend on it.
        tolerance: Relative gradient to solve to.
        seed: Seed of SGD's order.
    """

    training: TrainingSet
    kept: Tensor | None = None
    base: tuple[Tensor, Tensor] | None = None
    views: tuple[Tensor, ...] = ()
    start: LinearHead | None = None
    tolerance: float = TOLERANCE
    seed: int = 0

    def of(self, tensor: Tensor) -> Tensor:
        """The kept rows of a tensor (N, ...)."""
        return tensor if self.kept is None else tensor[self.kept]

    @cached_property
    def labels(self) -> Tensor:
        """Labels of the kept samples."""
        return self.of(self.training.labels)

    @cached_property
    def class_counts(self) -> Tensor:
        """Kept samples of each class (K,)."""
        return torch.bincount(self.labels, minlength=len(self.training.class_counts))

    @property
    def trained(self) -> tuple[Tensor, Tensor]:
        """The base head, or zeros."""
        shape = len(self.class_counts), self.training.x.shape[1]
        return self.base or (torch.zeros(shape), torch.zeros(shape[0]))

    def in_eigenbasis(self, gamma: float) -> tuple[Eigenbasis, tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
        """The eigenbasis, and what the exact solver takes: x, labels, omega, curvature, class counts."""
        basis = self.training.basis(gamma)
        omega = sample_weights(self.labels, self.class_counts, gamma)
        return basis, (self.of(basis.x), self.labels, omega, basis.values, self.class_counts)


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
    basis, arguments = sample.in_eigenbasis(objective.gamma)
    init = basis.rotate_head(sample.start.weight, sample.start.bias) if sample.start else None
    return _linear(basis, minimise(*arguments, objective, init=init, tolerance=sample.tolerance))


def published(sample: Sample, settings: Settings) -> LinearHead:
    """The paper's stage 2: SGD from the trained head (PAPER section 4)."""
    views = [sample.of(view) for view in sample.views or (sample.training.x,)]
    lr = settings.get("lr", 5e-4)
    head = sgd(
        views,
        sample.labels,
        sample.class_counts,
        objective_of(settings),
        init=sample.trained,
        lr=lr,
        seed=sample.seed,
    )
    return LinearHead(head.weight.float(), head.bias.float(), head.iterations, None)


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
    basis, arguments = sample.in_eigenbasis(objective.gamma)
    head = minimise_within(*arguments, objective, share=settings["share"], tolerance=sample.tolerance)
    return _linear(basis, head)


def _linear(basis: Eigenbasis, head: Solution) -> LinearHead:
    weight, bias = basis.unrotate(head.weight, head.bias)
    return LinearHead(weight.float(), bias.float(), head.iterations, head.relative_gradient)


def tau_norm(sample: Sample, settings: Settings) -> LinearHead:
    """tau-norm of the base head."""
    return LinearHead(*tau_normalised(*sample.trained, settings["power"]))


def logit_adjust(sample: Sample, settings: Settings) -> LinearHead:
    """Logit adjustment of the base head."""
    return LinearHead(*logit_adjusted(*sample.trained, sample.class_counts, settings["tau"]))


def class_means(sample: Sample, _: Settings) -> LinearHead:
    """The nearest class mean."""
    return LinearHead(
        *nearest_class_mean(sample.of(sample.training.x), sample.labels, len(sample.class_counts))
    )


def lort_path(sample: Sample, settings: Settings) -> LinearHead:
    """LORT's first step from the base head."""
    x = sample.of(sample.training.x)
    return LinearHead(*lort_step(*sample.trained, x, sample.labels, strength=settings["strength"]))


def linear_adjust(sample: Sample, settings: Settings) -> LinearHead:
    """That step along the mean feature alone."""
    return LinearHead(*linearly_adjusted(*sample.trained, sample.class_counts, strength=settings["strength"]))


def lws(sample: Sample, settings: Settings) -> LinearHead:
    """Learned weight scaling of the base head."""
    x, delta = sample.of(sample.training.x), settings.get("delta", 0.0)
    return LinearHead(
        *learned_weight_scaling(*sample.trained, x, sample.labels, sample.class_counts, delta=delta)
    )


def distribution_alignment(sample: Sample, settings: Settings) -> Head:
    """Distribution alignment on the base head."""
    x = sample.of(sample.training.x)
    return disalign(*sample.trained, x, sample.labels, sample.class_counts, rho=settings["rho"])


def cosine(sample: Sample, settings: Settings) -> Head:
    """The cosine classifier, with LDAM's margin where one is set."""
    x = sample.of(sample.training.x)
    return fit_cosine(x, sample.labels, sample.class_counts, **settings)
