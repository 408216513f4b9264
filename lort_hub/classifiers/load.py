"""Load a classifier with its preprocessing and the record of its head, from a folder or the Hub."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL.Image import Image
from torch import Tensor

from lort_hub.backbones.backbone import Backbone
from lort_hub.backbones.load import hub_name, load_backbone, missing_folder
from lort_hub.data.decoding import to_rgb
from lort_hub.download import MODEL_FILES, download_model
from lort_hub.errors import CheckpointError
from lort_hub.hub.head_file import is_head
from lort_hub.hub.lort_head import LortHead


def is_timm_name(source: str) -> bool:
    """Check whether a model is named as timm names its own, and is no folder or file.

    Example:
        >>> is_timm_name("resnet50"), is_timm_name("org/name"), is_timm_name(".")
        (True, False, False)
    """
    return "/" not in source and ":" not in source and not Path(source).exists()


def find_classifier(source: str) -> Path:
    """Find the folder of a model, and download it where it is on the Hub.

    Args:
        source: A folder, or `org/name[@revision]`; with the prefixes of `load_backbone` or without.

    Raises:
        CheckpointError: There is no such folder, or the Hub has no such model.
        HubUnavailableError: The Hub is needed and does not answer.

    Example:
        >>> find_classifier(".")
        PosixPath('.')
    """
    name = _without_prefixes(source)
    folder = Path(name).expanduser()
    if _is_on_hub(source):
        if missing := missing_folder(hub_name(source.removeprefix("transformers:")), "model"):
            raise CheckpointError(missing)
        repo_id, _, revision = name.partition("@")
        files = [*MODEL_FILES, "head/config.json", "per_class.csv"]
        folder, _ = download_model(repo_id, revision or None, error=CheckpointError, files=files)
    return folder


def _is_on_hub(source: str) -> bool:
    name = source.removeprefix("transformers:")
    is_address = name.startswith("hf-hub:") or hub_name(name) != name
    return is_address or not ("local-dir:" in source or Path(_without_prefixes(source)).expanduser().is_dir())


def _without_prefixes(source: str) -> str:
    return hub_name(source.removeprefix("transformers:")).removeprefix("local-dir:").removeprefix("hf-hub:")


def load_classifier(
    source: str, *, image_size: int | None = None, named: bool = True
) -> tuple[Backbone, dict[str, Any]]:
    """Load a complete model with its preprocessing, and the record of its head.

    Args:
        source: An output folder, a head alone, or one of them on the Hub; or any other model that
            `load_backbone` takes.
        image_size: Side of the square input in pixels; None for the model's own.
        named: Whether to refuse a model that does not name its classes.

    Returns:
        The model, and the content of the head's config.json ({} if there is none).

    Raises:
        BackboneError: It is no image classifier that ends in one linear layer.
        CheckpointError: It does not name its classes, or the head was made on other pictures' preparation.

    Example:
        >>> backbone, record = load_classifier("out/photos")  # doctest: +SKIP
    """
    head = None
    if is_timm_name(source):
        backbone = load_backbone(source, image_size=image_size)
    else:
        folder = find_classifier(source)
        alone = is_head(folder)
        if alone or (folder / "head/config.json").exists():
            head = LortHead.from_pretrained(folder)
        backbone = _attach(head, image_size) if head and alone else _load_complete(source, folder, image_size)
    if named and backbone.class_names is None:
        raise CheckpointError(f"'{source}' does not name its classes; give the output folder of a recipe.")
    return backbone, head.config if head else {}


def _load_complete(source: str, folder: Path, image_size: int | None) -> Backbone:
    """Load a model from its folder; one of the Hub from the commit that was downloaded."""
    forced = "transformers:" if source.startswith("transformers:") else ""
    backbone = load_backbone(f"{forced}local-dir:{folder}", image_size=image_size)
    if not _is_on_hub(source):
        return backbone
    return replace(backbone, source=_without_prefixes(source).partition("@")[0], revision=folder.name)


def image_logits(backbone: Backbone, image: Image) -> Tensor:
    """Compute the logits (K,) of one picture of any mode, prepared as in the evaluation.

    Args:
        backbone: A classifier.
        image: The picture.

    Example:
        >>> from PIL import Image
        >>> backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
        >>> image_logits(backbone, Image.new("L", (40, 30))).shape
        torch.Size([1000])
    """
    return backbone.logits(backbone.transform(to_rgb(image))[None])[0]


def _attach(head: LortHead, image_size: int | None) -> Backbone:
    """Attach a head to the backbone and preprocessing it was trained with."""
    model, made_on = head.attach(), head.config["backbone"]
    spec = f"{made_on['source']}@{made_on['revision']}".removesuffix("@None")
    spec = f"transformers:{spec}" if made_on["library"] == "transformers" else spec
    made_at = made_on["preprocessing"].get("input_size", [None])[-1]
    backbone = load_backbone(spec, image_size=image_size or made_at)
    if json.loads(json.dumps(backbone.preprocessing)) != made_on["preprocessing"]:
        raise CheckpointError("The head's images were prepared in another way; give its complete model.")
    names = tuple(head.config["class_names"])
    return replace(backbone, model=model, class_names=names, is_classifier=True)
