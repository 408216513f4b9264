"""Random preprocessing of training images, the same for timm's and transformers' backbones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL.Image import Image
from torch import Tensor

Transform = Callable[[Image], Tensor]
"""From one RGB image to pixels (3, H, W)."""

SMALL = 64
"""Largest side in pixels of images that are cropped as CIFAR's are."""


def augmentation(data: dict[str, Any], finish: Transform | None = None) -> Transform:
    """Crop and flip: padded for small images (the CIFAR protocol), resized for the others (ImageNet's).

    Args:
        data: timm's data config: input_size (3, H, W), mean, std, interpolation, and more.
        finish: Maps the cropped image to pixels; None normalises by `data`'s mean and std.

    Example:
        >>> from PIL import Image
        >>> config = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
        >>> augmentation(config)(Image.new("RGB", (32, 32))).shape
        torch.Size([3, 32, 32])
    """
    import timm
    from torchvision import transforms

    side = data["input_size"][-1]
    if side > SMALL:
        *crops, normalise = timm.data.create_transform(
            **data, is_training=True, color_jitter=0.0, separate=True
        )
    else:
        crops = [
            transforms.Resize((side, side), transforms.InterpolationMode.BICUBIC),
            transforms.RandomCrop(side, padding=side // 8),
            transforms.RandomHorizontalFlip(),
        ]
        normalise = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(data["mean"], data["std"])]
        )
    augment: Transform = transforms.Compose([*crops, finish or normalise])
    return augment
