import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from sklearn.neighbors import NearestCentroid

from lort_hub.errors import FeatureError
from lort_hub.features.matrix import FeatureMatrix
from lort_hub.heads.posthoc import (
    linearly_adjusted,
    logit_adjusted,
    lort_step,
    matched_strength,
    nearest_class_mean,
    tau_normalised,
)
from lort_hub.heads.solvers.eigenbasis import class_sums
from lort_hub.heads.solvers.objective import Objective
from lort_hub.heads.solvers.sgd import sgd
from tests.support.features import random_head_and_features

COUNTS = torch.tensor([9, 4, 2])
seeds = st.integers(0, 1000)


def test_tau_norm_by_hand():
    weight, bias = torch.tensor([[3.0, 4.0], [0.0, 4.0]]), torch.tensor([1.0, -1.0])
    half, dropped = tau_normalised(weight, bias, 0.5)
    torch.testing.assert_close(half, torch.tensor([[3 / math.sqrt(5), 4 / math.sqrt(5)], [0.0, 2.0]]))
    assert dropped.tolist() == [0.0, 0.0]
    assert torch.equal(tau_normalised(weight, bias, 0.0)[0], weight)


def test_tau_norm_leaves_a_zero_weight_zero():
    weight, _ = tau_normalised(torch.tensor([[0.0, 0.0], [0.0, 2.0]]), torch.zeros(2), 1.0)
    assert weight.tolist() == [[0.0, 0.0], [0.0, 1.0]]


@given(st.integers(0, 1000), st.floats(0, 2))
def test_tau_norm_leaves_norms_to_the_power_of_one_minus_tau(seed, power):
    weight, bias, *_ = random_head_and_features(seed)
    normed, _ = tau_normalised(weight, bias, power)
    assert normed.dtype == torch.float32
    torch.testing.assert_close(
        normed.norm(dim=1).double(), weight.norm(dim=1) ** (1 - power), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(torch.cosine_similarity(normed.double(), weight), torch.ones(4).double())


def test_logit_adjustment_by_hand():
    weight, bias = logit_adjusted(torch.eye(2), torch.tensor([1.0, 2.0]), torch.tensor([9, 1]), tau=2.0)
    assert torch.equal(weight, torch.eye(2))
    assert bias.tolist() == pytest.approx([1 - 2 * math.log(0.9), 2 - 2 * math.log(0.1)])


@given(st.integers(0, 1000))
def test_logit_adjustment_ranks_by_posterior_over_prior(seed):
    weight, bias, x, _, counts = random_head_and_features(seed)
    new, offset = logit_adjusted(weight, bias, counts, tau=1.0)
    posterior = (x @ weight.T + bias).softmax(dim=1) / (counts / counts.sum())
    assert torch.equal((x.float() @ new.T + offset).argsort(dim=1), posterior.argsort(dim=1))


@given(st.integers(0, 1000))
def test_nearest_class_mean_is_that_of_scikit_learn(seed):
    _, _, x, labels, counts = random_head_and_features(seed)
    weight, bias = nearest_class_mean(
        class_sums(FeatureMatrix.of(x), labels, torch.ones(len(x)), len(counts))
    )
    theirs = NearestCentroid().fit(x, labels)
    torch.testing.assert_close(weight.double(), torch.from_numpy(theirs.centroids_))
    distances = (x[:, None] - torch.from_numpy(theirs.centroids_)).square().sum(dim=2)
    ranks = (x.float() @ weight.T + bias).argsort(dim=1, descending=True)
    assert torch.equal(ranks, distances.argsort(dim=1))


def test_a_class_without_samples_has_no_mean():
    with pytest.raises(FeatureError, match=r"none of \[1, 3\]"):
        nearest_class_mean(torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 1.0], [0.0, 0.0]]))


