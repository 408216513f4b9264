"""Score fitted heads on a test set: on its own class mix, on another one, and against held-out samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lort_hub.evaluation.arrays import Array, to_array
from lort_hub.evaluation.metrics import calibration_error, evaluate, log_softmax
from lort_hub.evaluation.report import MixScores, Report
from lort_hub.features.store import Features
from lort_hub.heads.fitted import Fit
from lort_hub.heads.methods import STACK
from lort_hub.records import DEFAULT, ClassMix

WIDE, ERRORS = 0.1, 3.0
"""Difference of accuracies, and number of its standard errors, above which held-out samples are too easy."""


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
    scale = fit.scale if fit.unmoved_scale is None else fit.unmoved_scale
    unmoved = replace(fit, shift=None, scale=scale)
    solved = evaluate(unmoved.logits(test.x), test.y, class_counts, weight=unmoved.weight, scale=scale)
    calibrated = solved.at_its_scale if fit.method == STACK else solved.calibrated
    report = replace(report, as_solved=solved.as_solved, calibrated=calibrated)
    if mix is None or not mix.is_moved:
        return report
    return replace(report, mix=score_mix(to_array(fit.logits(test.x)), to_array(test.y), mix))


def compared_heads(fit: Fit, others: Sequence[Fit]) -> dict[str, Fit]:
    """Name the rows of a table: the heads to compare with, each by its method, and the head itself.

    One of the head's own method has `DEFAULT` in its name where it is another head, as of other settings or
    without calibration, and no row of its own where it is the same.

    Args:
        fit: The head.
        others: Heads with the settings that are chosen by default, the baseline first.

    Example:
        >>> import torch
        >>> from lort_hub.heads.base import LinearHead
        >>> ce, flat = (Fit(LinearHead(w * torch.eye(2), torch.zeros(2)), "ce", {}) for w in (2, 1))
        >>> list(compared_heads(flat, [ce])), list(compared_heads(ce, [ce]))
        (['ce (default)', 'ce'], ['ce'])
    """
    rows = {}
    for other in others:
        if other.method != fit.method:
            rows[other.method] = other
        elif not (other.weight.equal(fit.weight) and other.bias.equal(fit.bias)):
            rows[other.method + DEFAULT] = other
    return {**rows, fit.method: fit}


def optimism_note(fit: Fit, logits: Any | None, labels: Any) -> str | None:
    """Write the note that held-out training samples were far easier than the test set; None where not.

    Both are judged by decisions for classes equally likely, on the classes that both have. Held-out samples
    are too easy where the backbone has seen them, where they repeat training samples, or where the test set
    is of another kind; choices and probabilities are too sure then.

    Args:
        fit: The head, with its decisions on held-out samples.
        logits: Its logits (N, K) on the test set; None where nobody has them.
        labels: Labels (N,).

    Example:
        >>> import torch
        >>> from lort_hub.heads.scorers import Predictions
        >>> labels, mix = torch.arange(200) % 2, ClassMix("balanced", (0.5, 0.5))
        >>> fit = Fit(None, "lort", {}, mix=mix, held_out=Predictions(labels, labels))
        >>> optimism_note(fit, torch.eye(2)[labels], labels) is None
        True
        >>> optimism_note(fit, torch.eye(2)[0 * labels], labels)[:60]
        '100.0 % of the held-out training images are recognised, but '
    """
    if logits is None or fit.held_out is None or fit.mix is None:
        return None
    decided = (fit.mix.scale * to_array(logits) - np.log(fit.mix.shares)).argmax(axis=1)
    held_out = _class_accuracies(
        fit.held_out.labels.numpy(), fit.held_out.correct.numpy(), len(fit.mix.shares)
    )
    labels = to_array(labels)
    tested = _class_accuracies(labels, decided == labels, len(fit.mix.shares))
    both = (held_out[0] > 0) & (tested[0] > 0)
    if not both.any():
        return None
    (easy, easy_variance), (hard, hard_variance) = (
        (rate[both].mean(), (variance[both] / both.sum() ** 2).sum())
        for _, rate, variance in (held_out, tested)
    )
    if easy - hard <= max(WIDE, ERRORS * math.sqrt(easy_variance + hard_variance)):
        return None
    return (
        f"{100 * easy:.1f} % of the held-out training images are recognised, but {100 * hard:.1f} % of the "
        "test images (means over classes). The settings and the probabilities come from the held-out images, "
        "so do not trust them for images like those of the test. Usual causes: the backbone was trained on "
        "these training images; the training images repeat themselves, as frames of a clip do, and have no "
        "groups; the test images are of another kind, or labelled differently."
    )


def _class_accuracies(labels: Array, correct: Array, num_classes: int) -> tuple[Array, Array, Array]:
    """Count samples (K,), and estimate each class's accuracy and the variance of that, never 0 for few."""
    counts = np.bincount(labels, minlength=num_classes)
    right = np.bincount(labels, correct, minlength=num_classes)
    shrunk, number = (right + 1) / (counts + 2), np.maximum(counts, 1)
    return counts, right / number, shrunk * (1 - shrunk) / number


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
