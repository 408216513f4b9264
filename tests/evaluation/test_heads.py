import numpy as np
import pytest
import torch

from lort_hub.evaluation.heads import evaluate_fit, score_mix
from lort_hub.evaluation.metrics import evaluate
from lort_hub.features.store import Features
from lort_hub.heads.base import LinearHead
from lort_hub.heads.fitted import Fit
from lort_hub.records import ClassMix


def test_scores_at_a_mix_are_those_of_a_test_set_that_has_it():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    logits = rng.normal(size=(60, 3)) + np.eye(3)[labels]
    repeats = np.array([6, 3, 1])
    rows = np.repeat(np.arange(60), repeats[labels])
    whole = evaluate(logits[rows], labels[rows], repeats)
    scores = score_mix(logits, labels, ClassMix("mine", (0.6, 0.3, 0.1)))
    assert scores.accuracy == pytest.approx(whole.accuracy)
    assert scores.nll == pytest.approx(whole.nll)
    assert scores.ece == pytest.approx(whole.ece)
    uneven = np.concatenate([np.arange(60), np.arange(20)])  # the first class is tested twice as often
    again = score_mix(logits[uneven], labels[uneven], ClassMix("mine", (0.6, 0.3, 0.1)))
    assert again.ece == pytest.approx(scores.ece)


def test_a_moved_head_is_reported_as_solved_and_calibrated_without_the_move():
    random = torch.Generator().manual_seed(0)
    test = Features(torch.randn(30, 4, generator=random), torch.arange(30) % 3, torch.arange(30))
    head = LinearHead(torch.randn(3, 4, generator=random), torch.zeros(3))
    made = evaluate_fit(Fit(head, "ncm", {}, scale=5.0), test, [9, 9, 9])
    mix = ClassMix("mine", (0.8, 0.1, 0.1))
    shift = torch.tensor(mix.shares).log()
    moved = evaluate_fit(Fit(head, "ncm", {}, scale=5.0, shift=shift, mix=mix), test, [9, 9, 9], mix=mix)
    assert (moved.as_solved, moved.calibrated) == (made.as_solved, made.calibrated)
    assert made.calibrated.nll == pytest.approx(made.nll)
    assert moved.nll > made.nll
    assert made.mix is None
    assert moved.mix.name == "mine"
