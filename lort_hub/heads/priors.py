"""Estimate the class mix of unlabelled samples: by maximum likelihood (EM), or from predictions (BBSE).

Both assume label shift: what a class looks like stays, only how often it comes changes. Then the likelihoods
p(x | k), known up to a factor of each sample, are enough, and the mix q maximises

    sum_i log sum_k q_k p(x_i | k)  +  strength K sum_k centre_k log q_k

which is concave in q. docs/method.md derives it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lort_hub.errors import ConfigError

RESAMPLES = 200
LEVEL = 0.95
ITERATIONS, TOLERANCE = 2000, 1e-6
EXPONENTS = tuple(step / 40 for step in range(-80, 81))
"""Exponents of the training mix to look for the centre of an estimate among."""


@dataclass(frozen=True)
class MixEstimate:
    """Estimated class mix of unlabelled samples.

    Attributes:
        shares: Share (K,) of each class, float64.
        low: Lower end (K,) of its 95 % bootstrap interval.
        high: Upper end (K,).
        strength: Pseudo-samples of the prior on the mix.
        samples: Number of samples.
    """

    shares: Tensor
    low: Tensor
    high: Tensor
    strength: float
    samples: int


def estimate_em(
    log_likelihoods: Tensor,
    *,
    class_counts: Tensor | None = None,
    strength: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> MixEstimate:
    """Estimate the class mix by maximum likelihood, with EM (Saerens, Latinne and Decaestecker, 2002).

    Args:
        log_likelihoods: log p(x_i | k) (N, K), up to a constant of each sample.
        class_counts: Training samples (K,); the mix is drawn to the likeliest power of their shares. None: to
            equal shares.
        strength: Pseudo-samples of each class that draw it there; None for as many as there are samples.
        resamples: Bootstrap resamples of the intervals; 0 for none.
        seed: Seed of the bootstrap.

    Example:
        >>> right = torch.full((8, 2), -50.0)
        >>> right[:6, 0] = right[6:, 1] = 0.0
        >>> estimate_em(right, strength=0.0).shares
        tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    likelihoods = (log_likelihoods - log_likelihoods.amax(dim=1, keepdim=True)).double().exp()
    each = torch.ones(len(likelihoods), dtype=torch.float64)
    return _estimate(likelihoods, each, class_counts, strength, resamples, seed)


def estimate_bbse(
    predicted: Tensor,
    confusion: Tensor,
    *,
    class_counts: Tensor | None = None,
    strength: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> MixEstimate:
    """Estimate the class mix from how often each class is predicted (BBSE, Lipton, Wang and Smola, 2018).

    The mix q solves sum_k q_k P(predicted j | k) = P(predicted j). It is solved by maximum likelihood and not
    by inversion, as the confusion matrix of rare classes is near-singular and shares are no less than zero.

    Args:
        predicted: Predicted classes (N,) of the samples.
        confusion: P(predicted j | true k) (K, K), a row for each true class, from `confusion_of`.
        class_counts: As in `estimate_em`.
        strength: As in `estimate_em`.
        resamples: As in `estimate_em`.
        seed: Seed of the bootstrap.

    Example:
        >>> confusion = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
        >>> predicted = torch.tensor([0] * 55 + [1] * 45)  # 0.9 q + 0.2 (1 - q) = 0.55
        >>> estimate_bbse(predicted, confusion, strength=0.0).shares
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    counts = torch.bincount(predicted, minlength=len(confusion)).double()
    return _estimate(confusion.T.double(), counts, class_counts, strength, resamples, seed)


def confusion_of(labels: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Estimate P(predicted j | true k) (K, K) from held-out predictions, with one pseudo-sample a class.

    Args:
        labels: True classes (M,).
        predicted: Predicted classes (M,).
        num_classes: K.

    Example:
        >>> confusion_of(torch.tensor([0, 0, 0]), torch.tensor([0, 0, 1]), 2)
        tensor([[0.6250, 0.3750],
                [0.5000, 0.5000]], dtype=torch.float64)
    """
    pairs = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    counts = pairs.view(num_classes, num_classes).double() + 1 / num_classes
    return counts / counts.sum(dim=1, keepdim=True)


def mix_weights(
    likelihoods: Tensor, counts: Tensor, strength: float, *, centre: Tensor | None = None
) -> Tensor:
    """Find the likeliest mixtures of the same components by EM, for several weightings of the samples.

    Args:
        likelihoods: p(x_i | k) (N, K), up to a factor of each sample.
        counts: How often each sample counts (B, N), for each of B mixtures.
        strength: Pseudo-samples of each class, on average.
        centre: Shares (B, K) of the pseudo-samples; None for equal ones.

    Returns:
        Shares (B, K).

    Example:
        >>> mix_weights(torch.eye(2).double(), torch.tensor([[3.0, 1.0], [1.0, 1.0]]).double(), 0.0)
        tensor([[0.7500, 0.2500],
                [0.5000, 0.5000]], dtype=torch.float64)
    """
    num_classes = likelihoods.shape[1]
    if centre is None:
        centre = torch.full((len(counts), num_classes), 1 / num_classes, dtype=torch.float64)
    shares, pseudo = centre, strength * num_classes * centre
    total = counts.sum(dim=1, keepdim=True) + strength * num_classes
    for _ in range(ITERATIONS):
        density = (shares @ likelihoods.T).clamp_min(torch.finfo(torch.float64).tiny)
        moved = (shares * ((counts / density) @ likelihoods) + pseudo) / total
        change = float((moved - shares).abs().sum(dim=1).max())
        shares = moved
        if change < TOLERANCE:
            break
    return shares


def check_strength(strength: float | None) -> None:
    """Refuse a strength that is no number of images.

    Raises:
        ConfigError: It is below 0, or not finite.

    Example:
        >>> check_strength(None), check_strength(0.3)
        (None, None)
    """
    if strength is not None and not 0 <= strength < math.inf:
        raise ConfigError(f"`strength` is {strength}, expected a number of images from 0.")


def _estimate(
    likelihoods: Tensor,
    counts: Tensor,
    class_counts: Tensor | None,
    strength: float | None,
    resamples: int,
    seed: int,
) -> MixEstimate:
    check_strength(strength)
    random, samples = torch.Generator().manual_seed(seed), int(counts.sum())
    strength = samples / likelihoods.shape[1] if strength is None else strength
    owner = torch.repeat_interleave(torch.arange(len(counts)), counts.long())
    weights = torch.zeros(1 + resamples, len(counts), dtype=torch.float64)
    weights[0] = counts
    if resamples:
        drawn = torch.randint(samples, (resamples, samples), generator=random)
        weights[1:].scatter_add_(1, owner[drawn], torch.ones(drawn.shape, dtype=torch.float64))
    centre = None if class_counts is None else _likeliest_powers(likelihoods, weights, class_counts)
    shares = mix_weights(likelihoods, weights, strength, centre=centre)
    tail = (1 - LEVEL) / 2
    spread = shares[1:] if resamples else shares
    low, high = spread.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return MixEstimate(shares[0], low, high, strength, samples)


def _likeliest_powers(likelihoods: Tensor, weights: Tensor, class_counts: Tensor) -> Tensor:
    """Find for each weighting (B, N) the likeliest mix (B, K) that is a power of the training mix."""
    mixes = (torch.tensor(EXPONENTS).double()[:, None] * class_counts.double().log()).softmax(dim=1)
    density = (mixes @ likelihoods.T).clamp_min(torch.finfo(torch.float64).tiny)
    return mixes[(weights @ density.log().T).argmax(dim=1)]
