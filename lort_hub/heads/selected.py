"""Fit heads whose settings are chosen: solve, calibrate, and set up what validates them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lort_hub.errors import ConfigError
from lort_hub.features.matrix import CPU, FeatureMatrix
from lort_hub.heads.base import FitInputs, move_head
from lort_hub.heads.calibration import calibration_of
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.fitted import Fit
from lort_hub.heads.fitters import fit_method
from lort_hub.heads.methods import METHODS, STAGE1, Method
from lort_hub.heads.search import Selection, path_to
from lort_hub.heads.solvers.lbfgs import TOLERANCE
from lort_hub.heads.training_set import TrainingSet


def fit_calibrated(
    name: str, method: Method, inputs: FitInputs, selection: Selection, validator: Validator | None
) -> Fit:
    """Fit a method with its chosen settings, and calibrate the head by a validator.

    Args:
        name: Name of the method.
        method: The method, or a variant of it with another solver.
        inputs: Training samples, and the heads to start from.
        selection: The chosen settings.
        validator: Source of held-out predictions to calibrate the head by; None leaves it as solved.

    Example:
        >>> import torch
        >>> inputs = FitInputs(TrainingSet(torch.eye(2), torch.tensor([0, 1]), num_classes=2))
        >>> selection = Selection({}, "nll", "nothing to choose", None, [])
        >>> fit_calibrated("ncm", METHODS["ncm"], inputs, selection, None).scale
        1.0
    """
    head = fit_method(method, inputs, selection.chosen)
    scale = calibration_of(validator, method, selection, head) if validator else 1.0
    chosen_by = selection if selection.candidates else None
    return Fit(move_head(head, CPU), name, selection.chosen, chosen_by, scale=scale)


def make_inputs(
    training: TrainingSet,
    method: Method,
    selection: Selection,
    *,
    baseline: Fit | None,
    views: Sequence[FeatureMatrix] = (),
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> FitInputs:
    """Make the inputs of a fit: SGD uses one of the views in each epoch, other solvers all at once.

    Args:
        training: Features (N, D) and labels.
        method: The method, or a variant of it with another solver.
        selection: The chosen settings.
        baseline: Head that methods start from; None without one.
        views: Augmented features (N, D).
        tolerance: Relative gradient at which the exact solver stops.
        seed: Seed of SGD.

    Example:
        >>> import torch
        >>> training = TrainingSet(torch.eye(2), torch.tensor([0, 1]), num_classes=2)
        >>> selection = Selection({}, "nll", "nothing to choose", None, [])
        >>> how = {"baseline": None, "views": [training.matrix]}
        >>> len(make_inputs(training, METHODS["ce"], selection, **how).labels)
        4
    """
    base = baseline.base if baseline else None
    inputs = FitInputs(training, base=base, start=selection.start, tolerance=tolerance, seed=seed)
    if not views or method.fitter == "sgd":
        return replace(inputs, views=tuple(views))
    labels = training.labels.repeat(len(views) + 1)
    every = TrainingSet(training.matrix.concatenate(views), labels, training.num_classes)
    return replace(inputs, training=every, copies=len(views) + 1)


def fit_selected(
    training: TrainingSet,
    method: str,
    selection: Selection,
    *,
    baseline: Fit | None,
    validator: Validator | None = None,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Fit:
    """Re-train a head with settings that are already chosen.

    Args:
        training: Features (N, D) and labels.
        method: One of `METHODS`.
        selection: The chosen settings.
        baseline: Head that methods start from; None without one.
        validator: Source of held-out predictions to calibrate the head by; None leaves it as solved.
        tolerance: Relative gradient at which the exact solver stops.
        seed: Seed of SGD.

    Example:
        >>> import torch
        >>> training = TrainingSet(torch.eye(2), torch.tensor([0, 1]), num_classes=2)
        >>> from lort_hub.heads.search import select
        >>> chosen = select(Validator(training), METHODS["ncm"])
        >>> fit_selected(training, "ncm", chosen, baseline=None).weight
        tensor([[1., 0.],
                [0., 1.]])
    """
    definition = METHODS[method]
    inputs = make_inputs(training, definition, selection, baseline=baseline, tolerance=tolerance, seed=seed)
    return fit_calibrated(method, definition, inputs, selection, validator)


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
        return Validator(training, base_head=baseline.base, select_by=select_by, seed=seed)
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
