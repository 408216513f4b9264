import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

import lort_hub.training_set
from lort_hub.eigenbasis import class_sums
from lort_hub.errors import ConfigError
from lort_hub.fitting import Sample, closed_form, exact
from lort_hub.heads import fit_head
from lort_hub.training_set import TrainingSet

COUNTS = torch.tensor([60, 25, 10, 4, 1])
GAMMAS = (0.0, 0.5, 1.0)


@pytest.fixture
def training():
    labels = torch.arange(5).repeat_interleave(COUNTS)[torch.randperm(100)]
    return TrainingSet(torch.randn(5, 6)[labels] + torch.randn(100, 6), labels, 5)


def scored(training, numbers, monkeypatch):
    """How many of each class are scored where so many numbers fit into memory, and which samples."""
    monkeypatch.setattr(lort_hub.training_set, "SCORED", numbers)
    mask = TrainingSet(training.matrix, training.labels, 5).scored
    return torch.bincount(training.labels[mask], minlength=5).tolist(), mask


def test_scored_are_as_many_of_each_class_as_fit(training, monkeypatch):
    per_sample = 6 + 5
    assert scored(training, 100 * per_sample, monkeypatch)[0] == COUNTS.tolist()
    assert scored(training, 100 * per_sample - 1, monkeypatch)[0] == [59, 25, 10, 4, 1]
    assert scored(training, 35 * per_sample, monkeypatch)[0] == [10, 10, 10, 4, 1]
    assert scored(training, 34 * per_sample, monkeypatch)[0] == [9, 9, 9, 4, 1]
    assert scored(training, 1, monkeypatch)[0] == [1, 1, 1, 1, 1]


def test_scored_are_the_same_each_time_and_not_the_first(training, monkeypatch):
    _, mask = scored(training, 35 * 11, monkeypatch)
    assert torch.equal(scored(training, 35 * 11, monkeypatch)[1], mask)
    first = (training.labels == 0).nonzero().flatten()[:10]
    assert not mask[first].all()


def test_a_choice_by_some_samples_is_one_by_their_leave_one_out(training, monkeypatch):
    whole = fit_head(training, "lort").selection
    monkeypatch.setattr(lort_hub.training_set, "SCORED", 35 * 11)
    some = fit_head(TrainingSet(training.matrix, training.labels, 5), "lort").selection
    assert some.candidates != whole.candidates
    assert {round(15 * 5 * c["score"] * 20) % 1 for c in some.candidates} == {0}


@pytest.mark.parametrize("gamma", GAMMAS)
def test_weights_sum_to_one_and_weigh_the_sums(training, gamma):
    omega = training.weights(gamma)
    assert omega.sum().item() == pytest.approx(1, abs=1e-12)
    of_class = torch.zeros(5, dtype=torch.float64).index_add_(0, training.labels, omega)
    expected = COUNTS.double() ** (1 - gamma)
    torch.testing.assert_close(of_class, expected / expected.sum(), atol=1e-12, rtol=0)
    sums = class_sums(training.matrix, training.labels, omega, 5)
    torch.testing.assert_close(training.weighted_sums(gamma), sums, atol=1e-12, rtol=0)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("decay", [1e-4, 0.1])
def test_closed_form_is_ridge_regression_scaled(training, gamma, decay):
    settings = {"delta": 0.9, "gamma": gamma, "weight_decay": decay}
    head, x = closed_form(Sample(training), settings), training.x.double()
    ridge = Ridge(alpha=5 * decay).fit(x, np.eye(5)[training.labels], sample_weight=training.weights(gamma))
    scale = (1 - 0.9) * 5
    np.testing.assert_allclose(head.weight, scale * ridge.coef_, atol=1e-6)
    np.testing.assert_allclose(head.bias, scale * (ridge.intercept_ - 1 / 5), atol=1e-6)


@pytest.mark.parametrize(("delta", "furthest"), [(0.9, 0.3), (0.99, 0.03), (0.999, 0.003)])
def test_the_optimum_tends_to_the_closed_form(training, delta, furthest):
    settings = {"delta": delta, "gamma": 1.0, "weight_decay": 0.02}
    limit = closed_form(Sample(training), settings).weight
    distance = (exact(Sample(training, tolerance=1e-7), settings).weight - limit).norm() / limit.norm()
    assert furthest / 30 < distance < furthest


def test_the_closed_form_is_refused_where_it_is_no_limit(training):
    for method in ("ce", "crt", "balanced-softmax", "las"):
        with pytest.raises(
            ConfigError, match="limit of over-smoothed labels(.|\n)*Use it with --method lort"
        ):
            fit_head(training, method, weight_decay=0.1, solver="closed-form")
    with pytest.raises(ConfigError, match="a positive --weight-decay"):
        fit_head(training, "lort", weight_decay=0.0, solver="closed-form")
    with pytest.raises(ConfigError, match="'tau-norm' is not a point of the objective"):
        fit_head(training, "tau-norm", solver="closed-form")
