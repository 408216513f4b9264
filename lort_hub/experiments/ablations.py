"""Run the ablations of the paper on any features: each fits heads that differ in one or two settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from lort_hub.evaluation.report import ResultRow
from lort_hub.features.matrix import CPU, FeatureMatrix
from lort_hub.heads.base import FitInputs, Head, LinearHead, move_head
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitted import Fit
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
    """The features and the baseline of the ablations.

    Attributes:
        training: Features (N, D) and labels.
        baseline: Head that SGD starts from.
        views: Features (N, D) of augmented views.
        seed: Seed of the folds, of the order of SGD and of the noise.
    """

    training: TrainingSet
    baseline: Fit
    views: Sequence[FeatureMatrix] = ()
    seed: int = 0

    @property
    def delta(self) -> float:
        """Delta of LORT at this number of classes."""
        return delta_for_gap(LORT_LOGIT_GAP, len(self.training.class_counts))

    def sgd(self, *, zero: bool = False, views: int = 0, **settings: float) -> LinearHead:
        """Fit LORT by the SGD of the paper, from the baseline head or from zero."""
        base = None if zero else self.baseline.base
        sample = FitInputs(self.training, base=base, views=tuple(self.views[:views]), seed=self.seed)
        return move_head(sgd_from_base(sample, {**DEFAULTS, "delta": self.delta, **settings}), CPU)

    def lort(self, delta: float) -> Fit:
        """Fit LORT to its optimum with balanced classes and a chosen weight decay."""
        return fit_head(self.training, "crt+lort", delta=delta, calibrate=False, seed=self.seed)


Series = Iterator[tuple[dict[str, Any], Head]]


def delta_study(bench: Bench) -> Series:
    """Vary delta, and so the logit gap: at the optimum with balanced classes, and by SGD as published."""
    num_classes = len(bench.training.class_counts)
    for delta in DELTAS:
        gap = round(logit_gap(delta, num_classes), 3) if delta else None
        fit = (
            bench.lort(delta) if delta else fit_head(bench.training, "crt", calibrate=False, seed=bench.seed)
        )
        yield {"by": "optimum, balanced", "delta": delta, "logit gap": gap}, fit.head
        yield {"by": "SGD", "delta": delta, "logit gap": gap}, bench.sgd(delta=delta)


def rate_study(bench: Bench) -> Series:
    """Vary the learning rate of SGD, from the trained head and from zero."""
    for lr in RATES:
        for zero in (False, True):
            yield {"from": "zero" if zero else "trained head", "lr": lr}, bench.sgd(lr=lr, zero=zero)


def decay_study(bench: Bench) -> Series:
    """Vary the weight decay of SGD."""
    for decay in DECAYS:
        for lr in (5e-5, 5e-4):
            yield {"lr": lr, "weight decay": decay}, bench.sgd(lr=lr, weight_decay=decay)


def view_study(bench: Bench) -> Series:
    """Vary the number of augmented views that SGD uses in turn."""
    for views in range(len(bench.views) + 1):
        for lr in (5e-5, 5e-4):
            yield {"lr": lr, "views": views}, bench.sgd(lr=lr, views=views)


def scale_study(bench: Bench) -> Series:
    """Multiply heads by a constant: the predictions stay, logits magnitude and confidence change."""
    for name, head in (("baseline", bench.baseline.linear), ("lort", bench.lort(bench.delta).linear)):
        for scale in SCALES:
            scaled = replace(head, weight=scale * head.weight, bias=scale * head.bias)
            yield {"head": name, "scale": scale}, scaled


@dataclass(frozen=True)
class NoisyHead:
    """A head with noise added to its logits, in proportion to their standard deviation.

    Attributes:
        head: The head.
        noise: Standard deviation of the noise over that of the logit of each class.
        seed: Seed of the noise.
    """

    head: Head
    noise: float
    seed: int

    def logits(self, x: Tensor) -> Tensor:
        """Compute noisy logits (N, K) of features (N, D)."""
        logits, random = self.head.logits(x), torch.Generator().manual_seed(self.seed)
        return logits + self.noise * logits.std(dim=0) * torch.randn(logits.shape, generator=random)


def noise_study(bench: Bench) -> Series:
    """Add noise to the logits of heads with smaller and smaller logits magnitude."""
    for delta in DELTAS[2:]:
        head = bench.lort(delta).head
        for noise in NOISE:
            yield {"delta": delta, "noise": noise}, NoisyHead(head, noise, bench.seed)


def path_study(bench: Bench) -> Series:
    """Vary the strength of LORT's first step, of a bias linear in the counts, and of logit adjustment."""
    sample = FitInputs(bench.training, base=bench.baseline.base)
    for method, setting in (
        ("lort-path", "strength"),
        ("linear-adjust", "strength"),
        ("logit-adjust", "tau"),
    ):
        for strength in STRENGTHS[::2]:
            head = fit_method(METHODS[method], sample, {setting: strength})
            yield {"by": method, "strength": strength}, move_head(head, CPU)


STUDIES: dict[str, Callable[[Bench], Series]] = {
    "delta": delta_study,
    "lr": rate_study,
    "weight-decay": decay_study,
    "views": view_study,
    "scale": scale_study,
    "noise": noise_study,
    "path": path_study,
}
"""Ablations by name. Each yields settings and a head: a plot has a line for each value of the first setting,
along the second; a third is in the table only."""


def _relative_spread(row: ResultRow) -> float | None:
    mean, std = row.logits_magnitude_mean, row.logits_magnitude_std
    return std / mean if mean and std is not None else None  # None where one class alone has test images


def rank_correlations(rows: Sequence[ResultRow]) -> dict[str, float]:
    """Correlate numbers of the heads that need no class counts with balanced accuracy, by Spearman's rho.

    Args:
        rows: Rows of at least three linear heads; others are ignored.

    Returns:
        Rho of each number that is defined and not the same for all heads.

    Example:
        >>> import numpy as np
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> from lort_hub.evaluation.tables import result_row
        >>> counts = np.array([200, 5])
        >>> report = evaluate(np.eye(2), np.array([0, 1]), counts, weight=np.eye(2))
        >>> row = result_row(report, counts, method="scale", seed=0, seconds=0.1, chosen={})
        >>> rows = [replace(row, balanced_accuracy=k / 3, logits_magnitude_mean=k) for k in (1, 2, 3)]
        >>> rank_correlations(rows)["mean of LoMa"]
        1.0
    """
    numbers: dict[str, Callable[[ResultRow], float | None]] = {
        "mean of LoMa": lambda row: row.logits_magnitude_mean,
        "spread of LoMa over classes": _relative_spread,
        "mean of RSD": lambda row: row.regularized_std_mean,
        "spread of weight norms over classes": lambda row: row.weight_norm_spread,
    }
    linear = [row for row in rows if row.weight_norm_spread is not None]
    correlations = {}
    for name, number in numbers.items():
        pairs = [(value, row.balanced_accuracy) for row in linear if (value := number(row)) is not None]
        if pairs and all(len(set(column)) > 1 for column in zip(*pairs, strict=True)):
            correlations[name] = round(float(spearmanr(*zip(*pairs, strict=True)).statistic), 3)
    return correlations
