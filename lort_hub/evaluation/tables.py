"""Render results as tables, most of them in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lort_hub.evaluation.arrays import to_array
from lort_hub.evaluation.markdown import escape
from lort_hub.evaluation.report import Number, Report, ResultRow, Scores
from lort_hub.evaluation.significance import Array, shifted_accuracy
from lort_hub.heads.methods import shown_settings

if TYPE_CHECKING:
    from torch import Tensor

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
BEFORE_MOVE = ", before it was moved"
"""Ending of the name of a head whose numbers are not those of the class mix that it was moved to."""
COMPARISON_COLUMNS = {name: title for name, title in REPORT_COLUMNS.items() if name != "accuracy"} | {
    "logits_magnitude_mean": "LoMa",
    "logits_magnitude_std": "its spread",
    "regularized_std_mean": "RSD",
    "seconds": "seconds",
}
PERCENT = ("balanced_accuracy", "many", "medium", "few", "macro_f1", "ece")


@dataclass(frozen=True)
class Table:
    """The cells of a table, as plain text.

    Attributes:
        header: Titles of the columns.
        rows: Cells of each row; the first one names it.
        caption: What it shows, on a page.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    def to_markdown(self) -> str:
        """Render the table as Markdown; names that a user gave are escaped already."""
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def results_table(reports: Mapping[str, Report | Scores], title: str = "head") -> str:
    """Render a Markdown table with one row for each head, aligned for a terminal too; rates in percent.

    A line below it says where means over classes leave classes out, because they have no test image.

    Args:
        reports: Report of each head, by its name.
        title: Title of the column of names.

    Example:
        >>> import numpy as np
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> report = evaluate(np.eye(2), np.array([0, 1]), np.array([200, 5]))
        >>> print(results_table({"ce": report}))
        | head | accuracy | balanced | many  | medium | few   | macro F1 | ECE  | NLL   |
        | ---- | -------- | -------- | ----- | ------ | ----- | -------- | ---- | ----- |
        | ce   | 100.0    | 100.0    | 100.0 | n/a    | 100.0 | 100.0    | 26.9 | 0.313 |
    """
    rows = [[title, *REPORT_COLUMNS.values()]]
    for name, report in reports.items():
        rows.append([escape(name), *(_rate_cell(report, key) for key in REPORT_COLUMNS)])
    lines = [aligned(rows)]
    if untested := max(report.untested or 0 for report in reports.values()):
        lines += ["", f"Balanced accuracy, groups and F1 leave out classes without a test image: {untested}."]
    return "\n".join(lines)


def scale_table(reports: Mapping[str, Report | Scores], moved: str | None = None) -> str:
    """Render a Markdown table of what depends on the logits' scale: as solved and calibrated; empty if equal.

    Args:
        reports: Report of each head, by its name.
        moved: Name of the head that was moved to a class mix; its numbers here are of before that.

    Example:
        >>> import numpy as np
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> report = evaluate(2 * np.eye(2), np.array([0, 1]), np.array([200, 5]), scale=2.0)
        >>> print(scale_table({"ce": report}))
        | head | logits     | ECE  | NLL   | LoMa | RSD |
        | ---- | ---------- | ---- | ----- | ---- | --- |
        | ce   | as solved  | 26.9 | 0.313 | 1    | 0   |
        | ce   | calibrated | 11.9 | 0.127 | 2    | 0   |
    """
    rows = []
    for name, report in reports.items():
        for logits, numbers in (("as solved", report.as_solved), ("calibrated", report.calibrated)):
            if numbers:
                spread = (numbers.logits_magnitude, numbers.regularized_std)
                cells = ["n/a" if value is None else f"{value:.3g}" for value in spread]
                head = f"{escape(name)}{BEFORE_MOVE if name == moved else ''}"
                rows.append([head, logits, f"{100 * numbers.ece:.1f}", f"{numbers.nll:.3f}", *cells])
    return aligned([["head", "logits", "ECE", "NLL", "LoMa", "RSD"], *rows]) if rows else ""


