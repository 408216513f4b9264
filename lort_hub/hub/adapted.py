"""Save a model whose head was moved to the class mix of unlabelled images, with a card that says so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image as pillow
from torch import Tensor

from lort_hub.backbones.backbone import Backbone
from lort_hub.backbones.save import check_saved, save_model
from lort_hub.errors import CheckpointError
from lort_hub.files import atomic_folder, write_csv, write_json
from lort_hub.heads.class_mix import FLOOR
from lort_hub.heads.methods import class_mix
from lort_hub.heads.priors import MixEstimate
from lort_hub.heads.scorers import Predictions
from lort_hub.hub.adapted_card import ADAPTED, CLASS_MIX, Adaptation, render_adapted_card
from lort_hub.hub.head_file import DataSource, HeadFacts, naming_head, read_head, write_held_out
from lort_hub.hub.lort_head import LortHead
from lort_hub.records import AS_MADE, BackboneRecord, ClassMix, HeadRecord
from lort_hub.run_log import RunLog
from lort_hub.serialization import Record
from lort_hub.spreadsheets import harmless_rows


def mix_of(record: dict[str, Any], source: str) -> ClassMix:
    """Return the class mix that a head's probabilities hold for, from its config.json.

    Args:
        record: Content of the head's config.json.
        source: The model, for the message.

    Raises:
        CheckpointError: It is not recorded, the head is not calibrated, or the record is damaged.

    Example:
        >>> head = {"method": "ncm", "summary": "", "iterations": 0, "relative_gradient": None}
        >>> objective = {"settings": {}, "delta": 0, "gamma": 0, "tau": 0, "weight_decay": 0, "scale": 2.0}
        >>> mix_of({"head": {**head, **objective}, "class_names": ["cat", "dog"]}, "out").shares
        (0.5, 0.5)
    """
    head = HeadFacts.of(record, source).head
    if head and head.mix:
        return head.mix
    if head and head.scale not in (None, 1.0) and class_mix(head.method, head.settings) == "balanced":
        number = len(record["class_names"])
        return ClassMix(AS_MADE, (1 / number,) * number)
    raise CheckpointError(
        f"'{source}' does not say which class mix its probabilities hold for: its head is not calibrated, or "
        "was made by an older lort_hub, or in Python without `lort_hub.heads.class_mix.measure_mix`.\n"
        "Re-train the head calibrated, as `retrain` does by default, and adapt that model."
    )


@dataclass(frozen=True)
class AdaptableHead(Record):
    """The part of a head's config.json that its adaptation needs.

    Attributes:
        backbone: Backbone that the head was made on.
        head: How it was re-trained.
        data: Data set.
        class_counts: Training images (K,).
    """

    backbone: BackboneRecord
    head: HeadRecord
    data: DataSource
    class_counts: tuple[int, ...]


def check_weights(backbone: Backbone, head: Path, source: str) -> None:
    """Refuse a model whose weights are not those that the record of its head was written for.

    Copies in half precision are, up to rounding, and are known by their classifier.

    Args:
        backbone: The model.
        head: Folder of its head.
        source: The model, for the message.

    Raises:
        CheckpointError: The record lacks what an adaptation needs; or the features or the classifier are
            others, and the record's class mix is not theirs.

    Example:
        >>> check_weights(load_classifier("out")[0], Path("out/head"), "out")  # doctest: +SKIP
    """
    weight, bias, config = read_head(head, source)
    with naming_head(source):
        record = AdaptableHead.from_json(config)
    own = backbone.weight.float().cpu(), backbone.bias.float().cpu()
    if any(_are_rounded(own, (weight, bias), kind) for kind in (torch.float16, torch.bfloat16)):
        return
    is_own = _are_rounded(own, (weight, bias), torch.float32)
    if not is_own or record.backbone.sha256 not in ("", backbone.fingerprint()):
        what = "features" if is_own else "classifier"
        raise CheckpointError(
            f"The {what} in model.safetensors of '{source}' are not those that head/ was written for, so "
            "that the class mix is not known.\n"
            "Re-train the head on these weights, and adapt that model."
        )


def _are_rounded(own: tuple[Tensor, Tensor], recorded: tuple[Tensor, Tensor], kind: torch.dtype) -> bool:
    return all(mine.equal(each.to(kind).float()) for mine, each in zip(own, recorded, strict=True))


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
    names = list(backbone.class_names or record["class_names"])  # the model's own, where someone mended them
    shares = estimate.shares.clamp_min(FLOOR)
    shares = shares / shares.sum()
    shift = shares.log() - torch.tensor(mix.shares, dtype=torch.float64).log()
    weight = mix.scale * backbone.weight.float().cpu()
    bias = mix.scale * backbone.bias.float().cpu() + (shift - shift.mean()).float()
    name = f"{adaptation.samples:,} unlabelled images"
    head = HeadRecord.from_json(record["head"])
    scale = None if head.scale is None else mix.scale * head.scale
    moved = replace(head, scale=scale, mix=ClassMix(name, tuple(shares.tolist())))
    config = {key: value for key, value in record.items() if key not in ("results", "baseline")}
    config |= {"head": moved.to_json(), "class_names": names}
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
        write_csv(staged / CLASS_MIX, harmless_rows(rows))
        write_json(staged / ADAPTED, adaptation.to_json())
        if log:
            log.write(staged)
        card = render_adapted_card(record, rows, adaptation)
        (staged / "README.md").write_text(card, encoding="utf-8", errors="replace")
