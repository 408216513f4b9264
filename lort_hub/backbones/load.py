"""Load any timm model or transformers image classifier by one spec."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from lort_hub import cifar_resnets  # noqa: F401  registers the CIFAR nets with timm
from lort_hub.backbones.backbone import Backbone, check_features
from lort_hub.backbones.load_transformers import is_named, load_transformers
from lort_hub.data.transforms import augmentation
from lort_hub.download import download_model
from lort_hub.errors import BackboneError, did_you_mean
from lort_hub.files import missing_path
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
        >>> import torch
        >>> backbone = load_backbone("test_resnet", pretrained=False, image_size=64)
        >>> backbone.features(torch.zeros(2, 3, 64, 64)).shape, backbone.num_features
        (torch.Size([2, 96]), 96)
    """
    forced = spec.startswith("transformers:")
    named = spec.removeprefix("transformers:")
    name, revision = hub_name(named), None
    if name.startswith("local-dir:") or (name == named and Path(name).expanduser().is_dir()):
        folder = Path(name.removeprefix("local-dir:")).expanduser()
        source = str(folder)
    elif refusal := missing_folder(name, "backbone"):
        raise BackboneError(refusal)
    elif "/" in name:
        source, _, branch = name.removeprefix("hf-hub:").partition("@")
        folder, revision = download_model(source, branch or None, error=BackboneError)
    else:
        return _load_timm_name(spec, pretrained, image_size)
    config = _read_config(folder, spec, weights=pretrained)
    # transformers' own wrapper of timm models is read, and written, as timm does.
    is_timm = "architecture" in config and (not forced or config.get("model_type") == "timm_wrapper")
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
        backbone = load_transformers(folder, spec, source, revision, pretrained, image_size)
    return replace(backbone, trained_on=read_trained_on(folder) if pretrained else None)


def hub_name(spec: str) -> str:
    """Return the `org/name` of a model's address on the Hub; other specs as they are.

    Example:
        >>> hub_name("https://huggingface.co/microsoft/resnet-50"), hub_name("resnet50")
        ('microsoft/resnet-50', 'resnet50')
    """
    address = re.match(r"(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://|models/)(.+)", spec)
    if not address:
        return spec
    found = re.fullmatch(r"(?:models/)?([^/]+/[^/]+?)(?:/(?:tree|blob|resolve)/([^/]+))?/?", address[1])
    return spec if not found else f"{found[1]}@{found[2]}" if found[2] else found[1]


def missing_folder(name: str, argument: str) -> str | None:
    """Say what is wrong with a model's name that is a file, an address or a mistyped folder; None for others.

    Args:
        name: The name, without `transformers:`.
        argument: Name of the argument that it was given as, for the message.

    Example:
        >>> missing_folder("./nowhere", "model"), missing_folder("org/name", "model")
        ("No folder './nowhere' (from `model`).", None)
    """
    path = Path(name).expanduser()
    if path.is_file():
        return (
            f"'{name}' is a file (from `{argument}`), expected a folder of config.json, model.safetensors.\n"
            "Pickled weights are never read: load them in Python, and save the model with transformers' "
            "save_pretrained or timm.models.save_for_hf(model, folder, safe_serialization=True)."
        )
    if "://" in name or name.startswith("datasets/"):
        return (
            f"'{name}' is {'a web address' if '://' in name else 'a data set'} (from `{argument}`).\n"
            "Expected a timm name, org/name on the Hub, or a folder with config.json and model.safetensors."
        )
    if path.is_dir():  # an address on the Hub that is a folder's name, too
        return None
    missing = missing_path(path, name, argument)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        return missing
    in_a_folder = "/" in name and path.absolute().parent.is_dir() and not name.startswith("hf-hub:")
    return (
        f"{missing}\nFor a model on the Hub: hf-hub:{name}." if in_a_folder and "Did you" in missing else None
    )


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
    found = _read_config(folder, spec, weights=True)
    if "quickgelu" in spec and "quickgelu" not in str(found.get("architecture")):
        # One repository holds the weights for both activations, and its config.json names the other one.
        overlay = {"file": str(folder / "model.safetensors")}
        return _timm_backbone(spec, spec, config.hf_hub_id, revision, True, image_size, overlay)
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
    name: str,
    spec: str,
    source: str,
    revision: str | None,
    pretrained: bool,
    image_size: int | None,
    overlay: dict[str, str] | None = None,
) -> Backbone:
    import timm

    try:
        arguments = timm.models.resolve_model_input_args(name, {"img_size": image_size})
        model = timm.create_model(pretrained=pretrained, pretrained_cfg_overlay=overlay, **arguments)
    except Exception as cause:  # an unknown config can make the library raise anything
        raise BackboneError(f"timm cannot build '{spec}': {type(cause).__name__}: {cause}") from cause
    if not pretrained:  # the recorded license is that of the published weights
        model.pretrained_cfg = {**model.pretrained_cfg, "license": None}
    if overlay:
        model.pretrained_cfg = {**model.pretrained_cfg, "file": None}
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
        class_names=tuple(map(str, names)) if names and is_named(names, model.num_classes) else None,
        transform=timm.data.create_transform(**data),
        augment=augmentation(data),
        image_size=data["input_size"][1],
        preprocessing={"library": "timm", **data},
        is_classifier=has_classifier,
    )
    check_features(backbone)
    return backbone


def _linear_name(model: nn.Module, spec: str) -> str:
    import timm

    classifier = model.get_classifier()  # type: ignore[operator]
    if isinstance(classifier, nn.Linear) or (
        isinstance(classifier, nn.Conv2d) and classifier.kernel_size == (1, 1)
    ):
        names: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
        return names[classifier]
    got = "two heads" if isinstance(classifier, tuple) else type(classifier).__name__
    plain = spec.partition(".")[0].replace("_distilled", "")
    sibling = plain if plain != spec.partition(".")[0] and timm.is_model(plain) else None
    instead = f"its undistilled sibling {sibling}" if sibling else "another family"
    raise BackboneError(
        f"'{spec}' ends in {got}, expected one linear classifier that (W, b) can replace.\n"
        f"Use {instead}, e.g. {'' if sibling else 'resnet50, '}convnext_tiny, vit_small_patch16_224."
    )