def test_accuracies_on_real_features_are_those_measured_before(test_data):
    # Measured before on these features: stage 1 39.2, tau-norm 42.7, logit adjustment 43.7.
    d = load_file(test_data / "features" / "cifar100lt_ir100_resnet32.safetensors")
    head = d["stage1_weight"], d["stage1_bias"]
    heads = [head, tau_normalised(*head, 0.5), logit_adjusted(*head, d["class_counts"], 1.0)]
    hits = [
        (d["test_features"] @ weight.T + bias).argmax(dim=1) == d["test_labels"] for weight, bias in heads
    ]
    assert [100 * hit.double().mean().item() for hit in hits] == pytest.approx([39.2, 42.7, 43.65], abs=0.06)


def sums_of(x, labels):
    """Sums of [x, 1] over the samples of each class."""
    ones = torch.cat([x, x.new_ones(len(x), 1)], dim=1).double()
    return torch.zeros(int(labels.max()) + 1, ones.shape[1]).double().index_add(0, labels, ones)


def sample(seed=0, dim=20):
    """Features (15, 20) in general position, labels, and a head of finite logits."""
    generator = torch.Generator().manual_seed(seed)
    x = 1 + torch.randn(int(COUNTS.sum()), dim, generator=generator, dtype=torch.float64)
    labels = torch.repeat_interleave(torch.arange(3), COUNTS)
    weight = torch.randn(3, dim, generator=generator, dtype=torch.float64)
    return x, labels, weight, torch.randn(3, generator=generator, dtype=torch.float64)


def memorised(x, labels, gap=2000.0):
    """A head whose softmax is the one-hot label to the last bit of float64."""
    targets = gap * F.one_hot(labels, 3).double()
    return torch.linalg.lstsq(x, targets).solution.T, torch.zeros(3, dtype=torch.float64)


def moved(after, before):
    """How far a head has moved (K, D + 1), up to what is common to all classes."""
    change = torch.cat([after[0] - before[0], (after[1] - before[1])[:, None]], dim=1).double()
    return change - change.mean(dim=0)


def squared_length(x):
    return (x.mean(dim=0).square().sum() + 1).item()


@settings(max_examples=10, deadline=None)
@given(seeds, st.sampled_from([0.1, 0.5, 0.98]), st.integers(1, 30))
def test_the_step_is_where_gradient_descent_on_lort_takes_a_head_that_has_memorised(seed, delta, steps):
    x, labels, _, _ = sample(seed)
    start, lr = memorised(x, labels), 0.3 / steps
    weight, bias = (tensor.clone().requires_grad_() for tensor in start)
    optimizer = torch.optim.SGD([weight, bias], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(x @ weight.T + bias, labels, label_smoothing=delta).backward()
        optimizer.step()
    zero = torch.zeros(3, x.shape[1]), torch.zeros(3)
    strength = steps * lr * delta * squared_length(x) / 3
    ours = moved(lort_step(*zero, sums_of(x, labels), strength=strength), zero)
    torch.testing.assert_close(ours, moved((weight.detach(), bias.detach()), start), atol=1e-6, rtol=1e-5)


def test_the_paper_s_sgd_of_a_head_that_has_memorised_ends_on_the_path():
    x, labels, _, _ = sample()
    start = memorised(x, labels)
    after = sgd([x.float()], labels, COUNTS, Objective(delta=0.98), init=start, lr=0.01)
    travelled, velocity = 0.0, 0.0
    for epoch in range(20):  # one batch each: momentum 0.9 under a cosine
        velocity = 0.9 * velocity + 1
        travelled += 0.005 * (1 + torch.cos(torch.tensor(torch.pi * epoch / 20)).item()) * velocity
    strength = travelled * 0.98 * squared_length(x) / 3
    zero = torch.zeros(3, x.shape[1]), torch.zeros(3)
    ours = moved(lort_step(*zero, sums_of(x, labels), strength=strength), zero)
    # The solver keeps weights of a thousand in float32.
    torch.testing.assert_close(ours, moved((after.weight, after.bias), start), atol=2e-4, rtol=0)


def test_a_step_by_hand():
    # u = (1, 0, 1) twice for class 0, (0, 1, 1) for class 1; K pi = 4/3, 2/3; |u|^2 = 4/9 + 1/9 + 1.
    x, labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1])
    weight, bias = lort_step(torch.eye(2), torch.tensor([0.0, 1.0]), sums_of(x, labels), strength=0.5)
    torch.testing.assert_close(weight, torch.tensor([[1 - 3 / 7, 0.0], [0.0, 1 - 3 / 14]]))
    torch.testing.assert_close(bias, torch.tensor([-3 / 7, 1 - 3 / 14]))


