"""Fit a head on given inputs by each re-training method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from lort_hub.errors import ConfigError, FeatureError
from lort_hub.heads.base import FitInputs, Head, LinearHead
from lort_hub.heads.cosine import TOLERANCE as COSINE_TOLERANCE
from lort_hub.heads.cosine import fit_cosine
from lort_hub.heads.discriminant import Discriminant
from lort_hub.heads.methods import Method
from lort_hub.heads.posthoc import (
    linearly_adjusted,
    logit_adjusted,
    lort_step,
    nearest_class_mean,
    tau_normalised,
)
from lort_hub.heads.rescaling import disalign, learned_weight_scaling, spread_over
from lort_hub.heads.solvers.eigenbasis import eigenbasis, ridge_head
from lort_hub.heads.solvers.lbfgs import Solution, minimise
from lort_hub.heads.solvers.maxnorm import minimise_max_norm
from lort_hub.heads.solvers.objective import Objective, Settings, objective_of
from lort_hub.heads.solvers.sgd import sgd

FREE_TOLERANCE = 1e-3
"""Largest tolerance of MaxNorm's head without a limit: a coarser one at next to no decay is far too long."""


def exact(inputs: FitInputs, settings: Settings) -> LinearHead:
    """Solve the objective for its exact optimum.

    Args:
        inputs: Training samples and start.
        settings: Fields of `Objective`.

    Example:
        >>> from lort_hub.heads.training_set import TrainingSet
        >>> training = TrainingSet(torch.eye(2), torch.tensor([0, 1]), 2)
        >>> exact(FitInputs(training), {"delta": 0.9}).logits(torch.eye(2)).argmax(dim=1)
        tensor([0, 1])
    """
    objective, counts = objective_of(settings), inputs.class_counts
    plain = replace(objective, tau=0.0)  # the bias has no decay, so tau shifts the bias alone
    key = plain.weight_decay, inputs.tolerance
    is_shared = plain == Objective(weight_decay=plain.weight_decay)
    head = inputs.cross_entropy.get(key) if is_shared else None
    if head is None:
        start = inputs.start
        init = logit_adjusted(start.weight, start.bias, counts, -objective.tau) if start else None
        head = _linear(minimise(inputs.problem(plain), init=init, tolerance=inputs.tolerance))
    if is_shared:
        inputs.cross_entropy[key] = head
    _, bias = logit_adjusted(head.weight, head.bias, counts, objective.tau)
    return replace(head, bias=bias)


def closed_form(inputs: FitInputs, settings: Settings) -> LinearHead:
    """Solve the limit delta -> 1 of the objective, ridge regression, in one pass over the features.

    The head is (1 - delta) K times that of ridge regression on one-hot labels with ridge K * weight_decay
    (docs/method.md).

    Args:
        inputs: Training samples.
        settings: Fields of `Objective`.

    Raises:
        ConfigError: The objective of the settings has no such limit.

    Example:
        >>> from lort_hub.heads.training_set import TrainingSet
        >>> training = TrainingSet(torch.eye(2), torch.tensor([0, 1]), 2)
        >>> settings = {"delta": 0.9, "weight_decay": 0.1}
        >>> closed_form(FitInputs(training), settings).logits(torch.eye(2)).argmax(dim=1)
        tensor([0, 1])
    """
    objective = objective_of(settings)
    if objective.tau or objective.label_aware or not objective.delta or not objective.weight_decay:
        raise ConfigError(
            '`solver="closed-form"` is the limit of over-smoothed labels with weight decay, got '
            f'{objective}.\nUse it with `method="lort"`, a positive `delta` and a positive `weight_decay`.'
        )
    sums, (mean, covariance) = inputs.weighted_sums(objective.gamma), inputs.covariance(objective.gamma)
    num_classes = len(sums)
    ridge = num_classes * objective.weight_decay * torch.eye(len(mean)).to(covariance)
    centred = sums[:, :-1] - sums[:, -1:] * mean
    factor, failed = torch.linalg.cholesky_ex(covariance + ridge)
    if failed:  # the ridge is below the rounding error of float32 products: use eigenvalues, clamped at 0
        basis = eigenbasis(mean, covariance).span
        weight, bias = basis.unrotate(*ridge_head(basis, basis.rotate_sums(sums), float(ridge[0, 0])))
    else:
        weight = torch.cholesky_solve(centred.T, factor).T.contiguous()
        bias = sums[:, -1] - weight @ mean
    inputs.matrix.processes.broadcast(weight, bias)
    scale = (1 - objective.delta) * num_classes
    return LinearHead((scale * weight).float(), (scale * (bias - bias.mean())).float())


def sgd_from_base(inputs: FitInputs, settings: Settings) -> LinearHead:
    """Run the paper's stage 2: SGD from the base head (docs/method.md).

    It visits the samples in random order, so each process holds all processes' samples in memory.
    """
    processes = inputs.training.processes
    views = inputs.views or (inputs.training.matrix,)
    if inputs.mask is not None:
        views = tuple(view.where(inputs.mask) for view in views)
    head = sgd(
        [processes.gather(view.whole()) for view in views],
        processes.gather(inputs.labels),
        inputs.class_counts,
        objective_of(settings),
        init=inputs.base_or_zeros,
        lr=settings.get("lr", 5e-4),
        seed=inputs.seed,
    )
    return _linear(head)


