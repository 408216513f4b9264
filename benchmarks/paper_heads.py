"""The heads of paper.py, and the LORT authors' stage 2 for all of them at once.

A sum of losses of heads that share no weight has the gradients of each loss alone, so that one product of
matrices serves all heads that see the same batches.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

DELTA, RATE, MOMENTUM, BATCH = 0.98, 5e-4, 0.9, 64
DELTAS = (0.2, 0.5, 0.8, 0.99)
RATES = (5e-5, 1e-4, 1e-3, 5e-3)
DECAYS = (1e-4, 5e-4, 5e-3)
SHARES = (0.4, 0.6, 0.8)
POWERS = (0.5, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Recipe:
    """A head of stage 2: its loss, its batches and its optimiser.

    `share` is MaxNorm's radius over the largest norm of the stage-1 classifier's rows; each step ends with
    the projection. With `balanced`, the samples of a batch are drawn from classes equally likely (cRT).
    """

    name: str
    delta: float = 0.0
    tau: float = 0.0
    balanced: bool = False
    share: float = math.inf
    lr: float = RATE
    weight_decay: float = 0.0


def recipes() -> list[Recipe]:
    """The heads by SGD, those with the published settings first."""
    lort = Recipe("LORT", delta=DELTA)
    plain = [Recipe("CE"), Recipe("cRT", balanced=True), Recipe("balanced softmax", tau=1.0)]
    heads = [lort, *plain]
    heads += [Recipe(f"MaxNorm, radius {share:g}", balanced=True, share=share) for share in SHARES]
    heads += [replace(lort, name=f"LORT, delta {delta:g}", delta=delta) for delta in DELTAS]
    heads += [replace(head, name=f"{head.name}, lr {lr:g}", lr=lr) for head in (lort, *plain) for lr in RATES]
    heads += [replace(lort, name=f"LORT, weight decay {wd:g}", weight_decay=wd) for wd in DECAYS]
    return heads


def balanced_accuracies(logits: Tensor, labels: Tensor) -> Tensor:
    """Balanced accuracy (H,) of logits (N, H, K) of H heads."""
    right = (logits.argmax(dim=2) == labels[:, None]).double()
    of_class = torch.zeros(logits.shape[2], right.shape[1], dtype=torch.float64, device=right.device)
    counts = torch.bincount(labels, minlength=len(of_class))
    return (of_class.index_add(0, labels, right)[counts > 0] / counts[counts > 0, None]).mean(dim=0)


@dataclass(frozen=True)
class Trained:
    """Heads W (H, K, D), b (H, K) after the last epoch, and what the test set says of all epochs.

    `accuracies` (H, epochs, 2) are balanced ones after each epoch, without and with flip averaging.
    """

    weight: Tensor
    bias: Tensor
    accuracies: Tensor


def stage2(
    views: Sequence[Tensor],
    labels: Tensor,
    start: tuple[Tensor, Tensor],
    heads: Sequence[Recipe],
    tests: Sequence[Tensor],
    test_labels: Tensor,
    *,
    seed: int,
) -> Trained:
    """Train heads from the stage-1 classifier (K, D), (K,); epoch e sees view e (N, D) of every image.

    `tests` are the features (M, D) of the test images, without and with flip averaging.
    """
    parts = {}
    for balanced in (False, True):
        rows = [row for row, head in enumerate(heads) if head.balanced == balanced]
        if rows:
            group = [heads[row] for row in rows]
            parts[tuple(rows)] = _train(views, labels, start, group, tests, test_labels, seed)
    order = torch.tensor([row for rows in parts for row in rows]).argsort()
    columns = zip(*((part.weight, part.bias, part.accuracies) for part in parts.values()), strict=True)
    return Trained(*(torch.cat(column).cpu()[order] for column in columns))


def _train(
    views: Sequence[Tensor],
    labels: Tensor,
    start: tuple[Tensor, Tensor],
    heads: Sequence[Recipe],
    tests: Sequence[Tensor],
    test_labels: Tensor,
    seed: int,
) -> Trained:
    device, counts = labels.device, torch.bincount(labels, minlength=len(start[0]))
    delta, tau, share, lr, decay = (
        torch.tensor([getattr(head, name) for head in heads], device=device)
        for name in ("delta", "tau", "share", "lr", "weight_decay")
    )
    weight, bias = (tensor.to(device).expand(len(heads), *tensor.shape).clone() for tensor in start)
    radius = (share * start[0].norm(dim=1).max().to(device))[:, None, None]
    prior = tau[:, None] * (counts / counts.sum()).log()
    velocity = [torch.zeros_like(weight), torch.zeros_like(bias)]
    generator, accuracies = torch.Generator().manual_seed(seed), []
    for epoch, view in enumerate(views):
        rate = lr * (1 + math.cos(math.pi * epoch / len(views))) / 2
        if heads[0].balanced:
            chances = (1 / counts.double())[labels].cpu()
            rows = torch.multinomial(chances, len(labels), replacement=True, generator=generator)
        else:
            rows = torch.randperm(len(labels), generator=generator)
        for batch in rows.to(device).split(BATCH):
            weight.requires_grad_(), bias.requires_grad_()
            logits = torch.einsum("nd,hkd->nhk", view[batch], weight) + bias + prior
            log_p = logits.log_softmax(dim=2)
            true = log_p.gather(2, labels[batch, None, None].expand(-1, len(heads), 1)).squeeze(2)
            loss = -((1 - delta) * true + delta * log_p.mean(dim=2)).mean(dim=0).sum()
            gradients = torch.autograd.grad(loss, (weight, bias))
            weight, bias = weight.detach(), bias.detach()
            for value, gradient, speed in zip((weight, bias), gradients, velocity, strict=True):
                shape = (-1, *(1,) * (value.ndim - 1))
                speed.mul_(MOMENTUM).add_(gradient + decay.view(shape) * value)
                value.sub_(rate.view(shape) * speed)
            weight.mul_((radius / weight.norm(dim=2, keepdim=True)).clamp(max=1))
        found = [torch.einsum("nd,hkd->nhk", x, weight) + bias for x in tests]
        accuracies.append(torch.stack([balanced_accuracies(z, test_labels) for z in found], dim=1))
    return Trained(weight, bias, torch.stack(accuracies, dim=1))
