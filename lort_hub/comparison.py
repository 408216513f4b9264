"""Several methods on the same test images: paired tests, shifted test priors, and the table of all seeds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lort_hub.heads import STAGE1, Fit, fit_selected, judge_of
from lort_hub.methods import AUTO, METHODS
from lort_hub.selection import Selection, choose_method, select
from lort_hub.training_set import TrainingSet

Array = npt.NDArray[Any]

RATIOS = (50, 25, 10, 5, 2)
COLUMNS = {
    "balanced_accuracy": "balanced",
    "many": "many",
    "medium": "medium",
    "few": "few",
    "macro_f1": "macro F1",
    "ece": "ECE",
    "nll": "NLL",
    "logits_magnitude_mean": "LoMa",
    "logits_magnitude_std": "its spread",
    "regularized_std_mean": "RSD",
    "seconds": "seconds",
}
PERCENT = ("balanced_accuracy", "many", "medium", "few", "macro_f1", "ece")


def each_method(
    training: TrainingSet,
    baseline: Fit,
    names: Sequence[str],
    *,
    by: str | None,
    seed: int,
    baseline_seconds: float = 0.0,
) -> Iterator[tuple[str, Fit, float]]:
    """Choose and fit one method after the other, all by the same folds and from the same heads.

    Args:
        training: Features (N, D) and labels.
        baseline: The head that methods start from; the backbone's own comes first, as a row of its own.
        names: Of `METHODS`, and "auto", which chooses among `AUTO`.
        by: Score of the choices; None for each method's own.
        seed: Seed of folds and of SGD.
        baseline_seconds: What the baseline took, which is not fitted again where it is asked for.

    Yields:
        The name, the head, and the seconds of its selection and its fit.

    Example:
        >>> import torch
        >>> from lort_hub.heads import fit_head
        >>> training = TrainingSet(torch.eye(2).repeat(4, 1), torch.tensor([0, 1] * 4), num_classes=2)
        >>> compared = each_method(training, fit_head(training, "ce"), ["ncm", "lort"], by="nll", seed=0)
        >>> [name for name, _, _ in compared]
        ['ncm', 'lort']
    """
    judge, selections = judge_of(training, baseline, by, seed), dict[str, Selection]()
    seconds = dict[str, float]()

    def fitted(name: str) -> Fit:
        if name == baseline.method and baseline.selection:
            selections[name], seconds[name] = baseline.selection, baseline_seconds
            return baseline
        start = time.perf_counter()
        selections[name] = select(judge, METHODS[name])
        fit = fit_selected(training, name, selections[name], baseline=baseline, seed=seed)
        seconds[name] = time.perf_counter() - start
        return fit

    if baseline.method == STAGE1:
        yield STAGE1, baseline, 0.0
    fits = {}
    for name in names:
        if name != "auto":
            fits[name] = fitted(name)
            yield name, fits[name], seconds[name]
    if "auto" in names:
        fits.update({name: fitted(name) for name in AUTO if name not in fits})
        start = time.perf_counter()
        choice = choose_method(judge, {name: selections[name] for name in AUTO})
        choosing = time.perf_counter() - start
        yield "auto", fits[choice.method], choosing + sum(seconds[name] for name in AUTO)


def paired_p_value(
    right: Array, other: Array, labels: Array, *, resamples: int = 10_000, seed: int = 0
) -> float:
    """Two-sided bootstrap p-value of a difference in balanced accuracy, test images resampled in each class.

    Args:
        right: How often a head is right on each test image (N,): 0 or 1, or a mean over seeds.
        other: The same of another head.
        labels: Labels (N,).
        resamples: Resamples; the least p-value is one over them.
        seed: Seed of the resamples.

    Example:
        >>> labels = np.repeat([0, 1], 50)
        >>> paired_p_value(np.ones(100), np.tile([0, 1], 50), labels, resamples=100)
        0.01
    """
    rng, difference = np.random.default_rng(seed), np.asarray(right, dtype=np.float64) - other
    total = np.zeros(resamples)
    for label in np.unique(labels):
        values, counts = np.unique(difference[labels == label], return_counts=True)
        drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=resamples)
        total += drawn @ values / counts.sum()
    total = total.round(12)  # ties are ties whatever the order of the sum
    below, above = np.mean(total <= 0), np.mean(total >= 0)
    return float(np.clip(2 * min(below, above), 1 / resamples, 1.0))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction for having made all these tests.

    Args:
        p_values: By name.

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    corrected, largest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        corrected[name] = largest
    return corrected


def paired_tests(right: Mapping[str, Sequence[Array]], labels: Array) -> dict[str, dict[str, float]]:
    """Corrected p-values of every method against cross-entropy and against the best of them.

    Args:
        right: Whether each test image (N,) was right, one array for each seed, by method.
        labels: Labels (N,) of the test images.

    Returns:
        P-values by method, by the column's title; a method is not tested against itself.

    Example:
        >>> labels = np.repeat([0, 1], 50)
        >>> list(paired_tests({"ce": [labels == 0], "lort": [labels == labels]}, labels))
        ['p vs ce', 'p vs best']
    """
    mean = {name: np.mean(runs, axis=0) for name, runs in right.items()}
    present = np.unique(labels)
    score = {name: np.mean([value[labels == k].mean() for k in present]) for name, value in mean.items()}
    columns = {}
    best = max((name for name in score if name != "auto"), key=lambda name: float(score[name]))
    for title, rival in (("p vs ce", "ce"), ("p vs best", best)):
        if rival in mean:
            others = {name: value for name, value in mean.items() if name not in (rival, "auto")}
            columns[title] = holm(
                {n: paired_p_value(value, mean[rival], labels) for n, value in others.items()}
            )
    return columns


def shifted_accuracy(per_class_accuracy: Sequence[float | None], class_counts: Array) -> dict[str, float]:
    """Accuracy under other test priors: exponential, ordered as the training set or the other way round.

    The protocol of SADE (arXiv 2107.09249), in expectation: per-class accuracies weighted by the test prior.

    Args:
        per_class_accuracy: Test accuracy (K,) of each class; None where it has no test image.
        class_counts: Training images (K,), which order the classes.

    Returns:
        Accuracy by "forward 50" ... "forward 2", "uniform", "backward 2" ... "backward 50".

    Example:
        >>> {name: round(value, 2) for name, value in shifted_accuracy([1.0, 0.0], np.array([9, 1])).items()}[
        ...     "forward 2"]
        0.67
    """
    accuracy = np.array([np.nan if value is None else value for value in per_class_accuracy])
    order = np.argsort(-np.asarray(class_counts), kind="stable")
    order = order[np.isfinite(accuracy[order])]
    place = np.arange(len(order)) / max(1, len(order) - 1)
    shifts = {f"forward {ratio}": -np.log(ratio) for ratio in RATIOS}
    shifts |= {"uniform": 0.0, **{f"backward {ratio}": np.log(ratio) for ratio in reversed(RATIOS)}}
    return {
        name: float(np.average(accuracy[order], weights=np.exp(slope * place)))
        for name, slope in shifts.items()
    }


def result_row(report: dict[str, Any], class_counts: Array, **about: Any) -> dict[str, Any]:
    """A row of results.csv.

    Args:
        report: What `evaluate` returned.
        class_counts: Training images (K,).
        about: What the row is of: method, seed, cell, seconds, chosen.

    Example:
        >>> from lort_hub.metrics import evaluate
        >>> report = evaluate(np.eye(2), np.array([0, 1]), np.array([9, 1]))
        >>> result_row(report, np.array([9, 1]), method="ce", seed=0)["balanced_accuracy"]
        1.0
    """
    names = ("accuracy", "balanced_accuracy", "many", "medium", "few", "macro_f1", "nll", "ece")
    spread = {
        f"{metric}_{part}": report[metric][part]
        for metric in ("logits_magnitude", "regularized_std")
        for part in ("mean", "std")
    }
    norms = report["weight_norm"]
    norm = norms["std"] / norms["mean"] if norms and norms["mean"] else None
    shifts = shifted_accuracy(report["per_class_accuracy"], class_counts)
    numbers = {name: report[name] for name in names}
    return {**about, **numbers, **spread, "weight_norm_spread": norm, "n": report["n"], **shifts}


def comparison_table(rows: Sequence[dict[str, Any]], tests: Mapping[str, Mapping[str, float]]) -> str:
    """One Markdown table of a cell: mean and spread over seeds, and corrected p-values; rates in percent.

    Args:
        rows: Of `result_row`, all of one data cell.
        tests: Columns of p-values by title, each by method.

    Example:
        >>> row = {"method": "ce", "chosen": "{}"} | dict.fromkeys(COLUMNS, 0.5)
        >>> print(comparison_table([row], {"p vs best": {"ce": 1.0}}).splitlines()[2][:20])
        | ce | 50.0 | 50.0 |
    """
    header = ["method", *COLUMNS.values(), *tests, "chosen"]
    lines = [header, ["---"] * len(header)]
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        cells = [_cell([row[name] for row in own], name) for name in COLUMNS]
        chosen = "; ".join(dict.fromkeys(_short(row["chosen"]) for row in own))
        found = (values.get(method) for values in tests.values())
        p_values = ["" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}" for p in found]
        lines.append([method, *cells, *p_values, chosen])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def study_table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of one study: what is varied, then the numbers; rates in percent.

    Args:
        rows: Of `result_row`; `chosen` holds what is varied, as JSON.

    Example:
        >>> row = {"chosen": '{"lr": 0.1}'} | dict.fromkeys(COLUMNS, 0.5)
        >>> study_table([row]).splitlines()[2][:19]
        '| 0.1 | 50.0 | 50.0'
    """
    names = [name for name in COLUMNS if name != "seconds"]
    varied = [json.loads(row["chosen"]) for row in rows]
    lines = [[*varied[0], *(COLUMNS[name] for name in names)]]
    lines.append(["---"] * len(lines[0]))
    for values, row in zip(varied, rows, strict=True):
        given = ["n/a" if value is None else str(value) for value in values.values()]
        lines.append([*given, *(_cell([row[name]], name) for name in names)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(values: Sequence[float | None], name: str) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "n/a"
    scale, form = (100, ".1f") if name in PERCENT else (1, ".3f" if name == "nll" else ".3g")
    text = f"{scale * np.mean(numbers):{form}}"
    return text if len(numbers) == 1 else f"{text} ± {scale * np.std(numbers, ddof=1):{form}}"


def _short(chosen: str) -> str:
    given = {name: value for name, value in json.loads(chosen).items() if value not in (0, False)}
    return ", ".join(
        f"{name} {value if isinstance(value, str) else f'{value:.3g}'}" for name, value in given.items()
    )
