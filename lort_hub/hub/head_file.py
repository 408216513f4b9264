"""Read, write and recognise a head: config.json, model.safetensors and the held-out decisions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lort_hub.data_record import DuplicateCounts
from lort_hub.errors import CheckpointError
from lort_hub.evaluation.report import MetricsRecord, Scores
from lort_hub.heads.scorers import Predictions
from lort_hub.records import BackboneRecord, BaselineRecord, HeadRecord, RunRecord, with_text_names
from lort_hub.serialization import Record

HELD_OUT = "held_out.safetensors"


@dataclass(frozen=True)
class DataSource(Record):
    """The part of a `DataRecord` that a head carries: its source and its cut, without rows and checksums."""

    name: str
    dataset: str
    revision: str | None
    imbalance: str
    test_split: str
    duplicates: DuplicateCounts | None = None


@dataclass(frozen=True)
class HeadConfig(Record):
    """The content of a head's config.json: the parts of run.json and metrics.json that a head carries.

    Attributes:
        backbone: Backbone that the head was made on.
        head: How it was re-trained.
        baseline: Head it is compared with; None where there is none.
        class_names: Names of the K classes.
        class_counts: Training images (K,).
        data: Data set.
        results: Scores of the baseline, of other heads and of the head itself, by method.
        lort_hub: Version of lort_hub.
    """

    backbone: BackboneRecord
    head: HeadRecord
    baseline: BaselineRecord | None
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    data: DataSource
    results: dict[str, Scores]
    lort_hub: str

    @classmethod
    def of(cls, run: RunRecord, metrics: MetricsRecord) -> HeadConfig:
        """Take from the records of a run what its head carries."""
        reports = {run.baseline.name: metrics.baseline} if run.baseline and metrics.baseline else {}
        reports |= {**(metrics.others or {}), run.head.method: metrics.test}
        return cls(
            backbone=run.backbone,
            head=run.head,
            baseline=run.baseline,
            class_names=run.class_names,
            class_counts=run.data.class_counts,
            data=DataSource.part_of(run.data),
            results={name: Scores.part_of(report) for name, report in reports.items()},
            lort_hub=run.environment.versions["lort_hub"],
        )

    @classmethod
    def from_json(cls, value: Any) -> HeadConfig:
        """Build the record from parsed JSON, with class names that are numbers as texts."""
        return super().from_json(with_text_names(value))

    def check_scores(self) -> None:
        """Refuse results without the scores of the head itself."""
        if self.head.method not in self.results:
            raise CheckpointError(f"HeadConfig.results lacks '{self.head.method}', the head's own method.")

    @property
    def scores(self) -> Scores:
        """Scores of the head itself.

        Raises:
            CheckpointError: There are none.
        """
        self.check_scores()
        return self.results[self.head.method]

    def to_json(self) -> dict[str, Any]:
        """Return the config as JSON-ready values, without the rows that the backbone was trained on."""
        config = super().to_json()
        del config["backbone"]["trained_on"]
        return config


@dataclass(frozen=True)
class HeadFacts(Record):
    """The part of a head's config.json that is asked for of any head; one made in Python may lack it.

    Attributes:
        class_names: Names of the K classes.
        class_counts: Training images (K,).
        head: How it was re-trained.
    """

    class_names: tuple[str, ...] = ()
    class_counts: tuple[int, ...] | None = None
    head: HeadRecord | None = None

    @classmethod
    def of(cls, config: dict[str, Any], source: str) -> HeadFacts:
        """Check what is asked for of any head in the content of a config.json.

        Args:
            config: The content; {} where there is none.
            source: The model, for the message.

        Raises:
            CheckpointError: A value is missing or of another type, or there are not K of them.
        """
        with naming_head(source):
            facts = cls.from_json(config)
            shares = facts.head.mix.shares if facts.head and facts.head.mix else None
            for name, numbers in (("class_counts", facts.class_counts), ("head.mix.shares", shares)):
                if numbers is not None and facts.class_names and len(numbers) != len(facts.class_names):
                    what = f"{name} has {len(numbers)} numbers for {len(facts.class_names)} class_names"
                    raise CheckpointError(f"{what}.")
        return facts


@contextmanager
def naming_head(source: str) -> Iterator[None]:
    """Say of which head's record an error is, and what to do.

    Args:
        source: The model.

    Raises:
        CheckpointError: The record is damaged.

    Example:
        >>> with naming_head("out"):
        ...     pass
    """
    try:
        yield
    except CheckpointError as cause:
        raise CheckpointError(
            f"The record of the head of '{source}', its config.json, is damaged: {cause}\n"
            "Expected it as `retrain` writes it.\n"
            "Take an unedited copy, or re-train the head."
        ) from cause


def is_head(folder: Path) -> bool:
    """Check by the names of its tensors whether a folder holds a head alone.

    Args:
        folder: Folder with a model.safetensors, or with a model in several files.

    Raises:
        CheckpointError: The file is damaged.

    Example:
        >>> import tempfile, torch
        >>> from lort_hub import LortHead
        >>> folder = Path(tempfile.mkdtemp())
        >>> LortHead(torch.eye(2), torch.zeros(2), {"class_names": ["cat", "dog"]}).save_pretrained(folder)
        >>> is_head(folder)
        True
    """
    try:
        with safe_open(folder / "model.safetensors", "pt") as file:
            return set(file.keys()) == {"weight", "bias"}
    except FileNotFoundError:
        return False
    except SafetensorError as cause:
        raise CheckpointError(f"{folder / 'model.safetensors'} is damaged: {cause}.") from cause


def write_head(folder: Path, weight: Tensor, bias: Tensor, config: dict[str, Any]) -> None:
    """Write the two files of a head.

    Args:
        folder: Existing folder.
        weight: W (K, D).
        bias: b (K,).
        config: JSON-ready content of config.json.

    Example:
        >>> import tempfile, torch
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_head(folder, torch.eye(2), torch.zeros(2), {"class_names": ["cat", "dog"]})
        >>> read_head(folder, folder)[1]
        tensor([0., 0.])
    """
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = {"weight": weight.contiguous(), "bias": bias.contiguous()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def read_head(folder: Path, source: str | Path) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Read the two files of a head.

    Args:
        folder: Folder of the files.
        source: Folder or Hub id that the user gave, for messages.

    Returns:
        W (K, D), b (K,) and the content of config.json.

    Raises:
        CheckpointError: It does not hold exactly a weight (K, D), a bias (K,) and the names of K classes.

    Example:
        >>> weight, bias, config = read_head(Path("out/head"), "out/head")  # doctest: +SKIP
    """
    try:
        tensors = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as cause:
        raise CheckpointError(f"'{source}' is not a LORT head: model.safetensors: {cause}.") from cause
    if not _is_linear(tensors):
        shapes = [f"{name} {tuple(tensor.shape)}" for name, tensor in sorted(tensors.items())]
        holds = ", ".join(shapes[:6]) or "no tensors"
        raise CheckpointError(
            f"'{source}' is not a LORT head: it holds {holds}; expected exactly weight (K, D) and bias (K,)."
        )
    config = read_head_config(folder, source)
    if len(config["class_names"]) != len(tensors["bias"]):
        raise CheckpointError(
            f"'{source}' is not a LORT head: config.json names {len(config['class_names'])} classes, "
            f"expected {len(tensors['bias'])}, the rows of its weight."
        )
    return tensors["weight"], tensors["bias"], config


