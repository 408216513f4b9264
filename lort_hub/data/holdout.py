"""Hold out training images from a backbone's training, and record which images it was trained on.

A backbone memorises its training images; settings of a head that are chosen on them are over-optimistic for
tail classes (docs/method.md).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lort_hub.data.dataset import ImageSplit, LongTailedData


def hold_out(split: ImageSplit, share: float, *, seed: int = 0) -> tuple[ImageSplit, ImageSplit]:
    """Split off a share of each class: at least one image of a class that has two or more.

    Images of one group stay together, though more of a class may be held out then, or fewer where that
    would take a class's last image.

    Args:
        split: The images.
        share: Share of each class to hold out, rounded down to whole images; 0 holds out nothing.
        seed: Seed of the random choice.

    Returns:
        The images to train on, and the held-out images.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> train, held_out = hold_out(load_long_tailed("digits", imbalance="exp:10").train, 0.1)
        >>> np.bincount(held_out.labels)
        array([12, 10,  7,  6,  4,  3,  2,  2,  1,  1])
    """
    rng, held_out = np.random.default_rng(seed), np.zeros(len(split), dtype=bool)
    groups = np.arange(len(split)) if split.groups is None else split.groups
    number = np.unique(groups, return_inverse=True)[1]
    members = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    left = np.bincount(split.labels, minlength=len(split.class_names))
    counts = left.copy()
    for label in range(len(split.class_names)):
        rows = rng.permutation(np.flatnonzero(split.labels == label))
        wanted = max(int(len(rows) * share), int(share > 0 and len(rows) > 1))
        for row in rows:
            if counts[label] - left[label] >= wanted:
                break
            group = members[number[row]]
            labels, taken = np.unique(split.labels[group], return_counts=True)
            if not held_out[row] and (taken < left[labels]).all():
                held_out[group] = True
                left[labels] -= taken
    return split.take(np.flatnonzero(~held_out)), split.take(np.flatnonzero(held_out))


@dataclass(frozen=True)
class TrainedOn:
    """Record, in run.json, of the images that a backbone was trained on.

    Attributes:
        dataset: Hub id or folder.
        split: Name of the original split.
        rows: Rows of that split that it was trained on.
        fingerprint: `ImageSplit.fingerprint()` of the training images and the held-out ones together.
    """

    dataset: str
    split: str
    rows: tuple[int, ...]
    fingerprint: str

    @classmethod
    def of(cls, data: LongTailedData, trained: ImageSplit) -> TrainedOn:
        """Make the record of a training on `trained`, a part of the training images of `data`."""
        rows = tuple(int(row) for row in trained.rows)
        return cls(data.source["dataset"], data.train.name, rows, data.train.fingerprint())

    @classmethod
    def read(cls, folder: Path) -> TrainedOn | None:
        """Read the record of a model folder; None where lort_hub did not train its backbone."""
        try:
            record = json.loads((folder / "run.json").read_text())["backbone"]["trained_on"]
            return cls(**{**record, "rows": tuple(record["rows"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON-ready values."""
        return asdict(self)

    def unseen_mask(self, data: LongTailedData) -> NDArray[np.bool_] | None:
        """Mark the training images (N,) of `data` that the backbone was not trained on.

        Returns:
            The mask; None if `data` is neither the recorded data set nor a copy of it, so nothing is known.

        Example:
            >>> from lort_hub.data.load import load_long_tailed
            >>> data = load_long_tailed("digits")
            >>> TrainedOn.of(data, data.train.take(np.array([1, 2]))).unseen_mask(data)[:4]
            array([ True, False, False,  True])
        """
        source = (data.source["dataset"], data.train.name)
        if data.train.fingerprint() != self.fingerprint and source != (self.dataset, self.split):
            return None
        return ~np.isin(data.train.rows, self.rows)

    def unknown_data_warning(self) -> str:
        """Word the warning for a data set where `unseen_mask` is None."""
        return (
            f"the backbone was trained on '{self.dataset}'. If these images are a copy of those, it has "
            "memorised them, and gamma and weight decay may be over-optimistic for tail classes."
        )
