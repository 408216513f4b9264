"""Render results as Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lort_hub.evaluation.markdown import escape
from lort_hub.evaluation.significance import Array, shifted_accuracy

REPORT_COLUMNS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "many": "many",
    "medium": "medium",
    "few": "few",
    "macro_f1": "macro F1",
    "ece": "ECE",
    "nll": "NLL",
}
GROUPS = ("many", "medium", "few")
COMPARISON_COLUMNS = {
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


def results_table(reports: dict[str, dict[str, Any]]) -> str:
    """A Markdown table, aligned for a terminal too, with one row per head; rates in percent.

    Args:
        reports: What `evaluate` returned, by the head's name.

    Example:
        >>> import numpy as np
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> report = evaluate(np.eye(2), np.array([0, 1]), np.array([200, 5]))
        >>> print(results_table({"ce": report}))
        | head | accuracy | balanced | many  | medium | few   | macro F1 | ECE  | NLL   |
        | ---- | -------- | -------- | ----- | ------ | ----- | -------- | ---- | ----- |
        | ce   | 100.0    | 100.0    | 100.0 | n/a    | 100.0 | 100.0    | 26.9 | 0.313 |
    """
    rows = [["head", *REPORT_COLUMNS.values()]]
    for name, report in reports.items():
        rows.append([escape(name), *(_rate_cell(report, key) for key in REPORT_COLUMNS)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in rows
    )


def _rate_cell(report: dict[str, Any], key: str) -> str:
    value = report[key]
    if value is None:
        return "n/a"
    if key == "nll":
        return f"{value:.3f}"
    interval = report.get("interval", {}).get(key)
    suffix = f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""
    return f"{100 * value:.1f}{suffix}"


def result_row(report: dict[str, Any], class_counts: Array, **about: Any) -> dict[str, Any]:
    """A row of results.csv.

    Args:
        report: What `evaluate` returned.
        class_counts: Training images (K,).
        about: What the row is of: method, seed, cell, seconds, chosen.

    Example:
        >>> from lort_hub.evaluation.metrics import evaluate
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
        >>> row = {"method": "ce", "chosen": "{}"} | dict.fromkeys(COMPARISON_COLUMNS, 0.5)
        >>> print(comparison_table([row], {"p vs best": {"ce": 1.0}}).splitlines()[2][:20])
        | ce | 50.0 | 50.0 |
    """
    header = ["method", *COMPARISON_COLUMNS.values(), *tests, "chosen"]
    lines = [header, ["---"] * len(header)]
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        cells = [_mean_cell([row[name] for row in own], name) for name in COMPARISON_COLUMNS]
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
        >>> row = {"chosen": '{"lr": 0.1}'} | dict.fromkeys(COMPARISON_COLUMNS, 0.5)
        >>> study_table([row]).splitlines()[2][:19]
        '| 0.1 | 50.0 | 50.0'
    """
    names = [name for name in COMPARISON_COLUMNS if name != "seconds"]
    varied = [json.loads(row["chosen"]) for row in rows]
    lines = [[*varied[0], *(COMPARISON_COLUMNS[name] for name in names)]]
    lines.append(["---"] * len(lines[0]))
    for values, row in zip(varied, rows, strict=True):
        given = ["n/a" if value is None else str(value) for value in values.values()]
        lines.append([*given, *(_mean_cell([row[name]], name) for name in names)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _mean_cell(values: Sequence[float | None], name: str) -> str:
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
