"""Load an image classifier of transformers as a backbone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image as pillow
from torch import Tensor, nn

from lort_hub.backbones.backbone import Backbone, check_features
from lort_hub.data.transforms import augmentation
from lort_hub.errors import BackboneError

IN_TIMM = {
    "clip_vision_model": "vit_base_patch16_clip_224.openai",
    "siglip_vision_model": "vit_base_patch16_siglip_224.webli",
    "siglip2": "vit_base_patch16_siglip_224.v2_webli",
    "siglip2_vision_model": "vit_base_patch16_siglip_224.v2_webli",
    "vit_mae": "vit_base_patch16_224.mae",
}
"""Backbones of timm for model types that transformers has no usable image classifier for."""


def load_transformers(
    folder: Path, spec: str, source: str, revision: str | None, pretrained: bool, image_size: int | None
) -> Backbone:
    """Load an image classifier of transformers from a folder.

    Args:
        folder: The folder.
        spec: What the user wrote, for messages.
        source: Where the folder came from.
        revision: Commit of a Hub source, or None.
        pretrained: Load weights; otherwise the architecture with random ones.
        image_size: Side of the square input in pixels; None for the processor's own.

    Returns:
        The backbone, frozen in eval mode on the CPU.

    Raises:
        BackboneError: It is no image classifier that ends in one linear layer, or is damaged.

    Example:
        >>> load_transformers(Path("vit"), "vit", "vit", None, True, None).library  # doctest: +SKIP
        'transformers'
    """
    from transformers import AutoConfig, AutoModelForImageClassification

    try:
        processor = _load_processor(folder, spec, image_size)
        transform = partial(_process, processor)
        pixels = transform(pillow.new("RGB", (64, 64)))
        _check_pixels(pixels, spec)
        if pretrained:
            model, info = AutoModelForImageClassification.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, trust_remote_code=False
            )
        else:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            model, info = AutoModelForImageClassification.from_config(config, trust_remote_code=False), {}
    except BackboneError:
        raise
    except Exception as cause:  # an unknown config can make the library raise anything
        raise BackboneError(_why_not(cause, folder, spec)) from cause
    model.float().eval().requires_grad_(False)  # transformers keeps a file's half precision
    for config in [part.config for part in model.modules() if hasattr(part, "config")]:
        config.return_dict = True  # a tuple has no logits, and transformers' own parts need their names
        if (channels := getattr(config, "num_channels", 3)) != 3:
            raise BackboneError(f"'{spec}' takes {channels} channels, expected 3 (RGB).")

    name = _final_linear(model, pixels[None], spec)
    missing = [key for key in info.get("missing_keys", ()) if not key.startswith(f"{name}.")]
    if missing:
        raise BackboneError(
            f"'{spec}' lacks {len(missing)} weights of its own architecture, the first '{missing[0]}'.\n"
            "The file is incomplete or of another model; features from random weights would be worthless."
        )
    outputs = model.get_submodule(name).out_features
    labels = model.config.id2label or {}  # null where its class sets no names
    names = [str(labels[k]) for k in range(outputs) if k in labels]
    is_classifier = pretrained and not info.get("missing_keys")
    data = {
        "input_size": tuple(pixels.shape),
        "mean": tuple(processor.image_mean or (0.5,) * 3),  # null where it does not normalise
        "std": tuple(processor.image_std or (0.5,) * 3),
        "interpolation": "bicubic",
    }
    backbone = Backbone(
        spec=spec,
        source=source,
        revision=revision,
        library="transformers",
        model=model,
        classifier_name=name,
        class_names=tuple(names) if is_classifier and is_named(names, outputs) else None,
        transform=transform,
        augment=augmentation(data, partial(_process, processor, do_resize=False)),
        image_size=data["input_size"][1],
        preprocessing={"library": "transformers", **json.loads(processor.to_json_string())},
        processor=processor,
        is_classifier=is_classifier,
    )
    check_features(backbone)
    return backbone


def _process(processor: Any, image: pillow.Image, **options: bool) -> Tensor:
    pixels: Tensor = processor(image, return_tensors="pt", **options)["pixel_values"][0]
    return pixels


def is_named(names: Sequence[str], outputs: int) -> bool:
    """Return whether names are those of all outputs, and not the ones transformers makes up.

    Example:
        >>> is_named(["ant", "bee"], 2), is_named(["LABEL_0", "LABEL_1"], 2)
        (True, False)
    """
    return len(names) == outputs and list(names) != [f"LABEL_{k}" for k in range(outputs)]


def _load_processor(folder: Path, spec: str, image_size: int | None) -> Any:
    """The image processor, at a size of its own or at the size asked for, cropped to a square."""
    from transformers import AutoImageProcessor

    if not any((folder / f"{name}_config.json").is_file() for name in ("preprocessor", "processor")):
        raise BackboneError(
            f"'{spec}' has no preprocessor_config.json, which says how images become pixels.\n"
            "Write it beside the model: AutoImageProcessor.from_pretrained(BASE).save_pretrained(FOLDER)."
        )
    load = partial(AutoImageProcessor.from_pretrained, folder, trust_remote_code=False)
    processor = load()
    if not getattr(processor, "do_resize", True):
        raise BackboneError(
            f"The processor of '{spec}' does not resize images: do_resize is false.\n"
            "Set it to true in preprocessor_config.json, with the size that the model expects."
        )
    if not image_size:
        return processor
    square = {"height": image_size, "width": image_size}
    if "shortest_edge" not in dict(processor.size or {}):
        return load(size=square, crop_size=square)
    resized = load(size={"shortest_edge": image_size}, crop_size=square)
    wide = pillow.new("RGB", (2 * image_size, image_size))
    if _process(resized, wide).shape[-2:] == (image_size, image_size):
        return resized
    return load(size={"shortest_edge": image_size}, crop_size=square, do_center_crop=True)


def _check_pixels(pixels: Tensor, spec: str) -> None:
    if pixels.ndim != 3:
        raise BackboneError(
            f"The processor of '{spec}' makes pixels of shape {tuple(pixels.shape)}, expected (3, H, W).\n"
            "It cuts images into patches (NaFlex). Use a checkpoint of one image size, such as "
            f"google/siglip2-base-patch16-224, or timm's {IN_TIMM['siglip2']}."
        )


def _why_not(cause: Exception, folder: Path, spec: str) -> str:
    """What to say of a folder that transformers does not load as an image classifier."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as FAMILIES,
    )

    config = json.loads((folder / "config.json").read_text())
    kind, said = str(config.get("model_type")), str(cause)
    if "Unrecognized configuration class" in said:
        of = ", ".join(config.get("architectures") or []) or "model"
        stem = (kind.partition("_vision")[0], kind.partition("_")[0])
        family = next((name for name in stem if name in FAMILIES and name != kind), None)
        instead = f"a complete checkpoint of the family (model_type '{family}'), or " if family else ""
        other = f"timm's {IN_TIMM[kind]}" if kind in IN_TIMM else "another backbone, such as timm's resnet50"
        return (
            f"'{spec}' is a {of} (model_type '{kind}'), which transformers has no image classifier for.\n"
            f"Use {instead}{other}."
        )
    if "ignore_mismatched_sizes" in said and not config.get("id2label"):
        return (
            f"config.json of '{spec}' names no classes: transformers expects 2, the weights have others.\n"
            "Write id2label and label2id of all classes into it."
        )
    return f"transformers cannot load '{spec}': {type(cause).__name__}: {said[:300]}"


@torch.inference_mode()
def _final_linear(model: nn.Module, pixels: Tensor, spec: str) -> str:
    """Find the name of the one `nn.Linear` whose output is the model's logits."""
    outputs: dict[str, Tensor] = {}
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: outputs.__setitem__(name, output))
        for name, module in linears.items()
    ]
    try:
        logits = model(pixels).logits
    except (AssertionError, RuntimeError, ValueError) as cause:
        raise BackboneError(
            f"'{spec}' refuses an input of {tuple(pixels.shape)}: {cause}\nTry another `image_size`."
        ) from cause
    finally:
        for hook in hooks:
            hook.remove()
    final = [name for name, output in outputs.items() if output is logits]
    if len(final) != 1:
        candidates = [name for name, module in linears.items() if module.out_features == logits.shape[-1]]
        raise BackboneError(
            f"'{spec}' does not end in one linear classifier (linear layers of {logits.shape[-1]} outputs: "
            f"{', '.join(candidates) or 'none'}).\n"
            "Two-headed models (...WithTeacher) cannot take one (W, b); use plain ...ForImageClassification."
        )
    return final[0]
