"""Compute the eigenbasis of the features' covariance, and ridge regression and leave-one-out in it.

As delta -> 1 the optimum of the head objective becomes (1 - delta) K times ridge regression on the one-hot
labels, with ridge K * weight_decay (docs/method.md). One eigendecomposition gives that head for every ridge,
and the exact leave-one-out logits of every training sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lort_hub.errors import FeatureError
from lort_hub.features.matrix import BLOCK, FeatureMatrix

PANEL = 256
"""Rows of the covariance per product; entries left of the diagonal block are not computed."""
ROUNDING = 3e-5
"""Largest variance along a direction that float32 products may make of none, over that of its features."""
MOST_LEVERAGE = 1 - 1e-9
"""Largest leverage of a sample, or of a group along a direction: rounding may bring it to 1 and above."""


@dataclass(frozen=True)
class Eigenbasis:
    """Coordinates of features in which their weighted covariance is diagonal.

    Attributes:
        mean: Weighted mean (D,), float64.
        vectors: Eigenvectors (D, R) of the weighted covariance, in columns, float64; R is D but for `span`.
        values: Its eigenvalues (R,), ascending, float64.
    """

    mean: Tensor
    vectors: Tensor
    values: Tensor

    @property
    def span(self) -> Eigenbasis:
        """The basis without the directions along which the samples do not differ, but for rounding.

        The best head has nothing there. What is nothing is told by the variance of the features that a
        direction consists of: features of a small unit beside those of a large one are no rounding.
        """
        squares = self.vectors.square()
        live = self.values > ROUNDING * ((squares @ self.values) @ squares)
        if live.all():
            return self
        return Eigenbasis(self.mean, self.vectors[:, live], self.values[live])

    def rotate(self, matrix: FeatureMatrix) -> Tensor:
        """Centre features (N, D) and rotate them into this basis, in memory."""
        return matrix.subtract(self.mean).map(lambda x: x @ self.vectors.to(x))

    def unrotate(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Convert a head (K, R), (K,) from this basis to the original features."""
        weight = weight @ self.vectors.T
        return weight, bias - weight @ self.mean

    def rotate_head(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Convert a head (K, D), (K,) from the original features to this basis."""
        return weight.double() @ self.vectors, bias.double() + weight.double() @ self.mean

    def rotate_sums(self, sums: Tensor) -> Tensor:
        """Convert weighted sums (K, D + 1) of [x_i, 1] to those of the centred features in this basis."""
        centred = sums[:, :-1] - sums[:, -1:] * self.mean
        return torch.cat([centred @ self.vectors, sums[:, -1:]], dim=1)


def covariance(matrix: FeatureMatrix, omega: Tensor, mean: Tensor) -> Tensor:
    """Compute the weighted covariance (D, D) of all processes' features, float64, in one pass.

    Products are float32 within a block and summed in float64 across blocks. Heads and leave-one-out logits
    then differ from those of float64 products by a few millionths (measured on real features).

    Args:
        matrix: Features (N, D).
        omega: Sample weights (N,) that sum to 1 over all processes.
        mean: Weighted mean (D,) of the features.

    Example:
        >>> matrix = FeatureMatrix.of(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
        >>> covariance(matrix, torch.tensor([0.5, 0.5]), torch.tensor([2.0, 0.0])).round(decimals=6)
        tensor([[1., 0.],
                [0., 0.]], dtype=torch.float64)
    """
    roots = omega.sqrt().float()
    gram = torch.zeros(matrix.dim, matrix.dim, dtype=torch.float64, device=matrix.device)
    for x, at in matrix.subtract(mean):
        scaled = x * roots[at, None]
        for first in range(0, matrix.dim, PANEL):
            gram[first : first + PANEL, first:] += scaled[:, first : first + PANEL].T @ scaled[:, first:]
    matrix.processes.all_reduce(gram)
    return gram.triu() + gram.triu(1).T


def eigenbasis(mean: Tensor, covariance: Tensor) -> Eigenbasis:
    """Diagonalise the weighted covariance of the features.

    Args:
        mean: Weighted mean (D,) of the features.
        covariance: Weighted covariance (D, D) of the features.

    Raises:
        FeatureError: The covariance is not finite.

    Example:
        >>> eigenbasis(torch.zeros(2), torch.tensor([[1.0, 1.0], [1.0, 1.0]])).values.round(decimals=6)
        tensor([0., 2.], dtype=torch.float64)
    """
    if not covariance.isfinite().all():
        raise FeatureError("The features are too large: their covariance is NaN or infinite in float32.")
    values, vectors = torch.linalg.eigh(covariance.double())
    return Eigenbasis(mean.double(), vectors, values.clamp_min(0))


def class_sums(matrix: FeatureMatrix, labels: Tensor, omega: Tensor, num_classes: int) -> Tensor:
    """Sum omega_i [x_i, 1] over each class's samples (K, D + 1), float64, over all processes.

    Args:
        matrix: Features (N, D).
        labels: Labels (N,).
        omega: Sample weights (N,).
        num_classes: K.

    Example:
        >>> matrix, omega = FeatureMatrix.of(torch.eye(2)), torch.tensor([0.25, 0.75])
        >>> class_sums(matrix, torch.tensor([0, 0]), omega, num_classes=2)
        tensor([[0.2500, 0.7500, 1.0000],
                [0.0000, 0.0000, 0.0000]], dtype=torch.float64)
    """
    omega = omega.double()
    sums = omega.new_zeros(num_classes, matrix.dim)
    for x, at in matrix:
        _add_rows(sums, labels[at], x * omega[at, None])
    ones = _add_rows(omega.new_zeros(num_classes, 1), labels, omega[:, None])
    sums = torch.cat([sums, ones], dim=1)
    matrix.processes.all_reduce(sums)
    return sums


def _add_rows(sums: Tensor, at: Tensor, rows: Tensor) -> Tensor:
    """Add rows (n, D) to the rows `at` (n,) of sums in place, on GPUs in the same order at each run too."""
    if sums.device.type == "cpu":
        return sums.index_add_(0, at, rows)
    return sums.index_put_((at,), rows, accumulate=True)  # sorts first; index_add_ adds in any order there


def ridge_head(basis: Eigenbasis, sums: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Fit weighted ridge regression on one-hot labels: the direction of LORT's head as delta -> 1.

    The intercept has no penalty.

    Args:
        basis: Eigenbasis of the features.
        sums: Weighted class sums (K, D + 1) in the basis, from `Eigenbasis.rotate_sums`.
        ridge: Ridge, in the units of the eigenvalues: K times the objective's weight decay.

    Returns:
        Head (K, D), (K,) in the basis.

    Example:
        >>> matrix, half = FeatureMatrix.of(torch.tensor([[-1.0], [1.0]])), torch.tensor([0.5, 0.5])
        >>> basis = eigenbasis(torch.zeros(1), covariance(matrix, half, torch.zeros(1)))
        >>> sums = basis.rotate_sums(class_sums(matrix, torch.tensor([0, 1]), half, 2))
        >>> weight, bias = ridge_head(basis, sums, ridge=1.0)
        >>> weight.abs().flatten(), bias
        (tensor([0.2500, 0.2500], dtype=torch.float64), tensor([0.5000, 0.5000], dtype=torch.float64))
    """
    return sums[:, :-1] / (basis.values + ridge).clamp_min(1e-300), sums[:, -1]


def leave_one_out(
    basis: Eigenbasis, x: Tensor, labels: Tensor, omega: Tensor, sums: Tensor, ridge: float
) -> Tensor:
    """Compute exact leave-one-out logits of ridge regression: each sample's head is fitted without it.

    z_loo = (z - h y) / (1 - h) with the leverage h_i = omega_i (1 + x_i' (Lambda + ridge)^-1 x_i); the other
    samples keep their weights (docs/method.md).

    Args:
        basis: Eigenbasis of all training samples.
        x: Features (M, D) of some or all samples in the basis, from `Eigenbasis.rotate`.
        labels: Labels (M,) of these samples.
        omega: Weights (M,) of these samples.
        sums: Weighted class sums (K, D + 1) of all training samples in the basis.
        ridge: Ridge, > 0.

    Returns:
        Logits (M, K), float32, in the units of the one-hot labels.

    Example:
        >>> matrix, labels = FeatureMatrix.of(torch.tensor([[0.0], [1.0], [2.0]])), torch.tensor([0, 0, 1])
        >>> third = torch.full((3,), 1 / 3, dtype=torch.float64)
        >>> basis = eigenbasis(torch.ones(1), covariance(matrix, third, torch.ones(1)))
        >>> sums = basis.rotate_sums(class_sums(matrix, labels, third, 2))
        >>> z = leave_one_out(basis, basis.rotate(matrix), labels, third, sums, ridge=1e9)
        >>> z.round(decimals=3)  # only the intercept is left
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000],
                [1.0000, 0.0000]])
    """
    weight, bias = (tensor.to(x) for tensor in ridge_head(basis, sums, ridge))
    inverse = (1 / (basis.values + ridge)).to(x)
    logits = x.new_empty(len(labels), len(bias))
    blocks = zip(*(tensor.split(BLOCK) for tensor in (x, labels, omega, logits)), strict=True)
    for block, y, w, z in blocks:  # z is a view of the logits, written in place
        leverage = (w * (1 + (block.square() @ inverse).double())).clamp_max(MOST_LEVERAGE)
        torch.addmm(bias, block, weight.T, out=z)
        z[torch.arange(len(y), device=y.device), y] -= leverage.to(z)
        z /= (1 - leverage).to(z)[:, None]
    return logits


def leave_group_out(
    basis: Eigenbasis, x: Tensor, labels: Tensor, omega: Tensor, groups: Tensor, sums: Tensor, ridge: float
) -> Tensor:
    """Compute exact leave-one-group-out logits of ridge regression: heads are fitted without the group.

    With the hat matrix H_ij = omega_j (1 + x_i' (Lambda + ridge)^-1 x_j) and a group G, z_loo - y =
    (I - H_GG)^-1 (z - y): the head fitted without the group is the one fitted on all samples where the
    group's targets are replaced by its own predictions of them. The other samples keep their weights.

    Args:
        basis: Eigenbasis of all training samples.
        x: Features (M, D) of all samples of some or all groups in the basis, from `Eigenbasis.rotate`.
        labels: Labels (M,) of these samples.
        omega: Weights (M,) of these samples.
        groups: Group numbers (M,) of these samples.
        sums: Weighted class sums (K, D + 1) of all training samples in the basis.
        ridge: Ridge, > 0.

    Returns:
        Logits (M, K), float32, in the units of the one-hot labels.

    Example:
        >>> matrix, labels = FeatureMatrix.of(torch.tensor([[0.0], [1.0], [2.0]])), torch.tensor([0, 0, 1])
        >>> third = torch.full((3,), 1 / 3, dtype=torch.float64)
        >>> basis = eigenbasis(torch.ones(1), covariance(matrix, third, torch.ones(1)))
        >>> sums, groups = basis.rotate_sums(class_sums(matrix, labels, third, 2)), torch.tensor([0, 1, 1])
        >>> z = leave_group_out(basis, basis.rotate(matrix), labels, third, groups, sums, ridge=1e9)
        >>> z.round(decimals=3)  # only the intercept of the other group is left
        tensor([[0.5000, 0.5000],
                [1.0000, 0.0000],
                [1.0000, 0.0000]])
    """
    logits = leave_one_out(basis, x, labels, omega, sums, ridge)
    weight, bias = (tensor.to(x) for tensor in ridge_head(basis, sums, ridge))
    spread = (basis.values + ridge).rsqrt()
    _, number, sizes = groups.unique(return_inverse=True, return_counts=True)
    order = number.argsort(stable=True)
    for size in sizes.unique().tolist():
        members = order[sizes[number[order]] == size].view(-1, size)
        for some in members.split(max(1, BLOCK // size)) if size > 1 else ():
            y = torch.nn.functional.one_hot(labels[some], len(bias))
            # in float32 the rounding of the residuals would tell the labels
            rest = (x[some] @ weight.T + bias).double() - y
            # roots (I - H_GG) = (I - F F') roots, with the rows F_i = sqrt(omega_i) [1, spread x_i]
            roots = omega[some].double().sqrt()[..., None]
            factor = roots * torch.cat([torch.ones_like(roots), x[some] * spread], dim=-1)
            logits[some] = (_solve_less(factor, roots * rest) / roots + y).to(logits)
    return logits


def _solve_less(factor: Tensor, right: Tensor) -> Tensor:
    """Solve (I - F F') u = right for factors F (G, n, D) of few rows, or of few columns."""
    if factor.shape[-2] > factor.shape[-1]:
        return right + factor @ _solve_less(factor.mT, factor.mT @ right)
    values, vectors = torch.linalg.eigh(factor @ factor.mT)
    left = 1 - values.clamp_max(MOST_LEVERAGE)
    solution: Tensor = vectors @ ((vectors.mT @ right) / left[..., None])
    return solution
