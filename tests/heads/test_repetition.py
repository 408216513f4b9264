"""Frames of one clip are noticed, distinct images are not, and groups that are given are no repetition."""

import pytest
import torch

from lort_hub.heads.repetition import repetition_note, repetition_share
from lort_hub.heads.training_set import TrainingSet


def things(frames, number=300, dim=24, change=0.2):
    """Each thing so many times, with a little change; directions matter ever less, as in real features."""
    scales = torch.logspace(0, -1.5, dim)
    once = (torch.randn(number // frames, dim) * scales).repeat_interleave(frames, dim=0)
    return once + change * scales * torch.randn(number, dim)


def training(x, groups=None):
    return TrainingSet(x, torch.arange(len(x)) % 3, 3, groups=groups)


def test_frames_are_noticed_and_distinct_images_are_not():
    note = repetition_note(training(things(frames=5)))
    assert note.startswith("note: 100 % of the images have a neighbour far nearer")
    assert repetition_note(training(things(frames=1))) is None
    assert repetition_share(training(things(frames=1))) < 0.02


def test_images_of_one_group_are_no_repetition():
    groups = torch.arange(300) // 5
    assert repetition_share(training(things(frames=5), groups)) < 0.02


def test_the_share_is_that_of_the_whole_matrix():
    x = torch.cat([things(frames=3, number=90), things(frames=1, number=210)])
    of_all = training(x)
    basis = of_all.basis(0.0)
    white = (x - basis.mean) @ basis.vectors / (basis.values + 0.25 * basis.values.mean()).sqrt()
    white = white / white.norm(dim=1, keepdim=True)
    distances = torch.cdist(white, white).fill_diagonal_(torch.inf).sort(dim=1).values
    expected = (distances[:, 0] < 0.5 * distances[:, 20]).float().mean().item()
    assert repetition_share(of_all) == pytest.approx(expected, abs=1e-6)
    assert 0.2 < expected < 0.4


def test_of_few_images_nothing_is_said():
    assert repetition_share(training(torch.zeros(22, 4) + torch.arange(22)[:, None])) == 0
