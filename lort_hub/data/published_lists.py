"""Read the lists that may tell a published split of class folders: names of images, and no labels needed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from lort_hub.data.decoding import image_suffixes
from lort_hub.data.image_folder.names import TRAINVAL, is_trainval, kind_of
from lort_hub.data.tables.cells import is_file_name
from lort_hub.data.tables.column_names import is_called_labels, is_label, is_usual
from lort_hub.data.tables.json_lists import ends_with_label
from lort_hub.data.tables.label_texts import may_be_labels
from lort_hub.data.tables.lists import FileList, read_list, text_of
from lort_hub.data.tables.splits import may_be_splits, split_in_name, split_of_file, tells_splits
from lort_hub.errors import DatasetError

TEXTS = (".txt", ".lst")
_NUMBERED = re.compile(r"(.+?)([\s,;]+\d+){2,}$")
"""A line of a name and several numbers, any of which may be the label."""


@dataclass(frozen=True)
class ListedNames:
    """Names of images that one file gives to one split, with labels where it has them.

    Attributes:
        file: The file.
        split: The split; empty where a column tells it.
        listed: The names, as a list.
    """

    file: Path
    split: str
    listed: FileList


def columns_of_splits(listed: FileList) -> list[str]:
    """List the columns called as those of splits, else the first called as one of sets that holds such words.

    Example:
        >>> cells = {"file": ["0.jpg", "1.jpg"], "subset": ["train", "test"], "set": ["north", "south"]}
        >>> columns_of_splits(FileList(Path("a.csv"), cells))
        ['subset']
    """
    texts = {name: [cell or "" for cell in cells] for name, cells in listed.columns.items()}
    sure = [name for name in texts if tells_splits(name)]
    return (
        sure
        or [name for name, cells in texts.items() if may_be_splits(name, cells) and _are_kinds(cells)][:1]
    )


def _are_kinds(cells: Sequence[str]) -> bool:
    """Tell whether what holds the word of a split is that word alone, and no 'train station'."""
    return all(kind_of(cell) or is_trainval(cell) for cell in set(cells) if split_in_name(cell))


def may_tell_splits(file: Path) -> bool:
    """Return whether a file is called as a list of the images of a split.

    Example:
        >>> [may_tell_splits(Path(name)) for name in ("TrainImages.txt", "split_zhou.json", "classes.txt")]
        [True, True, False]
    """
    return bool(split_in_name(file.stem)) or any(word in file.stem.lower() for word in ("split", "partition"))


def read_names(file: Path, *, is_train: bool = False) -> Iterator[ListedNames]:
    """Read what a file may say of splits: nothing where it is no list.

    Args:
        file: The file.
        is_train: Whether the user named it as the list of the training split.

    Example:
        >>> list(read_names(Path("/nonexistent/train.txt")))
        []
    """
    try:
        if file.name == "train_test_split.txt":
            yield from _by_numbers(file)
        elif file.suffix.lower() == ".json":
            yield from _by_key(file)
        elif file.suffix.lower() in TEXTS or is_train or _has_one_column(file):
            listed = _by_line(file, is_bare=is_train)
            split = "train" if is_train else _split_of(file) or ""
            if listed and (split or _are_labels(file, listed)):
                yield ListedNames(file, split, listed)
        else:
            listed, split = read_list(file), _split_of(file) or ""
            if split or columns_of_splits(listed):
                yield ListedNames(file, split, listed)
    except (DatasetError, OSError, ValueError, RecursionError):
        return


def _has_one_column(file: Path) -> bool:
    """Tell whether a table has names alone: one cell a line, numbers only below a name, and files twice."""
    if file.suffix.lower() not in (".csv", ".tsv"):
        return False
    cells = [cell for line in text_of(file)[0].splitlines() if (cell := line.strip(' ,"'))]
    are_names = len(set(cells)) == len(cells) or all(map(is_file_name, cells[1:]))
    are_numbers = any(re.fullmatch(r"[\d.+-]*", cell) for cell in cells)
    are_names &= not are_numbers or (_is_called_as_files(cells[0]) and not is_label(cells[0]))
    return are_names and not any(set(cell) & set(",;\t|") for cell in cells)


def _by_line(file: Path, *, is_bare: bool) -> FileList | None:
    """A line for each image: its name, or its name and a label; None where it may hold more than names."""
    plain = (line.replace('"', "").strip(" \t,;") for line in text_of(file)[0].splitlines())
    lines = [line for line in plain if line]
    names = [name for name in re.split(r"[][,;'\s]+", lines[0]) if name] if len(lines) == 1 else []
    if len(names) > 1 and all(map(is_file_name, names)):  # all in one line
        lines = names
    if _begin_with_a_name(lines):
        lines = lines[1:]
    name = lines[0] if lines else ""
    if not name or (
        is_bare and Path(name).suffix.lower() not in image_suffixes() and set(name) & set(" ,;\t")
    ):
        return None
    pairs = _split_lines(lines)
    columns: dict[str, list[str | None]] = {"line": [*lines]}
    if several := [match for line in lines if (match := _NUMBERED.match(line))]:
        columns |= {"file": [match[1] for match in several]} if len(several) == len(lines) else {}
    elif pairs:
        firsts, lasts = ([pair[k] for pair in pairs] for k in (0, 1))
        labels = _labels_before(firsts, lasts)
        columns |= (
            {"first": [*labels], "last": [*lasts]} if labels else {"file": [*firsts], "label": [*lasts]}
        )
    return FileList(file, columns)


def _begin_with_a_name(lines: Sequence[str]) -> bool:
    """Tell whether the first line is the name of the column: no path above paths, or called as files are."""
    first, rest = lines[:1], lines[1:]
    if not first or not rest or set(first[0]) & set("./\\"):
        return False
    is_name = _is_called_as_files(first[0]) and not _is_called_as_files(rest[0])
    return is_name or any(set(line) & set("./") for line in rest)


def _is_called_as_files(name: str) -> bool:
    return is_usual(name) or name.lower() == "id"


def _split_lines(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Split lines at their last mark, at commas where files stand beside them; none where one has no mark."""
    for marks in (r";\t", ",", r"\s,;"):
        matches = (re.fullmatch(rf"(.*)[{marks}](.*)", line) for line in lines)
        pairs = [(match[1].rstrip(" ,;\t"), match[2].strip()) for match in takewhile(bool, matches) if match]
        if len(pairs) < len(lines):
            continue
        if marks != "," or any(all(is_file_name(pair[k]) for pair in pairs) for k in (0, 1)):
            return pairs
    return []


