"""Record how a model was made: the typed parts of run.json, and the environment of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lort_hub.data_record import DataRecord
from lort_hub.errors import CheckpointError
from lort_hub.serialization import Record

PACKAGES = (
    *("lort_hub", "torch", "timm", "transformers", "datasets", "accelerate", "huggingface_hub", "numpy"),
    *("onnx", "onnxruntime"),
)
WITHOUT_EFFECT = (
    *("device", "dry_run", "num_workers", "output_dir", "overwrite", "private", "push_to_hub", "report_to"),
    "resume",
)
"""Arguments that change nothing in the output folder, or no more than another machine does."""


@dataclass(frozen=True)
class Environment(Record):
    """The software that a run used.

    Attributes:
        command: The command that started it; None where it was started from Python.
        git_revision: Commit of the recipe that ran; None where no repository tracks it, or no recipe ran.
        python: Version of Python.
        versions: Version of each package, by its name.
    """

    command: str | None
    git_revision: str | None
    python: str
    versions: dict[str, str]


@dataclass(frozen=True)
class TrainedOn(Record):
    """The images that a backbone was trained on.

    Attributes:
        dataset: Hub id or folder.
        split: Name of the original split.
        rows: Rows of that split.
        fingerprint: Checksum of the training split, with the images that were held out.
        loss: Loss that it was trained with; None for cross-entropy.
        logit_offset: What the loss added to the logits of each class (K,) of its own classifier; None for
            cross-entropy, and where the classifier is not of this training.
        listing: Checksum of the file names of the original split; None in older records.
    """

    dataset: str
    split: str
    rows: tuple[int, ...]
    fingerprint: str
    loss: str | None = None
    logit_offset: tuple[float, ...] | None = None
    listing: str | None = None

    def with_other_head(self) -> TrainedOn:
        """Return the record of the same training for a model whose classifier is not of it.

        Example:
            >>> record = TrainedOn("digits", "train", (0,), "f00", "balanced-softmax", (-0.7, -0.7))
            >>> record.with_other_head().logit_offset is None
            True
        """
        return replace(self, logit_offset=None)


@dataclass(frozen=True)
class BackboneRecord(Record):
    """The backbone of a head.

    Attributes:
        spec: The spec that the user wrote.
        source: Hub id, folder, or timm name of random weights.
        revision: Commit of a Hub id; None otherwise.
        library: "timm" or "transformers".
        sha256: Checksum of its weights without the classifier.
        num_features: Size D of a feature vector.
        preprocessing: The evaluation preprocessing of an image.
        architecture: timm's architecture or transformers' model type.
        license: License of the model; None where none is known.
        trained_on: The images that lort_hub trained it on; None where it did not.
        needs_lort_hub: Whether loading it needs `import lort_hub.cifar_resnets`.
    """

    spec: str | None
    source: str
    revision: str | None
    library: str
    sha256: str
    num_features: int | None
    preprocessing: dict[str, Any]
    architecture: str
    license: str | None
    trained_on: TrainedOn | None
    needs_lort_hub: bool = False


AS_MADE = "as made"
"""Name of the class mix of a head that was not moved to another."""


@dataclass(frozen=True)
class ClassMix(Record):
    """The class mix that a head's probabilities hold for.

    Attributes:
        name: What said it: "balanced", "train", the name of a file, an estimate, or `AS_MADE`.
        shares: Share (K,) of each class.
        scale: Factor on the exported logits with which they hold for it.
    """

    name: str
    shares: tuple[float, ...]
    scale: float = 1.0

    @property
    def is_moved(self) -> bool:
        """Whether the head was moved to this mix."""
        return self.name != AS_MADE


@dataclass(frozen=True)
class ChosenSettings(Record):
    """Settings of a method that were chosen on held-out images, to fit its head again by.

    Attributes:
        settings: Settings of the method, by name.
        scale: Factor that calibrates the head's logits.
    """

    settings: dict[str, float]
    scale: float


@dataclass(frozen=True)
class HeadRecord(Record):
    """A re-trained head: its method, settings and objective.

    Attributes:
        method: Name of the method.
        summary: The method in a few words; None for the head of stage 1.
        iterations: Iterations of the solver, or epochs of SGD; 0 for a closed form.
        relative_gradient: Norm of the gradient over its norm at the zero head; None where nothing is solved.
        settings: Settings of the method, by name.
        delta: Label smoothing of the objective.
        gamma: Exponent of its class balance.
        tau: Strength of its logit adjustment.
        weight_decay: Its weight decay.
        label_aware: Whether its label smoothing falls with the count of the class.
        scale: Factor in the exported weight and bias that calibrates the head: 1 for the head as solved,
            None before lort_hub recorded it.
        mix: Class mix that its probabilities hold for; None where nobody knows.
        candidates: Other heads that were chosen on the same held-out images, by method: those that a sum was
            chosen among, or that the head is compared with; None before lort_hub recorded them.
    """

    method: str
    summary: str | None
    iterations: int
    relative_gradient: float | None
    settings: dict[str, float]
    delta: float
    gamma: float
    tau: float
    weight_decay: float
    label_aware: bool = False
    scale: float | None = None
    mix: ClassMix | None = None
    candidates: dict[str, ChosenSettings] | None = None


DEFAULT = " (default)"
"""Ending of the name of a head whose settings are the chosen ones, beside another head of its method."""


@dataclass(frozen=True)
class BaselineRecord(Record):
    """The head that a re-trained one is compared with.

    Attributes:
        name: Its method.
        note: Its description, in a few words.
        mix: Class mix that it decides for; None for that of the training images, or where nobody knows.
    """

    name: str
    note: str
    mix: str | None = None


@dataclass(frozen=True)
class RunRecord(Record):
    """The content of run.json: all that made a model.

    Attributes:
        arguments: Arguments of the recipe, by name; none for a run from Python.
        environment: Software.
        backbone: Backbone.
        head: New head.
        baseline: Head it is compared with; None where there is none.
        data: Data set.
        class_names: Names of the K classes.
    """

    arguments: dict[str, Any]
    environment: Environment
    backbone: BackboneRecord
    head: HeadRecord
    baseline: BaselineRecord | None
    data: DataRecord
    class_names: tuple[str, ...]

    @classmethod
    def from_json(cls, value: Any) -> RunRecord:
        """Build the record from parsed JSON, with class names that are numbers as texts."""
        return super().from_json(with_text_names(value))


def with_text_names(record: Any) -> Any:
    """Copy a parsed record with class names that are numbers as texts, as whoever wrote them by hand means.

    Example:
        >>> with_text_names({"class_names": [7, "8"]})
        {'class_names': ['7', '8']}
    """
    names = record.get("class_names") if isinstance(record, dict) else None
    if not isinstance(names, list):
        return record
    texts = [str(name) if type(name) in (int, float) else name for name in names]
    return {**record, "class_names": texts}


def read_trained_on(folder: Path) -> TrainedOn | None:
    """Read from a model folder which images lort_hub trained the model on.

    Args:
        folder: Folder of a model.

    Returns:
        None where lort_hub did not train it.

    Example:
        >>> read_trained_on(Path("nowhere")) is None
        True
    """
    try:
        run = json.loads((folder / "run.json").read_text())
        return TrainedOn.from_json(run["backbone"]["trained_on"])
    except (OSError, ValueError, KeyError, TypeError, CheckpointError):
        return None


def changed_arguments(now: dict[str, Any], before: dict[str, Any]) -> str:
    """List the arguments that differ between two runs, of those that have an effect on the result.

    Example:
        >>> changed_arguments({"lr": 0.1, "resume": True}, {"lr": 0.2, "resume": False})
        'lr 0.2 -> 0.1'
    """
    differ = sorted(name for name in now if name not in WITHOUT_EFFECT and now[name] != before.get(name))
    return ", ".join(f"{name} {before.get(name)} -> {now[name]}" for name in differ)


def environment(command: str | None = None) -> Environment:
    """Collect the versions of the packages and the git revision of this run.

    Args:
        command: The command that started the recipe; None for a run from Python.

    Example:
        >>> environment("lort-hub retrain").command
        'lort-hub retrain'
    """
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    revision = git_revision(Path(sys.argv[0])) if command else None
    return Environment(command, revision, sys.version.split()[0], versions)


def git_revision(file: Path) -> str | None:
    """Return the commit checked out in the git repository that tracks a file; None where none tracks it.

    Args:
        file: The recipe that runs. One that a wheel installed is tracked by no repository, even if
            site-packages lies inside one.

    Example:
        >>> git_revision(Path("/nonexistent/recipes/retrain.py")) is None
        True
    """

    def git(*words: str) -> str:
        run = subprocess.run(["git", *words], cwd=file.parent, capture_output=True, text=True, check=False)
        return run.stdout.strip()

    try:
        return (git("ls-files", file.name) and git("rev-parse", "HEAD")) or None
    except OSError:  # no git on this machine, or no such folder
        return None
