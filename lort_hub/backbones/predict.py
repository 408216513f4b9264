"""Compute a model's logits for a whole split, with the images shared by all processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lort_hub.backbones.backbone import Backbone, logits_of, stated_precision
from lort_hub.data.dataset import ImageSplit
from lort_hub.data.image_loader import ImageBatch, ImageViews
from lort_hub.data.transforms import EVAL_VIEW

if TYPE_CHECKING:
    from accelerate import Accelerator


@torch.inference_mode()
def predict(
    model: nn.Module, backbone: Backbone, split: ImageSplit, accelerator: Accelerator, **options: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Compute the logits of a split, the same for any number of processes.

    Every process calls this.

    Args:
        model: The backbone's model, as the accelerator prepared it; it is put in eval mode.
        backbone: The backbone, for its preprocessing.
        split: The images.
        accelerator: Device, precision and processes.
        options: Arguments of `evaluation_batches`: batch_size, process, processes, num_workers.

    Returns:
        Logits (N, K) and labels (N,), in the order of the split.

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

    # Unwrapped: the parallel wrapper would wait for processes that have fewer batches, or none. To keep the
    # compiled one would take the parallel one from inside it.
    model = accelerator.unwrap_model(model, keep_torch_compile=False).eval()
    # BatchNorm statistics differ between processes; those of the first are saved, so they are used here.
    broadcast(list(model.buffers()))
    own_parts = []
    for batch in evaluation_batches(split, backbone, **options):
        pixels = batch.require_all().to(accelerator.device, memory_format=torch.channels_last)
        with stated_precision(accelerator):
            output = logits_of(model(pixels))
        own_parts.append((batch.rows, output.float().cpu().numpy()))
    parts = gather_object(own_parts)
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
) -> Iterator[ImageBatch]:
    """Load one process's part of a split in evaluation preprocessing.

    Args:
        split: The images.
        backbone: The backbone, for its preprocessing.
        batch_size: Images per batch.
        process: Index of this process.
        processes: Number of processes.
        num_workers: Decoding threads or processes, as in `ImageViews.batches`.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> from lort_hub.backbones.load import load_backbone
        >>> backbone = load_backbone("resnet32_cifar", pretrained=False)
        >>> test = load_long_tailed("digits").test
        >>> batches = evaluation_batches(test, backbone, batch_size=64, processes=2)
        >>> sum(len(batch.rows) for batch in batches)
        250
    """
    own_rows = torch.arange(len(split))[process::processes]
    rows = [batch.tolist() for batch in own_rows.split(batch_size) if len(batch)]
    return ImageViews(split, backbone.transform, backbone.augment).batches(EVAL_VIEW, rows, num_workers)
