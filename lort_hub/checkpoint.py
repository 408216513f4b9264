"""Writing the output folder: whole or not at all, in a format plain timm or plain transformers loads."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from lort_hub.config import RunArguments
from lort_hub.errors import CheckpointError

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from lort_hub.backbones import Backbone

WITHOUT_EFFECT = (
    *("dry_run", "num_workers", "output_dir", "overwrite", "private", "push_to_hub", "report_to", "resume"),
)
"""Arguments that change nothing in the output folder."""


def check_output_dir(folder: Path, *, overwrite: bool) -> None:
    """Refuse, before any compute, a folder that cannot be written or holds something already.

    A run killed between the two renames of an overwrite left the old folder beside it: it is put back.

    Args:
        folder: The output folder.
        overwrite: Whether its content may be replaced.

    Raises:
        CheckpointError: The folder is not empty, or is a file, or its parent cannot be written.

    Example:
        >>> import tempfile
        >>> check_output_dir(Path(tempfile.mkdtemp()) / "out", overwrite=False)
    """
    folder = folder.resolve()
    replaced = _replaced(folder)
    if replaced.exists() and not folder.exists():
        replaced.rename(folder)
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"--output-dir {folder} is a file, expected a folder.")
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
    """Whether a run with these arguments has already written its output folder.

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


def begin(args: RunArguments, accelerator: Accelerator) -> dict[str, Any] | None:
    """The arguments of a run, JSON-ready, once its output folder is known to be free.

    Args:
        args: The recipe's arguments.
        accelerator: Whose main process says where there is nothing to do.

    Returns:
        None where a resumed run is finished already.

    Raises:
        CheckpointError: The folder cannot be written, holds something, or is of a run with other arguments.

    Example:
        >>> from accelerate import Accelerator
        >>> begin(RunArguments(output_dir=Path("/tmp/nowhere/out")), Accelerator(cpu=True))["seed"]
        0
    """
    arguments: dict[str, Any] = json.loads(json.dumps(asdict(args), default=str))
    if args.resume and is_finished(args.output_dir, arguments):
        accelerator.print(f"{args.output_dir} is finished; nothing to do.")
        return None
    check_output_dir(args.output_dir, overwrite=args.overwrite)
    return arguments


def changed_arguments(now: dict[str, Any], before: dict[str, Any]) -> str:
    """What differs between the arguments of two runs, of those that have an effect on the result.

    Example:
        >>> changed_arguments({"lr": 0.1, "resume": True}, {"lr": 0.2, "resume": False})
        'lr 0.2 -> 0.1'
    """
    differ = sorted(name for name in now if name not in WITHOUT_EFFECT and now[name] != before.get(name))
    return ", ".join(f"{name} {before.get(name)} -> {now[name]}" for name in differ)


