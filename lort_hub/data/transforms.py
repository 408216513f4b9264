"""Random preprocessing of training images, the same for timm's and transformers' backbones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import Compose

from lort_hub.errors import ConfigError

EVAL_VIEW = "eval"


Transform = Callable[[Image.Image], Tensor]
"""From one RGB image to pixels (3, H, W)."""

PROBES = 300
"""Draws that random operations have to survive before a training starts."""

SMALL = 64
"""Largest side in pixels of images that are cropped as CIFAR's are."""


class Normalise:
    """timm's last steps, from bytes to normalised pixels, on a whole batch: equal bit for bit.

    A batch of Pillow's bytes (N, H, W, 3) is channels last already, and stays so.

    Example:
        >>> normalise = Normalise(torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.5, 0.5, 0.5]))
        >>> normalise(torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8)).flatten().tolist()
        [-1.0, 1.0, -0.6000000238418579]
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        """Normalise by the mean (3,) and deviation (3,) of each channel."""
        self.mean, self.std = mean, std

    def __call__(self, images: Tensor) -> Tensor:
        """Pixels (N, 3, H, W) of bytes (N, H, W, 3)."""
        width = images.shape[2]
        lines = images.flatten(2).float().div_(255)  # whole lines at a time: three channels are too few
        lines.sub_(self.mean.repeat(width)).div_(self.std.repeat(width))
        return lines.view(images.shape).permute(0, 3, 1, 2)


def to_bytes(image: Image.Image) -> Tensor:
    """The bytes (H, W, 3) of an RGB image.

    Example:
        >>> to_bytes(Image.new("RGB", (2, 1), (1, 2, 3))).tolist()
        [[[1, 2, 3], [1, 2, 3]]]
    """
    return torch.from_numpy(np.array(image))


def in_two(transform: Transform) -> tuple[Transform, Normalise] | None:
    """A transform of timm's as what Pillow does to an image and what is left to do to a batch.

    Args:
        transform: Any; None is returned for those that do not end as timm's do.

    Example:
        >>> import timm
        >>> whole = timm.data.create_transform(8)
        >>> one, rest = in_two(whole)
        >>> image = Image.effect_noise((9, 9), 64).convert("RGB")
        >>> rest(one(image)[None])[0].equal(whole(image))
        True
    """
    from timm.data.transforms import MaybeToTensor

    steps = _steps(transform)
    if [type(step) for step in steps[-2:]] != [MaybeToTensor, transforms.Normalize]:
        return None
    normalise = Normalise(torch.as_tensor(steps[-1].mean), torch.as_tensor(steps[-1].std))
    return Compose([*steps[:-2], to_bytes]), normalise


def _steps(transform: Any) -> list[Any]:
    """The steps of nested Composes, in order."""
    if not isinstance(transform, Compose):
        return [transform]
    return [inner for step in transform.transforms for inner in _steps(step)]


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


def augmented_view(seed: int, view: int) -> str:
    """Name of the `view`-th randomly augmented view (1, 2, ...) under `seed`.

    Example:
        >>> augmented_view(0, 3)
        'seed0.3'
    """
    return f"seed{seed}.{view}"
