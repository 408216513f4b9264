"""Load any timm model or transformers image classifier by one spec."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image as pillow
from torch import Tensor, nn

from lort_hub import cifar_resnets  # noqa: F401  registers the CIFAR nets with timm
from lort_hub.backbones.backbone import Backbone, check_features
from lort_hub.data.transforms import augmentation
from lort_hub.download import download_model
from lort_hub.errors import BackboneError, did_you_mean
from lort_hub.records import read_trained_on


def load_backbone(spec: str, *, pretrained: bool = True, image_size: int | None = None) -> Backbone:
    """Load a backbone by its spec and check that its features reproduce its logits.

    Args:
        spec: A timm name, `hf-hub:org/name[@revision]`, `local-dir:FOLDER`, a bare `org/name`, or an existing
            folder. The library is read from config.json; the prefix `transformers:` forces transformers.
        pretrained: Load the weights; False keeps random ones.
        image_size: Side of the square input in pixels; None for the model's default.

    Returns:
        The backbone, frozen in eval mode on the CPU.

    Raises:
        BackboneError: Unknown name, no safetensors, damaged weights, or no single linear classifier.
        HubUnavailableError: The Hub is needed and does not answer.

    Example:
        >>> backbone = load_backbone("test_resnet", pretrained=False, image_size=64)
        >>> backbone.features(torch.zeros(2, 3, 64, 64)).shape, backbone.num_features
        (torch.Size([2, 96]), 96)
    """
    forced = spec.startswith("transformers:")
    name = spec.removeprefix("transformers:")
    revision = None
    if name.startswith("local-dir:") or Path(name).is_dir():
        source = name.removeprefix("local-dir:")
        folder = Path(source)
    elif name.startswith((".", "/", "~")):
        raise BackboneError(f"No folder '{name}' (backbone '{spec}').")
    elif "/" in name:
        source, _, branch = name.removeprefix("hf-hub:").partition("@")
        folder, revision = download_model(source, branch or None, error=BackboneError)
    else:
        return _load_timm_name(spec, pretrained, image_size)
    config = _read_config(folder, spec, weights=pretrained)
    is_timm = "architecture" in config and not forced
    if not is_timm and "model_type" not in config:
        lacks = (
            "transformers' 'model_type'" if forced else "timm's 'architecture' and transformers' 'model_type'"
        )
        raise BackboneError(
            f"config.json of '{folder}' lacks {lacks}.\n"
            "Save the model with timm.models.save_for_hf or transformers' save_pretrained."
        )
    if is_timm:
        backbone = _timm_backbone(f"local-dir:{folder}", spec, source, revision, pretrained, image_size)
    else:
        backbone = _transformers_backbone(folder, spec, source, revision, pretrained, image_size)
    return replace(backbone, trained_on=read_trained_on(folder) if pretrained else None)


def _load_timm_name(spec: str, pretrained: bool, image_size: int | None) -> Backbone:
    import timm

    if not timm.is_model(spec.partition(".")[0]):
        known = timm.list_models() + timm.list_pretrained()
        raise BackboneError(
            f"Unknown backbone '{spec}'.{did_you_mean(spec, known)}\n"
            "Expected a timm name, org/name on the Hub, or a folder with config.json and model.safetensors."
        )
    if not pretrained:
        return _timm_backbone(spec, spec, spec, None, pretrained, image_size)
    try:
        config = timm.get_pretrained_cfg(spec)
    except RuntimeError as cause:
        tags = timm.list_pretrained(f"{spec.partition('.')[0]}.*")
        raise BackboneError(
            f"{cause}{did_you_mean(spec, tags)}\nPretrained: {', '.join(tags) or 'none'}"
        ) from cause
    if not config.hf_hub_id:
        raise BackboneError(
            f"timm has no weights on the Hub for '{spec}'.\n"
            "Use `pretrained=False` for random weights, or another backbone."
        )
    folder, revision = download_model(config.hf_hub_id, None, error=BackboneError)
    _read_config(folder, spec, weights=True)
    return _timm_backbone(f"local-dir:{folder}", spec, config.hf_hub_id, revision, True, image_size)


def _read_config(folder: Path, spec: str, *, weights: bool) -> dict[str, Any]:
    if not folder.is_dir():
        raise BackboneError(f"No folder '{folder}' (backbone '{spec}').")
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise BackboneError(f"No config.json in '{folder}' (backbone '{spec}').\nFound: {found}.") from None
    except ValueError as cause:
        raise BackboneError(f"{folder / 'config.json'} is not JSON: {cause}.") from cause
    if not isinstance(config, dict):
        raise BackboneError(f"{folder / 'config.json'} is not a JSON object, as both libraries write.")
    # Both libraries fall back to pickles when these files are missing; lort_hub never reads one.
    files = ["model.safetensors"] + ["model.safetensors.index.json"] * ("architecture" not in config)
    if weights and not any((folder / file).exists() for file in files):
        raise BackboneError(
            f"No model.safetensors in '{folder}' (backbone '{spec}'); pickled weights are never read.\n"
            f"Found: {found}. Convert the weights to safetensors, or use another revision."
        )
    return config


def _timm_backbone(
    name: str, spec: str, source: str, revision: str | None, pretrained: bool, image_size: int | None
) -> Backbone:
    import timm

    try:
        arguments = timm.models.resolve_model_input_args(name, {"img_size": image_size})
        model = timm.create_model(pretrained=pretrained, **arguments)
    except Exception as cause:  # an unknown config can make the library raise anything
        raise BackboneError(f"timm cannot build '{spec}': {type(cause).__name__}: {cause}") from cause
    if not pretrained:  # the recorded license is that of the published weights
        model.pretrained_cfg = {**model.pretrained_cfg, "license": None}
    has_classifier = pretrained and model.num_classes > 0
    if model.num_classes == 0:
        model.reset_classifier(2)
    model.eval().requires_grad_(False)
    data = timm.data.resolve_model_data_config(model, {"img_size": image_size})
    if data["input_size"][0] != 3:
        raise BackboneError(f"'{spec}' takes {data['input_size'][0]} channels, expected 3 (RGB).")
    names = model.pretrained_cfg.get("label_names") if has_classifier else None
    if isinstance(names, dict):  # timm also writes {index: name}
        names = [names[str(k)] for k in range(model.num_classes) if str(k) in names]
    backbone = Backbone(
        spec=spec,
        source=source,
        revision=revision,
        library="timm",
        model=model,
        classifier_name=_linear_name(model, spec),
        class_names=tuple(names) if names and len(names) == model.num_classes else None,
        transform=timm.data.create_transform(**data),
        augment=augmentation(data),
        image_size=data["input_size"][1],
        preprocessing={"library": "timm", **data},
    )
    check_features(backbone)
    return backbone


def _transformers_backbone(
    folder: Path, spec: str, source: str, revision: str | None, pretrained: bool, image_size: int | None
) -> Backbone:
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

    load = partial(AutoImageProcessor.from_pretrained, folder, trust_remote_code=False)
    try:
        processor = load()
        if image_size:
            square = {"height": image_size, "width": image_size}
            size = {"shortest_edge": image_size} if "shortest_edge" in dict(processor.size) else square
            processor = load(size=size, crop_size=square)
        transform = partial(_process, processor)
        pixels = transform(pillow.new("RGB", (64, 64)))
        if pretrained:
            model, info = AutoModelForImageClassification.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, trust_remote_code=False
            )
        else:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            model, info = AutoModelForImageClassification.from_config(config, trust_remote_code=False), {}
    except Exception as cause:  # an unknown config can make the library raise anything
        raise BackboneError(f"transformers cannot load '{spec}': {type(cause).__name__}: {cause}") from cause
    model.float().eval().requires_grad_(False)  # transformers keeps a file's half precision

    name = _final_linear(model, pixels[None], spec)
    missing = [key for key in info.get("missing_keys", ()) if not key.startswith(f"{name}.")]
    if missing:
        raise BackboneError(
            f"'{spec}' lacks {len(missing)} weights of its own architecture, the first '{missing[0]}'.\n"
            "The file is incomplete or of another model; features from random weights would be worthless."
        )
    names = [str(model.config.id2label[k]) for k in range(model.config.num_labels)]
    default_names = [f"LABEL_{k}" for k in range(len(names))]
    has_names = pretrained and not info.get("missing_keys") and names != default_names
    data = {
        "input_size": tuple(pixels.shape),
        "mean": tuple(processor.image_mean),
        "std": tuple(processor.image_std),
        "interpolation": "bicubic",
    }
    backbone = Backbone(
        spec=spec,
        source=source,
        revision=revision,
        library="transformers",
        model=model,
        classifier_name=name,
        class_names=tuple(names) if has_names else None,
        transform=transform,
        augment=augmentation(data, partial(_process, processor, do_resize=False)),
        image_size=data["input_size"][1],
        preprocessing={"library": "transformers", **json.loads(processor.to_json_string())},
        processor=processor,
    )
    check_features(backbone)
    return backbone


def _process(processor: Any, image: pillow.Image, **options: bool) -> Tensor:
    pixels: Tensor = processor(image, return_tensors="pt", **options)["pixel_values"][0]
    return pixels


def _linear_name(model: nn.Module, spec: str) -> str:
    classifier = model.get_classifier()  # type: ignore[operator]
    if isinstance(classifier, nn.Linear) or (
        isinstance(classifier, nn.Conv2d) and classifier.kernel_size == (1, 1)
    ):
        names: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
        return names[classifier]
    got = "two heads" if isinstance(classifier, tuple) else type(classifier).__name__
    raise BackboneError(
        f"'{spec}' ends in {got}, expected one linear classifier that (W, b) can replace.\n"
        "Use the undistilled sibling (deit_small_patch16_224, not deit_small_distilled_patch16_224) "
        "or another family, e.g. resnet50, convnext_tiny, vit_small_patch16_224."
    )


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
