import dataclasses

import pytest
import torch

from lort_hub.backbones.load import load_backbone
from lort_hub.errors import ConfigError, FeatureError
from lort_hub.features.matrix import FeatureMatrix
from lort_hub.features.store import Features
from lort_hub.heads.best import fit_best
from lort_hub.heads.fit import fit_baseline, fit_head
from lort_hub.heads.fitted import own_fit, own_head, stage1_fit
from lort_hub.heads.methods import METHODS, class_mix
from lort_hub.heads.solvers.eigenbasis import ridge_head
from lort_hub.heads.solvers.objective import LORT_LOGIT_GAP, Objective, delta_for_gap, objective_value
from lort_hub.heads.solvers.sgd import sgd
from lort_hub.heads.stack import fit_stack
from lort_hub.heads.training_set import TrainingSet
from lort_hub.records import TrainedOn
from tests.support.features import clusters


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.fitter == "exact"])
def test_exact_heads_are_at_the_minimum_of_what_they_report(method):
    training, _ = clusters()
    fit = fit_head(training, method, calibrate=False)
    weight, bias = fit.weight.double().requires_grad_(), fit.bias.double().requires_grad_()
    args = (training.x.double(), training.labels, training.class_counts)
    objective_value(fit.objective, weight, bias, *args).backward()
    zero = torch.zeros_like(weight).requires_grad_()
    objective_value(fit.objective, zero, torch.zeros_like(bias), *args).backward()
    assert weight.grad.norm() < 1e-4 * zero.grad.norm()


def test_lort_s_delta_is_the_paper_s_at_100_classes_and_its_gap_elsewhere():
    training, _ = clusters()
    assert fit_head(training, "lort", gamma=0.0).objective.delta == pytest.approx(
        delta_for_gap(LORT_LOGIT_GAP, 3)
    )
    x, labels = torch.randn(200, 4), torch.arange(200) % 100
    assert fit_head(TrainingSet(x, labels, 100), "lort", gamma=0.0, weight_decay=1.0).objective.delta == (
        pytest.approx(0.98)
    )


def test_published_lort_is_the_paper_s_sgd_from_the_given_head():
    training, _ = clusters()
    init = (torch.randn(3, 8), torch.randn(3))
    fit = fit_head(training, "lort-published", baseline=stage1_fit(*init), calibrate=False, seed=5)
    assert fit.objective == Objective(delta=delta_for_gap(LORT_LOGIT_GAP, 3))
    expected = sgd([training.x], training.labels, training.class_counts, fit.objective, init=init, seed=5)
    assert torch.equal(fit.weight, expected.weight.float())
    assert fit.linear.iterations == 20


def test_nearly_uniform_targets_give_the_ridge_direction():
    training, _ = clusters()
    fit = fit_head(training, "lort", delta=0.9999, gamma=1.0, weight_decay=0.01)
    basis = training.basis(1.0)
    sums = basis.rotate_sums(training.weighted_sums(1.0))
    weight, _ = basis.unrotate(*ridge_head(basis, sums, 0.03))
    cosine = torch.nn.functional.cosine_similarity(
        fit.weight.flatten().double(), (weight - weight.mean(0)).flatten(), dim=0
    )
    assert cosine > 0.99999


