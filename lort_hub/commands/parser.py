"""Parse a recipe's flags from the command line and from YAML files."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from lort_hub.commands.command_line import LORT_HUB_COMMAND, command_for, program_name, recipes_folder
from lort_hub.commands.json_output import JSON_FLAG
from lort_hub.errors import ConfigError, did_you_mean
from lort_hub.heads.methods import METHODS

T = TypeVar("T")
LAUNCHER = {
    "num-processes": "Processes to start, one for each GPU of all machines.",
    "num-machines": "Machines to run on; give the same command on each (default: 1).",
    "machine-rank": "Number of this machine, from 0.",
    "main-process-ip": "Address of machine 0, where the machines meet.",
    "main-process-port": "Port for that, free on machine 0 (default: 29500).",
}
"""Flags of `lort-hub`'s launcher, with their help."""
YAML_KINDS = {"scalar": "value", "sequence": "list", "mapping": "mapping"}
"""What the parts of a YAML file are, by PyYAML's word for them."""


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
        ConfigError: An unknown flag or YAML key, a YAML key that is there twice or is no value, or several
            processes of a recipe that is made for one.

    Example:
        >>> from dataclasses import dataclass
        >>> from lort_hub.commands.arguments import flag
        >>> @dataclass
        ... class Arguments:
        ...     seed: int = flag(0, "Seed of everything random.")
        >>> parse_arguments(Arguments, ["--seed", "3"])
        Arguments(seed=3)
    """
    recipe = Path(sys.argv[0]).stem
    several = getattr(kind, "SEVERAL_PROCESSES", False)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not several:
        raise ConfigError(f"{recipe} runs as one process; leave out --num-processes, or the launcher.")
    words = list(sys.argv[1:] if argv is None else argv)
    if first_word:
        words = _name_first_words(words, first_word, more_words)
    known = {field.name: str(field.type).startswith("list[") for field in fields(kind)}  # type: ignore[arg-type]
    _check_values(words)
    words = _read_config(words, known)
    parser = _make_parser(kind, description, json=json, launches=several)
    *parsed, unknown = parser.parse_args_into_dataclasses(
        words, return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        flags, name = [f"--{name.replace('_', '-')}" for name in known], unknown[0].partition("=")[0]
        raise ConfigError(
            f"Unknown argument '{name}'.{did_you_mean(name, flags)}\nSee --help for all of them."
        )
    arguments: T = parsed[0]
    given = {word.partition("=")[0][2:].replace("-", "_") for word in words if word.startswith("--")}
    setattr(arguments, "given", frozenset(given | {name.removeprefix("no_") for name in given}))  # noqa: B010
    return arguments


def _name_first_words(words: list[str], first_word: str, more_words: str | None) -> list[str]:
    """Put the flags before the words that stand without them at the start."""
    if not words or words[0].startswith("-"):
        return words
    first, *rest = words
    named = [f"--{more_words}"] if more_words and rest and not rest[0].startswith("-") else []
    return [f"--{first_word}", first, *named, *rest]


def _check_values(words: Sequence[str]) -> None:
    """Refuse a flag whose value is empty, as that of a shell's variable that is not set."""
    for at, word in enumerate(words):
        flag, has_value, value = word.partition("=") if word.startswith("--") else ("", "=", word)
        if has_value and not value.strip():
            flag = flag or next((one for one in reversed(words[:at]) if one.startswith("--")), "A word")
            raise ConfigError(f"{flag} has an empty value.\nGive one that is not, or leave the flag out.")


def _read_config(words: list[str], known: Mapping[str, bool]) -> list[str]:
    """Replace `--config FILE` by the flags in that file, before the others, which win.

    Args:
        words: The command line.
        known: Whether each flag takes several values, by its name.
    """
    words = [
        part for word in words for part in (word.split("=", 1) if word.startswith("--config=") else [word])
    ]
    if "--config" not in words:
        return words
    if words.count("--config") > 1:
        raise ConfigError(
            "--config is given more than once.\nWrite all flags into one file, or give some as flags."
        )
    at = words.index("--config")
    if at + 1 == len(words):
        raise ConfigError("--config needs a file: --config FILE.yaml")
    return _yaml_flags(_config_file(words[at + 1]), known) + words[:at] + words[at + 2 :]


def _make_parser(kind: type[T], description: str | None, *, json: bool, launches: bool) -> Any:
    """Make the parser of a recipe's dataclass, with the flags that are not in it."""
    from transformers import HfArgumentParser

    parser = HfArgumentParser(
        kind,
        prog=program_name(),
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
    if LORT_HUB_COMMAND in os.environ and launches:
        for name, text in LAUNCHER.items():
            parser.add_argument(f"--{name}", metavar="N", help=text)
    return parser


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


def _hint(word: str, choices: Sequence[str]) -> str:
    """What to give in place of a word that is no choice of its flag."""
    if word in METHODS and "lort" in choices:
        compare = command_for("compare", "--methods", word)
        return f" Its head is not linear, so it cannot be exported; it can be compared: {compare}"
    if word == "gpu" and "cuda" in choices:
        return " Did you mean 'cuda'?"
    return did_you_mean(word, choices)


def _refuse(message: str) -> NoReturn:
    found = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
    hint = _hint(found[1], [choice.strip("' ") for choice in found[2].split(",")]) if found else ""
    raise ConfigError(f"{message.rstrip('.')}.{hint}\nSee --help for all flags.")


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


def _yaml_flags(path: Path, known: Mapping[str, bool]) -> list[str]:
    import yaml

    try:
        # Words as they are written: YAML 1.1 would read `mixed_precision: no` as false.
        tree: Any = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as cause:
        raise ConfigError(f"Cannot read --config {path}: {cause}") from cause
    if tree is not None and tree.id != "mapping":
        raise ConfigError(f"--config {path} holds a {YAML_KINDS[tree.id]}, expected 'flag: value' lines.")
    flags, lines = list[str](), dict[str, int]()
    for key, value in tree.value if tree else ():
        name, line = str(key.value).replace("-", "_"), key.start_mark.line + 1
        if name not in known:
            raise ConfigError(f"Unknown key '{key.value}' in {path}.{did_you_mean(name, known)}")
        if name in lines:
            raise ConfigError(
                f"'{key.value}' is twice in {path}, in lines {lines[name]} and {line}.\n"
                "Leave one of them out."
            )
        lines[name] = line
        several = known[name] and value.id == "sequence"
        parts = value.value if several else [value]
        if wrong := next((part for part in parts if part.id != "scalar"), None):
            got, expected = YAML_KINDS[wrong.id], "one value or a list" if known[name] else "one value"
            raise ConfigError(
                f"'{key.value}' in line {line} of {path} holds a {got}, expected {expected}.\n"
                f"Write it as '{key.value}: VALUE'."
            )
        if several:
            flags += [f"--{name}", *(part.value for part in parts)]
        elif value.value not in ("", "~", "null"):
            flags.append(f"--{name}={value.value}")
    return flags
