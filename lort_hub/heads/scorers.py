"""Score held-out predictions, with standard errors, to choose settings and methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lort_hub.errors import FeatureError
from lort_hub.features.distributed import Processes
from lort_hub.heads.folds import FoldHeads, effective_samples

LOG_DEVIATIONS = (-5.0, 7.0)
"""Range of the logarithm of the logits' standard deviation that calibration searches."""
WRONG = 0.25
"""Wrong held-out samples that are added to those there are: with none, a head that is right on a few would be
certain of everything, and with more, heads of a few hundred samples are too unsure."""
NEWTON_STEPS = 60
PRECISION = 1e-8
"""Relative change of the scale at which the search for it ends."""
LOGITS_AT_ONCE = 2**18
"""Logits that a block of rows holds: fresh memory for larger ones costs more than the sums over them."""
ROUNDING = 1e-6
"""Deviation of logits over their magnitude that float32 leaves of equal ones: there is no signal below it."""


@dataclass(frozen=True)
class Predictions:
    """Predictions for held-out samples, each from a head that was fitted without the sample.

    Attributes:
        labels: True labels (M,).
        predicted: Predicted labels (M,).
        log_likelihood: Calibrated log-probability (M,) of the true label; None if the scorer does not use it.
        scale: Factor that calibrates the logits; None without likelihoods.
        fold_heads: Heads that made the predictions; None for leave-one-out.
    """

    labels: Tensor
    predicted: Tensor
    log_likelihood: Tensor | None = None
    scale: float | None = None
    fold_heads: FoldHeads | None = None

    @property
    def correct(self) -> Tensor:
        """1 where the predicted label is the true one, else 0 (M,), float64."""
        return (self.predicted == self.labels).double()


def _class_mean(values: Tensor, labels: Tensor) -> float:
    counts = torch.bincount(labels).double()
    sums = torch.zeros_like(counts).index_add_(0, labels, values.double())
    present = counts > 0
    return float((sums[present] / counts[present]).mean()) if present.any() else 0.0


def _balanced_accuracy(held_out: Predictions) -> float:
    return _class_mean(held_out.correct, held_out.labels)


def macro_f1(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Compute the mean F1 = 2 TP / (2 TP + FN + FP) of the classes that occur in `labels`.

    Args:
        labels: True labels (M,).
        predicted: Predicted labels (M,).

    Example:
        >>> macro_f1(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 2]))
        0.5833333333333333
    """
    num_classes = 1 + max(labels.max(initial=0), predicted.max(initial=0))
    correct, true, guessed = (
        np.bincount(group, minlength=num_classes)
        for group in (labels[predicted == labels], labels, predicted)
    )
    present = true > 0
    return float((2 * correct[present] / (true[present] + guessed[present])).mean()) if present.any() else 0.0


def _macro_f1(held_out: Predictions) -> float:
    return macro_f1(held_out.labels.numpy(), held_out.predicted.numpy())


def _log_likelihood(held_out: Predictions) -> float:
    assert held_out.log_likelihood is not None
    return _class_mean(held_out.log_likelihood, held_out.labels)


SCORERS: dict[str, Callable[[Predictions], float]] = {
    "balanced-accuracy": _balanced_accuracy,
    "macro-f1": _macro_f1,
    "nll": _log_likelihood,
}
"""Scorers by name; a higher score is better, and all classes count the same.

