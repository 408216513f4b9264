"""Tell by the features whether the data hold the same things again and again, as the frames of a video."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lort_hub.heads.training_set import TrainingSet

ASKED = 1000
"""Samples whose neighbours are looked for."""
FAR = 21
"""The neighbour that is likely to be another thing, where a thing is there a few times."""
CLOSE = 0.5
"""Distance of the nearest neighbour over that of the far one below which a sample is a repetition."""
MANY = 0.1
"""Share of repetitions from which on there is a note; docs/data.md has what was measured."""
SHRINKAGE = 0.25


def repetition_note(training: TrainingSet) -> str | None:
    """Write the note that the data repeat themselves and choices will be too rosy; None where they do not.

    Args:
        training: Features; every process calls this.

    Example:
        >>> training = TrainingSet(torch.randn(300, 16), torch.arange(300) % 3, 3)
        >>> repetition_note(training) is None
        True
    """
    share = repetition_share(training)
    if share < MANY:
        return None
    return (
        f"note: {100 * share:.0f} % of the images have a neighbour far nearer than others, as frames of one "
        "clip or photographs of one object have: choices of settings, and a test that was held out, are too "
        "rosy. `group_column`, `group_pattern` or `group_file` keep together what belongs together."
    )


def repetition_share(training: TrainingSet) -> float:
    """Estimate the share of samples whose nearest neighbour is less than half as far as their 21st.

    Distances are between directions of whitened features. Samples of one group are no neighbours.

    Args:
        training: Features; every process calls this.

    Example:
        >>> once = torch.randn(60, 16)
        >>> again = torch.cat([once + 0.05 * torch.randn(60, 16) for _ in range(5)])
        >>> repetition_share(TrainingSet(again, torch.arange(300) % 3, 3))
        1.0
    """
    number = len(training.all_labels)
    if number <= FAR + 1:
        return 0.0
    basis, processes = training.basis(0.0), training.processes
    scales = (basis.values + SHRINKAGE * basis.values.mean()).clamp_min(1e-300).rsqrt()
    white = basis.vectors * scales

    def directions(x: Tensor) -> Tensor:
        return normalize((x - basis.mean.to(x)) @ white.to(x))

    asked = torch.randperm(number, generator=torch.Generator().manual_seed(0))[:ASKED]
    chosen = training.own_rows(torch.zeros(number, dtype=torch.bool).index_fill_(0, asked, True))
    groups = torch.arange(number) if training.all_groups is None else training.all_groups
    own_groups = training.own_rows(groups)
    queries = processes.gather(training.matrix.where(chosen).map(directions))
    of_queries = processes.gather(own_groups[chosen])
    nearest = torch.full((len(queries), FAR), -1.0)
    for block, rows in training.matrix.each(directions):
        same = of_queries[:, None] == own_groups[rows]
        cosines = (queries @ block.T).masked_fill(same, -1)
        nearest = torch.cat([nearest, cosines], dim=1).topk(FAR, dim=1).values
    parts = processes.gather(nearest).view(processes.count, len(queries), FAR)
    nearest = parts.permute(1, 0, 2).flatten(1).topk(FAR, dim=1).values
    distances = (2 - 2 * nearest).clamp_min(0).sqrt()
    return float((distances[:, 0] < CLOSE * distances[:, -1]).float().mean())
