"""Define the flags that recipes share, and parse them from the command line and from YAML files.

Recipes, and the modules that define flags, import heavy libraries in their functions: --help and a mistyped
flag are answered at once.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from math import inf
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, TypeVar

from lort_hub.commands.command_line import LORT_HUB_COMMAND, command_for, recipes_folder
from lort_hub.commands.json_output import JSON_FLAG
from lort_hub.errors import ConfigError, did_you_mean

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
        for name, (least, most) in self.RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                bound = f"at least {least}" if most == inf else f"{least} to {most}"
                raise ConfigError(f"--{name.replace('_', '-')} is {value}, expected {bound}.")

    def data_options(self) -> dict[str, Any]:
        """Return the options of `load_long_tailed`."""
        cut = ("imbalance", "subset", "subset_seed")
        names = ("image_column", "label_column", "train_split", "test_split", "class_folder", "image_root")
        groups = ("group_column", "group_pattern", "group_file")
        return {name: getattr(self, name) for name in (*cut, *names, "on_duplicate", *groups)}


LAUNCHER = {
    "num-processes": "Processes to start, one for each GPU of all machines.",
    "num-machines": "Machines to run on; give the same command on each (default: 1).",
    "machine-rank": "Number of this machine, from 0.",
    "main-process-ip": "Address of machine 0, where the machines meet.",
    "main-process-port": "Port for that, free on machine 0 (default: 29500).",
}
"""Flags of `lort-hub`'s launcher, with their help."""


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


def parse_arguments(
    kind: type[T],
    argv: Sequence[str] | None = None,
    description: str | None = None,
    *,
    first_word: str | None = None,
    json: bool = False,
    more_words: str | None = None,
) -> T:
    """Parse a recipe's flags; the command line wins over the YAML file of `--config`.

    Args:
        kind: The recipe's dataclass.
        argv: Arguments; None for the command line.
        description: Text of `--help`.
        first_word: Name of the flag that the first word is the value of, where it is no flag.
        json: Whether the recipe has a result for `--json`.
        more_words: Name of the flag that the words after it are values of.

    Returns:
        The filled dataclass.

    Raises:
        ConfigError: An unknown flag or YAML key, or several processes of a recipe that is made for one.

    Example:
        >>> @dataclass
        ... class Arguments:
        ...     seed: int = flag(0, "Seed of everything random.")
        >>> parse_arguments(Arguments, ["--seed", "3"])
        Arguments(seed=3)
    """
    from transformers import HfArgumentParser

    recipe = Path(sys.argv[0]).stem
    several = getattr(kind, "SEVERAL_PROCESSES", False)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not several:
        raise ConfigError(f"{recipe} runs as one process; leave out --num-processes, or the launcher.")
    argv = list(sys.argv[1:] if argv is None else argv)
    if first_word and argv and not argv[0].startswith("-"):
        first, *rest = argv
        named = [f"--{more_words}"] if more_words and rest and not rest[0].startswith("-") else []
        argv = [f"--{first_word}", first, *named, *rest]
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    argv = [
        part for word in argv for part in (word.split("=", 1) if word.startswith("--config=") else [word])
    ]
    if "--config" in argv:
        at = argv.index("--config")
        if at + 1 == len(argv):
            raise ConfigError("--config needs a file: --config FILE.yaml")
        argv = _yaml_flags(_config_file(argv[at + 1]), known) + argv[:at] + argv[at + 2 :]
    parser = HfArgumentParser(
        kind,
        prog=command_for(recipe),
        usage="%(prog)s [flags]",
        description=description,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    parser.error = _refuse
    parser.add_argument("--config", metavar="FILE", help="YAML file of flags; those given here win.")
    if json:
        text = "Print the result as one JSON object on stdout, and all else on stderr."
        parser.add_argument(JSON_FLAG, action="store_true", help=text)
    if LORT_HUB_COMMAND in os.environ and several:
        for name, text in LAUNCHER.items():
            parser.add_argument(f"--{name}", metavar="N", help=text)
    *parsed, unknown = parser.parse_args_into_dataclasses(
        argv, return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        flags, name = [f"--{name.replace('_', '-')}" for name in known], unknown[0].partition("=")[0]
        raise ConfigError(
            f"Unknown argument '{name}'.{did_you_mean(name, flags)}\nSee --help for all of them."
        )
    arguments: T = parsed[0]
    words = {word.partition("=")[0][2:].replace("-", "_") for word in argv if word.startswith("--")}
    setattr(arguments, "given", frozenset(words | {word.removeprefix("no_") for word in words}))  # noqa: B010
    return arguments


class _Help(argparse.RawDescriptionHelpFormatter):
    """Show each flag in one spelling, with its default where that says something."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        flag = action.option_strings[-1]
        if action.nargs == 0 or isinstance(action.default, bool):
            return flag
        name = {int: "N", float: "X", Path: "PATH"}.get(action.type, "NAME")  # type: ignore[call-overload]
        return f"{flag} {self._metavar_formatter(action, name)(1)[0]}{' ...' * (action.nargs == '+')}"

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        if action.required:
            return f"{text} (required)"
        if default in (None, argparse.SUPPRESS) or isinstance(default, bool) or "(default: " in text:
            return text
        return f"{text} (default: {' '.join(map(str, default)) if isinstance(default, list) else default})"

    def add_argument(self, action: argparse.Action) -> None:
        if not action.option_strings[0].startswith("--no_"):  # the text of the flag itself names it
            super().add_argument(action)


def _refuse(message: str) -> NoReturn:
    found = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
    hint = did_you_mean(found[1], [choice.strip("' ") for choice in found[2].split(",")]) if found else ""
    raise ConfigError(f"{message}.{hint}\nSee --help for all flags.")


def _config_file(name: str) -> Path:
    """Find a YAML file: a path, or the name of one that comes with the recipes."""
    shipped = {path.name: path for path in (recipes_folder() / "configs").glob("*.yaml")}
    path = Path(name)
    if path.exists() or path.parent != Path():
        return path
    if name not in shipped:
        raise ConfigError(
            f"No file '{name}' for --config.{did_you_mean(name, shipped)}\n"
            f"Those that come with the recipes: {', '.join(sorted(shipped))}."
        )
    return shipped[name]


def _yaml_flags(path: Path, known: Sequence[str]) -> list[str]:
    import yaml

    try:
        # Words as they are written: YAML 1.1 would read `mixed_precision: no` as false.
        values = yaml.load(path.read_text(), Loader=yaml.BaseLoader) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as cause:
        raise ConfigError(f"Cannot read --config {path}: {cause}") from cause
    if not isinstance(values, dict):
        raise ConfigError(f"--config {path} holds a {type(values).__name__}, expected 'flag: value' lines.")
    flags: list[str] = []
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise ConfigError(f"Unknown key '{key}' in {path}.{did_you_mean(name, known)}")
        if value not in ("", "~", "null"):
            flags += [f"--{name}", *(str(item) for item in (value if isinstance(value, list) else [value]))]
    return flags