def _labels_before(firsts: Sequence[str], lasts: Sequence[str]) -> Sequence[str]:
    """Labels that come before files; none where names hold blanks or commas, or rows are numbered."""
    if any(is_file_name(first) or set(first) & set("/\\") for first in firsts):
        return []
    if not all(is_file_name(last) or "/" in last for last in lasts):
        return []
    cells = zip(*(re.split(r"[\s,;]+", first) for first in firsts), strict=False)
    columns = [firsts, *reversed(list(cells))]
    return next(filter(may_be_labels, columns), [])


def _by_key(file: Path) -> Iterator[ListedNames]:
    """Names, or lists that begin with one and end with its label: a list of them, or an object by split."""
    content = json.loads(text_of(file)[0])
    if isinstance(content, list):
        content = {_split_of(file) or "": content}
    if not isinstance(content, dict) or not all(isinstance(rows, list) for rows in content.values()):
        return
    for key, rows in content.items():
        names = [row[0] if isinstance(row, list) and row else row for row in rows]
        split = TRAINVAL if is_trainval(key) else kind_of(key)
        if split and names and all(isinstance(name, str) for name in names):
            columns: dict[str, list[str | None]] = {"file": names}
            labels = [str(row[-1]) for row in rows if ends_with_label(row)]
            if len(labels) == len(rows) and len(set(labels)) > 1:
                columns["label"] = [*labels]
            yield ListedNames(file, split, FileList(file, columns))


def _by_numbers(file: Path) -> Iterator[ListedNames]:
    """The two lists of CUB-200: images.txt with the name of each number, and whether it is trained on."""
    flags, names = (
        dict(line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        for path in (file, file.with_name("images.txt"))
    )
    for split, wanted in (("train", "1"), ("test", "0")):
        numbers = [number for number, flag in flags.items() if flag.strip() == wanted]
        chosen: list[str | None] = [names[number] for number in numbers if number in names]
        if chosen:
            yield ListedNames(file, split, FileList(file, {"line": chosen}))


def _are_labels(file: Path, listed: FileList) -> bool:
    """Whether a list is called as one of labels and has some; numbers may be counts, but in `labels`."""
    labels = listed.columns.get("label") or []
    is_of_labels = "label" in file.stem.lower() or not all((label or "").isdigit() for label in labels)
    return bool(labels) and is_called_labels(file.stem) and is_of_labels


def _split_of(file: Path) -> str | None:
    split = split_in_name(file.stem)
    return split and (TRAINVAL if split_of_file(Path(file.name)) == TRAINVAL else split)
