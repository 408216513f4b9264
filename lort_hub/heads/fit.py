"""Re-train a head by a method's name: choose the settings, fit the head, and describe both."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lort_hub.backbones.backbone import Backbone
from lort_hub.errors import ConfigError, did_you_mean
from lort_hub.features.matrix import FeatureMatrix
from lort_hub.features.store import Features, FeatureStore
from lort_hub.heads.base import FitInputs, Head, LinearHead
from lort_hub.heads.calibration import calibration_of
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.fitters import SOLVERS, fit_method
from lort_hub.heads.methods import AUTO, METHODS, STAGE1, Method
from lort_hub.heads.scorers import Predictions
from lort_hub.heads.search import Choice, Selection, choose_method, select
from lort_hub.heads.solvers.lbfgs import TOLERANCE
from lort_hub.heads.solvers.objective import Objective, objective_of
from lort_hub.heads.training_set import TrainingSet
from lort_hub.records import ClassMix


@dataclass(frozen=True)
class Fit:
    """Re-trained head, with its method, its settings and their selection.

    Attributes:
        head: The head; a `LinearHead` for every method that can be exported.
        method: Name of the method in `METHODS`, or `STAGE1`.
        settings: Value of each setting of the method.
        selection: Selection of the settings; None where there was nothing to choose.
        choice: Choice of the method; None where the caller named it.
        scale: Factor that calibrates the head's logits; 1 leaves the head as solved.
        shift: Added to the calibrated bias (K,) to move the head to a class mix; None where it was not moved.
        mix: Class mix that its probabilities hold for; None where it was not measured.
        held_out: Decisions on held-out training samples, as if all classes were equally likely; None as well.
    """

    head: Head
    method: str
    settings: dict[str, float]
    selection: Selection | None = None
    choice: Choice | None = None
    scale: float = 1.0
    shift: Tensor | None = None
    mix: ClassMix | None = None
    held_out: Predictions | None = None

    @property
    def reason(self) -> str | None:
        """Reason for this method, in one sentence; None where the caller named it."""
        return self.choice.reason if self.choice else None

    @property
    def linear(self) -> LinearHead:
        """The head, if it is linear.

        Raises:
            ConfigError: The head is not linear.
        """
        if not isinstance(self.head, LinearHead):
            raise ConfigError(f"The head of '{self.method}' is not linear, so it fits into no backbone.")
        return self.head

    @property
    def weight(self) -> Tensor:
        """Calibrated weight W (K, D), float32."""
        return self.scale * self.linear.weight

    @property
    def bias(self) -> Tensor:
        """Calibrated bias b (K,), moved to the class mix, float32."""
        bias = self.scale * self.linear.bias
        return bias if self.shift is None else bias + self.shift

    @property
    def as_solved(self) -> tuple[Tensor, Tensor]:
        """Head (K, D), (K,) without calibration, from which other methods start."""
        return self.linear.weight, self.linear.bias

    @property
    def objective(self) -> Objective:
        """The objective that was minimised; plain cross-entropy for closed forms."""
        return objective_of(self.settings)

    def fingerprint(self) -> str:
        """Return the sha256 of W and b."""
        return hashlib.sha256(self.weight.numpy().tobytes() + self.bias.numpy().tobytes()).hexdigest()

    def to_cache(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Split the fit of a linear head into tensors and JSON-ready values, without held-out predictions."""
        values = {
            "method": self.method,
            "settings": self.settings,
            "selection": self.selection and self.selection.to_dict(),
            "choice": self.choice and self.choice.to_dict(),
            "iterations": self.linear.iterations,
            "relative_gradient": self.linear.relative_gradient,
            "scale": self.scale,
            "mix": self.mix and self.mix.to_json(),
        }
        weight, bias = self.as_solved
        tensors = {"weight": weight.contiguous(), "bias": bias.contiguous()}
        if self.held_out is not None:
            tensors |= {"labels": self.held_out.labels, "predicted": self.held_out.predicted}
        return tensors, values

    @classmethod
    def from_cache(cls, tensors: dict[str, Tensor], values: dict[str, Any]) -> Fit:
        """Restore a fit from the tensors and values of `to_cache`."""
        head = LinearHead(
            tensors["weight"], tensors["bias"], values["iterations"], values["relative_gradient"]
        )
        selection = Selection.from_dict(values["selection"]) if values["selection"] else None
        choice = Choice.from_dict(values["choice"]) if values["choice"] else None
        mix = ClassMix.from_json(values["mix"]) if values["mix"] else None
        held_out = Predictions(tensors["labels"], tensors["predicted"]) if "labels" in tensors else None
        made = values["method"], values["settings"], selection, choice, values["scale"]
        return cls(head, *made, mix=mix, held_out=held_out)

    def describe(self) -> str:
        """Describe settings, solver and selection in one line."""
        text = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in self.settings.items())
        text = text or "nothing to set"
        if isinstance(self.head, LinearHead) and self.head.relative_gradient is not None:
            text += (
                f"; relative gradient {self.head.relative_gradient:.0e} in {self.head.iterations} iterations"
            )
        elif isinstance(self.head, LinearHead) and self.head.iterations:
            text += f"; {self.head.iterations} epochs of SGD from the baseline head"
        if self.selection:
            text += f"; chosen among {len(self.selection.candidates)} settings by {self.selection.validation}"
        return text

    def logits(self, x: Tensor) -> Tensor:
        """Compute calibrated logits (N, K) of features (N, D), moved to the class mix."""
        logits = self.scale * self.head.logits(x)
        return logits if self.shift is None else logits + self.shift


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
        seed: Seed of the folds and of SGD.

    Returns:
        The head, with its settings and their selection.

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
        baseline = fit_head(training, "ce", select_by=select_by, seed=seed)
    validator = make_validator(training, baseline, select_by, seed)
    selection = select(validator, definition, overrides)
    if views and definition.fitter != "sgd":  # SGD uses one view per epoch, other solvers all at once
        labels = training.labels.repeat(len(views) + 1)
        training = TrainingSet(training.matrix.concatenate(views), labels, training.num_classes)
        views = ()
    inputs = FitInputs(training, base=_base(baseline), views=tuple(views), start=selection.start, seed=seed)
    return _fit(method, definition, inputs, selection, validator if calibrate else None)


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
    return baseline.as_solved if baseline else None


