"""Leave out files that tables of Delta have removed or replaced, and refuse those of Iceberg and Hudi."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from lort_hub.data.tables.encoded import TABLES
from lort_hub.errors import DatasetError

LOG = "_delta_log"
"""Folder in which Delta tells the files of a table."""
_ADVICE = "Write its rows into a plain file, in pandas: table.to_parquet('train.parquet'), and give that one."


def current_files(files: Sequence[Path], folder: Path) -> tuple[list[Path], list[str]]:
    """Leave out the files that are no part of tables of Delta, by their logs, with a note.

    Args:
        files: The tables that hold the data.
        folder: The folder that they are in.

    Raises:
        DatasetError: A table is one of Iceberg or Hudi, or the log of one of Delta does not tell its files.

    Example:
        >>> current_files([], Path("photos"))
        ([], [])
    """
    tables = [file for file in files if file.suffix.lower() in TABLES]
    places = dict.fromkeys(place for file in tables for place in file.parents if place.is_relative_to(folder))
    removed = {file for place in places for file in _removed(place, tables)}
    note = f"{len(removed):,} of {len(tables):,} files of tables are not read: {LOG} does not name them."
    return [file for file in files if file not in removed], [note] * bool(removed)


def _removed(folder: Path, tables: Sequence[Path]) -> list[Path]:
    """The files in a folder of Delta that its log does not name, or names as removed."""
    is_iceberg = any(map(_is_state_of_iceberg, folder.glob("metadata/*.metadata.json")))
    if is_iceberg or (folder / ".hoodie/hoodie.properties").is_file():
        raise DatasetError(
            f"'{folder}' is a table of {'Iceberg' if is_iceberg else 'Hudi'}, whose files may hold rows that "
            f"were removed: it is not read.\n{_ADVICE}"
        )
    if not any((folder / LOG).glob("*")):
        return []
    current = _named_by_log(folder)
    if lost := sorted(str(file) for file in current if not file.is_file()):
        raise DatasetError(
            f"'{lost[0]}' is missing, a file of the Delta table '{folder}'.\nDownload it whole."
        )
    return [file for file in tables if file.is_relative_to(folder) and file not in current]


def _is_state_of_iceberg(file: Path) -> bool:
    return '"format-version"' in file.read_text(encoding="utf-8", errors="replace")


def _named_by_log(folder: Path) -> list[Path]:
    """The files of a table of Delta, by the actions in its log from its first version on."""
    commits = sorted(file for file in (folder / LOG).glob("*.json") if file.stem.isdecimal())
    named: dict[Path, bool] = {}  # whether rows were removed from it
    try:
        if [int(file.stem) for file in commits] != list(range(len(commits))):
            raise ValueError("versions are missing, or in checkpoints")
        for file in commits:
            for line in filter(str.strip, file.read_text(encoding="utf-8").split("\n")):
                action = json.loads(line)
                if "remove" in action:
                    named.pop(_file(folder, action["remove"]), None)
                elif "add" in action:
                    named[_file(folder, action["add"])] = bool(action["add"].get("deletionVector"))
        if any(named.values()):
            raise ValueError("rows were removed from its files")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
        raise DatasetError(
            f"The log of the Delta table '{folder}' is not read: {cause}.\n{_ADVICE}"
        ) from cause
    if not named:
        raise DatasetError(f"The log of the Delta table '{folder}' names no file.\n{_ADVICE}")
    return list(named)


def _file(folder: Path, action: dict[str, str]) -> Path:
    return folder / unquote(action["path"].removeprefix("file://"))
