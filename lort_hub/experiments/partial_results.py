"""Keep what an interrupted comparison or sweep has done: one file for each data cell, or study, and seed."""

from __future__ import annotations

import json
import os
import re
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from lort_hub.errors import CheckpointError
from lort_hub.records import changed_arguments

OURS = re.compile(r"arguments\.json|\d+-\d+\.(npz|tmp)")


@dataclass(frozen=True)
class SeedResults:
    """All methods on one cell, or all heads of one study, with one seed.

    Attributes:
        made_from: Checksums of the backbone and of the images.
        rows: Of `lort_hub.evaluation.tables.result_row`.
        right: Whether each test image (N,) was right, by method.
        labels: Labels (N,) of the test images.
        how: Where the choices of a method's settings come from, by method.
    """

    made_from: list[str]
    rows: list[dict[str, Any]]
    right: dict[str, npt.NDArray[Any]]
    labels: npt.NDArray[Any]
    how: dict[str, str]

    def save(self, path: Path) -> None:
        """Write to a file that is there whole or not at all.

        Args:
            path: An .npz file.

        Example:
            >>> import tempfile
            >>> path, label = Path(tempfile.mkdtemp()) / "0.npz", np.zeros(1, dtype=np.int64)
            >>> SeedResults(["f00"], [{"method": "ce"}], {"ce": label == 0}, label, {}).save(path)
            >>> SeedResults.load(path, ["f00"]).rows
            [{'method': 'ce'}]
        """
        told = json.dumps(
            {"from": self.made_from, "rows": self.rows, "methods": list(self.right), "how": self.how}
        )
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.savez_compressed(file, told=told, labels=self.labels, right=np.array([*self.right.values()]))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path, made_from: list[str]) -> SeedResults | None:
        """Read what `save` wrote; None where there is no such file, or it is damaged or of other features.

        Args:
            path: An .npz file.
            made_from: Checksums of the backbone and of the images, as they are now.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                told = json.loads(str(kept["told"]))
                right = dict(zip(told["methods"], kept["right"], strict=True))
                found = cls(told["from"], told["rows"], right, kept["labels"], told["how"])
        except (OSError, ValueError, KeyError, EOFError, NotImplementedError, BadZipFile, zlib.error):
            return None
        return found if found.made_from == made_from else None


def partial_results_folder(output_dir: Path, arguments: dict[str, Any]) -> Path:
    """Make the folder beside the output folder that keeps finished seeds, or find it to go on from there.

    Args:
        output_dir: The output folder.
        arguments: JSON-ready arguments of the run about to start.

    Raises:
        CheckpointError: It holds what is not lort_hub's, or seeds of an interrupted run that is neither to
            be resumed, with the same arguments, nor to be overwritten.

    Example:
        >>> import tempfile
        >>> out, arguments = Path(tempfile.mkdtemp()) / "out", {"resume": False, "overwrite": False}
        >>> folder = partial_results_folder(out, arguments)
        >>> folder.name, [path.name for path in folder.iterdir()]
        ('out-unfinished', ['arguments.json'])
    """
    folder = output_dir.with_name(f"{output_dir.name}-unfinished")
    there = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if foreign := [name for name in there if not OURS.fullmatch(name)]:
        raise CheckpointError(
            f"{folder} holds files that are not lort_hub's ({', '.join(foreign[:3])}).\n"
            "It is where finished seeds are kept; move them, or use another --output-dir."
        )
    if arguments["overwrite"] and not arguments["resume"]:
        shutil.rmtree(folder, ignore_errors=True)
    record = folder / "arguments.json"
    if any(folder.glob("*.npz")):
        if not arguments["resume"]:
            raise CheckpointError(
                f"{folder} holds an interrupted run.\n"
                "Add --resume to go on from there, or --overwrite to start anew."
            )
        if changes := changed_arguments(arguments, json.loads(record.read_text())):
            raise CheckpointError(
                f"--resume found an interrupted run in {folder} with other arguments: {changes}.\n"
                "Use the same arguments, another --output-dir, or --overwrite."
            )
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(arguments))
    return folder
