"""Features in the eigenbasis of their weighted covariance, where ridge regression is closed form.

As delta -> 1 the optimum of the head objective becomes (1 - delta) K times ridge regression on the one-hot
labels, with ridge K * weight_decay. One eigen-decomposition gives that head for every ridge, and exactly what
each training sample's logits would be had it been left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lort_hub.errors import FeatureError
from lort_hub.objectives import sample_weights

BLOCK = 2048
"""Rows per product: float32 within a block, float64 across blocks."""


@dataclass(frozen=True)
class Eigenbasis:
    """Features, centred and rotated so that their weighted covariance is diagonal.

    Attributes:
        mean: Weighted mean (D,), float64.
        vectors: Eigenvectors (D, D) of the weighted covariance, in columns, float64.
        values: Its eigenvalues (D,), ascending, float64.
        x: Centred, rotated features (N, D), float32.
        omega: The sample weights (N,), float64, summing to one.
    """

    mean: Tensor
    vectors: Tensor
    values: Tensor
    x: Tensor
    omega: Tensor

    def rotate(self, x: Tensor) -> Tensor:
        """Express features (N, D) in this basis, float32."""
        blocks = [((block.double() - self.mean) @ self.vectors).float() for block in x.split(BLOCK)]
        return torch.cat(blocks)

    def unrotate(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Express a head (K, D), (K,) of this basis on the original features."""
        weight = weight @ self.vectors.T
        return weight, bias - weight @ self.mean

    def rotate_head(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Express a head (K, D), (K,) on the original features in this basis."""
        return weight.double() @ self.vectors, bias.double() + weight.double() @ self.mean


def eigenbasis(x: Tensor, omega: Tensor) -> Eigenbasis:
    """Diagonalise the weighted covariance of the features.

    Args:
        x: Features (N, D).
        omega: Sample weights (N,) summing to one.

    Example:
        >>> basis = eigenbasis(torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([0.5, 0.5]))
        >>> basis.mean, basis.values.round(decimals=6).abs()
        (tensor([2., 0.], dtype=torch.float64), tensor([0., 1.], dtype=torch.float64))
    """
    omega = omega.double()
    blocks = list(zip(x.split(BLOCK), omega.split(BLOCK), strict=True))
    mean = torch.stack([w @ block.double() for block, w in blocks]).sum(dim=0)
    gram = x.new_zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    for block, w in blocks:
        scaled = (block.double() - mean) * w.sqrt()[:, None]
        gram.addmm_(scaled.T, scaled)
    values, vectors = torch.linalg.eigh(gram)
    basis = Eigenbasis(mean, vectors, values.clamp_min(0), x, omega)
    return Eigenbasis(mean, vectors, basis.values, basis.rotate(x), omega)


class TrainingSet:
    """Features and labels to fit a head on, with their eigenbases at hand.

    Raises:
        FeatureError: The features are not finite, or a class has no sample.

    Example:
        >>> training = TrainingSet(torch.eye(2), torch.tensor([0, 1]), num_classes=2)
        >>> training.class_counts, training.basis(gamma=0.0).values.round(decimals=6)
        (tensor([1, 1]), tensor([0.0000, 0.5000], dtype=torch.float64))
    """

    def __init__(self, x: Tensor, labels: Tensor, num_classes: int, held_out: Tensor | None = None) -> None:
        """Keep features (N, D) and labels (N,); nothing is computed yet.

        `held_out` (N,) is True for samples that a backbone trained on the others has never seen; None, or
        all True, says that it has seen none of them.
        """
        if len(x) != len(labels):
            raise FeatureError(f"Got {len(x)} feature vectors for {len(labels)} labels.")
        if not x.isfinite().all():
            raise FeatureError("The features hold NaN or infinite values; extract them again.")
        self.x, self.labels = x, labels
        self.held_out = None if held_out is None or held_out.all() else held_out
        self.class_counts = torch.bincount(labels, minlength=num_classes)
        if len(self.class_counts) != num_classes or not self.class_counts.all():
            raise FeatureError(
                f"Expected samples of each of the {num_classes} classes, got counts "
                f"{self.class_counts.min().item()}..{self.class_counts.max().item()} "
                f"over {len(self.class_counts)} labels."
            )
        self.basis = lru_cache(maxsize=2)(self._basis)

    def _basis(self, gamma: float) -> Eigenbasis:
        return eigenbasis(self.x, sample_weights(self.labels, self.class_counts, gamma))


def class_sums(x: Tensor, labels: Tensor, omega: Tensor, num_classes: int) -> Tensor:
    """Weighted sums of [x_i, 1] over each class's samples (K, D + 1), float64.

    Args:
        x: Features (N, D).
        labels: Labels (N,).
        omega: Sample weights (N,).
        num_classes: K.

    Example:
        >>> class_sums(torch.eye(2), torch.tensor([0, 0]), torch.tensor([0.25, 0.75]), num_classes=2)
        tensor([[0.2500, 0.7500, 1.0000],
                [0.0000, 0.0000, 0.0000]], dtype=torch.float64)
    """
    sums = torch.zeros(num_classes, x.shape[1] + 1, dtype=torch.float64, device=x.device)
    for block, w, y in zip(x.split(BLOCK), omega.double().split(BLOCK), labels.split(BLOCK), strict=True):
        sums[:, :-1].index_add_(0, y, block.double() * w[:, None])
        sums[:, -1].index_add_(0, y, w)
    return sums


def ridge_head(basis: Eigenbasis, sums: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Weighted ridge regression on one-hot labels with a free intercept: LORT's direction as delta -> 1.

    Args:
        basis: The features' eigenbasis.
        sums: Class sums (K, D + 1) of the basis's features, from `class_sums`.
        ridge: Ridge, in the units of the eigenvalues; the objective's weight decay times K.

    Returns:
        Head (K, D), (K,) in the basis.

    Example:
        >>> basis = eigenbasis(torch.tensor([[-1.0], [1.0]]), torch.tensor([0.5, 0.5]))
        >>> sums = class_sums(basis.x, torch.tensor([0, 1]), basis.omega, 2)
        >>> weight, bias = ridge_head(basis, sums, ridge=1.0)
        >>> weight.abs().flatten(), bias
        (tensor([0.2500, 0.2500], dtype=torch.float64), tensor([0.5000, 0.5000], dtype=torch.float64))
    """
    return sums[:, :-1] / (basis.values + ridge).clamp_min(1e-300), sums[:, -1]


def leave_one_out(basis: Eigenbasis, labels: Tensor, sums: Tensor, ridge: float) -> Tensor:
    """Ridge logits of every training sample from a head fitted without it, exactly.

    z_loo = (z - h y) / (1 - h) with the leverage h_i = omega_i (1 + x_i' (Lambda + ridge)^-1 x_i); the other
    samples keep their weights (PAPER section 7).

    Args:
        basis: The features' eigenbasis.
        labels: Labels (N,).
        sums: Class sums (K, D + 1) of the basis's features, from `class_sums`.
        ridge: Ridge, > 0.

    Returns:
        Logits (N, K), float32, in the units of the one-hot labels.

    Example:
        >>> basis = eigenbasis(torch.tensor([[0.0], [1.0], [2.0]]), torch.full((3,), 1 / 3))
        >>> labels = torch.tensor([0, 0, 1])
        >>> sums = class_sums(basis.x, labels, basis.omega, 2)
        >>> leave_one_out(basis, labels, sums, ridge=1e9).round(decimals=3)  # only the intercept is left
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000],
                [1.0000, 0.0000]])
    """
    weight, bias = ridge_head(basis, sums, ridge)
    weight, bias = weight.to(basis.x), bias.to(basis.x)
    shrink = (1 / (basis.values + ridge)).to(basis.x)
    out = torch.empty(len(labels), len(bias), dtype=basis.x.dtype, device=basis.x.device)
    blocks = zip(
        basis.x.split(BLOCK), labels.split(BLOCK), basis.omega.split(BLOCK), out.split(BLOCK), strict=True
    )
    for x, y, omega, z in blocks:
        leverage = (omega * (1 + (x.square() @ shrink).double())).clamp_max(1 - 1e-9)
        torch.addmm(bias, x, weight.T, out=z)
        z[torch.arange(len(y)), y] -= leverage.to(z)
        z /= (1 - leverage).to(z)[:, None]
    return out
