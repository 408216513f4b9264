"""Fit a head by each re-training method."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lort_hub.errors import ConfigError
from lort_hub.heads.base import Head, LinearHead, Sample
from lort_hub.heads.cosine import fit_cosine
from lort_hub.heads.methods import Method
from lort_hub.heads.posthoc import (
    linearly_adjusted,
    logit_adjusted,
    lort_step,
    nearest_class_mean,
    tau_normalised,
)
from lort_hub.heads.rescaling import disalign, learned_weight_scaling
from lort_hub.heads.solvers.eigenbasis import eigenbasis, ridge_head
from lort_hub.heads.solvers.lbfgs import Solution, minimise
from lort_hub.heads.solvers.maxnorm import minimise_within
from lort_hub.heads.solvers.objective import Settings, objective_of
from lort_hub.heads.solvers.sgd import sgd


def exact(sample: Sample, settings: Settings) -> LinearHead:
    """The optimum of the objective.

    Args:
        sample: What to fit on.
        settings: Fields of `Objective`.

    Example:
        >>> from lort_hub.heads.training_set import TrainingSet
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
        >>> from lort_hub.heads.training_set import TrainingSet
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
    sample.matrix.processes.broadcast(weight, bias)
    scale = (1 - objective.delta) * num_classes
    return LinearHead((scale * weight).float(), (scale * (bias - bias.mean())).float())


def sgd_from_base(sample: Sample, settings: Settings) -> LinearHead:
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


def max_norm(sample: Sample, settings: Settings) -> LinearHead:
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


def logit_adjustment(sample: Sample, settings: Settings) -> LinearHead:
    """Logit adjustment of the base head."""
    return LinearHead(*logit_adjusted(*sample.trained, sample.class_counts, settings["tau"]))


def class_means(sample: Sample, _: Settings) -> LinearHead:
    """The nearest class mean."""
    return LinearHead(*nearest_class_mean(sample.sums))


def lort_path_step(sample: Sample, settings: Settings) -> LinearHead:
    """LORT's first step from the base head."""
    return LinearHead(*lort_step(*sample.trained, sample.sums, strength=settings["strength"]))


def linear_adjustment(sample: Sample, settings: Settings) -> LinearHead:
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


def distribution_aligned(sample: Sample, settings: Settings) -> Head:
    """Distribution alignment on the base head."""
    return disalign(*sample.trained, sample.matrix, sample.labels, sample.class_counts, rho=settings["rho"])


def cosine(sample: Sample, settings: Settings) -> Head:
    """The cosine classifier, with LDAM's margin where one is set."""
    return fit_cosine(sample.matrix, sample.labels, sample.class_counts, **settings)


Fitter = Callable[[Sample, Settings], Head]

FITTERS: dict[str, Fitter] = {
    "exact": exact,
    "closed-form": closed_form,
    "sgd": sgd_from_base,
    "class-means": class_means,
    "tau-norm": tau_norm,
    "logit-adjust": logit_adjustment,
    "lort-path": lort_path_step,
    "linear-adjust": linear_adjustment,
    "lws": lws,
    "maxnorm": max_norm,
    "disalign": distribution_aligned,
    "cosine": cosine,
}
"""Every fitter by the name that `Method.fitted_by` gives it."""
SOLVERS = ("exact", "closed-form", "sgd")
"""The fitters of the one objective: any of them can take another's place."""


def fit_method(method: Method, sample: Sample, settings: Settings) -> Head:
    """Fit a method's head on a sample.

    Args:
        method: Which method.
        sample: What to fit on.
        settings: Its settings, each with a value.

    Example:
        >>> from lort_hub.heads.methods import METHODS
        >>> from lort_hub.heads.training_set import TrainingSet
        >>> training = TrainingSet(torch.eye(2), torch.tensor([0, 1]), 2)
        >>> fit_method(METHODS["ncm"], Sample(training), {}).weight.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    return FITTERS[method.fitted_by](sample, settings)
