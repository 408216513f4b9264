"""Score fitted heads on a test set: on its own class mix, and on the mix that they were moved to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lort_hub.evaluation.arrays import Array, to_array
from lort_hub.evaluation.metrics import calibration_error, evaluate, log_softmax
from lort_hub.evaluation.report import MixScores, Report
from lort_hub.features.store import Features
from lort_hub.heads.fitted import Fit
from lort_hub.records import ClassMix


def evaluate_fit(
    fit: Fit, test: Features, class_counts: Any, *, mix: ClassMix | None = None, **options: Any
) -> Report:
    """Compute every number about a fitted linear head; rates are fractions.

    Args:
        fit: The head.
        test: Features (N, D) and labels of the test images.
        class_counts: Training images (K,).
        mix: Class mix to report the head for as well, if it is one that a head was moved to.
        options: Other arguments of `evaluate`: thresholds, bootstrap, seed.

    Example:
        >>> import torch
        >>> from lort_hub.heads.base import LinearHead
        >>> fit = Fit(LinearHead(torch.eye(2), torch.zeros(2)), "ncm", {}, scale=3.0)
        >>> test = Features(torch.eye(2), torch.tensor([0, 1]), torch.arange(2))
        >>> report = evaluate_fit(fit, test, [9, 9], mix=ClassMix("mine", (0.75, 0.25)))
        >>> report.accuracy, report.mix.accuracy, report.as_solved.logits_magnitude
        (1.0, 1.0, 1.0)
    """
    report = evaluate(fit.logits(test.x), test.y, class_counts, weight=fit.weight, **options)
    unmoved = replace(fit, shift=None)
    solved = evaluate(unmoved.logits(test.x), test.y, class_counts, weight=fit.weight, scale=fit.scale)
    report = replace(report, as_solved=solved.as_solved, calibrated=solved.calibrated)
    if mix is None or not mix.is_moved:
        return report
    return replace(report, mix=score_mix(to_array(fit.logits(test.x)), to_array(test.y), mix))


def score_mix(logits: Array, labels: Array, mix: ClassMix) -> MixScores:
    """Score a head where classes are as frequent as a mix says: samples count share_k / test share_k.

    Args:
        logits: Logits (N, K) of a test set.
        labels: Labels (N,); classes without a sample are left out of the mix.
        mix: The class mix.

    Example:
        >>> logits = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> score_mix(logits, np.array([0, 1, 1]), ClassMix("mine", (0.8, 0.2))).accuracy
        0.9
    """
    shares = np.asarray(mix.shares)
    tested = np.bincount(labels, minlength=len(shares))
    weights = (shares / np.maximum(tested, 1))[labels]
    weights /= weights.sum()
    log_probabilities = log_softmax(logits.astype(np.float64))
    return MixScores(
        name=mix.name,
        accuracy=float(weights @ (logits.argmax(axis=1) == labels)),
        nll=float(-weights @ log_probabilities[np.arange(len(labels)), labels]),
        ece=calibration_error(log_probabilities, labels, weights),
    )
