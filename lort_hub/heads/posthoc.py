"""Change a trained head in closed form, or compute one without training (nearest class mean).

Each function returns a linear head (W, b), which can be exported.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lort_hub.errors import FeatureError
from lort_hub.heads.solvers.objective import logit_adjustment


def tau_normalised(weight: Tensor, bias: Tensor, power: float) -> tuple[Tensor, Tensor]:
    """Divide each class's weight by a power of its norm and drop the bias: tau-norm (arXiv 1910.09217).

    w_k -> w_k / ||w_k||^power: 0 leaves the weights, 1 makes them unit vectors.

    Args:
        weight: W (K, D).
        bias: b (K,); only its shape is used.
        power: The paper's tau.

    Returns:
        Head (K, D), (K,), float32.

    Example:
        >>> weight, bias = tau_normalised(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.ones(2), power=1.0)
        >>> weight, bias
        (tensor([[0.6000, 0.8000],
                [0.0000, 1.0000]]), tensor([0., 0.]))
    """
    weight = weight.double()
    norms = weight.norm(dim=1, keepdim=True)
    norms[norms == 0] = 1.0  # a zero weight stays zero
    return (weight / norms**power).float(), torch.zeros_like(bias, dtype=torch.float32)


def logit_adjusted(weight: Tensor, bias: Tensor, class_counts: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Subtract the log prior of the training set from the bias: logit adjustment (arXiv 2007.07314).

    b_k -> b_k - tau log pi_k with pi_k = n_k / sum_j n_j.

    Args:
        weight: W (K, D).
        bias: b (K,).
        class_counts: Training images n_k of each class (K,), all positive.
        tau: Strength; 1 for a calibrated head.

    Returns:
        Head (K, D), (K,), float32.

    Example:
        >>> _, bias = logit_adjusted(torch.eye(2), torch.zeros(2), torch.tensor([3, 1]), tau=1.0)
        >>> (-bias).exp()
        tensor([0.7500, 0.2500])
    """
    adjustment = logit_adjustment(class_counts, tau).to(bias.device)
    return weight.float(), (bias.double() - adjustment).float()


def nearest_class_mean(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the linear head of the nearest class mean (NCM, arXiv 1910.09217).

    W_k = mu_k and b_k = -||mu_k||^2 / 2 rank the classes as -||x - mu_k||^2 / 2 does: the two differ by
    ||x||^2 / 2, which is common to all classes.

    Args:
        sums: Sums (K, D + 1) of [x, 1] over each class's samples.

    Returns:
        Head (K, D), (K,), float32.

    Raises:
        FeatureError: A class has no sample.

    Example:
        >>> nearest_class_mean(torch.tensor([[2.0, 2.0], [4.0, 1.0]]))
        (tensor([[1.],
                [4.]]), tensor([-0.5000, -8.0000]))
    """
    counts = sums[:, -1]
    if not counts.all():
        empty = torch.nonzero(counts == 0).flatten().tolist()
        raise FeatureError(f"Expected samples of each of the {len(sums)} classes, got none of {empty}.")
    means = sums[:, :-1] / counts[:, None]
    return means.float(), (-0.5 * means.square().sum(dim=1)).float()


def lort_step(weight: Tensor, bias: Tensor, sums: Tensor, *, strength: float) -> tuple[Tensor, Tensor]:
    """Take LORT's first gradient step from a trained head, in closed form (docs/method.md).

    W_k <- W_k - strength K pi_k mu_k / |u|^2, b_k <- b_k - strength K pi_k / |u|^2, with |u|^2 = |mu|^2 + 1.
    The part of the gradient that is common to all classes is left out, as it does not change the softmax.

    Args:
        weight: W (K, D).
        bias: b (K,).
        sums: Sums (K, D + 1) of [x, 1] over each class's training samples, float64.
        strength: Length of the step: by how much the logit of a class of average size falls at the mean
            feature.

    Returns:
        Head (K, D), (K,), float32.

    Example:
        >>> import torch
        >>> sums = torch.tensor([[3.0, 3.0], [1.0, 1.0]])  # three samples and one, all features 1
        >>> weight, bias = lort_step(torch.zeros(2, 1), torch.zeros(2), sums, strength=1.0)
        >>> weight.flatten() + bias
        tensor([-1.5000, -0.5000])
    """
    shift = len(sums) / sums[:, -1].sum() * sums  # K pi_k u_k; their mean is that of all u_i
    mean = shift.mean(dim=0)
    shift = strength * shift / (mean @ mean)
    return (weight.double() - shift[:, :-1]).float(), (bias.double() - shift[:, -1]).float()


def linearly_adjusted(
    weight: Tensor, bias: Tensor, class_counts: Tensor, *, strength: float
) -> tuple[Tensor, Tensor]:
    """Subtract a multiple of the class counts from the bias: b_k - strength K pi_k.

    This is the part of `lort_step` along the mean feature (docs/method.md).

    Args:
        weight: W (K, D).
        bias: b (K,).
        class_counts: Training images of each class (K,).
        strength: By how much the logit of a class of average size falls.

    Returns:
        Head (K, D), (K,), float32.

    Example:
        >>> import torch
        >>> linearly_adjusted(torch.eye(2), torch.zeros(2), torch.tensor([3, 1]), strength=1.0)[1]
        tensor([-1.5000, -0.5000])
    """
    counts = class_counts.to(bias.device).double()
    return weight.float(), (bias.double() - strength * counts / counts.mean()).float()


def matched_strength(class_counts: Tensor) -> float:
    """Compute the strength of the linear adjustment nearest to log pi, from the class counts alone.

    Least squares over the classes, up to a shift common to all of them: cov(K pi, log pi) / var(K pi). It is
    a rule for the length of LORT's step without held-out images.

    Args:
        class_counts: Training images of each class (K,), not all equal.

    Example:
        >>> import torch
        >>> round(matched_strength(torch.tensor([500, 158, 50, 16, 5])), 2)
        1.11
    """
    relative = class_counts.double() / class_counts.double().mean()
    centred = relative - relative.mean()
    return float(centred @ relative.log() / (centred @ centred))
