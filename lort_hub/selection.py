"""Choosing an objective's gamma and weight decay from the training features alone.

Heads near the LORT limit are scored by exact leave-one-out in closed form, the others by stratified
cross-validation of the exact solver. Both predict every sample from a head that never saw it, which is honest
as long as the backbone did not see it either (PAPER section 6). Where it did, the samples held out of its
training are scored, by heads fitted on all the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lort_hub.eigenbasis import TrainingSet, class_sums, leave_one_out
from lort_hub.errors import ConfigError, did_you_mean
from lort_hub.objectives import Objective, logit_gap, sample_weights
from lort_hub.solvers import minimise

RELATIVE_DECAYS = tuple(10.0 ** (-half / 2) for half in range(-2, 15))
"""Weight decays to try; cross-validation, dearer than leave-one-out, tries every second one."""
PATIENCE = 2
LEAST_GAIN = 0.005
"""A smaller weight decay has to score this much higher: less is noise, and a larger one is the safer head."""
FOLDS = 5
FOLD_TOLERANCE = 3e-3
CLOSED_FORM_GAP = 2.0
"""Largest logit gap whose optimum is ranked by its closed-form limit; LORT's is 1.11."""


@dataclass(frozen=True)
class Predictions:
    """What heads that never saw a sample say about it.

    Attributes:
        labels: True labels (M,).
        predicted: Predicted labels (M,).
        log_likelihood: Log-probability (M,) of the true label.
    """

    labels: Tensor
    predicted: Tensor
    log_likelihood: Tensor


def _class_mean(values: Tensor, labels: Tensor) -> float:
    counts = torch.bincount(labels).double()
    sums = torch.zeros_like(counts).index_add_(0, labels, values.double())
    present = counts > 0
    return float((sums[present] / counts[present]).mean())


def _balanced_accuracy(held_out: Predictions) -> float:
    return _class_mean((held_out.predicted == held_out.labels).double(), held_out.labels)


def _macro_f1(held_out: Predictions) -> float:
    from sklearn.metrics import f1_score

    present = held_out.labels.unique().numpy()
    return float(
        f1_score(held_out.labels, held_out.predicted, average="macro", labels=present, zero_division=0)
    )


def _log_likelihood(held_out: Predictions) -> float:
    return _class_mean(held_out.log_likelihood, held_out.labels)


SCORES: dict[str, Callable[[Predictions], float]] = {
    "balanced-accuracy": _balanced_accuracy,
    "macro-f1": _macro_f1,
    "nll": _log_likelihood,
}
"""Scores by name, higher is better; all weigh every class the same ("nll" is its negative)."""


