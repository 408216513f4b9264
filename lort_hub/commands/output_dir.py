"""Check the output folder before a run, and say how to continue a run that could not write it at the end."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lort_hub.commands.arguments import RunArguments
from lort_hub.commands.command_line import resuming_command
from lort_hub.commands.together import on_first
from lort_hub.errors import CheckpointError, LortHubError
from lort_hub.files import DISK_ERRORS, check_output_dir, read_csv
from lort_hub.records import changed_arguments

if TYPE_CHECKING:
    from accelerate import Accelerator

    from lort_hub.backbones.backbone import Backbone
    from lort_hub.data.dataset import LongTailedData


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


def finished_results(folder: Path) -> dict[str, Any]:
    """Read the rows of results.csv in a finished output folder, JSON-ready.

    Args:
        folder: Output folder of a comparison or of ablations.

    Example:
        >>> finished_results(Path("out/comparison"))["results"][0]["method"]  # doctest: +SKIP
        'ce'
    """
    rows = read_csv(folder / "results.csv", text=("cell", "method"))
    return {"output_dir": str(folder), "results": rows}


def start_run(args: RunArguments, accelerator: Accelerator) -> dict[str, Any] | None:
    """Check the output folder of a run, and return its arguments for its record; every process calls this.

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
    return on_first(accelerator, _start, args)


def _start(args: RunArguments) -> dict[str, Any] | None:
    arguments: dict[str, Any] = json.loads(json.dumps(asdict(args), default=str))
    if args.resume and not args.overwrite and is_finished(args.output_dir, arguments):
        print(f"{args.output_dir} is finished; nothing to do.")  # noqa: T201
        return None
    check_output(
        args.output_dir,
        overwrite=args.overwrite,
        dataset=args.dataset,
        image_root=args.image_root,
        backbone=args.backbone,
        group_file=arguments.get("group_file"),
        test_prior=arguments.get("test_prior"),
        refit=arguments.get("refit"),
    )
    return arguments


def check_output(
    output: Path, *, overwrite: bool, models: Sequence[str] = (), **inputs: str | Path | None
) -> None:
    """Refuse an output folder that cannot be written, or whose content the run reads and would replace.

    Args:
        output: The output folder.
        overwrite: Whether its content may be replaced.
        models: Models that the run reads, as the user named them.
        inputs: What else it reads, by the name of the argument.

    Raises:
        CheckpointError: As `check_output_dir`, or what is read lies in the folder to be replaced.

    Example:
        >>> check_output(Path("/tmp/nowhere/out"), overwrite=True, dataset="digits", backbone="resnet50")
    """
    check_output_dir(output, overwrite=overwrite)
    read = [*inputs.items(), *(("models", model) for model in models)] if overwrite else []
    for name, spec in read:
        path = Path(str(spec or "").removeprefix("transformers:").removeprefix("local-dir:")).expanduser()
        if spec and path.exists() and path.resolve().is_relative_to(output.resolve()):
            raise CheckpointError(
                f"--{name.replace('_', '-')} {spec} lies in {output}, which --overwrite would replace.\n"
                "Name another --output-dir."
            )


def describe_inputs(backbone: Backbone, data: LongTailedData) -> str:
    """Describe the backbone and the data of a run in one line, before minutes of compute.

    Args:
        backbone: The backbone.
        data: The data set.

    Example:
        >>> from lort_hub.backbones.load import load_backbone
        >>> from lort_hub.data.load import load_long_tailed
        >>> backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
        >>> describe_inputs(backbone, load_long_tailed("digits"))[:60]
        'test_resnet (timm, 96 features at 32 px) on digits: 523 trai'
    """
    revision = f"@{backbone.revision[:7]}" if backbone.revision else ""
    return (
        f"{backbone.source}{revision} ({backbone.library}, {backbone.num_features} features at "
        f"{backbone.image_size} px) on {data.name}: {data.describe()}"
    )


def check_model(
    backbone: Backbone, class_names: Sequence[str], folder: Path, accelerator: Accelerator
) -> None:
    """Check on the first process that a model can be saved at the end of a run; every process calls this.

    Args:
        backbone: The model as it will be saved, but for its classifier.
        class_names: Names of the K classes.
        folder: The output folder.
        accelerator: The recipe's Accelerator.

    Raises:
        CheckpointError: On every process, where `check_saveable` refuses the model.

    Example:
        >>> from accelerate import Accelerator
        >>> from lort_hub.backbones.load import load_backbone
        >>> backbone = load_backbone("test_resnet", pretrained=False)
        >>> check_model(backbone, ["cat", "dog"], Path("/tmp/nowhere/out"), Accelerator(cpu=True))
    """
    from lort_hub.backbones.save import check_saveable

    on_first(accelerator, check_saveable, backbone, class_names, folder)


@contextmanager
def kept_on_failure(kept: str) -> Iterator[None]:
    """Say what is kept of a run whose output could not be written, and the command that goes on from there.

    Args:
        kept: What was computed, and where it is.

    Raises:
        CheckpointError: In place of whatever was raised; an error of our own keeps its traceback on stderr.

    Example:
        >>> with kept_on_failure("the head is in the cache"):  # doctest: +SKIP
        ...     raise CheckpointError("out was filled by another process meanwhile.")
        Traceback (most recent call last):
        lort_hub.errors.CheckpointError: out was filled by another process meanwhile.
        Nothing is lost: the head is in the cache. To go on from there:
        lort-hub retrain --backbone resnet50 --output-dir out --resume
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
            f"{reason}\nNothing is lost: {kept}. To go on from there:\n{resuming_command()}"
        ) from cause
