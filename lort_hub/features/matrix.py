"""Read a feature matrix in blocks of rows, from memory or disk, the whole or one process's share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lort_hub.features.distributed import Processes

BLOCK = 2048
"""Rows per block. Sums are float32 within a block and float64 across blocks."""


@dataclass(frozen=True)
class Part:
    """Rows of a feature matrix that are read together.

    Attributes:
        rows: Number of rows.
        read: Reads the rows (rows, D), in any floating type, from memory or from disk.
    """

    rows: int
    read: Callable[[], Tensor]

    def where(self, mask: Tensor) -> Part:
        """Select the rows where a mask is true."""
        index = mask.nonzero().flatten()
        return self if len(index) == self.rows else Part(len(index), lambda: self.read()[index])

    def each(self, function: Callable[[Tensor], Tensor]) -> Part:
        """Apply a function to the rows, in full precision, when they are read."""
        return Part(self.rows, lambda: function(_in_full_precision(self.read())))


class FeatureMatrix:
    """Features (N, D) that are read block by block: `for x, rows in matrix`.

    Each block x (n, D) is float32 (float64 if the features are) and comes with the slice of its rows. Solvers
    need only sums over rows, so they need the memory of one block. With several processes each has its share
    of the rows, and sums over rows are then summed over the processes.

    Example:
        >>> matrix = FeatureMatrix.of(torch.eye(3, dtype=torch.float16))
        >>> len(matrix), matrix.dim, [(x.dtype, rows) for x, rows in matrix]
        (3, 3, [(torch.float32, slice(0, 3, None))])
        >>> matrix.where(torch.tensor([True, False, True])).subtract(torch.ones(3)).whole()
        tensor([[ 0., -1., -1.],
                [-1., -1.,  0.]])
    """

    def __init__(self, parts: Sequence[Part], dim: int, processes: Processes | None = None) -> None:
        """Set the parts of this process; nothing is read yet."""
        self.parts, self.dim, self.processes = parts, dim, processes or Processes()

    @classmethod
    def of(cls, x: Tensor, processes: Processes | None = None) -> FeatureMatrix:
        """Make the matrix of a tensor (N, D) in memory."""
        parts = [Part(len(block), partial(Tensor.detach, block)) for block in x.split(BLOCK) if len(block)]
        return cls(parts, x.shape[1], processes)

    def __len__(self) -> int:
        return sum(part.rows for part in self.parts)

    def __iter__(self) -> Iterator[tuple[Tensor, slice]]:
        start = 0
        for part in self.parts:
            yield _in_full_precision(part.read()), slice(start, start + part.rows)
            start += part.rows

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
        return FeatureMatrix(parts, directions.shape[1], self.processes)

    def concatenate(self, others: Sequence[FeatureMatrix]) -> FeatureMatrix:
        """Append the rows of other matrices."""
        return self._of([part for matrix in (self, *others) for part in matrix.parts])

    def _of(self, parts: Sequence[Part]) -> FeatureMatrix:
        return FeatureMatrix(parts, self.dim, self.processes)

    def map(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply a function to all blocks now, and return its values (N, ...) in memory."""
        blocks = [function(x) for x, _ in self]
        return torch.cat(blocks) if blocks else function(torch.empty(0, self.dim))

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


def _in_full_precision(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
