"""Compare methods on the same features."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from lort_hub.heads.best import choose_method
from lort_hub.heads.fitted import Fit
from lort_hub.heads.methods import BEST_OF, CHOICES, METHODS, STACKED, STAGE1
from lort_hub.heads.search import Selection, select
from lort_hub.heads.selected import fit_selected, make_validator
from lort_hub.heads.stack import fit_stack
from lort_hub.heads.training_set import TrainingSet


def each_method(
    training: TrainingSet,
    baseline: Fit,
    names: Sequence[str],
    *,
    by: str | None,
    seed: int,
    baseline_seconds: float = 0.0,
) -> Iterator[tuple[str, Fit, float]]:
    """Choose the settings of each method and fit it, with the same folds and from the same baseline.

    Args:
        training: Features (N, D) and labels.
        baseline: Head that methods start from; if it is the backbone's own, it is the first to be yielded.
        names: Names in `METHODS` and `CHOICES`: "auto" adds up `STACKED`, "best" is one of `BEST_OF`.
        by: Score of the choices; None for the method's own.
        seed: Seed of the folds and of SGD.
        baseline_seconds: Seconds that the baseline took; it is not fitted again.

    Yields:
        The name, the head, and the seconds of its selection and its fit.

    Example:
        >>> import torch
        >>> from lort_hub.heads.fit import fit_head
        >>> training = TrainingSet(torch.eye(2).repeat(4, 1), torch.tensor([0, 1] * 4), num_classes=2)
        >>> compared = each_method(training, fit_head(training, "ce"), ["ncm", "lort"], by="nll", seed=0)
        >>> [name for name, _, _ in compared]
        ['ncm', 'lort']
    """
    validator, selections = make_validator(training, baseline, by, seed), dict[str, Selection]()
    seconds = dict[str, float]()

    def fitted(name: str) -> Fit:
        if name == baseline.method and baseline.selection:
            selections[name], seconds[name] = baseline.selection, baseline_seconds
            return baseline
        start = time.perf_counter()
        selections[name] = select(validator, METHODS[name])
        fit = fit_selected(
            training, name, selections[name], baseline=baseline, validator=validator, seed=seed
        )
        seconds[name] = time.perf_counter() - start
        return fit

    if baseline.method == STAGE1:
        yield STAGE1, baseline, 0.0
    fits = {}
    for name in names:
        if name not in CHOICES:
            fits[name] = fitted(name)
            yield name, fits[name], seconds[name]
    if "auto" in names:
        fits.update({name: fitted(name) for name in STACKED if name not in fits})
        start = time.perf_counter()
        known = [fits[name] for name in STACKED]
        stack = fit_stack(training, baseline=baseline, known=known, select_by=by, seed=seed)
        yield "auto", stack, time.perf_counter() - start + sum(seconds[name] for name in STACKED)
    if "best" in names:
        fits.update({name: fitted(name) for name in BEST_OF if name not in fits})
        start = time.perf_counter()
        choice = choose_method(validator, {name: selections[name] for name in BEST_OF})
        choosing = time.perf_counter() - start
        yield "best", fits[choice.method], choosing + sum(seconds[name] for name in BEST_OF)
