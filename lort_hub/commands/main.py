"""Run a recipe by its name: the `lort-hub` command."""

from __future__ import annotations

import ast
import logging
import os
import runpy
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from lort_hub.commands.arguments import RunArguments
from lort_hub.commands.command_line import LORT_HUB_COMMAND, recipes_folder
from lort_hub.commands.runtime import exit_codes, gpu_count
from lort_hub.errors import ConfigError, LortHubError, did_you_mean

USAGE = """usage: lort-hub COMMAND [flags]

Long-tailed recognition for timm and Hugging Face.

{commands}

lort-hub COMMAND --help shows the flags of a command.
lort-hub COMMAND --num-processes N runs it as N processes, one for each GPU."""


def main() -> None:
    """Run the recipe that the command line names, in this process or as several."""
    with exit_codes(RunArguments):
        _run_recipe()


def overview() -> str:
    """List the commands, each with what its recipe's docstring begins with, up to a colon.

    Example:
        >>> "lort-hub COMMAND" in overview()
        True
    """
    recipes = _recipes()
    width = max(map(len, recipes))
    lines = [f"  {name:{width}}  {_summary(path)}" for name, path in recipes.items()]
    return USAGE.format(commands="\n".join(lines))


def _recipes() -> dict[str, Path]:
    return {path.stem: path for path in sorted(recipes_folder().glob("*.py"))}


def _summary(recipe: Path) -> str:
    text = ast.get_docstring(ast.parse(recipe.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].partition(":")[0].removesuffix(".")


def _run_recipe() -> None:
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(overview())  # noqa: T201
        return
    recipes = _recipes()
    if name not in recipes:
        raise ConfigError(
            f"No command '{name}'.{did_you_mean(name, recipes)}\nExpected one of: {', '.join(recipes)}."
        )
    processes, words = _num_processes(words)
    several = ["--num-processes", str(processes)] if processes > 1 else []
    os.environ[LORT_HUB_COMMAND] = shlex.join(["lort-hub", name, *several])
    if processes > 1 and not {"-h", "--help"} & set(words):
        _launch(recipes[name], processes, words)
        return
    sys.argv = [str(recipes[name]), *words]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _num_processes(words: list[str]) -> tuple[int, list[str]]:
    """Take `--num-processes N` out of a command's flags."""
    processes, others, rest = "1", [], iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag in ("--num-processes", "--num_processes"):
            processes = value if equals else next(rest, "")
        else:
            others.append(word)
    if not processes.isdecimal() or int(processes) < 1:
        raise ConfigError(f"--num-processes is '{processes}', expected a number from 1.")
    return int(processes), others


def _launch(recipe: Path, processes: int, words: list[str]) -> None:
    """Run a recipe as several processes through Accelerate's launcher, and exit with their code."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from accelerate.utils import parse_flag_from_env
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    gpus = gpu_count()
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or "--device cpu" in " ".join(words).replace("=", " ")
    if gpus and processes > gpus and not on_cpu:
        raise ConfigError(
            f"--num-processes {processes} needs as many GPUs, and this machine has {gpus}.\n"
            f"Give --num-processes {gpus}, or --device cpu to run on the CPU."
        )
    # Without GPUs, too: Accelerate's launcher for CPUs starts one process, whatever number it is given.
    launcher = ["--multi_gpu", "--num_processes", str(processes), "--num_machines", "1"]
    launcher += ["--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no"]
    logging.disable(logging.ERROR)  # of the launcher; the recipes print what there is to say
    try:
        launch_command(launch_command_parser().parse_args([*launcher, str(recipe), *words]))
    except ChildFailedError as error:
        first = min(error.failures.values(), key=_order_of_blame)
        if first.exitcode < 0:
            raise LortHubError(
                f"Process {first.local_rank} was killed by {first.signal_name()}.\n"
                "If memory ran out, lower --batch-size or --num-processes."
            ) from None
        if Path(first.error_file).exists():
            print(f"error: {first.message}", file=sys.stderr)  # noqa: T201
        sys.exit(first.exitcode)
    except SignalException:
        raise KeyboardInterrupt from None


def _order_of_blame(failure: Any) -> tuple[bool, bool, int]:
    """Sort failed processes: the killed first, by time, and last those that the launcher itself ended."""
    return failure.exitcode == -signal.SIGTERM, failure.exitcode > 0, failure.timestamp
