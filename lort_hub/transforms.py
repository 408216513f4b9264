"""Random preprocessing of training images, the same for timm's and transformers' backbones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import Compose

from lort_hub.errors import ConfigError

Transform = Callable[[Image.Image], Tensor]
"""From one RGB image to pixels (3, H, W)."""

PROBES = 300
"""Draws that random operations have to survive before a training starts."""

SMALL = 64
"""Largest side in pixels of images that are cropped as CIFAR's are."""


def augmentation(data: dict[str, Any], finish: Transform | None = None) -> Compose:
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

    crop, _, normalise = timm.data.create_transform(**data, is_training=True, color_jitter=0.0, separate=True)
    side = data["input_size"][-1]
    if side <= SMALL:
        whole = transforms.Resize((side, side), transforms.InterpolationMode.BICUBIC)
        padded = transforms.RandomCrop(side, padding=side // 8)
        crop = Compose([whole, padded, transforms.RandomHorizontalFlip()])
    return Compose([crop, finish or normalise])


def with_random_operations(augment: Compose, name: str, side: int) -> Compose:
    """An augmentation with timm's RandAugment between its crop and its normalisation.

    Args:
        augment: What `augmentation` returned.
        name: timm's name of the operations, such as "rand-m9-mstd0.5-inc1".
        side: Side of the images in pixels.

    Raises:
        ConfigError: It is not timm's name of a RandAugment, or one of 300 draws fails.

    Example:
        >>> config = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
        >>> len(with_random_operations(augmentation(config), "rand-m9", 32).transforms)
        3
    """
    import timm

    # At timm's largest strength, 10, posterize keeps 0 bits, which Pillow refuses; at weak ones it may too.
    capped = name if "-mmax" in name else f"{name}-mmax9"
    sample = Image.effect_noise((side, side), 64).convert("RGB")
    try:
        if not name.startswith("rand-"):
            raise ValueError("no name of a RandAugment")
        _, randomise, _ = timm.data.create_transform(
            side, is_training=True, auto_augment=capped, separate=True
        )
        for _ in range(PROBES):
            randomise(sample)
    except (AssertionError, ValueError, KeyError) as cause:
        raise ConfigError(
            f"--auto-augment '{name}' is refused by timm or Pillow: {cause}\n"
            "Expected a name such as rand-m9-mstd0.5-inc1: strength m, its spread mstd, increasing inc1."
        ) from cause
    crop, finish = augment.transforms
    return Compose([crop, randomise, finish])
