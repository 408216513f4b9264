"""Save and load the checkpoints of a training run: one checksummed folder per epoch.

The last two checkpoints are kept, and the best one on the held-out images. A checkpoint is written under a
temporary name, its manifest of checksums last, and renamed when all of it is on the disk. After a crash at
any time, training goes on from the newest folder whose files match its manifest.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lort_hub.errors import CheckpointError
from lort_hub.files import sha256, sync
from lort_hub.one_writer import keep_others_out
from lort_hub.records import changed_arguments
from lort_hub.run_log import RunLog

if TYPE_CHECKING:
    from accelerate import Accelerator

RECENT_CHECKPOINTS = 2
"""How many of the newest checkpoints are kept."""
MANIFEST = "MANIFEST.json"


def training_folder(output_dir: Path) -> Path:
    """Return the folder of a run's checkpoints, beside its output folder.

    Example:
        >>> training_folder(Path("out/stage1"))
        PosixPath('out/stage1-training')
    """
    return output_dir.with_name(f"{output_dir.name}-training")


def save_epoch(
    accelerator: Accelerator,
    folder: Path,
    *,
    arguments: dict[str, Any],
    history: list[dict[str, Any]],
    log: RunLog | None = None,
) -> Path:
    """Save model, optimiser and random states after an epoch, and delete checkpoints no longer needed.

    Every process calls this.

    Args:
        accelerator: The accelerator that prepared the model and the optimiser.
        folder: Folder of the run's checkpoints.
        arguments: The recipe's arguments, JSON-ready; a resumed run must have the same.
        history: One row for each epoch so far; the number of rows is the checkpoint's number.
        log: Log of the run so far, kept in the checkpoint.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: The checkpoint cannot be written; earlier ones are unchanged.

    Example:
        >>> import tempfile
        >>> from accelerate import Accelerator
        >>> folder = Path(tempfile.mkdtemp())
        >>> save_epoch(Accelerator(cpu=True), folder, arguments={}, history=[{"epoch": 1}]).name
        'epoch_0001'
    """
    from safetensors import SafetensorError

    final = folder / f"epoch_{len(history):04d}"
    staged = folder / f".{final.name}.tmp"
    try:
        _save(accelerator, staged, final, arguments, history, log)
    except (OSError, RuntimeError, SafetensorError) as cause:  # each library raises another on a full disk
        last = max(folder.glob("epoch_*"), default="none yet")
        raise CheckpointError(
            f"Cannot write the checkpoint {final}: {cause}.\n"
            f"The last good one is intact: {last}. Free disk space, then run again with `resume=True`."
        ) from cause
    return final


def _save(
    accelerator: Accelerator,
    staged: Path,
    final: Path,
    arguments: dict[str, Any],
    history: list[dict[str, Any]],
    log: RunLog | None,
) -> None:
    from lort_hub.features.distributed import Processes, fail_together

    processes = Processes.of(accelerator)
    with fail_together(processes), TemporaryDirectory() as own:
        if accelerator.is_main_process:
            for leftover in final.parent.glob(".epoch_*.tmp"):
                shutil.rmtree(leftover)
            staged.mkdir(parents=True)
        place = staged if accelerator.is_main_process else Path(own)  # other nodes need not see the folder
        accelerator.save_state(str(place), safe_serialization=True)
        random_state = (place / _random_state(processes.index)).read_bytes()
    random_states = processes.gather_objects(random_state)
    with fail_together(processes):
        if accelerator.is_main_process:
            for index, random_state in enumerate(random_states):
                (staged / _random_state(index)).write_bytes(random_state)
            if log:
                log.write(staged)
            _put_in_place(staged, final, {"arguments": arguments, "history": history})


def _random_state(process: int) -> str:
    return f"random_states_{process}.pkl"


def _put_in_place(staged: Path, final: Path, about: dict[str, Any]) -> None:
    """Complete a checkpoint by its manifest, rename it, and delete the ones no longer needed."""
    folder, files = final.parent, {path.name: sha256(path) for path in sorted(staged.iterdir())}
    processes = sum(name.startswith("random_states_") for name in files)
    manifest = {"processes": processes, **about, "files": files}
    (staged / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    for path in staged.iterdir():
        sync(path)
    shutil.rmtree(final, ignore_errors=True)  # it is damaged, or the run would have resumed from it
    staged.rename(final)
    sync(folder)
    best = f"epoch_{best_epoch(about['history']):04d}"
    for old in sorted(folder.glob("epoch_*"))[:-RECENT_CHECKPOINTS]:
        if old.name != best:
            shutil.rmtree(old)


def best_epoch(history: Sequence[dict[str, Any]]) -> int:
    """Return the best epoch on the held-out images, counted from 1; the last one without such images.

    Example:
        >>> best_epoch([{"held_out_balanced_accuracy": score} for score in (0.2, 0.5, 0.5)])
        2
    """
    name = "held_out_balanced_accuracy"
    scores = [row[name] for row in history if name in row]
    return scores.index(max(scores)) + 1 if scores else len(history)


def check_no_interrupted_run(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse to start a new run beside the checkpoints of an interrupted one.

    Args:
        folder: Folder of the run's checkpoints.
        resume: Whether to go on from them.
        overwrite: Whether they may be deleted.

    Raises:
        CheckpointError: There are checkpoints, and both `resume` and `overwrite` are False.

    Example:
        >>> check_no_interrupted_run(Path("nowhere"), resume=False, overwrite=False)
    """
    if any(folder.glob("epoch_*")) and not (resume or overwrite):
        raise CheckpointError(
            f"{folder} holds an interrupted run.\n"
            "Add `resume=True` to go on from there, or `overwrite=True` to start again."
        )


