"""Keep other runs from writing where this one does: two would mix what they keep for a resumed run."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from lort_hub.errors import CheckpointError

LOCK = "lock"
"""Name of the file that a lock is on."""


def keep_others_out(folder: Path, output: Path, argument: str) -> int:
    """Keep a folder of unfinished work to this run, until its process ends or closes the descriptor.

    Args:
        folder: The folder, which exists.
        output: What is made of it, for the message.
        argument: Name of the argument that says where the output lies.

    Returns:
        The descriptor of the lock.

    Raises:
        CheckpointError: Another run has locked it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> os.close(keep_others_out(folder, Path("predictions.csv"), "output"))
    """
    lock = os.open(folder / LOCK, os.O_CREAT | os.O_WRONLY, 0o666)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as cause:
        if cause.errno in (errno.EAGAIN, errno.EACCES):  # else a file system without locks
            os.close(lock)
            raise CheckpointError(
                f"Another run is writing {output}.\nWait for its end, or name another `{argument}`."
            ) from cause
    return lock
