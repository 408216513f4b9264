"""Tell which texts are no name of one class: those of a missing label, and those of several labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lort_hub.errors import DatasetError

if TYPE_CHECKING:
    import datasets

NO_VALUES = ("nan", "NaN", "<NA>", "NaT")
"""Texts that pandas writes where there is no value."""

EXCEL_ERRORS = ("#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NULL!", "#NUM!")
MAYBE_NO_VALUES = ("NA", "N/A", "n/a", "None", "null", "NULL", *EXCEL_ERRORS)
"""Texts that stand for no value, or are the name of a class."""

BLANKS = frozenset(
    ("-", "--", "?", ".", "nil", "n.a.", "(blank)", "tbd", "missing", "no label", "not labeled", "unlabeled")
) | {"unlabelled", "not labelled", "unannotated", "not annotated", "unknown", "unidentified", "unspecified"}
"""Texts, in any capitals, that may be no value, and beside numbers a sign."""

FAR_OFF = (255, 999, 9999, 65535)
"""Numbers that stand for no value where all others are far below."""

CONFIDENCES = ("confidence", "present", "is_present", "presence", "verified", "is_verified")
"""Columns whose 0 says that an image does not show what its label says."""


def may_be_labels(cells: Sequence[str]) -> bool:
    """Tell whether what stands before files may be their labels, and no ids or sizes.

    Labels repeat; where they are numbers, they begin at 0 or 1 and are not mostly skipped.

    Args:
        cells: A cell of each row.

    Example:
        >>> may_be_labels(["1", "2", "1"]), may_be_labels(["ant", "bee", "ant"])
        (True, True)
        >>> may_be_labels(["640", "480", "640"]), may_be_labels(["0", "1", "2"])
        (False, False)
    """
    values = set(cells)
    if not 1 < len(values) < len(cells):
        return False
    numbers = [int(value) for value in values if re.fullmatch(r"\d{1,9}", value)]
    return len(numbers) < len(values) or (min(numbers) <= 1 and max(numbers) <= 2 * len(numbers))


def check_single(names: Sequence[str], column: str) -> None:
    """Refuse texts of several labels, such as "ant|bee" beside "ant", or "0 25" beside "0".

    Args:
        names: The different texts.
        column: Their column, for messages.

    Raises:
        DatasetError: One is several labels.

    Example:
        >>> check_single(["insect;ant", "insect;bee"], "label")
    """
    known = set(names)
    for separator in "|;,+ " if _are_numbers(names) else "|;,+":
        parts_of = {name: [part.strip() for part in name.split(separator)] for name in names}
        several = {name: parts for name, parts in parts_of.items() if len(parts) > 1}
        shared = _shared(several, known) if separator in "|;" and not _are_paths(parts_of) else set()
        shared = known if separator == " " else shared
        for name, parts in several.items():
            alone = parts if set(parts) <= known else sorted(shared & set(parts))
            if alone:
                where = "classes of their own" if set(alone) <= known else "in other names too"
                raise DatasetError(
                    f"Column '{column}' holds several labels a row: '{name}', where "
                    f"{' and '.join(alone)} are {where}.\n"
                    "Expected one class per image; multi-label data are not read. Write the one class "
                    "of each image in a column of its own.\n"
                    f"Where '{name}' is a class of its own, as a hybrid is, write it without "
                    f"'{separator}': '{_joined(parts)}'."
                )


def _are_numbers(names: Sequence[str]) -> bool:
    """Whether names are numbers, one or several of them, and no long ones with blanks as in 10 000."""
    return all(re.fullmatch(r"\d+( \d+)*", name) for name in names) and not any(
        re.fullmatch(r"\d{1,3}( \d{3})+", name) for name in names
    )


def _joined(parts: Sequence[str]) -> str:
    return " x ".join(filter(None, parts))


def _shared(several: Mapping[str, Sequence[str]], known: set[str]) -> set[str]:
    """Parts of names that are classes, or parts of other names."""
    counts = Counter(part for parts in several.values() for part in set(parts) if part)
    return {part for part, count in counts.items() if count > 1 or part in known}


def _are_paths(parts_of: Mapping[str, Sequence[str]]) -> bool:
    """Whether names have as many parts, each at its own place, as those of a taxonomy."""
    places = {(part, at) for parts in parts_of.values() for at, part in enumerate(parts) if part}
    lengths = {len(parts) for parts in parts_of.values()}
    return len(lengths) == 1 and len(places) == len({part for part, _ in places})


def _note_numbers(values: Sequence[float | None]) -> list[str]:
    """Say that the one negative number, or 255 and the like far above the others, is a class."""
    present = sorted({value for value in values if value is not None})
    negative = [value for value in present if value < 0]
    signs = negative if len(negative) == 1 and present not in ([-1, 1], [-1, 0, 1]) else []
    is_far_off = len(present) > 2 and present[-1] in FAR_OFF and 2 * present[-2] < present[-1]
    signs += present[-1:] if is_far_off else []
    return [
        f"'{value:g}' is read as a class, of {values.count(value):,} rows: leave them out where it means no "
        "label."
        for value in signs
    ]


def note_doubtful_names(rows: datasets.Dataset, column: str) -> list[str]:
    """Say which texts may be no name of a class: those for a missing label, and several names in one.

    Args:
        rows: Training rows.
        column: Column of the labels.

    Example:
        >>> import datasets
        >>> rows = datasets.Dataset.from_dict({"label": ["sea", "NA", "lion", "sea lion", "NA"]})
        >>> for note in note_doubtful_names(rows, "label"):
        ...     print(note.partition(":")[0])
        'NA' is read as a class, of 2 rows
        'sea lion' is read as a class beside 'sea' and 'lion', of 1 rows
    """
    kind = getattr(rows.features[column], "dtype", "")
    if kind not in ("string", "large_string"):
        numbers = rows[column][:] if kind.startswith(("int", "uint", "float")) else []
        return _note_numbers(numbers) + _note_absent(rows, column)
    counts = Counter(str(value).strip() for value in rows[column][:] if value is not None)
    notes = [
        f"'{text}' is read as a class, of {counts[text]:,} rows: leave them out where it means no label."
        for text in sorted(counts)
        if text in MAYBE_NO_VALUES or text.lower() in BLANKS
    ]
    ways = {
        text: [[part for part in re.split(marks, text) if part != "and"] for marks in (r"[\s/&_-]+", r"\s+")]
        for text in counts
    }
    parts_of = {
        text: next((parts for parts in both if len(parts) > 1 and counts.keys() >= set(parts)), [])
        for text, both in ways.items()
    }
    several = [text for text, parts in parts_of.items() if parts]
    notes += [
        f"'{text}' is read as a class beside {' and '.join(map(repr, parts_of[text]))}, of {counts[text]:,} "
        "rows: leave them out where it means both."
        for text in several[:3]
    ]
    notes += _note_beginnings([text for text in counts if text not in several], set(counts))
    return notes + _note_lists(list(counts)) + _note_tags(list(counts)) + _note_absent(rows, column)


def _note_lists(names: Sequence[str]) -> list[str]:
    """Say that most names with a comma share their parts, now first and now last, as lists of labels do."""
    parts_of = {
        name: [part.strip() for part in name.split(",")] for name in names if name.strip(",").count(",")
    }
    places: dict[str, set[int]] = {}
    for parts in parts_of.values():
        for at, part in enumerate(parts):
            places.setdefault(part, set()).add(at)
    mixed = [name for name, parts in parts_of.items() if any(len(places[part]) > 1 for part in parts)]
    if len(mixed) < 2 or 2 * len(mixed) <= len(parts_of):
        return []
    return [
        f"{len(mixed):,} classes with a comma share what they list, such as '{mixed[0]}' and '{mixed[1]}': "
        "leave them out where they mean several labels."
    ]


def _note_tags(names: Sequence[str]) -> list[str]:
    """Say that names of one word and more are made of half as many words as there are names, as tags are."""
    several = [name.split() for name in names if " " in name]
    words = {word for parts in several for word in parts}
    if len(set(map(len, several))) < 2 or 2 * len(words) > len(several):
        return []
    return [
        f"{len(several):,} classes are made of {len(words):,} words, such as '{' '.join(several[0])}' and "
        f"'{' '.join(several[-1])}': leave them out where they mean several labels."
    ]


def _note_absent(rows: datasets.Dataset, column: str) -> list[str]:
    """Say how many rows a column beside the labels may call wrong."""
    notes = []
    for name in (name for name in rows.column_names if name.lower() in CONFIDENCES and name != column):
        cells = [str(cell).lower() for cell in rows[name][:]]
        absent = sum(cell in ("0", "0.0", "false", "no") for cell in cells)
        if 0 < absent < len(cells):
            notes.append(
                f"Column '{name}' says 0 or no in {absent:,} of {len(cells):,} rows, which are read like the "
                "others: leave them out where it says that the label is wrong."
            )
    return notes


def _note_beginnings(names: Sequence[str], known: set[str]) -> list[str]:
    """Say that most names with a mark begin with another class, as texts of several labels do."""
    notes = []
    for mark in ",/+&":
        beginnings = {name: name.split(mark)[0].strip() for name in names if name.strip(mark).count(mark)}
        others = {name: first for name, first in beginnings.items() if first in known}
        if len(others) > 1 and 2 * len(others) > len(beginnings):
            name, first = next(iter(others.items()))
            notes.append(
                f"{len(others):,} of {len(beginnings):,} classes with a '{mark}' begin with another class, "
                f"as '{name}' with '{first}': leave them out where they mean several labels."
            )
    return notes
