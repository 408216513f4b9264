"""Write files and folders whole or not at all."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors import SafetensorError

from lort_hub.errors import CheckpointError, did_you_mean


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
    staged, replaced = folder.with_name(f".{folder.name}.{os.getpid()}.tmp"), replaced_folder(folder)
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
                raise CheckpointError(f"Cannot put {folder} in place: {cause}.") from cause
            raise CheckpointError(
                f"{folder} was filled by another process meanwhile; it is left as it is.\n"
                "Name another folder, or pass `overwrite=True`."
            ) from cause
        sync(folder.parent)
        with suppress(FileNotFoundError):
            replaced.rename(staged)  # half deleted it must not be taken for the old folder
    except SafetensorError as cause:  # its I/O errors are no OSErrors
        raise CheckpointError(
            f"Cannot write {folder}: {cause}.\n"
            "Nothing is left behind: make room or name another place, then run again."
        ) from cause
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def cache_folder(name: str) -> Path:
    """Make a folder below lort_hub's cache: `$LORT_HUB_CACHE`, else `~/.cache/lort_hub`.

    Args:
        name: What is kept in it, such as "features".

    Raises:
        CheckpointError: It cannot be made.

    Example:
        >>> cache_folder("features").is_dir()
        True
    """
    folder = Path(os.environ.get("LORT_HUB_CACHE", "~/.cache/lort_hub")).expanduser() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise CheckpointError(
            f"Cannot write the cache folder {folder}: {cause.strerror}.\n"
            "Name another place in the environment variable LORT_HUB_CACHE."
        ) from cause
    return folder


def missing_path(path: Path, spec: str, argument: str) -> str:
    r"""Say which part of a path does not exist, and what lies beside it.

    Args:
        path: The path.
        spec: The path as the user wrote it.
        argument: Name of the argument it was given as.

    Example:
        >>> missing_path(Path("/nope/photos"), "/nope/photos", "dataset")
        "No folder '/nope/photos' (from `dataset`).\nThere is no '/nope'."
    """
    path = path.absolute()
    missing = next(part for part in (*reversed(path.parents), path) if not part.exists())
    message = f"No {'file' if path.suffix else 'folder'} '{spec}' (from `{argument}`)."
    beside = [entry.name for entry in missing.parent.iterdir()] if missing.parent.is_dir() else []
    hint = did_you_mean(missing.name, beside)
    return f"{message}{hint}" if missing == path else f"{message}\nThere is no '{missing}'.{hint}"


def replaced_folder(folder: Path) -> Path:
    """Name the folder that holds a folder's old content while the new one is put in place.

    Example:
        >>> replaced_folder(Path("out/head"))
        PosixPath('out/.head.replaced')
    """
    return folder.with_name(f".{folder.name}.replaced")


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write JSON that every parser reads; NaN is refused.

    Args:
        path: The file.
        value: JSON-ready values.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "metrics.json"
        >>> write_json(path, {"accuracy": 0.5})
        >>> json.loads(path.read_text())
        {'accuracy': 0.5}
    """
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows with the same columns as CSV.

    Args:
        path: The file.
        rows: At least one.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "results.csv"
        >>> write_csv(path, [{"method": "ce", "seed": 0}])
        >>> path.read_text().split()
        ['method,seed', 'ce,0']
    """
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def sha256(path: Path) -> str:
    """Compute the sha256 of a file.

    Example:
        >>> import tempfile
        >>> empty = Path(tempfile.mkdtemp()) / "empty"
        >>> empty.touch()
        >>> sha256(empty)[:8]
        'e3b0c442'
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under another name, then put it in place by a rename.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "part"
        >>> write_atomically(path, b"whole")
        >>> path.read_bytes()
        b'whole'
    """
    temporary = path.with_name(f"{path.name}.{uuid4().hex}.tmp")  # two machines may have equal pids
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
