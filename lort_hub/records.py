"""Record a run: its arguments, versions, command and git revision."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("lort_hub", "torch", "timm", "transformers", "datasets", "accelerate", "huggingface_hub", "numpy")
NOT_TO_REPEAT = re.compile(r" --(overwrite|resume|private|(push-to-hub|report-to)[ =]\S+)(?= |$)")
"""Flags of a command that whoever reproduces it would not give."""


WITHOUT_EFFECT = (
    *("dry_run", "num_workers", "output_dir", "overwrite", "private", "push_to_hub", "report_to", "resume"),
)
"""Arguments that change nothing in the output folder."""


def changed_arguments(now: dict[str, Any], before: dict[str, Any]) -> str:
    """What differs between the arguments of two runs, of those that have an effect on the result.

    Example:
        >>> changed_arguments({"lr": 0.1, "resume": True}, {"lr": 0.2, "resume": False})
        'lr 0.2 -> 0.1'
    """
    differ = sorted(name for name in now if name not in WITHOUT_EFFECT and now[name] != before.get(name))
    return ", ".join(f"{name} {before.get(name)} -> {now[name]}" for name in differ)


def environment() -> dict[str, Any]:
    """Versions, git revision and command of this run, for run.json.

    Example:
        >>> sorted(environment())
        ['command', 'git_revision', 'python', 'versions']
    """
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    words = shlex.join(["accelerate", "launch", f"recipes/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    return {
        "command": NOT_TO_REPEAT.sub("", words),
        "git_revision": _git_revision(),
        "python": sys.version.split()[0],
        "versions": versions,
    }


def _git_revision() -> str | None:
    command, here = ["git", "rev-parse", "HEAD"], Path(__file__).parent
    try:
        git = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return None
    return git.stdout.strip() or None