def _fit(
    name: str, method: Method, inputs: FitInputs, selection: Selection, validator: Validator | None
) -> Fit:
    """Fit a method with its chosen settings, and calibrate the head by a validator."""
    head = fit_method(method, inputs, selection.chosen)
    scale = calibration_of(validator, method, selection, head) if validator else 1.0
    return Fit(head, name, selection.chosen, selection if selection.candidates else None, scale=scale)


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
        >>> x = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0]])
        >>> training = TrainingSet(x, torch.tensor([0, 0, 1, 1]), num_classes=2)
        >>> fit_best(training, baseline=fit_head(training, "ce")).reason
        'ce has NLL 0.000 on held-out training images, the best of 9 methods'
    """
    validator = make_validator(training, baseline, select_by, seed)
    choice = choose_method(validator, {name: select(validator, METHODS[name]) for name in AUTO})
    selection = choice.selections[choice.method]
    validating = validator if calibrate else None
    fit = fit_selected(training, choice.method, selection, baseline=baseline, validator=validating, seed=seed)
    return replace(fit, choice=choice)


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
    training: TrainingSet, baseline: Fit | None, select_by: str | None, seed: int
) -> Validator:
    """Make the validator for methods that start from a baseline.

    Args:
        training: Features and labels.
        baseline: Head to start from. The backbone's own is used on every fold; another head is fitted anew on
            each fold.
        select_by: One of `SCORERS`; None for each method's own.
        seed: Seed of the folds.

    Example:
        >>> import torch
        >>> make_validator(TrainingSet(torch.eye(2), torch.tensor([0, 1]), 2), None, "nll", 0).select_by
        'nll'
    """
    if baseline is None:
        return Validator(training.reduced, select_by=select_by, seed=seed)
    if baseline.method == STAGE1:
        return Validator(training.reduced, base_head=_base(baseline), select_by=select_by, seed=seed)
    held_out = baseline.selection.held_out if baseline.selection else None
    return Validator(
        training.reduced,
        base_method=(METHODS[baseline.method], baseline.settings),
        base_folds=held_out.fold_heads if held_out else None,
        select_by=select_by,
        seed=seed,
    )


def own_head(backbone: Backbone, class_names: Sequence[str]) -> tuple[Tensor, Tensor] | None:
    """Return the backbone's own classifier if its classes are exactly these.

    Args:
        backbone: The backbone.
        class_names: Names of the K classes, in the order of the data set.

    Returns:
        Head (K, D), (K,) with its rows in that order; None where the classes differ or have no names.

    Example:
        >>> import torch
        >>> from lort_hub.backbones.load import load_backbone
        >>> own_head(load_backbone("test_resnet", pretrained=False), ["cat", "dog"]) is None
        True
    """
    if backbone.class_names is None or set(backbone.class_names) != set(class_names):
        return None
    rows = [backbone.class_names.index(name) for name in class_names]
    return backbone.weight[rows].float().cpu(), backbone.bias[rows].float().cpu()


def stage1_fit(weight: Tensor, bias: Tensor) -> Fit:
    """Make a `Fit` of the head that a backbone was trained with.

    Args:
        weight: W (K, D).
        bias: b (K,).

    Example:
        >>> import torch
        >>> stage1_fit(torch.eye(2), torch.zeros(2)).method
        'stage 1'
    """
    return Fit(LinearHead(weight, bias), STAGE1, {})
