import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from lort_hub.errors import ConfigError
from lort_hub.evaluation.magnitude import logits_magnitude, regularized_std
from lort_hub.features.matrix import FeatureMatrix
from lort_hub.heads import rescaling
from lort_hub.heads.base import LinearHead
from lort_hub.heads.rescaling import DisAlignHead, disalign, learned_weight_scaling
from tests.support.features import random_head_and_features

seeds = st.integers(0, 1000)


def lws_loss(factors, weight, bias, x, labels, counts, delta):
    """LWS's objective from the papers: class-balanced mean over samples of smoothed cross-entropy."""
    logits = (x @ weight.T) * factors + bias
    log_p = logits.log_softmax(dim=1)
    losses = -(1 - delta) * log_p[torch.arange(len(labels)), labels] - delta * log_p.mean(dim=1)
    return torch.stack([losses[labels == k].mean() for k in range(len(counts))]).mean()


def factors_of(folded, weight):
    return (folded.double() * weight).sum(dim=1) / weight.square().sum(dim=1)


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from([0.0, 0.1, 0.9]))
def test_lws_is_the_minimum_that_scipy_finds_in_float64(seed, delta):
    weight, bias, x, labels, counts = random_head_and_features(seed, n=200)

    def function(parameters):
        factors = torch.tensor(parameters, requires_grad=True)
        loss = lws_loss(factors, weight, bias, x, labels, counts, delta)
        loss.backward()
        return loss.item(), factors.grad.numpy()

    best = minimize(function, np.ones(len(counts)), jac=True, method="BFGS", options={"gtol": 1e-10})
    folded, kept = learned_weight_scaling(weight, bias, FeatureMatrix.of(x), labels, counts, delta=delta)
    assert torch.equal(kept, bias.float())
    factors = factors_of(folded, weight)
    np.testing.assert_allclose(factors.numpy(), best.x, atol=1e-6)
    assert np.abs(function(factors.numpy())[1]).max() < 1e-7  # float32's rounding of the factors
    assert function(factors.numpy())[0] <= best.fun + 1e-12


def test_lws_does_not_see_the_lengths_of_the_class_weights():
    weight, bias, x, labels, counts = random_head_and_features(n=200)
    lengths = torch.tensor([[0.1], [2.0], [-3.0], [10.0]], dtype=torch.float64)
    folded, _ = learned_weight_scaling(weight, bias, FeatureMatrix.of(x), labels, counts)
    again, _ = learned_weight_scaling(lengths * weight, bias, FeatureMatrix.of(x), labels, counts)
    torch.testing.assert_close(again, folded, atol=1e-6, rtol=1e-6)


def test_lws_does_not_see_the_unit_of_the_features():
    weight, bias, x, labels, counts = random_head_and_features(n=200)
    folded, _ = learned_weight_scaling(weight, bias, FeatureMatrix.of(x), labels, counts, delta=0.1)
    again, _ = learned_weight_scaling(weight / 8, bias, FeatureMatrix.of(8 * x), labels, counts, delta=0.1)
    torch.testing.assert_close(8 * again, folded)


def test_lws_a_second_time_changes_nothing():
    weight, bias, x, labels, counts = random_head_and_features(n=200)
    folded, kept = learned_weight_scaling(weight, bias, FeatureMatrix.of(x), labels, counts)
    again, _ = learned_weight_scaling(folded, kept, FeatureMatrix.of(x), labels, counts)
    torch.testing.assert_close(again, folded, atol=1e-6, rtol=1e-6)


def test_lws_weighs_classes_alike_however_often_their_samples_occur():
    weight, bias, x, labels, counts = random_head_and_features(n=200)
    repeats = 1 + 4 * (labels == 2).long()
    repeated = FeatureMatrix.of(x.repeat_interleave(repeats, dim=0)), labels.repeat_interleave(repeats)
    folded, _ = learned_weight_scaling(weight, bias, FeatureMatrix.of(x), labels, counts)
    again, _ = learned_weight_scaling(weight, bias, *repeated, torch.bincount(repeated[1]))
    torch.testing.assert_close(again, folded, atol=1e-6, rtol=1e-6)


