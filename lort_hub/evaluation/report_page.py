"""Render what a test says of heads or models as a page: numbers, the tail, mistakes, calibration, facts."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lort_hub.data.dataset import BadImageError, ImageSplit
from lort_hub.evaluation.arrays import Array
from lort_hub.evaluation.html import data_address, render_page, thumbnail
from lort_hub.evaluation.mistakes import Mistakes, find_mistakes
from lort_hub.evaluation.plots import plot_accuracy, plot_reliability
from lort_hub.evaluation.report import Report
from lort_hub.evaluation.tables import BEFORE_MOVE, GROUPS, Table
from lort_hub.records import Environment

TEMPLATE = Path(__file__).parent / "templates" / "report.html"
COLUMNS = {
    "balanced_accuracy": "balanced accuracy",
    **{name: name for name in GROUPS},
    "ece": "ECE",
    "nll": "NLL",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
}


@dataclass(frozen=True)
class Answers:
    """What one head or model says of the test images.

    Attributes:
        name: Name of its report.
        logits: Logits (N, K).
        labels: Labels (N,).
        images: The test images, in the same order; None to show no pictures.
    """

    name: str
    logits: Array
    labels: Array
    images: ImageSplit | None = None


@dataclass(frozen=True)
class Facts:
    """A section of the page: lines of plain text, each with a name.

    Attributes:
        title: Heading of the section.
        rows: Name and text of each line.
        command: A command above them.
        table: A table below them.
    """

    title: str
    rows: tuple[tuple[str, str], ...]
    command: str | None = None
    table: Table | None = None


def how_to_repeat(environment: Environment, rows: Sequence[tuple[str, str]] = ()) -> Facts:
    """List what it takes to do a run again: its command, the software, and more.

    Args:
        environment: Software of the run.
        rows: Further lines, such as those of the data; a line without text is left out.

    Example:
        >>> facts = how_to_repeat(Environment("lort-hub retrain", None, "3.12.1", {"torch": "2.9"}))
        >>> facts.command, facts.rows
        ('lort-hub retrain', (('Python', '3.12.1'), ('versions', 'torch 2.9')))
    """
    software = [
        ("Python", environment.python),
        ("versions", ", ".join(f"{name} {version}" for name, version in environment.versions.items())),
        ("commit of the recipe", environment.git_revision or ""),
    ]
    known = tuple(row for row in (*rows, *software) if row[1])
    return Facts("How to make it again", known, command=environment.command)


def render_report(
    title: str,
    reports: Mapping[str, Report],
    class_names: Sequence[str],
    *,
    class_counts: Sequence[int] | None = None,
    answers: Answers | None = None,
    subtitle: str = "",
    notes: Sequence[str] = (),
    facts: Sequence[Facts] = (),
    kind: Literal["head", "model"] = "head",
) -> str:
    """Render the page of a test: self-contained, of at most some megabytes, every text escaped.

    Args:
        title: Heading of the page.
        reports: Report of each head or model, by name: those it is compared with first, itself last.
        class_names: Names of the K classes, and of further columns of the logits.
        class_counts: Training images (K,); None where nobody knows them, and groups are "n/a" then.
        answers: What one of them says of the images, to show its mistakes; None to leave them out.
        subtitle: A line below the heading.
        notes: Lines below the table, such as that test images are training images too.
        facts: Further sections, at the end.
        kind: What the reports are of.

    Example:
        >>> import numpy as np
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> logits, labels = np.eye(2), np.array([0, 0])
        >>> report = evaluate(logits, labels, [200, 5])
        >>> answers = Answers("lort", logits, labels)
        >>> page = render_report("Cats", {"lort": report}, ["<cat>", "dog"], answers=answers)
        >>> "&lt;cat&gt;" in page, "<cat>" in page
        (True, False)
    """
    mistakes = find_mistakes(answers.logits, answers.labels) if answers else None
    head = list(reports.values())[-1]
    return render_page(
        TEMPLATE,
        title=title,
        subtitle=subtitle,
        numbers=[(name, _numbers(report, class_counts is not None)) for name, report in reports.items()],
        columns=COLUMNS,
        report=head,
        class_names=class_names,
        counts=class_counts,
        notes=notes,
        mixes={name: one.mix for name, one in reports.items() if one.mix},
        tail=_plot(plot_accuracy, class_counts, reports),
        answers=answers,
        mistakes=mistakes,
        pictures=_pictures(mistakes, answers.images) if mistakes and answers else {},
        reliability=_plot(plot_reliability, reports),
        scales={
            f"{name}{BEFORE_MOVE if one.mix and one is head else ''}": (one.as_solved, one.calibrated)
            for name, one in reports.items()
            if one.as_solved
        },
        facts=facts,
        kind=kind,
    )


class _Cell(NamedTuple):
    """A number as text, and its interval."""

    value: str
    interval: Sequence[str] = ()


def _numbers(report: Report, grouped: bool) -> list[_Cell]:
    cells = []
    for column in COLUMNS:
        value = getattr(report, column)
        ends = getattr(report.interval, column, None)
        if value is None or (column in GROUPS and not grouped):
            cells.append(_Cell("n/a"))
        elif column == "nll":
            cells.append(_Cell(f"{value + 0:.3f}"))
        else:
            cells.append(_Cell(f"{100 * value:.1f}", [f"{100 * end:.1f}" for end in ends or ()]))
    return cells


@dataclass(frozen=True)
class _Picture:
    """A test image on the page: its name, and its thumbnail or why there is none."""

    name: str
    thumbnail: str | None
    why_not: str = ""


def _pictures(mistakes: Mistakes, images: ImageSplit | None) -> dict[int, _Picture]:
    """The pictures of all mistakes that are shown, by position."""
    examples = [one.examples for one in mistakes.worst] + [one.examples for one in mistakes.confusions]
    shown = {one.position for some in (*examples, mistakes.confident) for one in some}
    return {at: _picture(images, at) for at in sorted(shown)} if images is not None else {}


def _picture(images: ImageSplit, at: int) -> _Picture:
    name = f"row {images.rows[at]}"
    try:
        [encoded] = images.encoded([at])
        path = encoded.get("path") if encoded else None
        name = images.name_of(path) if path else name
        return _Picture(name, thumbnail(images.decode(at, encoded)))
    except BadImageError as error:
        return _Picture(name, None, error.reason)
    except (OSError, ValueError) as error:  # the table of the images is gone, or damaged
        return _Picture(name, None, f"{type(error).__name__}: {error}")


def _plot(plot: Any, *values: Any) -> str:
    file = io.BytesIO()
    plot(file, *values)
    return data_address(file.getvalue(), "image/svg+xml")
