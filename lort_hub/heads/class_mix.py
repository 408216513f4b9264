"""Find the class mix that a head's log-odds hold, and move the head to another one.

Bayes' rule makes that a change of the bias (docs/method.md). What the log-odds hold follows from the method,
or is measured on training samples held out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lort_hub.data.class_file import read_class_file
from lort_hub.errors import ConfigError, did_you_mean
from lort_hub.heads.fitted import Fit
from lort_hub.heads.methods import BALANCING, METHODS, STACK, class_mix
from lort_hub.heads.scorers import Predictions, among, calibration_scale
from lort_hub.heads.search import Selection, fold_heads_of
from lort_hub.heads.selected import make_validator
from lort_hub.heads.sum_weights import best_weights, centred_log_counts, weighted_sum
from lort_hub.heads.training_set import TrainingSet
from lort_hub.records import AS_MADE, ClassMix

TRAIN_IMAGES = "train_images"
SHARES = (*product(("class", "label"), ("share", "probability", "count")), ("name", TRAIN_IMAGES))
EXPECTED = "class and share, or class and count"
FLOOR = 1e-6
"""Share in place of a smaller one: a class that is said not to occur is next to never predicted."""


def measure_mix(
    training: TrainingSet,
    fit: Fit,
    baseline: Fit | None = None,
    *,
    solver: str | None = None,
    seed: int = 0,
) -> Fit:
    """Measure the class mix of a calibrated head on held-out samples; every process calls this.

    With z the head's logits, s z_k - c log pi_k is made the likeliest, as by `best_weights`. The head
    holds the mix pi^c, and s is what its scale lacks. A head that is balanced by construction has s = 1 and
    c = 0, without measuring; so has any head, or c = 1 if it decides for the training mix, where held-out
    samples are of one class alone, or there are none.

    Args:
        training: The features that it was fitted on.
        fit: A calibrated head, or a sum of heads.
        baseline: Head that methods start from.
        solver: The solver that `fit_head` was given, if any.
        seed: Seed of the folds.

    Returns:
        The fit with its class mix and the held-out decisions, for classes equally likely.

    Example:
        >>> from lort_hub.heads.fit import fit_head
        >>> x = torch.tensor([[0.0], [0.2], [0.9], [1.0], [1.2], [1.1]])
        >>> training = TrainingSet(x, torch.tensor([0, 0, 1, 1, 1, 1]), 2)
        >>> measure_mix(training, fit_head(training, "ncm")).mix.shares
        (0.5, 0.5)
    """
    logits, labels, scored = _held_out_logits(training, fit, baseline, solver, seed)
    gather = training.processes.gather
    every = gather(labels.cpu())
    log_prior = (training.class_counts.double() / training.class_counts.sum()).log().to(training.device)
    scale, kept = 1.0, float(class_mix(fit.method, fit.settings) == "training")
    if not _is_balanced_by_construction(fit, solver) and len(every.unique()) > 1:
        some, own = among(scored, logits, labels)
        unit = calibration_scale(some - some.mean(dim=0), own, training.processes)
        parts = {"scale": unit * some, "kept": (-log_prior)[scored].float().expand_as(some)}
        free = () if fit.method == STACK else ("kept",)  # a head of its own may favour rare classes
        scale, kept = best_weights(parts, own, training.processes, free=free).values()
        scale *= unit
    shares = (kept * log_prior).softmax(dim=0)
    predicted = (scale * logits - (kept * log_prior).float()).argmax(dim=1)
    mix = ClassMix(AS_MADE, tuple(shares.tolist()), scale)
    return replace(fit, mix=mix, held_out=Predictions(every, gather(predicted.cpu())))


def _is_balanced_by_construction(fit: Fit, solver: str | None) -> bool:
    """Check whether the method, or its settings, take all of the training mix out of the log-odds."""
    dials = [fit.settings[name] for name in BALANCING if name in fit.settings]
    fitter = solver or (METHODS[fit.method].fitter if fit.method in METHODS else "")
    if fitter and fitter not in ("exact", "closed-form", "class-means", "discriminant"):
        return False
    return class_mix(fit.method, fit.settings) == "balanced" and sum(dials) in (0, 1)


def _held_out_logits(
    training: TrainingSet, fit: Fit, baseline: Fit | None, solver: str | None, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute calibrated logits (M, K) of held-out samples, their labels (M,), and a mask (K,) of those."""
    members = {fit.method: fit.selection or Selection(fit.settings, "", "", None, [])}
    if fit.method == STACK and fit.choice:
        members = {name: fit.choice.selections[name] for name in fit.choice.weights}
    methods = {name: replace(METHODS[name], fitter=solver or METHODS[name].fitter) for name in members}
    from_base = any(method.needs_base or method.fitter == "sgd" for method in methods.values())
    validator = make_validator(training, baseline if from_base else None, None, seed)
    logits, labels = dict[str, Tensor](), torch.zeros(())
    for name, selection in members.items():
        fold_heads = fold_heads_of(validator, methods[name], selection)
        z, labels = validator.for_method(methods[name]).held_out_logits(fold_heads)
        factor = fit.scale
        if fit.method == STACK:
            factor = calibration_scale(*among(validator.scored_classes, z, labels), training.processes)
        logits[name] = factor * (z - z.mean(dim=1, keepdim=True))
    if fit.method != STACK:
        return logits[fit.method], labels, validator.scored_classes
    total = weighted_sum(logits, fit.settings, centred_log_counts(training.class_counts))
    return total, labels, validator.scored_classes


