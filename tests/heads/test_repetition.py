"""Frames of one clip are noticed, distinct images are not, and groups that are given are no repetition."""

import pytest
import torch
from torch.nn.functional import normalize

from lort_hub.features.matrix import CPU, FeatureMatrix
from lort_hub.heads.repetition import repetition_note, repetition_share
from lort_hub.heads.training_set import TrainingSet


def things(frames, number=300, dim=24, change=0.1):
    """Each thing so many times, with a little change; directions matter ever less, as in real features."""
    scales = torch.logspace(0, -1.5, dim)
    once = (torch.randn(number // frames, dim) * scales).repeat_interleave(frames, dim=0)
    return once + change * scales * torch.randn(number, dim)


def training(x, groups=None, device=CPU):
    return TrainingSet(FeatureMatrix.of(x).to(device), torch.arange(len(x)) % 3, 3, groups=groups)


def test_frames_are_noticed_and_distinct_images_are_not():
    note = repetition_note(training(things(frames=5)))
    assert note.startswith("96 % of the images have a neighbour far nearer")
    assert repetition_note(training(things(frames=1))) is None
    assert repetition_share(training(things(frames=1))) < 0.02


def test_images_of_one_group_are_no_repetition(device):
    groups = torch.arange(300) // 5
    assert repetition_share(training(things(frames=5), groups, device)) < 0.02


def test_the_share_is_that_of_the_whole_matrix(device):
    x = torch.cat([things(frames=3, number=90), things(frames=1, number=210)])
    directions = normalize(x - x.mean(dim=0))
    distances = torch.cdist(directions, directions).fill_diagonal_(torch.inf).sort(dim=1).values.log()
    spacing = (distances[:, 83] - distances[:, 20]).mean()
    expected = ((distances[:, 20] - distances[:, 0]) > 6 * spacing).float().mean().item()
    assert repetition_share(training(x, device=device)) == pytest.approx(expected, abs=1e-6)
    assert 0.2 < expected < 0.4


@pytest.mark.parametrize("dim", [2, 8, 64])
def test_evenly_spread_samples_are_none_in_any_number_of_dimensions(dim):
    assert repetition_share(training(torch.randn(2500, dim))) < 0.03


def test_of_few_images_nothing_is_said():
    assert repetition_share(training(things(frames=5, number=195))) == 0
