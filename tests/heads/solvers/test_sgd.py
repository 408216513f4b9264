import math

import pytest
import torch

from lort_hub.heads.solvers.objective import Objective, objective_value
from lort_hub.heads.solvers.sgd import sgd
from tests.support.features import random_head_and_features


@pytest.mark.parametrize(
    "objective", [Objective(delta=0.98), Objective(delta=0.5, tau=1.0, gamma=0.5, weight_decay=0.3)]
)
def test_one_sgd_step_by_hand(device, objective):
    # One epoch of one batch: the step is lr times the gradient of the mean loss.
    weight, bias, x, labels, counts = random_head_and_features(n=20)
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    objective_value(objective, weight, bias, x, labels, counts).backward()
    start, there = (weight.detach().to(device), bias.detach().to(device)), labels.to(device)
    head = sgd([x.float().to(device)], there, counts, objective, init=start, epochs=1, lr=0.1)
    for own, part in ((head.weight, weight), (head.bias, bias)):
        torch.testing.assert_close(own.cpu(), part.detach() - 0.1 * part.grad, atol=1e-6, rtol=0)


def test_epochs_of_batches_are_those_of_autograd():
    weight, bias, x, labels, counts = random_head_and_features(n=20)
    weight, bias = weight.float().requires_grad_(), bias.float().requires_grad_()
    head = sgd([x.float()], labels, counts, Objective(), init=(weight, bias), epochs=3, lr=0.5, batch_size=8)
    optimizer = torch.optim.SGD([weight, bias], lr=0.5, momentum=0.9)
    order = torch.Generator().manual_seed(0)
    for epoch in range(3):
        optimizer.param_groups[0]["lr"] = 0.25 * (1 + math.cos(math.pi * epoch / 3))
        for batch in torch.randperm(20, generator=order).split(8):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(x[batch].float() @ weight.T + bias, labels[batch]).backward()
            optimizer.step()
    assert torch.allclose(head.weight.float(), weight, atol=1e-5)
    assert torch.allclose(head.bias.float(), bias, atol=1e-5)


def test_sgd_uses_its_views_in_turn():
    weight, bias, x, labels, counts = random_head_and_features(n=20)
    options = {"init": (weight, bias), "lr": 0.1}
    a, b = x.float(), x.float() + 1
    one = sgd([a, b], labels, counts, Objective(), epochs=1, **options)
    alone = sgd([a], labels, counts, Objective(), epochs=1, **options)
    assert torch.equal(one.weight, alone.weight)
    two = sgd([a, b], labels, counts, Objective(), epochs=2, **options)
    assert not torch.equal(two.weight, sgd([a], labels, counts, Objective(), epochs=2, **options).weight)


def test_label_aware_smoothing_smooths_each_class_by_its_own_delta():
    random = torch.Generator().manual_seed(0)
    x, labels = torch.randn(12, 3, generator=random), torch.tensor([0] * 6 + [1] * 4 + [2] * 2)
    counts, objective = torch.bincount(labels), Objective(delta=0.4, label_aware=True)
    deltas = [0.4, 0.4 * math.sin(math.pi / 4), 0.0]  # (6 - 2, 4 - 2, 2 - 2) over 4, of pi / 2
    weight, bias = torch.zeros(3, 3, requires_grad=True), torch.zeros(3, requires_grad=True)
    losses = [
        torch.nn.functional.cross_entropy(weight @ row + bias, y, label_smoothing=deltas[y])
        for row, y in zip(x, labels, strict=True)
    ]
    torch.stack(losses).mean().backward()
    init = torch.zeros(3, 3), torch.zeros(3)
    head = sgd([x], labels, counts, objective, init=init, epochs=1, lr=0.1, batch_size=12)
    assert torch.allclose(head.weight.float(), -0.1 * weight.grad, atol=1e-6)
    assert torch.allclose(head.bias.float(), -0.1 * bias.grad, atol=1e-6)
