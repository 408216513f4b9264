"""Save a backbone with a new head in its own library's format, and check what was saved, or will be."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image as pillow
from safetensors import SafetensorError
from torch import Tensor

from lort_hub.backbones.backbone import Backbone
from lort_hub.backbones.load import load_backbone
from lort_hub.data.image_loader import seeded
from lort_hub.errors import CheckpointError


def save_model(
    backbone: Backbone, weight: Tensor, bias: Tensor, class_names: Sequence[str], folder: Path
) -> None:
    """Write the complete model with a new head, as its own library loads it without lort_hub.

    Args:
        backbone: The backbone; its own classifier is not changed.
        weight: W (K, D).
        bias: b (K,).
        class_names: Names of the K classes.
        folder: An existing folder.

    Example:
        >>> import tempfile
        >>> backbone = load_backbone("test_resnet", pretrained=False)
        >>> folder = Path(tempfile.mkdtemp())
        >>> save_model(backbone, torch.zeros(2, 96), torch.zeros(2), ["cat", "dog"], folder)
        >>> sorted(path.name for path in folder.iterdir())
        ['config.json', 'model.safetensors']
    """
    model: Any = backbone.with_classifier(weight, bias, class_names).model.cpu()
    model.to(memory_format=torch.contiguous_format)
    if backbone.library == "timm":
        _save_timm(model, backbone, class_names, folder)
    else:
        model.config.architectures = [type(model).__name__]
        model.save_pretrained(folder)
        backbone.processor.save_pretrained(folder)


def _save_timm(model: Any, backbone: Backbone, class_names: Sequence[str], folder: Path) -> None:
    import timm

    data = {name: value for name, value in backbone.preprocessing.items() if name != "library"}
    timm.models.save_for_hf(
        model,
        str(folder),
        model_config={"label_names": list(class_names)},
        safe_serialization=True,
        data_config=data,
    )
    # transformers passes num_classes itself and fails on a second one in model_args; timm reads the root's.
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.get("model_args", {}).pop("num_classes", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def check_saved(
    folder: Path, backbone: Backbone, weight: Tensor, bias: Tensor, images: Sequence[Any]
) -> None:
    """Load a saved model back and compare its logits with the head on the backbone's features.

    Args:
        folder: What `save_model` wrote.
        backbone: The backbone.
        weight: W (K, D).
        bias: b (K,).
        images: A few RGB images.

    Raises:
        CheckpointError: It has another number of classes, its logits differ by more than 1e-4, or pipeline's
            scores do not sum to one.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> backbone, folder = load_backbone("test_resnet", pretrained=False), Path(tempfile.mkdtemp())
        >>> save_model(backbone, torch.ones(2, 96), torch.zeros(2), ["cat", "dog"], folder)
        >>> check_saved(folder, backbone, torch.ones(2, 96), torch.zeros(2), [Image.new("RGB", (80, 60))])
    """
    saved = load_backbone(str(folder))
    ours = backbone
    if next(backbone.model.parameters()).device.type != "cpu":  # whose convolutions round otherwise
        ours = replace(backbone, model=copy.deepcopy(backbone.model).cpu())
    with torch.inference_mode():
        pixels = torch.stack([ours.transform(image) for image in images])
        expected = torch.addmm(bias, ours.features(pixels), weight.T)
        got = saved.logits(torch.stack([saved.transform(image) for image in images]))
    if got.shape != expected.shape:
        raise CheckpointError(
            f"The saved model is loaded back with {got.shape[1]} classes, expected {expected.shape[1]}."
        )
    error = (got - expected).abs().max().item()
    if not error <= 1e-4 * max(1.0, expected.abs().max().item()):
        raise CheckpointError(
            f"The saved model's logits differ from ours by {error:.2g}, expected at most 1e-4.\n"
            "Nothing was written; please report the backbone as an issue."
        )
    _check_scores(folder, images)


def check_saveable(backbone: Backbone, class_names: Sequence[str], folder: Path) -> None:
    """Save the model with a random head for these classes, load it back and compare, before any compute.

    The temporary folder is made where the output will lie, so a full disk shows too. No random number of the
    caller is drawn. On one core it takes about a second for a ResNet-50, and 15 for a ViT-L.

    Args:
        backbone: The model as it will be saved, but for its classifier.
        class_names: Names of the K classes.
        folder: The output folder; it need not exist.

    Raises:
        CheckpointError: The model cannot be saved there, or is another one when it is loaded back.

    Example:
        >>> check_saveable(load_backbone("test_resnet", pretrained=False), ["cat", "dog"], Path("out"))
    """
    folder = folder.resolve()
    beside = next(parent for parent in folder.parents if parent.is_dir())
    images = [pillow.effect_noise((64, 64), 64).convert("RGB")]
    try:
        with (
            seeded(0),  # loading draws random weights first
            TemporaryDirectory(prefix=f".{folder.name}.", suffix=".tmp", dir=beside) as saved,
        ):
            weight = torch.randn(len(class_names), backbone.num_features) / backbone.num_features**0.5
            bias = torch.randn(len(class_names))
            save_model(backbone, weight, bias, class_names, Path(saved))
            check_saved(Path(saved), backbone, weight, bias, images)
    except (OSError, SafetensorError) as cause:
        raise CheckpointError(
            f"Cannot write the model beside {folder}: {cause}.\n"
            "Nothing was computed yet: make room or name another place, then run again."
        ) from cause
    except Exception as cause:  # whatever a stranger's model makes the libraries raise
        raise CheckpointError(
            f"'{backbone.spec}' cannot be saved with {len(class_names)} classes and loaded back: "
            f"{type(cause).__name__}: {str(cause).partition(chr(10))[0]}\n"
            "Nothing was computed yet: use another backbone, and please report this one as an issue."
        ) from cause


def _check_scores(folder: Path, images: Sequence[Any]) -> None:
    """Refuse a saved model, of timm's too, whose scores in transformers' pipeline do not sum to one."""
    from transformers import pipeline
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    classify = pipeline("image-classification", model=str(folder), device="cpu")
    if shown:
        logging.enable_progress_bar()
    for scores in classify(list(images), top_k=classify.model.config.num_labels):  # None is taken for 5
        total = sum(each["score"] for each in scores)
        if not abs(total - 1) < 1e-3:
            raise CheckpointError(
                f"The saved model's scores in transformers' pipeline sum to {total:.3f}, expected 1.\n"
                "Nothing was written; please report the backbone as an issue."
            )
