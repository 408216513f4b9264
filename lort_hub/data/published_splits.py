"""Split the images of class folders as lists beside them do: files of names, and no labels of their own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lort_hub.data.decoding import image_suffixes
from lort_hub.data.image_folder.names import KINDS, TRAINVAL, kind_of
from lort_hub.data.image_folder.read import read_image_folder
from lort_hub.data.image_folder.reading import FolderReading, LeftOut, shortened
from lort_hub.data.request import Opened, Request
from lort_hub.data.tables.column_names import is_called_labels
from lort_hub.data.tables.file_columns import find_file_column
from lort_hub.data.tables.image_files import ImageFiles
from lort_hub.data.tables.lists import FileList, read_list
from lort_hub.data.tables.splits import (
    rows_of_splits,
    split_in_name,
    split_of_file,
    tells_splits,
    without_split,
)
from lort_hub.errors import DatasetError

if TYPE_CHECKING:
    import datasets

TEXTS = (".txt", ".lst")
NEARLY_ALL = 0.9
"""Share of a list's names that are images of the class folders."""


@dataclass(frozen=True)
class _Names:
    """Names of images that one file gives to one split, with labels where it has them."""

    file: Path
    split: str
    listed: FileList


@dataclass(frozen=True)
class _Split:
    """A published split: the files that tell it, and the rows of the class folders in each of its parts."""

    files: tuple[Path, ...]
    rows: dict[str, list[int]]


def may_tell_splits(file: Path) -> bool:
    """Return whether a file is called as a list of the images of a split.

    Example:
        >>> [may_tell_splits(Path(name)) for name in ("TrainImages.txt", "split_zhou.json", "classes.txt")]
        [True, True, False]
    """
    return bool(split_in_name(file.stem)) or "split" in file.stem.lower()


def note_unread(files: Sequence[Path]) -> list[str]:
    """Name the files that may tell a published split and were not understood, in a note.

    Example:
        >>> note_unread([Path("train_list.mat")])[0].partition(":")[0]
        'No published split is read, though one may be in train_list.mat'
    """
    told = [file for file in files if may_tell_splits(file) or file.suffix.lower() not in TEXTS]
    names = [file.name for file in told if may_tell_splits(file) or any(_read(file, is_train=False))]
    advice = "write it as train.txt and test.txt, with the path of an image in each line."
    return [f"No published split is read, though one may be in {shortened(names)}: {advice}"] if names else []


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
    given = [one for number, file in enumerate(files) for one in _read(file, is_train=only and not number)]
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
            f"{len(found)} published splits of '{folder.name}': {shortened(names)}.\n"
            f'Give the list of training images of one, e.g. `dataset="{found[0].files[0]}"`, and the folder '
            "of the images as `image_root`."
        )
    return _in_splits(reading, found[0]) if found else None


def _read(file: Path, *, is_train: bool) -> Iterator[_Names]:
    """What a file may say of splits: nothing where it is no list."""
    try:
        if file.name == "train_test_split.txt":
            yield from _by_numbers(file)
        elif file.suffix.lower() == ".json":
            yield from _by_key(file)
        elif file.suffix.lower() in TEXTS or is_train:
            listed = _by_line(file, is_bare=is_train)
            split = "train" if is_train else _split_of(file) or ""
            if listed and (split or (is_called_labels(file.stem) and "label" in listed.columns)):
                yield _Names(file, split, listed)
        else:
            listed, split = read_list(file), _split_of(file) or ""
            if split or any(map(tells_splits, listed.columns)):
                yield _Names(file, split, listed)
    except (DatasetError, OSError, ValueError):
        return


def _by_line(file: Path, *, is_bare: bool) -> FileList | None:
    """A line for each image: its name, or its name and a label; None where it may hold more than names."""
    lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if lines and not set(lines[0]) & set("./") and any(set(line) & set("./") for line in lines[1:]):
        lines = lines[1:]  # the name of the column
    name = lines[0] if lines else ""
    if not name or (
        is_bare and Path(name).suffix.lower() not in image_suffixes() and set(name) & set(" ,;\t")
    ):
        return None
    pairs = [line.replace(",", " ").replace("\t", " ").rsplit(maxsplit=1) for line in lines]
    columns: dict[str, list[str | None]] = {"line": [*lines]}
    if all(len(pair) == 2 for pair in pairs):
        columns |= {"file": [pair[0] for pair in pairs], "label": [pair[1] for pair in pairs]}
    return FileList(file, columns)


def _by_key(file: Path) -> Iterator[_Names]:
    """An object of lists of names, or of lists that begin with one, by split."""
    content = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(content, dict) or not all(isinstance(rows, list) for rows in content.values()):
        return
    for key, rows in content.items():
        names = [row[0] if isinstance(row, list) and row else row for row in rows]
        if (split := kind_of(key)) and names and all(isinstance(name, str) for name in names):
            yield _Names(file, split, FileList(file, {"line": names}))


