"""Write what an audit found: a page to send to a colleague, a record, and lists of images."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from lort_hub.audit.collect import Audit
from lort_hub.audit.record import AuditRecord, LabelCounts, Place
from lort_hub.data.dataset import BadImageError
from lort_hub.evaluation.html import data_address, render_page, thumbnail, write_page
from lort_hub.evaluation.plots import plot_tail
from lort_hub.files import atomic_folder, write_csv, write_json
from lort_hub.records import Environment
from lort_hub.run_log import RunLog
from lort_hub.spreadsheets import harmless_rows

TEMPLATE = Path(__file__).parent / "templates" / "audit.html"
SETS, OF_A_SET, LABELS, LINES = 30, 4, 40, 500
"""Most sets of copies on the page, images of a set, suspicious labels, and rows of a table."""


def make_record(
    audit: Audit,
    *,
    plan: Sequence[str],
    findings: Sequence[str],
    groups: tuple[int, int],
    backbone: str | None,
    arguments: Mapping[str, Any],
    environment: Environment,
) -> AuditRecord:
    """Make the record of an audit.

    Args:
        audit: What was found.
        plan: What a recipe would do with the data, a line each.
        findings: What should be looked at, from `list_findings`.
        groups: Training images of a class below which it is few-shot, and above which many-shot.
        backbone: Source of the features, where labels were judged.
        arguments: Arguments of the recipe, by name.
        environment: Software.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> from lort_hub.records import environment
        >>> options = {"plan": [], "findings": [], "groups": (20, 100), "backbone": None, "arguments": {}}
        >>> audit = Audit.collect(load_long_tailed("digits"))
        >>> make_record(audit, environment=environment(), **options).imbalance_ratio.__round__(2)
        10.67
    """
    classes, of_groups = audit.count_classes(groups)
    labels = None
    if audit.labels is not None:
        number, agreement = len(audit.labels.suspicious), round(audit.labels.agreement, 4)
        labels = LabelCounts(backbone or "", agreement, number, audit.labels.judged)
    counts = audit.data.class_counts
    return AuditRecord(
        arguments=dict(arguments),
        environment=environment,
        name=audit.data.name,
        dataset=audit.data.source["dataset"],
        training=len(audit.data.train),
        test=len(audit.data.test),
        plan=tuple(plan),
        findings=tuple(findings),
        imbalance_ratio=float(counts.max() / counts.min()),
        thresholds=groups,
        classes=classes,
        groups=tuple(of_groups),
        widths=audit.spread("width"),
        heights=audit.spread("height"),
        modes=audit.count_by("mode"),
        formats=audit.count_by("format"),
        broken=len(audit.broken),
        copies=audit.count_repeats(audit.copy_sets),
        near_duplicates=audit.count_repeats(audit.near_sets),
        near_pairs=len(audit.pairs),
        labels=labels,
    )


def write_audit(
    folder: Path, audit: Audit, record: AuditRecord, *, overwrite: bool = False, log: RunLog | None = None
) -> None:
    """Write audit.html, audit.json and a CSV for each list that is not empty.

    Args:
        folder: The output folder.
        audit: What was found.
        record: Its record.
        overwrite: Replace an output folder that is there already.
        log: Log of the run, for log.jsonl.

    Raises:
        CheckpointError: The folder is not empty, or cannot be written.

    Example:
        >>> write_audit(Path("out/audit"), audit, record)  # doctest: +SKIP
    """
    page = _page(audit, record)
    with atomic_folder(folder, overwrite=overwrite) as staged:
        write_page(staged / "audit.html", page)
        write_json(staged / "audit.json", record.to_json())
        if log:
            log.write(staged)
        for name, rows in _lists(audit).items():
            if rows:
                write_csv(staged / f"{name}.csv", harmless_rows(rows))


def _lists(audit: Audit) -> dict[str, list[dict[str, Any]]]:
    def of(at: int, prefix: str = "") -> dict[str, Any]:
        return {f"{prefix}{name}": value for name, value in audit.place(at)._asdict().items()}

    names = audit.data.class_names
    labels = audit.labels.suspicious if audit.labels else ()
    return {
        "broken_images": [{**of(at), "why": why} for at, why in audit.broken.items()],
        "duplicates": [one._asdict() for one in audit.copies],
        "near_duplicates": [
            {
                **of(pair.first),
                **of(pair.second, "other_"),
                "similarity": pair.similarity,
                "mirrored": pair.mirrored,
            }
            for pair in audit.pairs
        ],
        "suspicious_labels": [
            {
                **of(one.row),
                "predicted": names[one.predicted],
                "margin": round(one.margin, 3),
                "neighbours": " | ".join(names[audit.class_of[at]] for at in one.neighbours),
            }
            for one in labels
        ],
    }


@dataclass(frozen=True)
class _Picture:
    """An image on the page: where it is, its name there, and its thumbnail; none where it is broken."""

    place: Place
    name: str
    thumbnail: str | None = None


def _page(audit: Audit, record: AuditRecord) -> str:
    plot = io.BytesIO()
    plot_tail(plot, [one.training for one in record.classes], record.thresholds)
    classes, names = record.classes, audit.data.class_names
    return render_page(
        TEMPLATE,
        title=f"Audit of {record.name}",
        record=record,
        plot=data_address(plot.getvalue(), "image/svg+xml"),
        classes=classes if len(classes) <= LINES else (*classes[: LINES // 2], *classes[-LINES // 2 :]),
        broken=[(_named(audit, at), why) for at, why in islice(audit.broken.items(), LINES)],
        copies=_shown_sets(audit, audit.copy_sets),
        copy_sets=len(audit.copy_sets),
        near=_shown_sets(audit, audit.near_sets),
        near_sets=len(audit.near_sets),
        suspicious=[
            (names[one.label], names[one.predicted], _shown(audit, (one.row, *one.neighbours)[:OF_A_SET]))
            for one in (audit.labels.suspicious[:LABELS] if audit.labels else ())
        ],
    )


def _shown_sets(audit: Audit, sets: Sequence[tuple[int, ...]]) -> list[tuple[int, list[_Picture]]]:
    """The first sets, each with its size and some of its images: of as many classes as there are."""
    shown = []
    for one in sets[:SETS]:
        first_of_class = {int(audit.class_of[at]): at for at in reversed(one)}.values()
        order = [*first_of_class, *(at for at in one if at not in first_of_class)]
        shown.append((len(one), _shown(audit, order[:OF_A_SET])))
    return shown


def _shown(audit: Audit, positions: Iterable[int]) -> list[_Picture]:
    pictures = []
    for at in positions:
        named = _named(audit, at)
        try:
            pictures.append(replace(named, thumbnail=thumbnail(audit.image(at))))
        except BadImageError:
            pictures.append(named)
    return pictures


def _named(audit: Audit, at: int) -> _Picture:
    place = audit.place(at)
    return _Picture(place, place.file or f"row {place.row}")