def mix_power(mix: ClassMix, class_counts: Tensor) -> float:
    """Find the power of the training mix that a class mix is, by least squares; 0 where classes are alike.

    Args:
        mix: Class mix.
        class_counts: Training samples (K,).

    Example:
        >>> round(mix_power(ClassMix(AS_MADE, (0.75, 0.25)), torch.tensor([9, 3])), 3)
        1.0
    """
    log_counts = class_counts.double().clamp_min(1).log()
    spread = log_counts - log_counts.mean()
    square = float(spread @ spread)
    return float(spread @ torch.tensor(mix.shares).double().log()) / square if square else 0.0


def carry_mix(mix: ClassMix, before: Tensor, now: Tensor) -> ClassMix:
    """Convert a measured class mix to that of a head fitted alike on other samples: the same power of theirs.

    Args:
        mix: Class mix of a head, from `measure_mix`.
        before: Training samples (K,) of that head.
        now: Training samples (K,) of one that is fitted alike.

    Example:
        >>> mix = ClassMix(AS_MADE, (0.75, 0.25))
        >>> shares = carry_mix(mix, torch.tensor([9, 3]), torch.tensor([8, 2])).shares
        >>> [round(share, 3) for share in shares]
        [0.8, 0.2]
    """
    if before.equal(now):
        return mix
    power = mix_power(mix, before)
    return replace(mix, shares=tuple((power * now.double().clamp_min(1).log()).softmax(dim=0).tolist()))


def move(fit: Fit, name: str, shares: Tensor) -> Fit:
    """Adjust the bias of a head to a class mix: its probabilities then hold where classes are that frequent.

    Args:
        fit: A head with its class mix, from `measure_mix`.
        name: Name of the mix.
        shares: Share (K,) of each class; less than `FLOOR` counts as that.

    Raises:
        ConfigError: The class mix of the head is not known, as it is not calibrated.

    Example:
        >>> from lort_hub.heads.base import LinearHead
        >>> even = ClassMix(AS_MADE, (0.5, 0.5), 1.0)
        >>> fit = Fit(LinearHead(torch.eye(2), torch.zeros(2)), "ncm", {}, mix=even)
        >>> move(fit, "train", torch.tensor([0.8, 0.2])).bias.softmax(dim=0)
        tensor([0.8000, 0.2000])
    """
    if fit.mix is None:
        raise ConfigError(
            "A head that is not calibrated has no class mix that it could be moved from.\n"
            "Calibrate it: `calibrate=True`."
        )
    floored = shares.double().clamp_min(FLOOR)
    floored = floored / floored.sum()
    shift = floored.log() - torch.tensor(fit.mix.shares, dtype=torch.float64).log()
    shift = (shift - shift.mean()).float()
    mix = ClassMix(name, tuple(floored.tolist()))
    shift = shift + (0.0 if fit.shift is None else fit.mix.scale * fit.shift)
    unmoved = fit.scale if fit.unmoved_scale is None else fit.unmoved_scale
    return replace(fit, scale=fit.scale * fit.mix.scale, shift=shift, mix=mix, unmoved_scale=unmoved)