"nll" is the calibrated log-likelihood, the negative of what its name says.
"""


def standard_error(first: Predictions, second: Predictions, scorer: str) -> float:
    """Compute the standard error of the difference of two scores on the same samples.

    It is that of samples resampled within each class. Resampling cannot vary a one-sample class, so such a
    class adds no variance. Imputing the variance of the other classes made the one-standard-error rule too
    lenient: with accuracy it then chose heads that were 0.3 to 0.5 points worse on the held-out images of a
    stage 1.

    Args:
        first: Predictions of one head.
        second: Predictions of another head for the same samples, in the same order.
        scorer: One of `SCORERS`; macro F1 gets the standard error of balanced accuracy.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0])
        >>> first = Predictions(labels, predicted=torch.tensor([0, 0, 0, 0]))
        >>> second = Predictions(labels, predicted=torch.tensor([0, 0, 1, 1]))
        >>> standard_error(first, second, "balanced-accuracy")
        0.25
    """
    values = first.correct - second.correct
    if scorer == "nll":
        assert first.log_likelihood is not None
        assert second.log_likelihood is not None
        values = first.log_likelihood.double() - second.log_likelihood
    labels, counts = first.labels, torch.bincount(first.labels).double()
    sums, squares = (torch.zeros_like(counts).index_add_(0, labels, v) for v in (values, values.square()))
    present = counts > 0
    variances = squares[present] / counts[present] - (sums[present] / counts[present]).square()
    error = (variances.clamp_min(0) / counts[present]).sum().sqrt() / present.sum().clamp_min(1)
    return float(error)


def among(classes: Tensor, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Leave classes out of logits (M, K), and number the labels (M,) of the others anew.

    Args:
        classes: Mask (K,) of the classes that stay; all labels are among them.
        logits: Logits (M, K).
        labels: Labels (M,).

    Example:
        >>> among(torch.tensor([True, False, True]), torch.tensor([[1.0, 9.0, 2.0]]), torch.tensor([2]))
        (tensor([[1., 2.]]), tensor([1]))
    """
    if classes.all():
        return logits, labels
    return logits[:, classes], (classes.cumsum(0) - 1)[labels]


def gather_predictions(
    logits: Tensor, labels: Tensor, classes: Tensor, processes: Processes, *, likelihood: bool = True
) -> Predictions:
    """Predict held-out samples among some of the classes, those of all processes, on the CPU.

    Args:
        logits: Logits (M, K) of this process's samples.
        labels: Their labels (M,), all among those classes.
        classes: Mask (K,) of the classes that can be predicted.
        processes: Processes, each of which has samples of its own.
        likelihood: Whether to calibrate the logits and compute likelihoods too.

    Returns:
        The same predictions in every process.

    Example:
        >>> logits, labels = torch.tensor([[1.0, 9.0, 2.0]]), torch.tensor([2])
        >>> classes = torch.tensor([True, False, True])
        >>> gather_predictions(logits, labels, classes, Processes(), likelihood=False).predicted
        tensor([2])
    """
    numbers, (logits, own) = classes.nonzero().flatten(), among(classes, logits, labels)
    all_labels, predicted = (processes.gather(each.cpu()) for each in (labels, numbers[logits.argmax(dim=1)]))
    if not likelihood:
        return Predictions(all_labels, predicted)
    scale = calibration_scale(logits, own, processes)
    likelihoods = processes.gather(log_likelihoods(scale * logits, own).cpu())
    return Predictions(all_labels, predicted, likelihoods, scale)


def calibration_scale(logits: Tensor, labels: Tensor, processes: Processes | None = None) -> float:
    """Find the factor on logits, the inverse temperature, that maximises the likelihood of the labels.

    All classes count the same in that likelihood, and a share `error_share` of the samples counts as of
    another class than they are: where a few samples are all right, certainty would be likeliest. The factor
    makes heads of any logits magnitude, such as LORT's, comparable by likelihood.

    Args:
        logits: Logits (M, K).
        labels: Labels (M,).
        processes: Processes, each of which has logits of its own; None for this one alone.

    Returns:
        The factor, the same on all processes; 1 for logits that are constant but for rounding.

    Raises:
        FeatureError: The logits are not finite.

    Example:
        >>> logits, labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 0])
        >>> round(calibration_scale(1e-3 * logits, labels))  # log 9/5 over the difference of the logits
        588
    """
    processes = processes or Processes()
    counts = torch.bincount(labels, minlength=logits.shape[1])
    deviations = logits.std(dim=1, correction=0) if len(labels) else logits.new_zeros(0)
    totals = torch.stack([deviations.double().sum(), logits.abs().mean(dim=1).double().sum()]).cpu()
    processes.all_reduce(counts, totals)
    deviation, magnitude = (float(total) / max(1, int(counts.sum())) for total in totals)
    if not math.isfinite(deviation):
        raise FeatureError("Held-out logits are not finite, so the head cannot be calibrated.")
    if deviation <= ROUNDING * magnitude:
        return 1.0
    weights, error = (1 / counts[labels].double()).to(logits), error_share(counts)
    low, high = (math.exp(bound) / deviation for bound in LOG_DEVIATIONS)
    scale = 1 / deviation
    for _ in range(NEWTON_STEPS):
        slope, curvature = _slope_and_curvature(scale, logits, labels, weights, error, processes)
        low, high = (scale, high) if slope > 0 else (low, scale)
        newton = scale * (1 + slope / curvature) if curvature > 0 else math.inf
        before, scale = scale, newton if low < newton < high else math.sqrt(low * high)
        if abs(scale - before) <= PRECISION * before:
            break
    return scale


