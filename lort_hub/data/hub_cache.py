"""Choose the snapshot of a folder in the Hub's cache, which keeps one for each downloaded commit."""

from __future__ import annotations

from pathlib import Path

from lort_hub.errors import DatasetError
from lort_hub.shorten import quoted


def find_snapshot(folder: Path) -> tuple[Path, list[str]]:
    """Find what to read of a folder as the Hub's cache lays it out: the snapshot that `main` stands for.

    Args:
        folder: Any folder.

    Returns:
        The folder to read, the same where it is no such one, and notes.

    Raises:
        DatasetError: There are several snapshots, and none is known as the one of `main`.

    Example:
        >>> find_snapshot(Path("photos"))
        (PosixPath('photos'), [])
    """
    snapshots = folder / "snapshots"
    if not snapshots.is_dir() or not (folder / "blobs").is_dir():
        return folder, []
    commits = sorted(path.name for path in snapshots.iterdir() if path.is_dir())
    reference = folder / "refs" / "main"
    main = reference.read_text(encoding="utf-8").strip() if reference.is_file() else ""
    if len(commits) == 1 or main in commits:
        commit = main if main in commits else commits[0]
        note = f"Read: snapshots/{commit}, one of {len(commits)}, which refs/main names."
        return snapshots / commit, [note] if len(commits) > 1 else []
    if not commits:
        return folder, []
    raise DatasetError(
        f"'{folder}' holds {len(commits)} snapshots of a data set, {quoted(commits, 3)}, and no refs/main "
        f'that names one.\nGive the folder of one, e.g. `dataset="{snapshots / commits[0]}"`.'
    )
