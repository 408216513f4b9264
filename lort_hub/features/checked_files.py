"""Write files whose names end in the checksum of their bytes, so that damage is seen when they are read."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lort_hub.files import sha256, write_atomically


class CheckedFiles:
    """Safetensors files of a folder that are named by their checksums.

    Example:
        >>> import tempfile
        >>> files = CheckedFiles(Path(tempfile.mkdtemp()))
        >>> path = files.write("part", b"content")
        >>> files.is_intact(path), path.write_bytes(b"other"), files.is_intact(path)
        (True, 5, False)
    """

    def __init__(self, folder: Path) -> None:
        """Take the folder."""
        self.folder, self._intact = folder, set[tuple[str, int, int]]()

    def write(self, name: str, data: bytes) -> Path:
        """Write a file atomically, unless it is there.

        Args:
            name: Its name, to which the checksum is added.
            data: Its bytes.
        """
        path = self.folder / f"{name}-{hashlib.sha256(data).hexdigest()}.safetensors"
        if not self.is_intact(path):
            write_atomically(path, data)
        return path

    def is_intact(self, path: Path) -> bool:
        """Compare a file with the checksum in its name; the file is read again only if it has changed."""
        try:
            stat = path.stat()
            state = (path.name, stat.st_mtime_ns, stat.st_size)
            if state not in self._intact and sha256(path) == path.stem.rpartition("-")[2]:
                self._intact.add(state)
            return state in self._intact
        except FileNotFoundError:  # another process deletes damaged files
            return False
