"""The processes of one run: sums over all of them, and a clear end where one of them dies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lort_hub.errors import LortHubError, ProcessLostError

if TYPE_CHECKING:
    from accelerate import Accelerator

PATIENCE = timedelta(days=1)
"""How long one process waits for the others; gloo notices one that has died at once, whatever this is."""
LOST = re.compile(r"gloo|[Cc]onnection|[Ss]ocket|[Tt]imed out")
"""What gloo says of a process that is gone, in errors that have no type of their own."""


@dataclass(frozen=True)
class Processes:
    """All processes of a run, or this one alone.

    Attributes:
        group: torch's group of them, over gloo, for what lives on the CPU; None for one process alone.

    Raises:
        ProcessLostError: From each method, where another process has ended.

    Example:
        >>> alone, sums = Processes(), torch.ones(2)
        >>> alone.total(sums)
        >>> sums, alone.gather(torch.tensor([3]))
        (tensor([1., 1.]), tensor([3]))
    """

    group: Any = None

    @classmethod
    def of(cls, accelerator: Accelerator) -> Processes:
        """Those of an accelerator; every process calls this."""
        if accelerator.num_processes == 1:
            return cls()
        with detect_lost_process():
            torch.distributed.barrier()  # which notices who has died already; a new group waits for them
            return cls(torch.distributed.new_group(backend="gloo", timeout=PATIENCE))

    @property
    def count(self) -> int:
        """How many there are."""
        return 1 if self.group is None else torch.distributed.get_world_size(self.group)

    @property
    def index(self) -> int:
        """Which one this is."""
        return 0 if self.group is None else torch.distributed.get_rank(self.group)

    def total(self, *sums: Tensor) -> None:
        """Replace each process's sums by those over all processes, the same bits in each."""
        if self.group is None:
            return
        with detect_lost_process():
            for tensor in sums:
                torch.distributed.all_reduce(tensor, group=self.group)

    def agree(self, *values: Tensor) -> None:
        """Replace each process's values by those of the first.

        What is computed from the same sums may differ in its last bits where processes have other cores or
        other threads; steps and stops that were decided by it would then no longer be the same.
        """
        if self.group is None:
            return
        with detect_lost_process():
            for tensor in values:
                torch.distributed.broadcast(tensor, group_src=0, group=self.group)

    def agreed(self, number: float) -> float:
        """A number as the first process has it."""
        value = torch.tensor(number, dtype=torch.float64)
        self.agree(value)
        return value.item()

    def gather_objects(self, value: Any) -> list[Any]:
        """One value of each process, of any kind, in their order."""
        if self.group is None:
            return [value]
        found: list[Any] = [None] * self.count
        with detect_lost_process():
            torch.distributed.all_gather_object(found, value, group=self.group)
        return found

    def gather(self, values: Tensor) -> Tensor:
        """The rows (n, ...) of all processes, in their order; each may have another number, or none."""
        if self.group is None:
            return values
        sizes = torch.zeros(self.count, dtype=torch.int64)
        sizes[self.index] = len(values)
        self.total(sizes)
        found = []
        with detect_lost_process():
            for source, size in enumerate(sizes.tolist()):
                mine = source == self.index
                part = values.contiguous() if mine else values.new_empty(size, *values.shape[1:])
                torch.distributed.broadcast(part, group_src=source, group=self.group)
                found.append(part)
        return torch.cat(found)


@contextmanager
def detect_lost_process() -> Iterator[None]:
    """Turn what torch says of a process that has died into a `ProcessLostError`.

    Example:
        >>> with detect_lost_process():
        ...     pass
    """
    try:
        yield
    except RuntimeError as cause:
        if not isinstance(cause, torch.distributed.DistError) and not LOST.search(str(cause)):
            raise
        raise ProcessLostError(
            f"Another process of this run has ended: {str(cause).splitlines()[0][:200]}\n"
            "Its own message, above or below, says why. Features already extracted are kept: mend that, and "
            "run the same command again."
        ) from cause


@contextmanager
def all_or_none(processes: Processes) -> Iterator[None]:
    """Wait for every process at the end of a block, and raise the error of the first that failed on all.

    Without it the others would wait for ever for a process that found a bad image or a full disk.

    Args:
        processes: All of them, who were alive when the block began.

    Example:
        >>> with all_or_none(Processes()):
        ...     raise LortHubError("not finite")
        Traceback (most recent call last):
        lort_hub.errors.LortHubError: not finite
    """
    own: Exception | None = None
    try:
        yield
    except Exception as error:
        if processes.count == 1:
            raise
        own = error
    # Our errors and the machine's cross to other processes as they are; others may not be made for it.
    told = own if own is None or isinstance(own, (LortHubError, OSError)) else RuntimeError(repr(own))
    errors = [error for error in processes.gather_objects(told) if error is not None]
    if errors:
        raise errors[0] from own
