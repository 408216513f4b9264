"""Re-train a head by a method's name: choose its settings, fit it, and record how it came about."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lort_hub.backbones.backbone import Backbone
from lort_hub.errors import ConfigError, did_you_mean
from lort_hub.features.matrix import FeatureMatrix
from lort_hub.features.store import Features
from lort_hub.heads.base import Head, LinearHead, Sample
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.fitters import SOLVERS, fit_method
from lort_hub.heads.methods import AUTO, METHODS, STAGE1
from lort_hub.heads.search import Choice, Selection, choose_method, select
from lort_hub.heads.solvers.objective import Objective, objective_of
from lort_hub.heads.training_set import TrainingSet


@dataclass(frozen=True)
class Fit:
    """A re-trained head and how it came about.

    Attributes:
        head: The head; a `LinearHead` for every method that can be exported.
        method: Its name in `METHODS`.
        settings: What it was fitted with.
        selection: How settings were chosen; None where there was nothing to choose.
        choice: How the method was chosen; None where it was given.
    """

    head: Head
    method: str
    settings: dict[str, float]
    selection: Selection | None = None
    choice: Choice | None = None

    @property
    def why(self) -> str | None:
        """Why it is this method; None where it was given."""
        return self.choice.why() if self.choice else None

    @property
    def linear(self) -> LinearHead:
        """The head as a linear layer.

        Raises:
            ConfigError: It is none.
        """
        if not isinstance(self.head, LinearHead):
            raise ConfigError(f"'{self.method}' does not end in a linear layer that a backbone could take.")
        return self.head

    @property
    def weight(self) -> Tensor:
        """W (K, D), float32."""
        return self.linear.weight

    @property
    def bias(self) -> Tensor:
        """B (K,), float32."""
        return self.linear.bias

    @property
    def objective(self) -> Objective:
        """The point of the objective's family that was minimised; plain cross-entropy for closed forms."""
        return objective_of(self.settings)

    def fingerprint(self) -> str:
        """sha256 of W and b."""
        return hashlib.sha256(self.weight.numpy().tobytes() + self.bias.numpy().tobytes()).hexdigest()

    def to_keep(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON-ready values that `restored` takes, for a linear head."""
        about = {
            "method": self.method,
            "settings": self.settings,
            "selection": self.selection and self.selection.to_dict(),
            "choice": self.choice and self.choice.to_dict(),
            "iterations": self.linear.iterations,
            "relative_gradient": self.linear.relative_gradient,
        }
        return {"weight": self.weight.contiguous(), "bias": self.bias.contiguous()}, about

    @classmethod
    def restored(cls, tensors: dict[str, Tensor], about: dict[str, Any]) -> Fit:
        """The fit of which `to_keep` gave these; what its folds said of held-out samples is not in them."""
        solved = about["iterations"], about["relative_gradient"]
        head = LinearHead(tensors["weight"], tensors["bias"], *solved)
        selection = Selection(**about["selection"]) if about["selection"] else None
        choice = Choice.from_dict(about["choice"]) if about["choice"] else None
        return cls(head, about["method"], about["settings"], selection, choice)

    def describe(self) -> str:
        """What was fitted, and how it was chosen and solved, in a line."""
        text = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in self.settings.items())
        text = text or "nothing to set"
        if isinstance(self.head, LinearHead) and self.head.relative_gradient is not None:
            text += (
                f"; relative gradient {self.head.relative_gradient:.0e} in {self.head.iterations} iterations"
            )
        elif isinstance(self.head, LinearHead) and self.head.iterations:
            text += f"; {self.head.iterations} epochs of SGD from the baseline head"
        if self.selection:
            text += f"; chosen among {len(self.selection.candidates)} settings by {self.selection.how}"
        return text

    def logits(self, x: Tensor) -> Tensor:
        """Logits (N, K) of features (N, D)."""
        return self.head.logits(x)


def fit_head(
    training: TrainingSet | Features,
    method: str = "lort",
    *,
    delta: float | None = None,
    gamma: float | None = None,
    weight_decay: float | None = None,
    solver: str | None = None,
    baseline: Fit | None = None,
    views: Sequence[FeatureMatrix] = (),
    select_by: str | None = None,
    seed: int = 0,
) -> Fit:
    """Re-train a linear head on frozen features.

    Args:
        training: Features (N, D) and labels; a `TrainingSet` keeps its eigenbases for further fits.
        method: One of `METHODS`.
        delta: Label smoothing; None for the method's own.
        gamma: Class-balance exponent; None to choose it where the method leaves it open.
        weight_decay: Weight decay; None to choose it where the method leaves it open.
        solver: One of `SOLVERS`, for the methods of the objective: "exact", "closed-form" (the limit of
            delta -> 1) or "sgd"; None for the method's own.
        baseline: The trained head that some methods start from: the backbone's own, from `stage1_fit`, or one
            fitted on the same features. None for cross-entropy, fitted where it is needed.
        views: Augmented features (N, D): the exact solver fits on them and the training features, SGD on one
            of them each epoch, as the paper does. The choice of settings ignores them.
        select_by: Score of the choices, a name in `lort_hub.heads.scorers.SCORES`; None for the method's own.
        seed: Seed of folds and of SGD's order.

    Returns:
        The head.

    Raises:
        ConfigError: Unknown method, solver or score, a value out of range, or a setting the method lacks.

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
    if solver and solver not in SOLVERS:
        raise ConfigError(
            f"Unknown solver '{solver}'.{did_you_mean(solver, SOLVERS)} Expected: {', '.join(SOLVERS)}."
        )
    if isinstance(training, Features):
        training = TrainingSet(training.x, training.y, int(training.y.max()) + 1)
    chosen = METHODS[method]
    if solver and chosen.fitted_by not in SOLVERS:
        raise ConfigError(
            f"--solver {solver}: '{method}' is not a point of the objective that it could solve."
        )
    if solver:
        chosen = replace(chosen, fitted_by=solver)
    if chosen.needs_base and baseline is None:
        baseline = fit_head(training, "ce", select_by=select_by, seed=seed)
    given = {"delta": delta, "gamma": gamma, "weight_decay": weight_decay}
    wanted = {name: value for name, value in given.items() if value is not None}
    objective_of(wanted)  # refuses values out of range
    selection = select(make_validator(training, baseline, select_by, seed), chosen, wanted)
    base = (baseline.weight, baseline.bias) if baseline else None
    sample = Sample(training, base=base, views=tuple(views), seed=seed)
    if views and chosen.fitted_by != "sgd":
        labels = training.labels.repeat(len(views) + 1)
        joint = TrainingSet(training.matrix.beside(views), labels, training.num_classes)
        sample = Sample(joint, base=base, seed=seed)
    head = fit_method(chosen, sample, selection.chosen)
    return Fit(head, method, selection.chosen, selection if selection.candidates else None)


def fit_best(training: TrainingSet, *, baseline: Fit, select_by: str | None = None, seed: int = 0) -> Fit:
    """Re-train a head by the method that does best on held-out training samples.

    Args:
        training: Features (N, D) and labels.
        baseline: The head that methods start from: the backbone's own, or cross-entropy on the same features.
        select_by: Score of the choices; None for each method's own.
        seed: Seed of folds.

    Returns:
        The head, which says why it is that one.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0]])
        >>> training = TrainingSet(x, torch.tensor([0, 0, 1, 1]), num_classes=2)
        >>> fit_best(training, baseline=fit_head(training, "ce")).why
        'ce has NLL 0.000 on held-out training images, the best of 9 methods'
    """
    validator = make_validator(training, baseline, select_by, seed)
    choice = choose_method(validator, {name: select(validator, METHODS[name]) for name in AUTO})
    selection = choice.selections[choice.method]
    fit = fit_selected(training, choice.method, selection, baseline=baseline, seed=seed)
    return replace(fit, choice=choice)


def fit_selected(
    training: TrainingSet, method: str, selection: Selection, *, baseline: Fit, seed: int = 0
) -> Fit:
    """Re-train a head with settings that have been chosen.

    Args:
        training: Features (N, D) and labels.
        method: One of `METHODS`.
        selection: Its settings.
        baseline: The head that methods start from.
        seed: Seed of SGD's order.

    Example:
        >>> import torch
        >>> training = TrainingSet(torch.eye(2), torch.tensor([0, 1]), num_classes=2)
        >>> ce, method = fit_head(training, "ce", weight_decay=1.0), METHODS["ncm"]
        >>> fit_selected(training, "ncm", select(Validator(training), method), baseline=ce).weight
        tensor([[1., 0.],
                [0., 1.]])
    """
    sample = Sample(training, base=(baseline.weight, baseline.bias), seed=seed)
    head = fit_method(METHODS[method], sample, selection.chosen)
    return Fit(head, method, selection.chosen, selection if selection.candidates else None)


def make_validator(training: TrainingSet, baseline: Fit | None, by: str | None, seed: int) -> Validator:
    """Make the validator of methods that start from a baseline.

    Args:
        training: The features.
        baseline: The head to start from; the backbone's own serves every fold, any other is fitted on each.
        by: Score of the choices; None for each method's own.
        seed: Seed of folds.

    Example:
        >>> import torch
        >>> make_validator(TrainingSet(torch.eye(2), torch.tensor([0, 1]), 2), None, "nll", 0).by
        'nll'
    """
    if baseline is None:
        return Validator(training, by=by, seed=seed)
    if baseline.method == STAGE1:
        return Validator(training, trained=(baseline.weight, baseline.bias), by=by, seed=seed)
    return Validator(training, base=(METHODS[baseline.method], baseline.settings), by=by, seed=seed)


def own_head(backbone: Backbone, class_names: Sequence[str]) -> tuple[Tensor, Tensor] | None:
    """The backbone's own classifier, if it knows exactly these classes.

    Args:
        backbone: The backbone.
        class_names: Names of the K classes, in the order wanted.

    Returns:
        Head (K, D), (K,) with its rows in that order; None where the classes differ or are unnamed.

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
    """The head a backbone was trained with, as a `Fit` to stand beside the others.

    Args:
        weight: W (K, D).
        bias: b (K,).

    Example:
        >>> import torch
        >>> stage1_fit(torch.eye(2), torch.zeros(2)).method
        'stage 1'
    """
    return Fit(LinearHead(weight, bias), STAGE1, {})
