"""Estimate the class mix of unlabelled samples: by maximum likelihood (EM), or from predictions (BBSE).

Both assume label shift: what a class looks like stays, only how often it comes changes. Then the likelihoods
p(x | k), known up to a factor of each sample, are enough, and the mix q maximises

    sum_i log sum_k q_k p(x_i | k)  +  strength K sum_k centre_k log q_k

which is concave in q. docs/method.md derives it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lort_hub.errors import ConfigError
from lort_hub.heads.scorers import Predictions

RESAMPLES = 200
LEVEL = 0.95
ITERATIONS, TOLERANCE = 2000, 1e-6
TINY = torch.finfo(torch.float64).tiny
MOST_PRIOR = 0.95
"""Largest weight of the prior beside the samples."""
HELD_NUMBERS = 2**25
"""Largest number of sample weights (256 MiB) that resamples hold at a time."""
EXPONENTS = tuple(step / 40 for step in range(-80, 81))
"""Exponents of the training mix to look for the centre of an estimate among."""
EXPONENT_SCALE = 0.5
"""Scale of the Cauchy density about 0, equal classes, that exponents have before any sample is seen: a few
samples fit a steep mix, and the steeper the rarer their classes are."""
PARTS = 10
"""Parts of the classes, the rarest to the most frequent, whose predictions tell the exponent."""
SPREADS = (0.0, *(0.02 * 10 ** (step / 10) for step in range(45)))
"""Standard deviations of shares about the centre, over its own shares, to look for theirs among."""


@dataclass(frozen=True)
class MixEstimate:
    """Estimated class mix of unlabelled samples.

    Attributes:
        shares: Share (K,) of each class, float64.
        low: Lower end (K,) of its 95 % interval, that of the likeliest share without the prior on the mix.
        high: Upper end (K,).
        strength: Pseudo-samples of each class that the prior on the mix counts as.
        samples: Number of samples.
    """

    shares: Tensor
    low: Tensor
    high: Tensor
    strength: float
    samples: int


def estimate_em(
    log_likelihoods: Tensor,
    class_counts: Tensor,
    *,
    strength: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> MixEstimate:
    """Estimate the class mix by maximum likelihood, with EM (Saerens, Latinne and Decaestecker, 2002).

    The intervals are of bootstrap resamples of the samples. They trust the likelihoods.

    Args:
        log_likelihoods: log p(x_i | k) (N, K), up to a constant of each sample.
        class_counts: Training samples (K,); the mix is drawn to the likeliest power of their shares.
        strength: Pseudo-samples of each class that draw it there; None for as many as the share of noise in
            the distance of the samples from there deserves.
        resamples: Bootstrap resamples of the intervals; 0 for none.
        seed: Seed of the bootstrap.

    Example:
        >>> right = torch.full((8, 2), -50.0)
        >>> right[:6, 0] = right[6:, 1] = 0.0
        >>> estimate_em(right, torch.tensor([5, 5]), strength=0.0).shares
        tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    check_strength(strength)
    likelihoods = (log_likelihoods - log_likelihoods.amax(dim=1, keepdim=True)).double().exp()
    samples = len(likelihoods)
    each = torch.ones(1, samples, dtype=torch.float64)
    centre = _likeliest_power(likelihoods, class_counts)
    posteriors = centre * likelihoods / (likelihoods @ centre)[:, None].clamp_min(TINY)
    mean = posteriors.mean(dim=0)
    told = posteriors.var(dim=0, correction=0).sum() / (mean * (1 - mean)).sum().clamp_min(TINY)
    noise = (told if samples > 1 else 1.0) * centre * (1 - centre) / samples
    if strength is None:
        distance = float(((mean - centre).square() / noise.clamp_min(TINY)).sum())
        strength = _strength(len(centre) / max(distance, TINY), samples, len(centre))
    shares = mix_weights(likelihoods, each, strength, centre=centre[None])[0]
    random, spread = np.random.default_rng(seed), [shares[None]]
    for first in range(0, resamples, max(1, HELD_NUMBERS // samples)):
        number = min(resamples - first, max(1, HELD_NUMBERS // samples))
        drawn = torch.from_numpy(random.multinomial(samples, np.full(samples, 1 / samples), size=number))
        spread.append(mix_weights(likelihoods, drawn.double(), 0.0))
    return _with_interval(shares, torch.cat(spread), strength, samples)


def estimate_bbse(
    predicted: Tensor,
    held_out: Predictions,
    class_counts: Tensor,
    *,
    strength: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> MixEstimate:
    """Estimate the class mix from how often each class is predicted (BBSE, Lipton, Wang and Smola, 2018).

    The mix q solves sum_k q_k P(predicted j | k) = P(predicted j). It is solved by maximum likelihood and not
    by inversion, as the confusion matrix of rare classes is near-singular and shares are no less than zero.
    The intervals hold the noise of the samples and that of the held-out ones.

    Args:
        predicted: Predicted classes (N,) of the samples.
        held_out: Predictions of held-out samples by the same head.
        class_counts: As in `estimate_em`.
        strength: As in `estimate_em`.
        resamples: As in `estimate_em`.
        seed: As in `estimate_em`.

    Example:
        >>> labels = torch.tensor([0] * 9000 + [0] * 1000 + [1] * 2000 + [1] * 8000)
        >>> decisions = torch.tensor([0] * 9000 + [1] * 1000 + [0] * 2000 + [1] * 8000)
        >>> predicted = torch.tensor([0] * 55 + [1] * 45)  # 0.9 q + 0.2 (1 - q) = 0.55
        >>> held_out, equal = Predictions(labels, decisions), torch.tensor([5, 5])
        >>> shares = estimate_bbse(predicted, held_out, equal, strength=0.0).shares
        >>> [round(share, 3) for share in shares.tolist()]
        [0.5, 0.5]
    """
    check_strength(strength)
    samples, num_classes = len(predicted), len(class_counts)
    confusion = confusion_of(held_out.labels, held_out.predicted, num_classes)
    counts = torch.bincount(predicted, minlength=num_classes).double()
    held = torch.bincount(held_out.labels, minlength=num_classes)
    centre, noise_share = _fit_prior(confusion, held, counts, class_counts)
    strength = _strength(noise_share, samples, num_classes) if strength is None else strength
    shares = mix_weights(confusion.T, counts[None], strength, centre=centre[None])[0]
    spread = shares[None]
    if resamples:
        likeliest = mix_weights(confusion.T, counts[None], 0.0)[0]
        drawn = _draw_counts(likeliest, held_out, samples, resamples, np.random.default_rng(seed))
        spread = torch.cat([spread, mix_weights(confusion.T, drawn, 0.0)])
    return _with_interval(shares, spread, strength, samples)


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
        density = (shares @ likelihoods.T).clamp_min(TINY)
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


def _powers(class_counts: Tensor) -> Tensor:
    """List mixes (M, K) that are powers of the training mix."""
    log_counts = class_counts.double().clamp_min(1).log()
    return (torch.tensor(EXPONENTS).double()[:, None] * log_counts).softmax(dim=1)


def _parts(class_counts: Tensor) -> Tensor:
    """Divide the classes by their training samples into `PARTS` of the same size: 1 in the part's column."""
    num_classes, rank = len(class_counts), class_counts.argsort(stable=True).argsort()
    return torch.nn.functional.one_hot(rank * PARTS // num_classes, PARTS).double()


def _exponent_losses() -> Tensor:
    """Compute the negative log density (M,) of each exponent before any sample is seen, up to a constant."""
    return (torch.tensor(EXPONENTS).double() / EXPONENT_SCALE).square().log1p()


def _likeliest_power(likelihoods: Tensor, class_counts: Tensor) -> Tensor:
    """Find the likeliest mix (K,) of samples that is a power of the training mix."""
    mixes = _powers(class_counts)
    fits = (mixes @ likelihoods.T).clamp_min(TINY).log().sum(dim=1)
    return mixes[(fits - _exponent_losses()).argmax()]


def _fit_prior(confusion: Tensor, held: Tensor, counts: Tensor, class_counts: Tensor) -> tuple[Tensor, float]:
    """Fit the prior on the mix to counts (K,) of predictions: its centre (K,), and the share of noise.

    The centre is the power of the training mix that makes the counts of `PARTS` likeliest, with the density
    that powers have before: those of single classes would draw the exponent to 0, as the rows of rare classes
    are noise. Shares of classes lie about it by one of `SPREADS` of themselves. Those of predictions are
    then normal, with the variance of that, of the samples and of the `held` (K,) ones that each row of the
    confusion matrix was counted from. The likeliest spread is taken, with the density of Cauchy before.
    """
    samples, mixes, squares = counts.sum(), _powers(class_counts), confusion.square()
    parts = _parts(class_counts)
    fits = (mixes @ (confusion @ parts)).clamp_min(TINY).log() @ (counts @ parts)
    mix = mixes[(fits - _exponent_losses()).argmax()]
    expected, spread = mix @ confusion, mix.square() @ squares
    of_rows = (mix.square() / (held + 2)) @ (confusion - squares)  # the variance of a Dirichlet's
    noise = (expected * (1 - expected) / samples + of_rows).clamp_min(TINY)
    away = (counts / samples - expected).square()

    def loss(width: float) -> Tensor:
        variance = noise + width**2 * spread
        return (away / variance + variance.log()).sum() / 2 + math.log1p(width**2)

    width = SPREADS[int(torch.stack([loss(width) for width in SPREADS]).argmin())]
    return mix, float(noise.sum() / (noise.sum() + width**2 * spread.sum()))


def _strength(noise_share: float, samples: int, num_classes: int) -> float:
    """Compute the pseudo-samples of each class whose weight beside the samples is the share of noise."""
    weight = min(MOST_PRIOR, noise_share)
    return samples / num_classes * weight / (1 - weight)


def _draw_counts(
    mix: Tensor, held_out: Predictions, samples: int, number: int, random: np.random.Generator
) -> Tensor:
    """Draw counts (B, K) of predictions: of random confusion matrices, by the Bayesian bootstrap."""
    num_classes, labels, predicted = len(mix), held_out.labels.numpy(), held_out.predicted.numpy()
    drawn = []
    for _ in range(number):
        each, pseudo = random.exponential(size=len(labels)), random.exponential(size=num_classes)
        rows = np.bincount(labels, each, num_classes) + pseudo
        share = mix.numpy() / rows
        expected = np.bincount(predicted, share[labels] * each, num_classes) + share @ pseudo / num_classes
        drawn.append(random.multinomial(samples, expected / expected.sum()))
    return torch.from_numpy(np.stack(drawn)).double()


def _with_interval(shares: Tensor, spread: Tensor, strength: float, samples: int) -> MixEstimate:
    """Attach the interval of resamples (B, K), the first of which is the estimate and lies within.

    It holds what N samples cannot exclude even if each tells its class: shares of classes that none is of, or
    all are.
    """
    tail = (1 - LEVEL) / 2
    low, high = spread.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    low, high = low.clamp_max(tail ** (1 / samples)), high.clamp_min(1 - tail ** (1 / samples))
    return MixEstimate(shares, low.minimum(shares), high.maximum(shares), strength, samples)