def start_checkpoints(folder: Path, output_dir: Path) -> None:
    """Make the folder of a run's checkpoints, and keep other runs out of it until this process ends.

    Args:
        folder: Folder of the run's checkpoints.
        output_dir: Its output folder.

    Raises:
        CheckpointError: Another run is writing it.

    Example:
        >>> start_checkpoints(Path("out/stage1-training"), Path("out/stage1"))  # doctest: +SKIP
    """
    folder.mkdir(parents=True, exist_ok=True)
    keep_others_out(folder, output_dir, "output_dir")


def remove_finished(folder: Path, output_dir: Path) -> None:
    """Delete the checkpoints of a run that has written its output.

    Args:
        folder: Where the checkpoints of the run lie, if it was ended before it deleted them itself.
        output_dir: Its output folder.

    Raises:
        CheckpointError: They are newer than that, of a run that was to replace it, or a run is writing them.

    Example:
        >>> remove_finished(Path("out/stage1-training"), Path("out/stage1"))  # doctest: +SKIP
    """
    written = (output_dir / "run.json").stat().st_mtime
    if any(manifest.stat().st_mtime > written for manifest in folder.glob(f"epoch_*/{MANIFEST}")):
        raise CheckpointError(
            f"{folder} holds an interrupted run that was to replace {output_dir}.\n"
            "Go on with it by `resume=True` together with `overwrite=True`, or delete it."
        )
    if folder.is_dir():
        keep_others_out(folder, output_dir, "output_dir")
    shutil.rmtree(folder, ignore_errors=True)


def load_epoch(accelerator: Accelerator, folder: Path, epoch: int) -> None:
    """Load the checkpoint of one epoch into the prepared model and optimiser.

    Every process calls this.

    Args:
        accelerator: The accelerator that prepared the model and the optimiser.
        folder: Folder of the run's checkpoints.
        epoch: The epoch, counted from 1.

    Raises:
        CheckpointError: The checkpoint is damaged or missing.

    Example:
        >>> from accelerate import Accelerator
        >>> load_epoch(Accelerator(cpu=True), Path("out/stage1-training"), 7)  # doctest: +SKIP
    """
    from lort_hub.features.distributed import Processes, fail_together
    from lort_hub.features.nodes import lend_folder

    checkpoint, processes = folder / f"epoch_{epoch:04d}", Processes.of(accelerator)
    with fail_together(processes):
        if processes.index == 0 and _read_valid_manifest(checkpoint) is None:
            raise CheckpointError(
                f"{checkpoint}, the best epoch on the held-out images, is damaged.\nNothing was written: "
                "train again with `overwrite=True`, or with `patience=0` to use the last epoch."
            )
    with lend_folder(checkpoint, processes) as seen:
        accelerator.load_state(str(seen))


