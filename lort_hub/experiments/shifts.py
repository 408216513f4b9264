"""Measure a head under shifted test priors after its class mix was estimated from unlabelled test images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lort_hub.evaluation.significance import Array, shifted_priors
from lort_hub.features.store import Features
from lort_hub.heads.class_mix import FLOOR
from lort_hub.heads.fitted import Fit
from lort_hub.heads.priors import estimate_bbse, estimate_em


def adapted_accuracy(fit: Fit, test: Features, class_counts: Array, *, seed: int = 0) -> dict[str, float]:
    """Compute the accuracy under each shifted test prior of the head moved to its estimate of that prior.

    The estimate sees as many test images as are there with that prior, each at most once, without their
    labels. The accuracy is that of all test images, weighed to the prior, as in `shifted_accuracy`.

    Args:
        fit: The head with its class mix and held-out decisions, from `measure_mix`.
        test: Features (N, D) and labels of the test images.
        class_counts: Training images (K,).
        seed: Seed of the choice of the unlabelled images.

    Returns:
        Accuracy by "forward 50 em", "forward 50 bbse", "forward 50 oracle" and so on; the oracle knows the
        prior.

    Raises:
        ValueError: The class mix of the head was not measured.

    Example:
        >>> from lort_hub.heads.base import LinearHead
        >>> from lort_hub.heads.scorers import Predictions
        >>> from lort_hub.records import ClassMix
        >>> both = torch.tensor([0, 1])
        >>> measured = {"mix": ClassMix("", (0.5, 0.5)), "held_out": Predictions(both, both)}
        >>> fit = Fit(LinearHead(9 * torch.eye(2), torch.zeros(2)), "ncm", {}, **measured)
        >>> test = Features(torch.eye(2), both, both)
        >>> adapted_accuracy(fit, test, np.array([9, 1]))["forward 50 oracle"]
        1.0
    """
    if fit.mix is None or fit.held_out is None:
        raise ValueError("The class mix of the head was not measured.")
    labels, random = test.y.numpy(), np.random.default_rng(seed)
    tested = np.bincount(labels, minlength=len(class_counts))
    logits = fit.mix.scale * fit.logits(test.x).double() - torch.tensor(fit.mix.shares).double().log()
    counts = torch.from_numpy(class_counts)
    accuracy = {}
    for name, prior in shifted_priors(tested > 0, class_counts).items():
        rows = torch.from_numpy(_draw(labels, tested, prior, random))
        estimates = {
            "em": estimate_em(logits[rows], counts, resamples=0).shares,
            "bbse": estimate_bbse(logits[rows].argmax(dim=1), fit.held_out, counts, resamples=0).shares,
            "oracle": torch.from_numpy(prior),
        }
        for how, shares in estimates.items():
            accuracy[f"{name} {how}"] = _accuracy(logits, labels, shares, tested, prior)
    return accuracy


def _draw(
    labels: NDArray[np.int64], tested: Array, prior: Array, random: np.random.Generator
) -> NDArray[np.int64]:
    """Rows of as many images as there are with this prior, rounded at random."""
    most = min(tested[prior > 0] / prior[prior > 0])
    wanted = np.minimum(np.floor(most * prior + random.random(len(prior))).astype(int), tested)
    rows = [
        random.choice(np.flatnonzero(labels == k), number, replace=False) for k, number in enumerate(wanted)
    ]
    return np.concatenate(rows)


def _accuracy(
    logits: Tensor, labels: NDArray[np.int64], shares: Tensor, tested: Array, prior: Array
) -> float:
    predicted = (logits + shares.clamp_min(FLOOR).log()).argmax(dim=1).numpy()
    right = np.bincount(labels[predicted == labels], minlength=len(tested))
    return float(prior @ (right / np.maximum(tested, 1)))