@settings(deadline=None)
@given(seeds, st.floats(0.01, 100), st.floats(0, 3))
def test_strength_is_what_classes_lose_at_the_mean_feature_whatever_the_unit(seed, unit, strength):
    x, labels, weight, bias = sample(seed)
    after, offset = lort_step(weight / unit, bias, sums_of(unit * x, labels), strength=strength)
    mean = unit * x.mean(dim=0)
    lost = (weight / unit - after.double()) @ mean + bias - offset.double()
    assert lost.mean().item() == pytest.approx(strength, abs=1e-4)


@settings(deadline=None)
@given(seeds, st.floats(0, 3))
def test_where_all_features_are_equal_it_is_the_bias_linear_in_the_counts(seed, strength):
    x, labels, weight, bias = sample(seed)
    x = x[:1].expand_as(x)
    step = lort_step(weight, bias, sums_of(x, labels), strength=strength)
    line = linearly_adjusted(weight, bias, COUNTS, strength=strength)
    logits = [(x[0] @ head.double().T + offset) for head, offset in (step, line)]
    torch.testing.assert_close(*logits, atol=1e-4, rtol=0)
    lost = x[0] @ weight.T + bias - logits[1]
    torch.testing.assert_close(lost, strength * COUNTS.double() / 5, atol=1e-4, rtol=0)


@settings(deadline=None)
@given(seeds)
def test_no_strength_changes_nothing(seed):
    x, labels, weight, bias = sample(seed)
    for head in (
        lort_step(weight, bias, sums_of(x, labels), strength=0.0),
        linearly_adjusted(weight, bias, COUNTS, strength=0.0),
    ):
        assert head[0].equal(weight.float())
        assert head[1].equal(bias.float())


@settings(deadline=None)
@given(seeds)
def test_the_path_is_a_line_that_copies_and_names_of_classes_do_not_bend(seed):
    x, labels, weight, bias = sample(seed)
    zero = torch.zeros_like(weight), torch.zeros_like(bias)
    one, half = (moved(lort_step(*zero, sums_of(x, labels), strength=s), zero) for s in (1.0, 0.5))
    torch.testing.assert_close(half, one / 2, atol=1e-6, rtol=1e-5)
    twice = lort_step(*zero, sums_of(x.repeat(2, 1), labels.repeat(2)), strength=1.0)
    torch.testing.assert_close(moved(twice, zero), one, atol=1e-6, rtol=1e-5)
    order = torch.tensor([2, 0, 1])
    renamed = lort_step(*zero, sums_of(x, order[labels]), strength=1.0)
    torch.testing.assert_close(moved(renamed, zero)[order], one, atol=1e-6, rtol=1e-5)


def test_a_head_that_knows_nothing_comes_to_prefer_the_rarest_class():
    x, labels, _, _ = sample()
    after, offset = lort_step(torch.zeros(3, 20), torch.zeros(3), sums_of(x, labels), strength=1.0)
    assert (x.mean(dim=0).float() @ after.T + offset).argsort().tolist() == [0, 1, 2]


@settings(deadline=None)
@given(st.lists(st.integers(1, 500), min_size=2, max_size=9, unique=True), st.integers(1, 7))
def test_the_matched_strength_is_the_line_nearest_to_the_logarithm_of_the_counts(counts, times):
    counts = torch.tensor(counts)
    relative = counts.double() / counts.double().mean()
    slope = np.polyfit(relative, relative.log(), 1)[0]
    assert matched_strength(counts) == pytest.approx(slope, rel=1e-5)
    assert matched_strength(times * counts) == pytest.approx(slope, rel=1e-5)
