"""Make training batches that depend only on seed, epoch and position.

They do not depend on the number of processes or workers, or on earlier random draws: an epoch that is
started again after a crash gets the same batches. Small images are decoded once, and cropped and flipped as
tensors, a batch at a time; random operations and larger images go through workers, image by image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import transforms

from lort_hub.backbones.backbone import Backbone
from lort_hub.data.dataset import ImageSplit
from lort_hub.data.image_loader import ImageViews, collate, map_in_threads
from lort_hub.data.transforms import EVAL_VIEW, SMALL_SIDE, augmented_view, to_bytes
from lort_hub.errors import ConfigError

MEMORY_BYTES = 2**30
"""Largest size of the decoded images of a training set that are kept in memory."""


@dataclass(frozen=True)
class Batch:
    """One process's part of a batch.

    Attributes:
        pixels: Normalised images (n, 3, H, W).
        labels: Labels (n,).
        share: n times the number of processes, over the samples of the whole batch. If each part's mean loss
            is scaled by it, gradients that are averaged over processes and summed over the accumulated parts
            are those of the mean loss over the whole batch.
        ends_step: Whether the optimiser steps after this part, the last one that this process accumulates.
    """

    pixels: Tensor
    labels: Tensor
    share: float
    ends_step: bool


class Batches:
    """Training batches of one process.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> from lort_hub.backbones.load import load_backbone
        >>> backbone = load_backbone("resnet32_cifar", pretrained=False)
        >>> batches = Batches(load_long_tailed("digits").train, backbone, batch_size=64)
        >>> first = next(batches.epoch(0))
        >>> len(batches), first.pixels.shape, first.labels.shape
        (9, torch.Size([64, 3, 32, 32]), torch.Size([64]))
    """

    def __init__(
        self,
        split: ImageSplit,
        backbone: Backbone,
        *,
        batch_size: int,
        seed: int = 0,
        process: int = 0,
        processes: int = 1,
        gradient_accumulation_steps: int = 1,
        cutout: int = 0,
        num_workers: int = 0,
    ) -> None:
        """Prepare the batches; small images are decoded here.

        Args:
            split: The training images.
            backbone: The backbone, for its preprocessing and augmentation.
            batch_size: Samples per part. A whole batch has `batch_size * processes *
                gradient_accumulation_steps` samples.
            seed: Seed of order and augmentation.
            process: Index of this process.
            processes: Number of processes.
            gradient_accumulation_steps: Parts of a batch that each process accumulates before a step.
            cutout: Side in pixels of the square hidden in each image, as `cut_out` does it; 0 for none.
            num_workers: Decoding threads for images kept in memory, decoding processes for others.

        Raises:
            BadImageError: A small image cannot be decoded; a larger one raises when its batch is made.
            ConfigError: There are fewer images than parts, or `cutout` is no smaller than an image.
        """
        self.split, self.seed, self.process, self.processes = split, seed, process, processes
        self.parts, self.num_workers = processes * gradient_accumulation_steps, num_workers
        self.cutout = cutout
        self.size = batch_size * self.parts
        check_cutout(cutout, backbone)
        if len(split) < self.parts:
            raise ConfigError(
                f"{len(split)} training images are fewer than the {self.parts} parts of a batch (processes x "
                "`gradient_accumulation_steps`).\nLower those steps, or use fewer processes."
            )
        self.labels = torch.from_numpy(split.labels)
        side = backbone.image_size
        fits = side <= SMALL_SIDE and 3 * side**2 * len(split) <= MEMORY_BYTES and backbone.library == "timm"
        self.images = _decode(split, side, num_workers) if fits else None
        decoded = None if self.images is None else self.images.permute(0, 2, 3, 1).numpy()
        self.views = ImageViews(split, backbone.transform, backbone.augment, decoded)
        self.in_batches = self.images is not None and backbone.auto_augment is None
        self.mean, self.std = (
            torch.tensor(backbone.preprocessing.get(name, (0.5,) * 3)).view(1, 3, 1, 1)
            for name in ("mean", "std")
        )

    def __len__(self) -> int:
        return len(self._rows(0))

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Make the batches of one epoch, in its order and with its augmentation.

        Args:
            epoch: Number of the epoch, from 0.

        Raises:
            BadImageError: An image cannot be decoded.
        """
        images = self._from_memory(epoch) if self.in_batches else self._from_workers(epoch)
        parts = self._own_parts()
        for step, batch in enumerate(self._rows(epoch)):
            generator = torch.Generator().manual_seed(_seed(self.seed, epoch, step, self.cutout))
            place = torch.rand(2, len(batch), generator=generator)
            for part in parts:
                rows, pixels = next(images)
                if self.cutout:
                    pixels = cut_out(pixels, place[:, part], self.cutout)
                share = len(rows) * self.processes / len(batch)
                yield Batch(pixels, self.labels[rows], share, ends_step=part is parts[-1])

    def _own_parts(self) -> list[slice]:
        """Slice every batch into this process's parts; each image is in one part of one process."""
        return [slice(first, None, self.parts) for first in range(self.process, self.parts, self.processes)]

    def _from_memory(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        images = self.images
        assert images is not None  # as `in_batches` says
        padding = images.shape[-1] // 8
        for step, batch in enumerate(self._rows(epoch)):
            generator = torch.Generator().manual_seed(_seed(self.seed, epoch, step))
            shift = torch.randint(0, 2 * padding + 1, (2, len(batch)), generator=generator)
            flip = torch.rand(len(batch), generator=generator) < 0.5
            for part in self._own_parts():
                rows = batch[part]
                cropped = crop_and_flip(images[rows], shift[:, part], flip[part], padding)
                yield rows, (cropped.float() / 255 - self.mean) / self.std

    def _rows(self, epoch: int) -> list[Tensor]:
        order = torch.randperm(
            len(self.split), generator=torch.Generator().manual_seed(_seed(self.seed, epoch))
        )
        *batches, last = order.split(self.size)
        # BatchNorm needs two images per part, so a smaller last batch is dropped.
        at_least = min(2 * self.parts, self.size)
        return [*batches, last] if len(last) >= at_least or not batches else batches

    def _from_workers(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        view = augmented_view(self.seed, epoch + 1)
        parts = [batch[part].tolist() for batch in self._rows(epoch) for part in self._own_parts()]
        for batch in self.views.batches(view, parts, self.num_workers):
            yield torch.tensor(batch.rows), batch.require_all()


def check_cutout(side: int, backbone: Backbone) -> None:
    """Check that the square of Cutout is smaller than the images.

    Args:
        side: Side of the square in pixels.
        backbone: The backbone, for the side of its images.

    Raises:
        ConfigError: It is not.

    Example:
        >>> from lort_hub.backbones.load import load_backbone
        >>> check_cutout(16, load_backbone("resnet32_cifar", pretrained=False))
    """
    if side >= backbone.image_size:
        raise ConfigError(
            f"`cutout` cuts out {side} x {side} pixels, but the images have {backbone.image_size} x "
            f"{backbone.image_size}.\nHalf of the images' side is usual."
        )


def crop_and_flip(images: Tensor, shift: Tensor, flip: Tensor, padding: int) -> Tensor:
    """Pad each image with black, crop it to its old size, and flip some: the CIFAR protocol for a batch.

    Args:
        images: Images (N, C, S, S).
        shift: Top and left corner (2, N) of each crop in the padded image, from 0 to 2 * padding.
        flip: True for the images (N,) to mirror.
        padding: Black pixels on each side.

    Returns:
        Images (N, C, S, S).

    Example:
        >>> image = torch.tensor([[[[1, 2], [3, 4]]]])
        >>> crop_and_flip(image, torch.tensor([[0], [1]]), torch.tensor([True]), 1)
        tensor([[[[0, 0],
                  [2, 1]]]])
    """
    side = torch.arange(images.shape[-1])
    across = torch.where(flip[:, None], side.flip(0), side) + shift[1][:, None]
    down = side + shift[0][:, None]
    padded = F.pad(images, (padding,) * 4).permute(0, 2, 3, 1)
    sample = torch.arange(len(images))[:, None, None]
    return padded[sample, down[:, :, None], across[:, None, :]].permute(0, 3, 1, 2)


def cut_out(pixels: Tensor, place: Tensor, side: int) -> Tensor:
    """Cut a square out of each image, to the mean colour: Cutout, arXiv 1708.04552.

    The square's centre may be any pixel, so a part of it may lie outside the image.

    Args:
        pixels: Normalised images (N, C, H, W), whose mean colour is 0.
        place: Row and column (2, N) of the centre as shares of height and width, in [0, 1).
        side: Side of the square in pixels.

    Returns:
        Images (N, C, H, W).

    Example:
        >>> cut_out(torch.ones(1, 1, 3, 4), torch.tensor([[0.0], [0.5]]), 2)
        tensor([[[[1., 0., 0., 1.],
                  [1., 1., 1., 1.],
                  [1., 1., 1., 1.]]]])
    """
    hidden = []
    for share, size in zip(place, pixels.shape[2:], strict=True):
        offset = torch.arange(size) - (share[:, None] * size).long() + side // 2
        hidden.append((offset >= 0) & (offset < side))
    down, across = hidden
    return pixels.masked_fill((down[:, :, None] & across[:, None, :])[:, None], 0.0)


def _decode(split: ImageSplit, side: int, num_workers: int) -> Tensor:
    """Decode all images (N, 3, side, side), uint8, resized as the augmentation of small images does it."""
    resize = transforms.Resize((side, side), transforms.InterpolationMode.BICUBIC)
    resized = transforms.Compose([resize, to_bytes])
    views = ImageViews(split, transform=resized, augment=resized)
    keys = [(EVAL_VIEW, row) for row in range(len(split))]
    images = torch.empty(len(split), 3, side, side, dtype=torch.uint8)
    batches = (keys[start : start + 256] for start in range(0, len(keys), 256))
    for loaded in map_in_threads(views.__getitems__, batches, num_workers):
        batch = collate(loaded)
        images[batch.rows] = batch.require_all().permute(0, 3, 1, 2)
    return images


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
