import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from sklearn.neighbors import NearestCentroid

from lort_hub.errors import FeatureError
from lort_hub.features.matrix import FeatureMatrix
from lort_hub.heads.posthoc import logit_adjusted, nearest_class_mean, tau_normalised
from lort_hub.heads.solvers.eigenbasis import class_sums
from tests.support.features import random_head_and_features


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
