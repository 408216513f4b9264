"""Features, extracted once: checksummed parts that survive crashes, damage and several processes.

A store's folder is named by a key of everything its content depends on, so another run on the same data finds
it. Each part's name ends in the sha256 of its bytes: it is there whole and true, or it is extracted again.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lort_hub.backbones import Backbone
from lort_hub.data import BadImageError, ImageSplit
from lort_hub.errors import FeatureError
from lort_hub.transforms import Transform

if TYPE_CHECKING:
    from accelerate import Accelerator

PART_SIZE = 1024
EVAL_VIEW = "eval"


def augmented_view(seed: int, view: int) -> str:
    """Name of the `view`-th randomly augmented view (1, 2, ...) under `seed`.

    Example:
        >>> augmented_view(0, 3)
        'seed0.3'
    """
    return f"seed{seed}.{view}"


@dataclass(frozen=True)
class Features:
    """Frozen features of one split.

    Attributes:
        x: Features (N, D), float32.
        y: Labels (N,), int64.
        rows: Position (N,) of each sample in its `ImageSplit`; skipped images are missing.
    """

    x: Tensor
    y: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.y)


class FeatureStore:
    """A folder of feature parts: part p holds samples [p * part_size, (p + 1) * part_size) of one view.

    View "eval" is the deterministic preprocessing; `augmented_view(seed, v)` names the random ones.

    Example:
        >>> import tempfile
        >>> store = FeatureStore.create(Path(tempfile.mkdtemp()), {"backbone": "b"}, num_samples=2)
        >>> store.missing("eval")
        [0]
        >>> store.save_part("eval", 0, torch.eye(2), torch.tensor([0, 1]), torch.arange(2), skipped=[])
        >>> store.missing("eval"), store.load().x.shape
        ([], torch.Size([2, 2]))
    """

    def __init__(self, folder: Path) -> None:
        """Open an existing store; `FeatureStore.create` makes one."""
        self.folder = folder
        try:
            self.about: dict[str, Any] = json.loads((folder / "store.json").read_text())
            self.num_parts = -(-self.about["num_samples"] // PART_SIZE)
        except (FileNotFoundError, ValueError, KeyError) as cause:
            raise FeatureError(
                f"'{folder}' is not a feature store: store.json is missing or damaged."
            ) from cause

    @classmethod
    def create(cls, parent: Path, content: dict[str, Any], *, num_samples: int) -> FeatureStore:
        """Open the store for `content` below `parent`, making its folder if this is the first run.

        Args:
            parent: Folder of all stores.
            content: JSON description of everything the features depend on; its hash names the store.
            num_samples: Samples of the split.
        """
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
        folder = parent / key
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.tmp"):
            with suppress(FileNotFoundError):  # another process may finish or delete it meanwhile
                if time.time() - leftover.stat().st_mtime > 3600:
                    leftover.unlink()
        about = {"num_samples": num_samples, "content": content}
        _write_atomically(folder / "store.json", json.dumps(about, indent=2).encode())
        return cls(folder)

    def missing(self, view: str) -> list[int]:
        """Parts of a view that are absent or damaged; damaged files are deleted."""
        intact = set()
        for path in self.folder.glob(f"{view}-*.safetensors"):
            part, checksum = path.stem.split("-")[1:]
            with suppress(FileNotFoundError):  # another process deletes damaged files too
                if hashlib.sha256(path.read_bytes()).hexdigest() == checksum:
                    intact.add(int(part))
                else:
                    path.unlink()
        return [part for part in range(self.num_parts) if part not in intact]

    def save_part(
        self, view: str, part: int, x: Tensor, y: Tensor, rows: Tensor, *, skipped: Sequence[int]
    ) -> None:
        """Write one part under its checksum, atomically.

        Args:
            view: Which view.
            part: Which part.
            x: Features (n, D).
            y: Labels (n,).
            rows: Positions (n,) in the split.
            skipped: Positions of this part whose images could not be decoded.

        Raises:
            FeatureError: A feature is not finite.
        """
        if not x.isfinite().all():
            bad = int(rows[~x.isfinite().all(dim=1)][0])
            raise FeatureError(
                f"The backbone gives NaN or infinite features, first for sample {bad}.\n"
                "Expected finite numbers: check its weights, or use --mixed-precision no."
            )
        data = save_safetensors(
            {
                "x": x.float().contiguous(),
                "y": y,
                "rows": rows,
                "skipped": torch.tensor(skipped, dtype=torch.int64),
            }
        )
        name = f"{view}-{part:05d}-{hashlib.sha256(data).hexdigest()}.safetensors"
        _write_atomically(self.folder / name, data)

    def load(self, view: str = EVAL_VIEW) -> Features:
        """Read one complete view into memory.

        Raises:
            FeatureError: A part is absent or damaged; extract the features again.
        """
        parts = dict(self._parts(view))
        if len(parts) < self.num_parts:
            raise FeatureError(
                f"View '{view}' of '{self.folder}' has {len(parts)} of {self.num_parts} parts.\n"
                "Run the same command again: the missing parts are extracted, the others kept."
            )
        ordered = [parts[part] for part in sorted(parts)]
        return Features(*(torch.cat([tensors[name] for tensors in ordered]) for name in ("x", "y", "rows")))

    def skipped(self) -> list[int]:
        """Positions in the split of the images that could not be decoded."""
        parts = dict(self._parts(EVAL_VIEW))  # two processes may have written a part each
        return sorted(row for tensors in parts.values() for row in tensors["skipped"].tolist())

    def _parts(self, view: str) -> Iterator[tuple[int, dict[str, Tensor]]]:
        for path in sorted(self.folder.glob(f"{view}-*.safetensors")):
            part, checksum = path.stem.split("-")[1:]
            with suppress(FileNotFoundError):  # another process deletes damaged files
                data = path.read_bytes()
                if hashlib.sha256(data).hexdigest() == checksum:
                    yield int(part), load_safetensors(data)


def cache_folder() -> Path:
    """Folder of all feature stores: `$LORT_HUB_CACHE`, else `~/.cache/lort_hub`."""
    return Path(os.environ.get("LORT_HUB_CACHE", "~/.cache/lort_hub")).expanduser()


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
        accelerator: Device, precision and processes; None for the CPU in float32.
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
        >>> from lort_hub.backbones import load_backbone
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
        _reuse_freed_memory()
        model = backbone.model.eval().to(accelerator.device)
        model.to(memory_format=torch.channels_last)
    pixels = _Pixels(split, backbone.transform, backbone.augment)
    share = missing[accelerator.process_index :: accelerator.num_processes]
    if share:
        state = random.getstate()
        with torch.random.fork_rng(devices=[]):  # the views seed the global generators
            _extract_parts(backbone, pixels, share, store, accelerator, batch_size, num_workers, on_bad_image)
        random.setstate(state)
    accelerator.wait_for_everyone()
    return store


def _reuse_freed_memory() -> None:
    """Keep glibc from returning each batch's activations to the system, only to fault them in again.

    Seen on 2 cores with tf_efficientnet_lite0 at 224 px: 65 images/s instead of 35.
    """
    m_trim_threshold, m_mmap_max = -1, -4
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


@torch.inference_mode()
def _extract_parts(
    backbone: Backbone,
    pixels: _Pixels,
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
        [(view, row) for row in range(start, min(start + batch_size, (part + 1) * PART_SIZE, len(pixels)))]
        for view, part in parts
        for start in range(part * PART_SIZE, min((part + 1) * PART_SIZE, len(pixels)), batch_size)
    ]
    loader = iter(DataLoader(pixels, batch_sampler=batches, num_workers=num_workers, collate_fn=_collate))
    total = sum(len(batch) for batch in batches)
    device = accelerator.device
    title, quiet = f"features of {pixels.split.name}", not sys.stderr.isatty()
    with tqdm(total=total, desc=title, unit="img", disable=quiet) as progress:
        for view, part in parts:
            size = min((part + 1) * PART_SIZE, len(pixels)) - part * PART_SIZE
            x, rows, skipped = [], [], []
            for _ in range(-(-size // batch_size)):
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


@dataclass(frozen=True)
class _Pixels(Dataset[tuple[int, Tensor | BadImageError]]):
    """Decoded and transformed images, indexed by (view, position in the split)."""

    split: ImageSplit
    transform: Transform
    augment: Transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: tuple[str, int]) -> tuple[int, Tensor | BadImageError]:
        view, row = key
        try:
            image = self.split.image(row)
        except BadImageError as error:
            return row, error  # returned, not raised: a DataLoader worker would bury it in its traceback
        if view == EVAL_VIEW:
            return row, self.transform(image)
        state = int.from_bytes(hashlib.sha256(f"{view} {self.split.rows[row]}".encode()).digest()[:4], "big")
        random.seed(state)
        torch.manual_seed(state)
        return row, self.augment(image)


def _collate(
    samples: list[tuple[int, Tensor | BadImageError]],
) -> tuple[list[int], Tensor | None, list[tuple[int, BadImageError]]]:
    good = [(row, sample) for row, sample in samples if isinstance(sample, Tensor)]
    bad = [(row, sample) for row, sample in samples if isinstance(sample, BadImageError)]
    return [row for row, _ in good], torch.stack([image for _, image in good]) if good else None, bad


def _write_atomically(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
