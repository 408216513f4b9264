"""Read, write and recognise the files of a head alone: config.json and model.safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lort_hub.errors import CheckpointError


def is_head(folder: Path) -> bool:
    """Whether a folder holds a LORT head alone, told by its tensors.

    Args:
        folder: A folder with model.safetensors, or with a model in several files.

    Raises:
        CheckpointError: The file is damaged.

    Example:
        >>> import tempfile, torch
        >>> from lort_hub import LortHead
        >>> folder = Path(tempfile.mkdtemp())
        >>> LortHead(torch.eye(2), torch.zeros(2), {"class_names": ["cat", "dog"]}).save_pretrained(folder)
        >>> is_head(folder)
        True
    """
    try:
        with safe_open(folder / "model.safetensors", "pt") as file:
            return set(file.keys()) == {"weight", "bias"}
    except FileNotFoundError:
        return False
    except SafetensorError as cause:
        raise CheckpointError(f"{folder / 'model.safetensors'} is damaged: {cause}.") from cause


def write_head(folder: Path, weight: Tensor, bias: Tensor, config: dict[str, Any]) -> None:
    """Write a head's two files.

    Args:
        folder: An existing folder.
        weight: W (K, D).
        bias: b (K,).
        config: JSON-ready record of the head.

    Example:
        >>> import tempfile, torch
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_head(folder, torch.eye(2), torch.zeros(2), {"class_names": ["cat", "dog"]})
        >>> read_head(folder, folder)[1]
        tensor([0., 0.])
    """
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = {"weight": weight.contiguous(), "bias": bias.contiguous()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def read_head(folder: Path, source: str | Path) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Read a head's two files; missing or surplus tensors are errors.

    Args:
        folder: Where they lie.
        source: What the user gave, for messages.

    Returns:
        W (K, D), b (K,), and the record.

    Raises:
        CheckpointError: It does not hold exactly a weight (K, D), a bias (K,) and their record.

    Example:
        >>> weight, bias, config = read_head(Path("out/head"), "out/head")  # doctest: +SKIP
    """
    try:
        tensors = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as cause:
        raise CheckpointError(f"'{source}' is not a LORT head: model.safetensors: {cause}.") from cause
    if not _is_linear(tensors):
        shapes = [f"{name} {tuple(tensor.shape)}" for name, tensor in sorted(tensors.items())]
        holds = ", ".join(shapes[:6]) or "no tensors"
        raise CheckpointError(
            f"'{source}' is not a LORT head: it holds {holds}; expected exactly weight (K, D) and bias (K,)."
        )
    config = read_head_config(folder, source)
    if len(config["class_names"]) != len(tensors["bias"]):
        raise CheckpointError(
            f"'{source}' is not a LORT head: config.json names {len(config['class_names'])} classes, "
            f"expected {len(tensors['bias'])}, the rows of its weight."
        )
    return tensors["weight"], tensors["bias"], config


def _is_linear(tensors: Mapping[str, Tensor]) -> bool:
    if set(tensors) != {"weight", "bias"}:
        return False
    weight, bias = tensors["weight"], tensors["bias"]
    return weight.ndim == 2 and bias.shape == weight.shape[:1]


def read_head_config(folder: Path, source: str | Path) -> dict[str, Any]:
    """Read a head's config.json, which has to name its classes.

    Args:
        folder: Where it lies.
        source: What the user gave, for messages.

    Raises:
        CheckpointError: There is none, or it names no classes.

    Example:
        >>> read_head_config(Path("out/head"), "out/head")  # doctest: +SKIP
        {'class_names': ['cat', 'dog'], ...}
    """
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        named = isinstance(config["class_names"], list)
    except (OSError, ValueError, TypeError, KeyError):
        named = False
    if not named:
        raise CheckpointError(
            f"'{source}' is not a LORT head: it holds no config.json with class_names beside a "
            "model.safetensors, nor a head/ that does."
        )
    return config
