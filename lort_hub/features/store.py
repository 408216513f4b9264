"""Store features on disk in checksummed parts that survive crashes, damage and several processes.

A store's folder is named by a hash of everything that its features depend on, so that another run on the same
data finds it. The name of each part ends in the sha256 of its bytes; a damaged part is deleted and extracted
again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save as save_safetensors
from torch import Tensor

from lort_hub.data.transforms import EVAL_VIEW
from lort_hub.errors import FeatureError
from lort_hub.features.checked_files import CheckedFiles
from lort_hub.features.distributed import Processes
from lort_hub.features.matrix import BLOCK, FeatureMatrix, Part
from lort_hub.files import write_atomically

PART_SIZE = BLOCK
"""Samples per part."""
IN_MEMORY = 2**30
"""Largest view in bytes that is kept in memory; a larger one is read from disk at each pass."""


@dataclass(frozen=True)
class Features:
    """Frozen features of one split.

    Attributes:
        x: Features (N, D), float32.
        y: Labels (N,), int64.
        rows: Position (N,) of each sample in its `ImageSplit`; images that were left out are missing.
        unseen: True for samples (N,) that the backbone was not trained on; None where it was trained on none.
        groups: Group numbers (N,) of samples that belong together; None if each is alone.
    """

    x: Tensor
    y: Tensor
    rows: Tensor
    unseen: Tensor | None = None
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)


class FeatureStore:
    """Folder of feature parts: part p holds samples [p * part_size, (p + 1) * part_size) of one view.

    The view "eval" has the deterministic preprocessing; `augmented_view(seed, v)` names the random ones.

    Attributes:
        unseen: True for samples of the split that the backbone was not trained on; None where the split is
            not known to be of the data set that it was trained on.
        groups: Group numbers of the samples of the split; None if each is alone.

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
        """Open an existing store; `FeatureStore.create` makes a new one."""
        self.folder, self._checked = folder, CheckedFiles(folder)
        self.unseen: NDArray[np.bool_] | None = None
        self.groups: NDArray[np.int64] | None = None
        try:
            description = json.loads((folder / "store.json").read_text())
            self.content: dict[str, Any] = description["content"]
            self.num_samples: int = description["num_samples"]
            self.part_size: int = description["part_size"]
            self.dtype: torch.dtype = getattr(torch, self.content.get("dtype", "float32"))
            self.num_parts = -(-self.num_samples // self.part_size)
        except (FileNotFoundError, ValueError, KeyError) as cause:
            raise FeatureError(
                f"'{folder}' is not a feature store: store.json is missing or damaged."
            ) from cause

    @classmethod
    def create(cls, parent: Path, content: dict[str, Any], *, num_samples: int) -> FeatureStore:
        """Open the store of `content` below `parent`; the first run makes its folder.

        Args:
            parent: Folder of all stores.
            content: JSON description of everything that the features depend on; its hash names the store.
            num_samples: Number of samples of the split.
        """
        description = {"num_samples": num_samples, "part_size": PART_SIZE, "content": content}
        key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:24]
        folder = parent / key
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.tmp"):
            with suppress(FileNotFoundError):  # another process may finish or delete it meanwhile
                if time.time() - leftover.stat().st_mtime > 3600:
                    leftover.unlink()
        write_atomically(folder / "store.json", json.dumps(description, indent=2).encode())
        return cls(folder)

    def rows(self, part: int) -> range:
        """Return the positions in the split of the samples of a part."""
        return range(self.num_samples)[part * self.part_size : (part + 1) * self.part_size]

    def share(self, process: int, processes: int) -> range:
        """Return the contiguous parts of one process; the processes' numbers of parts differ by at most 1."""
        return range(process * self.num_parts // processes, (process + 1) * self.num_parts // processes)

    def missing(self, view: str, parts: range | None = None) -> list[int]:
        """List the parts of a view that are absent or damaged; damaged files are deleted.

        Args:
            view: Name of the view.
            parts: The parts to check; None for all.
        """
        parts = range(self.num_parts) if parts is None else parts
        intact = set()
        for part, path in self._files(view, parts):
            if self._checked.is_intact(path):
                intact.add(part)
            else:
                path.unlink(missing_ok=True)  # another process deletes damaged files too
        return [part for part in parts if part not in intact]

    def save_part(
        self, view: str, part: int, x: Tensor, y: Tensor, rows: Tensor, *, skipped: Sequence[int]
    ) -> None:
        """Write one part atomically, named by its checksum.

        Args:
            view: Name of the view.
            part: Number of the part.
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
                problem, remedy = f"features too large for {self.dtype}", "store them as bfloat16"
            else:
                problem = "NaN or infinite features"
                remedy = 'check its weights, or use `mixed_precision="no"`'
            raise FeatureError(
                f"The backbone gives {problem}, first for sample {first}.\nExpected finite numbers: {remedy}."
            )
        tensors = {"x": stored.contiguous(), "y": y, "rows": rows, "skipped": torch.tensor(skipped).long()}
        self.add_part(view, part, save_safetensors(tensors))

    def add_part(self, view: str, part: int, data: bytes) -> None:
        """Write the bytes of a part's file, which another node may have sent."""
        self._checked.write(f"{view}-{part:05d}", data)

    def path(self, view: str, part: int) -> Path | None:
        """Find the intact file of a part; None where there is none."""
        files = (path for _, path in self._files(view, range(part, part + 1)))
        return next(filter(self._checked.is_intact, files), None)

    def save_result(self, name: str, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Save a result of the features beside them, atomically, in place of an older one.

        Args:
            name: Name of the result; a hash of everything else that it depends on.
            tensors: Its tensors by name.
            about: Its other values, JSON-ready.
        """
        data = save_safetensors(tensors, metadata={"about": json.dumps(about)})
        written = self._checked.write(f"result-{name}", data)
        for older in self.folder.glob(f"result-{name}-*.safetensors"):
            if older != written:
                older.unlink(missing_ok=True)

    def load_result(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Load the tensors and values of a saved result; None where it is absent or damaged."""
        for path in sorted(self.folder.glob(f"result-{name}-*.safetensors")):
            if self._checked.is_intact(path):
                with safe_open(path, framework="pt") as file:
                    tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
                    return tensors, json.loads(file.metadata()["about"])
            path.unlink(missing_ok=True)
        return None

    def load(self, view: str = EVAL_VIEW) -> Features:
        """Read one complete view into memory.

        Raises:
            FeatureError: A part is absent or damaged; extract the features again.
        """
        matrix, y, rows = self.open(view)
        return Features(matrix.whole(), y, rows, self.unseen_rows(rows), self.group_rows(rows))

    def unseen_rows(self, rows: Tensor) -> Tensor | None:
        """Mark the samples at these positions (n,) in the split that the backbone was not trained on."""
        return None if self.unseen is None else torch.from_numpy(self.unseen)[rows]

    def group_rows(self, rows: Tensor) -> Tensor | None:
        """Look up the group numbers (n,) of the samples at these positions (n,) in the split."""
        return None if self.groups is None else torch.from_numpy(self.groups)[rows]

    @cached_property
    def _features(self) -> Features:
        return self.load()

    @property
    def x(self) -> Tensor:
        """Features (N, D) of the evaluation view, read into memory once."""
        return self._features.x

    @property
    def y(self) -> Tensor:
        """Labels (N,) of the evaluation view."""
        return self._features.y

    def open(
        self, view: str = EVAL_VIEW, processes: Processes | None = None
    ) -> tuple[FeatureMatrix, Tensor, Tensor]:
        """Open one complete view, or this process's share of it; large features stay on disk.

        Args:
            view: Name of the view.
            processes: The processes, each of which gets its share; None for the whole view.

        Returns:
            Features (N, D), labels (N,) and positions in the split (N,).

        Raises:
            FeatureError: A part is absent or damaged; extract the features again.
        """
        processes = processes or Processes()
        share = self.share(processes.index, processes.count)
        paths = {part: path for part, path in self._files(view, share) if self._checked.is_intact(path)}
        dim = _read(next(iter(paths.values())), "x").shape[1] if paths else 0
        num_parts, dims = processes.gather(torch.tensor([[len(paths), dim]])).T
        if num_parts.sum() < self.num_parts:
            raise FeatureError(
                f"View '{view}' of '{self.folder}' has {num_parts.sum()} of {self.num_parts} parts.\n"
                "Run the same command again: the missing parts are extracted, the others kept."
            )
        in_memory = sum(path.stat().st_size for path in paths.values()) <= IN_MEMORY
        parts, labels_and_rows = list[Part](), [torch.empty(2, 0, dtype=torch.int64)]
        for part in share:
            read = partial(_read, paths[part], "x")
            labels_and_rows.append(torch.stack([_read(paths[part], name) for name in ("y", "rows")]))
            num_rows = labels_and_rows[-1].shape[1]
            parts.append(Part(num_rows, partial(Tensor.detach, read().clone()) if in_memory else read))
        labels, rows = torch.cat(labels_and_rows, dim=1)
        return FeatureMatrix(parts, int(dims.max()), processes), labels, rows

    def skipped(self, processes: Processes | None = None) -> list[int]:
        """List the positions of images that could not be decoded; each process reads its share."""
        processes = processes or Processes()
        share = self.share(processes.index, processes.count)
        parts = {part: path for part, path in self._files(EVAL_VIEW, share) if self._checked.is_intact(path)}
        rows = [torch.empty(0).long(), *(_read(path, "skipped") for path in parts.values())]
        return sorted(processes.gather(torch.cat(rows)).tolist())

    def _files(self, view: str, parts: range) -> Iterator[tuple[int, Path]]:
        """List files with their part numbers; two processes may each have written the same part."""
        for path in sorted(self.folder.glob(f"{view}-*.safetensors")):
            part = int(path.stem.split("-")[1])
            if part in parts:
                yield part, path


def _read(path: Path, name: str) -> Tensor:
    """Map one tensor of a part from its file: its pages are read when they are used."""
    with safe_open(path, framework="pt") as file:
        tensor: Tensor = file.get_tensor(name)
        return tensor
