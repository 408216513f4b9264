"""Held-out predictions of heads on their own training set.

Heads near the LORT limit are judged by exact leave-one-out in closed form, the others by stratified
cross-validation. Both predict every sample from a head that never saw it, which is honest as long as the
backbone did not see it either (PAPER section 6). Where it did, the samples held out of its training are
predicted, by heads fitted on all the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from lort_hub.errors import ConfigError, did_you_mean
from lort_hub.features.distributed import Processes
from lort_hub.heads.base import LinearHead, Sample
from lort_hub.heads.discriminant import Discriminant
from lort_hub.heads.fitters import fit_method
from lort_hub.heads.methods import Method
from lort_hub.heads.scorers import SCORES, Predictions, calibrated
from lort_hub.heads.solvers.eigenbasis import leave_one_out
from lort_hub.heads.solvers.objective import Settings, logit_gap
from lort_hub.heads.training_set import TrainingSet

FOLDS = 5
FOLD_TOLERANCE = 1e-3
CLOSED_FORM_GAP = 2.0
"""Largest logit gap whose optimum is ranked by its closed-form limit; LORT's is 1.11."""


@dataclass(frozen=True)
class Validator:
    """Held-out predictions of any method on one training set: the same folds, the same heads to start from.

    Attributes:
        training: The features; where the backbone was trained on them, with its held-out samples.
        base: The method and settings of the head that others start from, fitted on each fold.
        trained: The backbone's own head (K, D), (K,), which others start from instead; None for none.
        by: One of `SCORES`; None for each method's own.
        seed: Seed of the folds and of SGD.

    Raises:
        ConfigError: Unknown score.

    Example:
        >>> from lort_hub.heads.methods import METHODS
        >>> training = TrainingSet(torch.tensor([[0.0], [0.1], [1.0], [1.1]]), torch.tensor([0, 0, 1, 1]), 2)
        >>> validator, ncm = Validator(training), METHODS["ncm"]
        >>> SCORES["balanced-accuracy"](next(validator.predictions(ncm, [{}]))), validator.how(ncm, {})
        (1.0, 'stratified 5-fold cross-validation')
    """

    training: TrainingSet
    base: tuple[Method, Settings] | None = None
    trained: tuple[Tensor, Tensor] | None = None
    by: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse an unknown score."""
        if self.by is not None and self.by not in SCORES:
            hint = did_you_mean(self.by, SCORES)
            raise ConfigError(f"Unknown score '{self.by}'.{hint} Expected: {', '.join(SCORES)}.")

    def score_of(self, method: Method) -> str:
        """Name of the score that chooses a method's settings.

        The likelihood tells heads apart on far fewer samples than accuracy does (README has the numbers), but
        the logits that over-smoothed labels ask for are no log-odds.
        """
        return self.by or ("balanced-accuracy" if method.over_smoothed else "nll")

    def how(self, method: Method, settings: Settings) -> str:
        """Where a method's predictions come from."""
        if self._unseen is not None:
            return f"the {self.training.num_unseen} images held out of the backbone's training{self._share}"
        closed = self.in_closed_form(method, settings)
        how = "leave-one-out in closed form" if closed else f"stratified {FOLDS}-fold cross-validation"
        if self.training.held_out is not None:
            how += " on images the backbone was trained on, too rosy about the tail (no --holdout)"
        return how + self._share

    @property
    def _share(self) -> str:
        """How many of the samples are scored, where it is not all."""
        training = self.training
        every = training.num_unseen or int(training.class_counts.sum())
        return "" if training.num_scored == every else f", scored on {training.num_scored} of {every} samples"

    def in_closed_form(self, method: Method, settings: Settings) -> bool:
        """Whether leave-one-out in closed form judges these settings."""
        if self._unseen is not None or method.fitted_by == "discriminant":
            return self._unseen is None
        return (
            method.fitted_by in ("exact", "closed-form")
            and not settings["tau"]
            and not settings["label_aware"]
            and settings["delta"] > 0
            and logit_gap(settings["delta"], len(self.training.class_counts)) <= CLOSED_FORM_GAP
        )

    def predictions(self, method: Method, path: Sequence[Settings]) -> Iterator[Predictions]:
        """Predictions of held-out samples, one set for each setting of a path.

        Iterative methods start from the heads of the setting before, and all folds share one eigenbasis.
        """
        if self.in_closed_form(method, path[0]):
            likelihood = self.score_of(method) == "nll"
            if method.fitted_by == "discriminant":
                return discriminant_predictions(self.training, path, likelihood=likelihood)
            return leave_one_out_predictions(self.training, path, likelihood=likelihood)
        return self.cross_validated(method, path)

    def cross_validated(self, method: Method, path: Sequence[Settings]) -> Iterator[Predictions]:
        """The same by heads fitted on folds, whatever the method."""
        samples = [sample for sample, _ in self._folds]
        for settings in path:
            logits, labels = [], []
            for number, (_, held) in enumerate(self._folds):
                head = fit_method(method, samples[number], settings)
                if isinstance(head, LinearHead):
                    samples[number] = replace(samples[number], start=head)
                logits.append(self.training.matrix.where(held).map(head.logits))
                labels.append(self.training.labels[held])
            yield _predictions(torch.cat(logits), torch.cat(labels), self.training.processes)

    @property
    def _unseen(self) -> Tensor | None:
        return self.training.held_out if self.training.num_unseen else None

    @cached_property
    def _folds(self) -> list[tuple[Sample, Tensor]]:
        """What each fold fits on, and the samples (N,) it predicts."""
        if self._unseen is not None:
            helds = [self._unseen]
        else:
            fold_of = stratified_folds(self.training.all_labels, FOLDS, seed=self.seed)
            helds = [self.training.own(fold_of == fold) for fold in range(FOLDS)]
        samples = [
            Sample(self.training, ~held, base=self.trained, tolerance=FOLD_TOLERANCE, seed=self.seed)
            for held in helds
        ]
        helds = [held & self.training.scored for held in helds]
        if self.base and self.trained is None:
            method, settings = self.base
            heads = [fit_method(method, sample, settings) for sample in samples]
            samples = [
                replace(sample, base=(head.weight, head.bias))
                for sample, head in zip(samples, heads, strict=True)
                if isinstance(head, LinearHead)
            ]
        return list(zip(samples, helds, strict=True))


