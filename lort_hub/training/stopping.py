"""Decide when a training ends, and explain a loss that is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lort_hub.training.checkpoints import best_epoch


def has_ended(history: Sequence[dict[str, Any]], epochs: int, patience: int) -> bool:
    """Whether a training is over: all epochs done, or `patience` of them without a better one.

    Args:
        history: One row for each epoch so far.
        epochs: How many there shall be.
        patience: 0 to train to the end.

    Example:
        >>> rows = [{"held_out_balanced_accuracy": score} for score in (0.5, 0.4, 0.3)]
        >>> has_ended(rows, 10, 2), has_ended(rows, 10, 0)
        (True, False)
    """
    return len(history) >= epochs or 0 < patience <= len(history) - best_epoch(history)


def not_finite(loss: float, *, epoch: int, step: int, lr: float, checkpoints: Path) -> str:
    """What to say when the loss has run away.

    Example:
        >>> print(not_finite(float("nan"), epoch=0, step=4, lr=0.1, checkpoints=Path("nowhere")))
        The loss is nan in epoch 1, step 5, at lr 0.1; last good checkpoint: none yet.
        Expected a finite loss: lower --lr, set --clip-grad 1, or use --mixed-precision no.
    """
    last = max(checkpoints.glob("epoch_*"), default="none yet")
    return (
        f"The loss is {loss} in epoch {epoch + 1}, step {step + 1}, at lr {lr:.3g}; "
        f"last good checkpoint: {last}.\n"
        "Expected a finite loss: lower --lr, set --clip-grad 1, or use --mixed-precision no."
    )
