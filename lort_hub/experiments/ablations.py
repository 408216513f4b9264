"""The paper's studies of LORT on any features: each a series of heads that differ in one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from lort_hub.features.matrix import FeatureMatrix
from lort_hub.heads.base import Head, LinearHead, Sample
from lort_hub.heads.fit import Fit, fit_head
from lort_hub.heads.fitters import fit_method, sgd_from_base
from lort_hub.heads.methods import METHODS, STRENGTHS
from lort_hub.heads.solvers.objective import DEFAULTS, LORT_LOGIT_GAP, delta_for_gap, logit_gap
from lort_hub.heads.training_set import TrainingSet

DELTAS = (0.0, 0.2, 0.5, 0.8, 0.9, 0.98, 0.99, 0.999)
RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 1e-2)
DECAYS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)
SCALES = (0.1, 0.3, 1.0, 3.0, 10.0)
NOISE = (0.0, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Bench:
    """What the studies are made on.

    Attributes:
        training: Features (N, D) and labels.
        baseline: The head that SGD starts from.
        views: Features (N, D) of augmented views.
        seed: Seed of folds, of SGD's order and of noise.
    """

    training: TrainingSet
    baseline: Fit
    views: Sequence[FeatureMatrix] = ()
    seed: int = 0

    @property
    def delta(self) -> float:
        """LORT's delta at this number of classes."""
        return delta_for_gap(LORT_LOGIT_GAP, len(self.training.class_counts))

    def sgd(self, *, zero: bool = False, views: int = 0, **settings: float) -> LinearHead:
        """LORT by the paper's SGD, from the baseline head or from zero."""
        base = None if zero else (self.baseline.weight, self.baseline.bias)
        sample = Sample(self.training, base=base, views=tuple(self.views[:views]), seed=self.seed)
        return sgd_from_base(sample, {**DEFAULTS, "delta": self.delta, **settings})

    def lort(self, delta: float) -> Fit:
        """LORT at its optimum with balanced classes, its weight decay chosen."""
        return fit_head(self.training, "crt+lort", delta=delta, seed=self.seed)


Series = Iterator[tuple[dict[str, Any], Head]]


def delta_study(bench: Bench) -> Series:
    """Delta and the logit gap it asks for: at the optimum with balanced classes, and by SGD as published."""
    num_classes = len(bench.training.class_counts)
    for delta in DELTAS:
        gap = round(logit_gap(delta, num_classes), 3) if delta else None
        fit = bench.lort(delta) if delta else fit_head(bench.training, "crt", seed=bench.seed)
        yield {"by": "optimum, balanced", "delta": delta, "logit gap": gap}, fit.head
        yield {"by": "SGD", "delta": delta, "logit gap": gap}, bench.sgd(delta=delta)


def rate_study(bench: Bench) -> Series:
    """Learning rate of the SGD protocol, from the trained head and from zero."""
    for lr in RATES:
        for zero in (False, True):
            yield {"from": "zero" if zero else "trained head", "lr": lr}, bench.sgd(lr=lr, zero=zero)


def decay_study(bench: Bench) -> Series:
    """Weight decay of the SGD protocol."""
    for decay in DECAYS:
        for lr in (5e-5, 5e-4):
            yield {"lr": lr, "weight decay": decay}, bench.sgd(lr=lr, weight_decay=decay)


def view_study(bench: Bench) -> Series:
    """Number of augmented views that the SGD protocol sees in turn."""
    for views in range(len(bench.views) + 1):
        for lr in (5e-5, 5e-4):
            yield {"lr": lr, "views": views}, bench.sgd(lr=lr, views=views)


def scale_study(bench: Bench) -> Series:
    """A head times a constant: the same predictions, another logits magnitude, another confidence."""
    for name, head in (("baseline", bench.baseline.linear), ("lort", bench.lort(bench.delta).linear)):
        for scale in SCALES:
            scaled = replace(head, weight=scale * head.weight, bias=scale * head.bias)
            yield {"head": name, "scale": scale}, scaled


@dataclass(frozen=True)
class NoisyHead:
    """A head whose logits are disturbed in proportion to their own standard deviation.

    Attributes:
        head: The head.
        noise: Standard deviation of the disturbance over that of each class's logit.
        seed: Seed of the disturbance.
    """

    head: Head
    noise: float
    seed: int

    def logits(self, x: Tensor) -> Tensor:
        """Disturbed logits (N, K) of features (N, D)."""
        logits, random = self.head.logits(x), torch.Generator().manual_seed(self.seed)
        return logits + self.noise * logits.std(dim=0) * torch.randn(logits.shape, generator=random)


def noise_study(bench: Bench) -> Series:
    """Disturbed logits, for heads of falling logits magnitude that is balanced alike."""
    for delta in DELTAS[2:]:
        head = bench.lort(delta).head
        for noise in NOISE:
            yield {"delta": delta, "noise": noise}, NoisyHead(head, noise, bench.seed)


def path_study(bench: Bench) -> Series:
    """LORT's first step in closed form, the bias linear in the counts that it amounts to, and tau log pi."""
    sample = Sample(bench.training, base=(bench.baseline.weight, bench.baseline.bias))
    for method, setting in (
        ("lort-path", "strength"),
        ("linear-adjust", "strength"),
        ("logit-adjust", "tau"),
    ):
        for strength in STRENGTHS[::2]:
            yield (
                {"by": method, "strength": strength},
                fit_method(METHODS[method], sample, {setting: strength}),
            )


STUDIES: dict[str, Callable[[Bench], Series]] = {
    "delta": delta_study,
    "lr": rate_study,
    "weight-decay": decay_study,
    "views": view_study,
    "scale": scale_study,
    "noise": noise_study,
    "path": path_study,
}
"""By name; each yields what is varied and the head; a plot has a line for each value of the first, along the
second, and what else is told goes into the table alone."""


def _relative_spread(row: dict[str, Any]) -> float | None:
    spread, mean = row["logits_magnitude_std"], row["logits_magnitude_mean"]
    return spread / mean if mean else None  # None where one class alone has test images


def rank_correlations(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How well numbers of a head that need no label count predict its balanced accuracy, as Spearman's rho.

    Args:
        rows: Of `lort_hub.evaluation.tables.result_row`, of at least three heads.

    Returns:
        Spearman's rho by name, without the numbers that are not defined or the same for all heads.

    Example:
        >>> rows = [{"balanced_accuracy": k, "logits_magnitude_mean": k, "logits_magnitude_std": 3 - k,
        ...     "regularized_std_mean": 1, "weight_norm_spread": 1} for k in range(1, 4)]
        >>> rank_correlations(rows)["mean of LoMa"]
        1.0
    """
    numbers: dict[str, Callable[[dict[str, Any]], float | None]] = {
        "mean of LoMa": lambda row: row["logits_magnitude_mean"],
        "spread of LoMa over classes": _relative_spread,
        "mean of RSD": lambda row: row["regularized_std_mean"],
        "spread of weight norms over classes": lambda row: row["weight_norm_spread"],
    }
    found = {}
    for name, number in numbers.items():
        pairs = [
            (value, row["balanced_accuracy"])
            for row in rows
            if row["weight_norm_spread"] is not None and (value := number(row)) is not None
        ]
        if pairs and all(len(set(column)) > 1 for column in zip(*pairs, strict=True)):
            found[name] = round(float(spearmanr(*zip(*pairs, strict=True)).statistic), 3)
    return found
