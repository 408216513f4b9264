"""Choose one method by held-out predictions, and re-train the head by it."""

from __future__ import annotations

from dataclasses import replace

from lort_hub.heads.choice import Choice
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.fitted import Fit
from lort_hub.heads.methods import BEST_OF, METHODS, Method
from lort_hub.heads.scorers import SCORERS, Predictions, standard_error
from lort_hub.heads.search import Selection, select
from lort_hub.heads.selected import fit_selected, make_validator
from lort_hub.heads.training_set import TrainingSet


def fit_best(
    training: TrainingSet,
    *,
    baseline: Fit,
    select_by: str | None = None,
    calibrate: bool = True,
    seed: int = 0,
) -> Fit:
    """Re-train a head by the method that is best on held-out training samples.

    Args:
        training: Features (N, D) and labels.
        baseline: Head that methods start from: the backbone's own, or cross-entropy on the same features.
        select_by: One of `SCORERS`; None for each method's own to choose settings, and "nll" for the method.
        calibrate: Whether to scale the logits to the largest likelihood of held-out samples.
        seed: Seed of the folds.

    Returns:
        The head, with the reason for its method.

    Example:
        >>> import torch
        >>> from lort_hub.heads.fit import fit_head
        >>> x = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0]])
        >>> training = TrainingSet(x, torch.tensor([0, 0, 1, 1]), num_classes=2)
        >>> fit_best(training, baseline=fit_head(training, "ce")).reason.partition(" has ")[2][:37]
        'NLL 0.069 on held-out training images'
    """
    validator = make_validator(training, baseline, select_by, seed)
    choice = choose_method(validator, {name: select(validator, METHODS[name]) for name in BEST_OF})
    selection = choice.selections[choice.method]
    validating = validator if calibrate else None
    fit = fit_selected(training, choice.method, selection, baseline=baseline, validator=validating, seed=seed)
    return replace(fit, choice=choice)


def choose_method(validator: Validator, selections: dict[str, Selection]) -> Choice:
    """Choose the first method within one standard error of the best, all scored on the same samples.

    Args:
        validator: Source of the held-out predictions.
        selections: Settings chosen with this validator for each method, by its name in `METHODS`, the
            simplest method first.

    Example:
        >>> import torch
        >>> from lort_hub.heads.training_set import TrainingSet
        >>> x = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0]])
        >>> training = TrainingSet(x, torch.tensor([0, 0, 1, 1]), num_classes=2)
        >>> validator = Validator(training)
        >>> selections = {name: select(validator, METHODS[name]) for name in ("ncm", "lort")}
        >>> choose_method(validator, selections).method
        'ncm'
    """
    # Leave-one-out fits on more samples than a fold does, so methods are compared on the folds alone.
    scorer = validator.select_by or "nll"
    predictions = {
        name: selection.held_out or _on_folds(validator, METHODS[name], selection)
        for name, selection in selections.items()
    }
    scores = {name: SCORERS[scorer](held_out) for name, held_out in predictions.items()}
    best = max(scores, key=lambda name: scores[name])
    errors = {
        name: standard_error(predictions[best], held_out, scorer) for name, held_out in predictions.items()
    }
    method = next(name for name in selections if scores[best] - scores[name] <= errors[name])
    how = validator.describe_folds()
    return Choice(method, scorer, selections, scores, errors, validation=how)


def _on_folds(validator: Validator, method: Method, selection: Selection) -> Predictions:
    return next(validator.for_method(method).cross_validate(method, [selection.chosen]))
