"""Collect what there is to know of a data set before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lort_hub.audit.record import ClassCounts, GroupCounts, Place, RepeatCounts, Spread
from lort_hub.data.dataset import Duplicate, ImageSplit, LongTailedData
from lort_hub.data.near_duplicates import NearDuplicate, find_near_duplicates
from lort_hub.data.overlap import list_copies
from lort_hub.data.scan import ImageFacts, find_broken, scan_images
from lort_hub.evaluation.metrics import class_groups
from lort_hub.features.matrix import CPU
from lort_hub.features.store import FeatureStore
from lort_hub.heads.repetition import repetition_note
from lort_hub.heads.suspicious import LabelCheck, SuspiciousLabel, check_labels
from lort_hub.heads.training_set import TrainingSet


@dataclass(frozen=True)
class Audit:
    """What was found in a data set. Positions count its training images first, then its test images.

    Attributes:
        data: The data set.
        facts: What is known of each image.
        copies: Images of which there is another one, byte for byte.
        pairs: Pairs of images that are the same but for their file.
        labels: What the features say of the labels; None without features.
        repetition: Note that the data repeat themselves by the features; None where they do not.
    """

    data: LongTailedData
    facts: tuple[ImageFacts, ...]
    copies: tuple[Duplicate, ...]
    pairs: tuple[NearDuplicate, ...]
    labels: LabelCheck | None = None
    repetition: str | None = None

    @classmethod
    def collect(cls, data: LongTailedData, num_workers: int = 0) -> Audit:
        """Decode every image once, and look for copies and near-duplicates.

        Args:
            data: The data set.
            num_workers: Decoding threads.

        Example:
            >>> from lort_hub.data.load import load_long_tailed
            >>> audit = Audit.collect(load_long_tailed("digits"))
            >>> len(audit.facts), len(audit.broken), len(audit.copies)
            (1023, 0, 0)
        """
        scans = [scan_images(split, num_workers) for split in (data.train, data.test)]
        contents = [one for split in (data.train, data.test) if (one := split.contents) is not None]
        pairs = find_near_duplicates(
            np.concatenate([scan.prints for scan in scans]), np.concatenate(contents)
        )
        copies = list_copies(data.train, data.test)
        return cls(data, scans[0].facts + scans[1].facts, copies, tuple(pairs))

    def with_labels(self, train: FeatureStore, test: FeatureStore, *, device: torch.device = CPU) -> Audit:
        """Check the labels of all images by their features, those for the test too.

        Args:
            train: Features of the training images, without the broken ones.
            test: Features of the test images.
            device: Where to compute: a GPU, or the CPU.
        """
        matrices, of_split, rows = zip(*(store.open() for store in (train, test)), strict=True)
        groups = [store.group_rows(own) for store, own in zip((train, test), rows, strict=True)]
        known = [one for one in groups if one is not None]
        present, numbers = torch.cat(of_split).unique(
            return_inverse=True
        )  # broken images may be all of a class
        together = torch.cat(known) if len(known) == len(groups) else None
        matrix = matrices[0].concatenate(matrices[1:]).to(device)
        training = TrainingSet(matrix, numbers, len(present), groups=together)
        check = check_labels(training)
        position = torch.cat([rows[0], rows[1] + len(self.data.train)]).tolist()
        suspicious = [
            SuspiciousLabel(
                position[one.row],
                int(present[one.label]),
                int(present[one.predicted]),
                one.margin,
                tuple(position[at] for at in one.neighbours),
            )
            for one in check.suspicious
        ]
        labels = LabelCheck(check.agreement, tuple(suspicious), check.judged)
        return replace(self, labels=labels, repetition=repetition_note(training))

    @property
    def broken(self) -> dict[int, str]:
        """Why images cannot be decoded, by their position."""
        return find_broken(self.facts)

    @cached_property
    def class_of(self) -> NDArray[np.int64]:
        """Labels (N,) of all images."""
        return np.concatenate([self.data.train.labels, self.data.test.labels])

    @cached_property
    def _files(self) -> list[str]:
        splits = (self.data.train, self.data.test)
        return [split.name_of(file or "") for split in splits for file in split.files()]

    def place(self, at: int) -> Place:
        """Say where an image is."""
        use, split, row = self._split_of(at)
        name = self.data.class_names[self.class_of[at]]
        return Place(use, split.name, int(split.rows[row]), self._files[at], name)

    def image(self, at: int) -> Image.Image:
        """Decode an image to RGB, upright."""
        _, split, row = self._split_of(at)
        return split.image(row)

    def _split_of(self, at: int) -> tuple[str, ImageSplit, int]:
        number = len(self.data.train)
        return ("training", self.data.train, at) if at < number else ("test", self.data.test, at - number)

    @cached_property
    def copy_sets(self) -> list[tuple[int, ...]]:
        """Positions of images of the same bytes by set: sets of several classes first, then the largest."""
        contents = [self.data.train.contents, self.data.test.contents]
        joined = np.concatenate([one for one in contents if one is not None])
        return self._ordered(joined)

    @cached_property
    def near_sets(self) -> list[tuple[int, ...]]:
        """Positions of images that pairs join, in the same order."""
        number = len(self.class_of)
        joined = np.array([pair[:2] for pair in self.pairs], dtype=np.int64).reshape(-1, 2).T
        edges = coo_matrix((np.ones(joined.shape[1]), tuple(joined)), shape=(number, number))
        return self._ordered(connected_components(edges, directed=False)[1])

    def _ordered(self, numbers: NDArray[Any]) -> list[tuple[int, ...]]:
        order = np.argsort(numbers, kind="stable")
        sets = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
        several = [tuple(one.tolist()) for one in sets if len(one) > 1]
        return sorted(several, key=lambda one: (-len({*self.class_of[list(one)].tolist()}), -len(one), one))

    def count_repeats(self, sets: Iterable[Sequence[int]]) -> RepeatCounts:
        """Count the images in sets such as `copy_sets`.

        Example:
            >>> from lort_hub.data.load import load_long_tailed
            >>> data = load_long_tailed("digits")
            >>> Audit(data, (), (), ()).count_repeats([(0, 1, 600)]).across
            1
        """
        number, counts = len(self.data.train), Counter[str]()
        for one in sets:
            train = [at for at in one if at < number]
            test = [at for at in one if at >= number]
            counts["within_training"] += len(train) * (len(train) > 1)
            counts["within_test"] += len(test) * (len(test) > 1)
            counts["across"] += len(test) * bool(train)
            counts["images"] += len(one)
            counts["other_class"] += len(one) * (len({*self.class_of[list(one)].tolist()}) > 1)
        names = ("images", "within_training", "within_test", "across", "other_class")
        return RepeatCounts(**{name: counts[name] for name in names})

    def count_classes(self, thresholds: tuple[int, int]) -> tuple[tuple[ClassCounts, ...], list[GroupCounts]]:
        """Count the images of each class, the most training images first, and of each group of classes.

        Args:
            thresholds: As in `class_groups`.

        Example:
            >>> from lort_hub.data.load import load_long_tailed
            >>> classes, groups = Audit(load_long_tailed("digits"), (), (), ()).count_classes((20, 100))
            >>> classes[0].training, [(one.group, one.classes) for one in groups]
            (128, [('many', 1), ('medium', 7), ('few', 2)])
        """
        train, test = (
            self.data.class_counts,
            np.bincount(self.data.test.labels, minlength=self.data.num_classes),
        )
        low, high = thresholds
        words = {"many": f"more than {high}", "medium": f"{low} to {high}", "few": f"fewer than {low}"}
        members = class_groups(train, thresholds)
        group_of = {int(k): name for name, classes in members.items() for k in classes}
        classes = tuple(
            ClassCounts(self.data.class_names[k], int(train[k]), int(test[k]), group_of[int(k)])
            for k in np.argsort(-train, kind="stable")
        )
        groups = [
            GroupCounts(name, words[name], len(own), int(train[own].sum()), int(test[own].sum()))
            for name, own in members.items()
        ]
        return classes, groups

    def spread(self, name: str) -> Spread | None:
        """Compute how the width or the height spreads over the images that can be decoded."""
        values = [getattr(one, name) for one in self.facts if not one.error]
        if not values:
            return None
        return Spread(*np.quantile(values, [0, 0.1, 0.5, 0.9, 1], method="nearest").astype(int).tolist())

    def count_by(self, name: str) -> dict[str, int]:
        """Count the images that can be decoded by their mode or format, the most frequent first."""
        return dict(
            Counter(getattr(one, name) or "none" for one in self.facts if not one.error).most_common()
        )
