import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from lort_hub.errors import ConfigError
from lort_hub.features.matrix import FeatureMatrix, Part
from lort_hub.heads.base import FitInputs
from lort_hub.heads.cosine import CosineHead, fit_cosine, ldam_losses, ldam_margins
from lort_hub.heads.fitters import fit_method
from lort_hub.heads.methods import METHODS
from lort_hub.heads.training_set import TrainingSet
from tests.support.features import random_head_and_features

seeds = st.integers(0, 1000)


def clusters(seed=0):
    """Samples about their class's direction, so that the fit has one minimum near its start."""
    directions, _, x, labels, counts = random_head_and_features(seed, n=200, dim=3)
    return F.normalize(directions)[labels] + 0.5 * x, labels, counts


def ldam_reference(weight, x, labels, counts, scale, gamma, margin):
    """LDAM's loss as the paper writes it, sample by sample, weighted by n^-gamma."""
    total = normaliser = 0.0
    constant = margin * min(counts) ** 0.25
    for feature, label in zip(x, labels, strict=True):
        z = [torch.dot(feature, row) / feature.norm() / row.norm() for row in weight]
        true = (scale * (z[label] - constant / counts[label] ** 0.25)).exp()
        others = sum((scale * z[k]).exp() for k in range(len(weight)) if k != label)
        total = total - counts[label] ** -gamma * (true / (true + others)).log()
        normaliser += counts[label] ** -gamma
    return total / normaliser


def test_margins_by_hand():
    margins = ldam_margins(torch.tensor([10_000, 16, 1]), 0.5)
    assert margins.tolist() == pytest.approx([0.05, 0.25, 0.5])


def test_loss_by_hand():
    # Cosines (0.6, 0.8) of which the first, the true one's, is lowered by 0.1; scale 10.
    weight, x = torch.tensor([[2.0, 0.0], [0.0, 5.0]]), torch.tensor([[0.6, 0.8]])
    got = ldam_losses(weight.double(), x.double(), torch.tensor([0]), torch.tensor([0.1, 0.7]).double(), 10.0)
    assert got.item() == pytest.approx(math.log(1 + math.exp(8 - 5)), rel=1e-6)


@settings(deadline=None, max_examples=20)
@given(seeds, st.sampled_from([0.0, 0.5]), st.sampled_from([0.0, 0.5, 1.0]), st.floats(1, 30))
def test_loss_is_the_paper_s(seed, margin, gamma, scale):
    weight, _, x, labels, counts = random_head_and_features(seed, n=12)
    losses = ldam_losses(weight, F.normalize(x), labels, ldam_margins(counts, margin), scale)
    omega = counts[labels].double() ** -gamma
    expected = ldam_reference(weight, x, labels.tolist(), counts.tolist(), scale, gamma, margin)
    torch.testing.assert_close((omega @ losses) / omega.sum(), expected, rtol=1e-10, atol=1e-12)


def test_without_margin_it_is_the_cross_entropy_of_the_cosines():
    weight, _, x, labels, counts = random_head_and_features()
    cosines = torch.cosine_similarity(x[:, None], weight[None], dim=2)
    losses = ldam_losses(weight, F.normalize(x), labels, ldam_margins(counts, 0.0), 16.0)
    torch.testing.assert_close(losses, F.cross_entropy(16 * cosines, labels, reduction="none"))


def test_gradient_through_the_normalisation_is_that_of_finite_differences():
    weight, _, x, labels, counts = random_head_and_features(n=10)
    x, margins = F.normalize(x), ldam_margins(counts, 0.5)
    assert torch.autograd.gradcheck(
        lambda w: ldam_losses(w, x, labels, margins, 8.0), weight.requires_grad_(), atol=1e-8, rtol=1e-6
    )


@pytest.mark.parametrize(("gamma", "margin"), [(0.0, 0.0), (1.0, 0.0), (0.5, 0.3)])
def test_fit_is_the_minimum_that_scipy_finds_in_float64(gamma, margin):
    x, labels, counts = clusters()
    omega = counts[labels].double() ** -gamma

    def function(parameters):
        weight = torch.tensor(parameters, requires_grad=True)
        lowered = torch.cosine_similarity(x[:, None], weight.view(1, 4, 3), dim=2)
        lowered = lowered - F.one_hot(labels) * (margin * (counts.min() / counts) ** 0.25)
        loss = omega @ F.cross_entropy(8 * lowered, labels, reduction="none") / omega.sum()
        loss.backward()
        return loss.item(), weight.grad.numpy()

    start = torch.stack([F.normalize(x[labels == k]).mean(dim=0) for k in range(4)])
    best = minimize(function, start.numpy().ravel(), jac=True, method="BFGS", options={"gtol": 1e-9})
    head = fit_cosine(FeatureMatrix.of(x), labels, counts, scale=8.0, gamma=gamma, margin=margin)
    torch.testing.assert_close(head.weight.norm(dim=1), torch.ones(4))
    value, gradient = function(head.weight.double().numpy().ravel())
    assert value == pytest.approx(best.fun, abs=1e-7)
    assert np.abs(gradient).max() < 1e-4
    expected = F.normalize(torch.from_numpy(best.x).view(4, 3)).float()
    torch.testing.assert_close(head.weight, expected, atol=1e-3, rtol=0)


