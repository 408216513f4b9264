import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from lort_hub.heads.solvers import maxnorm
from lort_hub.heads.solvers.lbfgs import minimise
from lort_hub.heads.solvers.maxnorm import minimise_max_norm
from lort_hub.heads.solvers.objective import Objective, objective_value
from lort_hub.heads.solvers.problem import HeadProblem
from lort_hub.heads.training_set import TrainingSet
from tests.support.features import clusters


@pytest.mark.parametrize(
    "objective",
    [Objective(gamma=1.0, weight_decay=1e-3), Objective(delta=0.9, weight_decay=1e-4), Objective(delta=0.9)],
)
@pytest.mark.parametrize("share", [0.2, 0.4, 0.8, 0.95])
@pytest.mark.parametrize("from_near", [False, True])
def test_it_is_the_constrained_optimum(device, objective, share, from_near):
    bare, _ = clusters(counts=(40, 12, 5), dim=4)
    training = TrainingSet(bare.matrix.to(device), bare.labels, 3)
    basis, omega = training.basis(objective.gamma), training.weights(objective.gamma)
    problem = HeadProblem(training.matrix, training.labels, omega, basis, training.class_counts, objective)
    radius = share * minimise(problem).weight.norm(dim=1).max().item()
    near = minimise_max_norm(problem, radius * (1 - share) / share) if from_near else None
    head = minimise_max_norm(problem, radius, near=near).head
    assert head.weight.norm(dim=1).max() <= radius * (1 + 1e-9)

    x = bare.x.double()

    def value(flat):
        parameters = torch.tensor(flat, requires_grad=True)
        weight, bias = parameters[:12].view(3, 4), parameters[12:]
        loss = objective_value(objective, weight, bias, x, bare.labels, bare.class_counts)
        loss.backward()
        return loss.item(), parameters.grad.numpy()

    norms = {"type": "ineq", "fun": lambda flat: radius**2 - np.square(flat[:12].reshape(3, 4)).sum(axis=1)}
    options = {"maxiter": 1000, "ftol": 1e-14}
    best = minimize(value, np.zeros(15), jac=True, method="SLSQP", constraints=[norms], options=options)
    ours, _ = value(torch.cat([head.weight.flatten(), head.bias]).cpu().numpy())
    zero, _ = value(np.zeros(15))
    assert (ours - best.fun) / (zero - best.fun) < 1e-3


def test_a_search_that_runs_out_of_rounds_ends_at_the_tolerance_all_the_same():
    training, _ = clusters(seed=1, counts=(200, 50, 5), dim=2)
    basis, omega = training.basis(1.0), training.weights(1.0)
    objective = Objective(gamma=1.0, weight_decay=1e-3)
    problem = HeadProblem(training.matrix, training.labels, omega, basis, training.class_counts, objective)
    radius = 0.5 * minimise(problem).weight.norm(dim=1).max().item()
    for rounds in (1, 2, 5):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(maxnorm, "MAX_ROUNDS", rounds)
            found = minimise_max_norm(problem, radius)
        assert found.head.relative_gradient <= 1e-5
