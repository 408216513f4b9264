from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

import lort_hub.heads.training_set
from lort_hub.errors import ConfigError, FeatureError
from lort_hub.heads.base import FitInputs
from lort_hub.heads.cross_validation import SCORERS, Validator
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitters import closed_form, exact, fit_method
from lort_hub.heads.leave_one_out import predict_leave_one_out
from lort_hub.heads.methods import METHODS
from lort_hub.heads.search import setting_paths
from lort_hub.heads.solvers.eigenbasis import class_sums
from lort_hub.heads.training_set import TrainingSet

COUNTS = torch.tensor([60, 25, 10, 4, 1])
GAMMAS = (0.0, 0.5, 1.0)


@pytest.fixture
def training():
    labels = torch.arange(5).repeat_interleave(COUNTS)[torch.randperm(100)]
    return TrainingSet(torch.randn(5, 6)[labels] + torch.randn(100, 6), labels, 5)


def scored(training, numbers, monkeypatch):
    """How many of each class are scored where so many numbers fit into memory, and which samples."""
    monkeypatch.setattr(lort_hub.heads.training_set, "SCORING_NUMBERS", numbers)
    mask = TrainingSet(training.matrix, training.labels, 5).scoring_mask
    return torch.bincount(training.labels[mask], minlength=5).tolist(), mask


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.uint16, torch.uint64])
def test_labels_of_any_integer_type_are_the_same(training, kind):
    other = TrainingSet(training.matrix, training.labels.to(kind), 5)
    assert other.labels.equal(training.labels)
    assert fit_head(other, "ncm").weight.equal(fit_head(training, "ncm").weight)


def test_labels_that_are_no_whole_numbers_from_0_are_refused(training):
    wrong = (training.labels.double(), training.labels > 0, training.labels - 1)
    for labels, said in zip(wrong, ("float64", "bool", "int64, -1 the least"), strict=True):
        with pytest.raises(FeatureError, match=f"labels are {said}.*\n.*labels.long"):
            TrainingSet(training.matrix, labels, 5)


def test_where_no_image_can_be_held_out_it_is_said():
    single = Validator(TrainingSet(torch.eye(3), torch.arange(3), 3))
    assert single.describe_folds() == "none could be, as every class has a single image"


def test_scored_are_as_many_of_each_class_as_fit(training, monkeypatch):
    per_sample = 6 + 5
    assert scored(training, 100 * per_sample, monkeypatch)[0] == COUNTS.tolist()
    assert scored(training, 100 * per_sample - 1, monkeypatch)[0] == [59, 25, 10, 4, 1]
    assert scored(training, 35 * per_sample, monkeypatch)[0] == [10, 10, 10, 4, 1]
    assert scored(training, 34 * per_sample, monkeypatch)[0] == [9, 9, 9, 4, 1]
    assert scored(training, 1, monkeypatch)[0] == [2, 2, 2, 2, 1]  # one alone has no spread


def test_scored_are_the_same_each_time_and_not_the_first(training, monkeypatch):
    _, mask = scored(training, 35 * 11, monkeypatch)
    assert torch.equal(scored(training, 35 * 11, monkeypatch)[1], mask)
    first = (training.labels == 0).nonzero().flatten()[:10]
    assert not mask[first].all()


def test_scored_samples_are_told_what_they_are_where_all_are_scored(training, monkeypatch):
    path = [{"gamma": 0.5, "weight_decay": decay} for decay in (1e-3, 0.1)]
    whole = list(predict_leave_one_out(training, path))
    _, mask = scored(training, 35 * 11, monkeypatch)
    some = predict_leave_one_out(TrainingSet(training.matrix, training.labels, 5), path)
    for all_of_them, few in zip(whole, some, strict=True):
        assert torch.equal(few.labels, training.labels[mask])
        assert torch.equal(few.predicted, all_of_them.predicted[mask])


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
    head, x = closed_form(FitInputs(training), settings), training.x.double()
    ridge = Ridge(alpha=5 * decay).fit(x, np.eye(5)[training.labels], sample_weight=training.weights(gamma))
    scale = (1 - 0.9) * 5
    np.testing.assert_allclose(head.weight, scale * ridge.coef_, atol=1e-6)
    np.testing.assert_allclose(head.bias, scale * (ridge.intercept_ - 1 / 5), atol=1e-6)


def test_closed_form_sees_the_kept_samples_alone(training):
    settings = {"delta": 0.9, "gamma": 0.5, "weight_decay": 0.02}
    kept = torch.arange(100) % 3 > 0
    kept |= training.labels == 4
    part = closed_form(FitInputs(training, mask=kept), settings)
    alone = closed_form(FitInputs(TrainingSet(training.x[kept], training.labels[kept], 5)), settings)
    torch.testing.assert_close(part.weight, alone.weight, atol=1e-6, rtol=0)
    torch.testing.assert_close(part.bias, alone.bias, atol=1e-6, rtol=0)
    held_out = TrainingSet(training.matrix, training.labels, 5, held_out=~kept)
    selection = fit_head(held_out, "lort", solver="closed-form").selection
    [chosen] = Validator(held_out).cross_validate(
        replace(METHODS["lort"], fitter="closed-form"), [selection.chosen]
    )
    again = closed_form(FitInputs(training, mask=kept), selection.chosen).logits(training.x[~kept])
    assert torch.equal(chosen.predicted, again[:, :4].argmax(dim=1))  # no sample of class 4 is held out
    assert selection.score == pytest.approx(SCORERS["balanced-accuracy"](chosen))


