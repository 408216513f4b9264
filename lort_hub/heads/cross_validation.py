"""Predict training samples by heads that were fitted without them, to choose settings and methods.

Heads near the LORT limit are validated by exact leave-one-out in closed form, others by stratified
cross-validation. Both are unbiased only if the backbone was not trained on the samples either
(docs/method.md). If it was, the samples held out of its training are predicted, by heads fitted on the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from lort_hub.errors import ConfigError, did_you_mean
from lort_hub.heads.base import FitInputs, Head, LinearHead
from lort_hub.heads.fitters import fit_method
from lort_hub.heads.folds import FOLDS, FoldHeads, folds_to_predict, stratified_folds
from lort_hub.heads.leave_one_out import predict_leave_one_out
from lort_hub.heads.methods import Method
from lort_hub.heads.scorers import SCORERS, Predictions, gather_predictions
from lort_hub.heads.solvers.objective import Settings, logit_gap
from lort_hub.heads.training_set import TrainingSet

FOLD_TOLERANCE = 1e-2
"""Relative gradient at which the heads of folds are solved."""
IsBeaten = Callable[[Predictions], bool]
"""Decides whether a setting can still be the best, by the predictions of its first folds."""
CLOSED_FORM_GAP = 2.0
"""Largest logit gap for which the closed-form limit stands for the optimum; that of LORT is 1.11."""


@dataclass(frozen=True)
class Validator:
    """Source of held-out predictions of any method on one training set, always with the same folds.

    Attributes:
        training: Features and labels, and which samples were held out of the backbone's training.
        base_method: Method of the head that other methods start from, fitted on each fold; and the path of
            settings that ends with its own, as where a coarse solve ends depends on where it began.
        base_folds: Those heads of the folds, where they are fitted already.
        base_head: Head (K, D), (K,) of the backbone, which methods start from instead; None without one.
        select_by: One of `SCORERS`; None for each method's own.
        seed: Seed of the folds and of SGD.

    Raises:
        ConfigError: Unknown scorer.

    Example:
        >>> from lort_hub.heads.methods import METHODS
        >>> training = TrainingSet(torch.tensor([[0.0], [0.1], [1.0], [1.1]]), torch.tensor([0, 0, 1, 1]), 2)
        >>> validator, ncm = Validator(training), METHODS["ncm"]
        >>> SCORERS["balanced-accuracy"](next(validator.predict(ncm, [{}]))), validator.describe(ncm, {})
        (1.0, 'stratified 5-fold cross-validation')
    """

    training: TrainingSet
    base_method: tuple[Method, Sequence[Settings]] | None = None
    base_folds: FoldHeads | None = None
    base_head: tuple[Tensor, Tensor] | None = None
    select_by: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse an unknown scorer."""
        if self.select_by is not None and self.select_by not in SCORERS:
            hint = did_you_mean(self.select_by, SCORERS)
            raise ConfigError(f"Unknown score '{self.select_by}'.{hint} Expected: {', '.join(SCORERS)}.")

    def scorer_of(self, method: Method) -> str:
        """Name the scorer that chooses a method's settings.

        The likelihood separates heads with far fewer samples than accuracy does (measured by
        benchmarks/selection_noise.py), but the logits of over-smoothed labels are no log-odds, nor are those
        of the discriminant, whose Gaussian model no features obey.
        """
        by_accuracy = method.over_smoothed or method.fitter == "discriminant"
        return self.select_by or ("balanced-accuracy" if by_accuracy else "nll")

    def describe(self, method: Method, settings: Settings) -> str:
        """Describe the source of a method's held-out predictions, for cards and records."""
        if self.uses_closed_form(method, settings):
            return self._describe("leave-one-out in closed form", self._classes_left_out_of)
        return self.describe_folds()

    def describe_folds(self) -> str:
        """Describe the source of predictions by heads of folds."""
        all_folds = f"stratified {FOLDS}-fold cross-validation"
        few = f" ({self._num_folds} of the folds)" if self._num_folds < FOLDS else ""
        return self._describe(all_folds + few, self.scored_classes)

    def _describe(self, text: str, scored: Tensor) -> str:
        torn = f"{self.training.num_torn} of groups that it was trained on" if self.training.num_torn else ""
        if self._unseen is not None:
            images = f"the {self.training.num_unseen} images held out of the backbone's training"
            return images + (f" (without {torn})" if torn else "") + self._describe_scoring(scored)
        if int(self.training.class_counts.max()) == 1:
            return "none could be, as every class has a single image"
        if self.training.groups is not None:
            text += ", groups kept together"
        if self.training.held_out is not None:
            none = f"none held out but {torn}" if torn else "none held out"
            text += f" on images the backbone was trained on ({none}), over-optimistic for tail classes"
        return text + self._describe_scoring(scored)

    def _describe_scoring(self, scored: Tensor) -> str:
        """Describe how many samples and classes (K,) are scored, if it is not all."""
        training = self.training
        total = training.num_unseen or int(training.class_counts.sum())
        some = "" if training.num_scored == total else f", scored on {training.num_scored} of {total} samples"
        missing = f", no image of {int((~scored).sum())} of {len(scored)} classes held out"
        return some if scored.all() else some + missing

    def uses_closed_form(self, method: Method, settings: Settings) -> bool:
        """Decide whether these settings are validated by leave-one-out in closed form."""
        return (
            self._unseen is None
            and method.fitter in ("exact", "closed-form")
            and not settings["tau"]
            and not settings["label_aware"]
            and settings["delta"] > 0
            and logit_gap(settings["delta"], len(self.training.class_counts)) <= CLOSED_FORM_GAP
        )

    def for_method(self, method: Method) -> Validator:
        """Return the validator of a method: on all features for heads of over-smoothed labels.

        Their weight decays are below the variances of the directions that reduced features leave out, which
        then move the head far (docs/method.md).
        """
        is_moved = method.over_smoothed and method.fitter in ("exact", "closed-form")
        is_reduced = self.training.whole is not self.training
        return self._on_all_features if is_moved and is_reduced else self

    @cached_property
    def _on_all_features(self) -> Validator:
        return replace(self, training=self.training.whole, base_method=None, base_folds=None)

    def predict(
        self,
        method: Method,
        path: Sequence[Settings],
        *,
        likelihood: bool = False,
        is_beaten: IsBeaten | None = None,
    ) -> Iterator[Predictions]:
        """Predict the held-out samples once for each setting of a path, on demand with likelihoods.

        Iterative solvers start from the heads of the setting before, and all folds share one eigenbasis.
        Where there are folds, the path ends at a setting whose predictions of the first ones are beaten.
        """
        if self.uses_closed_form(method, path[0]):
            with_likelihood = likelihood or self.scorer_of(method) == "nll"
            classes = self._classes_left_out_of
            return predict_leave_one_out(self.training, path, classes=classes, likelihood=with_likelihood)
        return self.cross_validate(method, path, is_beaten)

    def cross_validate(
        self, method: Method, path: Sequence[Settings], is_beaten: IsBeaten | None = None
    ) -> Iterator[Predictions]:
        """Predict the held-out samples by heads fitted on folds, once for each setting of a path."""
        for heads in self.fold_heads(method, path, is_beaten):
            yield self.predict_folds(heads)

    def predict_folds(self, fold_heads: FoldHeads) -> Predictions:
        """Predict the samples held out of folds by their heads, of the first folds if heads are fewer."""
        logits, labels = self.held_out_logits(fold_heads)
        held_out = gather_predictions(logits, labels, self.scored_classes, self.training.processes)
        return replace(held_out, fold_heads=fold_heads)

    def held_out_logits(self, fold_heads: FoldHeads) -> tuple[Tensor, Tensor]:
        """Compute logits (M, K) of this process's held-out samples by the heads of folds, and labels (M,)."""
        held_out = [mask for _, mask in self._folds][: len(fold_heads.heads)]
        logits = [
            self.training.matrix.where(mask).map(head.logits)
            for head, mask in zip(fold_heads.heads, held_out, strict=True)
        ]
        return torch.cat(logits), torch.cat([self.training.labels[mask] for mask in held_out])

    def mean_head(self, held_out: Predictions) -> LinearHead | None:
        """Compute the mean of the folds' linear heads, for all features; None without such heads."""
        heads = held_out.fold_heads.heads if held_out.fold_heads else ()
        linear = [head for head in heads if isinstance(head, LinearHead)]
        if not linear:
            return None
        weight = torch.stack([head.weight for head in linear]).mean(dim=0)
        bias = torch.stack([head.bias for head in linear]).mean(dim=0)
        return LinearHead(*self.training.lift_head(weight, bias))

    def fold_heads(
        self, method: Method, path: Sequence[Settings], is_beaten: IsBeaten | None = None
    ) -> Iterator[FoldHeads]:
        """Fit a head on each fold, once for each setting of a path."""
        inputs = [fold_inputs for fold_inputs, _ in self._folds]
        for settings in path:
            heads: tuple[Head, ...] = ()
            for fold_inputs in inputs:
                heads = (*heads, fit_method(method, fold_inputs, settings))
                folds = FoldHeads(self.seed, heads)
                if is_beaten and len(heads) < len(inputs) and is_beaten(self.predict_folds(folds)):
                    return
            yield folds
            inputs = [
                replace(fold_inputs, start=head) if isinstance(head, LinearHead) else fold_inputs
                for fold_inputs, head in zip(inputs, heads, strict=True)
            ]

    @cached_property
    def scored_classes(self) -> Tensor:
        """Mask (K,) of the classes that held-out samples are of.

        Heads are scored on those classes alone. Samples of other classes can only count against one that has
        none held out, such as one of a single sample: the head that neglects it most would score best.
        """
        return self._occurring(torch.stack([mask for _, mask in self._folds]).any(dim=0))

    @cached_property
    def _classes_left_out_of(self) -> Tensor:
        """Mask (K,) of the classes that leave-one-out predicts: not of one sample, or group, alone."""
        return self._occurring(self._fold_of >= 0)

    def _occurring(self, samples: Tensor) -> Tensor:
        """Mask (K,) of the classes of so masked samples of all processes; all if there are none."""
        counts = torch.bincount(self.training.labels[samples], minlength=self.training.num_classes)
        self.training.processes.all_reduce(counts)
        occurring = counts > 0
        return occurring if occurring.any() else ~occurring

    @property
    def _unseen(self) -> Tensor | None:
        return self.training.held_out if self.training.num_unseen else None

    @cached_property
    def _folds(self) -> list[tuple[FitInputs, Tensor]]:
        """Inputs of each fold's fits, and the mask (N,) of the samples that the fold predicts."""
        training = self.training
        if self._unseen is not None:
            held_out = [self._unseen]
        else:
            held_out = [self._fold_of == fold for fold in range(self._num_folds)]
        base = None if self.base_head is None else training.project_head(*self.base_head)
        inputs = [
            FitInputs(
                training,
                ~mask,
                base=base,
                tolerance=FOLD_TOLERANCE,
                seed=self.seed,
                cross_entropy=training.cross_entropy[self.seed, fold],
            )
            for fold, mask in enumerate(held_out)
        ]
        if self.base_method and self.base_head is None:
            inputs = self._with_base_heads(inputs)
        predicted = [mask & training.scoring_mask for mask in held_out]
        return list(zip(inputs, predicted, strict=True))

    @cached_property
    def _fold_of(self) -> Tensor:
        """Number of the fold that predicts each sample (N,) of this process; -1 for none."""
        training = self.training
        folds = stratified_folds(training.all_labels, FOLDS, seed=self.seed, groups=training.all_groups)
        return training.own_rows(folds)

    @property
    def _num_folds(self) -> int:
        return folds_to_predict(self.training.class_counts)

    def _with_base_heads(self, inputs: Sequence[FitInputs]) -> list[FitInputs]:
        """Set the head that methods start from on each fold, fitted on that fold."""
        assert self.base_method is not None
        if self.base_folds is not None and self.base_folds.seed == self.seed:
            heads = self.base_folds.heads
        else:
            heads = tuple(_fit_along(*self.base_method, each) for each in inputs)
        return [
            replace(fold_inputs, base=(head.weight, head.bias))
            for fold_inputs, head in zip(inputs, heads, strict=True)
            if isinstance(head, LinearHead)
        ]


def _fit_along(method: Method, path: Sequence[Settings], inputs: FitInputs) -> Head:
    """Fit the head of the last setting of a path, each solved from the one before."""
    for settings in path:
        head = fit_method(method, inputs, settings)
        inputs = replace(inputs, start=head) if isinstance(head, LinearHead) else inputs
    return head
