"""Choosing a method's settings, and the method, from the training features alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from lort_hub.fitting import Settings
from lort_hub.judging import Judge, Predictions, standard_error
from lort_hub.methods import METHODS, Method

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
    """

    chosen: dict[str, float]
    by: str
    how: str
    score: float | None
    candidates: list[dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """The selection as JSON-ready values."""
        return asdict(self)


def select(judge: Judge, method: Method, given: Settings | None = None) -> Selection:
    """Choose a method's settings by predictions of held-out training samples.

    Along a path of settings the simplest head wins that is within one standard error of the best (that of the
    difference on the same samples); of the paths' winners the best wins, of equally good ones the first.

    Args:
        judge: Makes and scores the predictions.
        method: Whose settings.
        given: Settings that are not to be chosen.

    Raises:
        ConfigError: A given setting is none of this method's.

    Example:
        >>> import torch
        >>> from lort_hub.eigenbasis import TrainingSet
        >>> x = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0]])
        >>> training = TrainingSet(x, torch.tensor([0, 0, 1, 1]), num_classes=2)
        >>> choice = select(Judge(training), METHODS["lort"], {"gamma": 1.0})
        >>> choice.how, choice.chosen["gamma"], choice.score
        ('leave-one-out in closed form', 1.0, 1.0)
    """
    given = given or {}
    first = method.paths(judge.training, given)[0][0]
    if len(method.grid.keys() - given.keys()) == 0:
        return Selection(dict(first), judge.by, "nothing to choose", None, [])
    # Cross-validation is dearer than leave-one-out, so it tries every second weight decay.
    paths = method.paths(judge.training, given, every=1 if judge.in_closed_form(method, first) else 2)
    walks = [_walk(judge, method, path) for path in paths]
    chosen, score = max((winner for winner, _ in walks), key=lambda winner: winner[1])
    return Selection(
        chosen=dict(chosen),
        by=judge.by,
        how=judge.how(method, first),
        score=score,
        candidates=[{**tried, "score": score} for _, walk in walks for tried, score in walk],
    )


def _walk(
    judge: Judge, method: Method, path: Sequence[Settings]
) -> tuple[tuple[Settings, float], list[tuple[Settings, float]]]:
    """Score along the path; one of weight decays until it is past its best, for the small ones are dear."""
    tried: list[tuple[Settings, float, Predictions]] = []
    best, dear = 0, path[0].get("weight_decay") != path[-1].get("weight_decay")
    for settings, held_out in zip(path, judge.predictions(method, path), strict=True):
        tried.append((settings, judge.score(held_out), held_out))
        if tried[-1][1] > tried[best][1]:
            best = len(tried) - 1
        elif dear and len(tried) - 1 - best >= PATIENCE and not _hides_most_classes(held_out):
            break
    _, top, said = tried[best]
    winner = next(
        (settings, score)
        for settings, score, held_out in tried
        if top - score <= standard_error(said, held_out, judge.by)
    )
    return winner, [(settings, score) for settings, score, _ in tried]


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
        selections: What was chosen for each method, by name.
        scores: Score of each method at its chosen settings, on the same samples.
        errors: Standard error of the difference to the best, by name.
    """

    method: str
    selections: dict[str, Selection]
    scores: dict[str, float]
    errors: dict[str, float]

    def why(self) -> str:
        """The reason, in a sentence."""
        best = max(self.scores, key=lambda name: self.scores[name])
        text = f"{self.method} scores {100 * self.scores[self.method]:.1f} on held-out training images"
        if best == self.method:
            return f"{text}, the best of {len(self.scores)} methods"
        gap = 100 * (self.scores[best] - self.scores[self.method])
        error = 100 * self.errors[self.method]
        return (
            f"{text}, the simplest of {len(self.scores)} methods within one standard error ({error:.1f}) of "
            f"the best, {best}, which is {gap:.1f} above"
        )


def choose_method(judge: Judge, selections: dict[str, Selection]) -> Choice:
    """Choose a method: the first of those within one standard error of the best, all on the same samples.

    Args:
        judge: Makes and scores the predictions.
        selections: What this judge chose for each method, by its name in `METHODS`, the simplest first.

    Example:
        >>> import torch
        >>> from lort_hub.eigenbasis import TrainingSet
        >>> x = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0]])
        >>> training = TrainingSet(x, torch.tensor([0, 0, 1, 1]), num_classes=2)
        >>> judge = Judge(training)
        >>> choose_method(judge, {name: select(judge, METHODS[name]) for name in ("ncm", "lort")}).method
        'ncm'
    """
    # Leave-one-out fits on more samples than a fold does: compared are the folds' predictions alone.
    said = {
        name: next(judge.cross_validated(METHODS[name], [choice.chosen]))
        for name, choice in selections.items()
    }
    scores = {name: judge.score(held_out) for name, held_out in said.items()}
    best = max(scores, key=lambda name: scores[name])
    errors = {name: standard_error(said[best], held_out, judge.by) for name, held_out in said.items()}
    method = next(name for name in selections if scores[best] - scores[name] <= errors[name])
    return Choice(method, selections, scores, errors)
