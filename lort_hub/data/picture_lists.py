"""Read lists of pictures without labels: a name in each line."""

from __future__ import annotations

from pathlib import Path

from lort_hub.data.image_folder.tree import is_picture
from lort_hub.errors import DatasetError

LISTS = (".txt", ".lst", ".csv", ".tsv")


def listed_pictures(path: Path, root: Path | None = None) -> list[str]:
    """Find the pictures of a list that has nothing but their names, one in a line.

    Args:
        path: The list; the first line may name its column.
        root: Folder that the names start from; None for that of the list, or the current one.

    Returns:
        Their paths, a line each; none where the file is no such list.

    Raises:
        DatasetError: Pictures of the list are not there.

    Example:
        >>> listed_pictures(Path("photos"))
        []
    """
    if path.suffix.lower() not in LISTS or not path.is_file():
        return []
    text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    lines = [line.strip().strip("\"'") for line in text.splitlines() if line.strip()]
    names = lines if lines and is_picture(lines[0]) else lines[1:]
    if not names or not all(map(is_picture, names)):
        return []
    roots = [path.parent, Path()] if root is None else [root]
    found = {name: _first_below(roots, name) for name in names}
    missing = [name for name, picture in found.items() if picture is None]
    if len(missing) == len(found) and any(set(name) & set(",;\t") for name in missing):
        return []
    if missing:
        below = " or ".join(f"'{each}'" for each in roots)
        raise DatasetError(
            f"{len(missing):,} of {len(found):,} pictures of '{path}' are missing, such as '{missing[0]}'.\n"
            f"Expected paths below {below}. Name the folder that they start from with `image_root`."
        )
    return [picture for name in names if (picture := found[name])]


def _first_below(roots: list[Path], name: str) -> str | None:
    paths = (root / name.removeprefix("file://") for root in roots)
    return next((str(path) for path in paths if path.is_file()), None)
