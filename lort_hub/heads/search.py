"""Choose a method's settings, and the method, by predictions of held-out training samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

import torch

from lort_hub.errors import ConfigError
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.fitters import SOLVERS
from lort_hub.heads.methods import METHODS, Method
from lort_hub.heads.scorers import SCORES, Predictions, standard_error
from lort_hub.heads.solvers.objective import DEFAULTS, LORT_LOGIT_GAP, Settings, delta_for_gap
from lort_hub.heads.training_set import TrainingSet

PATIENCE = 2


@dataclass(frozen=True)
class Selection:
    """What was chosen, from what, by what score.

    Attributes:
        chosen: The settings that won.
        by: Name of the score.
        how: Where the held-out predictions come from.
        score: That of the winner; None where there was nothing to choose.
        candidates: All settings tried, each with its score.
        held_out: What the winner's heads say about held-out samples, where folds were fitted.
    """

    chosen: dict[str, float]
    by: str
    how: str
    score: float | None
    candidates: list[dict[str, float]]
    held_out: Predictions | None = None

    def to_dict(self) -> dict[str, Any]:
        """The selection as JSON-ready values."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "held_out"}


def setting_paths(
    method: Method, training: TrainingSet, given: Settings, *, every: int = 1
) -> list[list[Settings]]:
    """Settings to try: one path for each choice but the last, which varies along it.

    Args:
        method: Whose settings.
        training: Whose classes and features fix delta and the unit of weight decays.
        given: Settings that are not to be chosen.
        every: Try every so many-th weight decay only.

    Raises:
        ConfigError: A given setting is none of this method's.

    Example:
        >>> import torch
        >>> training = TrainingSet(torch.eye(2), torch.tensor([0, 1]), num_classes=2)
        >>> setting_paths(METHODS["tau-norm"], training, {"power": 0.5})
        [[{'power': 0.5}]]
    """
    num_classes = len(training.class_counts)
    fixed = dict(method.fixed)
    if method.over_smoothed:
        fixed["delta"] = delta_for_gap(LORT_LOGIT_GAP, num_classes)
    if method.fitted_by in SOLVERS:
        fixed = {**DEFAULTS, **fixed}
    if unknown := [name for name in given if name not in {**fixed, **method.grid}]:
        known = ", ".join({**fixed, **method.grid}) or "none"
        raise ConfigError(f"{method.summary} has no setting {', '.join(unknown)}; it has: {known}.")
    grid = {name: values for name, values in method.grid.items() if name not in given}
    *outer, last = grid or {"": ()}
    paths: list[list[Settings]] = []
    for values in product(*(grid[name] for name in outer)):
        common = {**fixed, **given, **dict(zip(outer, values, strict=True))}
        unit = float(training.basis(common.get("gamma", 0.0)).values.mean()) / num_classes if grid else 1.0
        if "weight_decay" in outer:
            common["weight_decay"] *= unit
        steps = grid.get(last, ())
        if last == "weight_decay":
            steps = tuple(unit * decay for decay in steps[::every])
        paths.append([{**common, last: step} for step in steps] or [common])
    return paths


def select(validator: Validator, method: Method, given: Settings | None = None) -> Selection:
    """Choose a method's settings by predictions of held-out training samples.

    Along a path of settings the simplest head wins that is within one standard error of the best (that of the
    difference on the same samples); of the paths' winners the best wins, of equally good ones the first.

    Args:
        validator: Makes and scores the predictions.
        method: Whose settings.
        given: Settings that are not to be chosen.

    Raises:
        ConfigError: A given setting is none of this method's.

    Example:
        >>> import torch
        >>> from lort_hub.heads.training_set import TrainingSet
        >>> x = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0]])
        >>> training = TrainingSet(x, torch.tensor([0, 0, 1, 1]), num_classes=2)
        >>> choice = select(Validator(training), METHODS["lort"], {"gamma": 1.0})
        >>> choice.how, choice.chosen["gamma"], choice.score
        ('leave-one-out in closed form', 1.0, 1.0)
    """
    given, by = given or {}, validator.score_of(method)
    first = setting_paths(method, validator.training, given)[0][0]
    if len(method.grid.keys() - given.keys()) == 0:
        return Selection(dict(first), by, "nothing to choose", None, [])
    # Cross-validation is dearer than leave-one-out, so it tries every second weight decay.
    closed = validator.in_closed_form(method, first)
    walks = [
        _walk(validator, method, path, by)
        for path in setting_paths(method, validator.training, given, every=1 if closed else 2)
    ]
    winner = max((winner for winner, _ in walks), key=lambda tried: tried.score)
    return Selection(
        chosen=dict(winner.settings),
        by=by,
        how=validator.how(method, first),
        score=winner.score,
        candidates=[{**tried.settings, "score": tried.score} for _, walk in walks for tried in walk],
        held_out=None if closed else winner.held_out,
    )


