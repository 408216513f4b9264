"""Describe in Markdown how a model was made, its license and what to cite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from lort_hub.evaluation.markdown import code, escape
from lort_hub.evaluation.report import MetricsRecord, SelectionRecord
from lort_hub.heads.methods import METHODS, STACK, STAGE1, shown_settings
from lort_hub.hub.head_file import HeadConfig
from lort_hub.hub.run_record import decided_mix
from lort_hub.records import BackboneRecord, ClassMix, HeadRecord, RunRecord
from lort_hub.serialization import Record
from lort_hub.training.checkpoints import best_epoch

LORT = "2403.00250"
LOSSES = {
    "ce": "",
    "balanced-softmax": " on balanced softmax (the log of the class frequencies added to the logits)",
    "logit-adjust": " on the logit-adjusted loss (the log of the class frequencies added to the logits)",
}


def source_name(backbone: BackboneRecord) -> str:
    """Name a backbone by its Hub id, or by its architecture where it is from a folder: paths stay private.

    Example:
        >>> local = {"source": "/home/me/out", "library": "timm", "architecture": "resnet50"}
        >>> source_name(BackboneRecord.from_json({**local, "sha256": "f00", "preprocessing": {}}))
        'resnet50'
    """
    return backbone.source if backbone.revision else backbone.architecture


def license_note(license: str | None) -> str:
    """Describe a license, or its absence, as Markdown.

    Example:
        >>> license_note("apache-2.0"), license_note(None)
        ('`apache-2.0`.', 'Not stated: no license of the backbone is known.')
    """
    return f"{code(license)}." if license else "Not stated: no license of the backbone is known."


def citations(method: str, version: str) -> str:
    """List what to cite, as Markdown.

    Args:
        method: One of `METHODS`, or stage 1.
        version: Version of lort_hub.

    Example:
        >>> print(citations("logit-adjust", "0.1.0"))  # doctest: +ELLIPSIS
        `logit-adjust`: [arXiv 2007.07314](https://arxiv.org/abs/2007.07314).
        <BLANKLINE>
        LORT: ...
    """
    source = METHODS[method].source if method in METHODS else ""
    number = source.removeprefix("arXiv ")
    own = (
        f"`{method}`: [{source}](https://arxiv.org/abs/{number}).\n\n" if number not in (source, LORT) else ""
    )
    return (
        f'{own}LORT: "Rethinking Classifier Re-Training in Long-Tailed Recognition: A Simple Logits '
        f'Retargeting Approach", [arXiv {LORT}](https://arxiv.org/abs/{LORT}); at ICLR 2025 it became '
        '"Label Over-Smooth Can Balance" ([OpenReview](https://openreview.net/forum?id=OeKp3AdiVO)).\n\n'
        f"Made with lort_hub {version}, which is not by LORT's authors."
    )


def calibration_note(config: HeadConfig) -> str:
    """Say how far a head's probabilities are to be trusted, in a sentence or two.

    Args:
        config: Content of the head's config.json; a head whose labels were over-smoothed is flat unless it
            was calibrated.

    Example:
        >>> calibration_note(HeadConfig.read(Path("out/head/config.json")))  # doctest: +SKIP
        'Expected calibration error 4.9 %.'
    """
    ece, head, mix = config.scores.ece, config.head, config.scores.mix
    note = f"Expected calibration error {100 * ece:.1f} %."
    if mix:
        note = (
            f"Expected calibration error of the moved head {100 * ece:.1f} % on the test images as they are, "
            f"{100 * mix.ece:.1f} % at {escape(mix.name)}."
        )
    if head.delta > 0.5 and head.scale in (None, 1.0) and ece > 0.1:
        note += (
            " Over-smoothed labels ask for small logits, so this head's probabilities are far below its"
            " accuracy: use its ranking, or calibrate before you threshold."
        )
    return note


def mix_note(mix: ClassMix | None, class_names: Sequence[str]) -> str:
    """Say which class mix a head was moved to, with its largest shares; empty where it was not moved.

    Example:
        >>> mix_note(ClassMix("train", (0.9, 0.1)), ["cat", "dog"])
        'The new head alone was moved to the class mix `train` (largest shares: cat 90.0 %, dog 10.0 %).'
    """
    if mix is None or not mix.is_moved:
        return ""
    order = sorted(range(len(class_names)), key=lambda k: -mix.shares[k])[:5]
    largest = ", ".join(f"{escape(class_names[k])} {100 * mix.shares[k]:.1f} %" for k in order)
    return f"The new head alone was moved to the class mix {code(mix.name)} (largest shares: {largest})."


@dataclass(frozen=True)
class TrainingSettings(Record):
    """The arguments of a stage 1 that its card describes."""

    pretrained: bool
    tune: str
    lora_rank: int
    epochs: int
    opt: str
    lr: float
    weight_decay: float
    warmup_epochs: int
    layer_decay: float | None
    label_smoothing: float
    mixup: float
    cutmix: float
    auto_augment: str | None
    ema_decay: float
    gradient_accumulation_steps: int
    clip_grad: float | None
    batch_size: int
    patience: int
    loss: str = "ce"
    cutout: int = 0
    processes: int | None = None


def how_made(metrics: MetricsRecord, run: RunRecord) -> str:
    """List the steps that led to a model, as Markdown.

    Args:
        metrics: Content of metrics.json.
        run: Content of run.json.

    Example:
        >>> print(how_made(metrics, run))  # doctest: +SKIP
    """
    backbone = run.backbone
    at = f" at revision `{backbone.revision}`" if backbone.revision else ""
    name = f"{code(source_name(backbone))}{at}"
    if run.head.method == STAGE1:
        lines = _training_steps(name, metrics, run)
    else:
        facts = _facts(run.head, run.data.class_counts)
        lines = [
            f"1. Backbone {name}, frozen, {backbone.num_features} features.",
            f"2. Head: {run.head.method}{_with(run.head)}{_solved(run.head)}.{facts}",
        ]
    lines += _selection_steps(metrics.selection)
    if run.arguments.get("refit") and run.head.method != STAGE1:
        lines.append(
            "3. Its settings and its calibration are those of an earlier run, which chose them on held-out "
            "training images. Here nothing was chosen, and nothing held out."
        )
    if metrics.note:
        lines.append(f"\n{metrics.note}")
    if run.data.left_out:
        number = len(run.data.left_out)
        lines.append(f"\nImages left out because they could not be decoded: {number}, named in run.json.")
    seconds = ", ".join(f"{phase} {time:.1f}" for phase, time in metrics.timing.items())
    return "\n".join([*lines, *(["", f"Seconds: {seconds}."] if seconds else [])])


def _selection_steps(selection: SelectionRecord | None) -> list[str]:
    if selection is None:
        return []
    if STACK in (selection.methods or {}):
        return [
            "3. The settings of each member, and the weights of their calibrated logits, were chosen on "
            f"training images alone: {selection.why}."
        ]
    settings = (
        f"3. Settings chosen among {len(selection.candidates)} by {selection.by}, from {selection.how}; the "
        "test images had no part in it."
    )
    method = [f"4. Method chosen as well: {selection.why}."] if selection.why else []
    return [settings if selection.candidates else "3. There were no settings to choose.", *method]


def _training_steps(name: str, metrics: MetricsRecord, run: RunRecord) -> list[str]:
    if not run.arguments:
        return [f"1. Architecture {name}, trained in Python; there is no record of how."]
    settings = TrainingSettings.from_json(run.arguments)
    start = "starting from its weights" if settings.pretrained else "from random weights"
    lines = [f"1. Architecture {name}, {start}.", f"2. {_trained(settings)}"]
    if run.backbone.trained_on:
        held_out = sum(run.data.class_counts) - len(run.backbone.trained_on.rows)
        kept_out = f"{held_out} training images were kept out, for choices in stage 2"
        if not held_out:
            kept_out = "No training image was kept out, so stage 2 has to take its choices from another run"
        lines.append(f"3. {kept_out}; {_published_epoch(metrics.history or (), settings.patience)}.")
    return lines


def _trained(settings: TrainingSettings) -> str:
    """Describe stage 1 in one sentence."""
    part = {
        "full": "all weights",
        "head": "the last layer alone, the rest frozen",
        "bias": "biases and the last layer, the rest frozen",
        "lora": f"low-rank updates of rank {settings.lora_rank} and the last layer",
    }[settings.tune]
    augmentation = ["crops and flips"]
    augmentation += [escape(settings.auto_augment)] if settings.auto_augment else []
    strengths = {
        "mixup": settings.mixup,
        "cutmix": settings.cutmix,
        "label_smoothing": settings.label_smoothing,
        "cutout": settings.cutout,
    }
    augmentation += [f"{name} {strength:g}" for name, strength in strengths.items() if strength]
    warms_up = settings.warmup_epochs or settings.pretrained  # which has some by default
    more = [f"{settings.warmup_epochs} epochs of warm-up"] if warms_up else []
    more += [f"layer decay {settings.layer_decay:g}"] if settings.layer_decay else []
    more += [f"gradients clipped at {settings.clip_grad:g}"] if settings.clip_grad else []
    more += [f"averaged weights (decay {settings.ema_decay:g})"] if settings.ema_decay else []
    size = settings.batch_size * settings.gradient_accumulation_steps
    more = [f"batches of {size}{_by_processes(settings.processes)}", *more]
    optimizer = {"momentum": "SGD with momentum 0.9", "adamw": "AdamW"}.get(
        settings.opt, escape(settings.opt)
    )
    return (
        f"{settings.epochs} epochs of {optimizer}{LOSSES[settings.loss]} over {', '.join(augmentation)}, "
        f"training {part}; learning rate {settings.lr:g} falling to zero on a cosine, weight decay "
        f"{settings.weight_decay:g}, {', '.join(more)}."
    )


def _by_processes(number: int | None) -> str:
    """How many processes had batches of their own; runs of older versions do not say it."""
    return " a process" if number is None else f" in each of {number} processes" if number > 1 else ""


def _published_epoch(history: Sequence[dict[str, Any]], patience: int) -> str:
    if patience:
        return f"epoch {best_epoch(history)} is published, the best of {len(history)} on them"
    return f"the last epoch, {len(history)}, is the one published"


def _with(head: HeadRecord) -> str:
    shown = shown_settings(head.method, head.settings)
    return "".join(f", {name.replace('_', ' ')} {value:.4g}" for name, value in shown.items())


def _facts(head: HeadRecord, class_counts: Sequence[int]) -> str:
    """Say what class mix a head decides for, what it took to know, and what its logits are."""
    if head.scale is None:
        return ""
    counts = head.method not in METHODS or METHODS[head.method].needs_counts or head.settings.get("gamma")
    mix = {
        "training": "It decides for the class mix of the training images",
        "balanced": "It decides for classes that are equally likely",
        "inverse": "It decides for a mix of mostly rare classes",
    }[decided_mix(head, class_counts)]
    if head.mix and head.mix.is_moved:
        mix = f"It decides for the class mix {code(head.mix.name)}"
    told = "is told the class counts" if counts else "is not told the class counts"
    logits = "as solved" if head.scale == 1 else f"those solved times {head.scale:.3g}, which calibrates them"
    logits = "calibrated by the weights" if head.method == STACK else logits
    return f" {mix}, {told}; its logits are {logits}."


def _solved(head: HeadRecord) -> str:
    if head.relative_gradient is not None:
        gradient, iterations = f"{head.relative_gradient:.0e}", head.iterations
        return f", solved to a relative gradient of {gradient} in {iterations} iterations"
    return f", by {head.iterations} epochs of SGD from the baseline head" if head.iterations else ""


def fill_template(template: str, metadata: Any, **texts: Any) -> str:
    """Fill a template of a card.

    Args:
        template: Name of the file.
        metadata: Card data of huggingface_hub.
        texts: Values of the template's names.

    Example:
        >>> fill_template("head_card.md", metadata, table="")  # doctest: +SKIP
    """
    from huggingface_hub import ModelCard

    source = (files("lort_hub.hub") / "templates" / template).read_text(encoding="utf-8")
    return str(ModelCard.from_template(metadata, template_str=source, **texts)) + "\n"