def leave_one_out_predictions(
    training: TrainingSet, path: Sequence[Settings], *, likelihood: bool = False
) -> Iterator[Predictions]:
    """Leave-one-out predictions of LORT's closed-form limit, exact, one for each setting of the path.

    Args:
        training: The training features.
        path: Settings that differ in weight decay alone.
        likelihood: Whether the predictions tell the likelihood too, which costs more than the predictions.

    Example:
        >>> training = TrainingSet(torch.tensor([[0.0], [0.1], [1.0], [1.1]]), torch.tensor([0, 0, 1, 1]), 2)
        >>> next(leave_one_out_predictions(training, [{"gamma": 0.0, "weight_decay": 0.01}])).predicted
        tensor([0, 0, 1, 1])
    """
    gamma, scored = path[0]["gamma"], training.scored
    basis = training.basis(gamma)
    sums, x = basis.rotate_sums(training.weighted_sums(gamma)), basis.rotate(training.matrix.where(scored))
    labels, omega = training.labels[scored], training.weights(gamma)[scored]
    for settings in path:
        ridge = training.num_classes * settings["weight_decay"]
        logits = leave_one_out(basis, x, labels, omega, sums, ridge)
        yield _predictions(logits, labels, training.processes, likelihood=likelihood)


def discriminant_predictions(
    training: TrainingSet, path: Sequence[Settings], *, likelihood: bool = False
) -> Iterator[Predictions]:
    """Leave-one-out predictions of the empirical-Bayes discriminant, one for each setting of the path.

    Args:
        training: The training features.
        path: Settings that differ in sphericity alone.
        likelihood: Whether the predictions tell the likelihood too.

    Example:
        >>> training = TrainingSet(torch.tensor([[0.0], [0.1], [1.0], [1.1]]), torch.tensor([0, 0, 1, 1]), 2)
        >>> next(discriminant_predictions(training, [{"sphericity": 0.1}])).predicted
        tensor([0, 0, 1, 1])
    """
    scored = training.scored
    model = Discriminant.estimate(training.sums, *training.covariance(0.0), sphericity=1.0)
    x, labels = model.basis.rotate(training.matrix.where(scored)), training.labels[scored]
    for settings in path:
        logits = replace(model, sphericity=settings["sphericity"]).leave_one_out(x, labels)
        yield _predictions(logits, labels, training.processes, likelihood=likelihood)


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


def _predictions(
    logits: Tensor, labels: Tensor, processes: Processes, *, likelihood: bool = True
) -> Predictions:
    """What the heads of all processes say, the same in each of them."""
    said = [labels, logits.argmax(dim=1)]
    if likelihood:
        said.append(calibrated(logits, labels, processes))
    return Predictions(*(processes.gather(values) for values in said))
