"""Fit the cosine classifier, with or without the margins of LDAM."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lort_hub.errors import ConfigError
from lort_hub.features.matrix import FeatureMatrix
from lort_hub.heads.solvers.descent import descend
from lort_hub.heads.solvers.eigenbasis import class_sums
from lort_hub.heads.solvers.objective import sample_weights
from lort_hub.heads.solvers.problem import LOADED_NUMBERS

TOLERANCE = 1e-4
MAX_ITERATIONS = 150


@dataclass(frozen=True)
class CosineHead:
    """Head whose logits depend only on the directions of the feature and of the class weights.

    z_k = scale * cos(x, w_k); a zero feature has zero logits.

    Attributes:
        weight: Unit rows w_k (K, D), float32.
        scale: Inverse temperature.

    Example:
        >>> CosineHead(torch.eye(2), scale=10.0).logits(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[6., 8.],
                [0., 0.]])
    """

    weight: Tensor
    scale: float

    def logits(self, x: Tensor) -> Tensor:
        """Compute logits (N, K) of features (N, D)."""
        return self.scale * (F.normalize(x) @ self.weight.T)


def ldam_margins(class_counts: Tensor, margin: float) -> Tensor:
    """Compute LDAM's margins m_k = margin (n_min / n_k)^(1/4) (K,), float64 (arXiv 1906.07413).

    They are C / n_k^(1/4) with C such that the smallest class has `margin`.

    Args:
        class_counts: Training images n_k of each class (K,).
        margin: Largest margin, in units of the cosine.

    Example:
        >>> ldam_margins(torch.tensor([16, 1]), margin=0.5)
        tensor([0.2500, 0.5000], dtype=torch.float64)
    """
    counts = class_counts.double().clamp_min(1)
    return margin * (counts.min() / counts) ** 0.25


def ldam_losses(weight: Tensor, x: Tensor, labels: Tensor, margins: Tensor, scale: float) -> Tensor:
    """Compute LDAM's losses (N,), float64: cross-entropies with the true cosine lowered by its margin.

    -log( e^(scale (c_y - m_y)) / (e^(scale (c_y - m_y)) + sum_{k != y} e^(scale c_k)) ) with
    c_k = x.w_k / ||w_k|| (arXiv 1906.07413). With zero margins it is the loss of the cosine classifier.

    Args:
        weight: W (K, D), rows of any norm but 0.
        x: Features (N, D) of norm 1, or 0.
        labels: Labels (N,).
        margins: m (K,), float64.
        scale: Inverse temperature.

    Example:
        >>> ldam_losses(torch.eye(2), torch.eye(2)[:1], torch.tensor([0]), torch.ones(2).double(), 10.0)
        tensor([0.6931], dtype=torch.float64)
    """
    cosines = (x @ F.normalize(weight).to(x.dtype).T).double()
    lowered = cosines.scatter_add(1, labels[:, None], -margins[labels][:, None])
    return F.cross_entropy(scale * lowered, labels, reduction="none")


def fit_cosine(
    matrix: FeatureMatrix,
    labels: Tensor,
    class_counts: Tensor,
    *,
    scale: float,
    gamma: float = 0.0,
    margin: float = 0.0,
    tolerance: float = TOLERANCE,
) -> CosineHead:
    """Fit a cosine classifier, or LDAM's classifier with a margin (arXiv 1906.07413).

    Minimises the sum of omega_i times `ldam_losses` over the directions of the class weights, omega_i
    proportional to n_{y_i}^(-gamma), by full-batch L-BFGS through the normalisation. It starts from the
    classes' mean unit features. The problem is not convex. Stops after 150 iterations at the latest.

    Args:
        matrix: Features (N, D); their norms have no effect.
        labels: Labels (N,).
        class_counts: Training images n_k of each class (K,).
        scale: Inverse temperature, > 0.
        gamma: Class-balance exponent of the sample weights.
        margin: Margin of the smallest class, in units of the cosine; 0 for none (LDAM: 0.5).
        tolerance: Gradient to stop at, as a fraction of that at the start, its largest entry.

    Raises:
        ConfigError: A setting is out of range.

    Example:
        >>> x, y = torch.tensor([[1.0, 0.0], [0.0, 9.0], [1.0, 1.0]]), torch.tensor([0, 1, 1])
        >>> fit_cosine(FeatureMatrix.of(x), y, torch.tensor([1, 2]), scale=10.0).logits(x).argmax(dim=1)
        tensor([0, 1, 1])
    """
    if not 0 < scale < math.inf:
        raise ConfigError(f"scale is {scale}, expected a number > 0.")
    for name, value in (("gamma", gamma), ("margin", margin)):
        if not 0 <= value < math.inf:
            raise ConfigError(f"{name} is {value}, expected a number >= 0.")
    matrix = matrix.each(F.normalize).load(LOADED_NUMBERS)
    omega = sample_weights(labels, class_counts, gamma)
    margins = ldam_margins(class_counts, margin).to(omega)
    weight = class_sums(matrix, labels, torch.ones_like(omega), len(class_counts))[:, :-1]
    weight[weight.norm(dim=1) == 0] = 1.0  # a zero row has no direction to start from
    weight = F.normalize(weight).requires_grad_()

    def terms() -> Iterator[Tensor]:
        for x, at in matrix:
            yield omega[at] @ ldam_losses(weight, x, labels[at], margins, scale)

    descend(terms, [weight], tolerance=tolerance, max_iterations=MAX_ITERATIONS, processes=matrix.processes)
    return CosineHead(F.normalize(weight.detach()).float(), scale)
