"""Write an evaluation as a folder: numbers, tables and plots, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lort_hub import records
from lort_hub.classifiers.evaluate import Evaluated, Evaluation
from lort_hub.classifiers.evaluation_page import render_evaluation
from lort_hub.classifiers.record import EvaluationRecord, EvaluationRun
from lort_hub.data.overlap import write_duplicates
from lort_hub.evaluation.html import write_page
from lort_hub.evaluation.markdown import escape
from lort_hub.evaluation.metrics import class_groups
from lort_hub.evaluation.plots import write_plots
from lort_hub.evaluation.report import Number
from lort_hub.evaluation.tables import aligned, results_table
from lort_hub.files import atomic_folder, check_output_dir, write_csv, write_json
from lort_hub.records import Environment
from lort_hub.run_log import RunLog
from lort_hub.spreadsheets import harmless_rows

MOST_CONFUSIONS = 500
"""Rows of confusions.csv for each classifier."""


def write_evaluation(
    folder: Path | str,
    evaluation: Evaluation,
    *,
    overwrite: bool = False,
    arguments: Mapping[str, Any] | None = None,
    environment: Environment | None = None,
    log: RunLog | None = None,
) -> None:
    """Write the page, the records, the tables as Markdown and CSV, the plots and the log.

    Args:
        folder: Output folder.
        evaluation: The evaluation.
        overwrite: Replace an output folder that is there already.
        arguments: Arguments of a recipe, by name; None for a run from Python.
        environment: Software of the run; None to collect it.
        log: Events of the run; None where none were recorded.

    Raises:
        CheckpointError: The folder is not empty, or cannot be written.

    Example:
        >>> write_evaluation("out/evaluation", evaluation)  # doctest: +SKIP
    """
    folder = Path(folder)
    check_output_dir(folder, overwrite=overwrite)
    record = EvaluationRecord.of(evaluation)
    environment = environment or records.environment()
    run = EvaluationRun(dict(arguments or {}), environment, dict(log.seconds if log else {}))
    page = render_evaluation(evaluation, record, environment)
    lines = [f"# {escape(record.name)}", escape(evaluation.describe()), tables(evaluation)]
    lines.append("\n".join(f"- {escape(note)}" for note in record.notes))
    with atomic_folder(folder, overwrite=overwrite) as staged:
        write_page(staged / "report.html", page)
        write_json(staged / "metrics.json", record.to_json())
        write_json(staged / "run.json", run.to_json())
        text = "\n\n".join(part for part in lines if part) + "\n"
        (staged / "results.md").write_text(text, encoding="utf-8", errors="replace")
        write_csv(staged / "results.csv", harmless_rows(result_rows(evaluation)))
        write_csv(staged / "per_class.csv", harmless_rows(per_class_rows(evaluation)))
        if rows := confusion_rows(evaluation):
            write_csv(staged / "confusions.csv", harmless_rows(rows))
        if log:
            log.write(staged)
        write_duplicates(staged, evaluation.data.duplicates)
        write_plots(staged / "plots", record.class_counts, evaluation.reports)


def tables(evaluation: Evaluation) -> str:
    """Render the numbers of all classifiers as Markdown tables that a terminal shows too.

    Args:
        evaluation: The evaluation.

    Example:
        >>> print(tables(evaluation))  # doctest: +SKIP
        | model | accuracy | balanced | ...
    """
    labels = evaluation.test.labels
    rows = [["model", "worst class", "LoMa", "its spread", "RSD", "classes it lacks"]]
    if len(evaluation.results) > 1:
        rows[0] += ["balanced, minus the first", "p"]
    for one in evaluation.results:
        report = one.report
        worst = f"{escape(evaluation.class_names[report.worst_class.class_])} "
        cells = [escape(one.name), f"{worst}{100 * report.worst_class.accuracy:.1f}"]
        magnitude = report.logits_magnitude
        cells += [_cell(value) for value in (magnitude.mean, magnitude.std, report.regularized_std.mean)]
        lacking, images = one.classifier.classes.missing, int((~one.classifier.classes.known[labels]).sum())
        cells.append(f"{len(lacking):,} ({images:,} images wrong, not in its NLL)" if lacking else "0")
        if found := one.difference:
            low, high = (100 * end for end in found.interval)
            cells.append(f"{100 * found.difference:+.1f} [{low:+.1f}, {high:+.1f}]")
            cells.append("< 0.001" if found.p < 0.001 else f"{found.p:.3f}")
        rows.append(cells + [""] * (len(rows[0]) - len(cells)))
    return f"{results_table(evaluation.reports, 'model')}\n\n{aligned(rows)}"


def _cell(value: Number) -> str:
    return "n/a" if value is None else f"{value:.3g}"


def result_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Build the rows of results.csv, one for each classifier; rates are fractions.

    Args:
        evaluation: The evaluation.

    Example:
        >>> result_rows(evaluation)[0]["balanced_accuracy"]  # doctest: +SKIP
        0.91
    """
    names = ("accuracy", "balanced_accuracy", "many", "medium", "few", "macro_f1", "nll", "ece", "n")
    rows = []
    for one in evaluation.results:
        report, found = one.report, one.difference
        rows.append(
            {
                "model": one.name,
                **{name: getattr(report, name) for name in names},
                "worst_class": evaluation.class_names[report.worst_class.class_],
                "worst_class_accuracy": report.worst_class.accuracy,
                "logits_magnitude_mean": report.logits_magnitude.mean,
                "logits_magnitude_std": report.logits_magnitude.std,
                "regularized_std_mean": report.regularized_std.mean,
                "missing_classes": len(one.classifier.classes.missing),
                "unused_classes": len(one.classifier.classes.unused),
                "difference": found and found.difference,
                "difference_low": found and found.interval[0],
                "difference_high": found and found.interval[1],
                "p": found and found.p,
            }
        )
    return rows


