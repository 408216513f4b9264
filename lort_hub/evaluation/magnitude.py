"""Compute the logits magnitude of arXiv 2403.00250 and the regularized standard deviation of logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from lort_hub.evaluation.arrays import Array, to_array

if TYPE_CHECKING:
    from torch import Tensor

NEGATIVES: tuple[Literal["samples", "classes"], ...] = ("samples", "classes")
SPREADS: tuple[Literal["pooled", "positives", "negatives"], ...] = ("pooled", "positives", "negatives")


def logits_magnitude(
    logits: Array | Tensor,
    labels: Array | Tensor,
    negatives: Literal["samples", "classes"] = "samples",
) -> Array:
    """Compute the logits magnitude LoMa of each class: mean positive minus mean negative logit.

    This is arXiv 2403.00250, section 3. The paper does not say whether the mean over the others is over their
    samples or over the means of their classes; the two are equal on a balanced set.

    Args:
        logits: Logits (N, K).
        labels: Labels (N,).
        negatives: Mean over the samples of other classes, or over the means of these classes.

    Returns:
        LoMa (K,); NaN for a class without samples, or alone.

    Example:
        >>> logits = np.array([[3.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> logits_magnitude(logits, np.array([0, 0, 1]))
        array([2., 1.])
    """
    positive, negative = _positive_and_negative_means(logits, labels, negatives)
    return positive - negative


def regularized_std(
    logits: Array | Tensor,
    labels: Array | Tensor,
    spread: Literal["pooled", "positives", "negatives"] = "pooled",
) -> Array:
    """Compute the standard deviation of each class's logit over its LoMa (RSD); rescaling leaves it as it is.

    This is arXiv 2403.00250, section 3; rescaled logits have the same RSD. The paper does not say over which
    samples the deviation is.

    Args:
        logits: Logits (N, K).
        labels: Labels (N,).
        spread: Deviation of the samples of the class from their mean ("positives"), of the other samples from
            theirs ("negatives"), or of both in one ("pooled").

    Returns:
        RSD (K,); NaN where LoMa is NaN.

    Example:
        >>> logits = np.array([[3.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> regularized_std(logits, np.array([0, 0, 1]), spread="positives")
        array([0.5, 0. ])
    """
    z = to_array(logits).astype(np.float64)
    onehot = _onehot(labels, z.shape[1])
    positive, negative = _positive_and_negative_means(z, labels, "samples")
    residual = np.where(onehot, z - positive, z - negative) ** 2
    counted = {"pooled": np.ones_like(onehot), "positives": onehot, "negatives": ~onehot}[spread]
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.where(counted, residual, 0).sum(axis=0) / counted.sum(axis=0)
        ratio: Array = np.sqrt(variance) / (positive - negative)
    return ratio


def _onehot(labels: Array | Tensor, num_classes: int) -> npt.NDArray[np.bool_]:
    onehot: npt.NDArray[np.bool_] = to_array(labels)[:, None] == np.arange(num_classes)
    return onehot


def _positive_and_negative_means(
    logits: Array | Tensor, labels: Array | Tensor, negatives: str
) -> tuple[Array, Array]:
    z, y = to_array(logits).astype(np.float64), to_array(labels)
    counts = np.bincount(y, minlength=z.shape[1])
    own = np.bincount(y, weights=z[np.arange(len(y)), y], minlength=z.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        positive = own / counts
        if negatives == "samples":
            return positive, (z.sum(axis=0) - own) / (len(z) - counts)
        others = (counts > 0).sum() - (counts > 0)
        return positive, ((1 / counts[y]) @ z - np.where(counts > 0, positive, 0.0)) / others