def write_held_out(folder: Path, held_out: Predictions) -> None:
    """Write the decisions on held-out training images beside a head: 8 bytes for each image.

    Example:
        >>> import tempfile, torch
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_held_out(folder, Predictions(torch.tensor([0, 1]), torch.tensor([1, 1])))
        >>> read_held_out(folder).predicted
        tensor([1, 1])
    """
    tensors = {"labels": held_out.labels.int(), "predicted": held_out.predicted.int()}
    save_file(tensors, folder / HELD_OUT, metadata={"format": "pt"})


def read_held_out(folder: Path) -> Predictions | None:
    """Read the decisions on held-out training images beside a head; None where there are none.

    Raises:
        CheckpointError: The file is damaged.

    Example:
        >>> read_held_out(Path("nowhere")) is None
        True
    """
    try:
        tensors = load_file(folder / HELD_OUT)
        return Predictions(tensors["labels"].long(), tensors["predicted"].long())
    except FileNotFoundError:
        return None
    except (KeyError, SafetensorError) as cause:
        raise CheckpointError(f"{folder / HELD_OUT} is damaged: {cause}.") from cause


def _is_linear(tensors: Mapping[str, Tensor]) -> bool:
    if set(tensors) != {"weight", "bias"}:
        return False
    weight, bias = tensors["weight"], tensors["bias"]
    return weight.ndim == 2 and bias.shape == weight.shape[:1]


def read_head_config(folder: Path, source: str | Path) -> dict[str, Any]:
    """Read the config.json of a head, which has to name its classes.

    Args:
        folder: Folder of the file.
        source: Folder or Hub id that the user gave, for messages.

    Raises:
        CheckpointError: There is none, or it names no classes.

    Example:
        >>> read_head_config(Path("out/head"), "out/head")  # doctest: +SKIP
        {'class_names': ['cat', 'dog'], ...}
    """
    try:
        config: dict[str, Any] = with_text_names(json.loads((folder / "config.json").read_text()))
        named = isinstance(config["class_names"], list)
    except (OSError, ValueError, TypeError, KeyError):
        named = False
    if not named:
        raise CheckpointError(
            f"'{source}' is not a LORT head: it holds no config.json with class_names beside a "
            "model.safetensors, nor a head/ that does."
        )
    return config