def test_lws_of_separable_samples_and_a_zero_weight_is_finite():
    x, labels = torch.eye(3).repeat(2, 1), torch.arange(3).repeat(2)
    weight = torch.diag(torch.tensor([1.0, 1.0, 0.0]))
    folded, _ = learned_weight_scaling(
        weight, torch.zeros(3), FeatureMatrix.of(x), labels, torch.tensor([2, 2, 2])
    )
    assert folded.isfinite().all()
    assert folded.diagonal()[:2].min() > 5
    assert folded[2].tolist() == [0, 0, 0]


def test_lws_refuses_a_delta_out_of_range():
    weight, bias, x, labels, counts = random_head_and_features()
    with pytest.raises(ConfigError, match="delta"):
        learned_weight_scaling(weight, bias, FeatureMatrix.of(x), labels, counts, delta=1.0)


def disalign_loss(parameters, weight, bias, x, labels, counts, rho):
    """DisAlign's objective from the paper, in NumPy: generalised re-weighting of the aligned logits."""
    classes, dim = weight.shape
    alpha, beta, v, c = np.split(parameters, [classes, 2 * classes, 2 * classes + dim])
    z = x @ weight.T + bias
    sigma = expit(x @ v + c)[:, None]
    log_p = log_softmax(sigma * (alpha * z + beta) + (1 - sigma) * z, axis=1)
    sample = ((1 / (counts / counts.sum())) ** rho)[labels]
    return -(sample * log_p[np.arange(len(labels)), labels]).sum() / sample.sum()


def parameters_of(head):
    return torch.cat([head.alpha, head.beta, head.v, head.c[None]]).double().numpy()


def start_of(weight):
    classes, dim = weight.shape
    return np.concatenate([np.ones(classes), np.zeros(classes + dim + 1)])


def test_disalign_logits_by_hand():
    # z = (1, 2), sigma = sigmoid(log 3) = 3/4: z' = 3/4 (2 + 1, 6 - 1) + 1/4 (1, 2) = (2.5, 4.25).
    head = DisAlignHead(
        weight=torch.tensor([[1.0], [1.0]]),
        bias=torch.tensor([0.0, 1.0]),
        alpha=torch.tensor([2.0, 3.0]),
        beta=torch.tensor([1.0, -1.0]),
        v=torch.tensor([1.0]),
        c=torch.tensor(3.0).log() - 1,
    )
    torch.testing.assert_close(
        head.logits(torch.ones(1, 1)), torch.tensor([[2.5, 4.25]], dtype=torch.float64)
    )


def test_disalign_that_aligns_nothing_has_the_logits_magnitude_of_its_head():
    weight, bias, x, labels, _ = random_head_and_features(0)
    weight, bias, x = weight.float(), bias.float(), x.float()
    one, zero = torch.ones_like(bias), torch.zeros_like(bias)
    head = DisAlignHead(weight, bias, one, zero, torch.zeros_like(weight[0]), torch.tensor(0.0))
    plain = LinearHead(weight, bias).logits(x)
    for measure in (logits_magnitude, regularized_std):
        np.testing.assert_allclose(measure(head.logits(x), labels), measure(plain, labels), rtol=1e-5)


@pytest.mark.parametrize("rho", [0.5, 1.5])
def test_disalign_logits_are_its_formula_however_large_its_numbers(rho):
    weight, bias, x, labels, counts = random_head_and_features(27)  # no minimum: factors of 1e6
    x = x.float()
    head = disalign(weight, bias, FeatureMatrix.of(x), labels, counts, rho=rho)
    z = torch.addmm(head.bias, x, head.weight.T).double()
    sigma = (x.double() @ head.v + head.c).sigmoid()[:, None]
    expected = sigma * (head.alpha * z + head.beta) + (1 - sigma) * z
    torch.testing.assert_close(head.logits(x), expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from([0.0, 0.5, 1.5]))
