"""Define the CIFAR ResNets of the long-tailed literature and register them with timm.

All have a 3x3 stem without pooling, for inputs of 32 pixels. `resnet32_cifar` is that of He et al. (arXiv
1512.03385, section 4.2), the usual one for CIFAR-LT: 16, 32 and 64 channels, parameter-free shortcuts (option
A). `resnet32x2_cifar` has twice as many channels. `resnet34_cifar` is a ResNet-34 with 64 to 512 channels, as
in the LORT authors' code (docs/method.md). All keep timm's initialisation (He's normal, fan out; no zeroed
residual branch).
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.byobnet import BasicBlock, ByoBlockCfg, ByobNet, ByoModelCfg
from torch import Tensor, nn


class PadShortcut(nn.Module):
    """Shortcut of option A: every second pixel, with channels of zeros added on both sides.

    Example:
        >>> import torch
        >>> PadShortcut(2)(torch.ones(1, 2, 4, 4)).sum(dim=(0, 2, 3))
        tensor([0., 4., 4., 0.])
    """

    def __init__(self, extra_channels: int) -> None:
        """Set the number of added channels; half of them come before the input's."""
        super().__init__()
        self.before = extra_channels // 2
        self.after = extra_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C + extra, H / 2, W / 2)."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class CifarResNet(ByobNet):  # type: ignore[misc]
    """Network of timm's ByobNet blocks with a stem of stride 1."""

    def __init__(self, cfg: ByoModelCfg, pad_shortcuts: bool = False, **kwargs: Any) -> None:
        """Build the network; `pad_shortcuts` replaces the projections by option A."""
        super().__init__(cfg, **kwargs)
        self.stem.conv.stride = (1, 1)
        for info in self.feature_info:
            info["reduction"] //= 2
        for block in self.modules():
            if (
                pad_shortcuts
                and isinstance(block, BasicBlock)
                and not isinstance(block.shortcut, nn.Identity)
            ):
                projection = block.shortcut.conv
                block.shortcut = PadShortcut(projection.out_channels - projection.in_channels)


def _config(depths: tuple[int, ...], channels: tuple[int, ...]) -> ByoModelCfg:
    stages = zip(depths, channels, strict=True)
    return ByoModelCfg(
        blocks=tuple(ByoBlockCfg("basic", d=d, c=c, s=1 + (c != channels[0])) for d, c in stages),
        stem_chs=channels[0],
        stem_pool="",
        zero_init_last=False,
    )


def _default_cfg() -> dict[str, Any]:
    return {
        "url": "",
        "num_classes": 100,
        "input_size": (3, 32, 32),
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": (0.4914, 0.4822, 0.4465),
        "std": (0.2023, 0.1994, 0.2010),
        "first_conv": "stem.conv",
        "classifier": "head.fc",
    }


NAMES = ("resnet32_cifar", "resnet32x2_cifar", "resnet34_cifar")
default_cfgs = generate_default_cfgs({f"{name}.untrained": _default_cfg() for name in NAMES})


def _create(variant: str, pretrained: bool, config: ByoModelCfg, **kwargs: Any) -> CifarResNet:
    kwargs = {"zero_init_last": False, **kwargs}  # num_classes: timm's build knows whose comes first
    feature_cfg = {"flatten_sequential": True, "out_indices": tuple(range(len(config.blocks)))}
    model: CifarResNet = build_model_with_cfg(
        CifarResNet, variant, pretrained, model_cfg=config, feature_cfg=feature_cfg, **kwargs
    )
    return model


@register_model  # type: ignore[untyped-decorator]
def resnet32_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """Build ResNet-32 with 16, 32 and 64 channels: 64 features, 0.46 M parameters.

    Example:
        >>> import timm
        >>> model = timm.create_model("resnet32_cifar", num_classes=10)
        >>> sum(parameter.numel() for parameter in model.parameters())
        464154
    """
    config = _config((5, 5, 5), (16, 32, 64))
    return _create("resnet32_cifar", pretrained, config, pad_shortcuts=True, **kwargs)


@register_model  # type: ignore[untyped-decorator]
def resnet32x2_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """Build ResNet-32 of double width, with 32, 64 and 128 channels: 128 features, 1.8 M parameters.

    Example:
        >>> import timm
        >>> timm.create_model("resnet32x2_cifar").head_hidden_size
        128
    """
    config = _config((5, 5, 5), (32, 64, 128))
    return _create("resnet32x2_cifar", pretrained, config, pad_shortcuts=True, **kwargs)


@register_model  # type: ignore[untyped-decorator]
def resnet34_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """Build ResNet-34 with 64 to 512 channels: 512 features, 21.3 M parameters.

    Example:
        >>> import timm
        >>> timm.create_model("resnet34_cifar").head_hidden_size
        512
    """
    return _create("resnet34_cifar", pretrained, _config((3, 4, 6, 3), (64, 128, 256, 512)), **kwargs)
