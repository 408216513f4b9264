"""Find the files that a list of images names, with or without their folders and extensions."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from lort_hub.data.decoding import image_suffixes
from lort_hub.data.image_folder.names import is_companion, kind_of
from lort_hub.data.image_folder.tree import is_no_data
from lort_hub.data.tables.lists import FileList, typed
from lort_hub.data.tables.splits import split_in_name
from lort_hub.errors import DatasetError

if TYPE_CHECKING:
    import datasets


class ImageFiles:
    """The image files below some folders, found by the names that lists give them.

    A name may be a path, absolute or below one of the folders, or its last parts, and may lack the extension.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "imgs").mkdir()
        >>> (folder / "imgs" / "7.png").touch()
        >>> images = ImageFiles([folder])
        >>> [Path(images.find(name)).name for name in ("7", "7.png", "imgs/7.png")]
        ['7.png', '7.png', '7.png']
        >>> images.find("elsewhere/7.png") is None, images.find("elsewhere/7.png", skip=1) is None
        (True, False)
    """

    def __init__(self, roots: Iterable[Path], listed_by: ImageFiles | None = None) -> None:
        """Take the folders, the likeliest first; they are listed when a name is not found directly."""
        self.roots, self.listed_by = [root.resolve() for root in roots], listed_by

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """Paths of the files by their last part, with extension and without."""
        if self.listed_by:
            return self.listed_by.by_name
        suffixes = image_suffixes()
        paths: dict[str, list[str]] = {}
        for path in self.files:
            name = os.path.basename(path)  # noqa: PTH119
            stem, suffix = os.path.splitext(name)  # noqa: PTH122
            paths.setdefault(name, []).append(path)
            if suffix.lower() in suffixes:
                paths.setdefault(stem, []).append(path)
        return paths

    @cached_property
    def by_folded_name(self) -> dict[str, list[str]]:
        """The same by names without capitals, their accents in one form."""
        folded: dict[str, list[str]] = {}
        for name, paths in self.by_name.items():
            folded.setdefault(_folded(name), []).extend(paths)
        return folded

    @cached_property
    def files(self) -> list[str]:
        """Paths of the files with the extension of an image."""
        suffixes, paths, seen = image_suffixes(), dict[str, None](), set[str]()
        for root in self.roots:
            for folder, folders, names in os.walk(root, followlinks=True):
                if (real := os.path.realpath(folder)) in seen:
                    folders.clear()
                    continue
                seen.add(real)
                folders[:] = sorted(name for name in folders if not is_no_data(name))
                for name in sorted(names):
                    if os.path.splitext(name)[1].lower() in suffixes and not name.startswith("."):  # noqa: PTH122
                        paths[f"{folder}/{name}"] = None
        return list(paths)

    def find(self, name: str, split: str | None = None, skip: int = 0) -> str | list[str] | None:
        """Find the file of a name.

        Args:
            name: What a list gives.
            split: Where several fit, those below a folder of this split come first.
            skip: Leading parts of the name to leave out, such as those of another machine's folder.

        Returns:
            Its path, of a mask where nothing else fits; all paths where several do equally; None where none.
        """
        if not skip:
            for direct in (*(f"{root}/{name}" for root in self.roots), name if name[:1] == "/" else ""):
                if os.path.isfile(direct):  # noqa: PTH113
                    return os.path.normpath(direct)
        parts = parts_of(name)[skip:]
        tail = "/" + "/".join(parts)
        fitting = _ending(self.by_name.get(parts[-1], []) if parts else [], tail)
        if parts and not fitting:  # as Windows or macOS wrote it
            fitting = _ending(self.by_folded_name.get(_folded(parts[-1]), []), tail, fold=True)
        if len(fitting) > 1:
            fitting = [one for one in fitting if not any(map(is_companion, self.folders_of(one)))] or fitting
        if len(fitting) > 1 and split:
            fitting = [path for path in fitting if split == self.split_of(path)] or fitting
        if not fitting and (plain := unquote(name)) != name:  # as in web addresses
            return self.find(plain, split, skip)
        return fitting[0] if len(fitting) == 1 else fitting or None

    def folders_of(self, path: str) -> list[str]:
        """Return the folders that a file lies in, from the folder of all images on."""
        root = next((root for root in reversed(self.roots) if path.startswith(f"{root}/")), None)
        return [root.name, *path[len(f"{root}/") :].split("/")[:-1]] if root else []

    def split_of(self, path: str) -> str | None:
        """Tell the split of a file by the folders that it lies in."""
        root, *inner = self.folders_of(path)
        first = split_in_name(inner[0]) if inner else None
        return first or next(filter(None, map(kind_of, inner)), None) or split_in_name(root)

    def beside(self, folder: Path) -> ImageFiles:
        """Return the same files, for a list in this folder, from which its names may start."""
        return ImageFiles([folder, *self.roots], listed_by=self)

    def expected(self, name: str | None) -> str:
        """Describe where a file that was not found would lie."""
        return str(Path(self.roots[0] if self.roots else ".") / (name or ""))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def _ending(paths: Iterable[str], tail: str, *, fold: bool = False) -> list[str]:
    """The paths that end with a tail, with their extension or without."""
    plain = {path: _folded(path) if fold else path for path in paths}
    tail = _folded(tail) if fold else tail
    return [
        path
        for path, text in plain.items()
        if text.endswith(tail) or os.path.splitext(text)[0].endswith(tail)  # noqa: PTH122
    ]


def parts_of(name: str) -> list[str]:
    r"""Return the folders and the file of a name, written with slashes or backslashes.

    Example:
        >>> parts_of("./imgs\\7.png")
        ['imgs', '7.png']
    """
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]


@dataclass(frozen=True)
class ListedImages:
    """Rows of a list with the image file of each.

    Attributes:
        rows: The columns, of which the one of files holds the images.
        column: Name of that column.
        files: The files that were found.
        missing: What rows name whose file was not found.
    """

    rows: datasets.Dataset
    column: str
    files: frozenset[str]
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FileColumn:
    """The column of a list that names image files.

    Attributes:
        name: Its name.
        skip: Leading parts of its paths that are of another machine, left out.
        share: Share of the cells whose file is there.
        refusal: Why another column may be meant; empty where none may.
        note: That another column is called as the one of images, and is not; empty where none is.
    """

    name: str
    skip: int = 0
    share: float = 0.0
    refusal: str = ""
    note: str = ""


def with_images(
    listed: FileList, column: FileColumn, images: ImageFiles, split: str | None = None
) -> ListedImages:
    """Put the image files in the place of their names.

    Args:
        listed: The list.
        column: The column that names files.
        images: The image files.
        split: The list's split.

    Raises:
        DatasetError: A name fits several files.

    Example:
        >>> with_images(FileList(Path("a.csv"), {"f": ["0.jpg"]}), FileColumn("f"), ImageFiles([])).missing
        ['0.jpg']
    """
    import datasets

    cells, missing, files = [], [], set()
    for row, name in enumerate(listed.columns[column.name]):
        path = images.find(name, split, column.skip) if name else None
        if isinstance(path, list):
            raise DatasetError(
                f"Row {row} of '{listed.path}' names '{name}', which fits {len(path)} files: "
                f"{path[0]}, {path[1]}.\nName the folder of the images with `image_root`."
            )
        if name and not path:
            missing.append(name)
        files.update([path] if path else [])
        cells.append({"bytes": None, "path": path or images.expected(name)} if name else None)
    others = {name: typed(values) for name, values in listed.columns.items() if name != column.name}
    kinds = {column.name: datasets.Image(decode=False)}
    rows = datasets.Dataset.from_dict(
        {column.name: cells, **{name: values for name, (values, _) in others.items()}},
        features=datasets.Features(
            kinds | {name: datasets.Value(kind) for name, (_, kind) in others.items()}
        ),
    )
    return ListedImages(rows, column.name, frozenset(files), missing)
