"""Find the nearest neighbours of features exactly, block by block."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lort_hub.features.matrix import FeatureMatrix


def nearest_neighbours(
    matrix: FeatureMatrix, queries: Tensor, k: int, groups: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Find the nearest neighbours of some samples by the cosine of centred features.

    Args:
        matrix: Features (N, D), read block by block.
        queries: Positions (Q,) of the samples, on the matrix's device as the groups are.
        k: Neighbours of each.
        groups: Group numbers (N,): a sample of the same group is no neighbour; None if each is alone.

    Returns:
        Cosines (Q, k), the greatest first, and positions (Q, k); -1 where there are fewer neighbours.

    Example:
        >>> matrix = FeatureMatrix.of(torch.tensor([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]]))
        >>> nearest_neighbours(matrix, torch.tensor([0, 3]), k=1)[1].tolist()
        [[1], [2]]
    """
    groups = torch.arange(len(matrix), device=matrix.device) if groups is None else groups
    mean = matrix.map(lambda x: x.double().sum(dim=0, keepdim=True)).sum(dim=0) / len(matrix)
    directions = matrix.subtract(mean).each(normalize)
    chosen = torch.zeros_like(groups, dtype=torch.bool).index_fill_(0, queries, True)
    order = chosen.cumsum(0) - 1
    asked = directions.where(chosen).whole()[order[queries]]
    cosines = asked.new_full((len(queries), k), -torch.inf)
    found = queries.new_full((len(queries), k), -1)
    for block, rows in directions:
        positions = torch.arange(rows.start, rows.stop, device=matrix.device)
        similarity = (asked @ block.T).masked_fill(groups[queries][:, None] == groups[positions], -torch.inf)
        both = torch.cat([cosines, similarity], dim=1)
        cosines, best = both.topk(k, dim=1)
        found = torch.cat([found, positions.expand(len(queries), -1)], dim=1).gather(1, best)
    return cosines, torch.where(cosines.isfinite(), found, -1)
