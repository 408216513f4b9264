"""Where a model comes from, in words, from metrics.json and run.json alone."""

from __future__ import annotations

from typing import Any

from lort_hub.evaluation.markdown import code, escape
from lort_hub.heads.methods import METHODS, STAGE1
from lort_hub.training.checkpoints import best_epoch

LORT = "2403.00250"


def source_name(backbone: dict[str, Any]) -> str:
    """The Hub id, or the architecture: where a folder lay is nobody's business.

    Example:
        >>> source_name({"source": "/home/me/out", "revision": None, "architecture": "resnet50"})
        'resnet50'
    """
    name: str = backbone["source"] if backbone["revision"] else backbone["architecture"]
    return name


def license_note(backbone: dict[str, Any]) -> str:
    """What is known of the license.

    Args:
        backbone: The entry `backbone` of run.json.

    Example:
        >>> license_note({"license": "apache-2.0"}), license_note({"license": None})
        ('`apache-2.0`.', 'Not stated: no license of the backbone is known.')
    """
    if backbone["license"] is None:
        return "Not stated: no license of the backbone is known."
    return f"{code(backbone['license'])}."


def citations(method: str, version: str) -> str:
    """What to cite, as Markdown.

    Args:
        method: One of `METHODS`, or stage 1.
        version: Of lort_hub.

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


def how_made(metrics: dict[str, Any], run: dict[str, Any]) -> str:
    """The steps that led to a model, as a Markdown list.

    Args:
        metrics: Content of metrics.json.
        run: Content of run.json.

    Example:
        >>> print(how_made(metrics, run))  # doctest: +SKIP
    """
    backbone, head, selection = run["backbone"], run["head"], metrics["selection"]
    counts = run["data"]["class_counts"]
    at = f" at revision `{backbone['revision']}`" if backbone["revision"] else ""
    seconds = ", ".join(f"{phase} {time:.1f}" for phase, time in metrics["timing"].items())
    if head["method"] == STAGE1:
        given = run["arguments"]
        lines = [
            f"1. Architecture {code(source_name(backbone))}{at}, "
            + ("starting from its weights." if given["pretrained"] else "from random weights."),
            f"2. {_trained(given)}",
            f"3. {sum(counts) - len(backbone['trained_on']['rows'])} training images were kept out, for "
            f"choices in stage 2; {_published_epoch(metrics['history'], given)}.",
        ]
    else:
        lines = [
            f"1. Backbone {code(source_name(backbone))}{at}, frozen, {backbone['num_features']} features.",
            f"2. Head: {head['method']}{_with(head['settings'])}{_solved(head)}.",
        ]
    if selection:
        lines.append(
            f"3. Settings chosen among {len(selection['candidates'])} by {selection['by']}, from "
            f"{selection['how']}; the test images had no part in it."
            if selection["candidates"]
            else "3. There were no settings to choose."
        )
    if selection and "why" in selection:
        lines.append(f"4. Method chosen as well: {selection['why']}.")
    if left_out := run["data"].get("left_out"):
        lines.append(
            f"\nImages left out because they could not be decoded: {len(left_out)}, named in run.json."
        )
    return "\n".join([*lines, "", f"Seconds: {seconds}."])


def _trained(given: dict[str, Any]) -> str:
    """One sentence on stage 1, of its arguments."""
    what = {
        "full": "all weights",
        "head": "the last layer alone, the rest frozen",
        "bias": "biases and the last layer, the rest frozen",
        "lora": f"low-rank updates of rank {given['lora_rank']} and the last layer",
    }[given["tune"]]
    seen = ["crops and flips"]
    seen += [escape(given["auto_augment"])] if given["auto_augment"] else []
    seen += [f"{name} {given[name]:g}" for name in ("mixup", "cutmix", "label_smoothing") if given[name]]
    more = [f"{given['warmup_epochs']} epochs of warm-up"] if given["warmup_epochs"] else []
    more += [f"layer decay {given['layer_decay']:g}"] if given["layer_decay"] else []
    more += [f"gradients clipped at {given['clip_grad']:g}"] if given["clip_grad"] else []
    more += [f"averaged weights (decay {given['ema_decay']:g})"] if given["ema_decay"] else []
    batch = given["batch_size"] * given["gradient_accumulation_steps"]
    optimizer = {"momentum": "SGD with momentum 0.9", "adamw": "AdamW"}.get(
        given["opt"], escape(given["opt"])
    )
    return (
        f"{given['epochs']} epochs of {optimizer} over {', '.join(seen)}, training {what}; learning rate "
        f"{given['lr']:g} falling to zero on a cosine, weight decay {given['weight_decay']:g}, batches of "
        f"{batch} a process{''.join(f', {text}' for text in more)}."
    )


def _published_epoch(history: list[dict[str, Any]], given: dict[str, Any]) -> str:
    if given["patience"]:
        return f"epoch {best_epoch(history)} is published, the best of {len(history)} on them"
    return f"the last epoch, {len(history)}, is the one published"


def _with(settings: dict[str, float]) -> str:
    return "".join(f", {name.replace('_', ' ')} {value:.4g}" for name, value in settings.items() if value)


def _solved(head: dict[str, Any]) -> str:
    if head["relative_gradient"] is not None:
        gradient, iterations = f"{head['relative_gradient']:.0e}", head["iterations"]
        return f", solved to a relative gradient of {gradient} in {iterations} iterations"
    return f", by {head['iterations']} epochs of SGD from the baseline head" if head["iterations"] else ""
