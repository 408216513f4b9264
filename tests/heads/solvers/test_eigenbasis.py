import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from lort_hub.errors import FeatureError
from lort_hub.features.matrix import CPU, FeatureMatrix
from lort_hub.heads.leave_one_out import LEAST_RIDGE
from lort_hub.heads.solvers.eigenbasis import leave_group_out, leave_one_out, ridge_head
from lort_hub.heads.solvers.lbfgs import minimise
from lort_hub.heads.solvers.objective import Objective
from lort_hub.heads.solvers.problem import HeadProblem
from lort_hub.heads.training_set import TrainingSet
from tests.support.features import random_head_and_features


def setting(seed=0, gamma=0.5, n=40, device=CPU):
    """Features in double precision, the training set of them, its basis, and its sums in that."""
    _, _, x, labels, counts = random_head_and_features(seed, n=n)
    training = TrainingSet(FeatureMatrix.of(x.float()).to(device), labels, len(counts))
    basis = training.basis(gamma)
    return x.float().double(), training, basis, basis.rotate_sums(training.weighted_sums(gamma))


def test_covariance_is_diagonal_in_the_basis(device):
    _, training, basis, _ = setting(device=device)
    x, omega = basis.rotate(training.matrix).double(), training.weights(0.5)
    covariance = (x * omega[:, None]).T @ x
    torch.testing.assert_close(covariance.cpu(), torch.diag(basis.values).cpu(), atol=1e-6, rtol=0)
    torch.testing.assert_close((omega @ x).cpu(), torch.zeros(5, dtype=torch.float64), atol=1e-6, rtol=0)


def test_heads_go_to_the_basis_and_back():
    x, training, basis, _ = setting()
    weight, bias = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    rotated = basis.rotate_head(weight, bias)
    logits = basis.rotate(training.matrix).double() @ rotated[0].T + rotated[1]
    torch.testing.assert_close(logits, x @ weight.T + bias, atol=1e-5, rtol=0)
    back = basis.unrotate(*rotated)
    torch.testing.assert_close(back[0], weight)
    torch.testing.assert_close(back[1], bias)


@pytest.mark.parametrize("gamma", [0.0, 1.0])
@pytest.mark.parametrize("ridge", [1e-4, 1.0])
def test_ridge_head_equals_scikit_learn(device, gamma, ridge):
    x, training, basis, sums = setting(gamma=gamma, device=device)
    omega = training.weights(gamma).cpu()
    theirs = Ridge(alpha=ridge).fit(x, np.eye(4)[training.all_labels], sample_weight=omega)
    weight, bias = basis.unrotate(*ridge_head(basis, sums, ridge))
    np.testing.assert_allclose(weight.cpu().numpy(), theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(bias.cpu().numpy(), theirs.intercept_, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([1e-3, 1e-1, 10.0]))
def test_leave_one_out_equals_refitting_without_each_sample(seed, gamma, ridge):
    x, training, basis, sums = setting(seed, gamma)
    labels, omega = training.labels, training.weights(gamma)
    got = leave_one_out(basis, basis.rotate(training.matrix), labels, omega, sums, ridge)
    for left_out in range(0, len(x), 7):
        kept = np.arange(len(x)) != left_out
        model = Ridge(alpha=ridge).fit(x[kept], np.eye(4)[labels[kept]], sample_weight=omega[kept])
        np.testing.assert_allclose(got[left_out].numpy(), model.predict(x[left_out][None])[0], atol=2e-4)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([1e-3, 1e-1, 10.0]),
    st.lists(st.integers(0, 6), min_size=40, max_size=40).filter(lambda groups: len(set(groups)) > 1),
)
def test_leave_group_out_equals_refitting_without_each_group(seed, gamma, ridge, groups):
    x, training, basis, sums = setting(seed, gamma)  # of 5 features: groups are smaller and larger than that
    labels, omega, groups = training.labels, training.weights(gamma), torch.tensor(groups)
    got = leave_group_out(basis, basis.rotate(training.matrix), labels, omega, groups, sums, ridge)
    for group in groups.unique():
        kept = (groups != group).numpy()
        model = Ridge(alpha=ridge).fit(x[kept], np.eye(4)[labels[kept]], sample_weight=omega[kept])
        np.testing.assert_allclose(got[~kept].numpy(), model.predict(x[~kept]), atol=1e-3, rtol=1e-4)


