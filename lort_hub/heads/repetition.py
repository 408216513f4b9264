"""Tell by the features whether the data hold the same things again and again, as the frames of a video."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from lort_hub.heads.training_set import TrainingSet

ASKED, LEAST = 1000, 200
"""Samples whose neighbours are looked for, and the number of samples below which nothing is said."""
NEAR, FAR = 21, 84
"""Neighbours that are likely to be other things, where a thing is there a few times."""
GAP = 6
"""Fall of the log distance from the NEARth neighbour to the first, in falls from the FARth to the NEARth."""
MANY = 0.2
"""Share of repetitions from which on there is a note; docs/data.md has what was measured."""


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
        f"{100 * share:.0f} % of the images have a neighbour far nearer than others, as frames of one "
        "clip or photographs of one object have: choices of settings, and a test that was held out, are too "
        "rosy. `group_column`, `group_pattern` or `group_file` keep together what belongs together."
    )


def repetition_share(training: TrainingSet) -> float:
    """Estimate the share of samples whose nearest neighbour is nearer than the others' spacing explains.

    Where samples lie evenly, in whatever number m of dimensions, the log distance of the k-th neighbour is
    log(k) / m and a constant, so that the far neighbours tell where the first one is to be expected.
    Distances are between directions of centred features. Samples of one group are no neighbours.

    Args:
        training: Features; every process calls this.

    Example:
        >>> once = torch.randn(60, 16)
        >>> again = torch.cat([once + 0.05 * torch.randn(60, 16) for _ in range(5)])
        >>> repetition_share(TrainingSet(again, torch.arange(300) % 3, 3))
        1.0
    """
    number, processes = len(training.all_labels), training.processes
    if number < LEAST:
        return 0.0
    centred = training.matrix.subtract(training.sums[:, :-1].sum(dim=0) / number)
    directions = centred.each(normalize)
    asked = torch.randperm(number, generator=torch.Generator().manual_seed(0))[:ASKED]
    chosen = training.own_rows(torch.zeros(number, dtype=torch.bool).index_fill_(0, asked, True))
    groups = torch.arange(number) if training.all_groups is None else training.all_groups
    own_groups = training.own_rows(groups)
    queries = processes.gather(directions.where(chosen).whole())
    of_queries = processes.gather(own_groups[chosen])
    nearest = queries.new_full((len(queries), FAR), -1.0)
    for block, rows in directions:
        same = of_queries[:, None] == own_groups[rows]
        cosines = (queries @ block.T).masked_fill(same, -1)
        nearest = torch.cat([nearest, cosines], dim=1).topk(FAR, dim=1).values
    parts = processes.gather(nearest).view(processes.count, len(queries), FAR)
    nearest = parts.permute(1, 0, 2).flatten(1).topk(FAR, dim=1).values
    distances = (2 - 2 * nearest).clamp_min(1e-6).log() / 2
    fall = distances[:, NEAR - 1] - distances[:, 0]
    return float((fall > GAP * (distances[:, -1] - distances[:, NEAR - 1]).mean()).float().mean())
