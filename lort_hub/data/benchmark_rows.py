"""Read the rows of a benchmark's published lists, in the forms that repositories publish them in."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory

from lort_hub.data.decoding import image_suffixes
from lort_hub.data.tables.column_names import is_label
from lort_hub.data.tables.image_files import parts_of
from lort_hub.data.tables.lists import LISTS, FileList, read_list
from lort_hub.errors import DatasetError
from lort_hub.shorten import shown

Cells = Sequence[str | None]
LINE = re.compile(r"""(["']?)(?P<path>.+\.\w+)\1[ \t]+(?P<label>-?\d+(?:\.0+)?)(?:[ \t]+[A-Za-z]\S*)?""")
"""A path, quoted or not, its class's number, and that class's name, which is not read."""


@dataclass(frozen=True)
class Listing:
    """The rows of a list.

    Attributes:
        file: The list.
        paths: Path of each image as the list writes it.
        labels: Label of each image, a number or a name.
        missing: Rows whose image is not there.
    """

    file: Path
    paths: list[str]
    labels: list[str]
    missing: int = 0

    @cached_property
    def tails(self) -> list[list[str]]:
        """Folders and file of each path, without the leading folders that all paths share."""
        parts = [parts_of(path) for path in self.paths]
        folders = [one[:-1] for one in (min(parts), max(parts))]
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*folders, strict=False)))
        return [one[shared:] for one in parts]


def name_of_list(file: Path) -> str:
    """Return the name of a list without its extensions; empty where the extension is not one of lists.

    Example:
        >>> name_of_list(Path("train.txt.gz")), name_of_list(Path("train.csv")), name_of_list(Path("a.zip"))
        ('train', 'train', '')
    """
    unpacked = Path(file.stem) if file.suffix.lower() == ".gz" else file
    return unpacked.stem if unpacked.suffix.lower() in LISTS else ""


def are_numbers(labels: Collection[str]) -> bool:
    """Return whether all labels are whole numbers, as `1` and `1.0`.

    Example:
        >>> are_numbers(["0", "1.0"]), are_numbers(["0.5"]), are_numbers(["ant"])
        (True, False, False)
    """
    return all(re.fullmatch(r"-?\d+(\.0+)?", label) for label in labels)


def read_listing(file: Path) -> Listing:
    r"""Read a published list: a path and a label a line, or COCO's annotations.

    Args:
        file: The list, in any form of `read_list`.

    Raises:
        DatasetError: It has no column of image files, no single one of labels, or an empty cell.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "train.txt"
        >>> _ = file.write_text("train/n01440764/a.JPEG 0\r\n")
        >>> read_listing(file).labels
        ['0']
    """
    if file.suffix.lower() == ".gz":
        return _unpacked(file)
    paths, labels = _pairs_of_text(file) or _pairs_of_json(file) or _pairs_of_list(file)
    rows = enumerate(zip(paths, labels, strict=True))
    if empty := next(
        (row for row, (path, label) in rows if not (path or "").strip("./\\") or label is None), None
    ):
        raise DatasetError(
            f"Row {empty} of '{file}' has no path or no label: {paths[empty]}, {labels[empty]}."
        )
    names = [label for label in labels if label]
    plain = [str(int(name.partition(".")[0])) for name in names] if are_numbers(names) else names
    return Listing(file, [path for path in paths if path], plain)


def _unpacked(file: Path) -> Listing:
    with TemporaryDirectory() as folder:
        unpacked = Path(folder) / file.stem
        try:
            unpacked.write_bytes(gzip.decompress(file.read_bytes()))
            return replace(read_listing(unpacked), file=file)
        except (gzip.BadGzipFile, EOFError, zlib.error) as cause:
            raise DatasetError(f"Cannot unpack '{file}': {cause}.\nGet it again.") from cause
        except DatasetError as error:
            raise DatasetError(str(error).replace(str(unpacked), str(file))) from error


def _pairs_of_text(file: Path) -> tuple[Cells, Cells] | None:
    """Paths and labels where each line of a text file is as `LINE`."""
    if file.suffix.lower() not in (".txt", ".lst"):
        return None
    text = file.read_bytes().removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
    found = [LINE.fullmatch(line.strip()) for line in text.splitlines() if line.strip()]
    rows = [match for match in found if match and Path(match["path"]).suffix.lower() in image_suffixes()]
    if "\ufffd" in text or not rows or len(rows) < len(found):
        return None
    return [row["path"] for row in rows], [row["label"] for row in rows]


def _pairs_of_json(file: Path) -> tuple[Cells, Cells] | None:
    """Paths and labels of annotations that name their files themselves, or of a list of pairs."""
    if file.suffix.lower() != ".json":
        return None
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return None
    rows = content
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        rows = [
            isinstance(one, dict) and [one.get("fpath"), one.get("category_id")]
            for one in content["annotations"]
        ]
    if not isinstance(rows, list) or not rows or not all(_is_pair(row) for row in rows):
        return None
    return [path for path, _ in rows], [str(label).strip() or None for _, label in rows]


def _is_pair(row: object) -> bool:
    if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], str)):
        return False
    return Path(row[0]).suffix.lower() in image_suffixes() and isinstance(row[1], str | int | float)


def _pairs_of_list(file: Path) -> tuple[Cells, Cells]:
    listed = read_list(file)
    if listed.refusal:
        raise DatasetError(listed.refusal)
    paths, labels = (listed.columns[name] for name in _columns(listed))
    return paths, labels


def _columns(listed: FileList) -> tuple[str, str]:
    """Names of the columns of image files and of labels."""
    suffixes = image_suffixes()
    first = {
        name: Path(cells[0] or "").suffix.lower() if cells else "" for name, cells in listed.columns.items()
    }
    images = [name for name, suffix in first.items() if suffix in suffixes]
    others = [name for name in listed.columns if name not in images]
    labels = [name for name in others if is_label(name)]
    labels = labels if listed.header and len(labels) == 1 else others
    if len(images) != 1 or len(labels) != 1:
        raise DatasetError(
            f"'{listed.path}' has the columns {shown(list(listed.columns))}: {len(images)} of image files, "
            f"{len(labels)} of labels.\nExpected one of each, as `path label` a line."
        )
    return images[0], labels[0]
