"""Scores of held-out predictions, and how sure they are: what settings and methods are chosen by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lort_hub.features.distributed import Processes

TEMPERATURES = (-5.0, 7.0)
"""Range of the logarithm of the logits' standard deviation after calibration."""


@dataclass(frozen=True)
class Predictions:
    """What heads that never saw a sample say about it.

    Attributes:
        labels: True labels (M,).
        predicted: Predicted labels (M,).
        log_likelihood: Log-probability (M,) of the true label, calibrated; None where no score needs it.
    """

    labels: Tensor
    predicted: Tensor
    log_likelihood: Tensor | None = None

    @property
    def right(self) -> Tensor:
        """1 where the prediction is right, else 0 (M,), float64."""
        return (self.predicted == self.labels).double()


def _class_mean(values: Tensor, labels: Tensor) -> float:
    counts = torch.bincount(labels).double()
    sums = torch.zeros_like(counts).index_add_(0, labels, values.double())
    present = counts > 0
    return float((sums[present] / counts[present]).mean()) if present.any() else 0.0


def _balanced_accuracy(held_out: Predictions) -> float:
    return _class_mean(held_out.right, held_out.labels)


def _macro_f1(held_out: Predictions) -> float:
    from sklearn.metrics import f1_score

    present = held_out.labels.unique().numpy()
    return float(
        f1_score(held_out.labels, held_out.predicted, average="macro", labels=present, zero_division=0)
    )


def _log_likelihood(held_out: Predictions) -> float:
    assert held_out.log_likelihood is not None
    return _class_mean(held_out.log_likelihood, held_out.labels)


SCORES: dict[str, Callable[[Predictions], float]] = {
    "balanced-accuracy": _balanced_accuracy,
    "macro-f1": _macro_f1,
    "nll": _log_likelihood,
}
"""Scores by name, higher is better; all weigh every class the same ("nll" is its negative, calibrated)."""


def standard_error(one: Predictions, other: Predictions, by: str) -> float:
    """Standard error of the difference of two scores on the same samples, drawn anew within each class.

    A class with a single sample does not vary in that. To let it vary as the others do makes the rule of one
    standard error too lenient: by accuracy it then chose 0.3 to 0.5 points worse on a stage 1's held-out set.

    Args:
        one: What some head says about held-out samples.
        other: What another says about the same ones, in the same order.
        by: One of `SCORES`; macro F1 is taken as if it were balanced accuracy.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0])
        >>> said = (torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 1, 1]))
        >>> one, other = (Predictions(labels, predicted, labels) for predicted in said)
        >>> standard_error(one, other, "balanced-accuracy")
        0.25
    """
    values = one.right - other.right
    if by == "nll":
        assert one.log_likelihood is not None
        assert other.log_likelihood is not None
        values = one.log_likelihood.double() - other.log_likelihood
    counts = torch.bincount(one.labels).double()
    sums, squares = (torch.zeros_like(counts).index_add_(0, one.labels, v) for v in (values, values.square()))
    present = counts > 0
    variances = squares[present] / counts[present] - (sums[present] / counts[present]).square()
    error = (variances.clamp_min(0) / counts[present]).sum().sqrt() / present.sum().clamp_min(1)
    return float(error)


def calibrated(logits: Tensor, labels: Tensor, processes: Processes | None = None) -> Tensor:
    """Log-probabilities (M,) of the true labels at the temperature that makes them likeliest.

    Classes count alike in it. It lets heads of any logits magnitude, as LORT's, be compared by likelihood.

    Args:
        logits: Logits (M, K).
        labels: Labels (M,).
        processes: Each of which has logits of its own; None for this one alone.

    Example:
        >>> logits, labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 0])
        >>> calibrated(1e-3 * logits, labels).exp().round(decimals=2)
        tensor([0.6700, 0.6700, 0.3300])
    """
    processes = processes or Processes()
    counts = torch.bincount(labels, minlength=logits.shape[1])
    deviations = float(logits.std(dim=1).sum()) if len(labels) else 0.0
    spreads = torch.tensor([deviations, len(labels)], dtype=torch.float64)
    processes.all_reduce(counts, spreads)
    spread = float(spreads[0] / spreads[1].clamp_min(1))
    if not spread:
        return logits.log_softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
    from scipy.optimize import minimize_scalar  # 0.3 s, which a run with nothing to choose saves

    weights = 1 / counts[labels].to(logits)

    def likelihoods(exponent: float) -> Tensor:
        scaled = logits * (math.exp(exponent) / spread)
        return scaled.gather(1, labels[:, None]).squeeze(1) - scaled.logsumexp(dim=1)

    def loss(exponent: float) -> float:
        likelihood = (weights @ likelihoods(exponent)).double()
        processes.all_reduce(likelihood)
        return -likelihood.item()

    return likelihoods(
        minimize_scalar(loss, bounds=TEMPERATURES, method="bounded", options={"xatol": 1e-4}).x
    )
