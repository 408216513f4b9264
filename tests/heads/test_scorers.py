import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, recall_score

from lort_hub.errors import FeatureError
from lort_hub.heads.scorers import SCORERS, Predictions, calibration_scale, log_likelihoods, standard_error


def calibrated(logits, labels):
    return log_likelihoods(calibration_scale(logits, labels) * logits, labels)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1))
def test_scores_equal_scikit_learn_on_the_classes_that_occur(pairs):
    labels, predicted = torch.tensor(pairs).T
    held_out, present = Predictions(labels, predicted), labels.unique().numpy()
    recalls = recall_score(labels, predicted, average="macro", labels=present, zero_division=0)
    assert SCORERS["balanced-accuracy"](held_out) == pytest.approx(recalls)
    f1 = f1_score(labels, predicted, average="macro", labels=present, zero_division=0)
    assert SCORERS["macro-f1"](held_out) == f1


def test_nll_score_weighs_classes_equally():
    held_out = Predictions(torch.tensor([0, 0, 0, 1]), torch.zeros(4), torch.tensor([-1.0, -1.0, -1.0, -3.0]))
    assert SCORERS["nll"](held_out) == pytest.approx(-2.0)


@settings(deadline=None)
@given(st.integers(0, 50))
def test_standard_error_is_that_of_resampled_differences(seed):
    random = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0] * 30 + [1] * 5 + [2] * 60)
    one, other = (
        Predictions(labels, torch.where(torch.rand(95, generator=random) < share, labels, 3), torch.zeros(95))
        for share in (0.8, 0.6)
    )
    difference, differences = one.correct - other.correct, []
    for _ in range(400):
        drawn = [
            rows[torch.randint(len(rows), (len(rows),), generator=random)]
            for rows in (torch.nonzero(labels == k).squeeze(1) for k in range(3))
        ]
        differences.append(torch.stack([difference[rows].mean() for rows in drawn]).mean())
    expected = torch.stack(differences).std().item()
    assert standard_error(one, other, "balanced-accuracy") == pytest.approx(expected, rel=0.2, abs=1e-12)


def test_standard_error_of_log_likelihoods_by_hand():
    # Differences 1, 3 (variance 1 of 2) and 0, 0, 6 (variance 8 of 3): sqrt(1/2 + 8/3) over two classes.
    labels, zeros = torch.tensor([0, 0, 1, 1, 1]), torch.zeros(5)
    one = Predictions(labels, labels, torch.tensor([1.0, 3.0, 0.0, 0.0, 6.0]))
    other = Predictions(labels, labels, zeros)
    assert standard_error(one, other, "nll") == pytest.approx((1 / 2 + 8 / 3) ** 0.5 / 2)
    assert standard_error(one, other, "balanced-accuracy") == 0.0


def test_calibration_finds_the_temperature_of_the_balanced_likelihood():
    random = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 40 + [1] * 8 + [2] * 4)
    logits = torch.randn(52, 3, generator=random) + 2 * torch.eye(3)[labels]
    weights = 1 / torch.bincount(labels)[labels] / 3
    scales = torch.logspace(-2, 2, 20_001)[:, None, None].double()
    log_p = torch.log_softmax(scales * logits, dim=2)
    every = log_p[:, torch.arange(52), labels]
    wrong = 0.25 / (9 / (1 / 40 + 1 / 8 + 1 / 4) + 0.5)  # beside the samples, as if all classes had as many
    counted = (1 - wrong) * every + wrong / 2 * (log_p.sum(dim=2) - every)
    best = every[(counted @ weights.double()).argmax()].float()
    torch.testing.assert_close(calibrated(logits, labels), best, atol=2e-3, rtol=0)
    for scale in (1e-4, 1e3):  # the heads of LORT and the nearest class means
        torch.testing.assert_close(
            calibrated(scale * (logits + 7), labels),
            calibrated(logits, labels),
            atol=1e-3,
            rtol=0,
        )


@pytest.mark.parametrize("at_once", [1, 7, 100])  # a row of 5 logits at a time, one, and 20
def test_blocks_of_rows_change_no_calibration(at_once, monkeypatch):
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (53,), generator=random)
    logits = torch.randn(53, 5, generator=random) + 2 * torch.eye(5)[labels]
    whole = calibration_scale(logits, labels)
    monkeypatch.setattr("lort_hub.heads.scorers.LOGITS_AT_ONCE", at_once)
    assert calibration_scale(logits, labels) == pytest.approx(whole, rel=1e-6)


def test_logits_that_know_nothing_are_calibrated_to_a_uniform_guess():
    labels = torch.arange(200) % 4
    for logits in (torch.zeros(200, 4), -10 * torch.eye(4)[labels]):
        torch.testing.assert_close(
            calibrated(logits, labels), torch.full((200,), -np.log(4)), atol=0.02, rtol=0
        )


def test_logits_that_are_not_finite_are_refused():
    logits = torch.tensor([[1.0, torch.nan], [0.0, 1.0]])
    with pytest.raises(FeatureError, match="cannot be calibrated"):
        calibration_scale(logits, torch.tensor([0, 1]))