def mix_table(reports: Mapping[str, Report | Scores]) -> str:
    """Render a Markdown table for the class mix that a head was moved to; empty where it was not moved.

    Args:
        reports: Report of each head, by its name.

    Example:
        >>> import numpy as np
        >>> from dataclasses import replace
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> from lort_hub.evaluation.report import MixScores
        >>> report = evaluate(np.eye(2), np.array([0, 1]), np.array([200, 5]))
        >>> print(mix_table({"ce": replace(report, mix=MixScores("train", 0.9, 0.3, 0.05))}))
        | head | balanced | accuracy at train | ECE at train | NLL at train |
        | ---- | -------- | ----------------- | ------------ | ------------ |
        | ce   | 100.0    | 90.0              | 5.0          | 0.300        |
    """
    moved = {name: (report, report.mix) for name, report in reports.items() if report.mix}
    rows = [
        [
            escape(name),
            f"{100 * report.balanced_accuracy:.1f}",
            *(f"{100 * rate:.1f}" for rate in (mix.accuracy, mix.ece)),
            f"{mix.nll:.3f}",
        ]
        for name, (report, mix) in moved.items()
    ]
    names = [escape(mix.name) for _, mix in moved.values()]
    at = [f"{what} at {name}" for name in names[:1] for what in ("accuracy", "ECE", "NLL")]
    return aligned([["head", "balanced", *at], *rows]) if rows else ""


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Render rows as a Markdown table that is aligned for a terminal too.

    Args:
        rows: The header, and at least one row.

    Example:
        >>> print(aligned([["head", "n"], ["ce", "2"]]))
        | head | n |
        | ---- | - |
        | ce   | 2 |
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in rows
    )


def _rate_cell(report: Report | Scores, key: str) -> str:
    value = getattr(report, key)
    if value is None:
        return "n/a"
    if key == "nll":
        return f"{value + 0:.3f}"
    interval = getattr(report.interval, key, None)
    suffix = f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""
    return f"{100 * value:.1f}{suffix}"


def result_row(report: Report, class_counts: Array | Tensor, **origin: Any) -> ResultRow:
    """Build a row of results.csv from a report.

    Args:
        report: Report of the head.
        class_counts: Training images (K,).
        origin: Fields of `ResultRow` that are not in the report: method, seed, seconds, chosen, cell.

    Example:
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> report = evaluate(np.eye(2), np.array([0, 1]), np.array([9, 1]))
        >>> origin = {"method": "ce", "seed": 0, "seconds": 0.1, "chosen": {}}
        >>> result_row(report, np.array([9, 1]), **origin).balanced_accuracy
        1.0
    """
    names = ("accuracy", "balanced_accuracy", "many", "medium", "few", "macro_f1", "nll", "ece", "n")
    norms = report.weight_norm
    return ResultRow(
        **origin,
        **{name: getattr(report, name) for name in names},
        logits_magnitude_mean=report.logits_magnitude.mean,
        logits_magnitude_std=report.logits_magnitude.std,
        regularized_std_mean=report.regularized_std.mean,
        regularized_std_std=report.regularized_std.std,
        weight_norm_spread=norms.std / norms.mean if norms and norms.mean and norms.std is not None else None,
        shifted=shifted_accuracy(report.per_class_accuracy, to_array(class_counts)),
    )


