"""Write files and folders whole or not at all."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from safetensors import SafetensorError

from lort_hub.errors import CheckpointError, did_you_mean
from lort_hub.spreadsheets import read_harmless

DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
}
"""Numbers of the system errors of writing a file that the user can mend."""
RECORDS = ("run.json", "audit.json", "adapted.json")
"""Files of which every output folder of a recipe has one."""


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
            if path.is_file() and not path.is_symlink():  # safetensors makes its own for their owner alone
                with suppress(OSError):  # a file system without modes
                    path.chmod(path.stat().st_mode | staged.stat().st_mode & 0o666)
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
                "Move it away, or pass `overwrite=True`."
            ) from cause
        sync(folder.parent)
        with suppress(FileNotFoundError):
            replaced.rename(staged)  # half deleted it must not be taken for the old folder
    except SafetensorError as cause:  # its I/O errors are no OSErrors
        raise CheckpointError(
            f"Cannot write {folder}: {cause}.\nNothing is left behind: make room, then run again."
        ) from cause
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def check_output_dir(folder: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that cannot be written or is not empty, before any compute.

    A run that was killed between the two renames of an overwrite left the old folder beside it, which is
    restored.

    Args:
        folder: Output folder.
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
        raise CheckpointError(f"{folder} is a file, expected a folder.")
    if folder.is_mount():
        raise CheckpointError(
            f"{folder} is a mount point, in whose place no finished folder can be put.\n"
            f"Name a folder in it, such as {folder / 'run'}."
        )
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise CheckpointError(
            f"{folder} is not empty.\nPass `overwrite=True` to replace its content, or name another folder."
        )
    if folder.exists() and any(folder.iterdir()) and not any((folder / name).exists() for name in RECORDS):
        raise CheckpointError(
            f"{folder} holds files that are not lort_hub's; `overwrite=True` would delete them.\n"
            "Empty it yourself, or name another folder."
        )
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):  # of a killed process
        if time.time() - leftover.stat().st_mtime > 3600:
            shutil.rmtree(leftover, ignore_errors=True)
    existing = next(parent for parent in folder.parents if parent.exists())
    if not existing.is_dir():
        raise CheckpointError(f"{folder} cannot be made: {existing} is a file.")
    try:  # the permissions say less: nobody can make a folder in /proc
        TemporaryDirectory(prefix=f".{folder.name}.", suffix=".tmp", dir=existing).cleanup()
    except OSError as cause:
        raise CheckpointError(
            f"{folder} cannot be made: {cause.strerror} in {existing}.\nName another folder."
        ) from cause


def cache_path(name: str) -> Path:
    """Name a folder below lort_hub's cache, `$LORT_HUB_CACHE` or else `~/.cache/lort_hub`, and make none.

    Args:
        name: What is kept in it, such as "features".

    Example:
        >>> cache_path("features").name
        'features'
    """
    return Path(os.environ.get("LORT_HUB_CACHE") or "~/.cache/lort_hub").expanduser() / name


def cache_folder(name: str) -> Path:
    """Make a folder below lort_hub's cache, where `cache_path` says.

    Args:
        name: What is kept in it, such as "features".

    Raises:
        CheckpointError: It cannot be made.

    Example:
        >>> cache_folder("features").is_dir()
        True
    """
    folder = cache_path(name)
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
    """Write rows as CSV; a column that a row does not have is empty there.

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
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path, *, text: Collection[str] = ()) -> list[dict[str, Any]]:
    """Read rows that `write_csv` wrote: numbers and JSON as their values, an empty cell as None.

    Args:
        path: The file.
        text: Columns of words, which are as they were before `harmless_rows`, even where one is `12`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "results.csv"
        >>> write_csv(path, [{"method": "ce", "seed": 0, "few": None}])
        >>> read_csv(path, text=["method"])
        [{'method': 'ce', 'seed': 0, 'few': None}]
    """

    def value(column: str, cell: str) -> Any:
        if not cell:
            return None
        return read_harmless(cell) if column in text else json.loads(cell)

    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [{name: value(name, cell) for name, cell in row.items()} for row in csv.DictReader(file)]


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
