"""What a head is fitted on: features, labels, and what every fit needs of them, computed once."""

from __future__ import annotations

from functools import cached_property, lru_cache

import torch
from torch import Tensor

from lort_hub.errors import FeatureError
from lort_hub.features.distributed import Processes
from lort_hub.features.matrix import FeatureMatrix
from lort_hub.features.store import Features, FeatureStore
from lort_hub.heads.solvers.eigenbasis import Eigenbasis, class_sums, covariance, eigenbasis
from lort_hub.heads.solvers.objective import sample_weights

SCORED, LEAST_SCORED = 2**26, 2
"""Numbers (256 MiB) that the features and logits of the samples that settings are scored on may take, and the
samples of each class that are scored whatever they take: one alone would hide how much the score varies."""


class TrainingSet:
    """Features and labels to fit a head on, of this process's share where there are several.

    Attributes:
        matrix: Features (N, D).
        labels: Labels (N,).
        held_out: True for samples (N,) that a backbone trained on the others has never seen; None where it
            has seen none.
        num_unseen: How many those are, over all processes; 0 where the backbone has seen none or all.
        class_counts: Samples of each class (K,), over all processes.
        sums: Sums (K, D + 1) of [x, 1] over each class's samples, over all processes, float64.

    Raises:
        FeatureError: The features are not finite, or a class has no sample.

    Example:
        >>> training = TrainingSet(torch.eye(2), torch.tensor([0, 1]), num_classes=2)
        >>> training.class_counts, training.basis(gamma=0.0).values.round(decimals=6)
        (tensor([1, 1]), tensor([0.0000, 0.5000], dtype=torch.float64))
    """

    def __init__(
        self, x: Tensor | FeatureMatrix, labels: Tensor, num_classes: int, held_out: Tensor | None = None
    ) -> None:
        """Check features (N, D), labels (N,) and which are held out (N,), in one pass over them."""
        self.matrix = FeatureMatrix.of(x) if isinstance(x, Tensor) else x
        self.labels, self.processes = labels, self.matrix.processes
        if len(self.matrix) != len(labels):
            raise FeatureError(f"Got {len(self.matrix)} feature vectors for {len(labels)} labels.")
        self.class_counts = torch.bincount(labels, minlength=num_classes)
        self.processes.total(self.class_counts)
        if len(self.class_counts) != num_classes or not self.class_counts.all():
            raise FeatureError(
                f"Expected samples of each of the {num_classes} classes, got counts "
                f"{self.class_counts.min().item()}..{self.class_counts.max().item()} "
                f"over {len(self.class_counts)} labels."
            )
        unseen = torch.zeros(()).long() if held_out is None else held_out.sum()
        self.processes.total(unseen)
        all_unseen = int(unseen) == int(self.class_counts.sum())
        self.held_out = None if all_unseen else held_out
        self.num_unseen = 0 if all_unseen else int(unseen)
        self.sums = class_sums(self.matrix, labels, torch.ones(len(labels)), num_classes)
        if not self.sums.isfinite().all():
            raise FeatureError("The features hold NaN or infinite values; extract them again.")
        self.covariance = lru_cache(maxsize=None)(self._covariance)
        self.basis = lru_cache(maxsize=None)(self._basis)

    @classmethod
    def of(
        cls,
        features: Features | FeatureStore,
        num_classes: int | None = None,
        processes: Processes | None = None,
    ) -> TrainingSet:
        """Build the training set of features in memory or on disk.

        Args:
            features: Features of the training images; of a store the evaluation view.
            num_classes: Number of classes K; None for the largest label and one.
            processes: Each of which takes its share of a store; None for all of it.
        """
        if isinstance(features, FeatureStore):
            matrix, labels, rows = features.open(processes=processes)
            unseen = features.unseen_rows(rows)
        else:
            matrix, labels, unseen = FeatureMatrix.of(features.x), features.y, features.unseen
        return cls(matrix, labels, num_classes or int(labels.max()) + 1, unseen)

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.class_counts)

    @property
    def x(self) -> Tensor:
        """The features (N, D) in memory, float32."""
        return self.matrix.whole()

    def weights(self, gamma: float) -> Tensor:
        """Weights (N,) of the samples, float64; over all processes they sum to one."""
        return sample_weights(self.labels, self.class_counts, gamma)

    def weighted_sums(self, gamma: float) -> Tensor:
        """Sums (K, D + 1) of omega_i [x_i, 1] over each class's samples, over all processes, float64."""
        each = torch.arange(self.num_classes)
        return self.sums * sample_weights(each, self.class_counts, gamma)[:, None]

    def _covariance(self, gamma: float) -> tuple[Tensor, Tensor]:
        """Weighted mean (D,) and covariance (D, D) of the features of all processes."""
        mean = self.weighted_sums(gamma)[:, :-1].sum(dim=0)
        return mean, covariance(self.matrix, self.weights(gamma), mean)

    def _basis(self, gamma: float) -> Eigenbasis:
        basis = eigenbasis(*self.covariance(gamma))
        self.processes.agree(basis.mean, basis.vectors, basis.values)
        return basis

    @cached_property
    def scored(self) -> Tensor:
        """Samples (N,) that settings are scored on: all, or as many of each class as fit into memory.

        Where the backbone was trained on some, they are of the others. Which they are does not depend on the
        number of processes.
        """
        eligible = torch.ones(len(self.all_labels), dtype=torch.bool)
        if self.held_out is not None and self.num_unseen:
            eligible = self.processes.gather(self.held_out).clone()
        labels = self.all_labels[eligible]
        counts = torch.bincount(labels, minlength=self.num_classes)
        least, most = LEAST_SCORED, max(int(counts.max()), LEAST_SCORED)
        while least < most:  # the largest number of each class that fits
            middle = (least + most + 1) // 2
            fits = int(counts.clamp_max(middle).sum()) * (self.num_classes + self.matrix.dim) <= SCORED
            least, most = (middle, most) if fits else (least, middle - 1)
        shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        order = shuffled[labels[shuffled].argsort(stable=True)]
        place = torch.empty_like(labels)
        first = counts.cumsum(0) - counts
        place[order] = torch.arange(len(labels)) - first[labels[order]]
        eligible[eligible.clone()] = place < most
        return self.own(eligible)

    @cached_property
    def num_scored(self) -> int:
        """How many samples settings are scored on, over all processes."""
        count = self.scored.sum()
        self.processes.total(count)
        return int(count)

    @cached_property
    def all_labels(self) -> Tensor:
        """The labels of all processes, in their order."""
        return self.processes.gather(self.labels)

    def own(self, values: Tensor) -> Tensor:
        """This process's part of something about the samples of all."""
        sizes = torch.zeros(self.processes.count, dtype=torch.int64)
        sizes[self.processes.index] = len(self.labels)
        self.processes.total(sizes)
        own: Tensor = values.split(sizes.tolist())[self.processes.index]
        return own
