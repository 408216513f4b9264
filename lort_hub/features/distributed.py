"""Sum, broadcast and gather over the processes of a run, and report a process that dies."""

from __future__ import annotations

import gc
import os
import platform
import re
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from lort_hub.errors import LortHubError, ProcessLostError

if TYPE_CHECKING:
    from accelerate import Accelerator

TIMEOUT = timedelta(days=1)
"""How long a process waits for the others; gloo reports a dead process at once, whatever the timeout."""
SECONDS_TO_DEATH = 90
"""How long a node may be silent before it counts as dead: 30 s, then six probes 10 s apart."""
T = TypeVar("T")
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
        """Make a group of the accelerator's processes, once; every process calls this."""
        if accelerator.num_processes == 1:
            return cls()
        with detect_lost_process():
            backend = "cpu:gloo,cuda:nccl" if accelerator.device.type == "cuda" else "gloo"
            return _connect(torch.distributed.group.WORLD, backend)

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

    def broadcast_object(self, value: T) -> T:
        """Return the value of any type that the first process passes."""
        if self.group is None:
            return value
        values = [value]
        with detect_lost_process():
            torch.distributed.broadcast_object_list(values, group_src=0, group=self.group)
        return values[0]

    def send_to_first(self, data: bytes, *, source: int, size: int) -> bytes:
        """Return on the first process the bytes, so many, that a process passes; every process calls this."""
        if self.index not in (0, source) or source == 0:
            return data
        values = torch.frombuffer(bytearray(data or size), dtype=torch.uint8)
        with detect_lost_process():
            if self.index == 0:
                torch.distributed.recv(values, group_src=source, group=self.group)
            else:
                torch.distributed.send(values, group_dst=0, group=self.group)
        return values.numpy().tobytes()

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


@lru_cache(maxsize=1)
def _connect(world: Any, backend: str) -> Processes:
    torch.distributed.barrier(world)  # reports a dead process, for which a new group would wait
    processes = Processes(torch.distributed.new_group(backend=backend, timeout=TIMEOUT))
    if sys.platform == "linux":
        _probe_connections()
    return processes


def disconnect() -> None:
    """Leave the other processes before Python ends; nothing more can be summed or gathered after it.

    A thread of gloo that still holds a tensor when the interpreter is torn down aborts the process, which its
    launcher takes for a process that was killed.

    Example:
        >>> disconnect()
    """
    _connect.cache_clear()
    gc.collect()  # of training sets, which refer to the processes and to themselves
    if torch.distributed.is_initialized():
        with suppress(RuntimeError):  # what the run has to say is said
            torch.distributed.destroy_process_group()


def _probe_connections() -> None:
    """Have the kernel probe this process's connections: those to a node without power or network then end.

    gloo reports a process that was killed, whose connections its kernel closes, but would wait for that node.
    """
    options = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 6}
    options[socket.TCP_USER_TIMEOUT] = 1000 * SECONDS_TO_DEATH
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(entry.name)).st_mode):
                with socket.socket(fileno=os.dup(int(entry.name))) as connection:
                    if connection.family in (socket.AF_INET, socket.AF_INET6):
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                        for option, value in options.items():
                            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def node_name() -> str:
    """Name the machine of this process for a message, with its number where a launcher gave it one.

    Example:
        >>> node_name() == platform.node()
        True
    """
    number = os.environ.get("GROUP_RANK") if os.environ.get("GROUP_WORLD_SIZE", "1") != "1" else None
    return platform.node() if number is None else f"node {number} ({platform.node()})"


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
        reason = re.sub(r"^\[[^]]*\] ", "", str(cause).splitlines()[0]).partition(". ")[0]
        raise ProcessLostError(
            f"Another process of this run has ended: {reason[:200]}.\nIts own message, here or on its node, "
            "says why. Solve that and run the same command again: what was finished is kept."
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
    ends = processes.gather_objects((shared, node_name()))
    failed = [(error, node) for error, node in ends if error is not None]
    if failed:
        first, node = failed[0]
        is_everywhere = {name for _, name in failed} == {name for _, name in ends}
        raise (first if is_everywhere else _on_node(node, first)) from own_error


def _on_node(node: str, error: Exception) -> Exception:
    """Name the node that an error happened on, if it did not happen on all."""
    if isinstance(error, OSError):
        error.strerror = f"{error.strerror} (on {node})"
    else:
        error.args = (f"On {node}: {error}", *error.args[1:])
    return error
