"""Spell commands and flags as the user of this process types them."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

LORT_HUB_COMMAND = "LORT_HUB_COMMAND"
"""Environment variable that `lort-hub` sets: its own name, the recipe's, and the launcher's flags."""

NOT_REPEATED = ("--overwrite", "--resume", "--private", "--push-to-hub", "--report-to", "--json")
"""Flags of a run that whoever reproduces it would not give."""

PUNCTUATION = str.maketrans("", "", "[]()\"',")
"""What Python writes around the words of a value, and a shell does not."""


def recipes_folder() -> Path:
    """Find the recipes: inside the package where a wheel is installed, beside it in a checkout.

    Example:
        >>> (recipes_folder() / "retrain.py").is_file()
        True
    """
    package = Path(__file__).parents[1]
    shipped = package / "recipes"
    return shipped if shipped.is_dir() else package.parent / "recipes"


def command_for(recipe: str, *words: str) -> str:
    """Spell the command that runs a recipe: with `lort-hub` if that started this process, else as a script.

    Args:
        recipe: Name of the recipe.
        words: Its arguments.

    Example:
        >>> command_for("push", "my photos", "--to", "me/photos")
        "python recipes/push.py 'my photos' --to me/photos"
    """
    installed = LORT_HUB_COMMAND in os.environ
    return shlex.join([*(["lort-hub", recipe] if installed else ["python", f"recipes/{recipe}.py"]), *words])


def program_name() -> str:
    """Name the running program as the user starts it: a recipe, or a script of the checkout's benchmarks.

    Example:
        >>> program_name()  # doctest: +SKIP
        'python benchmarks/paper.py'
    """
    installed = LORT_HUB_COMMAND in os.environ
    return command_for(Path(sys.argv[0]).stem) if installed else shlex.join(["python", _script()])


def recorded_command() -> str:
    """Spell the command that started this recipe, for its record, without the flags in `NOT_REPEATED`.

    The launcher is known by environment variables that `lort-hub`, `accelerate launch` and `torchrun` set.

    Example:
        >>> recorded_command()  # doctest: +SKIP
        'lort-hub retrain --num-processes 4 --backbone resnet50 --dataset ./photos'
    """
    return _this_command(_repeated(sys.argv[1:]))


def resuming_command() -> str:
    """Spell the command that started this recipe, with all its flags, so that it goes on from what is kept.

    Example:
        >>> resuming_command()  # doctest: +SKIP
        'lort-hub retrain --backbone resnet50 --dataset ./photos --resume'
    """
    return _this_command([*(word for word in sys.argv[1:] if word != "--resume"), "--resume"])


def _this_command(flags: Sequence[str]) -> str:
    started = os.environ.get(LORT_HUB_COMMAND)
    words = shlex.split(started) if started else [*_launcher(), _script()]
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true") and "--cpu" not in words
    return shlex.join([*["ACCELERATE_USE_CPU=true"] * on_cpu, *words, *flags])


def _script() -> str:
    path = Path(sys.argv[0]).resolve()
    return f"{'benchmarks' if path.parent.name == 'benchmarks' else 'recipes'}/{path.name}"


def _launcher() -> list[str]:
    environment = os.environ
    nodes, here = environment.get("GROUP_WORLD_SIZE", "1"), environment.get("LOCAL_WORLD_SIZE", "1")
    precision = environment.get("ACCELERATE_MIXED_PRECISION")
    if precision is None:
        several_nodes = ["--nnodes", nodes] if nodes != "1" else []
        torchrun = ["torchrun", *several_nodes, "--nproc_per_node", here]
        return torchrun if "TORCHELASTIC_RUN_ID" in environment else ["python"]
    words = ["accelerate", "launch"]
    if "TORCHELASTIC_RUN_ID" in environment:
        words += ["--multi_gpu", "--num_processes", environment.get("WORLD_SIZE", here)]
        words += ["--num_machines", nodes] if nodes != "1" else []
    elif environment.get("ACCELERATE_USE_CPU", "").lower() == "true":
        words += ["--cpu"]
    return [*words, *(["--mixed_precision", precision] if precision != "no" else [])]


def _repeated(words: Sequence[str]) -> list[str]:
    """Leave out the flags in `NOT_REPEATED`, each with its value."""
    kept, repeated = [], True
    for word in words:
        if word.startswith("--"):
            repeated = word.partition("=")[0].replace("_", "-") not in NOT_REPEATED
        if repeated:
            kept.append(word)
    return kept


def with_flags(lines: Iterable[str], arguments: Collection[str]) -> list[str]:
    """Spell the arguments in several lines, as the notes on a data set, as `as_flags` does.

    Example:
        >>> with_flags(['`on_duplicate="drop"` leaves them out.'], ["on_duplicate"])
        ['--on-duplicate drop leaves them out.']
    """
    return [as_flags(line, arguments) for line in lines]


def as_flags(message: str, arguments: Collection[str]) -> str:
    """Spell the arguments that a message names in backticks as command-line flags.

    Args:
        message: Text of an error, such as "Use `on_bad_image="skip"`."
        arguments: Names of the running recipe's arguments; any other text in backticks stays.

    Example:
        >>> names = ("on_bad_image", "overwrite", "pretrained", "groups")
        >>> as_flags('Give `on_bad_image="skip"`, `overwrite=True` or `pretrained=False`.', names)
        'Give --on-bad-image skip, --overwrite or --no-pretrained.'
        >>> as_flags("Try other `groups`, `groups=[20, 100]`; or run `hf auth login`.", names)
        'Try other --groups, --groups 20 100; or run `hf auth login`.'
    """

    def flag(found: re.Match[str]) -> str:
        name, value = found[1], found[2]
        if name not in arguments:
            return found[0]
        dashed = name.replace("_", "-")
        if value == "False":
            return f"--no-{dashed}"
        if value in (None, "True"):
            return f"--{dashed}"
        return f"--{dashed} {value.translate(PUNCTUATION)}"

    return re.sub(r"`(\w+)(?:=([^`]+))?`", flag, message)
