"""Feature extraction: the frozen backbone runs once over every image, in parts, shared by all processes."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from lort_hub.backbones.backbone import Backbone
from lort_hub.data.dataset import ImageSplit
from lort_hub.data.holdout import unseen_images
from lort_hub.data.image_loader import Pixels
from lort_hub.data.transforms import EVAL_VIEW, augmented_view
from lort_hub.features.distributed import Processes, all_or_none
from lort_hub.features.store import FeatureStore, cache_folder

if TYPE_CHECKING:
    from accelerate import Accelerator


def extract_features(
    backbone: Backbone,
    split: ImageSplit,
    *,
    accelerator: Accelerator | None = None,
    folder: Path | None = None,
    views: int = 0,
    seed: int = 0,
    batch_size: int = 64,
    num_workers: int = 0,
    on_bad_image: Literal["error", "skip"] = "error",
    dtype: torch.dtype = torch.float32,
) -> FeatureStore:
    """Run the frozen backbone once over every image and keep its features on disk.

    Finished parts are kept, so an interrupted call resumes and a repeated one returns at once. The processes
    of one `accelerate launch` share the parts; where one of them fails, all raise its error.

    Args:
        backbone: What to run, in eval mode and without gradients.
        split: The images.
        accelerator: Device, precision and processes; None for `Accelerator()`, on the GPU if there is one.
        folder: Where stores live; None for `cache_folder()`.
        views: Randomly augmented views to add to the evaluation view, as the paper's stage 2 sees them.
        seed: Seed of the augmentation, per image and view.
        batch_size: Images per forward pass and process.
        num_workers: Decoding threads or processes, as `Pixels.batches` has them.
        on_bad_image: Stop at an image that cannot be decoded, or leave it out and record it.
        dtype: Type the features are stored in: float32, or half of it in float16 or bfloat16.

    Returns:
        The complete store; `store.x` (N, D) and `store.y` (N,) are in memory, and `fit_head` takes the store.

    Raises:
        BadImageError: An image cannot be decoded.
        FeatureError: A feature is not finite, or too large for `dtype`.

    Example:
        >>> import tempfile
        >>> from lort_hub.backbones.load import load_backbone
        >>> from lort_hub.data.load import load_long_tailed
        >>> backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
        >>> digits = load_long_tailed("digits").test.take(range(8))
        >>> extract_features(backbone, digits, folder=Path(tempfile.mkdtemp())).x.shape
        torch.Size([8, 96])
    """
    from accelerate import Accelerator

    accelerator = accelerator or Accelerator()
    content = {
        "backbone": backbone.fingerprint(),
        "preprocessing": backbone.preprocessing,
        "data": split.fingerprint(),
        "precision": accelerator.mixed_precision,
        "on_bad_image": on_bad_image,
    }
    if dtype != torch.float32:  # absent otherwise, as it was before there was a choice
        content["dtype"] = str(dtype).removeprefix("torch.")
    store = FeatureStore.create(folder or cache_folder() / "features", content, num_samples=len(split))
    names = [EVAL_VIEW, *(augmented_view(seed, view + 1) for view in range(views))]
    pixels = Pixels(split, backbone.transform, backbone.augment)
    mine = store.share(accelerator.process_index, accelerator.num_processes)
    options = batch_size, num_workers, on_bad_image
    with all_or_none(Processes.of(accelerator)):
        for view in names:
            if parts := store.missing(view, mine):
                model = backbone.model.eval().to(accelerator.device)
                # As Pillow's bytes are; 3 to 32 % faster in five families of convnets, within noise for ViTs.
                # Compiling wins a ResNet 4 to 7 % in float32, and costs the CPU time of thousands of images.
                model.to(memory_format=torch.channels_last)
                _extract_parts(backbone, pixels, view, parts, store, accelerator, *options)
    store.unseen = unseen_images(backbone.trained_on, split) if backbone.trained_on else None
    return store


@torch.inference_mode()
def _extract_parts(
    backbone: Backbone,
    pixels: Pixels,
    view: str,
    parts: list[int],
    store: FeatureStore,
    accelerator: Accelerator,
    batch_size: int,
    num_workers: int,
    on_bad_image: str,
) -> None:
    from accelerate.utils import tqdm

    device = accelerator.device
    # One stream of batches for all parts keeps its workers busy; no batch crosses the end of a part.
    batches = [
        list(store.rows(part)[start : start + batch_size])
        for part in parts
        for start in range(0, len(store.rows(part)), batch_size)
    ]
    total = sum(len(batch) for batch in batches)
    title, seconds = f"features of {pixels.split.name}", 0.1 if sys.stderr.isatty() else 60
    with (
        closing(pixels.batches(view, batches, num_workers)) as made,  # no worker outlives an error
        tqdm(total=total, desc=title, unit="img", mininterval=seconds, delay=seconds) as progress,
    ):
        for part in parts:
            x, rows, skipped = [], [], []
            for _ in range(0, len(store.rows(part)), batch_size):
                batch_rows, images, errors = next(made)
                for row, error in errors:
                    if on_bad_image == "error":
                        raise error
                    skipped.append(row)
                if images is not None:
                    with accelerator.autocast():
                        batch = images.to(device, memory_format=torch.channels_last, non_blocking=True)
                        x.append(backbone.features(batch).float().cpu())
                    rows += batch_rows
                progress.update(len(batch_rows) + len(errors))
            index = torch.tensor(rows, dtype=torch.int64)
            labels = torch.from_numpy(pixels.split.labels)[index]
            features = torch.cat(x) if x else torch.empty(0, backbone.num_features)
            store.save_part(view, part, features, labels, index, skipped=skipped)