@example(27, 0.5)  # no minimum: factors of 1e6, offsets of 1e5
@example(51, 0.5)
def test_disalign_never_ends_above_its_start(seed, rho):
    weight, bias, x, labels, counts = random_head_and_features(seed)
    head = disalign(weight, bias, FeatureMatrix.of(x.float()), labels, counts, rho=rho)
    arguments = [tensor.numpy() for tensor in (weight, bias, x, labels, counts)]
    end = disalign_loss(parameters_of(head), *arguments, rho)
    assert end <= disalign_loss(start_of(weight), *arguments, rho) + 1e-6
    class_weight = (1 / counts.double()) ** rho
    ours = F.cross_entropy(head.logits(x.float()).double(), labels, weight=class_weight)
    assert ours.item() == pytest.approx(end, rel=1e-4)


def gated_problem(seed):
    """Labels drawn from a DisAlign head, so that its loss has a minimum at a finite confidence."""
    weight, bias, x, _, _ = random_head_and_features(seed, n=400, dim=2, classes=3)
    tensors = weight, bias, torch.tensor([3.0, 0.5, 2.0]), torch.tensor([0.0, 1.0, -1.0])
    truth = DisAlignHead(*(t.float() for t in tensors), v=torch.tensor([2.0, 0.0]), c=torch.tensor(0.0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(truth.logits(x.float()).softmax(dim=1), 1, generator=generator).flatten()
    return weight, bias, x, labels, torch.bincount(labels, minlength=3)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_disalign_is_the_minimum_that_scipy_finds_in_float64(seed, rho):
    weight, bias, x, labels, counts = gated_problem(seed)
    arguments = [tensor.numpy() for tensor in (weight, bias, x, labels, counts)]
    best = minimize(disalign_loss, start_of(weight), (*arguments, rho), method="BFGS", options={"gtol": 1e-7})
    head = disalign(weight, bias, FeatureMatrix.of(x), labels, counts, rho=rho)
    assert disalign_loss(parameters_of(head), *arguments, rho) == pytest.approx(best.fun, abs=1e-9)
    np.testing.assert_allclose(parameters_of(head), best.x, atol=1e-3)


def test_disalign_does_not_see_the_unit_nor_the_mean_of_the_features():
    weight, bias, x, labels, counts = gated_problem(0)
    moved = 8 * x + 3
    first = disalign(weight, bias, FeatureMatrix.of(x), labels, counts, rho=1.0)
    second = disalign(
        weight / 8, bias - 3 * (weight / 8).sum(dim=1), FeatureMatrix.of(moved), labels, counts, rho=1.0
    )
    torch.testing.assert_close(second.logits(moved.float()), first.logits(x.float()), atol=1e-3, rtol=1e-3)


def test_disalign_is_finite_on_constant_features():
    weight, bias, x, labels, counts = random_head_and_features()
    head = disalign(weight, bias, FeatureMatrix.of(torch.ones_like(x)), labels, counts, rho=1.0)
    assert head.logits(torch.ones_like(x).float()).isfinite().all()


@pytest.mark.parametrize("rho", [-1.0, float("nan"), float("inf")])
def test_disalign_refuses_a_rho_out_of_range(rho):
    with pytest.raises(ConfigError, match="rho"):
        disalign(*random_head_and_features(), rho=rho)


def test_same_input_gives_the_same_bits():
    weight, bias, x, labels, counts = random_head_and_features(n=300)
    first, second = (
        disalign(weight, bias, FeatureMatrix.of(x.float()), labels, counts, rho=1.0) for _ in range(2)
    )
    assert torch.equal(first.v, second.v)
    assert torch.equal(first.alpha, second.alpha)


def test_disalign_of_a_set_too_large_to_keep_its_logits_is_the_same(monkeypatch):
    weight, bias, x, labels, counts = random_head_and_features(n=90)
    given_head = weight.float(), bias.float(), FeatureMatrix.of(x.float() + 7), labels, counts
    kept = disalign(*given_head, rho=1.0)
    monkeypatch.setattr(rescaling, "LOADED_NUMBERS", 0)
    read_again = disalign(*given_head, rho=1.0)
    for name in ("alpha", "beta", "v", "c"):
        torch.testing.assert_close(getattr(read_again, name), getattr(kept, name))
