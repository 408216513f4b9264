"""Long-tailed subsets: how many images each class keeps, and which (PAPER section 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lort_hub.errors import ConfigError, did_you_mean

PARETO_ALPHA = 6.0
"""Shape of the Pareto profile, ImageNet-LT's."""

Profile = Callable[[NDArray[np.float64], float, float], NDArray[np.float64]]


def _exponential(rank: NDArray[np.float64], ratio: float, _: float) -> NDArray[np.float64]:
    kept: NDArray[np.float64] = (1 / ratio) ** rank
    return kept


def _pareto(rank: NDArray[np.float64], ratio: float, _: float) -> NDArray[np.float64]:
    kept: NDArray[np.float64] = (1 + rank * (ratio ** (1 / PARETO_ALPHA) - 1)) ** -PARETO_ALPHA
    return kept


def _step(rank: NDArray[np.float64], ratio: float, fraction: float) -> NDArray[np.float64]:
    tail = max(1, round(fraction * len(rank)))
    return np.where(np.arange(len(rank)) < len(rank) - tail, 1.0, 1 / ratio)


def _two_humps(rank: NDArray[np.float64], ratio: float, _: float) -> NDArray[np.float64]:
    return np.where(rank < 0.5, (1 / ratio) ** (rank / 2), (1 / ratio) ** ((1 + rank) / 2))


def _one_tail(rank: NDArray[np.float64], ratio: float, fraction: float) -> NDArray[np.float64]:
    along = np.clip((rank - 1 + fraction) / fraction, 0, 1).round(12)  # or truncation loses an image
    kept: NDArray[np.float64] = (1 / ratio) ** along
    return kept


PROFILES: dict[str, Profile] = {
    "exp": _exponential,
    "pareto": _pareto,
    "step": _step,
    "humps": _two_humps,
    "tail": _one_tail,
}
"""Share of the largest class each class keeps, from its rank in [0, 1], the ratio and a fraction."""
FRACTIONS = {"step": 0.5, "tail": 0.2}
"""Share of the classes in the tail, of the profiles that have one to set."""


def long_tailed_counts(imbalance: str, num_classes: int, max_count: float) -> NDArray[np.int64]:
    """Images each class keeps, the most frequent class first.

    Args:
        imbalance: `none`, `exp:IR`, `pareto:IR`, `step:IR[:fraction]`, `humps:IR` (two clusters of sizes, at
            either end of an exponential profile) or `tail:IR[:fraction]` (equal classes, then an exponential
            tail); IR is the largest count over the smallest, `fraction` the share of tail classes (default
            0.5 of a step, 0.2 of a tail).
        num_classes: K.
        max_count: Images of the largest class.

    Returns:
        Counts (K,), truncated like the field's code, at least one each.

    Raises:
        ConfigError: Not such a text, or IR below one.

    Example:
        >>> counts = long_tailed_counts("exp:100", num_classes=100, max_count=500)
        >>> counts[[0, 1, 98, 99]], counts.sum()
        (array([500, 477,   5,   5]), np.int64(10847))
    """
    keep = _keep(imbalance, num_classes)
    return np.maximum(1, (max_count * keep).astype(np.int64))


def _keep(imbalance: str, num_classes: int) -> NDArray[np.float64]:
    name, *numbers = imbalance.split(":")
    if name == "none" and not numbers:
        return np.ones(num_classes)
    example = "Expected none, exp:100, pareto:100, step:100:0.5, humps:100 or tail:100:0.2."
    if name not in PROFILES:
        raise ConfigError(
            f"Unknown imbalance '{imbalance}'.{did_you_mean(name, ['none', *PROFILES])}\n{example}"
        )
    try:
        ratio, *given = (float(number) for number in numbers)
        [fraction] = given or [FRACTIONS.get(name, 0.5)]
    except ValueError:
        raise ConfigError(f"Cannot read imbalance '{imbalance}'.\n{example}") from None
    if not ratio >= 1 or not 0 < fraction < 1 or (given and name not in FRACTIONS):
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
    """Rows of the long-tailed subset, in file order.

    Args:
        labels: Labels (N,) of the full training set.
        imbalance: As in `long_tailed_counts`; the largest class keeps N / K images, the field's convention,
            and no class more than it has. `none` keeps every row.
        num_classes: K.
        subset: The first images of each class in file order, or a random choice.
        seed: Seed of the random choice.

    Returns:
        Row numbers (M,), ascending.

    Example:
        >>> long_tailed_indices(np.array([0, 1, 0, 1, 0, 1]), "exp:3", num_classes=2)
        array([0, 1, 2, 4])
    """
    if imbalance == "none":
        return np.arange(len(labels))
    counts = long_tailed_counts(imbalance, num_classes, len(labels) / num_classes)
    rng = np.random.default_rng(seed)
    kept = []
    for label, count in enumerate(counts):
        rows = np.flatnonzero(labels == label)
        kept.append((rng.permutation(rows) if subset == "shuffle" else rows)[:count])
    return np.sort(np.concatenate(kept))