def per_class_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Build the rows of per_class.csv; columns of further classifiers end in their names.

    Args:
        evaluation: The evaluation.

    Example:
        >>> per_class_rows(evaluation)[0]["name"]  # doctest: +SKIP
        'cat'
    """
    counts, names = evaluation.training.counts, evaluation.class_names
    tested = np.bincount(evaluation.test.labels, minlength=len(names))
    group_of: dict[int, str] = {}
    if counts is not None:
        groups = class_groups(counts, evaluation.results[0].report.thresholds)
        group_of = {int(k): group for group, classes in groups.items() for k in classes}
    rows: list[dict[str, Any]] = [
        {
            "class": k,
            "name": name,
            "train_images": None if counts is None else int(counts[k]),
            "test_images": int(tested[k]),
            "group": group_of.get(k),
        }
        for k, name in enumerate(names)
    ]
    for place, one in enumerate(evaluation.results):
        suffix = f" of {one.name}" if place else ""
        confused = {row["class"]: row["predicted"] for row in reversed(_confusions(one, evaluation))}
        report, norms = one.report, one.report.weight_norm
        for k, row in enumerate(rows):
            row[f"accuracy{suffix}"] = report.per_class_accuracy[k]
            row[f"confused_with{suffix}"] = confused.get(names[k])
            row[f"logits_magnitude{suffix}"] = report.logits_magnitude.per_class[k]
            row[f"regularized_std{suffix}"] = report.regularized_std.per_class[k]
            row[f"weight_norm{suffix}"] = norms.per_class[k] if norms else None
    return rows


def confusion_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Build the rows of confusions.csv: wrong answers, the most frequent first.

    Args:
        evaluation: The evaluation.

    Example:
        >>> confusion_rows(evaluation)[0]  # doctest: +SKIP
        {'model': 'out/photos', 'class': 'cat', 'predicted': 'lynx', 'images': 7, 'of': 20}
    """
    return [
        {"model": one.name, **row}
        for one in evaluation.results
        for row in _confusions(one, evaluation)[:MOST_CONFUSIONS]
    ]


def _confusions(one: Evaluated, evaluation: Evaluation) -> list[dict[str, Any]]:
    labels, predicted, own = evaluation.test.labels, one.predicted, evaluation.class_names
    columns: Sequence[str] = (*own, *one.classifier.column_names)
    wrong = predicted != labels
    pairs, images = np.unique(np.stack([labels, predicted])[:, wrong], axis=1, return_counts=True)
    tested = np.bincount(labels, minlength=len(own))
    return [
        {
            "class": own[label],
            "predicted": columns[answer],
            "images": int(images[at]),
            "of": int(tested[label]),
        }
        for at in np.argsort(-images, kind="stable")
        for label, answer in [pairs[:, at].tolist()]
    ]
