"""Save and load the checkpoints of a training run: one folder an epoch, whole and checksummed, or not there.

The last two are kept, and the best by the images held out. A checkpoint is written under another name and
renamed when everything in it is on the disk, its manifest last: whenever the process dies, the newest folder
with a true manifest is where to go on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lort_hub.errors import CheckpointError
from lort_hub.files import sha256, sync
from lort_hub.records import changed_arguments

if TYPE_CHECKING:
    from accelerate import Accelerator

KEPT = 2
MANIFEST = "MANIFEST.json"


def training_folder(output_dir: Path) -> Path:
    """Where the checkpoints of a run lie: beside its output folder, which is only made when it is complete.

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
) -> Path:
    """Save model, optimiser and all processes' random states after an epoch; keep the last two and the best.

    Args:
        accelerator: What prepared the model and the optimiser; every process calls this.
        folder: Where the checkpoints of the run lie.
        arguments: The recipe's arguments, JSON-ready, which a resumed run must share.
        history: One row for each epoch so far; their number is the checkpoint's.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: It cannot be written; those before it are as they were.

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
        _save(accelerator, staged, final, arguments, history)
    except (OSError, RuntimeError, SafetensorError) as cause:  # each library's word for a full disk
        last = max(folder.glob("epoch_*"), default="none yet")
        raise CheckpointError(
            f"Cannot write the checkpoint {final}: {cause}.\n"
            f"The last good one is intact: {last}. Make room, then run again with --resume."
        ) from cause
    return final


def _save(
    accelerator: Accelerator,
    staged: Path,
    final: Path,
    arguments: dict[str, Any],
    history: list[dict[str, Any]],
) -> None:
    folder = final.parent
    if accelerator.is_main_process:
        for leftover in folder.glob(".epoch_*.tmp"):
            shutil.rmtree(leftover)
        staged.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(staged), safe_serialization=True)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        files = {path.name: sha256(path) for path in sorted(staged.iterdir())}
        manifest = {
            "processes": accelerator.num_processes,
            "arguments": arguments,
            "history": history,
            "files": files,
        }
        (staged / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        for path in staged.iterdir():
            sync(path)
        shutil.rmtree(final, ignore_errors=True)  # damaged, or it would have been gone on from
        staged.rename(final)
        sync(folder)
        best = f"epoch_{best_epoch(history):04d}"
        for old in sorted(folder.glob("epoch_*"))[:-KEPT]:
            if old.name != best:
                shutil.rmtree(old)
    accelerator.wait_for_everyone()


def best_epoch(history: Sequence[dict[str, Any]]) -> int:
    """The epoch, counted from 1, that is best on the held-out images; the last where there are none.

    Example:
        >>> best_epoch([{"held_out_balanced_accuracy": score} for score in (0.2, 0.5, 0.5)])
        2
    """
    name = "held_out_balanced_accuracy"
    scores = [row[name] for row in history if name in row]
    return scores.index(max(scores)) + 1 if scores else len(history)


def check_no_interrupted_run(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse to start anew beside the checkpoints of an interrupted run.

    Args:
        folder: Where the checkpoints of the run would lie.
        resume: Whether to go on from there.
        overwrite: Whether they may be deleted.

    Raises:
        CheckpointError: There are some, and neither is asked for.

    Example:
        >>> check_no_interrupted_run(Path("nowhere"), resume=False, overwrite=False)
    """
    if any(folder.glob("epoch_*")) and not (resume or overwrite):
        raise CheckpointError(
            f"{folder} holds an interrupted run.\n"
            "Add --resume to go on from there, or --overwrite to start anew."
        )


def remove_finished(folder: Path, output_dir: Path) -> None:
    """Delete the checkpoints of a run that has written its output.

    Args:
        folder: Where the checkpoints of the run lie, if it was ended before it deleted them itself.
        output_dir: Its output folder.

    Raises:
        CheckpointError: They are newer than that: of a run that was to replace it.

    Example:
        >>> remove_finished(Path("out/stage1-training"), Path("out/stage1"))  # doctest: +SKIP
    """
    written = (output_dir / "run.json").stat().st_mtime
    if any(manifest.stat().st_mtime > written for manifest in folder.glob(f"epoch_*/{MANIFEST}")):
        raise CheckpointError(
            f"{folder} holds an interrupted run that was to replace {output_dir}.\n"
            "Go on with it by `resume=True` together with `overwrite=True`, or delete it."
        )
    shutil.rmtree(folder, ignore_errors=True)


def load_epoch(accelerator: Accelerator, folder: Path, epoch: int) -> None:
    """Load the checkpoint of one epoch into what the accelerator has prepared.

    Args:
        accelerator: What prepared the model and the optimiser; every process calls this.
        folder: Where the checkpoints of the run lie.
        epoch: Counted from 1.

    Raises:
        CheckpointError: It is damaged or gone.

    Example:
        >>> from accelerate import Accelerator
        >>> load_epoch(Accelerator(cpu=True), Path("out/stage1-training"), 7)  # doctest: +SKIP
    """
    checkpoint = folder / f"epoch_{epoch:04d}"
    if _manifest_if_whole(checkpoint) is None:
        raise CheckpointError(
            f"{checkpoint}, the best epoch on the held-out images, is damaged.\n"
            "Nothing was written: train again with --overwrite, or without --patience for the last epoch."
        )
    accelerator.load_state(str(checkpoint))


def resume_from(
    accelerator: Accelerator, folder: Path, *, arguments: dict[str, Any]
) -> tuple[Path | None, list[dict[str, Any]]]:
    """Load the newest checkpoint that is whole into what the accelerator has prepared.

    Args:
        accelerator: What prepared the model and the optimiser; every process calls this.
        folder: Where the checkpoints of the run lie.
        arguments: The arguments of the run about to go on.

    Returns:
        The checkpoint and the history of its epochs; None and an empty history where there is none.

    Raises:
        CheckpointError: The run was started with other arguments or another number of processes.

    Example:
        >>> from accelerate import Accelerator
        >>> resume_from(Accelerator(cpu=True), Path("nowhere"), arguments={})
        (None, [])
    """
    for checkpoint in sorted(folder.glob("epoch_*"), reverse=True):
        manifest = _manifest_if_whole(checkpoint)
        if manifest is None:
            accelerator.print(f"{checkpoint} is damaged; going back to the one before.")
            continue
        if changes := changed_arguments(arguments, manifest["arguments"]):
            raise CheckpointError(
                f"--resume found {checkpoint} of a run with other arguments: {changes}.\n"
                "Use the same arguments, another --output-dir, or --overwrite to start anew."
            )
        if manifest["processes"] != accelerator.num_processes:
            raise CheckpointError(
                f"--resume found {checkpoint} of {manifest['processes']} processes, got "
                f"{accelerator.num_processes}.\nStart as many, or --overwrite to start anew."
            )
        accelerator.print(f"going on from {checkpoint}")
        accelerator.load_state(str(checkpoint))
        return checkpoint, manifest["history"]
    return None, []


def _manifest_if_whole(checkpoint: Path) -> dict[str, Any] | None:
    try:
        manifest: dict[str, Any] = json.loads((checkpoint / MANIFEST).read_text())
        whole = all(sha256(checkpoint / name) == digest for name, digest in manifest["files"].items())
        # Accelerate goes on without a missing random state, on another path than the killed run.
        states = {f"random_states_{process}.pkl" for process in range(manifest["processes"])}
        return manifest if whole and states <= set(manifest["files"]) else None
    except (OSError, ValueError, KeyError):
        return None
