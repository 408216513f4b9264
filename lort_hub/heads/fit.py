"""Re-train a head by a method's name: choose the settings, fit the head, and describe both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from lort_hub.errors import ConfigError, FeatureError, did_you_mean
from lort_hub.features.matrix import FeatureMatrix
from lort_hub.features.store import Features, FeatureStore
from lort_hub.heads.best import fit_best
from lort_hub.heads.fitted import Fit
from lort_hub.heads.methods import CHOICES, METHODS, SOLVERS, Method, check_settings
from lort_hub.heads.search import Selection, select
from lort_hub.heads.selected import fit_calibrated, make_inputs, make_validator
from lort_hub.heads.solvers.lbfgs import TOLERANCE
from lort_hub.heads.solvers.objective import Objective
from lort_hub.heads.stack import fit_stack
from lort_hub.heads.training_set import TrainingSet
from lort_hub.records import ChosenSettings

BASELINE_TOLERANCE = 1e-4
"""Relative gradient at which the baseline is solved: going on to `TOLERANCE` takes as long again, and next to
no prediction moves."""


def fit_head(
    training: TrainingSet | FeatureStore | Features,
    method: str = "lort",
    *,
    delta: float | None = None,
    gamma: float | None = None,
    weight_decay: float | None = None,
    solver: str | None = None,
    baseline: Fit | None = None,
    views: Sequence[FeatureMatrix] = (),
    select_by: str | None = None,
    calibrate: bool = True,
    chosen: ChosenSettings | None = None,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Fit:
    """Re-train a head on frozen features.

    Args:
        training: Features (N, D) and labels, as of `extract_features`. A `TrainingSet` keeps its eigenbases
            for further fits.
        method: One of `METHODS`; or "auto", a sum of heads, or "best", one of several.
        delta: Label smoothing; None for the method's own.
        gamma: Class-balance exponent; None for the method's own, which may be chosen by held-out scores.
        weight_decay: Weight decay; None to choose it by held-out scores.
        solver: One of `SOLVERS`, for methods of the objective: "exact", "closed-form" (the limit delta -> 1)
            or "sgd"; None for the method's own.
        baseline: Trained head that some methods start from: the backbone's own, from `stage1_fit`, or one
            fitted on the same features. None fits cross-entropy if the method needs one.
        views: Augmented features (N, D). The exact solver fits on them and the training features together,
            SGD on one of them per epoch, as in the paper. Settings are chosen without them.
        select_by: One of `lort_hub.heads.scorers.SCORERS`, to choose settings by; None for the method's own.
        calibrate: Whether to scale the logits to the largest likelihood of held-out samples, in which all
            classes count the same. If no setting is chosen, this needs held-out predictions of its own.
        chosen: All settings of the method, and the scale of its logits, as an earlier run chose them; None to
            choose them here.
        tolerance: Relative gradient at which the exact solver stops.
        seed: Seed of the folds and of SGD.

    Returns:
        The head, on the CPU, with its settings and their selection.

    Raises:
        ConfigError: Unknown method, solver or scorer, a value out of range, or a setting that the method has
            not; "auto" and "best" choose every setting, and `chosen` has all.
        FeatureError: The features of all samples are the same.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0]])
        >>> fit = fit_head(TrainingSet(x, torch.tensor([0, 0, 1, 1]), num_classes=2), "lort", gamma=1.0)
        >>> fit.logits(x).argmax(dim=1), fit.linear.relative_gradient < 1e-5
        (tensor([0, 0, 1, 1]), True)
    """
    options = {"delta": delta, "gamma": gamma, "weight_decay": weight_decay}
    overrides = {name: value for name, value in options.items() if value is not None}
    if method not in (*METHODS, *CHOICES):
        known = (*METHODS, *CHOICES)
        raise ConfigError(
            f"Unknown method '{method}'.{did_you_mean(method, known)} Expected: {', '.join(known)}."
        )
    Objective(delta=delta or 0.0, gamma=gamma or 0.0, weight_decay=weight_decay or 0.0)  # checks their ranges
    definition = _with_solver(method, solver) if solver and method in METHODS else METHODS.get(method)
    if chosen and (overrides or definition is None):
        raise ConfigError("`chosen` has every setting of a single method.\nLeave it out, or other settings.")
    if not chosen:
        check_settings(method, {**options, "solver": solver, "views": len(views) or None})
    if definition is None:
        return _fit_choice(training, method, baseline, select_by=select_by, calibrate=calibrate, seed=seed)
    if not isinstance(training, TrainingSet):
        training = TrainingSet.of(training)
    _check_variation(training)
    if definition.needs_base and baseline is None:
        baseline = fit_baseline(training, select_by=select_by, seed=seed)
    starts_from = baseline if definition.needs_base or definition.fitter == "sgd" else None
    validator = None
    if chosen:
        selection = Selection(dict(chosen.settings), "nll", "nothing to choose", None, [])
    else:
        is_judged = calibrate or bool(definition.grid.keys() - overrides.keys())
        validator = make_validator(training, starts_from, select_by, seed, reduced=is_judged)
        selection = select(validator, definition, overrides)
    inputs = make_inputs(
        training, definition, selection, baseline=baseline, views=views, tolerance=tolerance, seed=seed
    )
    fit = fit_calibrated(method, definition, inputs, selection, validator if calibrate else None)
    return replace(fit, scale=chosen.scale) if chosen else fit


def fit_baseline(
    training: TrainingSet,
    *,
    select_by: str | None = None,
    chosen: ChosenSettings | None = None,
    seed: int = 0,
    exact: bool = False,
) -> Fit:
    """Fit cross-entropy, which other heads are compared with and start from.

    Args:
        training: Features (N, D) and labels.
        select_by: One of `lort_hub.heads.scorers.SCORERS`; None for the likelihood.
        chosen: As in `fit_head`.
        seed: Seed of the folds.
        exact: Whether to solve it to `TOLERANCE`, as a head of its own, and not to `BASELINE_TOLERANCE`.

    Example:
        >>> import torch
        >>> training = TrainingSet(torch.eye(2).repeat(4, 1), torch.tensor([0, 1] * 4), num_classes=2)
        >>> fit_baseline(training).method
        'ce'
    """
    tolerance = TOLERANCE if exact else BASELINE_TOLERANCE
    return fit_head(training, "ce", select_by=select_by, chosen=chosen, tolerance=tolerance, seed=seed)


def _check_variation(training: TrainingSet) -> None:
    """Refuse features that are the same for all samples, up to rounding; every process calls this."""
    total = training.sums.sum(dim=0)
    mean = total[:-1] / total[-1]
    least, apart = 1e-12 * total[-1] * mean.square().sum(), torch.zeros_like(mean[0])
    for x, _ in training.matrix:
        apart += (x.double() - mean).square().sum()
        if apart > least:
            break
    training.processes.all_reduce(apart)
    if apart <= least:
        raise FeatureError(
            "All features are equal: are the images blank?\n"
            "Look at some of them; no head can tell such images apart."
        )


def _fit_choice(
    training: TrainingSet | FeatureStore | Features,
    name: str,
    baseline: Fit | None,
    *,
    select_by: str | None,
    calibrate: bool,
    seed: int,
) -> Fit:
    """Fit the sum of heads, or the best of them."""
    if name == "auto" and not calibrate:
        raise ConfigError('`method="auto"` adds up calibrated heads.\nLeave out `calibrate=False`.')
    if not isinstance(training, TrainingSet):
        training = TrainingSet.of(training)
    baseline = baseline or fit_baseline(training, select_by=select_by, seed=seed)
    if name == "auto":
        return fit_stack(training, baseline=baseline, select_by=select_by, seed=seed)
    return fit_best(training, baseline=baseline, select_by=select_by, calibrate=calibrate, seed=seed)


def _with_solver(method: str, solver: str) -> Method:
    """Replace the fitter of a method by another solver of the same objective."""
    if solver not in SOLVERS:
        raise ConfigError(
            f"Unknown solver '{solver}'.{did_you_mean(solver, SOLVERS)} Expected: {', '.join(SOLVERS)}."
        )
    return replace(METHODS[method], fitter=solver)
