"""Cut a training set to a long tail: how many images each class keeps, and which ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lort_hub.errors import ConfigError, did_you_mean

PARETO_ALPHA = 6.0
"""Shape of the Pareto profile, as in ImageNet-LT."""

Profile = Callable[[NDArray[np.float64], float, float], NDArray[np.float64]]
"""From ranks (K,) in [0, 1], imbalance ratio and tail fraction to shares (K,) of the largest class."""


def _exponential(rank: NDArray[np.float64], ratio: float, _: float) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = (1 / ratio) ** rank
    return shares


def _pareto(rank: NDArray[np.float64], ratio: float, _: float) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = (1 + rank * (ratio ** (1 / PARETO_ALPHA) - 1)) ** -PARETO_ALPHA
    return shares


def _step(rank: NDArray[np.float64], ratio: float, fraction: float) -> NDArray[np.float64]:
    tail = min(max(1, round(fraction * len(rank))), len(rank) - 1)
    return np.where(np.arange(len(rank)) < len(rank) - tail, 1.0, 1 / ratio)


def _two_humps(rank: NDArray[np.float64], ratio: float, _: float) -> NDArray[np.float64]:
    return np.where(rank < 0.5, (1 / ratio) ** (rank / 2), (1 / ratio) ** ((1 + rank) / 2))


def _one_tail(rank: NDArray[np.float64], ratio: float, fraction: float) -> NDArray[np.float64]:
    # Rounded, or a float error below a whole number would lose an image when counts are truncated.
    tail_rank = np.clip((rank - 1 + fraction) / fraction, 0, 1).round(12)
    shares: NDArray[np.float64] = (1 / ratio) ** tail_rank
    return shares


PROFILES: dict[str, Profile] = {
    "exp": _exponential,
    "pareto": _pareto,
    "step": _step,
    "humps": _two_humps,
    "tail": _one_tail,
}
"""Profiles by the name that `imbalance` begins with."""
FRACTIONS = {"step": 0.5, "tail": 0.2}
"""Default share of tail classes, for the profiles where it can be set."""


def long_tailed_counts(imbalance: str, num_classes: int, max_count: float) -> NDArray[np.int64]:
    """Compute how many images each class keeps, the most frequent class first.

    Args:
        imbalance: `none`, `exp:IR`, `pareto:IR`, `step:IR[:fraction]`, `humps:IR` (two groups of class sizes,
            at the two ends of an exponential profile) or `tail:IR[:fraction]` (equal classes, then an
            exponential tail); IR is the largest count over the smallest, `fraction` the share of tail
            classes (default: 0.5 for `step`, 0.2 for `tail`).
        num_classes: K.
        max_count: Images of the largest class.

    Returns:
        Counts (K,), at least 1, truncated to integers as the published code does.

    Raises:
        ConfigError: `imbalance` has another form, or IR is below 1.

    Example:
        >>> counts = long_tailed_counts("exp:100", num_classes=100, max_count=500)
        >>> counts[[0, 1, 98, 99]], counts.sum()
        (array([500, 477,   5,   5]), np.int64(10847))
    """
    shares = _class_shares(imbalance, num_classes)
    return np.maximum(1, (max_count * shares).astype(np.int64))


def _class_shares(imbalance: str, num_classes: int) -> NDArray[np.float64]:
    name, *numbers = imbalance.split(":")
    if name == "none" and not numbers:
        return np.ones(num_classes)
    example = "Expected none, exp:100, pareto:100, step:100:0.5, humps:100 or tail:100:0.2."
    if name not in PROFILES:
        raise ConfigError(
            f"Unknown imbalance '{imbalance}'.{did_you_mean(name, ['none', *PROFILES])}\n{example}"
        )
    try:
        ratio, *optional = (float(number) for number in numbers)
        [fraction] = optional or [FRACTIONS.get(name, 0.5)]
    except ValueError:
        raise ConfigError(f"Cannot read imbalance '{imbalance}'.\n{example}") from None
    if not ratio >= 1 or not 0 < fraction < 1 or (optional and name not in FRACTIONS):
        raise ConfigError(
            f"Imbalance '{imbalance}' needs a ratio >= 1 (and a fraction in (0, 1)).\n{example}"
        )
    return PROFILES[name](np.arange(num_classes) / max(1, num_classes - 1), ratio, fraction)


def long_tailed_indices(
    labels: NDArray[np.int64],
    imbalance: str,
    *,
    num_classes: int,
    subset: Literal["first", "shuffle"] = "first",
    seed: int = 0,
) -> NDArray[np.int64]:
    """Select the rows of the long-tailed subset, in file order.

    Args:
        labels: Labels (N,) of the full training set.
        imbalance: As in `long_tailed_counts`. The largest class keeps N / K images, as in the published
            CIFAR-LT splits, and no class more than it has. `none` keeps every row.
        num_classes: K.
        subset: "first" takes the first images of each class in file order, "shuffle" random ones.
        seed: Seed of `subset="shuffle"`.

    Returns:
        Row numbers (M,), ascending.

    Raises:
        ConfigError: `subset` is another word, or `imbalance` cannot be read.

    Example:
        >>> long_tailed_indices(np.array([0, 1, 0, 1, 0, 1]), "exp:3", num_classes=2)
        array([0, 1, 2, 4])
    """
    if subset not in ("first", "shuffle"):
        raise ConfigError(f'`subset` is {subset!r}, expected "first" or "shuffle".')
    if imbalance == "none":
        return np.arange(len(labels))
    counts = long_tailed_counts(imbalance, num_classes, len(labels) / num_classes)
    rng = np.random.default_rng(seed)
    selected = []
    for label, count in enumerate(counts):
        rows = np.flatnonzero(labels == label)
        selected.append((rng.permutation(rows) if subset == "shuffle" else rows)[:count])
    return np.sort(np.concatenate(selected))