def test_balanced_softmax_at_the_optimum_undoes_the_prior():
    # Features without information: all the head can learn is the prior, and tau = 1 has it already.
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([60, 30, 10]))
    training = TrainingSet(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).repeat(50, 1), labels, 3)
    plain = fit_head(training, "ce", weight_decay=1.0, calibrate=False)
    balanced = fit_head(training, "balanced-softmax", weight_decay=1.0, calibrate=False)
    torch.testing.assert_close(plain.bias.softmax(0), torch.tensor([0.6, 0.3, 0.1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(balanced.bias.softmax(0), torch.full((3,), 1 / 3), atol=1e-4, rtol=0)


def test_views_are_fitted_beside_the_training_features():
    training, _ = clusters()
    options = {"gamma": 1.0, "weight_decay": 0.1, "calibrate": False}
    shifted = [training.x + 1.0, training.x - 1.0]
    fit = fit_head(training, "lort", views=[FeatureMatrix.of(view) for view in shifted], **options)
    joint = TrainingSet(torch.cat([training.x, *shifted]), training.labels.repeat(3), 3)
    torch.testing.assert_close(fit.weight, fit_head(joint, "lort", **options).weight, atol=1e-6, rtol=1e-5)


def test_order_of_the_classes_does_not_matter():
    training, _ = clusters()
    order = torch.tensor([2, 0, 1])
    renamed = TrainingSet(training.x, order[training.labels], 3)
    first, second = (fit_head(t, "lort", gamma=0.5, weight_decay=0.01) for t in (training, renamed))
    torch.testing.assert_close(second.weight[order], first.weight, atol=1e-4, rtol=1e-3)


def test_plain_features_are_enough():
    training, _ = clusters()
    features = Features(training.x, training.labels, torch.arange(len(training.labels)))
    assert torch.equal(fit_head(features, gamma=1.0).weight, fit_head(training, gamma=1.0).weight)


def test_one_image_a_class_can_be_fitted():
    training = TrainingSet(torch.eye(3), torch.arange(3), 3)
    for method in METHODS:
        assert fit_head(training, method).logits(torch.eye(3)).isfinite().all()
    assert fit_head(training, "lort").logits(torch.eye(3)).argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "lrt"}, "Did you mean 'lort'"),
        ({"solver": "sdg"}, "Did you mean 'sgd'"),
        ({"delta": 1.5}, "delta is 1.5"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"gamma": "x"}, "gamma is .x., expected a number"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    training, _ = clusters()
    with pytest.raises(ConfigError, match=message):
        fit_head(training, **options)


def test_own_head_follows_the_names():
    backbone = load_backbone("test_resnet", pretrained=False)
    named = dataclasses.replace(backbone, class_names=tuple(str(k) for k in range(1000)))
    wanted = [str(k) for k in reversed(range(1000))]
    weight, bias = own_head(named, wanted)
    assert torch.equal(weight, backbone.weight.flip(0))
    assert torch.equal(bias, backbone.bias.flip(0))
    assert own_head(named, wanted[1:]) is None
    assert own_fit(named, wanted[1:]) is None


def test_a_head_of_balanced_softmax_starts_other_methods_with_what_its_loss_added():
    names = tuple(str(k) for k in range(1000))
    record = TrainedOn(
        "photos", "train", (0,), "f00", "balanced-softmax", tuple(-float(k) for k in range(1000))
    )
    backbone = load_backbone("test_resnet", pretrained=False)
    trained = dataclasses.replace(backbone, class_names=names, trained_on=record)
    fit = own_fit(trained, names[::-1])
    weight, bias = fit.base
    assert torch.equal(weight, backbone.weight.flip(0))
    assert torch.equal(bias, backbone.bias.flip(0) - torch.arange(999.0, -1, -1))
    assert torch.equal(fit.bias, backbone.bias.flip(0))
    assert class_mix(fit.method, fit.settings) == "balanced"
    # After another head has taken the place of the classifier, nothing was added to its logits.
    other = trained.with_classifier(torch.randn(2, trained.num_features), torch.zeros(2), ["cat", "dog"])
    plain = own_fit(other, ["cat", "dog"])
    assert plain.base[1].tolist() == [0, 0]
    assert class_mix(plain.method, plain.settings) == "training"


def test_views_of_an_image_do_not_count_as_images_for_the_discriminant():
    training, _ = clusters(counts=(6, 5, 4), dim=3, noise=2.0)
    plain = fit_head(training, "eb-lda", calibrate=False)
    copied = fit_head(training, "eb-lda", calibrate=False, views=[training.matrix] * 4)
    assert torch.allclose(copied.weight, plain.weight, rtol=1e-4, atol=1e-6)
    assert torch.allclose(copied.bias, plain.bias, rtol=1e-4, atol=1e-6)


def test_a_baseline_of_any_kind_serves_methods_that_need_none():
    training, _ = clusters()
    stack = fit_stack(training, baseline=fit_head(training, "ce"))
    plain = fit_head(training, "lort")
    assert fit_head(training, "lort", baseline=stack).weight.equal(plain.weight)
    for baseline in (stack, fit_head(training, "cosine")):
        with pytest.raises(ConfigError, match="cannot be fitted anew on every fold"):
            fit_head(training, "tau-norm", baseline=baseline)


@pytest.mark.parametrize(
    "as_given", [lambda x: x, lambda t: Features(t.x, t.labels, torch.arange(len(t.labels)))]
)
def test_choices_among_methods_are_methods_too(as_given):
    training, _ = clusters(counts=(40, 20, 6), dim=5, noise=2.0)
    baseline = fit_baseline(training)
    whole, alone = fit_head(as_given(training), "auto"), fit_stack(training, baseline=baseline)
    assert (whole.method, whole.settings) == ("stack", alone.settings)
    assert whole.weight.equal(alone.weight)
    best = fit_head(as_given(training), "best", baseline=baseline)
    assert best.weight.equal(fit_best(training, baseline=baseline).weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "auto", "gamma": 0.5}, "chooses every setting"),
        ({"method": "best", "solver": "sgd"}, "chooses every setting"),
        ({"method": "best", "views": [FeatureMatrix.of(torch.eye(2))]}, "chooses every setting"),
        ({"method": "auto", "calibrate": False}, "calibrated heads"),
        ({"method": "aut"}, "Did you mean 'auto'"),
    ],
)
def test_what_a_choice_cannot_be_given_is_named(options, message):
    with pytest.raises(ConfigError, match=message):
        fit_head(TrainingSet(torch.eye(2), torch.tensor([0, 1]), 2), **options)


@pytest.mark.parametrize("method", ["ce", "balanced-softmax", "maxnorm", "las"])
def test_a_fit_is_the_same_whatever_was_fitted_on_the_training_set_before(method):
    training, _ = clusters(seed=3, counts=(60, 20, 6, 30, 10), noise=1.5)
    first, again = (fit_head(training, method) for _ in range(2))
    assert first.selection.score == again.selection.score
    assert first.weight.equal(again.weight)


@pytest.mark.parametrize("method", ["auto", "best", "ce", "eb-lda", "lort", "ncm", "tau-norm", "cosine"])
def test_features_that_are_all_the_same_are_refused_by_every_method(method):
    x, labels = torch.tensor([0.1, 7.0, 0.0]).repeat(60, 1), torch.tensor([0] * 40 + [1] * 15 + [2] * 5)
    with pytest.raises(FeatureError, match="All features are equal: are the images blank"):
        fit_head(TrainingSet(x, labels, 3), method)
    with pytest.raises(FeatureError, match="All features are equal"):
        fit_head(TrainingSet(0 * x, labels, 3), method)
    x[59, 1] += 1e-3
    assert fit_head(TrainingSet(1e-9 * x, labels, 3), method).logits(x).isfinite().all()
