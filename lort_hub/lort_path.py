r"""What LORT does to a head that has memorised its training images, free of learning rate and steps.

There softmax(W x + b) is almost the one-hot label, so with u = [x, 1] the gradient of the LORT loss is

    (1/N) sum_i (p_ik - t_ik) u_i  =  delta (pi_k u_k - u / K)

with pi_k = n_k / N, u_k the mean of class k's u_i and u the mean of all. Descent for a short time t, whatever
its learning rate and number of steps, moves W_k by -t delta (pi_k u_k - u / K): classes lose logits in
proportion to their counts, as by an implicit logit adjustment that is linear instead of logarithmic in n_k.
Measured in logits at the mean feature per unit of relative frequency K pi_k, t has no unit left. (The step
itself depends on the features' scale as far as the bias, whose feature is 1, counts beside |mu|^2.)
"""

from __future__ import annotations

from torch import Tensor


def lort_step(weight: Tensor, bias: Tensor, sums: Tensor, *, strength: float) -> tuple[Tensor, Tensor]:
    """The closed-form first step of LORT from a trained head (PAPER section 6), its length in logits.

    W_k <- W_k - strength K pi_k mu_k / |u|^2, b_k <- b_k - strength K pi_k / |u|^2, with |u|^2 = |mu|^2 + 1;
    the part that is common to all classes is left out.

    Args:
        weight: W (K, D).
        bias: b (K,).
        sums: Sums (K, D + 1) of [x, 1] over each class's training samples, float64.
        strength: Logits that a class of average size loses at the mean feature.

    Returns:
        The head, float32.

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
    """The same step along the mean feature alone, a bias linear in the counts: b_k - strength K pi_k.

    Args:
        weight: W (K, D).
        bias: b (K,).
        class_counts: Training images of each class (K,).
        strength: Logits that a class of average size loses.

    Example:
        >>> import torch
        >>> linearly_adjusted(torch.eye(2), torch.zeros(2), torch.tensor([3, 1]), strength=1.0)[1]
        tensor([-1.5000, -0.5000])
    """
    counts = class_counts.double()
    return weight.float(), (bias.double() - strength * counts / counts.mean()).float()


def matched_strength(class_counts: Tensor) -> float:
    """Where to stop on LORT's path, from the counts alone: the linear adjustment nearest to log pi.

    Least squares over the classes, the part common to all of them left out: cov(K pi, log pi) / var(K pi). A
    rule for when there are no held-out images to choose by.

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
