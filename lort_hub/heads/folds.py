"""Assign training samples to the folds of cross-validation: classes spread evenly, groups kept together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lort_hub.heads.base import Head

FOLDS = 5
EFFECTIVE_SAMPLES = 4000
"""Held-out samples after which no more folds are predicted, counted as if all classes had as many."""


@dataclass(frozen=True)
class FoldHeads:
    """Heads fitted on the folds of a training set.

    Attributes:
        seed: Seed of the folds.
        heads: Head of each fold, fitted without its samples.
    """

    seed: int
    heads: tuple[Head, ...]


def effective_samples(class_counts: Tensor) -> float:
    """Count the samples of a score in which all classes count the same, as if all had as many.

    The variance of a mean over K classes of n_k samples each is that of K^2 / sum_k (1 / n_k) samples.

    Args:
        class_counts: Samples n_k of each class (K,), all positive.

    Example:
        >>> effective_samples(torch.tensor([100, 100])), round(effective_samples(torch.tensor([10, 10**6])))
        (200.0, 40)
    """
    return float(len(class_counts) ** 2 / (1 / class_counts.double()).sum())


def folds_to_predict(class_counts: Tensor) -> int:
    """Decide how many of the folds are predicted: as many as make scores precise, as each costs a fit.

    Args:
        class_counts: Samples n_k of each class (K,), all positive.

    Example:
        >>> folds_to_predict(torch.tensor([100, 100])), folds_to_predict(torch.tensor([10**4, 10**4]))
        (5, 1)
    """
    return min(FOLDS, max(1, math.ceil(FOLDS * EFFECTIVE_SAMPLES / effective_samples(class_counts))))


def stratified_folds(labels: Tensor, folds: int, *, seed: int, groups: Tensor | None = None) -> Tensor:
    """Assign samples (N,) to folds, each class spread evenly; -1 for the only sample of a class.

    Args:
        labels: Labels (N,).
        folds: Number of folds.
        seed: Seed of the order within a class.
        groups: Group numbers (N,): samples of one group get the same fold, or -1 where a class would be in
            one fold alone; None if each sample is a group of its own.

    Example:
        >>> stratified_folds(torch.tensor([0, 0, 1, 2, 2, 2]), 2, seed=0).sort().values
        tensor([-1,  0,  0,  1,  1,  1])
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    fold_of = torch.empty_like(labels)
    shared = torch.zeros(len(labels), dtype=torch.bool)
    if groups is not None:
        _, number, sizes = groups.unique(return_inverse=True, return_counts=True)
        shared = sizes[number] > 1
        _fold_groups(fold_of, labels, number, shuffled[shared[shuffled]], folds)
    alone = shuffled[~shared[shuffled]]
    order = alone[labels[alone].argsort(stable=True)]
    fold_of[order] = torch.arange(len(order)) % folds
    counts = torch.zeros(int(labels.max()) + 1, folds, dtype=torch.int64)
    counts.index_put_((labels, fold_of), torch.tensor(1), accumulate=True)
    for label in ((counts > 0).sum(dim=1) == 1).nonzero().flatten():  # a class in one fold alone
        first = (labels == label).nonzero()[0]
        fold_of[first if groups is None else groups == groups[first]] = -1
    return fold_of


def _fold_groups(fold_of: Tensor, labels: Tensor, number: Tensor, rows: Tensor, folds: int) -> None:
    """Assign groups, the largest first, to the fold with the fewest samples of their rarest class."""
    order = rows[number[rows].argsort(stable=True)]
    groups = order.split(torch.bincount(number[order])[number[order].unique()].tolist())
    counts = torch.bincount(labels)
    load = torch.zeros(len(counts), folds, dtype=torch.int64)
    for members in sorted(groups, key=len, reverse=True):
        own = labels[members]
        rarest = own[counts[own].argmin()]
        fold = int((load[rarest] * len(labels) + load.sum(dim=0)).argmin())
        fold_of[members] = fold
        load[:, fold] += torch.bincount(own, minlength=len(counts))
