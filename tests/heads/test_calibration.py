import pytest
import torch

from lort_hub.heads.best import fit_best
from lort_hub.heads.calibration import calibration_of
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitted import Fit
from lort_hub.heads.leave_one_out import LEAST_RIDGE, predict_leave_one_out
from lort_hub.heads.methods import METHODS
from lort_hub.heads.scorers import calibration_scale
from lort_hub.heads.search import select
from lort_hub.heads.stack import fit_stack
from lort_hub.heads.training_set import TrainingSet
from tests.support.features import clusters, corners


@pytest.fixture(scope="module")
def problem():
    """Training samples of overlapping classes, and balanced test samples (M, D), (M,) of the same ones."""
    training, centres = clusters(counts=(300, 120, 60, 30), dim=10, noise=2.5)
    labels = torch.arange(4).repeat(1500)
    noise = torch.randn(len(labels), 10, generator=torch.Generator().manual_seed(5))
    return training, centres[labels] + 2.5 * noise, labels


def confidence_less_accuracy(fit, x, labels):
    top, predicted = fit.logits(x).softmax(dim=1).max(dim=1)
    return float(top.mean() - (predicted == labels).float().mean())


@pytest.mark.parametrize("name", ["ce", "lort", "eb-lda", "ncm", "tau-norm", "balanced-softmax", "cosine"])
def test_a_balanced_test_set_is_right_as_often_as_the_head_says(name, problem):
    training, x, labels = problem
    fit = fit_head(training, name)
    assert abs(confidence_less_accuracy(fit, x, labels)) < 0.05


def test_lort_as_solved_says_far_less_than_it_knows_and_predicts_the_same(problem):
    training, x, labels = problem
    raw, fit = (fit_head(training, "lort", calibrate=calibrate) for calibrate in (False, True))
    assert confidence_less_accuracy(raw, x, labels) < -0.2
    assert raw.scale == 1
    assert raw.weight.equal(fit.as_solved[0])
    assert fit.logits(x).argmax(dim=1).equal(raw.logits(x).argmax(dim=1))
    torch.testing.assert_close(fit.weight, fit.scale * raw.weight)
    torch.testing.assert_close(fit.logits(x), x @ fit.weight.T + fit.bias)


def test_the_scale_is_the_likeliest_of_all_with_classes_counting_alike():
    random = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([60, 20, 7]))
    logits = torch.randn(87, 3, generator=random) + torch.nn.functional.one_hot(labels, 3)

    effective = 9 / (1 / 60 + 1 / 20 + 1 / 7)
    wrong = 0.25 / (effective + 0.5)

    def likelihood(scale):
        each = (scale * logits).log_softmax(dim=1)
        right = each[torch.arange(87), labels]
        each = (1 - wrong) * right + wrong * (each.sum(dim=1) - right) / 2
        return torch.stack([each[labels == k].mean() for k in range(3)]).mean()

    best = max((0.01 * step for step in range(1, 400)), key=likelihood)
    assert calibration_scale(logits, labels) == pytest.approx(best, abs=0.006)
    assert calibration_scale(100 * logits, labels) == pytest.approx(best / 100, abs=6e-5)
    assert calibration_scale(torch.ones(87, 3), labels) == 1


def test_rounding_of_equal_logits_is_no_signal_but_small_logits_are_on_top_of_large_ones_too():
    labels = torch.arange(60) % 3
    own = torch.nn.functional.one_hot(labels, 3).float()
    one_bit_apart = torch.nextafter(torch.full((60, 3), 1 / 3), own)
    assert one_bit_apart.argmax(dim=1).equal(labels)
    assert calibration_scale(one_bit_apart, labels) == 1
    assert calibration_scale(1e-9 * own, labels) == pytest.approx(1e9 * calibration_scale(own, labels))
    assert calibration_scale(1e3 + own, labels) == pytest.approx(calibration_scale(own, labels), rel=1e-3)


def test_features_that_tell_nothing_of_a_group_left_out_give_chance_and_no_scale():
    """Six copies of a picture in each group, two of each class: only rounding could tell their labels."""
    groups = torch.arange(60) // 6
    x = torch.randn(60, 30, generator=torch.Generator().manual_seed(0))[groups * 6]
    fit = fit_head(TrainingSet(x, torch.arange(60) % 3, 3, groups=groups), "lort")
    assert fit.selection.score == pytest.approx(1 / 3)
    assert fit.scale == 1


