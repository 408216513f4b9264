"""The feature matrix, read in blocks of rows: in memory or on disk, whole or one process's share of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lort_hub.features.distributed import Processes

BLOCK = 2048
"""Rows per block: sums are float32 within a block, float64 across blocks."""


@dataclass(frozen=True)
class Part:
    """Rows of a feature matrix that are read at once.

    Attributes:
        rows: How many.
        read: Gives them (rows, D), in any floating type, from memory or from disk.
    """

    rows: int
    read: Callable[[], Tensor]

    def where(self, mask: Tensor) -> Part:
        """The rows where a mask is true."""
        index = mask.nonzero().flatten()
        return self if len(index) == self.rows else Part(len(index), lambda: self.read()[index])

    def each(self, function: Callable[[Tensor], Tensor]) -> Part:
        """The rows after a function of blocks in full precision."""
        return Part(self.rows, lambda: function(_in_full_precision(self.read())))


class FeatureMatrix:
    """Features (N, D) that are never needed all at once: `for x, at in matrix` gives block after block.

    Each block (n, D) is float32 (float64 where the features are) and comes with the slice of its rows. All
    that solvers ask of features are sums over rows, so memory is bounded by a block. With several processes
    each holds its share of the rows, and what was summed over them is then summed over the processes.

    Example:
        >>> matrix = FeatureMatrix.of(torch.eye(3, dtype=torch.float16))
        >>> len(matrix), matrix.dim, [(x.dtype, at) for x, at in matrix]
        (3, 3, [(torch.float32, slice(0, 3, None))])
        >>> matrix.where(torch.tensor([True, False, True])).about(torch.ones(3)).whole()
        tensor([[ 0., -1., -1.],
                [-1., -1.,  0.]])
    """

    def __init__(self, parts: Sequence[Part], dim: int, processes: Processes | None = None) -> None:
        """Take the parts of this process; nothing is read yet."""
        self.parts, self.dim, self.processes = parts, dim, processes or Processes()

    @classmethod
    def of(cls, x: Tensor, processes: Processes | None = None) -> FeatureMatrix:
        """The matrix of a tensor (N, D) in memory."""
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
        """The rows where a mask (N,) is true; what holds none of them is not read."""
        masks = mask.split([part.rows for part in self.parts]) if self.parts else ()
        return self._of([part.where(m) for part, m in zip(self.parts, masks, strict=True) if m.any()])

    def about(self, origin: Tensor) -> FeatureMatrix:
        """The same rows less a vector (D,)."""
        origin = origin.float()
        return self.each(lambda x: x - origin)

    def each(self, function: Callable[[Tensor], Tensor]) -> FeatureMatrix:
        """The same rows after a function of each row, applied to blocks (n, D)."""
        return self._of([part.each(function) for part in self.parts])

    def beside(self, others: Sequence[FeatureMatrix]) -> FeatureMatrix:
        """The rows of this one followed by those of others."""
        return self._of([part for matrix in (self, *others) for part in matrix.parts])

    def _of(self, parts: Sequence[Part]) -> FeatureMatrix:
        return FeatureMatrix(parts, self.dim, self.processes)

    def map(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """A function's values (n, ...) of all blocks in memory (N, ...)."""
        blocks = [function(x) for x, _ in self]
        return torch.cat(blocks) if blocks else function(torch.empty(0, self.dim))

    def whole(self) -> Tensor:
        """This process's rows (N, D) in memory."""
        return self.map(lambda x: x)


def _in_full_precision(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
