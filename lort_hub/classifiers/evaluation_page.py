"""Render the page of an evaluation: all models' numbers, and what the first one gets wrong."""

from __future__ import annotations

from lort_hub.classifiers.evaluate import Evaluation
from lort_hub.classifiers.record import EvaluationRecord
from lort_hub.evaluation.report_page import Answers, Facts, how_to_repeat, render_report
from lort_hub.evaluation.tables import Table
from lort_hub.records import Environment


def render_evaluation(evaluation: Evaluation, record: EvaluationRecord, environment: Environment) -> str:
    """Render report.html of an evaluation.

    Args:
        evaluation: The evaluation.
        record: Its record.
        environment: Software of the run.

    Example:
        >>> page = render_evaluation(evaluation, record, environment)  # doctest: +SKIP
    """
    first, *others = evaluation.results
    return render_report(
        f"{first.name if not others else f'{len(evaluation.results)} models'} on {record.name}",
        {one.name: one.report for one in (*others, first)},
        (*evaluation.class_names, *first.classifier.column_names),
        class_counts=record.class_counts,
        answers=Answers(first.name, first.logits, evaluation.test.labels, evaluation.test),
        subtitle=evaluation.describe(),
        notes=record.notes,
        facts=[*([_differences(record)] if others else []), _reproduce(record, environment)],
        kind="model",
    )


def _differences(record: EvaluationRecord) -> Facts:
    """How much better each model is than the first."""
    rows = []
    for name, model in record.models.items():
        if found := model.difference:
            low, high = (f"{100 * end:+.1f}" for end in found.interval)
            p = "< 0.001" if found.p < 0.001 else f"{found.p:.3f}"
            rows.append((name, f"{100 * found.difference:+.1f} ({low} to {high})", p))
    first = next(iter(record.models))
    how = (
        "Intervals of 95 %: paired bootstrap over the test images of each class. "
        "p-values: sign flips of the images' differences, corrected by Holm's method. "
        "Both are of these models on other test images; not of other draws of the training images."
    )
    header = ("model", "balanced accuracy, difference", "p")
    return Facts(f"Compared with {first}", (("how", how),), table=Table(header, tuple(rows)))


def _reproduce(record: EvaluationRecord, environment: Environment) -> Facts:
    """The command, the software, the data, the models and their checksums."""
    at = f" at revision {record.revision}" if record.revision else ""
    rows = [
        ("data", f"{record.dataset}{at}, '{record.test_split}', sha256 {record.fingerprint}"),
        ("training counts", record.counts_from),
    ]
    for name, model in record.models.items():
        of = f"{model.source} at revision {model.revision}" if model.revision else model.source
        rows.append((name, f"{of} ({model.library}, {model.image_size} px), sha256 {model.sha256}"))
    return how_to_repeat(environment, rows)
