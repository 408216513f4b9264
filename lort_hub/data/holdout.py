"""Images kept out of a backbone's training, so that no choice rests on memorised ones (PAPER section 6)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lort_hub.data.dataset import ImageSplit, LongTailedData


def hold_out(split: ImageSplit, share: float, *, seed: int = 0) -> tuple[ImageSplit, ImageSplit]:
    """Keep a share of each class, at least one image where there are two, out of a split.

    Args:
        split: The images.
        share: Share of each class, rounded down; 0 keeps nothing out.
        seed: Seed of the choice.

    Returns:
        The images that stay, and those kept out.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> kept, held = hold_out(load_long_tailed("digits", imbalance="exp:10").train, 0.1)
        >>> np.bincount(held.labels)
        array([12, 10,  7,  6,  4,  3,  2,  2,  1,  1])
    """
    rng, held = np.random.default_rng(seed), np.zeros(len(split), dtype=bool)
    for label in range(len(split.class_names)):
        rows = rng.permutation(np.flatnonzero(split.labels == label))
        least = int(share > 0 and len(rows) > 1)
        held[rows[: max(int(len(rows) * share), least)]] = True
    return split.take(np.flatnonzero(~held)), split.take(np.flatnonzero(held))


@dataclass(frozen=True)
class TrainedOn:
    """The record, in run.json, of the images a backbone was trained on.

    Attributes:
        dataset: Hub id or folder.
        split: Name of the original split.
        rows: Rows of that split it was trained on.
        fingerprint: `ImageSplit.fingerprint()` of the training images and the held-out ones together.
    """

    dataset: str
    split: str
    rows: tuple[int, ...]
    fingerprint: str

    @classmethod
    def of(cls, data: LongTailedData, kept: ImageSplit) -> TrainedOn:
        """The record of a training on `kept`, a part of the data's training images."""
        rows = tuple(int(row) for row in kept.rows)
        return cls(data.source["dataset"], data.train.name, rows, data.train.fingerprint())

    @classmethod
    def read(cls, folder: Path) -> TrainedOn | None:
        """The record of a model folder; None where it is not one of lort_hub's, or trained elsewhere."""
        try:
            record = json.loads((folder / "run.json").read_text())["backbone"]["trained_on"]
            return cls(**{**record, "rows": tuple(record["rows"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON-ready values."""
        return asdict(self)

    def unseen(self, data: LongTailedData) -> NDArray[np.bool_] | None:
        """Which training images (N,) the backbone was not trained on; None if they are another set.

        Example:
            >>> from lort_hub.data.load import load_long_tailed
            >>> data = load_long_tailed("digits")
            >>> TrainedOn.of(data, data.train.take(np.array([1, 2]))).unseen(data)[:4]
            array([ True, False, False,  True])
        """
        here = (data.source["dataset"], data.train.name)
        if data.train.fingerprint() != self.fingerprint and here != (self.dataset, self.split):
            return None
        return ~np.isin(data.train.rows, self.rows)

    def doubt(self) -> str:
        """What to say where the images at hand are not known to be the backbone's."""
        return (
            f"the backbone was trained on '{self.dataset}'; if these images are a copy of those, it has "
            "memorised them and the choice of gamma and weight decay is too rosy about the tail."
        )
