"""Feature extraction: the frozen backbone runs once over every image, in parts, shared by all processes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch.utils.data import DataLoader

from lort_hub.backbones import Backbone
from lort_hub.data import ImageSplit
from lort_hub.pixels import Pixels, collate
from lort_hub.store import EVAL_VIEW, FeatureStore, augmented_view, cache_folder

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
) -> FeatureStore:
    """Run the frozen backbone once over every image and keep its features on disk.

    Finished parts are kept, so an interrupted call resumes and a repeated one returns at once. The processes
    of one `accelerate launch` share the parts.

    Args:
        backbone: What to run, in eval mode and without gradients.
        split: The images.
        accelerator: Device, precision and processes; None for the CPU.
        folder: Where stores live; None for `cache_folder()`.
        views: Randomly augmented views to add to the evaluation view, as the paper's stage 2 sees them.
        seed: Seed of the augmentation, per image and view.
        batch_size: Images per forward pass and process.
        num_workers: Decoding processes.
        on_bad_image: Stop at an image that cannot be decoded, or leave it out and record it.

    Returns:
        The complete store.

    Raises:
        BadImageError: An image cannot be decoded.
        FeatureError: A feature is not finite.

    Example:
        >>> import tempfile
        >>> from lort_hub.loading import load_backbone
        >>> from lort_hub.data import load_long_tailed
        >>> backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
        >>> digits = load_long_tailed("digits").test.take(range(8))
        >>> extract_features(backbone, digits, folder=Path(tempfile.mkdtemp())).load().x.shape
        torch.Size([8, 96])
    """
    from accelerate import Accelerator

    accelerator = accelerator or Accelerator(cpu=True)
    content = {
        "backbone": backbone.fingerprint(),
        "preprocessing": backbone.preprocessing,
        "data": split.fingerprint(),
        "precision": accelerator.mixed_precision,
        "on_bad_image": on_bad_image,
    }
    store = FeatureStore.create(folder or cache_folder() / "features", content, num_samples=len(split))
    names = [EVAL_VIEW, *(augmented_view(seed, view + 1) for view in range(views))]
    missing = [(view, part) for view in names for part in store.missing(view)]
    accelerator.wait_for_everyone()  # before any process adds a part, so that all share one list
    if missing:
        model = backbone.model.eval().to(accelerator.device)
        model.to(memory_format=torch.channels_last)
    pixels = Pixels(split, backbone.transform, backbone.augment)
    share = missing[accelerator.process_index :: accelerator.num_processes]
    if share:
        with torch.random.fork_rng(devices=[]):  # a DataLoader draws its workers' seed
            _extract_parts(backbone, pixels, share, store, accelerator, batch_size, num_workers, on_bad_image)
    accelerator.wait_for_everyone()
    return store


@torch.inference_mode()
def _extract_parts(
    backbone: Backbone,
    pixels: Pixels,
    parts: list[tuple[str, int]],
    store: FeatureStore,
    accelerator: Accelerator,
    batch_size: int,
    num_workers: int,
    on_bad_image: str,
) -> None:
    from accelerate.utils import tqdm

    # One loader for all parts keeps its workers busy; no batch crosses the end of a part.
    batches = [
        [(view, row) for row in store.rows(part)[start : start + batch_size]]
        for view, part in parts
        for start in range(0, len(store.rows(part)), batch_size)
    ]
    loader = iter(DataLoader(pixels, batch_sampler=batches, num_workers=num_workers, collate_fn=collate))
    total = sum(len(batch) for batch in batches)
    device = accelerator.device
    title, seconds = f"features of {pixels.split.name}", 0.1 if sys.stderr.isatty() else 60
    with tqdm(total=total, desc=title, unit="img", mininterval=seconds, delay=seconds) as progress:
        for view, part in parts:
            x, rows, skipped = [], [], []
            for _ in range(0, len(store.rows(part)), batch_size):
                batch_rows, images, errors = next(loader)
                for row, error in errors:
                    if on_bad_image == "error":
                        del loader  # ends its workers here; the error's own cycle would break their pipes
                        raise error
                    skipped.append(row)
                if batch_rows:
                    with accelerator.autocast():
                        batch = images.to(device, memory_format=torch.channels_last, non_blocking=True)
                        x.append(backbone.features(batch).float().cpu())
                    rows += batch_rows
                progress.update(len(batch_rows) + len(errors))
            index = torch.tensor(rows, dtype=torch.int64)
            labels = torch.from_numpy(pixels.split.labels)[index]
            features = torch.cat(x) if x else torch.empty(0, backbone.num_features)
            store.save_part(view, part, features, labels, index, skipped=skipped)