def _slope_and_curvature(
    scale: float, logits: Tensor, labels: Tensor, weights: Tensor, error: float, processes: Processes
) -> tuple[float, float]:
    """Differentiate the weighted likelihood by the logarithm of the scale, once, and by the scale, twice."""
    totals = logits.new_zeros(2, dtype=torch.float64)
    for part, own, share in in_blocks(logits, labels, weights):
        z = scale * part
        p = z.softmax(dim=1)
        mean = (p * z).sum(dim=1)
        excess = expected_logit(z, own, error) - mean
        variance = (z - mean[:, None]).square_().mul_(p).sum(dim=1)
        totals += torch.stack([share * excess, share * variance]).double().sum(dim=1)
    processes.all_reduce(totals)
    return float(totals[0]), float(totals[1])


def in_blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split tensors into blocks of rows, of which those of all matrices hold `LOGITS_AT_ONCE` together.

    Args:
        tensors: Matrices (M, K) and vectors (M,), one matrix at least.

    Example:
        >>> logits, labels = torch.zeros(5, 2**17), torch.arange(5)
        >>> [own for _, own in in_blocks(logits, labels)]
        [tensor([0, 1]), tensor([2, 3]), tensor([4])]
    """
    width = sum(tensor.shape[1] for tensor in tensors if tensor.dim() == 2)
    rows = max(1, LOGITS_AT_ONCE // width)
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)


def error_share(counts: Tensor) -> float:
    """Compute the share of wrong samples that is expected where none is seen.

    It is that of `WRONG` wrong samples and as many right ones beside the n held-out samples, which are
    counted as if all classes had as many: WRONG / (n + 2 WRONG).

    Args:
        counts: Held-out samples of each class (K,).

    Example:
        >>> error_share(torch.tensor([1, 1, 0]))
        0.1
    """
    present = counts[counts > 0]
    return WRONG / ((effective_samples(present) if len(present) else 0.0) + 2 * WRONG)


def expected_logit(logits: Tensor, labels: Tensor, error: float) -> Tensor:
    """Compute the mean logit (..., M) where labels (M,) are another class with so small a probability.

    Args:
        logits: Logits (..., M, K).
        labels: Labels (M,).
        error: Probability that a sample is of another class, each of them alike; of none where K is 1.

    Example:
        >>> expected_logit(torch.tensor([[6.0, 2.0, 0.0]]), torch.tensor([0]), 0.5)
        tensor([3.5000])
    """
    own = logits.gather(-1, labels.expand(logits.shape[:-1])[..., None]).squeeze(-1)
    if logits.shape[-1] == 1:
        return own
    others = (logits.sum(dim=-1) - own) / (logits.shape[-1] - 1)
    return own + error * (others - own)


def log_likelihoods(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the log-probabilities (M,) of the true labels (M,) under logits (M, K).

    Example:
        >>> log_likelihoods(torch.tensor([[1.0, 1.0]]), torch.tensor([0])).exp()
        tensor([0.5000])
    """
    return logits.gather(1, labels[:, None]).squeeze(1) - logits.logsumexp(dim=1)
