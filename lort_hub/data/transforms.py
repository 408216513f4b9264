"""Build the random preprocessing of training images, the same for timm and transformers backbones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import Compose

from lort_hub.errors import ConfigError, did_you_mean

EVAL_VIEW = "eval"
"""Name of the view that the deterministic evaluation preprocessing makes of each image."""

Transform = Callable[[Image.Image], Tensor]
"""From one RGB image to pixels (3, H, W)."""

AUGMENT_TRIALS = 300
"""How often random operations are tried on a noise image before a training starts."""

POLICIES = {
    f"autoaugment-{policy.value}": partial(transforms.AutoAugment, policy, fill=[128] * 3)
    for policy in transforms.AutoAugmentPolicy
} | {"trivialaugment-wide": partial(transforms.TrivialAugmentWide, fill=[128] * 3)}
"""torchvision's random operations that need no strength, by name; what they uncover is grey."""

SMALL_SIDE = 64
"""Images up to this side in pixels are cropped as the CIFAR protocol does."""


class Normalise:
    """Conversion of a batch from bytes to normalised pixels, equal bit for bit to timm's last two steps.

    timm converts image by image (`MaybeToTensor`, `Normalize`); this converts a batch (N, H, W, 3) at once
    and keeps its memory format, channels last.

    Example:
        >>> normalise = Normalise(torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.5, 0.5, 0.5]))
        >>> normalise(torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8)).flatten().tolist()
        [-1.0, 1.0, -0.6000000238418579]
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean (3,) and standard deviation (3,) of the channels."""
        self.mean, self.std = mean, std

    def __call__(self, images: Tensor) -> Tensor:
        """Return pixels (N, 3, H, W), float32, of bytes (N, H, W, 3)."""
        width = images.shape[2]
        lines = images.flatten(2).float().div_(255)  # operations on three channels alone would be slow
        lines.sub_(self.mean.repeat(width)).div_(self.std.repeat(width))
        return lines.view(images.shape).permute(0, 3, 1, 2)


def to_bytes(image: Image.Image) -> Tensor:
    """Copy an RGB image into a tensor (H, W, 3), uint8.

    Example:
        >>> to_bytes(Image.new("RGB", (2, 1), (1, 2, 3))).tolist()
        [[[1, 2, 3], [1, 2, 3]]]
    """
    return torch.from_numpy(np.array(image))


def split_transform(transform: Transform) -> tuple[Transform, Normalise] | None:
    """Split a timm transform into the Pillow steps for one image and the normalisation of a batch.

    Args:
        transform: Any transform.

    Returns:
        A transform to bytes (H, W, 3) and the conversion of a batch of them; None for a transform that does
        not end in timm's `MaybeToTensor` and `Normalize`.

    Example:
        >>> import timm
        >>> transform = timm.data.create_transform(8)
        >>> pillow_steps, normalise = split_transform(transform)
        >>> image = Image.effect_noise((9, 9), 64).convert("RGB")
        >>> normalise(pillow_steps(image)[None])[0].equal(transform(image))
        True
    """
    from timm.data.transforms import MaybeToTensor

    steps = _steps(transform)
    if [type(step) for step in steps[-2:]] != [MaybeToTensor, transforms.Normalize]:
        return None
    normalise = Normalise(torch.as_tensor(steps[-1].mean), torch.as_tensor(steps[-1].std))
    return Compose([*steps[:-2], to_bytes]), normalise


def _steps(transform: Any) -> list[Any]:
    """List the steps of nested Composes, in order."""
    if not isinstance(transform, Compose):
        return [transform]
    return [inner for step in transform.transforms for inner in _steps(step)]


def augmentation(data: dict[str, Any], finish: Transform | None = None) -> Compose:
    """Build the training augmentation: a random crop, a random flip, and the conversion to pixels.

    Small images are padded and cropped (the CIFAR protocol), larger ones cropped and resized (ImageNet's).

    Args:
        data: timm's data config: input_size (3, H, W), mean, std, interpolation, and more.
        finish: Maps the cropped image to pixels; None normalises by the mean and std in `data`.

    Example:
        >>> from PIL import Image
        >>> config = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
        >>> augmentation(config)(Image.new("RGB", (32, 32))).shape
        torch.Size([3, 32, 32])
    """
    import timm

    crop, _, normalise = timm.data.create_transform(**data, is_training=True, color_jitter=0.0, separate=True)
    side = data["input_size"][-1]
    if side <= SMALL_SIDE:
        resize = transforms.Resize((side, side), transforms.InterpolationMode.BICUBIC)
        padded_crop = transforms.RandomCrop(side, padding=side // 8)
        crop = Compose([resize, padded_crop, transforms.RandomHorizontalFlip()])
    return Compose([crop, finish or normalise])


def add_auto_augment(augment: Compose, name: str, side: int) -> Compose:
    """Add random operations to an augmentation, between its crop and its conversion to pixels.

    Args:
        augment: The augmentation, from `augmentation`.
        name: timm's name of a RandAugment, such as "rand-m9-mstd0.5-inc1" (arXiv 1909.13719); the policies of
            AutoAugment (arXiv 1805.09501) as torchvision has them, "autoaugment-cifar10",
            "autoaugment-imagenet", "autoaugment-svhn"; or "trivialaugment-wide" (arXiv 2103.10158).
        side: Side of the images in pixels.

    Raises:
        ConfigError: No operations have that name, or one of 300 trials fails.

    Example:
        >>> config = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
        >>> len(add_auto_augment(augmentation(config), "rand-m9", 32).transforms)
        3
    """
    crop, finish = augment.transforms
    if policy := POLICIES.get(name):
        return Compose([crop, policy(), finish])
    import timm

    # At timm's largest strength, 10, posterize keeps 0 bits, which Pillow 13 refuses. A weak strength may
    # also end there: the trials below find out.
    capped = name if "-mmax" in name else f"{name}-mmax9"
    sample = Image.effect_noise((side, side), 64).convert("RGB")
    try:
        if not name.startswith("rand-"):
            raise ValueError("not the name of a RandAugment")
        _, randomise, _ = timm.data.create_transform(
            side, is_training=True, auto_augment=capped, separate=True
        )
        for _ in range(AUGMENT_TRIALS):
            randomise(sample)
    except (AssertionError, ValueError, KeyError) as cause:
        raise ConfigError(
            f'`auto_augment="{name}"` is refused by timm or Pillow: {cause}.{did_you_mean(name, POLICIES)}\n'
            "Expected a name such as rand-m9-mstd0.5-inc1 (strength m, its spread mstd, increasing inc1), or "
            f"{', '.join(POLICIES)}."
        ) from cause
    return Compose([crop, randomise, finish])


def augmented_view(seed: int, view: int) -> str:
    """Return the name of the `view`-th randomly augmented view (1, 2, ...) under `seed`.

    Example:
        >>> augmented_view(0, 3)
        'seed0.3'
    """
    return f"seed{seed}.{view}"