@pytest.mark.parametrize("images", [2, 10, 1000])
def test_a_head_that_is_right_on_every_held_out_sample_is_no_surer_than_their_number_allows(images):
    labels = torch.arange(2 * images) % 2
    logits = 1e-3 * torch.nn.functional.one_hot(labels, 2).float()
    sure = (calibration_scale(logits, labels) * logits).softmax(dim=1).amax()
    wrong = 0.25 / (2 * images + 0.5)
    assert sure.item() == pytest.approx(1 - wrong, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_heads_that_are_right_on_every_held_out_sample_are_not_certain_of_new_ones(seed):
    """As they were: the likeliest scale was the largest that is searched, and the loss here 6 to 36."""
    training, tested, new = corners(seed, scale=0.8, count=3)
    baseline = fit_head(training, "ce")
    for fit in (baseline, fit_head(training, "lort"), fit_stack(training, baseline=baseline)):
        loss = torch.nn.functional.cross_entropy(fit.logits(tested), new).item()
        assert loss < 0.7, fit.method


def test_heads_of_the_limit_and_near_it_end_in_the_same_calibrated_logits(problem):
    # Leave-one-out predicts by ridge regression, whose logits have a scale of their own.
    training, x, _ = problem
    settings = {"gamma": 1.0, "weight_decay": 0.05, "delta": 0.9}
    limit = fit_head(training, "lort", solver="closed-form", **settings)
    said = next(predict_leave_one_out(training, [settings], likelihood=True))
    assert limit.scale * (1 - 0.9) * 4 == pytest.approx(said.scale, rel=1e-4)
    exact = fit_head(training, "lort", **settings)
    ratio = exact.logits(x).std(dim=1).mean() / limit.logits(x).std(dim=1).mean()
    assert ratio == pytest.approx(1, abs=0.03)
    [folds] = Validator(training).cross_validate(METHODS["lort"], [exact.settings])
    assert exact.scale == pytest.approx(folds.scale, rel=0.1)


def test_other_methods_start_from_the_head_as_it_was_solved(problem):
    training, _, _ = problem
    raw, baseline = (fit_head(training, "ce", calibrate=calibrate) for calibrate in (False, True))
    assert baseline.scale != 1
    first, second = (
        fit_head(training, "logit-adjust", baseline=base, calibrate=False) for base in (raw, baseline)
    )
    assert first.weight.equal(second.weight)
    assert first.bias.equal(second.bias)


def test_the_choice_of_a_method_is_calibrated_unless_it_is_not_to_be(problem):
    training, x, labels = problem
    baseline = fit_head(training, "ce")
    fit, raw = (fit_best(training, baseline=baseline, calibrate=calibrate) for calibrate in (True, False))
    assert raw.scale == 1
    assert fit.as_solved[0].equal(raw.weight)
    assert abs(confidence_less_accuracy(fit, x, labels)) < 0.05


def test_a_cached_baseline_keeps_its_scale(problem):
    fit = fit_head(problem[0], "ce")
    again = Fit.from_cache(*fit.to_cache())
    assert again.scale == fit.scale
    assert again.weight.equal(fit.weight)


def test_the_scale_is_the_same_to_six_digits_whatever_the_order_of_sums():
    # For it is in the exported head, which does not depend on the number of processes.
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (20_000,), generator=random)
    logits = torch.randn(20_000, 10, generator=random) + torch.nn.functional.one_hot(labels, 10)
    order = torch.randperm(20_000, generator=random)
    first, second = calibration_scale(logits, labels), calibration_scale(logits[order], labels[order])
    assert second == pytest.approx(first, rel=1e-6)
    assert calibration_scale(logits.double(), labels) == pytest.approx(first, rel=1e-6)


def test_a_head_is_compared_to_ridge_regression_at_the_ridge_that_predicted_the_held_out_samples():
    """Leave-one-out takes less weight decay than float32 can tell for more: same predictions, same scale."""
    training, _ = clusters(counts=(30, 20, 10), dim=6, noise=2.0)
    thin = 1e-4 * torch.randn(60, 40, generator=torch.Generator().manual_seed(0))
    training = TrainingSet(torch.cat([training.x, thin], dim=1), training.labels, 3)
    validator, lort, scales = Validator(training), METHODS["lort"], []
    head = fit_head(training, "lort", gamma=0.0, weight_decay=1e-14, calibrate=False).head
    for decay in (1e-14, LEAST_RIDGE * float(training.basis(0.0).values.max()) / 3):
        selection = select(validator, lort, {"gamma": 0.0, "weight_decay": decay})
        scales.append(calibration_of(validator, lort, selection, head))
    assert scales[0] == pytest.approx(scales[1], rel=1e-6)