@pytest.mark.parametrize(("delta", "furthest"), [(0.9, 0.3), (0.99, 0.03), (0.999, 0.003)])
def test_the_optimum_tends_to_the_closed_form(training, delta, furthest):
    settings = {"delta": delta, "gamma": 1.0, "weight_decay": 0.02}
    limit = closed_form(FitInputs(training), settings).weight
    distance = (exact(FitInputs(training, tolerance=1e-7), settings).weight - limit).norm() / limit.norm()
    assert furthest / 30 < distance < furthest


def test_the_closed_form_is_refused_where_it_is_no_limit(training):
    for method in ("ce", "crt", "balanced-softmax", "las"):
        with pytest.raises(
            ConfigError, match='limit of over-smoothed labels(.|\n)*Use it with `method="lort"`'
        ):
            fit_head(training, method, weight_decay=0.1, solver="closed-form")
    with pytest.raises(ConfigError, match="a positive `weight_decay`"):
        fit_head(training, "lort", weight_decay=0.0, solver="closed-form")
    with pytest.raises(ConfigError, match="'tau-norm' is not a point of the objective"):
        fit_head(training, "tau-norm", solver="closed-form")


def test_scored_are_of_what_the_backbone_has_not_seen(training, monkeypatch):
    held = torch.arange(100) % 3 == 0
    monkeypatch.setattr(lort_hub.heads.training_set, "SCORING_NUMBERS", 1)
    part = TrainingSet(training.matrix, training.labels, 5, held)
    counts = torch.bincount(training.labels[held], minlength=5)
    assert not (part.scoring_mask & ~held).any()
    assert torch.equal(torch.bincount(training.labels[part.scoring_mask], minlength=5), counts.clamp_max(2))
    how = Validator(part).describe(METHODS["ce"], {})
    expected = f"the {held.sum()} images held out of the backbone's training"
    scored = f"scored on {part.num_scored} of {held.sum()} samples, no image of 1 of 5 classes held out"
    assert how == f"{expected}, {scored}"


def test_closed_form_of_fewer_samples_than_features_is_found_at_any_ridge():
    x = torch.relu(torch.randn(60, 8) @ torch.randn(8, 200) + 1)
    few, x64 = TrainingSet(x, torch.arange(60) % 3, 3), x.double()
    targets = np.eye(3)[few.labels]
    unit = float(few.basis(0.0).values.mean()) / 3
    for decay in (1e-1 * unit, 1e-4 * unit, 1e-7 * unit):
        head = closed_form(FitInputs(few), {"delta": 0.9, "weight_decay": decay})
        theirs = Ridge(alpha=60 * 3 * decay).fit(x64, targets).predict(x64)
        ours = head.logits(x).double() / (0.1 * 3)
        np.testing.assert_allclose(ours - ours.mean(1, keepdim=True), theirs - 1 / 3, atol=2e-3)


@pytest.mark.parametrize("name", ["ce", "ncm", "eb-lda", "crt", "balanced-softmax", "lort"])
def test_a_head_of_reduced_features_that_lack_nothing_is_that_of_all(name, monkeypatch):
    monkeypatch.setattr("lort_hub.heads.training_set.KEPT_VARIANCE", 1 - 1e-5)
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 4
    inside = torch.randn(400, 12, generator=random) + 2 * torch.nn.functional.one_hot(labels, 12) + 3
    rotation = torch.linalg.qr(torch.randn(300, 300, generator=random)).Q
    training = TrainingSet(inside @ rotation[:12], labels, 4)
    reduced = training.reduced
    assert reduced.matrix.dim == 12  # the mean lies within
    assert reduced.width == 300
    settings = setting_paths(METHODS[name], training, {})[0][3 if METHODS[name].grid else 0]
    whole, part = (fit_method(METHODS[name], FitInputs(t), settings) for t in (training, reduced))
    lifted, bias = reduced.lift_head(part.weight, part.bias)
    logits = training.x @ lifted.T + bias
    torch.testing.assert_close(logits, whole.logits(training.x), atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(reduced.project_head(lifted, bias)[0], part.weight, atol=1e-4, rtol=1e-4)


def test_few_samples_keep_all_their_directions_and_many_those_with_most_of_the_variance(monkeypatch):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 400, generator=random) * torch.linspace(1, 0.01, 400)
    few, many = (TrainingSet(x[:n], torch.arange(n) % 2, 2) for n in (60, 2000))
    monkeypatch.setattr("lort_hub.heads.training_set.KEPT_DIRECTIONS", 100)
    kept = many.reduced.matrix.dim - 1  # the mean is the other one
    values = many.basis(0.0).values.flip(0)
    assert few.reduced.matrix.dim == 60
    assert values[:kept].sum() > 0.9 * values.sum() > values[: kept - 1].sum()


def test_reduced_features_know_as_well_which_held_out_samples_are_of_seen_groups():
    x, groups, held_out = torch.randn(300, 300), torch.arange(300) // 3, torch.arange(300) % 3 > 0
    held_out[:30] = True
    training = TrainingSet(x, torch.arange(300) % 2, 2, held_out, groups)
    for one in (training, training.reduced):
        assert one.held_out.nonzero().flatten().tolist() == list(range(30))
        assert (one.num_unseen, one.num_torn) == (30, 180)
    assert training.reduced.matrix.dim < 300