def max_norm(inputs: FitInputs, settings: Settings) -> LinearHead:
    """Solve the objective under MaxNorm's limit on the norms of the class weights.

    The radius is a share of the longest class weight without a limit, on all samples and features: one radius
    for the heads of folds and the last one, so that the temperature of the former is that of the latter.
    """
    objective, share = objective_of(settings), settings["share"]
    problem, whole = inputs.problem(objective), inputs.training.whole
    if share >= 1:
        return _linear(minimise(problem, tolerance=min(inputs.tolerance, FREE_TOLERANCE)))
    if objective not in whole.longest_weight:
        free = minimise(FitInputs(whole).problem(objective))
        whole.longest_weight[objective] = float(free.weight.norm(dim=1).max())
    radius, near = share * whole.longest_weight[objective], inputs.cache.max_norms.get(objective)
    found = minimise_max_norm(problem, radius, near=near, tolerance=inputs.tolerance)
    inputs.cache.max_norms[objective] = found
    return _linear(found.head)


def _linear(head: Solution) -> LinearHead:
    return LinearHead(head.weight.float(), head.bias.float(), head.iterations, head.relative_gradient)


def tau_norm(inputs: FitInputs, settings: Settings) -> LinearHead:
    """Normalise the class weights of the base head (tau-norm)."""
    return LinearHead(*tau_normalised(*inputs.base_or_zeros, settings["power"]))


def logit_adjustment(inputs: FitInputs, settings: Settings) -> LinearHead:
    """Adjust the logits of the base head by the log prior."""
    return LinearHead(*logit_adjusted(*inputs.base_or_zeros, inputs.class_counts, settings["tau"]))


def class_means(inputs: FitInputs, _: Settings) -> LinearHead:
    """Compute the head of the nearest class mean."""
    if empty := (inputs.class_counts == 0).nonzero().flatten().tolist():
        raise FeatureError(
            f"All images of the classes {empty} were held out of the backbone's training to judge heads by, "
            "and leave `ncm` none for the mean of a class.\nChoose another method, such as `eb-lda`."
        )
    return LinearHead(*nearest_class_mean(inputs.sums))


def discriminant(inputs: FitInputs, settings: Settings) -> LinearHead:
    """Compute the empirical-Bayes discriminant."""
    if inputs.cache.discriminant is None:
        inputs.cache.discriminant = Discriminant.estimate(
            inputs.sums,
            *inputs.covariance(0.0),
            sphericity=1.0,
            class_counts=inputs.class_counts / inputs.copies,
            width=inputs.training.width,
        )
    model = replace(inputs.cache.discriminant, sphericity=settings["sphericity"])
    weight, bias = model.head()
    inputs.matrix.processes.broadcast(weight, bias)
    return LinearHead(weight.float(), bias.float())


def lort_path_step(inputs: FitInputs, settings: Settings) -> LinearHead:
    """Take LORT's first gradient step from the base head."""
    return LinearHead(*lort_step(*inputs.base_or_zeros, inputs.sums, strength=settings["strength"]))


def linear_adjustment(inputs: FitInputs, settings: Settings) -> LinearHead:
    """Adjust the biases of the base head linearly in the class counts."""
    return LinearHead(
        *linearly_adjusted(*inputs.base_or_zeros, inputs.class_counts, strength=settings["strength"])
    )


def lws(inputs: FitInputs, settings: Settings) -> LinearHead:
    """Learn a scale of each class weight of the base head; without smoothed labels, as large as that one."""
    base, delta = LinearHead(*inputs.base_or_zeros), settings.get("delta", 0.0)
    samples = inputs.matrix, inputs.labels, inputs.class_counts
    head = LinearHead(*learned_weight_scaling(base.weight, base.bias, *samples, delta=delta))
    factor = 1.0 if delta else spread_over(base, head, inputs.matrix)
    return LinearHead(head.weight * factor, head.bias * factor)


def distribution_aligned(inputs: FitInputs, settings: Settings) -> Head:
    """Align the base head with a class-balanced distribution (DisAlign), as large as that one."""
    base, samples = LinearHead(*inputs.base_or_zeros), (inputs.matrix, inputs.labels, inputs.class_counts)
    head = disalign(base.weight, base.bias, *samples, rho=settings["rho"])
    return head.times(spread_over(base, head, inputs.matrix))


def cosine(inputs: FitInputs, settings: Settings) -> Head:
    """Fit the cosine classifier, with LDAM's margin if the settings have one."""
    tolerance = max(COSINE_TOLERANCE, inputs.tolerance)
    return fit_cosine(inputs.matrix, inputs.labels, inputs.class_counts, tolerance=tolerance, **settings)


Fitter = Callable[[FitInputs, Settings], Head]

FITTERS: dict[str, Fitter] = {
    "exact": exact,
    "closed-form": closed_form,
    "sgd": sgd_from_base,
    "class-means": class_means,
    "discriminant": discriminant,
    "tau-norm": tau_norm,
    "logit-adjust": logit_adjustment,
    "lort-path": lort_path_step,
    "linear-adjust": linear_adjustment,
    "lws": lws,
    "maxnorm": max_norm,
    "disalign": distribution_aligned,
    "cosine": cosine,
}
"""Fitters by the name in `Method.fitter`."""


def fit_method(method: Method, inputs: FitInputs, settings: Settings) -> Head:
    """Fit a head by a method, where the features are.

    Args:
        method: The method.
        inputs: Training samples, heads to start from, tolerance and seed.
        settings: Value of each of the method's settings.

    Example:
        >>> from lort_hub.heads.methods import METHODS
        >>> from lort_hub.heads.training_set import TrainingSet
        >>> training = TrainingSet(torch.eye(2), torch.tensor([0, 1]), 2)
        >>> fit_method(METHODS["ncm"], FitInputs(training), {}).weight.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    return FITTERS[method.fitter](inputs, settings)