def comparison_table(rows: Sequence[ResultRow], tests: Mapping[str, Mapping[str, float]]) -> Table:
    """Build the table of methods: mean and spread over seeds, corrected p-values; rates in percent.

    Args:
        rows: Rows of one data cell.
        tests: Columns of p-values by title, each by method.

    Example:
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> report = evaluate(np.eye(2), np.array([0, 1]), np.array([200, 5]))
        >>> row = result_row(report, np.array([200, 5]), method="ce", seed=0, seconds=0.1, chosen={})
        >>> comparison_table([row], {"p vs best": {"ce": 1.0}}).rows[0][:3]
        ('ce', '100.0', '100.0')
    """
    lines = []
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        cells = [_mean_cell([getattr(row, name) for row in own], name) for name in COMPARISON_COLUMNS]
        p_values = (column.get(method) for column in tests.values())
        cells += ["" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}" for p in p_values]
        lines.append((method, *cells, "; ".join(dict.fromkeys(_settings(row) for row in own))))
    return Table(("method", *COMPARISON_COLUMNS.values(), *tests, "chosen"), tuple(lines))


def study_table(rows: Sequence[ResultRow]) -> str:
    """Render a Markdown table of an ablation: its settings, then the numbers of the head; rates in percent.

    Args:
        rows: Rows of the ablation; `chosen` holds the settings.

    Example:
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> report = evaluate(np.eye(2), np.array([0, 1]), np.array([200, 5]))
        >>> row = result_row(report, np.array([200, 5]), method="lr", seed=0, seconds=0.1, chosen={"lr": 0.1})
        >>> study_table([row]).splitlines()[2][:21]
        '| 0.1 | 100.0 | 100.0'
    """
    names = [name for name in COMPARISON_COLUMNS if name != "seconds"]
    lines = []
    for row in rows:
        settings = ["n/a" if value is None else str(value) for value in row.chosen.values()]
        lines.append((*settings, *(_mean_cell([getattr(row, name)], name) for name in names)))
    header = (*rows[0].chosen, *(COMPARISON_COLUMNS[name] for name in names))
    return Table(header, tuple(lines)).to_markdown()


def shift_table(rows: Sequence[ResultRow]) -> Table | None:
    """Build the table of accuracy under shifted test priors; None where no head was adapted.

    Args:
        rows: Rows of one data cell, whose heads were moved to their estimates of the priors.

    Example:
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> from dataclasses import replace
        >>> report = evaluate(np.eye(2), np.array([0, 1]), np.array([200, 5]))
        >>> row = result_row(report, np.array([200, 5]), method="ce", seed=0, seconds=0.1, chosen={})
        >>> found = {"uniform": 0.5, "uniform em": 0.6, "uniform bbse": 0.6, "uniform oracle": 0.7}
        >>> print(shift_table([replace(row, shifted=found)]).to_markdown())
        | method | test prior | as is | EM | BBSE | oracle |
        | --- | --- | --- | --- | --- | --- |
        | ce | uniform | 50.0 | 60.0 | 60.0 | 70.0 |
    """
    lines = []
    adapted = [row for row in rows if any(name.endswith(" oracle") for name in row.shifted)]
    for method in dict.fromkeys(row.method for row in adapted):
        own = [row.shifted for row in adapted if row.method == method]
        for prior in (name for name in own[0] if f"{name} oracle" in own[0]):
            names = (prior, *(f"{prior} {how}" for how in ("em", "bbse", "oracle")))
            cells = [f"{100 * np.mean([one[name] for one in own]):.1f}" for name in names]
            lines.append((method, prior, *cells))
    return Table(("method", "test prior", "as is", "EM", "BBSE", "oracle"), tuple(lines)) if lines else None


def _mean_cell(values: Sequence[Number], name: str) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "n/a"
    scale, form = (100, ".1f") if name in PERCENT else (1, ".3f" if name == "nll" else ".3g")
    text = f"{scale * np.mean(numbers):{form}}"
    return text if len(numbers) == 1 else f"{text} ± {scale * np.std(numbers, ddof=1):{form}}"


def _settings(row: ResultRow) -> str:
    method = row.chosen.get("method", row.method)
    return ", ".join(
        f"{name} {value if isinstance(value, str) else f'{value:.3g}'}"
        for name, value in shown_settings(method, row.chosen).items()
    )