@given(seeds, st.floats(1e-3, 1e3))
def test_predictions_do_not_change_when_features_are_rescaled_one_by_one(seed, largest):
    weight, _, x, _, _ = random_head_and_features(seed)
    head = CosineHead(F.normalize(weight).float(), 16.0)
    lengths = torch.logspace(-3, math.log10(largest), len(x))[:, None]
    torch.testing.assert_close(head.logits(lengths * x.float()), head.logits(x.float()), atol=1e-4, rtol=1e-5)


def test_fit_does_not_change_when_features_are_rescaled_one_by_one():
    _, _, x, labels, counts = random_head_and_features()
    powers = 2.0 ** (torch.arange(len(x)) % 7 - 3)[:, None]
    first = fit_cosine(FeatureMatrix.of(x.float()), labels, counts, scale=8.0)
    second = fit_cosine(FeatureMatrix.of(powers * x.float()), labels, counts, scale=8.0)
    assert torch.equal(first.weight, second.weight)


def test_zero_features_and_a_class_of_nothing_else_give_no_nan():
    _, _, x, labels, counts = random_head_and_features()
    x[labels == 1] = 0.0
    x[0] = 0.0
    head = fit_cosine(FeatureMatrix.of(x.float()), labels, counts, scale=16.0, margin=0.5)
    assert head.weight.isfinite().all()
    assert head.logits(torch.zeros(1, 5)).tolist() == [[0.0] * 4]


@pytest.mark.parametrize(("options", "wider"), [({}, False), ({"margin": 0.5}, True)])
def test_margin_moves_the_boundary_away_from_the_small_class(options, wider):
    # Two directions 60 degrees apart, classes weighing the same: only the margins tell them apart.
    x = torch.tensor([[1.0, 0.0]] * 16 + [[0.5, math.sqrt(0.75)]])
    labels, counts = torch.tensor([0] * 16 + [1]), torch.tensor([16, 1])
    logits = fit_cosine(FeatureMatrix.of(x), labels, counts, scale=8.0, gamma=1.0, **options).logits(x)
    large, small = logits[0, 0] - logits[0, 1], logits[16, 1] - logits[16, 0]
    assert (small > large + 1) == wider
    assert wider or small.item() == pytest.approx(large.item(), abs=1e-3)


def test_class_balance_helps_the_small_class():
    generator = torch.Generator().manual_seed(0)
    labels, counts = torch.tensor([0] * 500 + [1] * 10), torch.tensor([500, 10])
    x = torch.randn(510, 3, generator=generator) + torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])[labels]
    plain, helped = (
        fit_cosine(FeatureMatrix.of(x), labels, counts, scale=4.0, gamma=gamma).logits(x)
        for gamma in (0.0, 1.0)
    )
    assert (helped.argmax(dim=1) == 1).sum() > (plain.argmax(dim=1) == 1).sum() + 10


def test_same_input_gives_the_same_bits():
    _, _, x, labels, counts = random_head_and_features(n=500)
    first, second = (
        fit_cosine(FeatureMatrix.of(x.float()), labels, counts, scale=16.0, gamma=1.0) for _ in range(2)
    )
    assert torch.equal(first.weight, second.weight)


@pytest.mark.parametrize("values", [{"scale": 0.0}, {"gamma": -1.0}, {"margin": math.nan}])
def test_values_out_of_range_are_refused_by_name(values):
    _, _, x, labels, counts = random_head_and_features()
    with pytest.raises(ConfigError, match=next(iter(values))):
        fit_cosine(FeatureMatrix.of(x), labels, counts, **{"scale": 16.0} | values)


def test_heads_of_folds_are_solved_as_far_as_their_tolerance_says():
    _, _, x, labels, counts = random_head_and_features(n=200)
    settings = {"scale": 16.0, "gamma": 0.5, "margin": 0.3}
    training = TrainingSet(x.float(), labels, len(counts))
    inputs = FitInputs(training, tolerance=0.1)
    coarse = fit_method(METHODS["ldam"], inputs, settings)
    again = fit_cosine(training.matrix, labels, counts, tolerance=0.1, **settings)
    assert torch.equal(coarse.weight, again.weight)
    exact = fit_method(METHODS["ldam"], FitInputs(training), settings)
    assert torch.equal(exact.weight, fit_cosine(training.matrix, labels, counts, **settings).weight)
    assert not torch.equal(exact.weight, coarse.weight)


def test_features_are_read_once():
    _, _, x, labels, counts = random_head_and_features()
    reads = []

    def read():
        reads.append(len(x))
        return x.float()

    fit_cosine(FeatureMatrix([Part(len(x), read)], x.shape[1]), labels, counts, scale=16.0)
    assert reads == [len(x)]
