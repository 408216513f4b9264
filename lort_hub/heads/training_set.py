"""Hold the features and labels that heads are fitted on, with the sums and bases that fits share."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from lort_hub.errors import FeatureError
from lort_hub.features.distributed import Processes
from lort_hub.features.matrix import CPU, FeatureMatrix
from lort_hub.features.store import Features, FeatureStore
from lort_hub.heads.solvers.eigenbasis import Eigenbasis, class_sums, covariance, eigenbasis
from lort_hub.heads.solvers.objective import Objective, sample_weights

SCORING_NUMBERS = 2**26
"""Largest number of float32 features and logits (256 MiB) of the samples that settings are scored on."""
KEPT_VARIANCE = 0.9
"""Share of the features' variance that is kept while settings are chosen."""
KEPT_DIRECTIONS = 512
"""Directions that are kept in any case: those with most of the variance of few samples have less of that of
others."""
NO_VARIANCE = 1e-6
"""Share of the variance that directions without any may have by rounding."""
MIN_WIDTH = 256
"""Features that are not reduced: their products are quick as they are."""
REDUCED_NUMBERS = 2**29
"""Largest number of float32 features (2 GiB) that reduced features may have to be kept in memory."""
MIN_SCORED = 2
"""Samples of each class that are scored in any case: with one, the score's variance would be unknown."""


