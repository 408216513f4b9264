"""Record what was read of a folder of pictures, and what was not, with lines for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lort_hub.data.image_folder.tree import SYSTEM
from lort_hub.shorten import shown

if TYPE_CHECKING:
    import datasets

MOST_LINES = 20
TABLE = "a table beside class folders"
HEAP = "called as pictures of no class"


class LeftOut(NamedTuple):
    """Files that were not read, of one extension, for one reason.

    Attributes:
        split: Name of their split, or of their folder where it is no split; empty above the splits.
        class_name: Name of their class folder; empty above the class folders.
        extension: In lower case with its dot; "folder" for a folder that was not looked into.
        reason: Why.
        files: How many.
        example: One of them, below the data folder.
    """

    split: str
    class_name: str
    extension: str
    reason: str
    files: int
    example: str


@dataclass(frozen=True)
class FolderReading:
    """What was read of a folder of pictures, and what was not.

    Attributes:
        folder: The data folder.
        train: Training rows, with columns `image` and `label`.
        test: Test rows; None where there is no test split with class folders.
        train_split: Name of the training split.
        test_split: Name of the test split.
        left_out: Files that were not read.
        empty_classes: Class folders without a picture, as SPLIT/CLASS.
        in_doubt: Classes that are called as splits, or the like, where there are no splits.
    """

    folder: Path
    train: datasets.Dataset
    test: datasets.Dataset | None
    train_split: str
    test_split: str | None
    left_out: tuple[LeftOut, ...] = ()
    empty_classes: tuple[str, ...] = ()
    in_doubt: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Describe for the run's record what was not read, JSON-ready, counted over all classes."""
        rows = [row._asdict() for row in _over_classes(self.left_out)]
        not_read = [{key: value for key, value in row.items() if key != "class_name"} for row in rows]
        return {"not_read": not_read, "empty_classes": list(self.empty_classes)}

    def lines(self) -> list[str]:
        """List what the user has to know, a line each, with a table where files were left out."""
        lines = list[str]()
        rows = _over_classes(self.left_out)
        if any(row.reason != SYSTEM for row in rows):
            total = sum(row.files for row in rows)
            lines.append(f"Files in '{self.folder.name}' that were not read: {total:,}")
            lines += _table(rows)
        if any(row.reason == TABLE for row in rows):
            lines.append(
                "The class folders are the labels; `label_column` takes a column of the table instead."
            )
        heaps = Counter[str]()
        for row in rows:
            heaps[row.split] += row.files if row.reason == HEAP else 0
        lines += [
            f"Folder '{name}' is set aside, with {files:,} pictures: it is called as one to test on, or "
            'without labels. Where it is a class: `class_folder="first"`.'
            for name, files in heaps.items()
            if files
        ]
        lines += [f"Folder '{name}' is read as a class." for name in self.in_doubt]
        if self.empty_classes:
            descriptions = [f"{name} ({self._instead(name)})" for name in self.empty_classes]
            lines.append(f"Class folders without a picture that could be read: {shown(descriptions, 5)}.")
        return lines

    def _instead(self, name: str) -> str:
        """What lies in a class folder without a picture."""
        rows = [row for row in self.left_out if f"{row.split}/{row.class_name}" == name]
        return "; ".join(f"{row.files} {row.extension or 'files'}: {row.reason}" for row in rows) or "empty"


def _over_classes(rows: Sequence[LeftOut]) -> list[LeftOut]:
    """One row for all classes, the most files first."""
    files, examples = Counter[tuple[str, str, str]](), dict[tuple[str, str, str], str]()
    for row in rows:
        kind = (row.split, row.extension, row.reason)
        files[kind] += row.files
        examples.setdefault(kind, row.example)
    return [
        LeftOut(split, "", extension, reason, number, examples[split, extension, reason])
        for (split, extension, reason), number in files.most_common()
    ]


def _table(rows: Sequence[LeftOut]) -> list[str]:
    cells = [("in", "files", "type", "why", "such as")]
    cells += [
        (
            row.split or ".",
            f"{row.files:,}",
            row.extension or "none",
            row.reason,
            row.example.encode("unicode_escape").decode(),
        )
        for row in rows[:MOST_LINES]
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return lines + ([f"  and {len(rows) - MOST_LINES} kinds more"] if len(rows) > MOST_LINES else [])