@contextmanager
def atomic_folder(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Fill a temporary sibling folder, then put it in place by a rename.

    Args:
        folder: Where the finished folder shall be.
        overwrite: Whether a folder there may be replaced.

    Yields:
        The temporary folder.

    Raises:
        CheckpointError: Another process has filled the folder meanwhile, or the disk is full.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "out"
        >>> with atomic_folder(target) as staged:
        ...     _ = (staged / "metrics.json").write_text("{}")
        >>> [path.name for path in target.iterdir()]
        ['metrics.json']
    """
    folder = folder.resolve()
    staged, replaced = folder.with_name(f".{folder.name}.{os.getpid()}.tmp"), _replaced(folder)
    shutil.rmtree(staged, ignore_errors=True)  # of a killed process that had our number
    staged.mkdir(parents=True)
    try:
        yield staged
        for path in staged.rglob("*"):
            sync(path)
        try:
            if overwrite and folder.exists():
                shutil.rmtree(replaced, ignore_errors=True)
                folder.rename(replaced)
            staged.rename(folder)
        except OSError as cause:
            if cause.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise CheckpointError(f"Cannot put --output-dir {folder} in place: {cause}.") from cause
            raise CheckpointError(
                f"--output-dir {folder} was filled by another process meanwhile; it is left as it is.\n"
                "Run again with another --output-dir, or with --overwrite."
            ) from cause
        sync(folder.parent)
        with suppress(FileNotFoundError):
            replaced.rename(staged)  # half deleted it must not be taken for the old folder
    except SafetensorError as cause:  # its I/O errors are no OSErrors
        raise CheckpointError(
            f"Cannot write --output-dir {folder}: {cause}.\n"
            "Nothing is left behind: make room or name another place, then run again."
        ) from cause
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _replaced(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")


def sync(path: Path) -> None:
    """Have a file's or a folder's content on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_model(
    backbone: Backbone, weight: Tensor, bias: Tensor, class_names: Sequence[str], folder: Path
) -> None:
    """Write the complete model with a new head, as its own library loads it without lort_hub.

    Args:
        backbone: The backbone; its own classifier is not changed.
        weight: W (K, D).
        bias: b (K,).
        class_names: Names of the K classes.
        folder: An existing folder.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from lort_hub.loading import load_backbone
        >>> backbone = load_backbone("test_resnet", pretrained=False)
        >>> folder = Path(tempfile.mkdtemp())
        >>> save_model(backbone, torch.zeros(2, 96), torch.zeros(2), ["cat", "dog"], folder)
        >>> sorted(path.name for path in folder.iterdir())
        ['config.json', 'model.safetensors']
    """
    import torch

    model: Any = backbone.with_classifier(weight, bias, class_names).model.cpu()
    model.to(memory_format=torch.contiguous_format)
    if backbone.library == "timm":
        _save_timm(model, backbone, class_names, folder)
    else:
        model.config.architectures = [type(model).__name__]
        model.save_pretrained(folder)
        backbone.processor.save_pretrained(folder)


def _save_timm(model: Any, backbone: Backbone, class_names: Sequence[str], folder: Path) -> None:
    import timm

    data = {name: value for name, value in backbone.preprocessing.items() if name != "library"}
    timm.models.save_for_hf(
        model,
        str(folder),
        model_config={"label_names": list(class_names)},
        safe_serialization=True,
        data_config=data,
    )
    # transformers passes num_classes itself and fails on a second one in model_args; timm reads the root's.
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.get("model_args", {}).pop("num_classes", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def check_saved(
    folder: Path, backbone: Backbone, weight: Tensor, bias: Tensor, images: Sequence[Any]
) -> None:
    """Load a saved model back and compare its logits with the head on the backbone's features.

    Args:
        folder: What `save_model` wrote.
        backbone: The backbone.
        weight: W (K, D).
        bias: b (K,).
        images: A few RGB images.

    Raises:
        CheckpointError: The logits differ by more than 1e-4.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from PIL import Image
        >>> from lort_hub.loading import load_backbone
        >>> backbone, folder = load_backbone("test_resnet", pretrained=False), Path(tempfile.mkdtemp())
        >>> save_model(backbone, torch.ones(2, 96), torch.zeros(2), ["cat", "dog"], folder)
        >>> check_saved(folder, backbone, torch.ones(2, 96), torch.zeros(2), [Image.new("RGB", (80, 60))])
    """
    import torch

    from lort_hub.loading import load_backbone

    saved = load_backbone(str(folder))
    device = next(backbone.model.parameters()).device
    with torch.inference_mode():
        pixels = torch.stack([backbone.transform(image) for image in images]).to(device)
        expected = torch.addmm(bias, backbone.features(pixels).float().cpu(), weight.T)
        got = saved.logits(torch.stack([saved.transform(image) for image in images]))
    error = (got - expected).abs().max().item()
    if not error <= 1e-4 * max(1.0, expected.abs().max().item()):
        raise CheckpointError(
            f"The saved model's logits differ from ours by {error:.2g}, expected at most 1e-4.\n"
            "Nothing was written; please report the backbone as an issue."
        )
