"""Save a backbone with a new head in its own library's format, and check what was saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lort_hub.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from lort_hub.backbones.backbone import Backbone


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
        >>> import torch
        >>> from lort_hub.backbones.load import load_backbone
        >>> backbone = load_backbone("test_resnet", pretrained=False)
        >>> folder = Path(tempfile.mkdtemp())
        >>> save_model(backbone, torch.zeros(2, 96), torch.zeros(2), ["cat", "dog"], folder)
        >>> sorted(path.name for path in folder.iterdir())
        ['config.json', 'model.safetensors']
    """
    import torch

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
        CheckpointError: The logits differ by more than 1e-4, or pipeline's scores do not sum to one.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from PIL import Image
        >>> from lort_hub.backbones.load import load_backbone
        >>> backbone, folder = load_backbone("test_resnet", pretrained=False), Path(tempfile.mkdtemp())
        >>> save_model(backbone, torch.ones(2, 96), torch.zeros(2), ["cat", "dog"], folder)
        >>> check_saved(folder, backbone, torch.ones(2, 96), torch.zeros(2), [Image.new("RGB", (80, 60))])
    """
    import torch

    from lort_hub.backbones.load import load_backbone

    saved = load_backbone(str(folder))
    device = next(backbone.model.parameters()).device
    with torch.inference_mode():
        pixels = torch.stack([backbone.transform(image) for image in images]).to(device)
        expected = torch.addmm(bias, backbone.features(pixels).float().cpu(), weight.T)
        got = saved.logits(torch.stack([saved.transform(image) for image in images]))
    error = (got - expected).abs().max().item()
    if not error <= 1e-4 * max(1.0, expected.abs().max().item()):
        raise CheckpointError(
            f"The saved model's logits differ from ours by {error:.2g}, expected at most 1e-4.\n"
            "Nothing was written; please report the backbone as an issue."
        )
    _check_scores(folder, images)


def _check_scores(folder: Path, images: Sequence[Any]) -> None:
    """Refuse a saved model, of timm's too, whose scores in transformers' pipeline do not sum to one."""
    from transformers import pipeline
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    classify = pipeline("image-classification", model=str(folder), top_k=None, device="cpu")
    if shown:
        logging.enable_progress_bar()
    for scores in classify(list(images)):
        total = sum(each["score"] for each in scores)
        if not abs(total - 1) < 1e-3:
            raise CheckpointError(
                f"The saved model's scores in transformers' pipeline sum to {total:.3f}, expected 1.\n"
                "Nothing was written; please report the backbone as an issue."
            )
