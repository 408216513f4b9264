"""Decide when training ends, and explain a loss that is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
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


def explain_divergence(loss: float, *, epoch: int, step: int, lr: float, checkpoints: Path) -> str:
    """Describe a loss that is NaN or infinite, with remedies, for an error message.

    Args:
        loss: The loss.
        epoch: Number of the epoch, from 0.
        step: Number of the step in it, from 0.
        lr: Learning rate.
        checkpoints: Folder of the run's checkpoints.

    Example:
        >>> print(explain_divergence(float("nan"), epoch=0, step=4, lr=0.1, checkpoints=Path("nowhere")))
        The loss is nan in epoch 1, step 5, at lr 0.1; last good checkpoint: none yet.
        Expected a finite loss: lower `lr`, set `clip_grad=1`, or use `mixed_precision="no"`.
    """
    last = max(checkpoints.glob("epoch_*"), default="none yet")
    return (
        f"The loss is {loss} in epoch {epoch + 1}, step {step + 1}, at lr {lr:.3g}; "
        f"last good checkpoint: {last}.\n"
        'Expected a finite loss: lower `lr`, set `clip_grad=1`, or use `mixed_precision="no"`.'
    )
