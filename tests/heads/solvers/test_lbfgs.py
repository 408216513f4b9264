from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from lort_hub.errors import ConfigError, FeatureError
from lort_hub.features.matrix import CPU, FeatureMatrix
from lort_hub.heads.base import FitInputs
from lort_hub.heads.fit import fit_head
from lort_hub.heads.solvers.lbfgs import minimise
from lort_hub.heads.solvers.objective import Objective, logit_adjustment, objective_value
from lort_hub.heads.solvers.problem import HeadProblem, LossGradient
from lort_hub.heads.training_set import TrainingSet
from tests.support.features import clusters, random_head_and_features


def solve(objective, x, labels, counts, device=CPU, **options):
    training = TrainingSet(FeatureMatrix.of(x.float()).to(device), labels, len(counts))
    basis, omega = training.basis(objective.gamma), training.weights(objective.gamma)
    plain = replace(objective, tau=0.0)
    problem = HeadProblem(training.matrix, training.labels, omega, basis, counts, plain)
    head = minimise(problem, **options)
    bias = head.bias.cpu() - logit_adjustment(counts, objective.tau)  # which has no decay
    return (head.weight.cpu(), bias), head


def value(objective, weight, bias, x, labels, counts):
    return objective_value(objective, weight.double(), bias.double(), x.double(), labels, counts).item()


objectives = st.builds(
    Objective,
    delta=st.sampled_from([0.0, 0.1, 0.9, 0.98, 0.999]),
    gamma=st.sampled_from([0.0, 0.5, 1.0]),
    tau=st.sampled_from([0.0, 1.0]),
    weight_decay=st.sampled_from([1e-3, 1e-1]),
)


@settings(max_examples=25, deadline=None)
@given(objectives, st.integers(0, 1000))
@example(Objective(delta=0.999, tau=1.0, weight_decay=1e-3), 166)  # a prior of 1.4 beside logits of 0.001
def test_reaches_the_minimum_that_scipy_finds_in_float64(objective, seed):
    weight, bias, x, labels, counts = random_head_and_features(seed)
    shape = weight.shape

    def function(parameters):
        flat = torch.tensor(parameters, requires_grad=True)
        w, b = flat[: weight.numel()].view(shape), flat[weight.numel() :]
        result = objective_value(objective, w, b, x, labels, counts)
        result.backward()
        return result.item(), flat.grad.numpy()

    best = minimize(
        function, np.zeros(weight.numel() + len(bias)), jac=True, method="BFGS", options={"gtol": 1e-11}
    )
    (w, b), head = solve(objective, x, labels, counts, tolerance=1e-6)
    assert head.relative_gradient <= 1e-5
    assert value(objective, w, b, x, labels, counts) <= best.fun + 1e-9
    expected = best.x[: weight.numel()].reshape(shape)
    np.testing.assert_allclose(
        w.numpy(), expected - expected.mean(axis=0), atol=1e-3 * np.abs(expected).max()
    )


