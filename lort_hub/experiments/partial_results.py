"""Keep the finished parts of an interrupted comparison or sweep: a file for each cell, or study, and seed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from lort_hub.errors import CheckpointError
from lort_hub.evaluation.report import ResultRow
from lort_hub.one_writer import keep_others_out
from lort_hub.records import changed_arguments

if TYPE_CHECKING:
    from lort_hub.backbones.backbone import Backbone
    from lort_hub.data.dataset import LongTailedData

OWN_FILES = re.compile(r"arguments\.json|lock|\d+-\d+\.(npz|tmp)")


@dataclass(frozen=True)
class SeedResults:
    """The results of all methods on one data cell, or of all heads of one study, with one seed.

    Attributes:
        made_from: Checksums of the backbone, the images and their groups, from `checksums`.
        rows: Row of each method.
        right: Whether each test image (N,) was right, by method.
        labels: Labels (N,) of the test images.
        how: How the settings were chosen, by method.
    """

    made_from: list[str]
    rows: list[ResultRow]
    right: dict[str, npt.NDArray[Any]]
    labels: npt.NDArray[Any]
    how: dict[str, str]

    def save(self, path: Path) -> None:
        """Write the results to a file, whole or not at all.

        Args:
            path: File that ends in .npz.

        Example:
            >>> import tempfile
            >>> path, label = Path(tempfile.mkdtemp()) / "0.npz", np.zeros(1, dtype=np.int64)
            >>> SeedResults(["f00"], [], {"ce": label == 0}, label, {}).save(path)
            >>> SeedResults.load(path, ["f00"]).right
            {'ce': array([ True])}
        """
        rows = [row.to_json() for row in self.rows]
        record = json.dumps(
            {"from": self.made_from, "rows": rows, "methods": list(self.right), "how": self.how}
        )
        temporary, right = path.with_suffix(".tmp"), np.array([*self.right.values()])
        with temporary.open("wb") as file:
            np.savez_compressed(file, record=record, labels=self.labels, right=right)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path, made_from: list[str]) -> SeedResults | None:
        """Read the results from a file.

        Args:
            path: File that `save` wrote.
            made_from: Checksums of the backbone, the images and their groups as they are now.

        Returns:
            None where the file does not exist, is damaged, or was made from other features.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                record = json.loads(str(arrays["record"]))
                rows = [ResultRow.from_json(row) for row in record["rows"]]
                right = dict(zip(record["methods"], arrays["right"], strict=True))
                results = cls(record["from"], rows, right, arrays["labels"], record["how"])
        except (OSError, ValueError, KeyError, EOFError, NotImplementedError, BadZipFile, zlib.error):
            return None
        except CheckpointError:  # rows of another version
            return None
        return results if results.made_from == made_from else None


def checksums(backbone: Backbone, data: LongTailedData) -> list[str]:
    """Compute the checksums of what heads are made from: the backbone, the images, and their groups.

    Args:
        backbone: The backbone.
        data: The data set.

    Example:
        >>> from lort_hub.backbones.load import load_backbone
        >>> from lort_hub.data.load import load_long_tailed
        >>> backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
        >>> len(checksums(backbone, load_long_tailed("digits")))
        4
    """
    groups = b"" if data.train.groups is None else data.train.groups.tobytes()
    images = data.train.fingerprint(), data.test.fingerprint()
    return [backbone.fingerprint(), *images, hashlib.sha256(groups).hexdigest()]


def partial_folder(output_dir: Path, arguments: dict[str, Any]) -> Path:
    """Make the folder of finished seeds, beside the output folder, or check the one that is there.

    Args:
        output_dir: Output folder.
        arguments: JSON-ready arguments of the run about to start.

    Returns:
        The folder.

    Raises:
        CheckpointError: It holds files that are not lort_hub's, another run is writing it, or it has seeds of
            an interrupted run that is neither resumed with the same arguments nor overwritten.

    Example:
        >>> import tempfile
        >>> out, arguments = Path(tempfile.mkdtemp()) / "out", {"resume": False, "overwrite": False}
        >>> folder = partial_folder(out, arguments)
        >>> folder.name, sorted(path.name for path in folder.iterdir())
        ('out-unfinished', ['arguments.json', 'lock'])
    """
    folder = output_dir.with_name(f"{output_dir.name}-unfinished")
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if foreign := [name for name in names if not OWN_FILES.fullmatch(name)]:
        raise CheckpointError(
            f"{folder} holds files that are not lort_hub's ({', '.join(foreign[:3])}).\n"
            "Finished seeds are kept there: move the files, or name another `output_dir`."
        )
    folder.mkdir(parents=True, exist_ok=True)
    keep_others_out(folder, output_dir, "output_dir")
    if arguments["overwrite"] and not arguments["resume"]:
        for old in folder.glob("*.npz"):
            old.unlink()
    record = folder / "arguments.json"
    if any(folder.glob("*.npz")):
        if not arguments["resume"]:
            raise CheckpointError(
                f"{folder} holds an interrupted run.\n"
                "Pass `resume=True` to go on from there, or `overwrite=True` to start anew."
            )
        if changes := changed_arguments(arguments, json.loads(record.read_text())):
            raise CheckpointError(
                f"`resume=True` found an interrupted run in {folder} with other arguments: {changes}.\n"
                "Use the same arguments, another `output_dir`, or only `overwrite=True` to start anew."
            )
        return folder
    record.write_text(json.dumps(arguments))
    return folder


def describe_seeds(found: Sequence[SeedResults]) -> str:
    """Describe below a table how much was tested, and how the settings were chosen.

    Args:
        found: Results of all seeds of a data cell.

    Example:
        >>> describe_seeds([SeedResults([], [], {}, np.zeros(9), {"ce": "nll by five folds"})])
        '9 test images, 1 seed. Settings chosen by nll by five folds for ce.'
    """
    seeds = f"{len(found)} seed{'s' * (len(found) > 1)}"
    ways: dict[str, list[str]] = {}
    for name, way in found[0].how.items():
        ways.setdefault(way, []).append(name)
    chosen = "; ".join(f"{way} for {', '.join(names)}" for way, names in ways.items())
    tested = f"{len(found[0].labels):,} test images, {seeds}."
    return f"{tested} Settings chosen by {chosen}." if chosen else tested
