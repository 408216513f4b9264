"""Split the images of class folders as lists beside them do: files of names, and no labels of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lort_hub.data.image_folder.names import KINDS, TRAINVAL
from lort_hub.data.image_folder.read import read_image_folder
from lort_hub.data.image_folder.reading import FolderReading, LeftOut
from lort_hub.data.published_lists import TEXTS, ListedNames, columns_of_splits, may_tell_splits, read_names
from lort_hub.data.request import Opened, Request
from lort_hub.data.table_files import split_lists
from lort_hub.data.tables.file_columns import find_file_column
from lort_hub.data.tables.image_files import ImageFiles
from lort_hub.data.tables.spelling import find_as_spelt
from lort_hub.data.tables.splits import rows_of_splits, without_split
from lort_hub.errors import DatasetError
from lort_hub.shorten import shown

if TYPE_CHECKING:
    import datasets

NEARLY_ALL = 0.9
"""Share of a list's images that are those of the class folders."""
MOST = 0.5
"""Share of a list's names above which those without an image are of files that are missing."""
MOST_REASONS = 3
"""Lists of which a note says why they are not read."""


@dataclass(frozen=True)
class _Split:
    """A published split: the files that tell it, and the rows of the class folders in each of its parts."""

    files: tuple[Path, ...]
    rows: dict[str, list[int]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Matched:
    """Names with their column of files and the row of each in the class folders; -1 where it is none there.

    Missing are the names of no image at all.
    """

    names: ListedNames
    column: str
    rows: list[int]
    missing: list[str]
    is_read: bool

    def notes(self) -> list[str]:
        """How many names are of no image, and how others are written."""
        count = f"{len(self.missing):,} of {len(self.rows):,} rows of {self.names.file.name}"
        lost = [f"{count} name no image, such as {self.missing[0]}."] if self.missing else []
        return [*lost, *self.names.listed.notes]


class _ClassFolders:
    """The images of class folders, found by the names that lists give them."""

    def __init__(self, reading: FolderReading) -> None:
        import datasets

        cells = reading.train.cast_column("image", datasets.Image(decode=False))["image"][:]
        self.rows = {cell["path"]: row for row, cell in enumerate(cells)}
        self.images = ImageFiles([reading.folder])

    def match(self, one: ListedNames) -> _Matched:
        """Find the rows of a list's names."""
        listed, column = one.listed, find_file_column(one.listed, self.images, split=one.split)
        if not column:
            with suppress(DatasetError):  # of several files that fit: it may list no images
                listed, column = find_as_spelt(listed, self.images, None, one.split)
        if column and column.skip and "last" in listed.columns:  # the label is no folder
            last = find_file_column(listed, self.images, "last", one.split)
            column = last if last and last.skip <= column.skip else column
        name, skip = (column.name, column.skip) if column else (next(iter(listed.columns)), 0)
        cells = listed.columns[name]
        paths = [self.images.find(cell, one.split, skip) if cell and column else None for cell in cells]
        rows = [self.rows.get(path, -1) if isinstance(path, str) else -1 for path in paths]
        found, fitting = sum(row >= 0 for row in rows), sum(path is not None for path in paths)
        missing = [cell for cell, path in zip(cells, paths, strict=True) if cell and not path]
        is_read = found > MOST * len(rows) and found >= NEARLY_ALL * fitting
        return _Matched(replace(one, listed=listed), name, rows, missing, is_read)


def note_unread(files: Sequence[Path], reading: FolderReading) -> list[str]:
    """Name the files that may tell a published split and were not read, in a note, and say why.

    Args:
        files: The files.
        reading: What was read of the class folders.

    Example:
        >>> note_unread([], reading)  # doctest: +SKIP
        []
    """
    told = [file for file in files if may_tell_splits(file) or file.suffix.lower() not in TEXTS]
    names = {file: list(read_names(file)) for file in told}
    names = {file: of for file, of in names.items() if of or may_tell_splits(file)}
    if not names:
        return []
    folders = _ClassFolders(reading)
    lost = [one for of in names.values() for one in map(folders.match, of) if one.missing and not one.is_read]
    advice = "write it as train.txt and test.txt, with the path of an image in each line."
    why = " ".join(one.notes()[0] for one in lost[:MOST_REASONS]) or advice
    called = shown([file.name for file in names], 5)
    return [f"No published split is read, though one may be in {called}: {why}"]


def note_lists_beside(source: Path, rows: datasets.Dataset, image: str) -> list[str]:
    """Name the texts that may tell a published split of the images that a list names, in a note.

    Args:
        source: The list, or the data folder.
        rows: The rows of the list.
        image: Its column of images.

    Example:
        >>> note_lists_beside(Path("labels.csv"), rows, "image")  # doctest: +SKIP
        []
    """
    if getattr(rows.features[image], "decode", True) or not source.exists():
        return []
    files = split_lists(source) if source.is_dir() else [*filter(may_tell_splits, source.parent.iterdir())]
    files = sorted(file for file in files if file.suffix.lower() in TEXTS and file != source)
    cells = rows[image][:] if files else []
    known = {Path(cell["path"]).stem for cell in cells if cell and cell["bytes"] is None}
    splits: dict[Path, str] = {}
    for one in [one for file in files for one in read_names(file)]:
        columns = one.listed.columns.values()
        shares = (sum(Path(cell or "").stem in known for cell in column) / len(column) for column in columns)
        splits |= {one.file: one.split} if max(shares) > MOST else {}
    if not {*splits.values()} - {"", "train", TRAINVAL}:
        return []
    called = shown([file.name for file in splits], 5)
    advice = "write it into the list as a column 'split', with train and test."
    return [f"No published split is read, though one may be in {called}: {advice}"]


def open_published(
    folder: Path, files: Sequence[Path], request: Request, *, only: bool = False
) -> Opened | None:
    """Open class folders in the splits that lists beside them tell.

    Args:
        folder: The folder of the class folders.
        files: The lists; the first is the training split's where the user named it.
        request: The arguments of `load_long_tailed`.
        only: Whether the user named the first list itself.

    Returns:
        The rows of each split; None where there are no class folders, they tell the splits themselves, or no
        list does.

    Raises:
        DatasetError: Lists tell several splits, or contradict the class folders.

    Example:
        >>> open_published(Path("/nonexistent"), [], Request("photos")) is None
        True
    """
    given = [
        one for number, file in enumerate(files) for one in read_names(file, is_train=only and not number)
    ]
    if not given:
        return None
    try:
        reading = read_image_folder(folder, class_folder=request.class_folder)
    except DatasetError:
        return None
    if reading is None or reading.test is not None:
        return None
    found = _find(given, reading, only=only)
    if len(found) > 1:
        names = [" with ".join(_below(folder, file) for file in one.files[:2]) for one in found]
        raise DatasetError(
            f"{len(found)} published splits of '{folder.name}': {shown(names, 5)}.\n"
            f'Give the list of training images of one, e.g. `dataset="{found[0].files[0]}"`, and the folder '
            "of the images as `image_root`."
        )
    return _in_splits(reading, found[0]) if found else None


def _find(given: Sequence[ListedNames], reading: FolderReading, *, only: bool) -> list[_Split]:
    """The published splits, each once."""
    folders, sets = _ClassFolders(reading), dict[tuple[Path, str], list[_Matched]]()
    found: list[_Split] = []
    for one in map(folders.match, sorted(given, key=lambda one: one.split != "train")):
        names, rows = one.names, one.rows
        if not one.is_read:
            continue
        if names.split or names.file.suffix.lower() in TEXTS:
            if only and _tells_other_classes(one, reading.train):
                return []  # the user named a list of labels
            _check_labels(one, reading.train)
        if names.split:
            sets.setdefault((names.file.parent, without_split(names.file.name)), []).append(one)
            continue
        for name in columns_of_splits(names.listed):
            texts = [cell or "" for cell in names.listed.columns[name]]
            if told := rows_of_splits(name, texts, "train", is_told=True):
                parts = {split: [rows[k] for k in of if rows[k] >= 0] for split, of in told.items()}
                found.append(_Split((names.file,), parts, tuple(one.notes())))
    for lists in sets.values():
        lists = _without_trainval(lists)
        parts = {one.names.split: sorted(row for row in one.rows if row >= 0) for one in lists}
        if "train" in parts and (only or len(parts) > 1):
            lists.sort(key=lambda one: one.names.split != "train")
            files = dict.fromkeys(one.names.file for one in lists)
            notes = dict.fromkeys(note for one in lists for note in one.notes())
            found.append(_Split(tuple(files), parts, tuple(notes)))
    return [one for k, one in enumerate(found) if all(one.rows != other.rows for other in found[:k])]


def _without_trainval(lists: list[_Matched]) -> list[_Matched]:
    """The lists of a set, without trainval where train is there, else with it alone for train and val."""
    splits = {one.names.split for one in lists}
    if TRAINVAL not in splits:
        return lists
    left_out = TRAINVAL if "train" in splits else "validation"
    kept = [one for one in lists if one.names.split != left_out]
    called = {TRAINVAL: "train"}
    return [
        replace(one, names=replace(one.names, split=called.get(one.names.split, one.names.split)))
        for one in kept
    ]


def _tells_other_classes(one: _Matched, folders: datasets.Dataset) -> bool:
    """Whether a list's labels are others than the class folders."""
    beside = {"file": "label", "last": "first", "first": "last"}.get(one.column, "")
    told = one.names.listed.columns.get(beside)
    if not told:
        return False
    labels: list[Any] = folders["label"][:]
    pairs = {(labels[row], label) for row, label in zip(one.rows, told, strict=True) if row >= 0}
    is_index = len({label for _, label in pairs}) == len(one.rows)
    return not is_index and len(pairs) > min(len({pair[k] for pair in pairs}) for k in (0, 1))


def _check_labels(one: _Matched, folders: datasets.Dataset) -> None:
    """Refuse a list whose labels are others than the class folders."""
    if _tells_other_classes(one, folders):
        file = one.names.file
        raise DatasetError(
            f"The labels of {file.name} and the class folders tell different classes of the images.\n"
            f'Give `dataset="{file}"` and `image_root` for the labels, or take it away for the folders.'
        )


def _in_splits(reading: FolderReading, published: _Split) -> Opened:
    import datasets

    names, numbers = reading.train.features["label"].names, reading.train["label"][:]
    listed = {row for rows in published.rows.values() for row in rows}
    present = sorted({numbers[row] for row in listed})
    codes = {number: code for code, number in enumerate(present)}
    labels = [codes.get(number) for number in numbers]
    classes = datasets.ClassLabel(names=[names[number] for number in present])
    named = reading.train.remove_columns("label").add_column("label", labels, feature=classes)
    in_order = sorted(published.rows, key=lambda split: [*KINDS, split].index(split))
    once = {split: list(dict.fromkeys(published.rows[split])) for split in in_order}
    splits = {split: named.select(rows) for split, rows in once.items()}
    lists = shown([_below(reading.folder, file) for file in published.files], 5)
    notes = [f"Class folders in the splits of {lists}: {', '.join(splits)}.", *published.notes]
    if again := sum(len(published.rows[split]) - len(rows) for split, rows in once.items()):
        notes.append(
            f"{again:,} rows of {lists} name an image that an earlier row names; it is counted once."
        )
    if left := len(named) - len(listed):
        notes.append(f"{left:,} images of the class folders are in no split of {lists}, and are left out.")
    origin = replace(reading, left_out=_without(reading, published.files)).origin()
    record = {name: origin[name] for name in ("not_read", "empty_classes")}
    return Opened(splits, [*notes, *origin["notes"]], record)


def _without(reading: FolderReading, lists: Sequence[Path]) -> tuple[LeftOut, ...]:
    """What was not read, without the lists that were: as many fewer of their extensions."""
    used, names = (
        Counter(file.suffix.lower() for file in lists),
        {_below(reading.folder, one) for one in lists},
    )
    rest = []
    for row in reading.left_out:
        read = min(row.files, used[row.extension])
        used[row.extension] -= read
        alike = reading.folder.rglob(f"*{row.extension}") if row.example in names else ()
        others = sorted(path.relative_to(reading.folder).as_posix() for path in alike)
        example = next((name for name in others if name not in names), row.example)
        rest += [row._replace(files=row.files - read, example=example)] if read < row.files else []
    return tuple(rest)


def _below(folder: Path, file: Path) -> str:
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else file.name
