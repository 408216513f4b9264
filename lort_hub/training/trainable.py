"""Which of a backbone's weights stage 1 trains: all, the head, biases, or low-rank updates (LoRA)."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from lort_hub.errors import BackboneError, ConfigError

if TYPE_CHECKING:
    from torch import nn

    from lort_hub.backbones.backbone import Backbone

LORA_SHARE = 0.4
"""Least share of a model's weights in layers that low-rank updates fit."""

Tune = Literal["full", "head", "lora", "bias"]


def choose_trained(backbone: Backbone, tune: Tune, *, lora_rank: int = 8) -> nn.Module:
    """The backbone's model with gradients on for what is trained, the classifier always among it.

    Args:
        backbone: Its model is changed in place.
        tune: "full" trains everything, "head" the classifier alone, "bias" also every bias, "lora" also
            low-rank updates of the linear layers (of the convolutions where there is no other linear layer).
        lora_rank: Rank of those updates.

    Raises:
        ConfigError: "lora" without the package peft.
        BackboneError: "lora" finds no layer it could update.

    Example:
        >>> from lort_hub.backbones.load import load_backbone
        >>> model = choose_trained(load_backbone("test_vit", pretrained=False), "head")
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
    return model


def train_mode(model: nn.Module, tune: Tune) -> None:
    """Put a model in training mode, but what is frozen stays as it is: no dropout, no batch statistics.

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


def merged(model: Any) -> nn.Module:
    """The plain model, low-rank updates added to the weights they update: in a copy, where there are any."""
    plain: nn.Module = model
    if hasattr(model, "merge_and_unload"):
        plain = copy.deepcopy(model).merge_and_unload()
    return plain


def _with_lora(backbone: Backbone, rank: int) -> nn.Module:
    if find_spec("peft") is None:
        raise ConfigError("--tune lora needs its package: pip install peft")
    from peft import LoraConfig, get_peft_model
    from torch import nn

    inner = [
        (name, module) for name, module in backbone.model.named_modules() if name != backbone.classifier_name
    ]
    # Subclasses change their weight or padding on the way, which a low-rank update could not follow.
    linear = [name for name, module in inner if type(module) is nn.Linear]
    convolutions = [name for name, module in inner if type(module) is nn.Conv2d and module.groups == 1]
    weights = sum(module.weight.numel() for name, module in inner if name in (linear or convolutions))
    if weights < LORA_SHARE * sum(
        weight.numel() for _, module in inner for weight in module.parameters(False)
    ):
        raise BackboneError(
            f"'{backbone.spec}' has too few plain layers that --tune lora could update.\n"
            "Use --tune full, bias or head."
        )
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=linear or convolutions)
    model: nn.Module = get_peft_model(backbone.model, config)
    return model
