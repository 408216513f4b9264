"""Run a recipe by its name: the `lort-hub` command."""

from __future__ import annotations

import ast
import os
import runpy
import shlex
import sys
from pathlib import Path

from lort_hub.commands.arguments import RunArguments
from lort_hub.commands.command_line import LORT_HUB_COMMAND, recipes_folder
from lort_hub.commands.launch import take_launch
from lort_hub.commands.runtime import exit_codes
from lort_hub.errors import ConfigError, did_you_mean

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
    launch, words = take_launch(words)
    os.environ[LORT_HUB_COMMAND] = shlex.join(["lort-hub", name, *launch.recorded()])
    if launch.num_processes > 1 and not {"-h", "--help"} & set(words):
        launch.run(recipes[name], words)
        return
    sys.argv = [str(recipes[name]), *words]
    runpy.run_path(sys.argv[0], run_name="__main__")
