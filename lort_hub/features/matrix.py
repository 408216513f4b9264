"""Read a feature matrix in blocks of rows, from memory, disk or a GPU, the whole or one process's share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lort_hub.features.distributed import Processes

if TYPE_CHECKING:
    from accelerate import Accelerator

BLOCK = 2048
"""Rows per block. Sums are float32 within a block and float64 across blocks."""
CPU = torch.device("cpu")
GPU_SHARE = 0.5
"""Share of a GPU's free memory that features may fill to stay there; the rest is for heads and logits."""


@dataclass(frozen=True)
class Part:
    """Rows of a feature matrix that are read together.

    Attributes:
        rows: Number of rows.
        read: Reads the rows (rows, D), in any floating type, from memory, from disk or on a GPU.
    """

    rows: int
    read: Callable[[], Tensor]

    def where(self, mask: Tensor) -> Part:
        """Select the rows where a mask is true."""
        index = mask.nonzero().flatten()
        return self if len(index) == self.rows else Part(len(index), lambda: self.read()[index])

    def to(self, device: torch.device) -> Part:
        """Copy the rows to a device when they are read, while the device computes on those before."""
        return Part(self.rows, lambda: self.read().pin_memory().to(device, non_blocking=True))

    def kept(self) -> Part:
        """Read the rows now and keep them."""
        return Part(self.rows, partial(Tensor.detach, self.read()))

    def each(self, function: Callable[[Tensor], Tensor]) -> Part:
        """Apply a function to the rows, in full precision, when they are read."""
        return Part(self.rows, lambda: function(_in_full_precision(self.read())))


class FeatureMatrix:
    """Features (N, D) that are read block by block: `for x, rows in matrix`.

    Each block x (n, D) is float32 (float64 if the features are) and comes with the slice of its rows. Solvers
    need only sums over rows, so they need the memory of one block. With several processes each has its share
    of the rows, and sums over rows are then summed over the processes.

    Blocks are on the matrix's `device`. All that is computed from them stays there, in float32 and float64.

    Example:
        >>> matrix = FeatureMatrix.of(torch.eye(3, dtype=torch.float16))
        >>> len(matrix), matrix.dim, [(x.dtype, rows) for x, rows in matrix]
        (3, 3, [(torch.float32, slice(0, 3, None))])
        >>> matrix.where(torch.tensor([True, False, True])).subtract(torch.ones(3)).whole()
        tensor([[ 0., -1., -1.],
                [-1., -1.,  0.]])
    """

    def __init__(
        self,
        parts: Sequence[Part],
        dim: int,
        processes: Processes | None = None,
        device: torch.device = CPU,
    ) -> None:
        """Set the parts of this process and where they are read to; nothing is read yet."""
        self.parts, self.dim, self.processes, self.device = parts, dim, processes or Processes(), device

    @classmethod
    def of(cls, x: Tensor, processes: Processes | None = None) -> FeatureMatrix:
        """Make the matrix of a tensor (N, D) in memory."""
        parts = [Part(len(block), partial(Tensor.detach, block)) for block in x.split(BLOCK) if len(block)]
        return cls(parts, x.shape[1], processes, x.device)

    def __len__(self) -> int:
        return sum(part.rows for part in self.parts)

    def __iter__(self) -> Iterator[tuple[Tensor, slice]]:
        start = 0
        for part in self.parts:
            yield _in_full_precision(part.read()), slice(start, start + part.rows)
            start += part.rows

    def to(self, device: torch.device) -> FeatureMatrix:
        """Copy the rows to a GPU: all of them now where they fit, else each block when it is read.

        From then on no product of this program is rounded to TF32, on which the results would depend.
        """
        if device == self.device:
            return self
        torch.set_float32_matmul_precision("highest")
        parts = [part.to(device) for part in self.parts]
        size = len(self) * self.dim * self.parts[0].read().element_size() if self.parts else 0
        if size <= GPU_SHARE * free_memory(device):
            parts = [part.kept() for part in parts]
        return FeatureMatrix(parts, self.dim, self.processes, device)

    def where(self, mask: Tensor) -> FeatureMatrix:
        """Select the rows where a mask (N,) is true; parts without any are never read."""
        masks = mask.split([part.rows for part in self.parts]) if self.parts else ()
        return self._of([part.where(m) for part, m in zip(self.parts, masks, strict=True) if m.any()])

    def subtract(self, vector: Tensor) -> FeatureMatrix:
        """Subtract a vector (D,) from each row when it is read."""
        vector = vector.float()
        return self.each(lambda x: x - vector)

    def each(self, function: Callable[[Tensor], Tensor]) -> FeatureMatrix:
        """Apply a function of single rows to each block (n, D) when it is read."""
        return self._of([part.each(function) for part in self.parts])

    def project(self, directions: Tensor) -> FeatureMatrix:
        """Multiply each row by directions (D, d) when it is read, which leaves d features."""
        parts = [part.each(lambda x: x @ directions.to(x)) for part in self.parts]
        return FeatureMatrix(parts, directions.shape[1], self.processes, self.device)

    def concatenate(self, others: Sequence[FeatureMatrix]) -> FeatureMatrix:
        """Append the rows of other matrices."""
        return self._of([part for matrix in (self, *others) for part in matrix.parts])

    def _of(self, parts: Sequence[Part]) -> FeatureMatrix:
        return FeatureMatrix(parts, self.dim, self.processes, self.device)

    def map(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply a function to all blocks now, and return its values (N, ...) in memory."""
        blocks = [function(x) for x, _ in self]
        return torch.cat(blocks) if blocks else function(torch.empty(0, self.dim, device=self.device))

    def whole(self) -> Tensor:
        """Read this process's rows (N, D) into memory."""
        return self.map(lambda x: x)

    def load(self, max_numbers: int) -> FeatureMatrix:
        """Read this process's rows into memory once, unless they are more than `max_numbers` numbers.

        The blocks stay as they are: sums over them are the same for any number of processes.
        """
        if len(self) * self.dim > max_numbers:
            return self
        return self._of([Part(len(x), partial(Tensor.detach, x.clone())) for x, _ in self])


def solving_device(accelerator: Accelerator) -> torch.device:
    """Choose where heads are solved: on the accelerator's device, or on the CPU if that has no float64.

    Args:
        accelerator: Device of this process.

    Example:
        >>> from accelerate import Accelerator
        >>> solving_device(Accelerator(cpu=True))
        device(type='cpu')
    """
    return accelerator.device if accelerator.device.type == "cuda" else CPU


def free_memory(device: torch.device) -> int:
    """Count the bytes of a GPU that are free, with those that torch keeps for tensors to come.

    Args:
        device: The GPU.
    """
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0]


def _in_full_precision(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
