"""The feature store: checksummed parts on disk that survive crashes, damage and several processes.

A store's folder is named by a key of everything its content depends on, so another run on the same data finds
it. Each part's name ends in the sha256 of its bytes: it is there whole and true, or it is extracted again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as save_safetensors
from torch import Tensor

from lort_hub.data.transforms import EVAL_VIEW
from lort_hub.errors import FeatureError
from lort_hub.features.distributed import Processes
from lort_hub.features.matrix import BLOCK, FeatureMatrix, Part
from lort_hub.files import write_atomically

PART_SIZE = BLOCK
IN_MEMORY = 2**30
"""Bytes of a view up to which it is kept in memory; larger ones are read from disk at each pass."""


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
        self.folder, self._intact = folder, set[tuple[str, int, int]]()
        try:
            self.about: dict[str, Any] = json.loads((folder / "store.json").read_text())
            self.part_size: int = self.about["part_size"]
            self.dtype: torch.dtype = getattr(torch, self.about["content"].get("dtype", "float32"))
            self.num_parts = -(-self.about["num_samples"] // self.part_size)
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
        about = {"num_samples": num_samples, "part_size": PART_SIZE, "content": content}
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
        folder = parent / key
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.tmp"):
            with suppress(FileNotFoundError):  # another process may finish or delete it meanwhile
                if time.time() - leftover.stat().st_mtime > 3600:
                    leftover.unlink()
        write_atomically(folder / "store.json", json.dumps(about, indent=2).encode())
        return cls(folder)

    def rows(self, part: int) -> range:
        """Positions in the split of the samples of a part."""
        return range(self.about["num_samples"])[part * self.part_size : (part + 1) * self.part_size]

    def share(self, process: int, processes: int) -> range:
        """The parts that one of several processes owns: contiguous, and even but for one."""
        return range(process * self.num_parts // processes, (process + 1) * self.num_parts // processes)

    def missing(self, view: str, among: range | None = None) -> list[int]:
        """Parts of a view, or some of them, that are absent or damaged; damaged files are deleted."""
        among = range(self.num_parts) if among is None else among
        intact = set()
        for part, path in self._files(view, among):
            if self._is_intact(path):
                intact.add(part)
            else:
                path.unlink(missing_ok=True)  # another process deletes damaged files too
        return [part for part in among if part not in intact]

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
            FeatureError: A feature is not finite, or too large for the store's type.
        """
        stored = x.to(self.dtype)
        if not stored.isfinite().all():
            first = int(rows[~stored.isfinite().all(dim=1)][0])
            if x.isfinite().all():
                what, remedy = f"features that {self.dtype} cannot hold", "store them as bfloat16"
            else:
                what, remedy = "NaN or infinite features", "check its weights, or use --mixed-precision no"
            raise FeatureError(
                f"The backbone gives {what}, first for sample {first}.\nExpected finite numbers: {remedy}."
            )
        tensors = {"x": stored.contiguous(), "y": y, "rows": rows, "skipped": torch.tensor(skipped).long()}
        self._write(f"{view}-{part:05d}", save_safetensors(tensors))

    def keep(self, name: str, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Keep a result of this store's features beside them, atomically, in place of an older one.

        Args:
            name: Its name, which tells it from results that were made otherwise.
            tensors: Its tensors.
            about: JSON-ready values.
        """
        data = save_safetensors(tensors, metadata={"about": json.dumps(about)})
        written = self._write(f"result-{name}", data)
        for older in self.folder.glob(f"result-{name}-*.safetensors"):
            if older != written:
                older.unlink(missing_ok=True)

    def kept(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What `keep` has kept under this name; None if nothing, or if it is damaged."""
        for path in sorted(self.folder.glob(f"result-{name}-*.safetensors")):
            if self._is_intact(path):
                with safe_open(path, framework="pt") as file:
                    tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
                    return tensors, json.loads(file.metadata()["about"])
            path.unlink(missing_ok=True)
        return None

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / f"{name}-{hashlib.sha256(data).hexdigest()}.safetensors"
        write_atomically(path, data)
        return path

    def load(self, view: str = EVAL_VIEW) -> Features:
        """Read one complete view into memory.

        Raises:
            FeatureError: A part is absent or damaged; extract the features again.
        """
        matrix, y, rows = self.open(view)
        return Features(matrix.whole(), y, rows)

    def open(
        self, view: str = EVAL_VIEW, processes: Processes | None = None
    ) -> tuple[FeatureMatrix, Tensor, Tensor]:
        """One complete view, or this process's share of it, its features left on disk where they are large.

        Args:
            view: Which view.
            processes: Each of which takes its share; None for all of it.

        Returns:
            Features (N, D), labels (N,) and positions in the split (N,).

        Raises:
            FeatureError: A part is absent or damaged; extract the features again.
        """
        processes = processes or Processes()
        mine = self.share(processes.index, processes.count)
        paths = {part: path for part, path in self._files(view, mine) if self._is_intact(path)}
        dim = _read(next(iter(paths.values())), "x").shape[1] if paths else 0
        have, dims = processes.gather(torch.tensor([[len(paths), dim]])).T
        if have.sum() < self.num_parts:
            raise FeatureError(
                f"View '{view}' of '{self.folder}' has {have.sum()} of {self.num_parts} parts.\n"
                "Run the same command again: the missing parts are extracted, the others kept."
            )
        small = sum(path.stat().st_size for path in paths.values()) <= IN_MEMORY
        parts, positions = list[Part](), [torch.empty(2, 0, dtype=torch.int64)]
        for part in mine:
            read = partial(_read, paths[part], "x")
            positions.append(torch.stack([_read(paths[part], name) for name in ("y", "rows")]))
            rows = positions[-1].shape[1]
            parts.append(Part(rows, partial(Tensor.detach, read().clone()) if small else read))
        labels, places = torch.cat(positions, dim=1)
        return FeatureMatrix(parts, int(dims.max()), processes), labels, places

    def skipped(self, processes: Processes | None = None) -> list[int]:
        """Positions in the split of the images that could not be decoded, each process reading its share."""
        processes = processes or Processes()
        mine = self.share(processes.index, processes.count)
        parts = {part: path for part, path in self._files(EVAL_VIEW, mine) if self._is_intact(path)}
        rows = [torch.empty(0).long(), *(_read(path, "skipped") for path in parts.values())]
        return sorted(processes.gather(torch.cat(rows)).tolist())

    def _files(self, view: str, among: range) -> Iterator[tuple[int, Path]]:
        """Parts and their files; two processes may have written one part each."""
        for path in sorted(self.folder.glob(f"{view}-*.safetensors")):
            part = int(path.stem.split("-")[1])
            if part in among:
                yield part, path

    def _is_intact(self, path: Path) -> bool:
        """Whether a file has the checksum in its name, read once as long as it is not written again."""
        try:
            stat = path.stat()
            state = (path.name, stat.st_mtime_ns, stat.st_size)
            if state not in self._intact and _sha256(path) == path.stem.rpartition("-")[2]:
                self._intact.add(state)
            return state in self._intact
        except FileNotFoundError:  # another process deletes damaged files
            return False


def _read(path: Path, name: str) -> Tensor:
    """One tensor of a part, mapped from its file: read from disk where it is used, and no longer kept."""
    with safe_open(path, framework="pt") as file:
        tensor: Tensor = file.get_tensor(name)
        return tensor


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cache_folder() -> Path:
    """Folder of all feature stores: `$LORT_HUB_CACHE`, else `~/.cache/lort_hub`."""
    return Path(os.environ.get("LORT_HUB_CACHE", "~/.cache/lort_hub")).expanduser()
