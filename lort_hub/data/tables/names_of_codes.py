"""Find names of classes called by codes, such as 0295 or n01440764, in a file or a column beside them."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lort_hub.data.tables.cells import is_file_name
from lort_hub.data.tables.lists import text_of

if TYPE_CHECKING:
    import datasets

LISTS_OF_NAMES = (".txt", ".csv", ".tsv", ".json")
MOST_FILES, MOST_BYTES = 1000, 2**22
"""Entries of a folder that are looked at, and the size of a file above which it is no list of names."""
_CODE = re.compile(r"[A-Za-z]{0,2}\d+")
_WORDNET = re.compile(r"n\d{8}")


def note_names(names: Sequence[str], rows: datasets.Dataset, label: str, folder: Path | None) -> list[str]:
    """Say where the names of classes that are called by codes are told, in notes.

    Args:
        names: Names of the classes.
        rows: The training rows.
        label: Their column of labels.
        folder: The data folder, or None where there is none.

    Example:
        >>> import datasets
        >>> rows = datasets.Dataset.from_dict({"label": [0, 1] * 3, "insect": ["ant", "bee"] * 3})
        >>> note_names(["0", "1"], rows, "label", None)
        ["The classes are called by codes, and column 'insect' names each, as '0' is 'ant'. It is not read."]
    """
    if not all(map(_CODE.fullmatch, names)):
        return []
    codes = {_plain(name): name for name in names}
    for where, told in [*_in_columns(rows, label), *(_in_files(folder, codes) if folder else ())]:
        if codes.keys() <= told.keys() and len({told[code] for code in codes}) == len(codes):
            code = next(iter(codes))
            such = f"names each, as '{codes[code]}' is '{told[code]}'"
            return [f"The classes are called by codes, and {where} {such}. It is not read."]
    return []


def _plain(code: str) -> str:
    return code.lstrip("0") or "0"


def _in_columns(rows: datasets.Dataset, label: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Columns of texts, with the text beside each label where that is one alone."""
    kinds = {name: str(getattr(kind, "dtype", "")) for name, kind in rows.features.items() if name != label}
    if not str(getattr(rows.features[label], "dtype", "")).startswith(("int", "uint", "string")):
        return
    labels = [_plain(str(value)) for value in rows[label][:]]
    for name in (name for name, kind in kinds.items() if kind in ("string", "large_string")):
        pairs = set(zip(labels, rows[name][:], strict=True))
        told = dict(pairs)
        if len(pairs) == len(told) and any(map(_is_name, told.values())):
            yield f"column '{name}'", told


def _in_files(folder: Path, codes: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Files in the folder, and in those in it that are no classes, with the name of each code."""
    inner = [entry for entry in _entries(folder) if entry.is_dir() and _plain(entry.name) not in codes]
    for place in (folder, *(Path(entry.path) for entry in inner)):
        for entry in _entries(place):
            file = Path(entry.path)
            if (
                file.suffix.lower() in LISTS_OF_NAMES
                and entry.is_file()
                and entry.stat().st_size < MOST_BYTES
            ):
                with suppress(OSError, ValueError, RecursionError, csv.Error):
                    yield file.name, _names_in(file, codes)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as entries:
        return sorted(islice(entries, MOST_FILES), key=lambda entry: entry.name)
    return []


def _names_in(file: Path, codes: Mapping[str, str]) -> dict[str, str]:
    """The name beside each code; none where a file has rows of other things, as of images."""
    text = text_of(file)[0]
    rows = _json_rows(json.loads(text)) if file.suffix.lower() == ".json" else list(_lines(text))
    if len(rows) > 2 * len(codes) + 2 and not all(map(_WORDNET.fullmatch, codes)):
        return {}
    for at in range(min(map(len, rows), default=0)):
        pairs = {_plain(row[at]): next(filter(_is_name, (*row[:at], *row[at + 1 :])), "") for row in rows}
        told = {code: pairs.get(code, "") for code in codes}
        if all(told.values()):
            return told
    return {}


def _json_rows(content: Any) -> list[list[str]]:
    if isinstance(content, dict):
        return [[str(key), value] for key, value in content.items() if isinstance(value, str)]
    rows = content if isinstance(content, list) else []
    return [[str(cell) for cell in row.values()] for row in rows if isinstance(row, dict)]


def _lines(text: str) -> Iterator[list[str]]:
    """Cells of each line by its tabs or commas, one of them a code; else a word at an end and the rest."""
    for line in filter(None, map(str.strip, text.splitlines())):
        mark = "\t" if "\t" in line else ","
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=mark))]
        first, _, rest = line.partition(" ")
        before, _, last = line.rpartition(" ")
        words = [first.rstrip(":,"), rest.strip()] if _CODE.fullmatch(first.rstrip(":,")) else [last, before]
        yield cells if len(cells) > 1 and any(map(_CODE.fullmatch, cells)) else words


def _is_name(cell: Any) -> bool:
    """Whether a cell holds letters, and is no file and no other code."""
    is_text = isinstance(cell, str) and bool(re.search(r"[^\W\d_]{2}", cell))
    return is_text and not is_file_name(cell) and not _CODE.fullmatch(cell) and "://" not in cell
