"""Sum the loss of an epoch, and end training where it is not finite."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lort_hub.errors import LortHubError

READ_EVERY = 50
"""Losses, one for each part of a batch, after which they are read: a GPU waits for each reading."""


class EpochLoss:
    """Sum the loss of one epoch on one process where it is computed, and end training if it is not finite.

    Example:
        >>> loss = EpochLoss(epoch=0, lr=0.1, checkpoints=Path("nowhere"))
        >>> loss.add(torch.tensor(2.0), share=0.5, step=0)
        >>> loss.add(torch.tensor(1.0), share=1.0, step=1)
        >>> loss.total()
        tensor(2.)
    """

    def __init__(self, *, epoch: int, lr: float, checkpoints: Path) -> None:
        """Begin an epoch.

        Args:
            epoch: Number of the epoch, from 0.
            lr: Learning rate.
            checkpoints: Folder of the run's checkpoints.
        """
        self.epoch, self.lr, self.checkpoints = epoch, lr, checkpoints
        self._sum: Tensor | float = 0.0
        self._unread: list[tuple[int, Tensor]] = []

    def add(self, loss: Tensor, *, share: float, step: int) -> None:
        """Add the mean loss of a part of a batch.

        Args:
            loss: The loss, a scalar.
            share: Factor of the loss in the sum, `Batch.share`.
            step: Number of the step in the epoch, from 0.

        Raises:
            LortHubError: One of the last `READ_EVERY` losses is not finite.
        """
        self._sum += loss.detach() * share
        self._unread.append((step, loss.detach()))
        if len(self._unread) == READ_EVERY:
            self._read()

    def total(self) -> Tensor:
        """Return the sum, a scalar on the device of the losses.

        Raises:
            LortHubError: A loss is not finite.
        """
        self._read()
        return torch.as_tensor(self._sum)

    def _read(self) -> None:
        if self._unread:
            losses = torch.stack([loss for _, loss in self._unread]).cpu()
            for (step, _), loss in zip(self._unread, losses, strict=True):
                if not loss.isfinite():
                    raise LortHubError(self._explain(loss.item(), step))
        self._unread = []

    def _explain(self, loss: float, step: int) -> str:
        last = max(self.checkpoints.glob("epoch_*"), default="none yet")
        return (
            f"The loss is {loss} in epoch {self.epoch + 1}, step {step + 1}, at lr {self.lr:.3g}; "
            f"last good checkpoint: {last}.\n"
            'Expected a finite loss: lower `lr`, set `clip_grad=1`, or use `mixed_precision="no"`.'
        )