def _by_numbers(file: Path) -> Iterator[_Names]:
    """The two lists of CUB-200: images.txt with the name of each number, and whether it is trained on."""
    flags, names = (
        dict(line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        for path in (file, file.with_name("images.txt"))
    )
    for split, wanted in (("train", "1"), ("test", "0")):
        chosen: list[str | None] = [names[number] for number, flag in flags.items() if flag.strip() == wanted]
        if chosen:
            yield _Names(file, split, FileList(file, {"line": chosen}))


def _find(given: Sequence[_Names], reading: FolderReading, *, only: bool) -> list[_Split]:
    """The published splits, each once."""
    import datasets

    cells = reading.train.cast_column("image", datasets.Image(decode=False))["image"][:]
    rows = {cell["path"]: row for row, cell in enumerate(cells)}
    images, sets = ImageFiles([reading.folder]), dict[tuple[Path, str], list[tuple[_Names, list[int]]]]()
    found: list[_Split] = []
    for one in sorted(given, key=lambda one: one.split != "train"):
        column = find_file_column(one.listed, images, split=one.split)
        paths = [
            images.find(cell, one.split, column.skip) if cell and column else None
            for cell in one.listed.columns[column.name if column else next(iter(one.listed.columns))]
        ]
        chosen = [rows.get(path, -1) if isinstance(path, str) else -1 for path in paths]
        if not chosen or sum(row >= 0 for row in chosen) < NEARLY_ALL * len(chosen):
            continue
        assert column is not None
        if one.split or one.file.suffix.lower() in TEXTS:
            _check_labels(one, column.name, chosen, reading.train)
        if one.split:
            key = (one.file.parent, without_split(one.file.name))
            sets.setdefault(key, []).append((one, [row for row in chosen if row >= 0]))
            continue
        for name in filter(tells_splits, one.listed.columns):
            texts = [cell or "" for cell in one.listed.columns[name]]
            if told := rows_of_splits(name, texts, "train", is_told=True):
                parts = {split: [chosen[k] for k in of if chosen[k] >= 0] for split, of in told.items()}
                found.append(_Split((one.file,), parts))
    for lists in sets.values():
        lists = _without_trainval(lists)
        parts = {one.split: sorted(of) for one, of in lists}
        if "train" in parts and (only or len(parts) > 1):
            files = dict.fromkeys(
                one.file for one, _ in sorted(lists, key=lambda pair: pair[0].split != "train")
            )
            found.append(_Split(tuple(files), parts))
    return [one for k, one in enumerate(found) if all(one.rows != other.rows for other in found[:k])]


def _split_of(file: Path) -> str | None:
    split = split_in_name(file.stem)
    return split and (TRAINVAL if split_of_file(Path(file.name)) == TRAINVAL else split)


def _without_trainval(lists: list[tuple[_Names, list[int]]]) -> list[tuple[_Names, list[int]]]:
    """The lists of a set, without trainval where train is there, else with it alone for train and val."""
    splits = {one.split for one, _ in lists}
    if TRAINVAL not in splits:
        return lists
    left_out = TRAINVAL if "train" in splits else "validation"
    kept = [(one, rows) for one, rows in lists if one.split != left_out]
    return [(replace(one, split="train") if one.split == TRAINVAL else one, rows) for one, rows in kept]


def _check_labels(one: _Names, column: str, rows: Sequence[int], folders: datasets.Dataset) -> None:
    """Refuse a list whose labels are others than the class folders."""
    if column != "file" or "label" not in one.listed.columns:
        return
    labels: list[Any] = folders["label"][:]
    pairs = {
        (labels[row], label) for row, label in zip(rows, one.listed.columns["label"], strict=True) if row >= 0
    }
    is_index = len({label for _, label in pairs}) == len(rows)
    if not is_index and len(pairs) > min(len({pair[k] for pair in pairs}) for k in (0, 1)):
        raise DatasetError(
            f"The labels of {one.file.name} and the class folders tell different classes of the images.\n"
            f'Give `dataset="{one.file}"` and `image_root` for the labels, or take it away for the folders.'
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
    lists = shortened([_below(reading.folder, file) for file in published.files])
    notes = [f"Class folders in the splits of {lists}: {', '.join(splits)}."]
    if again := sum(len(published.rows[split]) - len(rows) for split, rows in once.items()):
        notes.append(
            f"{again:,} rows of {lists} name an image that an earlier row names; it is counted once."
        )
    if left := len(named) - len(listed):
        notes.append(f"{left:,} images of the class folders are in no split of {lists}, and are left out.")
    used = Counter(file.suffix.lower() for file in published.files)
    origin = replace(reading, left_out=_without(reading.left_out, used)).origin()
    record = {name: origin[name] for name in ("not_read", "empty_classes")}
    return Opened(splits, [*notes, *origin["notes"]], record)


def _without(left_out: Sequence[LeftOut], used: Counter[str]) -> tuple[LeftOut, ...]:
    """What was not read, without the lists that were, by their extensions."""
    rest = []
    for row in left_out:
        read = min(row.files, used[row.extension])
        used[row.extension] -= read
        rest += [row._replace(files=row.files - read)] if read < row.files else []
    return tuple(rest)


def _below(folder: Path, file: Path) -> str:
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else file.name
