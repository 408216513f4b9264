import torch

from lort_hub.heads.solvers.objective import Objective, objective_value
from lort_hub.heads.solvers.sgd import sgd
from tests.support.features import random_head_and_features


def test_one_sgd_step_by_hand(device):
    # One epoch of one batch: the step is lr times the gradient of the mean loss.
    weight, bias, x, labels, counts = random_head_and_features(n=20)
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    objective = Objective(delta=0.98)
    objective_value(objective, weight, bias, x, labels, counts).backward()
    start, there = (weight.detach().to(device), bias.detach().to(device)), labels.to(device)
    head = sgd([x.float().to(device)], there, counts, objective, init=start, epochs=1, lr=0.1)
    for own, part in ((head.weight, weight), (head.bias, bias)):
        torch.testing.assert_close(own.cpu(), part.detach() - 0.1 * part.grad, atol=1e-6, rtol=0)


def test_sgd_uses_its_views_in_turn():
    weight, bias, x, labels, counts = random_head_and_features(n=20)
    options = {"init": (weight, bias), "lr": 0.1}
    a, b = x.float(), x.float() + 1
    one = sgd([a, b], labels, counts, Objective(), epochs=1, **options)
    alone = sgd([a], labels, counts, Objective(), epochs=1, **options)
    assert torch.equal(one.weight, alone.weight)
    two = sgd([a, b], labels, counts, Objective(), epochs=2, **options)
    assert not torch.equal(two.weight, sgd([a], labels, counts, Objective(), epochs=2, **options).weight)