def stated_shares(mix: str, class_names: Sequence[str], class_counts: Tensor | NDArray[np.int64]) -> Tensor:
    """Return the shares (K,) of a stated class mix, float64.

    Args:
        mix: "balanced", "train", or a CSV of `read_shares`.
        class_names: Names of the K classes.
        class_counts: Training images (K,).

    Raises:
        ConfigError: The file cannot be read, or does not give every class one number from 0.

    Example:
        >>> stated_shares("train", ["cat", "dog"], torch.tensor([3, 1]))
        tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    if mix == "balanced":
        counts = torch.ones(len(class_names))
    elif mix == "train":
        counts = torch.as_tensor(class_counts)
    elif not Path(mix).exists():
        hint = did_you_mean(mix, ("balanced", "train"))
        raise ConfigError(
            f"There is no file '{mix}' of a class mix.{hint}\n"
            f"Expected balanced, train, or a CSV with the columns {EXPECTED}."
        )
    else:
        counts = torch.tensor(read_shares(Path(mix), class_names), dtype=torch.float64)
    return counts.double() / counts.double().sum()


def read_shares(path: Path, class_names: Sequence[str]) -> list[float]:
    """Read a share or a count of each class from a CSV with the columns class and share, or class and count.

    Args:
        path: A file of `read_class_file`; shares may be in per cent and have a decimal comma.
        class_names: Names of the K classes.

    Raises:
        ConfigError: The file cannot be read, or does not give every class one number from 0.

    Example:
        >>> read_shares(Path("mix.csv"), ["cat", "dog"])  # doctest: +SKIP
        [30.0, 10.0]
    """
    column, texts = read_class_file(path, class_names, SHARES, EXPECTED)
    if column == TRAIN_IMAGES:
        raise ConfigError(
            f"{path} has the training and the test images of each class: which is the mix?\n"
            f"Give train for that of the training images, or a CSV with the columns {EXPECTED}."
        )
    whats = [f"{path}: the {column} of '{name}'" for name in class_names]
    percent = [text.strip().endswith("%") for text in texts]
    if any(percent) and not all(percent):
        raise ConfigError(
            f"{whats[percent.index(False)]} has no %, {whats[percent.index(True)]} has.\n"
            "Write all shares in per cent, or none."
        )
    is_share = all(percent) or column in ("share", "probability")
    shares = [
        _number(text.strip().removesuffix("%"), what, is_share=is_share)
        for text, what in zip(texts, whats, strict=True)
    ]
    if not any(shares):
        raise ConfigError(f"{path} gives every class the {column} 0; expected a positive one.")
    if math.isinf(sum(shares)):
        raise ConfigError(
            f"{path}: the sum over all classes, column {column}, is larger than a number can be.\n"
            "Give shares that sum to 1, or counts of images."
        )
    return shares


def _number(text: str, what: str, *, is_share: bool) -> float:
    """Read a number from 0 with a decimal point or comma."""
    if re.fullmatch(r"[1-9]\d{0,2}([.,]\d{3})+", text.strip()) and not is_share:
        raise ConfigError(f"{what} is {text!r}: thousands or decimals?\nWrite counts in digits alone.")
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ConfigError(f"{what} is {text!r}, expected a number from 0.")
    return value
