"""Check the output folder before a run, and whether the run is finished already."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lort_hub.commands.arguments import RunArguments
from lort_hub.errors import CheckpointError
from lort_hub.files import check_output_dir
from lort_hub.records import changed_arguments

if TYPE_CHECKING:
    from accelerate import Accelerator


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
    if args.resume and is_finished(args.output_dir, arguments):
        accelerator.print(f"{args.output_dir} is finished; nothing to do.")
        return None
    check_output_dir(args.output_dir, overwrite=args.overwrite)
    return arguments