@dataclass(frozen=True)
class Selection:
    """What was chosen, from what, by what score.

    Attributes:
        chosen: The objective that won.
        by: Name of the score.
        how: Where the held-out predictions come from.
        candidates: Every gamma and weight decay tried, with its score.
    """

    chosen: Objective
    by: str
    how: str
    candidates: list[dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """The selection as JSON-ready values."""
        return {**asdict(self), "chosen": asdict(self.chosen)}


def select(
    training: TrainingSet,
    objective: Objective,
    *,
    gammas: Sequence[float],
    weight_decay: float | None = None,
    by: str = "balanced-accuracy",
    seed: int = 0,
) -> Selection:
    """Choose gamma and weight decay by predictions on held-out training samples.

    Weight decays are tried in units of the features' mean variance over K, so the choice ignores their scale.

    Args:
        training: The features; where the backbone was trained on them, with its held-out samples.
        objective: Delta and tau; its gamma and weight decay are replaced.
        gammas: Class-balance exponents to try.
        weight_decay: The one weight decay to use; None to try `RELATIVE_DECAYS`.
        by: One of `SCORES`.
        seed: Seed of the folds.

    Returns:
        The selection. A smaller weight decay wins by `LEAST_GAIN` or not at all; of gammas with equal
        scores the smaller wins.

    Raises:
        ConfigError: Unknown score.

    Example:
        >>> x = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0]])
        >>> training = TrainingSet(x, torch.tensor([0, 0, 1, 1]), num_classes=2)
        >>> choice = select(training, Objective(delta=0.9), gammas=[0.0, 1.0])
        >>> choice.how, len(choice.candidates)
        ('leave-one-out in closed form', 10)
    """
    if by not in SCORES:
        raise ConfigError(f"Unknown score '{by}'.{did_you_mean(by, SCORES)} Expected: {', '.join(SCORES)}.")
    num_classes = len(training.class_counts)
    held_out = training.held_out if training.held_out is not None and training.held_out.any() else None
    closed_form = (
        held_out is None
        and by != "nll"
        and objective.tau == 0
        and objective.delta > 0
        and logit_gap(objective.delta, num_classes) <= CLOSED_FORM_GAP
    )
    if held_out is None:
        fold_of = stratified_folds(training.labels, FOLDS, seed=seed)
        how = "leave-one-out in closed form" if closed_form else f"stratified {FOLDS}-fold cross-validation"
        if training.held_out is not None:
            how += " on images the backbone was trained on, too rosy about the tail (no --holdout)"
    else:
        fold_of = held_out.long() - 1
        how = f"the {int(held_out.sum())} images held out of the backbone's training"
    candidates: list[tuple[Objective, float]] = []
    winners: list[tuple[Objective, float]] = []
    for gamma in sorted(gammas):
        unit = float(training.basis(gamma).values.mean()) / num_classes
        decays = [unit * decay for decay in RELATIVE_DECAYS[:: 1 if closed_form else 2]]
        if weight_decay is not None:
            decays = [weight_decay]
        path = [replace(objective, gamma=gamma, weight_decay=decay) for decay in decays]
        predictions = (
            leave_one_out_predictions(training, path)
            if closed_form
            else cross_validated_predictions(training, path, fold_of)
        )
        tried, winner = _walk(path, predictions, SCORES[by])
        candidates += tried
        winners.append(winner)
    best, _ = max(winners, key=lambda winner: winner[1])
    return Selection(
        chosen=best,
        by=by,
        how=how,
        candidates=[
            {"gamma": tried.gamma, "weight_decay": tried.weight_decay, "score": score}
            for tried, score in candidates
        ],
    )


def _walk(
    path: Sequence[Objective], held_out: Iterator[Predictions], score: Callable[[Predictions], float]
) -> tuple[list[tuple[Objective, float]], tuple[Objective, float]]:
    """Score along the path until it is past its best: small weight decays are the dearest to fit."""
    tried: list[tuple[Objective, float]] = []
    best = 0
    for objective, predictions in zip(path, held_out, strict=True):
        tried.append((objective, score(predictions) if len(predictions.labels) else 0.0))
        if tried[-1][1] > tried[best][1] + LEAST_GAIN:
            best = len(tried) - 1
        elif len(tried) - 1 - best >= PATIENCE and not _misses_most_classes(predictions):
            break
    return tried, tried[best]


def _misses_most_classes(held_out: Predictions) -> bool:
    """Whether the weight decay still hides the tail: the plateau of the largest ones is no best."""
    right = held_out.labels[held_out.predicted == held_out.labels]
    return 2 * len(right.unique()) <= len(held_out.labels.unique())


def leave_one_out_predictions(training: TrainingSet, path: Sequence[Objective]) -> Iterator[Predictions]:
    """Leave-one-out predictions of LORT's closed-form limit, exact, one per objective of the path.

    Args:
        training: The training features.
        path: Objectives that differ in weight decay alone.

    Example:
        >>> training = TrainingSet(torch.tensor([[0.0], [0.1], [1.0], [1.1]]), torch.tensor([0, 0, 1, 1]), 2)
        >>> path = [Objective(delta=0.98, weight_decay=0.01)]
        >>> next(leave_one_out_predictions(training, path)).predicted
        tensor([0, 0, 1, 1])
    """
    basis, num_classes = training.basis(path[0].gamma), len(training.class_counts)
    sums = class_sums(basis.x, training.labels, basis.omega, num_classes)
    for objective in path:
        logits = leave_one_out(basis, training.labels, sums, num_classes * objective.weight_decay)
        yield _predictions(logits, training.labels)


def cross_validated_predictions(
    training: TrainingSet, path: Sequence[Objective], fold_of: Tensor
) -> Iterator[Predictions]:
    """Out-of-fold predictions of the exact solver, one per objective of the path.

    All folds share one eigenbasis, and each objective starts from the optimum before it on the path.

    Args:
        training: The training features.
        path: Objectives that differ in weight decay alone, from large to small.
        fold_of: Fold (N,) of each sample, numbered from 0; -1 is always fitted on and never scored.

    Example:
        >>> training = TrainingSet(torch.tensor([[0.0], [0.1], [1.0], [1.1]]), torch.tensor([0, 0, 1, 1]), 2)
        >>> path = [Objective(weight_decay=0.01)]
        >>> next(cross_validated_predictions(training, path, torch.tensor([0, 1, 0, 1]))).predicted
        tensor([0, 1, 0, 1])
    """
    basis, labels = training.basis(path[0].gamma), training.labels
    splits = [(fold_of != fold, fold_of == fold) for fold in fold_of[fold_of >= 0].unique().tolist()]
    starts: list[tuple[Tensor, Tensor] | None] = [None] * len(splits)
    for objective in path:
        parts = []
        for number, (kept, held) in enumerate(splits):
            counts = torch.bincount(labels[kept], minlength=len(training.class_counts))
            head = minimise(
                basis.x[kept],
                labels[kept],
                sample_weights(labels[kept], counts, objective.gamma),
                basis.values,
                counts,
                objective,
                init=starts[number],
                tolerance=FOLD_TOLERANCE,
            )
            starts[number] = (head.weight, head.bias)
            logits = torch.addmm(head.bias.to(basis.x), basis.x[held], head.weight.T.to(basis.x))
            parts.append(_predictions(logits, labels[held]))
        yield Predictions(
            labels=torch.cat([labels[:0], *(part.labels for part in parts)]),
            predicted=torch.cat([labels[:0], *(part.predicted for part in parts)]),
            log_likelihood=torch.cat([basis.x[:0, 0], *(part.log_likelihood for part in parts)]),
        )


def stratified_folds(labels: Tensor, folds: int, *, seed: int) -> Tensor:
    """Fold (N,) of each sample, every class spread as evenly as it can be; -1 for a class's only sample.

    Args:
        labels: Labels (N,).
        folds: Number of folds.
        seed: Seed of the order within a class.

    Example:
        >>> stratified_folds(torch.tensor([0, 0, 1, 2, 2, 2]), 2, seed=0).sort().values
        tensor([-1,  0,  0,  1,  1,  1])
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = shuffled[labels[shuffled].argsort(stable=True)]
    fold_of = torch.empty_like(labels)
    fold_of[order] = torch.arange(len(labels)) % folds
    fold_of[torch.bincount(labels)[labels] == 1] = -1
    return fold_of


def _predictions(logits: Tensor, labels: Tensor) -> Predictions:
    true = logits.gather(1, labels[:, None]).squeeze(1)
    return Predictions(labels, logits.argmax(dim=1), true - logits.logsumexp(dim=1))