@dataclass(frozen=True)
class _Tried:
    settings: Settings
    score: float
    held_out: Predictions


def _walk(
    validator: Validator, method: Method, path: Sequence[Settings], by: str
) -> tuple[_Tried, list[_Tried]]:
    """Score along the path; one of weight decays until it is past its best, for the small ones are dear."""
    walk: list[_Tried] = []
    best, dear = 0, path[0].get("weight_decay") != path[-1].get("weight_decay")
    for settings, held_out in zip(path, validator.predictions(method, path), strict=True):
        walk.append(_Tried(settings, SCORES[by](held_out), held_out))
        if walk[-1].score > walk[best].score:
            best = len(walk) - 1
        elif dear and len(walk) - 1 - best >= PATIENCE and not _hides_most_classes(held_out):
            break
    top = walk[best]
    winner = next(
        tried for tried in walk if top.score - tried.score <= standard_error(top.held_out, tried.held_out, by)
    )
    return winner, walk


def _hides_most_classes(held_out: Predictions) -> bool:
    """Whether the weight decay still hides the tail: the plateau of the largest ones is no best."""
    counts = torch.bincount(held_out.labels)
    said = torch.bincount(held_out.predicted, minlength=len(counts))[: len(counts)]
    hidden = 2 * said < counts  # predicted less than half as often as it occurs
    return bool(2 * hidden.sum() >= (counts > 0).sum())


@dataclass(frozen=True)
class Choice:
    """Which method was chosen, and how the others did on the same held-out samples.

    Attributes:
        method: Its name in `METHODS`.
        by: Name of the score.
        selections: What was chosen for each method, by name.
        scores: Score of each method at its chosen settings, on the same samples.
        errors: Standard error of the difference to the best, by name.
    """

    method: str
    by: str
    selections: dict[str, Selection]
    scores: dict[str, float]
    errors: dict[str, float]

    def why(self) -> str:
        """The reason, in a sentence."""
        best = max(self.scores, key=lambda name: self.scores[name])
        text = f"{self.method} has {self._told(self.scores[self.method])} on held-out training images"
        if best == self.method:
            return f"{text}, the best of {len(self.scores)} methods"
        error = self._told(self.errors[self.method])
        return (
            f"{text}, the simplest of {len(self.scores)} methods within one standard error ({error}) of the "
            f"best, {best}, which has {self._told(self.scores[best])}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The choice as JSON-ready values."""
        selections = {name: selection.to_dict() for name, selection in self.selections.items()}
        return {**vars(self), "selections": selections}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Choice:
        """The choice of which `to_dict` gave these, but for what heads said of held-out samples."""
        selections = {name: Selection(**selection) for name, selection in values["selections"].items()}
        return cls(**{**values, "selections": selections})

    def _told(self, score: float) -> str:
        return f"NLL {abs(score):.3f}" if self.by == "nll" else f"{self.by} {100 * score:.1f}"


def choose_method(validator: Validator, selections: dict[str, Selection]) -> Choice:
    """Choose a method: the first of those within one standard error of the best, all on the same samples.

    Args:
        validator: Makes and scores the predictions.
        selections: What this validator chose for each method, by its name in `METHODS`, the simplest first.

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
    # Leave-one-out fits on more samples than a fold does: compared are the folds' predictions alone.
    by = validator.by or "nll"
    said = {
        name: choice.held_out or next(validator.cross_validated(METHODS[name], [choice.chosen]))
        for name, choice in selections.items()
    }
    scores = {name: SCORES[by](held_out) for name, held_out in said.items()}
    best = max(scores, key=lambda name: scores[name])
    errors = {name: standard_error(said[best], held_out, by) for name, held_out in said.items()}
    method = next(name for name in selections if scores[best] - scores[name] <= errors[name])
    return Choice(method, by, selections, scores, errors)
