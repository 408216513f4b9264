"""Re-train a head by the paper's stage 2: SGD on the classifier alone, from the stage-1 head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lort_hub.heads.solvers.lbfgs import Solution
from lort_hub.heads.solvers.objective import Objective, logit_adjustment, sample_weights, smoothing


def sgd(
    views: Sequence[Tensor],
    labels: Tensor,
    class_counts: Tensor,
    objective: Objective,
    *,
    init: tuple[Tensor, Tensor],
    epochs: int = 20,
    lr: float = 5e-4,
    momentum: float = 0.9,
    batch_size: int = 64,
    seed: int = 0,
) -> Solution:
    """Re-train a head by SGD with momentum and a cosine schedule to zero, from the stage-1 head.

    The defaults are those of the LORT authors' stage 2 (docs/method.md). The weight decay acts on W alone.

    Args:
        views: Features (N, D) of each view; epoch e uses view e modulo the number of views.
        labels: Labels (N,).
        class_counts: Training images of each class (K,).
        objective: The objective; each sample's loss is scaled by its weight, with a mean scale of 1.
        init: Head (K, D), (K,) to start from.
        epochs: Passes over the samples.
        lr: Initial learning rate.
        momentum: Momentum.
        batch_size: Samples per step.
        seed: Seed of the order of the samples.

    Returns:
        The head after the last epoch.

    Example:
        >>> x, y, counts = torch.eye(2), torch.tensor([0, 1]), torch.tensor([1, 1])
        >>> head = sgd([x], y, counts, Objective(), init=(torch.zeros(2, 2), torch.zeros(2)), lr=1.0)
        >>> (x.double() @ head.weight.T + head.bias).argmax(dim=1)
        tensor([0, 1])
    """
    weight, bias = (tensor.detach().float().clone() for tensor in init)
    groups = [
        {"params": [weight], "weight_decay": objective.weight_decay},
        {"params": [bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=momentum)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    prior = logit_adjustment(class_counts, objective.tau).to(weight)
    deltas = smoothing(objective, class_counts).to(weight)
    scale = (sample_weights(labels, class_counts, objective.gamma) * len(labels)).float()
    order = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        x = views[epoch % len(views)]
        for batch in torch.randperm(len(labels), generator=order).to(labels.device).split(batch_size):
            rows, own = x[batch], labels[batch]
            off = torch.addmm(bias + prior, rows, weight.T).softmax(dim=1)
            off -= (deltas[own] / len(deltas))[:, None]
            off.scatter_add_(1, own[:, None], deltas[own, None] - 1)
            off *= (scale[batch] / len(batch))[:, None]
            weight.grad, bias.grad = off.T @ rows, off.sum(dim=0)
            optimizer.step()
        schedule.step()
    return Solution(weight.double(), bias.double(), epochs, None)
