"""Keep the finished parts of a prediction beside its output, so that a killed run goes on from them."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from lort_hub.classifiers.prediction_file import write_predictions
from lort_hub.errors import CheckpointError
from lort_hub.features.distributed import Processes, fail_together, node_name
from lort_hub.features.nodes import collect_files, is_first_without
from lort_hub.files import sync, write_atomically
from lort_hub.one_writer import keep_others_out

MOST_IN_A_PART, LEAST_IN_A_PART = 1024, 64


@dataclass(frozen=True)
class PredictionParts:
    """The parts of a prediction, shared by all processes, in a folder that is there until the output is.

    Part p holds the images [p * part_size, (p + 1) * part_size). It depends on nothing but the number of
    images, and no batch crosses its end, so that any number of processes computes the same.

    Attributes:
        output: The file that the parts shall become.
        num_images: Number of images.

    Example:
        >>> import tempfile
        >>> parts = PredictionParts(Path(tempfile.mkdtemp()) / "predictions.csv", 100)
        >>> parts.start({"model": "out"}, resume=False, overwrite=False)
        >>> parts.missing(Processes()), parts.rows(1)
        ([0, 1], range(64, 100))
    """

    output: Path
    num_images: int
    _locks: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def folder(self) -> Path:
        """The folder of the parts."""
        return self.output.with_name(f"{self.output.name}.parts")

    @property
    def trash(self) -> Path:
        """The folder that the parts are deleted in."""
        return self.folder.with_name(f".{self.folder.name}.tmp")

    @property
    def _sorting(self) -> Path:
        return self.folder / "sorting"

    @property
    def _run(self) -> Path:
        return self.folder / "run"

    @property
    def part_size(self) -> int:
        """Images in a part: few enough that several processes share even few images evenly."""
        return min(MOST_IN_A_PART, max(LEAST_IN_A_PART, -(-self.num_images // 64)))

    def rows(self, part: int) -> range:
        """Return the positions of the images of a part."""
        return range(self.num_images)[part * self.part_size : (part + 1) * self.part_size]

    def start(
        self,
        plan: dict[str, Any],
        *,
        resume: bool,
        overwrite: bool,
        processes: Processes | None = None,
        listing: str = "",
    ) -> None:
        """Make the folder of parts, or find that of an interrupted run of the same plan.

        Every process calls this.

        Args:
            plan: JSON description of everything that the predictions depend on.
            resume: Whether to go on from the parts of an interrupted run.
            overwrite: Whether to delete them.
            processes: The processes; None for this one alone.
            listing: `ImageSplit.listing` of the images, the same on all nodes that have the same ones.

        Raises:
            CheckpointError: The parts are of another plan, or another run is writing them.
        """
        processes = processes or Processes()
        first, *others = processes.gather_objects((node_name(), self.num_images, listing))
        for other in others:
            if other[1:] != first[1:]:
                raise CheckpointError(
                    f"The processes do not list the same images: {first[1]:,} on {first[0]}, {other[1]:,} on "
                    f"{other[0]}.\nSee that each node has the same files, and run the same command again."
                )
        with fail_together(processes):
            if processes.index == 0:
                self._start(plan, resume, overwrite)
                self._run.write_text(uuid4().hex)
        is_first_here = is_first_without(self._is_shared(processes), processes)
        with fail_together(processes):
            if is_first_here:
                self._start(plan, resume, overwrite)

    def _is_shared(self, processes: Processes) -> bool:
        """Tell whether this process sees the folder of the first one."""
        own = self._run.read_text() if self._run.exists() else ""
        return own == processes.broadcast_object(own)

    def _start(self, plan: dict[str, Any], resume: bool, overwrite: bool) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, FileExistsError, NotADirectoryError) as cause:
            raise CheckpointError(
                f"Cannot write {self.output}: {cause.strerror}, {cause.filename}.\n"
                "Name another file as `output`."
            ) from cause
        self._locks.append(keep_others_out(self.folder, self.output, "output"))
        path = self.folder / "plan.json"
        if overwrite and not resume:
            for old in (*self.folder.glob("*.parquet"), path, self._sorting):
                old.unlink(missing_ok=True)
        if path.exists():
            kept = json.loads(path.read_text())
            if changed := sorted(f"`{name}`" for name in plan if plan[name] != kept.get(name)):
                raise CheckpointError(
                    f"{self.folder} is of a run with other {', '.join(changed)}.\n"
                    "Resume with the same arguments and files, or start again with `overwrite=True`."
                )
        write_atomically(path, json.dumps(plan, indent=2).encode())

    def missing(self, processes: Processes) -> list[int]:
        """List the parts of this process's share that are absent or damaged."""
        count = -(-self.num_images // self.part_size)
        return [part for part in range(processes.index, count, processes.count) if not self._is_whole(part)]

    def save(self, part: int, table: pa.Table) -> None:
        """Write a part, atomically."""
        data = pa.BufferOutputStream()
        pq.write_table(table, data)
        self._write(part, data.getvalue())

    def collect(self, processes: Processes) -> None:
        """Collect on the first process the parts that only other nodes keep, and delete them there.

        Every process calls this.
        """
        if processes.count == 1:
            return
        lacking = self.missing(Processes()) if processes.index == 0 else []
        collect_files(lacking, self._find, self._write, processes)
        if is_first_without(self._is_shared(processes), processes):
            self.remove()

    def tables(self) -> Iterator[pa.Table]:
        """Read the parts one by one."""
        for part in range(-(-self.num_images // self.part_size)):
            yield pq.read_table(self._path(part))

    def put_together(self, *, overwrite: bool) -> None:
        """Write the output from the parts: it is there whole or not at all.

        Args:
            overwrite: Whether it may replace another file.

        Raises:
            CheckpointError: Another file is there.
        """
        staged = self.folder / self.output.name
        write_predictions(staged, self.tables())
        sync(staged)
        foreign = self.output.exists() and not filecmp.cmp(staged, self.output, shallow=False)
        if foreign and not overwrite:
            raise CheckpointError(
                f"{self.output} was written by another process meanwhile; it is left as it is.\n"
                "Move it away and run again with `resume=True`."
            )
        staged.replace(self.output)
        sync(self.output.absolute().parent)

    @contextmanager
    def sorting(self, folder: Path) -> Iterator[None]:
        """Record, for a resumed run, that images are sorted into a folder, which is empty or not there."""
        for leftover in folder.parent.glob(f".{folder.name}.*.tmp") if self._sorting.exists() else ():
            shutil.rmtree(leftover)  # half sorted by the interrupted run
        self._sorting.write_text(str(folder.absolute()))
        try:
            yield
        except Exception:
            self._sorting.unlink()
            raise

    def has_sorted(self, folder: Path) -> bool:
        """Tell whether the interrupted run has sorted the images into a folder before it ended."""
        try:
            announced = self._sorting.read_text() == str(folder.absolute())
        except FileNotFoundError:
            return False
        return announced and folder.is_dir() and any(folder.iterdir())

    def remove(self) -> None:
        """Delete the parts; half deleted, they have another name."""
        self.folder.rename(self.trash)
        while self._locks:
            os.close(self._locks.pop())
        shutil.rmtree(self.trash, ignore_errors=True)  # another run that starts deletes it, too

    def _path(self, part: int) -> Path:
        return self.folder / f"{part:06d}.parquet"

    def _write(self, part: int, data: bytes) -> None:
        write_atomically(self._path(part), data)

    def _find(self, part: int) -> Path | None:
        return self._path(part) if self._is_whole(part) else None

    def _is_whole(self, part: int) -> bool:
        try:
            num_rows: int = pq.read_table(self._path(part)).num_rows
        except (FileNotFoundError, pa.ArrowException):
            return False
        return num_rows == len(self.rows(part))


def is_finished(output: Path, *, resume: bool, overwrite: bool) -> bool:
    """Check an output before anything is loaded: whether a resumed run of it is finished already.

    Args:
        output: The file of the predictions.
        resume: Whether an interrupted run may be gone on with.
        overwrite: Whether the file, and the parts of an interrupted run, may be replaced.

    Raises:
        CheckpointError: It is there already, cannot be written, or parts of an interrupted run are there.

    Example:
        >>> is_finished(Path("/tmp/nowhere.csv"), resume=False, overwrite=False)
        False
    """
    parts = PredictionParts(output, 0)
    folder = parts.folder
    shutil.rmtree(parts.trash, ignore_errors=True)  # of a killed process
    if output.is_dir():
        raise CheckpointError(f"{output} is a folder, expected a file such as {output / 'predictions.csv'}.")
    if (folder / "plan.json").exists() and not (resume or overwrite):
        raise CheckpointError(
            f"{folder} holds the finished parts of an interrupted run.\n"
            "Go on with `resume=True`, or start again with `overwrite=True`."
        )
    if output.exists() and not overwrite and not (resume and folder.exists()):
        if resume:
            return True
        raise CheckpointError(
            f"{output} is there already.\nPass `overwrite=True` to replace it, or name another file."
        )
    existing = next(parent for parent in output.absolute().parents if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise CheckpointError(f"{output} cannot be written: {existing} is a file, or may not be written in.")
    return False