class TrainingSet:
    """Features and labels to fit heads on: all samples, or this process's share of them.

    What has a row for each sample, and sums over samples, are where the features are: on a GPU or in memory.

    Attributes:
        matrix: Features (N, D).
        device: Where the features are, and where heads are solved.
        labels: Labels (N,).
        held_out: True for samples (N,) that were held out of the backbone's training, and all others of their
            group; None if the backbone was trained on no sample.
        num_unseen: Number of held-out samples over all processes; 0 if the backbone was trained on no sample
            or on all.
        num_torn: Number of samples, over all processes, that were held out where others of their group were
            not: such a sample is as good as seen.
        groups: Group numbers (N,) of samples that belong together; None if each is a group of its own.
        class_counts: Samples of each class (K,), over all processes, on the CPU.
        sums: Sums (K, D + 1) of [x, 1] over each class's samples, over all processes, float64.
        width: Features before they were reduced.
        directions: Orthonormal directions (width, D) that reduced features are along; None for all.
        whole: The training set before its features were reduced.
        cross_entropy: Cache of the heads of cross-entropy on each fold, by the folds' seed and its number.
        longest_weight: Cache of the norm of the longest class weight of the optimum, by the objective.
        covariance: Weighted mean (D,) and covariance (D, D) of all samples, as a cached function of gamma.
        basis: Eigenbasis of that covariance, as a cached function of gamma.

    Raises:
        FeatureError: The features are not finite, a class has no sample, or the labels are no numbers from 0.

    Example:
        >>> training = TrainingSet(torch.eye(2), torch.tensor([0, 1]), num_classes=2)
        >>> training.class_counts, training.basis(gamma=0.0).values.round(decimals=6)
        (tensor([1, 1]), tensor([0.0000, 0.5000], dtype=torch.float64))
    """

    def __init__(
        self,
        x: Tensor | FeatureMatrix,
        labels: Tensor,
        num_classes: int,
        held_out: Tensor | None = None,
        groups: Tensor | None = None,
        *,
        directions: Tensor | None = None,
        whole: TrainingSet | None = None,
    ) -> None:
        """Check features (N, D), labels, held-out samples and groups (N,), in one pass over the features."""
        self.matrix = FeatureMatrix.of(x) if isinstance(x, Tensor) else x
        self.processes, self.device = self.matrix.processes, self.matrix.device
        labels = _whole_numbers(labels)
        self.labels, self.directions, self.whole = labels.to(self.device), directions, whole or self
        self.width = self.matrix.dim if directions is None else len(directions)
        if len(self.matrix) != len(labels):
            raise FeatureError(f"Got {len(self.matrix)} feature vectors for {len(labels)} labels.")
        self.class_counts = torch.bincount(labels, minlength=num_classes).cpu()
        self.processes.all_reduce(self.class_counts)
        if len(self.class_counts) != num_classes or not self.class_counts.all():
            raise FeatureError(
                f"Expected samples of each of the {num_classes} classes, got counts "
                f"{self.class_counts.min().item()}..{self.class_counts.max().item()} "
                f"over {len(self.class_counts)} labels."
            )
        self.groups = None if groups is None or self._are_alone(groups) else groups.to(self.device)
        self._told_held_out = held_out
        unseen = None if held_out is None else self._without_seen_groups(held_out.to(self.device))
        self.num_unseen = self._count(unseen)
        self.num_torn = self._count(held_out) - self.num_unseen
        if self.num_unseen == int(self.class_counts.sum()):
            unseen, self.num_unseen = None, 0
        self.held_out = unseen
        ones = torch.ones(len(labels), device=self.device)
        self.sums = class_sums(self.matrix, self.labels, ones, num_classes)
        if not self.sums.isfinite().all():
            raise FeatureError("The features hold NaN or infinite values; extract them again.")
        self.cross_entropy: dict[tuple[int, int], dict[Any, Any]] = defaultdict(dict)
        self.longest_weight: dict[Objective, float] = {}
        self.covariance = lru_cache(maxsize=None)(self._covariance)
        self.basis = lru_cache(maxsize=None)(self._basis)

    @classmethod
    def of(
        cls,
        features: Features | FeatureStore,
        num_classes: int | None = None,
        processes: Processes | None = None,
        device: torch.device = CPU,
    ) -> TrainingSet:
        """Build the training set of features in memory or on disk.

        Args:
            features: Features of the training images; of a store the evaluation view.
            num_classes: Number of classes K; None for the largest label and one.
            processes: Each of which takes its share of a store; None for all of it.
            device: Where heads are solved: a GPU, or the CPU.
        """
        if isinstance(features, FeatureStore):
            matrix, labels, rows = features.open(processes=processes)
            unseen, groups = features.unseen_rows(rows), features.group_rows(rows)
        else:
            matrix, labels = FeatureMatrix.of(features.x), features.y
            unseen, groups = features.unseen, features.groups
        return cls(
            matrix.to(device), labels, num_classes or int(_whole_numbers(labels).max()) + 1, unseen, groups
        )

    def _are_alone(self, groups: Tensor) -> bool:
        """Check whether each sample of all processes is a group of its own."""
        every = self.processes.gather(groups)
        return len(every.unique()) == len(every)

    def _without_seen_groups(self, held_out: Tensor) -> Tensor:
        """Mark the held-out samples (N,) of groups of which the backbone was trained on no sample."""
        if self.groups is None:
            return held_out
        return held_out & ~torch.isin(self.groups, self.processes.gather(self.groups[~held_out]))

    def _count(self, mask: Tensor | None) -> int:
        """Count so masked samples (N,) over all processes; none without a mask."""
        count = torch.zeros(()).long() if mask is None else mask.sum().cpu()
        self.processes.all_reduce(count)
        return int(count)

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.class_counts)

    @property
    def x(self) -> Tensor:
        """Features (N, D) in memory, float32."""
        return self.matrix.whole()

    @cached_property
    def reduced(self) -> TrainingSet:
        """The features along the principal directions with most of their variance, and along their mean.

        Settings are chosen on them. A rotation of the features rotates every method's head alike, so all
        that is lost is what heads find in the directions left out.

        Example:
            >>> x = torch.eye(300).repeat(2, 1) * torch.tensor([1.0] * 30 + [1e-5] * 270)
            >>> TrainingSet(x, torch.arange(600) % 2, num_classes=2).reduced.matrix.dim
            31
        """
        if self.width < MIN_WIDTH or self.directions is not None:
            return self
        basis = self.basis(0.0)
        values = basis.values.cpu()  # a GPU's cumulative sums differ from run to run
        shares = values.cumsum(0) / values.sum()
        left_out = shares <= 1 - KEPT_VARIANCE
        left_out[-KEPT_DIRECTIONS:] = shares[-KEPT_DIRECTIONS:] <= NO_VARIANCE
        vectors = basis.vectors[:, (~left_out).to(self.device)]
        beside = basis.mean - vectors @ (vectors.T @ basis.mean)
        if vectors.shape[1] + 1 >= self.width:
            return self
        is_apart = beside.norm() > 1e-6 * basis.mean.norm()  # not rounding alone, which may lie anywhere
        directions = torch.cat([vectors, (beside / beside.norm())[:, None]], dim=1) if is_apart else vectors
        matrix = self.matrix.project(directions).load(REDUCED_NUMBERS)
        told = self._told_held_out, self.groups
        return TrainingSet(matrix, self.labels, self.num_classes, *told, directions=directions, whole=self)

    def project_head(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Convert a head (K, width), (K,) to one (K, D), (K,) of the reduced features, where they are."""
        weight, bias = weight.to(self.device), bias.to(self.device)
        return (weight if self.directions is None else weight @ self.directions.to(weight)), bias

    def lift_head(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Convert a head (K, D), (K,) of the reduced features to one (K, width), (K,) of all."""
        return (weight if self.directions is None else weight @ self.directions.T.to(weight)), bias

    def weights(self, gamma: float) -> Tensor:
        """Compute the sample weights (N,), float64, which sum to 1 over all processes."""
        return sample_weights(self.labels, self.class_counts, gamma)

    def weighted_sums(self, gamma: float) -> Tensor:
        """Sum omega_i [x_i, 1] over each class's samples (K, D + 1), over all processes, float64."""
        classes = torch.arange(self.num_classes, device=self.device)
        return self.sums * sample_weights(classes, self.class_counts, gamma)[:, None]

    def _covariance(self, gamma: float) -> tuple[Tensor, Tensor]:
        mean = self.weighted_sums(gamma)[:, :-1].sum(dim=0)
        return mean, covariance(self.matrix, self.weights(gamma), mean)

    def _basis(self, gamma: float) -> Eigenbasis:
        basis = eigenbasis(*self.covariance(gamma))
        self.processes.broadcast(basis.mean, basis.vectors, basis.values)
        return basis

    @cached_property
    def scoring_mask(self) -> Tensor:
        """True for the samples (N,) that settings are scored on: all, or as many per class as fit in memory.

        Samples that the backbone was trained on are never among them if others exist. The choice does not
        depend on the number of processes.
        """
        eligible = torch.ones(len(self.all_labels), dtype=torch.bool)
        if self.held_out is not None and self.num_unseen:
            eligible = self.processes.gather(self.held_out.cpu())
        labels = self.all_labels[eligible]
        counts = torch.bincount(labels, minlength=self.num_classes)
        per_class = _largest_class_size(counts, SCORING_NUMBERS // (self.num_classes + self.width))
        mask = torch.zeros_like(eligible)
        mask[eligible] = _random_ranks(labels, counts) < per_class
        return self.own_rows(mask)

    @cached_property
    def num_scored(self) -> int:
        """Number of samples that settings are scored on, over all processes."""
        return self._count(self.scoring_mask)

    @cached_property
    def all_labels(self) -> Tensor:
        """Labels of all processes, in their order, on the CPU."""
        return self.processes.gather(self.labels.cpu())

    @cached_property
    def all_groups(self) -> Tensor | None:
        """Group numbers of all processes, as `all_labels`; None if each sample is a group of its own."""
        return None if self.groups is None else self.processes.gather(self.groups.cpu())

    def own_rows(self, values: Tensor) -> Tensor:
        """Select this process's rows of values that have a row for each sample of all processes."""
        sizes = torch.zeros(self.processes.count, dtype=torch.int64)
        sizes[self.processes.index] = len(self.labels)
        self.processes.all_reduce(sizes)
        own: Tensor = values.split(sizes.tolist())[self.processes.index]
        return own.to(self.device)


def _whole_numbers(labels: Tensor) -> Tensor:
    """Convert labels (N,) of any integer type to int64, which sums and indices need; refuse what are none."""
    is_whole = not labels.is_floating_point() and labels.dtype != torch.bool
    if not is_whole or (labels.long() < 0).any():
        kind = str(labels.dtype).removeprefix("torch.")
        least = f", {labels.min().item()} the least" if labels.numel() else ""
        raise FeatureError(
            f"The labels are {kind}{least}; expected whole numbers from 0.\n"
            "Number the classes 0, 1, ...: `labels.long()` where they are numbered so already."
        )
    return labels.long()


def _largest_class_size(counts: Tensor, max_samples: int) -> int:
    """Find the largest number per class, at least `MIN_SCORED`, of at most `max_samples`, by bisection."""
    low, high = MIN_SCORED, max(int(counts.max()), MIN_SCORED)
    while low < high:
        middle = (low + high + 1) // 2
        fits = int(counts.clamp_max(middle).sum()) <= max_samples
        low, high = (middle, high) if fits else (low, middle - 1)
    return high


def _random_ranks(labels: Tensor, counts: Tensor) -> Tensor:
    """Rank the samples (N,) of each class 0, 1, ... in a random order."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    first_of_class = counts.cumsum(0) - counts
    ranks = torch.empty_like(labels)
    ranks[by_class] = torch.arange(len(labels)) - first_of_class[labels[by_class]]
    return ranks
