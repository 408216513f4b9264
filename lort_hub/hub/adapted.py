"""Save a model whose head was moved to the class mix of unlabelled images, with a card that says so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image as pillow
from torch import Tensor

from lort_hub import __version__
from lort_hub.backbones.backbone import Backbone
from lort_hub.backbones.save import check_saved, save_model
from lort_hub.errors import CheckpointError
from lort_hub.evaluation.markdown import code, escape, fenced
from lort_hub.files import atomic_folder, write_csv, write_json
from lort_hub.heads.class_mix import FLOOR
from lort_hub.heads.methods import class_mix
from lort_hub.heads.priors import RESAMPLES, MixEstimate
from lort_hub.heads.scorers import Predictions
from lort_hub.hub.card import fill_template
from lort_hub.hub.card_text import license_note
from lort_hub.hub.head_file import write_held_out
from lort_hub.hub.lort_head import LortHead
from lort_hub.records import AS_MADE, ClassMix, HeadRecord
from lort_hub.run_log import RunLog
from lort_hub.serialization import Record

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
        strength: Images that equal shares count as, in each class.
        command: The command; None for a run from Python.
    """

    model: str
    images: str
    samples: int
    skipped: int
    estimator: str
    strength: float
    command: str | None = None


ESTIMATORS = {
    "em": "maximum likelihood (EM, Saerens et al. 2002) from the calibrated probabilities of the images",
    "bbse": "the classes predicted for the images and the confusion matrix of held-out training images "
    "(BBSE, Lipton et al. 2018)",
}


def mix_of(record: dict[str, Any], source: str) -> ClassMix:
    """Return the class mix that a head's probabilities hold for, from its config.json.

    Args:
        record: Content of the head's config.json.
        source: The model, for the message.

    Raises:
        CheckpointError: It is not recorded, or the head is not calibrated.

    Example:
        >>> head = {"method": "ncm", "summary": "", "iterations": 0, "relative_gradient": None}
        >>> objective = {"settings": {}, "delta": 0, "gamma": 0, "tau": 0, "weight_decay": 0, "scale": 2.0}
        >>> mix_of({"head": {**head, **objective}, "class_names": ["cat", "dog"]}, "out").shares
        (0.5, 0.5)
    """
    head = HeadRecord.from_json(record["head"]) if "head" in record else None
    if head and head.mix:
        return head.mix
    if head and head.scale not in (None, 1.0) and class_mix(head.method, head.settings) == "balanced":
        number = len(record["class_names"])
        return ClassMix(AS_MADE, (1 / number,) * number)
    raise CheckpointError(
        f"'{source}' does not say which class mix its probabilities hold for: its head is not calibrated, or "
        "was made by an older lort_hub.\nRe-train the head with `calibrate=True` and adapt that model."
    )


def log_likelihoods(logits: Tensor, mix: ClassMix) -> Tensor:
    """Compute log p(x | k) (N, K), up to a constant of each sample, from the logits of a head and its mix.

    Example:
        >>> log_likelihoods(torch.tensor([[1.0, 1.0]]), ClassMix("train", (0.75, 0.25))).softmax(dim=1)
        tensor([[0.2500, 0.7500]], dtype=torch.float64)
    """
    return mix.scale * logits.double() - torch.tensor(mix.shares, dtype=torch.float64).log()


def save_adapted(
    folder: Path,
    backbone: Backbone,
    record: dict[str, Any],
    mix: ClassMix,
    estimate: MixEstimate,
    adaptation: Adaptation,
    *,
    held_out: Predictions | None = None,
    overwrite: bool = False,
    log: RunLog | None = None,
) -> None:
    """Save a model with its head moved to an estimated class mix, as plain timm or transformers loads it.

    Args:
        folder: Output folder.
        backbone: The model, with the head to be moved.
        record: Content of that head's config.json.
        mix: Class mix of that head.
        estimate: The estimated one.
        adaptation: How it was estimated.
        held_out: Decisions on held-out training images, which are kept for the next adaptation.
        overwrite: Replace an output folder that is there already.
        log: Log of the run, for log.jsonl.

    Raises:
        CheckpointError: The folder is not empty or cannot be written, or the saved model has other logits.

    Example:
        >>> save_adapted(Path("out/street"), backbone, record, mix, estimate, adaptation)  # doctest: +SKIP
    """
    names = record["class_names"]
    shares = estimate.shares.clamp_min(FLOOR)
    shares = shares / shares.sum()
    shift = shares.log() - torch.tensor(mix.shares, dtype=torch.float64).log()
    weight = mix.scale * backbone.weight.float().cpu()
    bias = mix.scale * backbone.bias.float().cpu() + (shift - shift.mean()).float()
    name = f"{adaptation.samples:,} unlabelled images"
    moved = replace(HeadRecord.from_json(record["head"]), mix=ClassMix(name, tuple(shares.tolist())))
    config = {key: value for key, value in record.items() if key not in ("results", "baseline")}
    config["head"] = moved.to_json()
    rows = [
        {"class": name, "share": share, "low": low, "high": high, "train_images": count}
        for name, share, low, high, count in zip(
            names,
            estimate.shares.tolist(),
            estimate.low.tolist(),
            estimate.high.tolist(),
            record["class_counts"],
            strict=True,
        )
    ]
    with atomic_folder(folder, overwrite=overwrite) as staged:
        save_model(backbone, weight, bias, names, staged)
        check_saved(staged, backbone, weight, bias, [pillow.effect_noise((64, 64), 64).convert("RGB")])
        LortHead(weight, bias, config).save_pretrained(staged / "head")
        if held_out:
            write_held_out(staged / "head", held_out)
        write_csv(staged / "class_mix.csv", rows)
        write_json(staged / "adapted.json", adaptation.to_json())
        if log:
            log.write(staged)
        (staged / "README.md").write_text(_card(record, rows, adaptation), encoding="utf-8")


def mix_rows(rows: list[dict[str, Any]], shown: int = SHOWN) -> str:
    """Render the largest shares of an estimated class mix as a Markdown table, in per cent.

    Args:
        rows: Rows of class_mix.csv.
        shown: Number of classes to show.

    Example:
        >>> row = {"class": "cat", "share": 0.25, "low": 0.2, "high": 0.3, "train_images": 9}
        >>> print(mix_rows([row]))
        | class | share | training images |
        | --- | --- | --- |
        | cat | 25.0 [20.0, 30.0] | 9 |
    """
    lines = ["| class | share | training images |", "| --- | --- | --- |"]
    for row in sorted(rows, key=lambda one: -one["share"])[:shown]:
        share, low, high = (100 * row[key] for key in ("share", "low", "high"))
        lines.append(
            f"| {escape(row['class'])} | {share:.1f} [{low:.1f}, {high:.1f}] | {row['train_images']} |"
        )
    return "\n".join(lines)


def _card(record: dict[str, Any], rows: list[dict[str, Any]], adaptation: Adaptation) -> str:
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
        num_classes=len(rows),
        table=mix_rows(rows),
        command="It was made in Python." if adaptation.command is None else fenced(adaptation.command),
        version=__version__,
        license=license_note(license),
    )
