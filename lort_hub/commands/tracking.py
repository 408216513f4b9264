"""Log the results of a run in the experiment trackers that Accelerate started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lort_hub.evaluation.report import Report
from lort_hub.evaluation.tables import GROUPS, REPORT_COLUMNS, results_table

if TYPE_CHECKING:
    from accelerate import Accelerator


def track_results(accelerator: Accelerator, reports: Mapping[str, Report], plots: Path) -> None:
    """Log the scores of each head, a table of them and the plots, and end the trackers.

    Args:
        accelerator: The recipe's Accelerator, on its first process.
        reports: Report of each head, by its method.
        plots: Folder of the plots.

    Example:
        >>> from accelerate import Accelerator
        >>> track_results(Accelerator(cpu=True), {}, Path("out/plots"))
    """
    rows = []
    for method, report in reports.items():
        scores = {name: getattr(report, name) for name in REPORT_COLUMNS}
        rows.append({"method": method, **scores})
        accelerator.log({f"{method}/{name}": score for name, score in scores.items() if score is not None})
    track_output(accelerator, rows, results_table(reports) if reports else "", plots)


def track_output(accelerator: Accelerator, rows: Sequence[dict[str, Any]], text: str, folder: Path) -> None:
    """Log a table and the plots beside it, and end the trackers.

    A tracker without tables gets the text, one without pictures no plots.

    Args:
        accelerator: The recipe's Accelerator, on its first process.
        rows: Rows of the table, all with the same columns.
        text: The table in Markdown.
        folder: Folder of the plots, PNG files.

    Example:
        >>> from accelerate import Accelerator
        >>> track_output(Accelerator(cpu=True), [{"method": "ce"}], "| ce |", Path("out"))
    """
    for tracker in accelerator.trackers:
        if hasattr(tracker, "log_table"):
            data = [list(row.values()) for row in rows]
            tracker.log_table("results", columns=list(rows[0]), data=data)
        else:
            tracker.log({"results": text})
        if hasattr(tracker, "log_images"):
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images(_pictures(folder), **layout)
    accelerator.end_training()


def held_out_scores(report: Report) -> dict[str, float]:
    """Name the accuracies on held-out images for the row of an epoch; those of empty groups are left out.

    Args:
        report: Report on the held-out images.

    Example:
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> report = evaluate(np.eye(2), np.array([0, 1]), np.array([200, 5]))
        >>> held_out_scores(report)
        {'held_out_balanced_accuracy': 1.0, 'held_out_many': 1.0, 'held_out_few': 1.0}
    """
    scores = {name: getattr(report, name) for name in ("balanced_accuracy", *GROUPS)}
    return {f"held_out_{name}": score for name, score in scores.items() if score is not None}


def _pictures(folder: Path) -> dict[str, Any]:
    """Load each PNG as a batch of one (1, height, width, 3)."""
    files = sorted(folder.glob("*.png"))
    return {path.stem: np.asarray(Image.open(path).convert("RGB"))[None] for path in files}