def test_cross_entropy_equals_scikit_learn(device):
    _, _, x, labels, counts = random_head_and_features(n=200)
    decay = 0.01
    theirs = LogisticRegression(C=1 / (decay * len(x)), tol=1e-10, max_iter=10_000).fit(x, labels)
    (w, b), _ = solve(Objective(weight_decay=decay), x, labels, counts, device)
    np.testing.assert_allclose(w.numpy(), theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(
        (b - b.mean()).numpy(), theirs.intercept_ - theirs.intercept_.mean(), atol=1e-4
    )


def test_lort_needs_few_iterations(device):
    _, _, x, labels, counts = random_head_and_features(n=2000, dim=64, classes=20)
    objective = Objective(delta=0.98, gamma=1.0, weight_decay=1e-4)
    _, head = solve(objective, x, labels, counts, device, tolerance=1e-6)
    assert head.relative_gradient <= 1e-6
    assert head.iterations <= 8


def test_same_input_gives_the_same_bits(device):
    _, _, x, labels, counts = random_head_and_features(n=500)
    objective = Objective(delta=0.5, weight_decay=1e-3)
    first, second = (solve(objective, x, labels, counts, device)[0] for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_start_does_not_change_the_optimum():
    weight, bias, x, labels, counts = random_head_and_features(n=300)
    objective = Objective(weight_decay=1e-2)
    (w, _), _ = solve(objective, x, labels, counts)
    (w2, _), _ = solve(objective, x, labels, counts, init=(10 * weight, 10 * bias))
    torch.testing.assert_close(w, w2, atol=1e-4, rtol=0)


def test_scaling_the_features_scales_the_head_inversely():
    _, _, x, labels, counts = random_head_and_features(n=300)
    (w, b), _ = solve(Objective(delta=0.9, weight_decay=1e-2), x, labels, counts)
    (w2, b2), _ = solve(Objective(delta=0.9, weight_decay=1e-2 * 64), 8 * x, labels, counts)
    torch.testing.assert_close(w2 * 8, w, atol=1e-5, rtol=0)
    torch.testing.assert_close(b2, b, atol=1e-5, rtol=0)


def test_collinear_and_constant_features_are_solved(device):
    _, _, x, labels, counts = random_head_and_features(n=300)
    degenerate = torch.cat([x, x, torch.ones(300, 3, dtype=x.dtype)], dim=1)
    objective = Objective(delta=0.98)
    (w, b), head = solve(objective, degenerate, labels, counts, device)
    assert head.relative_gradient <= 1e-5
    (plain, intercept), _ = solve(objective, x, labels, counts, device)
    assert value(objective, w, b, degenerate, labels, counts) == pytest.approx(
        value(objective, plain, intercept, x, labels, counts), abs=1e-8
    )


def test_cross_entropy_without_decay_has_no_minimum():
    _, _, x, labels, counts = random_head_and_features()
    with pytest.raises(ConfigError, match="no minimum"):
        solve(Objective(), x, labels, counts)


def test_a_logit_adjustment_is_refused_as_it_shifts_the_bias_alone():
    _, _, x, labels, counts = random_head_and_features(n=50)
    training, objective = TrainingSet(x, labels, len(counts)), Objective(tau=1.0, weight_decay=0.1)
    with pytest.raises(ConfigError, match="shifts the bias alone"):
        minimise(FitInputs(training).problem(objective))


def test_features_without_a_finite_gradient_are_refused(device):
    _, _, x, labels, counts = random_head_and_features(n=50)
    with pytest.raises(FeatureError, match="NaN or infinite"):
        solve(Objective(delta=0.9), 1e30 * x, labels, counts, device)


def test_a_coarse_solve_of_a_small_decay_does_not_stay_at_the_head_of_a_larger_one():
    labels = torch.arange(60) % 3
    x = torch.eye(3)[labels] + 0.1 * torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    counts, start = torch.bincount(labels), None
    for decay in (1e-1, 1e-2, 1e-3):
        objective = Objective(weight_decay=decay)
        start, _ = solve(objective, x, labels, counts, init=start, tolerance=1e-2)
        (weight, _), _ = solve(objective, x, labels, counts, tolerance=1e-6)
        assert float(start[0].norm()) == pytest.approx(float(weight.norm()), rel=0.15)


@pytest.mark.parametrize(("num_classes", "dim"), [(50, 32), (30, 16)])
def test_classes_far_apart_take_few_passes_from_the_head_of_more_decay(num_classes, dim, monkeypatch):
    passes, gradient = [], LossGradient.__call__
    monkeypatch.setattr(LossGradient, "__call__", lambda *given: passes.append(1) or gradient(*given))
    generator, labels = torch.Generator().manual_seed(0), torch.arange(20 * num_classes) % num_classes
    x = torch.randn(num_classes, dim, generator=generator)[labels]
    x += 0.2 * torch.randn(x.shape, generator=generator)
    counts, start = torch.bincount(labels), None
    for decay in (0.1, 0.01, 1e-3, 1e-4):
        objective = Objective(weight_decay=decay / num_classes)
        start, _ = solve(objective, x, labels, counts, init=start, tolerance=1e-2)
        if decay == 0.1:
            passes.clear()
    assert len(passes) <= 20  # steps by the curvature of the loss alone took 31 and more


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_without_iterations_the_head_is_the_best_bias_alone(tau):
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([70, 25, 5]))
    x, counts = torch.randn(100, 4, generator=torch.Generator().manual_seed(0)), torch.bincount(labels)
    (weight, bias), _ = solve(Objective(tau=tau, weight_decay=0.1), x, labels, counts, max_iterations=0)
    shares = counts.double() / 100
    assert not weight.any()
    torch.testing.assert_close((bias + tau * shares.log()).softmax(0), shares, atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", ["ce", "balanced-softmax", "lort"])
@pytest.mark.parametrize("unit", [1e-6, 1e4, 1e6])
def test_the_unit_of_the_features_changes_neither_the_head_nor_the_way_to_it(method, unit):
    training, _ = clusters(counts=(80, 40, 20, 8), dim=20, noise=2.0)
    scaled = TrainingSet(unit * training.x, training.labels, 4)
    first, second = fit_head(training, method), fit_head(scaled, method)
    assert second.linear.iterations == first.linear.iterations
    expected = first.logits(training.x).log_softmax(dim=1)
    torch.testing.assert_close(second.logits(scaled.x).log_softmax(dim=1), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("tau", [0.0, 1.0])
@pytest.mark.parametrize("decay", [1e-4, 1e-6, 1e-8])
def test_little_decay_on_fewer_samples_than_features_is_solved_as_in_float64(decay, tau, device):
    """As it was not: rounding filled the directions without samples, and solves stopped far too early."""
    random = np.random.default_rng(0)
    labels = torch.arange(24) % 3
    x = torch.from_numpy(random.normal(size=(24, 40)) + 2 * np.eye(40)[labels.numpy()])
    objective, counts = Objective(tau=tau, weight_decay=decay), torch.bincount(labels)
    (w, b), _ = solve(objective, x, labels, counts, device)

    basis, _ = np.linalg.qr((x - x.mean(dim=0)).T.numpy()[:, :23])
    inside = x @ torch.from_numpy(basis)

    def function(parameters):
        flat = torch.tensor(parameters, requires_grad=True)
        result = objective_value(objective, flat[:69].view(3, 23), flat[69:], inside, labels, counts)
        result.backward()
        return result.item(), flat.grad.numpy()

    best = minimize(function, np.zeros(72), jac=True, method="BFGS", options={"gtol": 1e-13, "maxiter": 5000})
    assert value(objective, w, b, x, labels, counts) <= 1.005 * best.fun
    w = w - w.mean(dim=0)
    assert np.linalg.norm(w.numpy() - w.numpy() @ basis @ basis.T) < 1e-3 * w.norm()


def test_over_smoothed_labels_without_decay_have_nothing_where_no_samples_are(device):
    labels = torch.arange(24) % 3
    x = torch.randn(24, 40, generator=torch.Generator().manual_seed(0)) + 2 * torch.eye(40)[labels]
    (w, _), head = solve(Objective(delta=0.9), x, labels, torch.bincount(labels), device)
    basis = torch.linalg.qr((x - x.mean(dim=0)).T.double()[:, :23])[0]
    assert (w - w @ basis @ basis.T).norm() < 1e-3 * w.norm()
    assert head.iterations < 30


def test_features_of_a_small_unit_beside_those_of_a_large_one_are_no_rounding(device):
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    small = torch.eye(3)[labels] + 0.2 * torch.randn(90, 3, generator=random)
    large = 1e5 * torch.randn(90, 2, generator=random)
    (w, b), _ = solve(
        Objective(weight_decay=1e-4), torch.cat([large, small], dim=1), labels, torch.bincount(labels), device
    )
    logits = torch.cat([large, small], dim=1).double() @ w.T + b
    assert logits.argmax(dim=1).equal(labels)


def test_a_solve_that_is_cut_short_gives_the_head_of_least_gradient():
    _, _, x, labels, counts = random_head_and_features(n=60, dim=20)
    cut = [
        solve(Objective(weight_decay=1e-5), x, labels, counts, max_iterations=k)[1].relative_gradient
        for k in range(12)
    ]
    assert cut == sorted(cut, reverse=True)
