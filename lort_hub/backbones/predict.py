"""What a model says about a whole split, with all processes at work on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lort_hub.backbones.backbone import Backbone, logits_of
from lort_hub.data.dataset import ImageSplit
from lort_hub.data.image_loader import Collated, Pixels, intact
from lort_hub.data.transforms import EVAL_VIEW

if TYPE_CHECKING:
    from accelerate import Accelerator


@torch.inference_mode()
def predict(
    model: nn.Module, backbone: Backbone, split: ImageSplit, accelerator: Accelerator, **options: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits and labels of a split, the same for any number of processes; every process calls this.

    Args:
        model: The backbone's model, as the accelerator prepared it; it is put in eval mode.
        backbone: Whose preprocessing the images get.
        split: The images.
        accelerator: Device, precision and processes.
        options: Of `evaluation_batches`: batch_size, process, processes, num_workers.

    Returns:
        Logits (N, K) and labels (N,), in the split's order.

    Raises:
        BadImageError: An image cannot be decoded.

    Example:
        >>> from accelerate import Accelerator
        >>> from lort_hub.data.load import load_long_tailed
        >>> from lort_hub.backbones.load import load_backbone
        >>> backbone = load_backbone("resnet32_cifar", pretrained=False)
        >>> digits = load_long_tailed("digits").test.take(np.arange(8))
        >>> logits, labels = predict(backbone.model, backbone, digits, Accelerator(cpu=True), batch_size=4)
        >>> logits.shape, labels.shape
        ((8, 100), (8,))
    """
    from accelerate.utils import broadcast, gather_object

    # Not the parallel wrapper, which would wait for processes that have fewer batches, or none.
    model = accelerator.unwrap_model(model).eval()
    broadcast(list(model.buffers()))  # statistics are each process's own; those of the first are published
    found = []
    for rows, pixels, errors in evaluation_batches(split, backbone, **options):
        whole = intact(pixels, errors)
        with accelerator.autocast():
            output = logits_of(model(whole.to(accelerator.device, memory_format=torch.channels_last)))
        found.append((rows, output.float().cpu().numpy()))
    parts = gather_object(found)
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    return np.concatenate([logits for _, logits in parts])[order], split.labels


def evaluation_batches(
    split: ImageSplit,
    backbone: Backbone,
    *,
    batch_size: int,
    process: int = 0,
    processes: int = 1,
    num_workers: int = 0,
) -> Iterator[Collated]:
    """One process's part of a split in evaluation preprocessing: positions, pixels and undecodable images.

    Args:
        split: The images.
        backbone: Whose preprocessing they get.
        batch_size: Images per batch.
        process: Which process this is.
        processes: How many there are.
        num_workers: Decoding threads or processes, as `Pixels.batches` has them.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> from lort_hub.backbones.load import load_backbone
        >>> backbone = load_backbone("resnet32_cifar", pretrained=False)
        >>> test = load_long_tailed("digits").test
        >>> sum(len(rows) for rows, _, _ in evaluation_batches(test, backbone, batch_size=64, processes=2))
        250
    """
    mine = torch.arange(len(split))[process::processes]
    rows = [batch.tolist() for batch in mine.split(batch_size) if len(batch)]
    return Pixels(split, backbone.transform, backbone.augment).batches(EVAL_VIEW, rows, num_workers)
