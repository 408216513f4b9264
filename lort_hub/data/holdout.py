"""Hold images out of the training of a backbone, so that no choice is made on memorised images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lort_hub.data.dataset import ImageSplit, LongTailedData
from lort_hub.records import TrainedOn


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


def record_training(
    data: LongTailedData, kept: ImageSplit, loss: str = "ce", logit_offset: Sequence[float] = ()
) -> TrainedOn:
    """Return the record of a backbone that was trained on a part of the training images.

    Args:
        data: Data set.
        kept: The part, as of `hold_out`.
        loss: The loss.
        logit_offset: What it added to the logits of each class (K,); cross-entropy adds nothing.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> data = load_long_tailed("digits")
        >>> record_training(data, data.train.take(np.array([1, 2]))).rows
        (1, 2)
    """
    rows = tuple(int(row) for row in kept.rows)
    images = data.source["dataset"], data.train.name, rows, data.train.fingerprint()
    added = {} if loss == "ce" else {"loss": loss, "logit_offset": tuple(logit_offset)}
    return TrainedOn(*images, listing=data.train.whole, **added)  # type: ignore[arg-type]


def unseen_images(record: TrainedOn, split: ImageSplit) -> NDArray[np.bool_] | None:
    """Mark the images of a split that a backbone was not trained on.

    Args:
        record: The images that it was trained on.
        split: Images of the same data set or of another.

    Returns:
        True for images (N,) it was not trained on; None where the split is not known to be of the data set
        that it was trained on, or that has other images now, whose rows are others too.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> data = load_long_tailed("digits")
        >>> record = record_training(data, data.train.take(np.array([1, 2])))
        >>> unseen_images(record, data.train)[:4]
        array([ True, False, False,  True])
    """
    if split.fingerprint() != record.fingerprint:
        changed = record.listing and split.whole and record.listing != split.whole
        if changed or (split.dataset, split.name) != (record.dataset, record.split):
            return None
    return ~np.isin(split.rows, record.rows)
