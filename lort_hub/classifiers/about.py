"""Describe a classifier for its page: how it was made, how good it is, and what is known of its classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lort_hub.backbones.backbone import Backbone
from lort_hub.classifiers.page import About, ClassFacts
from lort_hub.errors import CheckpointError
from lort_hub.evaluation.markdown import code, escape
from lort_hub.files import read_csv
from lort_hub.hub.card_text import calibration_note, source_name
from lort_hub.hub.head_file import HeadConfig, HeadFacts, naming_head
from lort_hub.records import AS_MADE


def about_classifier(title: str, folder: Path, backbone: Backbone, record: dict[str, Any]) -> About:
    """Describe a classifier for its page.

    Args:
        title: Title of the page.
        folder: Its folder.
        backbone: The model, with its class names.
        record: Content of the head's config.json; {} if there is none.

    Raises:
        CheckpointError: The record, or the table of its classes, is damaged.

    Example:
        >>> about_classifier("photos", Path("out"), *load_classifier("out"))  # doctest: +SKIP
    """
    names = backbone.class_names or ()
    labels = [name if names.count(name) == 1 else f"{name} ({k})" for k, name in enumerate(names)]
    counts = HeadFacts.of(record, title).class_counts or [None] * len(names)
    rows = _per_class(folder / "per_class.csv", len(names))
    facts = ("test_images", "confused_with", "confused_images")
    classes = [
        ClassFacts(label, count, **{name: row[name] for name in facts if row.get(name) is not None})
        for label, count, row in zip(labels, counts, rows, strict=True)
    ]
    with naming_head(title):
        return About(title, describe(backbone, record), tuple(classes))


def _per_class(table: Path, number: int) -> list[dict[str, Any]]:
    """Read the row of each class; empty ones where there is no table."""
    try:
        rows = read_csv(table, text=("name", "confused_with")) if table.exists() else [{}] * number
    except ValueError as cause:
        raise CheckpointError(f"{table} is damaged: {cause}.\nPut it back, or delete it.") from cause
    if len(rows) != number:
        raise CheckpointError(
            f"{table} has {len(rows)} rows, expected {number}, one a class.\nPut it back, or delete it."
        )
    return rows


def describe(backbone: Backbone, record: dict[str, Any]) -> str:
    """Describe a model in Markdown: its source, and how good it is.

    Args:
        backbone: The model.
        record: As in `about_classifier`.

    Example:
        >>> describe(*load_classifier("out"))  # doctest: +SKIP
    """
    classes = f"{len(backbone.weight):,} classes"
    mix = ((record.get("head") or {}).get("mix") or {}).get("name", AS_MADE)
    if "results" not in record and mix != AS_MADE:
        return f"{classes}, moved to the class mix of {escape(mix)}; no test says how good it is there."
    if "results" not in record:
        return f"{classes}; there is no record of how it was made and how good it is."
    config = HeadConfig.from_json(record)
    name, method, test = source_name(config.backbone), config.head.method, config.scores
    lines = [f"Backbone {code(name)}, method {code(method)}, data set {code(config.data.name)}, {classes}."]
    lines += [
        f"Balanced accuracy {100 * test.balanced_accuracy:.1f} % (n = {test.n:,} test images).",
        calibration_note(config),
    ]
    return "\n\n".join(lines)