def resume_from(
    accelerator: Accelerator, folder: Path, *, arguments: dict[str, Any], resume: bool = True
) -> tuple[Path | None, list[dict[str, Any]]]:
    """Load the newest intact checkpoint into the prepared model and optimiser.

    Every process calls this.

    Args:
        accelerator: The accelerator that prepared the model and the optimiser.
        folder: Folder of the run's checkpoints.
        arguments: The arguments of the run that resumes.
        resume: Whether to resume; else the checkpoints, of a run that is overwritten, are deleted.

    Returns:
        The checkpoint and the history of its epochs; None and an empty history where there is none.

    Raises:
        CheckpointError: The run was started with other arguments or another number of processes.

    Example:
        >>> from accelerate import Accelerator
        >>> resume_from(Accelerator(cpu=True), Path("nowhere"), arguments={})
        (None, [])
    """
    from lort_hub.features.distributed import Processes, fail_together
    from lort_hub.features.nodes import lend_folder

    processes = Processes.of(accelerator)
    with fail_together(processes):
        if not resume and processes.index == 0:
            for old in folder.glob("epoch_*"):
                shutil.rmtree(old)
        newest = _find_newest(folder, arguments, processes.count) if processes.index == 0 else None
    checkpoint, history = processes.broadcast_object(newest) or (None, [])
    if checkpoint:
        accelerator.print(f"going on from {checkpoint}")
        with lend_folder(checkpoint, processes) as seen:
            accelerator.load_state(str(seen))
    return checkpoint, history


def _find_newest(
    folder: Path, arguments: dict[str, Any], processes: int
) -> tuple[Path, list[dict[str, Any]]] | None:
    """Find the newest intact checkpoint, of a run with these arguments, and its history."""
    for checkpoint in sorted(folder.glob("epoch_*"), reverse=True):
        manifest = _read_valid_manifest(checkpoint)
        if manifest is None:
            print(f"{checkpoint} is damaged; going back to the one before.")  # noqa: T201
            continue
        before = {"images": arguments.get("images"), **manifest["arguments"]}
        if before["images"] != arguments.get("images"):
            raise CheckpointError(
                f"`resume=True` found {checkpoint} of a run on other training images: the files are not "
                "those of then.\nRestore them, use another `output_dir`, or only `overwrite=True` to "
                "start again."
            )
        if changes := changed_arguments(arguments, before):
            raise CheckpointError(
                f"`resume=True` found {checkpoint} of a run with other arguments: {changes}.\n"
                "Use the same arguments, another `output_dir`, or only `overwrite=True` to start again."
            )
        if manifest["processes"] != processes:
            raise CheckpointError(
                f"`resume=True` found {checkpoint} of {manifest['processes']} processes, got "
                f"{processes}.\nStart {manifest['processes']} processes, or use "
                "only `overwrite=True` to start again."
            )
        return checkpoint, manifest["history"]
    return None


def _read_valid_manifest(checkpoint: Path) -> dict[str, Any] | None:
    try:
        manifest: dict[str, Any] = json.loads((checkpoint / MANIFEST).read_text())
        intact = all(sha256(checkpoint / name) == digest for name, digest in manifest["files"].items())
        # Without a random state Accelerate would go on in silence, with other random numbers.
        states = {_random_state(process) for process in range(manifest["processes"])}
        return manifest if intact and states <= set(manifest["files"]) else None
    except (OSError, ValueError, KeyError):
        return None
