"""Extract features: run the frozen backbone once over every image, in parts shared by all processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from lort_hub.backbones.backbone import Backbone, stated_precision
from lort_hub.data.dataset import ImageSplit
from lort_hub.data.holdout import unseen_images
from lort_hub.data.image_loader import ImageBatch, ImageViews
from lort_hub.data.transforms import EVAL_VIEW, augmented_view
from lort_hub.errors import FeatureError
from lort_hub.features.distributed import Processes, fail_together, node_name
from lort_hub.features.store import FeatureStore
from lort_hub.files import cache_folder
from lort_hub.progress import image_bar

if TYPE_CHECKING:
    from accelerate import Accelerator


def extract_features(
    backbone: Backbone,
    split: ImageSplit,
    *,
    accelerator: Accelerator | None = None,
    folder: str | Path | None = None,
    views: int = 0,
    seed: int = 0,
    batch_size: int = 64,
    num_workers: int = 0,
    on_bad_image: Literal["error", "skip"] = "error",
    dtype: torch.dtype = torch.float32,
) -> FeatureStore:
    """Run the frozen backbone once over every image and store its features on disk.

    Finished parts are kept: an interrupted call resumes, and a repeated one returns at once. The processes of
    one `accelerate launch` share the parts; if one of them fails, all raise its error.

    Args:
        backbone: The backbone; it runs in eval mode without gradients.
        split: The images.
        accelerator: Device, precision and processes; None for `Accelerator()`, on the GPU if there is one.
        folder: Folder of all stores; None for the cache folder.
        views: Number of randomly augmented views to extract beside the evaluation view, for stage 2.
        seed: Seed of the augmentation; each image of each view has a random state of its own.
        batch_size: Images per forward pass and process.
        num_workers: Decoding threads or processes, as in `ImageViews.batches`.
        on_bad_image: "error" stops at an image that cannot be decoded, "skip" leaves it out and records it.
        dtype: Type of the stored features: float32, or float16 or bfloat16 for half the size.

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
        >>> extract_features(backbone, digits, folder=tempfile.mkdtemp()).x.shape
        torch.Size([8, 96])
    """
    from accelerate import Accelerator

    accelerator = accelerator or Accelerator()
    content = {
        "backbone": backbone.fingerprint(),
        "structure": backbone.structure(),
        "preprocessing": backbone.preprocessing,
        "data": split.fingerprint(),
        "precision": accelerator.mixed_precision,
        "on_bad_image": on_bad_image,
    }
    if accelerator.device.type != "cpu":  # another device rounds otherwise
        content["device"] = accelerator.device.type
    if dtype != torch.float32:  # float32 has no entry, as most stores are of it
        content["dtype"] = str(dtype).removeprefix("torch.")
    processes = Processes.of(accelerator)
    _check_alike(content, processes)
    store = FeatureStore.create(Path(folder or cache_folder("features")), content, num_samples=len(split))
    extraction = _Extraction(
        backbone=backbone,
        images=ImageViews(split, backbone.transform, backbone.augment),
        store=store,
        accelerator=accelerator,
        batch_size=batch_size,
        num_workers=num_workers,
        skip_bad_images=on_bad_image == "skip",
    )
    share = store.share(accelerator.process_index, accelerator.num_processes)
    with fail_together(processes):
        for view in (EVAL_VIEW, *(augmented_view(seed, number + 1) for number in range(views))):
            if parts := store.missing(view, share):
                extraction.extract_parts(view, parts)
    store.groups = split.groups
    store.unseen = unseen_images(backbone.trained_on, split) if backbone.trained_on else None
    return store


def _check_alike(content: dict[str, Any], processes: Processes) -> None:
    """Refuse processes with another backbone or other settings; copies of the images may differ in time."""
    compared = {name: value for name, value in content.items() if name != "data"}
    (first, expected), *others = processes.gather_objects((node_name(), compared))
    for node, other in others:
        if differing := sorted(name for name in expected if expected[name] != other.get(name)):
            raise FeatureError(
                f"The processes do not extract the same features: {', '.join(differing)} on {first} differs "
                f"from that on {node}.\nGive each node the same model files, package versions and "
                "configuration of accelerate."
            )


@dataclass(frozen=True)
class _Extraction:
    """Extraction of one split's features into a store.

    Attributes:
        backbone: The frozen backbone.
        images: The images of the split.
        store: The store to write to.
        accelerator: Device and precision.
        batch_size: Images per forward pass.
        num_workers: Decoding threads or processes.
        skip_bad_images: Whether to leave out images that cannot be decoded.
    """

    backbone: Backbone
    images: ImageViews
    store: FeatureStore
    accelerator: Accelerator
    batch_size: int
    num_workers: int
    skip_bad_images: bool

    def extract_parts(self, view: str, parts: list[int]) -> None:
        """Extract some parts of a view, with one stream of batches for all of them."""
        model = self.backbone.model.eval().to(self.accelerator.device)
        # Channels last, as Pillow's bytes are: 3 to 32 % faster in five families of convnets, no difference
        # for ViTs. Compiling makes a ResNet 4 to 7 % faster in float32, but costs as much CPU time as
        # thousands of images.
        model.to(memory_format=torch.channels_last)
        rows = [rows for part in parts for rows in self._batch_rows(part)]
        with (
            closing(self.images.batches(view, rows, self.num_workers)) as batches,  # ends workers on errors
            image_bar(sum(map(len, rows)), f"features of {self.images.split.name}") as progress,
        ):
            for part in parts:
                self._extract_part(view, part, batches, progress)

    def _batch_rows(self, part: int) -> list[list[int]]:
        """Split the rows of a part into batches; no batch crosses the end of a part."""
        rows = list(self.store.rows(part))
        return [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]

    @torch.inference_mode()
    def _extract_part(self, view: str, part: int, batches: Iterator[ImageBatch], progress: Any) -> None:
        """Extract and save one part from the next batches."""
        features, rows, skipped = [torch.empty(0, self.backbone.num_features)], list[int](), list[int]()
        for _ in self._batch_rows(part):
            batch = next(batches)
            if batch.errors and not self.skip_bad_images:
                raise batch.errors[0][1]
            if batch.pixels is not None:
                features.append(self._forward(batch.pixels))
            rows += batch.rows
            skipped += [row for row, _ in batch.errors]
            progress.update(len(batch.rows) + len(batch.errors))
        index = torch.tensor(rows, dtype=torch.int64)
        labels = torch.from_numpy(self.images.split.labels)[index]
        self.store.save_part(view, part, torch.cat(features), labels, index, skipped=skipped)

    def _forward(self, pixels: Tensor) -> Tensor:
        """Compute the features (n, D), float32 on the CPU, of pixels (n, 3, H, W)."""
        with stated_precision(self.accelerator):
            pixels = pixels.to(self.accelerator.device, memory_format=torch.channels_last, non_blocking=True)
            return self.backbone.features(pixels).float().cpu()
