import numpy as np
import pytest
import torch

from lort_hub.evaluation.heads import evaluate_fit, optimism_note, score_mix
from lort_hub.evaluation.magnitude import logits_magnitude
from lort_hub.evaluation.metrics import evaluate
from lort_hub.features.store import Features
from lort_hub.heads.base import LinearHead
from lort_hub.heads.choose import fit_by_name
from lort_hub.heads.class_mix import move
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitted import Fit
from lort_hub.records import ClassMix
from tests.support.features import clusters


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


def test_a_sum_of_heads_is_reported_as_its_weights_calibrate_it_without_the_move():
    random = torch.Generator().manual_seed(0)
    test = Features(torch.randn(30, 4, generator=random), torch.arange(30) % 3, torch.arange(30))
    head, mix = (
        LinearHead(torch.randn(3, 4, generator=random), torch.zeros(3)),
        ClassMix("mine", (0.8, 0.1, 0.1)),
    )
    made = evaluate_fit(Fit(head, "stack", {}), test, [9, 9, 9])
    assert made.as_solved is None
    whole = evaluate(head.logits(test.x), test.y, [9, 9, 9], weight=head.weight)
    assert (made.calibrated.nll, made.calibrated.ece) == (whole.nll, whole.ece)
    assert made.calibrated.logits_magnitude == pytest.approx(
        np.mean(logits_magnitude(head.logits(test.x).numpy(), test.y.numpy()))
    )
    assert made.calibrated.regularized_std == pytest.approx(np.mean(whole.regularized_std.per_class))
    assert made.calibrated.weight_norm == pytest.approx(head.weight.norm(dim=1).mean().item())
    fit = Fit(head, "stack", {}, shift=torch.tensor(mix.shares).log(), mix=mix)
    assert evaluate_fit(fit, test, [9, 9, 9], mix=mix).calibrated == made.calibrated


def remade(training, method="auto"):
    baseline = fit_head(training, "ce")
    return fit_by_name(training, method, known=[baseline], settings={})


def of_the_same_kind(centres, number, noise=1.0, seed=99):
    labels = torch.arange(len(centres)).repeat_interleave(number)
    random = torch.Generator().manual_seed(seed)
    return centres[labels] + noise * torch.randn(len(labels), centres.shape[1], generator=random), labels


@pytest.mark.parametrize("method", ["auto", "lort", "ce"])
def test_training_images_that_the_backbone_knows_are_told_by_the_test(method):
    training, centres = clusters(counts=(60, 20, 6), noise=0.05)
    fit = remade(training, method)
    easy, hard = of_the_same_kind(centres, 50, 0.05), of_the_same_kind(centres, 50, 3.0)
    assert optimism_note(fit, fit.logits(easy[0]), easy[1]) is None
    note = optimism_note(fit, fit.logits(hard[0]), hard[1])
    right = 100 * (fit.logits(hard[0]).argmax(dim=1) == hard[1]).double().mean().item()
    assert note.startswith("100.0 % of the held-out training images are recognised, but ")
    if method != "ce":  # which decides for the training mix, but is judged for classes equally likely
        assert f"but {right:.1f} % of the test images" in note


@pytest.mark.parametrize("counts", [(60, 20, 6), (5, 2, 2), (30, 2, 1), (9, 9, 9)])
def test_images_of_one_kind_are_no_cause_for_a_note(counts):
    for seed in range(6):
        training, centres = clusters(seed, counts=counts, noise=1.5)
        for method in ("auto", "ce"):
            fit = remade(training, method)
            x, labels = of_the_same_kind(centres, 8, 1.5, seed=100 + seed)
            assert optimism_note(fit, fit.logits(x), labels) is None, (seed, method)


def test_the_note_is_that_of_the_head_before_it_was_moved():
    training, centres = clusters(noise=0.3)
    fit = remade(training)
    x, labels = of_the_same_kind(centres, 50, 3.0)
    moved = move(fit, "mine", torch.tensor([0.98, 0.01, 0.01]))
    assert (moved.logits(x).argmax(dim=1) != fit.logits(x).argmax(dim=1)).any()
    assert (
        optimism_note(moved, moved.logits(x), labels) == optimism_note(fit, fit.logits(x), labels) is not None
    )


def test_classes_that_only_one_side_has_count_on_neither():
    training, centres = clusters(counts=(60, 20, 1), noise=0.05)
    fit = remade(training)
    x, labels = of_the_same_kind(centres, 50, 0.05)
    swapped = torch.where(labels == 2, 0, labels)  # the third class is never right, and has no held-out image
    assert optimism_note(fit, fit.logits(x[labels < 2]), labels[labels < 2]) is None
    assert optimism_note(fit, fit.logits(x[labels == 2]), labels[labels == 2]) is None
    wrong = fit.logits(x).clone()
    wrong[labels == 2] = torch.tensor([9.0, 0.0, 0.0])
    assert optimism_note(fit, wrong, labels) is None
    assert optimism_note(fit, wrong[swapped == 0], swapped[swapped == 0]) is None


def test_without_held_out_decisions_or_logits_there_is_nothing_to_say():
    training, centres = clusters(noise=0.05)
    x, labels = of_the_same_kind(centres, 50, 3.0)
    fit = remade(training)
    assert optimism_note(fit, None, labels) is None
    raw = fit_head(training, "lort", calibrate=False)
    assert optimism_note(raw, raw.logits(x), labels) is None


def test_a_moved_head_whose_scale_changed_is_reported_as_it_was_calibrated():
    training, centres = clusters(counts=(60, 20, 6), noise=2.0)
    x, labels = of_the_same_kind(centres, 30, noise=2.0)
    test = Features(x, labels, torch.arange(len(labels)))
    made = remade(training, "ce")
    moved = move(made, "train", training.class_counts / 86)
    assert moved.scale / made.scale == pytest.approx(made.mix.scale)
    assert made.mix.scale != pytest.approx(1, abs=0.01)
    before, after = (evaluate_fit(fit, test, [60, 20, 6]) for fit in (made, moved))
    assert after.calibrated == before.calibrated
    assert after.as_solved == before.as_solved
    again = evaluate_fit(move(moved, "balanced", torch.ones(3) / 3), test, [60, 20, 6])
    assert again.calibrated == before.calibrated
