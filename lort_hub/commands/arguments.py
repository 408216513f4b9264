"""Define the flags that recipes share.

Recipes, and the modules that define flags, import heavy libraries in their functions: --help and a mistyped
flag are answered at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from lort_hub.errors import ConfigError

T = TypeVar("T")


def flag(default: Any, help: str) -> Any:
    """Declare a dataclass field that becomes a command-line flag with a help text.

    Example:
        >>> @dataclass
        ... class Arguments:
        ...     seed: int = flag(0, "Seed of everything random.")
        >>> Arguments().seed
        0
    """
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


def check_ranges(arguments: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse numbers out of range, and those that are no numbers or not finite.

    Args:
        arguments: Flags of a recipe.
        ranges: The least and the largest value of each number, by its name.

    Raises:
        ConfigError: A number is out of its range.

    Example:
        >>> check_ranges(InputArguments(), {"batch_size": (1, inf)})
    """
    for name, (least, most) in ranges.items():
        value = getattr(arguments, name)
        if value is not None and not (least <= value <= most and value < inf):
            bound = f"at least {least}" if most == inf else f"{least} to {most}"
            raise ConfigError(f"--{name.replace('_', '-')} is {value}, expected {bound}.")


Device = Literal["auto", "cpu", "cuda"]


def device_flag() -> Any:
    """Declare the flag of the device, the same in each recipe that computes on one.

    Example:
        >>> device_flag().default
        'auto'
    """
    return flag("auto", "Where backbones run and heads are solved; auto takes GPUs where there are some.")


@dataclass
class InputArguments:
    """Flags of the recipes that read images, with a backbone or without, and write an output folder.

    Attributes:
        RANGES: The least and the largest value of each number.
        given: Names of the flags that the command line or the YAML file sets.
    """

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "batch_size": (1, inf),
        "image_size": (1, inf),
        "num_workers": (0, inf),
        "subset_seed": (0, inf),
    }
    given: ClassVar[frozenset[str]] = frozenset()

    dataset: str = flag(
        "cifar100",
        "digits, cifar10, cifar100, org/name[:configuration][@revision] on the Hub, a folder, or a file: "
        "a CSV of image files and labels, a parquet table, an archive.",
    )
    image_root: str | None = flag(None, "Folder of the images that a CSV names (default: found beside it).")
    imbalance: str | None = flag(
        None,
        "none, exp:IR, pareto:IR, step:IR, humps:IR, tail:IR (default: cifar exp:100, digits exp:10).",
    )
    subset: Literal["first", "shuffle"] = flag(
        "first", "Images of a class to keep: the first ones, or a random choice."
    )
    subset_seed: int = flag(0, "Seed of --subset shuffle.")
    image_column: str | None = flag(None, "Column of the images (default: found by its type).")
    label_column: str | None = flag(None, "Column of the labels (default: found by its type).")
    train_split: str | None = flag(None, "Split to train on (default: train).")
    test_split: str | None = flag(
        None, "Split to test on (default: test, else validation, else a part of train)."
    )
    class_folder: Literal["first", "last"] | None = flag(
        None, "Which of the folders below the split is the class, where there are several."
    )
    on_duplicate: Literal["keep", "drop"] = flag(
        "keep", "What to do with training images that are test images too, byte for byte."
    )
    group_column: str | None = flag(None, "Column of groups of images, which are held out together.")
    group_pattern: str | None = flag(
        None,
        "The same by a regular expression, searched in file names; (clip\\d+)_ finds clip12 in clip12_3.jpg.",
    )
    group_file: Path | None = flag(None, "The same by a CSV with the columns file and group.")
    image_size: int | None = flag(None, "Side of the square input in pixels (default: the backbone's).")
    batch_size: int = flag(64, "Images in a batch, in each process.")
    num_workers: int = flag(
        min(4, os.cpu_count() or 1), "Threads or processes that decode images, for each process."
    )
    output_dir: Path = flag(Path("out"), "Folder for the results; not there yet, or empty.")
    overwrite: bool = flag(False, "Replace the content of the output folder.")

    def __post_init__(self) -> None:
        """Refuse numbers out of range before anything is loaded."""
        self.output_dir = Path(self.output_dir)
        check_ranges(self, self.RANGES)

    def data_options(self) -> dict[str, Any]:
        """Return the options of `load_long_tailed`."""
        cut = ("imbalance", "subset", "subset_seed")
        names = ("image_column", "label_column", "train_split", "test_split", "class_folder", "image_root")
        groups = ("group_column", "group_pattern", "group_file")
        return {name: getattr(self, name) for name in (*cut, *names, "on_duplicate", *groups)}


@dataclass
class ProcessArguments(InputArguments):
    """Flags of the recipes that several processes can run together."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {**InputArguments.RANGES, "seed": (0, inf)}
    SEVERAL_PROCESSES: ClassVar[bool] = True

    seed: int = flag(0, "Seed of everything random.")
    mixed_precision: Literal["no", "bf16", "fp16"] | None = flag(
        None, "Precision of the backbone (default: that of accelerate launch, or no)."
    )
    device: Device = device_flag()
    on_bad_image: Literal["error", "skip"] = flag("error", "What to do with an image that cannot be decoded.")


@dataclass
class RunArguments(ProcessArguments):
    """Flags of the recipes that load a backbone and data and write an output folder."""

    backbone: str = flag(
        "resnet50", "timm name, hf-hub:org/name, org/name, local folder, or transformers: before one."
    )
    pretrained: bool = flag(True, "Load pretrained weights; --no-pretrained for random ones.")
    resume: bool = flag(
        False,
        "Continue an interrupted run; a finished one is left as it is, unless --overwrite is given too.",
    )
    report_to: Literal["none", "tensorboard", "trackio", "wandb"] = flag("none", "Experiment tracker.")
    dry_run: bool = flag(False, "Check the arguments and the data, print the plan, and write nothing.")

    def backbone_options(self) -> dict[str, Any]:
        """Return the options of `load_backbone`."""
        return {"pretrained": self.pretrained, "image_size": self.image_size}


@dataclass
class FeatureArguments(RunArguments):
    """Flags of the recipes that extract features."""

    feature_dtype: Literal["float32", "float16", "bfloat16"] = flag(
        "float32", "Type of the features on disk."
    )

    def extraction_options(self) -> dict[str, Any]:
        """Return the options of `extract_features`, except views and their seed."""
        import torch

        names = ("batch_size", "num_workers", "on_bad_image")
        dtype = getattr(torch, self.feature_dtype)
        return {**{name: getattr(self, name) for name in names}, "dtype": dtype}


@dataclass
class ModelArguments(RunArguments):
    """Flags of the recipes that write a model."""

    push_to_hub: str | None = flag(None, "Repository on the Hub to push the output to: namespace/name.")
    private: bool = flag(False, "Make a new repository private.")
    license: str | None = flag(None, "License of the model, for its card (default: that of the backbone).")

    def __post_init__(self) -> None:
        """Refuse a private repository that nothing is pushed to."""
        super().__post_init__()
        if self.private and not self.push_to_hub:
            raise ConfigError("--private has no effect without --push-to-hub namespace/name.")
