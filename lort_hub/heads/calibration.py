"""Calibrate a fitted head by held-out predictions."""

from __future__ import annotations

from lort_hub.heads.base import Head, LinearHead
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.leave_one_out import LEAST_RIDGE
from lort_hub.heads.methods import Method
from lort_hub.heads.search import Selection
from lort_hub.heads.solvers.eigenbasis import ridge_head
from lort_hub.heads.solvers.objective import Settings


def calibration_of(validator: Validator, method: Method, selection: Selection, head: Head) -> float:
    """Find the factor on a head's logits that maximises the likelihood of held-out samples.

    It comes from the predictions that chose the settings, or from new ones if nothing was chosen.

    Args:
        validator: Source of held-out predictions.
        method: The head's method.
        selection: Selection of its settings.
        head: The head, fitted on all samples.

    Returns:
        The factor, one over the temperature.

    Example:
        >>> import torch
        >>> from lort_hub.heads.base import FitInputs
        >>> from lort_hub.heads.fitters import fit_method
        >>> from lort_hub.heads.methods import METHODS
        >>> from lort_hub.heads.search import select
        >>> from lort_hub.heads.training_set import TrainingSet
        >>> noise = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
        >>> training, ncm = TrainingSet(noise, torch.arange(40) % 2, 2), METHODS["ncm"]
        >>> validator, head = Validator(training), fit_method(ncm, FitInputs(training), {})
        >>> calibration_of(validator, ncm, select(validator, ncm), head) < 0.1  # nothing to be sure of
        True
    """
    validator, held_out = validator.for_method(method), selection.held_out
    if held_out is None or held_out.scale is None:
        held_out = next(validator.predict(method, [selection.chosen], likelihood=True))
    scale = 1.0 if held_out.scale is None else held_out.scale
    by_ridge = method.fitter in ("exact", "closed-form") and validator.uses_closed_form(
        method, selection.chosen
    )
    if by_ridge and isinstance(head, LinearHead):
        scale *= _ridge_over(head, validator, selection.chosen)
    return scale


def _ridge_over(head: LinearHead, validator: Validator, settings: Settings) -> float:
    """Compare the logits of leave-one-out, which are of ridge regression, to a head's: their ratio.

    By least squares over the samples, logits centred over classes.
    """
    training = validator.training
    basis = training.basis(settings["gamma"])
    least = LEAST_RIDGE * float(basis.values.max())
    ridge = max(training.num_classes * settings["weight_decay"], least)
    limit, _ = ridge_head(basis, basis.rotate_sums(training.weighted_sums(settings["gamma"])), ridge)
    weight, _ = basis.rotate_head(*training.project_head(head.weight, head.bias))
    limit, weight = limit - limit.mean(dim=0), weight - weight.mean(dim=0)
    squares = float((weight.square() @ basis.values).sum())
    product = float(((limit * weight) @ basis.values).sum())
    return product / squares if product > 0 else 1.0  # of features that tell nothing only rounding is left
