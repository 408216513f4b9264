"""Check the output folder before a run, and say how to continue a run that could not write it at the end."""

from __future__ import annotations

import json
import os
import shutil
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lort_hub.commands.arguments import RunArguments
from lort_hub.errors import CheckpointError, LortHubError
from lort_hub.files import DISK_ERRORS, replaced_folder
from lort_hub.records import changed_arguments

if TYPE_CHECKING:
    from accelerate import Accelerator


def check_output_dir(folder: Path, *, overwrite: bool) -> None:
    """Refuse, before any compute, a folder that cannot be written or holds something already.

    A run killed between the two renames of an overwrite left the old folder beside it: it is put back.

    Args:
        folder: The output folder.
        overwrite: Whether its content may be replaced.

    Raises:
        CheckpointError: The folder is not empty, is a file or a mount point, or its parent cannot be written.

    Example:
        >>> import tempfile
        >>> check_output_dir(Path(tempfile.mkdtemp()) / "out", overwrite=False)
    """
    folder = folder.resolve()
    replaced = replaced_folder(folder)
    if replaced.exists() and not folder.exists():
        replaced.rename(folder)
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"--output-dir {folder} is a file, expected a folder.")
    if folder.is_mount():
        raise CheckpointError(
            f"--output-dir {folder} is a mount point, in whose place no finished folder can be put.\n"
            f"Name a folder in it, such as {folder / 'run'}."
        )
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise CheckpointError(
            f"--output-dir {folder} is not empty.\n"
            "Add --overwrite to replace its content, or name another folder."
        )
    if folder.exists() and any(folder.iterdir()) and not (folder / "run.json").exists():
        raise CheckpointError(
            f"--output-dir {folder} holds files that are not lort_hub's; --overwrite would delete them.\n"
            "Empty it yourself, or name another folder."
        )
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):  # of a killed process
        if time.time() - leftover.stat().st_mtime > 3600:
            shutil.rmtree(leftover, ignore_errors=True)
    existing = next(parent for parent in folder.parents if parent.exists())
    if not existing.is_dir():
        raise CheckpointError(f"--output-dir {folder} cannot be made: {existing} is a file.")
    if not os.access(existing, os.W_OK):
        raise CheckpointError(f"--output-dir {folder} cannot be made: no permission to write in {existing}.")


def is_finished(folder: Path, arguments: dict[str, Any]) -> bool:
    """Check whether a run with these arguments has already written its output folder.

    Args:
        folder: The output folder.
        arguments: JSON-ready arguments of the run about to start.

    Raises:
        CheckpointError: The folder is of a run with other arguments; the message lists them.

    Example:
        >>> is_finished(Path("/nonexistent/out"), {})
        False
    """
    try:
        finished = json.loads((folder / "run.json").read_text()).get("arguments", {})
    except (FileNotFoundError, NotADirectoryError):
        return False
    if changes := changed_arguments(arguments, finished):
        raise CheckpointError(
            f"--resume found a finished run in {folder} with other arguments: {changes}.\n"
            "Use the same arguments, another --output-dir, or --overwrite."
        )
    return True


def start_run(args: RunArguments, accelerator: Accelerator) -> dict[str, Any] | None:
    """Check the output folder of a run, and return its arguments for its record.

    Args:
        args: The recipe's arguments.
        accelerator: The recipe's Accelerator.

    Returns:
        The arguments, JSON-ready; None if a resumed run is finished already.

    Raises:
        CheckpointError: The folder cannot be written, holds something, or is of a run with other arguments.

    Example:
        >>> from accelerate import Accelerator
        >>> start_run(RunArguments(output_dir=Path("/tmp/nowhere/out")), Accelerator(cpu=True))["seed"]
        0
    """
    arguments: dict[str, Any] = json.loads(json.dumps(asdict(args), default=str))
    if args.resume and not args.overwrite and is_finished(args.output_dir, arguments):
        accelerator.print(f"{args.output_dir} is finished; nothing to do.")
        return None
    check_output_dir(args.output_dir, overwrite=args.overwrite)
    return arguments


@contextmanager
def kept_on_failure(kept: str) -> Iterator[None]:
    """Say what is kept of a run whose output could not be written, and the command that goes on from there.

    Args:
        kept: What was computed, and where it is.

    Raises:
        CheckpointError: In place of whatever was raised; an error of our own keeps its traceback on stderr.

    Example:
        >>> with kept_on_failure("the head is in the cache"):
        ...     raise CheckpointError("out was filled by another process meanwhile.")
        Traceback (most recent call last):
        lort_hub.errors.CheckpointError: out was filled by another process meanwhile.
        Nothing is lost: the head is in the cache. The same command with --resume goes on from there.
    """
    try:
        yield
    except Exception as cause:
        if isinstance(cause, LortHubError):
            reason = str(cause)
        elif isinstance(cause, OSError) and cause.errno in DISK_ERRORS:
            reason = f"Cannot write {cause.filename or 'a file'}: {cause.strerror}."
        else:
            traceback.print_exc()
            reason = f"The output could not be written: {type(cause).__name__}: {cause}"
        raise CheckpointError(
            f"{reason}\nNothing is lost: {kept}. The same command with --resume goes on from there."
        ) from cause
