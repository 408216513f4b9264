import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lort_hub.errors import ConfigError
from lort_hub.heads.solvers.objective import (
    LORT_LOGIT_GAP,
    Objective,
    delta_for_gap,
    logit_adjustment,
    logit_gap,
    objective_value,
    sample_weights,
)
from tests.support.features import random_head_and_features


def test_gradient_is_that_of_torch_cross_entropy_with_label_smoothing():
    weight, bias, x, labels, counts = random_head_and_features()
    weight.requires_grad_()
    objective_value(Objective(delta=0.98), weight, bias, x, labels, counts).backward()
    ours, weight.grad = weight.grad, None
    F.cross_entropy(x @ weight.T + bias, labels, label_smoothing=0.98).backward()
    torch.testing.assert_close(ours, weight.grad, rtol=1e-12, atol=1e-14)


def test_targets_are_the_paper_s():
    # K = 100, delta = .98: 0.0298 for the true class, 0.0098 for the others (docs/method.md). With one
    # sample at the zero head the gradient for the bias is softmax - target.
    bias = torch.zeros(100, dtype=torch.float64, requires_grad=True)
    x, labels = torch.zeros(1, 1, dtype=torch.float64), torch.tensor([7])
    counts = torch.ones(100, dtype=torch.int64)
    objective_value(
        Objective(delta=0.98), torch.zeros(100, 1, dtype=torch.float64), bias, x, labels, counts
    ).backward()
    target = 0.01 - bias.grad
    assert target[7].item() == pytest.approx(0.0298, abs=1e-12)
    assert target[8].item() == pytest.approx(0.0098, abs=1e-12)


def test_every_term_by_hand():
    # Two samples, K = 2, counts (3, 1): omega with gamma 1 is (1/3, 1) / (4/3) = (1/4, 3/4); pi = (3/4, 1/4).
    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    labels, counts = torch.tensor([0, 1]), torch.tensor([3, 1])
    weight, bias = torch.tensor([[0.5], [-0.5]], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    expected = 0.0
    for value, label, omega in ((1.0, 0, 0.25), (2.0, 1, 0.75)):
        logits = [0.5 * value + math.log(0.75), -0.5 * value + math.log(0.25)]
        log_sum = math.log(sum(math.exp(z) for z in logits))
        target = [0.1, 0.1]
        target[label] += 0.8
        expected += omega * sum(t * (log_sum - z) for t, z in zip(target, logits, strict=True))
    expected += 0.5 * 0.3 * 0.5
    got = objective_value(Objective(0.2, 1.0, 1.0, 0.3), weight, bias, x, labels, counts)
    assert got.item() == pytest.approx(expected, rel=1e-12)


@given(st.floats(0.01, 0.999), st.integers(2, 10_000))
def test_gap_and_delta_are_inverse(delta, classes):
    assert delta_for_gap(logit_gap(delta, classes), classes) == pytest.approx(delta, rel=1e-9)


def test_gap_by_hand():
    assert pytest.approx(1.11213, abs=1e-5) == LORT_LOGIT_GAP
    for classes, gap in ((10, 0.19), (1000, 3.06), (8142, 5.12)):
        assert logit_gap(0.98, classes) == pytest.approx(gap, abs=5e-3)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=6), st.floats(0, 2))
def test_weights_sum_to_one_and_gamma_one_balances_classes(counts, gamma):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    omega = sample_weights(labels, torch.tensor(counts), gamma)
    assert omega.sum().item() == pytest.approx(1)
    balanced = sample_weights(labels, torch.tensor(counts), 1.0)
    per_class = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, labels, balanced)
    torch.testing.assert_close(per_class, torch.full_like(per_class, 1 / len(counts)))


def test_adjustment_is_log_frequency():
    assert logit_adjustment(torch.tensor([9, 1]), 2.0).tolist() == pytest.approx(
        [2 * math.log(0.9), 2 * math.log(0.1)]
    )


@pytest.mark.parametrize(
    "values",
    [{"delta": 1.0}, {"delta": -0.1}, {"gamma": -1.0}, {"weight_decay": math.inf}, {"tau": math.nan}],
)
def test_values_out_of_range_are_refused_by_name(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        Objective(**values)


def test_a_class_without_samples_counts_as_one_so_that_every_loss_is_finite():
    assert logit_adjustment(torch.tensor([3, 0]), 1.0).exp().tolist() == pytest.approx([0.75, 0.25])
