"""Images kept out of a backbone's training, so that no choice rests on memorised ones (PAPER section 6)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lort_hub.data import ImageSplit


def hold_out(split: ImageSplit, share: float, *, seed: int = 0) -> tuple[ImageSplit, ImageSplit]:
    """Keep a share of each class, at least one image where there are two, out of a split.

    Args:
        split: The images.
        share: Share of each class, rounded down; 0 keeps nothing out.
        seed: Seed of the choice.

    Returns:
        The images that stay, and those kept out.

    Example:
        >>> from lort_hub.data import load_long_tailed
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
        fingerprint: `ImageSplit.fingerprint()` of the training images and the held-out ones together.
        held_out: Rows of the original split that were kept out of the training.
    """

    fingerprint: str
    held_out: tuple[int, ...]

    @classmethod
    def read(cls, folder: Path) -> TrainedOn | None:
        """The record of a model folder; None where it is not one of lort_hub's, or trained elsewhere."""
        try:
            record = json.loads((folder / "run.json").read_text())["backbone"]["trained_on"]
        except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
            return None
        return cls(record["fingerprint"], tuple(record["held_out"])) if record else None

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON-ready values."""
        return asdict(self)

    def unseen(self, split: ImageSplit) -> NDArray[np.bool_] | None:
        """Which images (N,) of a split the backbone was not trained on; None if it saw another set.

        Example:
            >>> from lort_hub.data import load_long_tailed
            >>> train = load_long_tailed("digits").train
            >>> TrainedOn(train.fingerprint(), (0, 3)).unseen(train)[:4]
            array([ True, False, False,  True])
        """
        if split.fingerprint() != self.fingerprint:
            return None
        return np.isin(split.rows, self.held_out)