def test_groups_of_one_are_left_out_as_samples_are(device):
    _, training, basis, sums = setting(device=device)
    told = basis, basis.rotate(training.matrix), training.labels, training.weights(0.5)
    single = leave_group_out(*told, torch.arange(40).flip(0).to(device), sums, 0.1)
    assert single.equal(leave_one_out(*told, sums, 0.1))


@pytest.mark.parametrize(("samples", "dim", "offset"), [(40, 120, 0.0), (40, 40, 30.0)])
def test_the_least_ridge_is_large_enough_for_float32(samples, dim, offset):
    random, labels = torch.Generator().manual_seed(1), torch.arange(samples) % 4
    x = (
        torch.randn(4, dim, generator=random)[labels] / 2
        + torch.randn(samples, dim, generator=random)
        + offset
    )
    training = TrainingSet(x, labels, 4)
    basis, omega = training.basis(0.0), training.weights(0.0)
    ridge, sums = LEAST_RIDGE * float(basis.values.max()), basis.rotate_sums(training.weighted_sums(0.0))
    told = basis, basis.rotate(training.matrix), labels, omega
    pairs = torch.arange(samples) // 2
    for got, groups in (
        (leave_one_out(*told, sums, ridge), torch.arange(samples)),
        (leave_group_out(*told, pairs, sums, ridge), pairs),
    ):
        for group in groups.unique()[::3]:
            kept = (groups != group).numpy()
            model = Ridge(alpha=ridge, solver="svd")
            model.fit(x.double()[kept], np.eye(4)[labels[kept]], sample_weight=omega[kept])
            np.testing.assert_allclose(got[~kept].numpy(), model.predict(x.double()[~kept]), atol=0.02)


def test_a_group_that_is_all_there_is_leaves_nothing_to_fit_but_no_error(device):
    _, training, basis, sums = setting(device=device)
    told = basis, basis.rotate(training.matrix), training.labels, training.weights(0.5)
    assert leave_group_out(*told, torch.zeros_like(training.labels), sums, 0.1).isfinite().all()


def test_the_objective_s_optimum_tends_to_ridge_as_delta_tends_to_one(device):
    _, training, basis, sums = setting(gamma=1.0, device=device)
    decay, classes = 0.05, 4
    weight, _ = basis.unrotate(*ridge_head(basis, sums, classes * decay))
    expected = weight - weight.mean(dim=0)
    for delta, tolerance in ((0.99, 2e-2), (0.9999, 2e-4)):
        objective = Objective(delta=delta, gamma=1.0, weight_decay=decay)
        samples = training.matrix, training.labels, training.weights(1.0), basis, training.class_counts
        head = minimise(HeadProblem(*samples, objective), tolerance=1e-7)
        error = (head.weight / ((1 - delta) * classes) - expected).norm() / expected.norm()
        assert error < tolerance


def test_training_set_refuses_what_cannot_be_fitted():
    x = torch.eye(3)
    with pytest.raises(FeatureError, match="2 labels"):
        TrainingSet(x, torch.tensor([0, 1]), 2)
    with pytest.raises(FeatureError, match="each of the 3 classes"):
        TrainingSet(x, torch.tensor([0, 1, 1]), 3)
    x[1, 1] = torch.nan
    with pytest.raises(FeatureError, match="NaN"):
        TrainingSet(x, torch.tensor([0, 1, 2]), 3)
