"""Re-train a head by a method's name: choose the settings, fit the head, and describe both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from lort_hub.errors import ConfigError, did_you_mean
from lort_hub.features.matrix import CPU, FeatureMatrix
from lort_hub.features.store import Features, FeatureStore
from lort_hub.heads.base import FitInputs, LinearHead, move_head
from lort_hub.heads.calibration import calibration_of
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.fitted import Fit
from lort_hub.heads.fitters import SOLVERS, fit_method
from lort_hub.heads.methods import METHODS, STAGE1, Method
from lort_hub.heads.search import Selection, path_to, select
from lort_hub.heads.solvers.lbfgs import TOLERANCE
from lort_hub.heads.solvers.objective import Objective
from lort_hub.heads.training_set import TrainingSet

BASELINE_TOLERANCE = 1e-4
"""Relative gradient at which the baseline is solved: going on to `TOLERANCE` takes twice as long and moved
0.2 % of 10,000 predictions, their accuracy by less than 0.01 points."""


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
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Fit:
    """Re-train a head on frozen features.

    Args:
        training: Features (N, D) and labels, as of `extract_features`. A `TrainingSet` keeps its eigenbases
            for further fits.
        method: One of `METHODS`.
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
        tolerance: Relative gradient at which the exact solver stops.
        seed: Seed of the folds and of SGD.

    Returns:
        The head, on the CPU, with its settings and their selection.

    Raises:
        ConfigError: Unknown method, solver or scorer, a value out of range, or a setting that the method has
            not.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0]])
        >>> fit = fit_head(TrainingSet(x, torch.tensor([0, 0, 1, 1]), num_classes=2), "lort", gamma=1.0)
        >>> fit.logits(x).argmax(dim=1), fit.linear.relative_gradient < 1e-5
        (tensor([0, 0, 1, 1]), True)
    """
    if method not in METHODS:
        raise ConfigError(
            f"Unknown method '{method}'.{did_you_mean(method, METHODS)} Expected: {', '.join(METHODS)}."
        )
    definition = _with_solver(method, solver) if solver else METHODS[method]
    options = {"delta": delta, "gamma": gamma, "weight_decay": weight_decay}
    overrides = {name: value for name, value in options.items() if value is not None}
    Objective(delta=delta or 0.0, gamma=gamma or 0.0, weight_decay=weight_decay or 0.0)  # checks their ranges
    if not isinstance(training, TrainingSet):
        training = TrainingSet.of(training)
    if definition.needs_base and baseline is None:
        baseline = fit_baseline(training, select_by=select_by, seed=seed)
    starts_from = baseline if definition.needs_base or definition.fitter == "sgd" else None
    is_judged = calibrate or bool(definition.grid.keys() - overrides.keys())
    validator = make_validator(training, starts_from, select_by, seed, reduced=is_judged)
    selection = select(validator, definition, overrides)
    copies = 1
    if views and definition.fitter != "sgd":  # SGD uses one view per epoch, other solvers all at once
        labels = training.labels.repeat(len(views) + 1)
        training = TrainingSet(training.matrix.concatenate(views), labels, training.num_classes)
        copies, views = len(views) + 1, ()
    start = {"base": _base(baseline), "start": selection.start, "tolerance": tolerance, "seed": seed}
    inputs = FitInputs(training, views=tuple(views), copies=copies, **start)  # type: ignore[arg-type]
    return _fit(method, definition, inputs, selection, validator if calibrate else None)


def fit_baseline(training: TrainingSet, *, select_by: str | None = None, seed: int = 0) -> Fit:
    """Fit cross-entropy, which other heads are compared with and start from.

    Args:
        training: Features (N, D) and labels.
        select_by: One of `lort_hub.heads.scorers.SCORERS`; None for the likelihood.
        seed: Seed of the folds.

    Example:
        >>> import torch
        >>> training = TrainingSet(torch.eye(2).repeat(4, 1), torch.tensor([0, 1] * 4), num_classes=2)
        >>> fit_baseline(training).method
        'ce'
    """
    return fit_head(training, "ce", select_by=select_by, tolerance=BASELINE_TOLERANCE, seed=seed)


def solve_on(training: TrainingSet, fit: Fit) -> Fit:
    """Solve a head of an exact solver on to `TOLERANCE`, with its settings and its calibration.

    Args:
        training: Features (N, D) and labels that it was fitted on.
        fit: The head; returned as it is where it was solved so far, or by no such solver.

    Example:
        >>> import torch
        >>> training = TrainingSet(torch.eye(2).repeat(4, 1), torch.tensor([0, 1] * 4), num_classes=2)
        >>> solve_on(training, fit_baseline(training)).linear.relative_gradient <= TOLERANCE
        True
    """
    reached = fit.head.relative_gradient if isinstance(fit.head, LinearHead) else None
    if reached is None or reached <= TOLERANCE:
        return fit
    inputs = FitInputs(training, start=fit.linear)
    head = fit_method(METHODS[fit.method], inputs, fit.settings)
    return replace(fit, head=move_head(head, CPU))


def _with_solver(method: str, solver: str) -> Method:
    """Replace the fitter of a method by another solver of the same objective."""
    if solver not in SOLVERS:
        raise ConfigError(
            f"Unknown solver '{solver}'.{did_you_mean(solver, SOLVERS)} Expected: {', '.join(SOLVERS)}."
        )
    if METHODS[method].fitter not in SOLVERS:
        raise ConfigError(
            f"`solver=\"{solver}\"`: '{method}' is not a point of the objective that solvers minimise.\n"
            "Leave `solver` out."
        )
    return replace(METHODS[method], fitter=solver)


def _base(baseline: Fit | None) -> tuple[Tensor, Tensor] | None:
    return baseline.base if baseline else None


def _fit(
    name: str, method: Method, inputs: FitInputs, selection: Selection, validator: Validator | None
) -> Fit:
    """Fit a method with its chosen settings, and calibrate the head by a validator."""
    head = fit_method(method, inputs, selection.chosen)
    scale = calibration_of(validator, method, selection, head) if validator else 1.0
    chosen_by = selection if selection.candidates else None
    return Fit(move_head(head, CPU), name, selection.chosen, chosen_by, scale=scale)


def fit_selected(
    training: TrainingSet,
    method: str,
    selection: Selection,
    *,
    baseline: Fit,
    validator: Validator | None = None,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Fit:
    """Re-train a head with settings that are already chosen.

    Args:
        training: Features (N, D) and labels.
        method: One of `METHODS`.
        selection: The chosen settings.
        baseline: Head that methods start from.
        validator: Source of held-out predictions to calibrate the head by; None leaves it as solved.
        tolerance: Relative gradient at which the exact solver stops.
        seed: Seed of SGD.

    Example:
        >>> import torch
        >>> training = TrainingSet(torch.eye(2), torch.tensor([0, 1]), num_classes=2)
        >>> ce, method = fit_head(training, "ce", weight_decay=1.0), METHODS["ncm"]
        >>> fit_selected(training, "ncm", select(Validator(training), method), baseline=ce).weight
        tensor([[1., 0.],
                [0., 1.]])
    """
    inputs = FitInputs(training, base=_base(baseline), start=selection.start, tolerance=tolerance, seed=seed)
    return _fit(method, METHODS[method], inputs, selection, validator)


def make_validator(
    training: TrainingSet, baseline: Fit | None, select_by: str | None, seed: int, *, reduced: bool = True
) -> Validator:
    """Make the validator for methods that start from a baseline.

    Args:
        training: Features and labels.
        baseline: Head to start from. The backbone's own is used on every fold; another head is fitted anew on
            each fold.
        select_by: One of `SCORERS`; None for each method's own.
        seed: Seed of the folds.
        reduced: Whether to predict by the leading directions of the features, which costs a pass to find.

    Raises:
        ConfigError: The baseline is of no single linear method.

    Example:
        >>> import torch
        >>> make_validator(TrainingSet(torch.eye(2), torch.tensor([0, 1]), 2), None, "nll", 0).select_by
        'nll'
    """
    training = training.reduced if reduced else training
    if baseline is None:
        return Validator(training, select_by=select_by, seed=seed)
    if baseline.method == STAGE1:
        return Validator(training, base_head=_base(baseline), select_by=select_by, seed=seed)
    if baseline.method not in METHODS or not METHODS[baseline.method].linear:
        raise ConfigError(
            f"`baseline` is a head of '{baseline.method}', which cannot be fitted anew on every fold.\n"
            "Give the head of a linear method, such as `ce`, or the backbone's own."
        )
    method, selection = METHODS[baseline.method], baseline.selection
    held_out = selection.held_out if selection else None
    return Validator(
        training,
        base_method=(method, path_to(selection, method) if selection else [baseline.settings]),
        base_folds=held_out.fold_heads if held_out else None,
        select_by=select_by,
        seed=seed,
    )
