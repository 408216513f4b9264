"""Render the model card of a model that was adapted to the class mix of unlabelled images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lort_hub import __version__
from lort_hub.evaluation.markdown import code, escape, fenced
from lort_hub.evaluation.tables import Table
from lort_hub.heads.priors import RESAMPLES
from lort_hub.hub.card_text import fill_template, license_note
from lort_hub.serialization import Record

ADAPTED, CLASS_MIX = "adapted.json", "class_mix.csv"
"""Files of an adapted model: its record, and the estimated share of each class."""
SHOWN = 10


@dataclass(frozen=True)
class Adaptation(Record):
    """How a model was adapted: the content of adapted.json.

    Attributes:
        model: The model that was adapted.
        images: Where the unlabelled images are from.
        samples: Number of images.
        skipped: Images that could not be decoded.
        estimator: "em" or "bbse".
        strength: Images in each class that the likeliest power of the training mix counts as.
        scale: What the logits were multiplied by.
        command: The command; None for a run from Python.
    """

    model: str
    images: str
    samples: int
    skipped: int
    estimator: str
    strength: float
    scale: float = 1.0
    command: str | None = None


ESTIMATORS = {
    "em": "maximum likelihood (EM, Saerens et al. 2002) from the calibrated probabilities of the images",
    "bbse": "the classes predicted for the images and the confusion matrix of held-out training images "
    "(BBSE, Lipton et al. 2018)",
}


def mix_rows(rows: list[dict[str, Any]]) -> str:
    """Render the largest shares of an estimated class mix as a Markdown table, in per cent.

    Args:
        rows: Rows of class_mix.csv.

    Example:
        >>> row = {"class": "cat", "share": 0.25, "low": 0.2, "high": 0.3, "train_images": 9}
        >>> print(mix_rows([row]))
        | class | share | training images |
        | --- | --- | --- |
        | cat | 25.0 [20.0, 30.0] | 9 |
    """
    lines = []
    for row in sorted(rows, key=lambda one: -one["share"])[:SHOWN]:
        share, low, high = (100 * row[key] for key in ("share", "low", "high"))
        mean = f"{share:.1f} [{low:.1f}, {high:.1f}]"
        lines.append((escape(row["class"]), mean, str(row["train_images"])))
    return Table(("class", "share", "training images"), tuple(lines)).to_markdown()


def render_adapted_card(
    record: dict[str, Any],
    rows: list[dict[str, Any]],
    adaptation: Adaptation,
    repo_id: str | None = None,
) -> str:
    """Render the card of an adapted model from its records.

    Args:
        record: Content of the head's config.json.
        rows: Rows of class_mix.csv.
        adaptation: Content of adapted.json.
        repo_id: Hub id that the snippet loads; None for the folder that the card is in.

    Example:
        >>> render_adapted_card(record, rows, adaptation)  # doctest: +SKIP
    """
    from huggingface_hub import ModelCardData

    library, license = record["backbone"]["library"], record["backbone"]["license"]
    name, data = record["head"]["method"], record["data"]["name"]
    metadata = ModelCardData(
        library_name=library,
        pipeline_tag="image-classification",
        license=license,
        tags=["image-classification", "long-tailed-recognition", "label-shift"],
        ignore_metadata_errors=False,
    )
    return fill_template(
        "adapted_card.md",
        metadata,
        title=f"{escape(name)}, {escape(data)}, adapted to {adaptation.samples:,} unlabelled images",
        source=f"A model of {code(data)}, its head by {code(name)},",
        images=code(Path(adaptation.images).name),
        samples=f"{adaptation.samples:,}",
        skipped=adaptation.skipped,
        estimator=ESTIMATORS[adaptation.estimator],
        strength=f"{adaptation.strength:g}",
        resamples=RESAMPLES,
        held_out=adaptation.estimator == "bbse",
        scale=f"{adaptation.scale:.3g}",
        needs_lort_hub=record["backbone"].get("needs_lort_hub", False),
        num_classes=len(rows),
        model=repo_id or ".",
        table=mix_rows(rows),
        command="It was made in Python." if adaptation.command is None else fenced(adaptation.command),
        version=__version__,
        license=license_note(license),
    )
