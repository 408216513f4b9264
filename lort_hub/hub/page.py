"""Render the page of a run: its test, what was chosen and why, and how to do it again."""

from __future__ import annotations

from torch import Tensor

from lort_hub.data.dataset import ImageSplit
from lort_hub.evaluation.arrays import Array, to_array
from lort_hub.evaluation.report import MetricsRecord
from lort_hub.evaluation.report_page import Answers, Facts, how_to_repeat, render_report
from lort_hub.evaluation.tables import Table
from lort_hub.heads.methods import STACK, STAGE1
from lort_hub.hub.card_text import source_name
from lort_hub.hub.run_record import decided_mix
from lort_hub.records import ClassMix, RunRecord

MIXES = {
    "training": "the class mix of the training images",
    "balanced": "classes that are equally likely",
    "inverse": "a mix of mostly rare classes",
}


def render_run(
    metrics: MetricsRecord,
    run: RunRecord,
    images: ImageSplit | None = None,
    logits: Array | Tensor | None = None,
) -> str:
    """Render report.html of an output folder from its records.

    Args:
        metrics: Content of metrics.json.
        run: Content of run.json.
        images: The test images; None to show none.
        logits: Logits (N, K) of the head on them; None to show no mistakes.

    Example:
        >>> page = render_run(metrics, run, data.test, fit.logits(test.x))  # doctest: +SKIP
    """
    reports = {run.baseline.name: metrics.baseline} if run.baseline and metrics.baseline else {}
    reports |= {**(metrics.others or {}), run.head.method: metrics.test}
    answers = None
    if images is not None and logits is not None:
        answers = Answers(run.head.method, to_array(logits), images.labels, images)
    counts = run.data.class_counts
    return render_report(
        f"{source_name(run.backbone)}, {run.head.method}, {run.data.name}",
        reports,
        run.class_names,
        class_counts=counts,
        answers=answers,
        subtitle=f"{sum(counts):,} training images of {len(counts):,} classes, {max(counts):,} down to "
        f"{min(counts):,} each",
        notes=_about_data(metrics, run),
        facts=[_chosen(metrics, run), _reproduce(run)],
    )


def _chosen(metrics: MetricsRecord, run: RunRecord) -> Facts:
    """The head: its method, settings and members, and by what they were chosen."""
    head, selection, settings = run.head, metrics.selection, run.head.settings
    rows = [("method", f"{head.method}: {head.summary}" if head.summary else head.method)]
    if head.method != STACK and settings:
        rows.append(
            ("settings", ", ".join(f"{_words(name)} {value:.4g}" for name, value in settings.items()))
        )
    if selection and selection.why:
        rows.append(("why", selection.why))
    if selection and selection.candidates:
        rows.append(
            ("settings chosen by", f"{selection.by}, among {len(selection.candidates)}, {selection.how}")
        )
    if run.arguments.get("refit") and head.method != STAGE1:
        rows.append(("chosen", "by an earlier run, on held-out training images; nothing was chosen here"))
    rows.append(_mix(run))
    if metrics.baseline and run.baseline:
        rows.append(("compared with", f"{run.baseline.name}: {run.baseline.note}"))
    rows.append(("test images", "had no part in any choice"))
    return Facts("What was chosen, and why", tuple(rows), table=_candidates(metrics, run))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _mix(run: RunRecord) -> tuple[str, str]:
    head = run.head
    if head.mix and head.mix.is_moved:
        shares = _largest(head.mix, run.class_names)
        return "probabilities hold for", f"the class mix '{head.mix.name}' (largest shares: {shares})"
    return "decides for", MIXES[decided_mix(head, run.data.class_counts)]


def _largest(mix: ClassMix, class_names: tuple[str, ...]) -> str:
    order = sorted(range(len(class_names)), key=lambda k: -mix.shares[k])[:5]
    return ", ".join(f"{class_names[k]} {100 * mix.shares[k]:.1f} %" for k in order)


def _candidates(metrics: MetricsRecord, run: RunRecord) -> Table | None:
    """The methods tried, the best score first, with their weights in a sum; None where one was given."""
    scores = (metrics.selection and metrics.selection.methods) or {}
    weights = run.head.settings if run.head.method == STACK else {}
    if not scores:
        return None
    losses = all(score <= 0 for score in scores.values())  # of log-likelihoods
    rows = []
    for name in sorted(scores, key=lambda name: -scores[name]):
        score = f"{-scores[name]:.3f}" if losses else f"{100 * scores[name]:.1f}"
        weight = "the sum" if name == STACK else f"{weights[name]:.3f}" if name in weights else "left out"
        rows.append((name, score, *([weight] if weights else [])))
    header = (
        "method",
        f"held-out {'NLL' if losses else 'score'}",
        *(["weight in the sum"] if weights else []),
    )
    return Table(header, tuple(rows), "Methods tried, the best first")


def _reproduce(run: RunRecord) -> Facts:
    """The command, the software, the data and their checksums."""
    backbone, data = run.backbone, run.data
    of_backbone = f" at revision {backbone.revision}" if backbone.revision else ""
    of_data = f" at revision {data.revision}" if data.revision else ""
    of_cut = "" if data.subset_seed is None else f" with seed {data.subset_seed}"
    rows = [
        ("seed", str(run.arguments.get("seed", ""))),
        ("backbone", f"{backbone.source}{of_backbone}, sha256 {backbone.sha256}"),
        ("data", f"{data.dataset}{of_data}"),
        ("cut", f"imbalance {data.imbalance}, subset {data.subset}{of_cut}"),
        ("training images", f"{sum(data.class_counts):,} of '{data.train_split}', sha256 {data.fingerprint}"),
        ("test images", f"'{data.test_split}', sha256 {data.test_fingerprint}"),
        ("left out", f"{len(data.left_out)} images that cannot be decoded" if data.left_out else ""),
    ]
    if run.environment.command is None:
        rows.insert(0, ("made", "in Python, with lort_hub.save_output"))
    return how_to_repeat(run.environment, rows)


def _about_data(metrics: MetricsRecord, run: RunRecord) -> list[str]:
    notes = [metrics.note] if metrics.note else []
    if copies := run.data.duplicates.test if run.data.duplicates else 0:
        notes.append(
            f"{copies:,} test images are training images too, byte for byte (duplicates.csv lists them), so "
            "that the numbers are too rosy."
        )
    return notes
