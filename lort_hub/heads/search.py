"""Choose the settings of a method by scores of held-out training samples."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from statistics import NormalDist
from typing import Any

import torch

from lort_hub.errors import ConfigError
from lort_hub.heads.base import LinearHead
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.folds import FOLDS, FoldHeads
from lort_hub.heads.methods import SOLVERS, Method
from lort_hub.heads.scorers import SCORERS, Predictions, standard_error
from lort_hub.heads.solvers.objective import DEFAULTS, LORT_LOGIT_GAP, Settings, delta_for_gap
from lort_hub.heads.training_set import TrainingSet

PATIENCE = 2
"""Settings without a better score after which a path ends; of every second weight decay one."""
RACE_RISK = 0.01
"""Chance of being chosen after all below which a setting that loses on the first folds is given up."""
FIRST_FOLD_ERRORS = 3.0
"""Standard errors by which a setting must at least lose on the first fold alone."""
LEAST_GAIN = 1e-4
"""Score that a setting has to gain to be better: less is what solvers leave."""


@dataclass(frozen=True)
class Selection:
    """Chosen settings of a method, with all candidates and their scores.

    Attributes:
        chosen: The chosen settings.
        scorer: Name of the scorer, one of `SCORERS`.
        validation: Source of the held-out predictions, from `Validator.describe`.
        score: Score of the chosen settings; None where there was nothing to choose.
        candidates: All settings tried, each with its score.
        held_out: Predictions by the chosen settings' heads, where they were fitted on folds.
        start: Mean of those heads, near the head of all samples.
    """

    chosen: dict[str, float]
    scorer: str
    validation: str
    score: float | None
    candidates: list[dict[str, float]]
    held_out: Predictions | None = None
    start: LinearHead | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the selection as the JSON-ready values of metrics.json, without predictions."""
        return {
            "chosen": self.chosen,
            "by": self.scorer,
            "how": self.validation,
            "score": self.score,
            "candidates": self.candidates,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Selection:
        """Restore a selection from the values of `to_dict`.

        Example:
            >>> selection = Selection({"power": 0.5}, "nll", "nothing to choose", None, [])
            >>> Selection.from_dict(selection.to_dict()) == selection
            True
        """
        return cls(values["chosen"], values["by"], values["how"], values["score"], values["candidates"])


def setting_paths(
    method: Method, training: TrainingSet, overrides: Settings, *, decay_stride: int = 1
) -> list[list[Settings]]:
    """List the settings to try: a path for each combination of the settings that do not vary along it.

    `Method.path` names the setting that varies along a path. If it is overridden, each combination of the
    others is a path of its own, so that the best of them is chosen.

    Args:
        method: The method.
        training: Features and labels, for LORT's delta and the unit of weight decays.
        overrides: Settings with a given value, which are not chosen.
        decay_stride: Try every `decay_stride`-th weight decay only.

    Raises:
        ConfigError: The method has no setting of that name.

    Example:
        >>> import torch
        >>> from lort_hub.heads.methods import METHODS
        >>> training = TrainingSet(torch.eye(2), torch.tensor([0, 1]), num_classes=2)
        >>> setting_paths(METHODS["tau-norm"], training, {"power": 0.5})
        [[{'power': 0.5}]]
    """
    num_classes = len(training.class_counts)
    fixed = dict(method.fixed)
    if method.over_smoothed:
        fixed["delta"] = delta_for_gap(LORT_LOGIT_GAP, num_classes)
    if method.fitter in SOLVERS:
        fixed = {**DEFAULTS, **fixed}
    if unknown := [name for name in overrides if name not in {**fixed, **method.grid}]:
        known = ", ".join({**fixed, **method.grid}) or "none"
        raise ConfigError(f"{method.summary} has no setting {', '.join(unknown)}; it has: {known}.")
    grid = {name: values for name, values in method.grid.items() if name not in overrides}
    if not grid:
        return [[{**fixed, **overrides}]]
    along = method.path if method.path in grid else None
    outer = {name: values for name, values in grid.items() if name != along}
    paths: list[list[Settings]] = []
    for values in product(*outer.values()):
        common = {**fixed, **overrides, **dict(zip(outer, values, strict=True))}
        steps = grid[along] if along else ()
        if "weight_decay" in grid:
            unit = _mean_variance(training, common.get("gamma", 0.0)) / num_classes
            if along == "weight_decay":
                steps = tuple(unit * decay for decay in steps[::decay_stride])
            else:
                common["weight_decay"] *= unit
        paths.append([{**common, along: step} for step in steps] if along else [common])
    return paths


def _mean_variance(training: TrainingSet, gamma: float) -> float:
    """Compute the mean variance of the features, the unit of weight decays."""
    basis = training.basis(gamma)
    return float(basis.values.sum()) / training.width


def select(validator: Validator, method: Method, overrides: Settings | None = None) -> Selection:
    """Choose a method's settings by predictions of held-out training samples.

    On each path the simplest head within one standard error of the best is chosen (that of the difference on
    the same samples). Of the paths' choices the best one is chosen, and of equally good ones the last, the
    largest gamma.

    Args:
        validator: Source of the held-out predictions.
        method: The method.
        overrides: Settings with a given value, which are not chosen.

    Raises:
        ConfigError: The method has no setting of that name.

    Example:
        >>> import torch
        >>> from lort_hub.heads.methods import METHODS
        >>> from lort_hub.heads.training_set import TrainingSet
        >>> x = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0]])
        >>> training = TrainingSet(x, torch.tensor([0, 0, 1, 1]), num_classes=2)
        >>> selection = select(Validator(training), METHODS["lort"], {"gamma": 1.0})
        >>> selection.validation, selection.chosen["gamma"], selection.score
        ('leave-one-out in closed form', 1.0, 1.0)
    """
    validator = validator.for_method(method)
    overrides, scorer = overrides or {}, validator.scorer_of(method)
    first = setting_paths(method, validator.training, overrides)[0][0]
    if len(method.grid.keys() - overrides.keys()) == 0:
        return Selection(dict(first), scorer, "nothing to choose", None, [])
    # Cross-validation is slower than leave-one-out, so it tries every second weight decay.
    closed_form = validator.uses_closed_form(method, first)
    scored_paths = [
        _score_path(validator, method, path, scorer)
        for path in setting_paths(method, validator.training, overrides, decay_stride=1 if closed_form else 2)
    ]
    winner = max((winner for winner, _ in reversed(scored_paths)), key=lambda candidate: candidate.score)
    return Selection(
        chosen=dict(winner.settings),
        scorer=scorer,
        validation=validator.describe(method, first),
        score=winner.score,
        candidates=[tried for _, every in scored_paths for tried in every],
        held_out=None if closed_form else winner.held_out,
        start=validator.mean_head(winner.held_out),
    )


def fold_heads_of(validator: Validator, method: Method, selection: Selection) -> FoldHeads:
    """Return the heads of the folds with the chosen settings, fitted now where they are not known."""
    held_out = selection.held_out
    if held_out and held_out.fold_heads and held_out.fold_heads.seed == validator.seed:
        return held_out.fold_heads
    validator, chosen = validator.for_method(method), selection.chosen
    path = [chosen] if validator.uses_closed_form(method, chosen) else path_to(selection, method)
    return deque(validator.fold_heads(method, path), maxlen=1).pop()


def path_to(selection: Selection, method: Method) -> list[Settings]:
    """List the settings tried on the way to the chosen ones: solvers start each from the one before.

    Heads that are fitted along it once more are the same as when the settings were chosen.

    Args:
        selection: Selection of the settings.
        method: The method.

    Example:
        >>> from lort_hub.heads.methods import METHODS
        >>> tried = [{"weight_decay": decay, "score": 0.0} for decay in (1.0, 0.1, 0.01)]
        >>> path_to(Selection({"weight_decay": 0.1}, "nll", "on folds", 0.0, tried), METHODS["ce"])
        [{'weight_decay': 1.0}, {'weight_decay': 0.1}]
    """
    path: list[Settings] = []
    for tried in selection.candidates:
        settings = {name: value for name, value in tried.items() if name != "score"}
        if all(settings[name] == value for name, value in selection.chosen.items() if name != method.path):
            path.append(settings)
        if settings == selection.chosen:
            return path
    return [selection.chosen]


@dataclass(frozen=True)
class _Candidate:
    settings: Settings
    score: float
    held_out: Predictions


def _score_path(
    validator: Validator, method: Method, path: Sequence[Settings], scorer: str
) -> tuple[_Candidate, list[dict[str, float]]]:
    """Score a path and choose on it; return the choice, and all that was tried with its score.

    A path of weight decays ends after its best, as small ones are slow. So does one of likelihoods, which
    have one maximum along most paths. Where one worse setting ends a path, the first folds may already tell
    that it is worse; its score is then estimated from those.
    """
    candidates: list[_Candidate] = []
    beaten: list[float] = []
    is_decay_path = path[0].get("weight_decay") != path[-1].get("weight_decay")
    best, has_one_maximum = 0, is_decay_path or scorer == "nll"
    patience = 1 if is_decay_path and not validator.uses_closed_form(method, path[0]) else PATIENCE

    @lru_cache(maxsize=FOLDS)
    def on_first_folds(leader: int, number: int) -> Predictions:
        fold_heads = candidates[leader].held_out.fold_heads
        assert fold_heads
        return validator.predict_folds(replace(fold_heads, heads=fold_heads.heads[:number]))

    def is_beaten(first_folds: Predictions) -> bool:
        if not candidates or patience > 1 or _neglects_most_classes(leader := candidates[best].held_out):
            return False
        assert leader.fold_heads
        assert first_folds.fold_heads
        number, folds = len(first_folds.fold_heads.heads), len(leader.fold_heads.heads)
        rival = on_first_folds(best, number)
        lead = SCORERS[scorer](rival) - SCORERS[scorer](first_folds)
        error = standard_error(rival, first_folds, scorer)
        if lead > error * _decisive_lead(number, folds):
            beaten.append(candidates[best].score - lead)
        return bool(beaten)

    for settings, held_out in zip(path, validator.predict(method, path, is_beaten=is_beaten), strict=False):
        candidates.append(_Candidate(settings, SCORERS[scorer](held_out), held_out))
        since_best = len(candidates) - 1 - best
        if candidates[-1].score > candidates[best].score + LEAST_GAIN:
            best = len(candidates) - 1
        elif has_one_maximum and since_best >= patience and not _neglects_most_classes(held_out):
            break
    top = candidates[best]
    winner = next(
        candidate
        for candidate in candidates
        if top.score - candidate.score <= standard_error(top.held_out, candidate.held_out, scorer)
    )
    scores = [*(candidate.score for candidate in candidates), *beaten]
    tried = [{**settings, "score": score} for settings, score in zip(path, scores, strict=False)]
    return winner, tried


def _decisive_lead(number: int, folds: int) -> float:
    """Compute the lead on the first folds, in standard errors, that the others hardly turn around.

    A less simple setting is chosen only if it is better by one standard error on all folds. Given a lead z on
    m of F folds, that on all has the mean z sqrt(F / m) and the variance (F - m) / m in units of its error.
    The error itself is rough on a single fold, where rare classes have a few samples.
    """
    spread = math.sqrt((folds - number) / number)
    decisive = (NormalDist().inv_cdf(1 - RACE_RISK) * spread - 1) / math.sqrt(folds / number)
    return max(decisive, FIRST_FOLD_ERRORS) if number == 1 else decisive


def _neglects_most_classes(held_out: Predictions) -> bool:
    """Decide whether half of the classes or more are predicted less than half as often as they occur.

    Very large weight decays do that; the plateau of their scores does not mean that the best is past.
    """
    counts = torch.bincount(held_out.labels)
    predicted = torch.bincount(held_out.predicted, minlength=len(counts))[: len(counts)]
    neglected = 2 * predicted < counts
    return bool(2 * neglected.sum() >= (counts > 0).sum())
