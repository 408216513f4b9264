"""Select the weights of a backbone that stage 1 trains: all, the head, biases, or low-rank updates (LoRA)."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from lort_hub.errors import BackboneError, ConfigError

if TYPE_CHECKING:
    from torch import nn

    from lort_hub.backbones.backbone import Backbone

LORA_MIN_SHARE = 0.4
"""Smallest share of a model's weights that layers with low-rank updates must hold."""

Tune = Literal["full", "head", "lora", "bias"]


def select_trainable(backbone: Backbone, tune: Tune, *, lora_rank: int = 8) -> nn.Module:
    """Enable gradients for the weights to train, always including the classifier.

    Args:
        backbone: The backbone; its model is changed in place.
        tune: "full" trains all weights that the logits depend on, "head" the classifier, "bias" the biases
            and the classifier, "lora" low-rank updates and the classifier. The updates are those of the
            linear layers, or of the convolutions where the classifier is the only linear layer.
        lora_rank: Rank of the low-rank updates.

    Returns:
        The model to train.

    Raises:
        ConfigError: "lora" without the package peft.
        BackboneError: "lora" with a model that has too few layers for low-rank updates.

    Example:
        >>> from lort_hub.backbones.load import load_backbone
        >>> model = select_trainable(load_backbone("test_vit", pretrained=False), "head")
        >>> [name for name, weight in model.named_parameters() if weight.requires_grad]
        ['head.weight', 'head.bias']
    """
    model, classifier = backbone.model.requires_grad_(tune == "full"), backbone.classifier
    if tune == "lora":
        model = _with_lora(backbone, lora_rank)
    elif tune == "bias":
        for name, weight in model.named_parameters():
            weight.requires_grad_(name.endswith("bias"))
    classifier.requires_grad_(True)
    _freeze_unused(model, backbone)
    return model


def _freeze_unused(model: nn.Module, backbone: Backbone) -> None:
    """Freeze weights that the logits do not depend on: several processes would wait for their gradients."""
    from PIL import Image

    from lort_hub.backbones.backbone import logits_of

    model.eval()
    logits_of(model(backbone.transform(Image.new("RGB", (64, 64)))[None])).sum().backward()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.grad is not None)
    model.zero_grad(set_to_none=True)


def train_mode(model: nn.Module, tune: Tune) -> None:
    """Put the trained part of a model in training mode, and keep the frozen part in eval mode.

    With a frozen backbone there is no dropout, and BatchNorm keeps its statistics.

    Example:
        >>> from torch import nn
        >>> norm = nn.BatchNorm2d(3)
        >>> train_mode(norm, "lora")
        >>> norm.training
        False
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    model.train(tune != "head")
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train(tune == "full")


def check_trainable(
    model: nn.Module, backbone: Backbone, tune: Tune, *, batch_size: int, layer_decay: float | None
) -> None:
    """Refuse a layer decay of unknown layers, and batches of one that leave BatchNorm one value a channel.

    Args:
        model: The model to train; it is left as it is.
        backbone: Its backbone.
        tune: What is trained.
        batch_size: Images in a batch.
        layer_decay: Factor of the learning rate from a layer to the one below; None for none.

    Raises:
        ConfigError: It cannot be trained so.

    Example:
        >>> from lort_hub.backbones.load import load_backbone
        >>> backbone = load_backbone("test_vit", pretrained=False)
        >>> check_trainable(backbone.model, backbone, "full", batch_size=1, layer_decay=None)
    """
    import torch

    if layer_decay and backbone.library == "transformers":
        raise ConfigError("`layer_decay` needs a timm model; transformers models do not list their layers.")
    if batch_size > 1:
        return
    tried, image_size = copy.deepcopy(model), backbone.image_size
    train_mode(tried, tune)
    try:
        with torch.no_grad():
            tried(torch.zeros(1, 3, image_size, image_size))
    except ValueError as cause:
        raise ConfigError(
            f"Batches of one image leave batch normalisation a single value to normalise: {cause}\n"
            "Raise `batch_size` to 2 or more, or `image_size`."
        ) from cause


def merge_lora(model: Any) -> nn.Module:
    """Add the low-rank updates of a trained model to its weights, in a copy; return others as they are."""
    plain: nn.Module = model
    if hasattr(model, "merge_and_unload"):
        plain = copy.deepcopy(model).merge_and_unload()
    return plain


def _with_lora(backbone: Backbone, rank: int) -> nn.Module:
    if find_spec("peft") is None:
        raise ConfigError("`tune=\"lora\"` needs peft: pip install '.[lora]' in the clone of lort_hub")
    from peft import LoraConfig, get_peft_model
    from torch import nn

    inner = [
        (name, module) for name, module in backbone.model.named_modules() if name != backbone.classifier_name
    ]
    # Subclasses may change their weight or padding in the forward pass, which a low-rank update would miss.
    linear = [name for name, module in inner if type(module) is nn.Linear]
    convolutions = [name for name, module in inner if type(module) is nn.Conv2d and module.groups == 1]
    weights = sum(module.weight.numel() for name, module in inner if name in (linear or convolutions))
    if weights < LORA_MIN_SHARE * sum(
        weight.numel() for _, module in inner for weight in module.parameters(False)
    ):
        raise BackboneError(
            f"'{backbone.spec}' has too few plain layers for `tune=\"lora\"`.\n"
            "Use another `tune`: full, bias or head."
        )
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=linear or convolutions)
    model: nn.Module = get_peft_model(backbone.model, config)
    return model
