"""Record a run: its arguments, versions, command and git revision."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("lort_hub", "torch", "timm", "transformers", "datasets", "accelerate", "huggingface_hub", "numpy")
WITHOUT_EFFECT = (
    *("dry_run", "num_workers", "output_dir", "overwrite", "private", "push_to_hub", "report_to", "resume"),
)
"""Arguments that change nothing in the output folder."""


def changed_arguments(now: dict[str, Any], before: dict[str, Any]) -> str:
    """List the arguments that differ between two runs, of those that have an effect on the result.

    Example:
        >>> changed_arguments({"lr": 0.1, "resume": True}, {"lr": 0.2, "resume": False})
        'lr 0.2 -> 0.1'
    """
    differ = sorted(name for name in now if name not in WITHOUT_EFFECT and now[name] != before.get(name))
    return ", ".join(f"{name} {before.get(name)} -> {now[name]}" for name in differ)


def environment(command: str | None = None) -> dict[str, Any]:
    """Return the versions, git revision and command of this run, for run.json.

    Args:
        command: The command that started the recipe; None where no recipe runs.

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
    return {
        "command": command,
        "git_revision": git_revision(Path(sys.argv[0])) if command else None,
        "python": sys.version.split()[0],
        "versions": versions,
    }


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
