"""Sum, broadcast and gather over the processes of a run, and report a process that dies."""

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

TIMEOUT = timedelta(days=1)
"""How long a process waits for the others; gloo reports a dead process at once, whatever the timeout."""
LOST_PROCESS = re.compile(r"gloo|[Cc]onnection|[Ss]ocket|[Tt]imed out")
"""Words in gloo's error messages about a dead process; these errors have no type, unlike NCCL's."""


@dataclass(frozen=True)
class Processes:
    """All processes of a run, or this one alone.

    Attributes:
        group: torch's process group, over gloo for tensors on the CPU and over NCCL for those on GPUs; None
            for a single process.

    Raises:
        ProcessLostError: Raised by each method if another process has ended.

    Example:
        >>> processes, sums = Processes(), torch.ones(2)
        >>> processes.all_reduce(sums)
        >>> sums, processes.gather(torch.tensor([3]))
        (tensor([1., 1.]), tensor([3]))
    """

    group: Any = None

    @classmethod
    def of(cls, accelerator: Accelerator) -> Processes:
        """Make a group of the accelerator's processes; every process calls this."""
        if accelerator.num_processes == 1:
            return cls()
        with detect_lost_process():
            torch.distributed.barrier()  # reports a dead process, for which a new group would wait
            backend = "cpu:gloo,cuda:nccl" if accelerator.device.type == "cuda" else "gloo"
            return cls(torch.distributed.new_group(backend=backend, timeout=TIMEOUT))

    @property
    def count(self) -> int:
        """Number of processes."""
        return 1 if self.group is None else torch.distributed.get_world_size(self.group)

    @property
    def index(self) -> int:
        """Index of this process."""
        return 0 if self.group is None else torch.distributed.get_rank(self.group)

    def all_reduce(self, *sums: Tensor) -> None:
        """Sum tensors over all processes, in place; every process gets the same bits."""
        if self.group is None:
            return
        with detect_lost_process():
            for tensor in sums:
                with _row_by_row(tensor) as rows:
                    torch.distributed.all_reduce(rows, group=self.group)

    def broadcast(self, *values: Tensor) -> None:
        """Copy tensors of the first process to all others, in place.

        Processes with other cores or other numbers of threads may compute results that differ in their last
        bits from the same sums. Decisions about steps and stops must not depend on that difference.
        """
        if self.group is None:
            return
        with detect_lost_process():
            for tensor in values:
                with _row_by_row(tensor) as rows:
                    torch.distributed.broadcast(rows, group_src=0, group=self.group)

    def broadcast_number(self, number: float) -> float:
        """Return the number that the first process passes."""
        value = torch.tensor(number, dtype=torch.float64)
        self.broadcast(value)
        return value.item()

    def gather_objects(self, value: Any) -> list[Any]:
        """Gather one value of any type from each process, in their order."""
        if self.group is None:
            return [value]
        values: list[Any] = [None] * self.count
        with detect_lost_process():
            torch.distributed.all_gather_object(values, value, group=self.group)
        return values

    def gather(self, values: Tensor) -> Tensor:
        """Gather the rows (n, ...) of all processes, in their order; n may differ and may be 0."""
        if self.group is None:
            return values
        sizes = torch.zeros(self.count, dtype=torch.int64)
        sizes[self.index] = len(values)
        self.all_reduce(sizes)
        parts = []
        with detect_lost_process():
            for source, size in enumerate(sizes.tolist()):
                own = source == self.index
                part = values.contiguous() if own else values.new_empty(size, *values.shape[1:])
                torch.distributed.broadcast(part, group_src=source, group=self.group)
                parts.append(part)
        return torch.cat(parts)


@contextmanager
def _row_by_row(tensor: Tensor) -> Iterator[Tensor]:
    """Lend a tensor in row-major order, which NCCL asks for, and write back what became of it."""
    rows = tensor.contiguous()
    yield rows
    if rows is not tensor:
        tensor.copy_(rows)


@contextmanager
def detect_lost_process() -> Iterator[None]:
    """Turn torch's errors about a dead process into a `ProcessLostError`.

    Example:
        >>> with detect_lost_process():
        ...     pass
    """
    try:
        yield
    except RuntimeError as cause:
        if not isinstance(cause, torch.distributed.DistError) and not LOST_PROCESS.search(str(cause)):
            raise
        raise ProcessLostError(
            f"Another process of this run has ended: {str(cause).splitlines()[0][:200]}\n"
            "Its own message, above or below, says why. Solve that and run the same command again: features "
            "already extracted are kept."
        ) from cause


@contextmanager
def fail_together(processes: Processes) -> Iterator[None]:
    """Raise on all processes if one fails in a block: the error of the first process that failed.

    All processes wait for each other at the end of the block. Without this the others would wait for ever for
    a process that met a bad image or a full disk.

    Args:
        processes: All processes, made before the block.

    Example:
        >>> with fail_together(Processes()):
        ...     raise LortHubError("not finite")
        Traceback (most recent call last):
        lort_hub.errors.LortHubError: not finite
    """
    own_error: Exception | None = None
    try:
        yield
    except Exception as error:
        if processes.count == 1:
            raise
        own_error = error
    shared = own_error
    if own_error is not None and not isinstance(own_error, (LortHubError, OSError)):
        shared = RuntimeError(repr(own_error))  # an error of another type may not survive pickling
    errors = [error for error in processes.gather_objects(shared) if error is not None]
    if errors:
        raise errors[0] from own_error
