"""Decide when training ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lort_hub.training.checkpoints import best_epoch


def has_ended(history: Sequence[dict[str, Any]], epochs: int, patience: int) -> bool:
    """Decide whether training ends: after all epochs, or after `patience` epochs without a better one.

    Args:
        history: One row for each epoch so far.
        epochs: Number of epochs to train.
        patience: Epochs to wait for a better one; 0 to train to the end.

    Example:
        >>> rows = [{"held_out_balanced_accuracy": score} for score in (0.5, 0.4, 0.3)]
        >>> has_ended(rows, 10, 2), has_ended(rows, 10, 0)
        (True, False)
    """
    return len(history) >= epochs or 0 < patience <= len(history) - best_epoch(history)
