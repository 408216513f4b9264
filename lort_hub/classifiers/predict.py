"""Predict the classes of images part by part, the same for any number of processes."""

from __future__ import annotations

import hashlib
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lort_hub.backbones.backbone import Backbone, stated_precision
from lort_hub.classifiers.prediction_parts import PredictionParts
from lort_hub.classifiers.predictions import Predictions, distinct_names
from lort_hub.data.dataset import ImageSplit
from lort_hub.data.image_loader import ImageViews
from lort_hub.data.transforms import EVAL_VIEW
from lort_hub.data.unlabelled import UNLABELLED
from lort_hub.features.distributed import Processes, fail_together
from lort_hub.progress import image_bar

if TYPE_CHECKING:
    from accelerate import Accelerator


def prediction_plan(backbone: Backbone, images: ImageSplit, settings: dict[str, Any]) -> dict[str, Any]:
    """Describe everything that predictions depend on: checksums of the model and the images, and settings.

    Args:
        backbone: The classifier.
        images: The images.
        settings: JSON-ready values: top_k, batch_size, mixed_precision.

    Example:
        >>> from lort_hub.backbones.load import load_backbone
        >>> from lort_hub.data.unlabelled import load_unlabelled
        >>> backbone = load_backbone("test_resnet", pretrained=False)
        >>> list(prediction_plan(backbone, load_unlabelled("digits", split="test"), {"top_k": 5}))
        ['model', 'images', 'top_k']
    """
    model = hashlib.sha256(backbone.fingerprint().encode())
    for tensor in (backbone.weight, backbone.bias):
        model.update(tensor.cpu().contiguous().numpy().data)
    model.update(repr((backbone.class_names, backbone.preprocessing)).encode())
    return {"model": model.hexdigest(), "images": images.fingerprint(), **settings}


@torch.inference_mode()
def predict_parts(
    backbone: Backbone,
    images: ImageSplit,
    parts: PredictionParts,
    accelerator: Accelerator,
    processes: Processes,
    *,
    top_k: int = 5,
    batch_size: int = 64,
    num_workers: int = 0,
) -> None:
    """Compute the parts that are missing, each process its share; an image that is broken is no error.

    Every process calls this.

    Args:
        backbone: The classifier, which names its classes.
        images: The images.
        parts: Where the predictions are kept.
        accelerator: Device and precision.
        processes: The processes.
        top_k: Classes to predict of each image.
        batch_size: Images per forward pass; no batch crosses the end of a part.
        num_workers: Decoding threads or processes, as in `ImageViews.batches`.

    Example:
        >>> predict_parts(backbone, images, parts, accelerator, Processes())  # doctest: +SKIP
    """
    assert backbone.class_names is not None  # or it would not be a classifier
    names, numbered = distinct_names(backbone.class_names), images.name != UNLABELLED
    model: Any = backbone.model.eval()
    model.to(accelerator.device, memory_format=torch.channels_last)
    missing, whole = parts.missing(processes), parts.rows
    rows = {part: _batch_rows(whole(part), batch_size) for part in missing}
    every = [batch for batches in rows.values() for batch in batches]
    stream = ImageViews(images, backbone.transform, backbone.augment).batches(EVAL_VIEW, every, num_workers)
    with (
        fail_together(processes),
        closing(stream) as batches,  # ends workers on errors
        image_bar(sum(map(len, every)), "images") as progress,
    ):
        for part in missing:
            found = Predictions.empty(whole(part), min(top_k, len(names)))
            for batch in islice(batches, len(rows[part])):
                logits = None
                if batch.pixels is not None:
                    with stated_precision(accelerator):
                        pixels = batch.pixels.to(accelerator.device, memory_format=torch.channels_last)
                        logits = backbone.logits(pixels).float().cpu()
                found.fill(batch, logits)
                progress.update(len(batch.rows) + len(batch.errors))
            files = images.take(np.array(whole(part))).files()
            parts.save(part, found.table(names, files, numbered=numbered))


def _batch_rows(rows: range, batch_size: int) -> list[list[int]]:
    return [list(rows[start : start + batch_size]) for start in range(0, len(rows), batch_size)]
