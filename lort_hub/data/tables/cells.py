"""Read the cells of lists in text: separated by commas, semicolons, tabs, bars or blanks."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from lort_hub.data.decoding import image_suffixes
from lort_hub.data.tables.column_names import is_usual
from lort_hub.errors import DatasetError

MOST_TITLES = 3
"""Lines above the names of the columns that may be titles."""


def read_cells(text: str, path: Path) -> tuple[list[list[str]], tuple[str, ...]]:
    r"""Read the rows of a list, and notes of the lines above them that are left out.

    Args:
        text: Content of the list.
        path: Its file.

    Raises:
        DatasetError: It cannot be read, or its rows have one cell.

    Example:
        >>> read_cells("sep=;\nimage;label\n0.jpg;ant", Path("labels.csv"))
        ([['image', 'label'], ['0.jpg', 'ant']], ())
        >>> read_cells("0.jpg black bear", Path("train.txt"))[0]
        [['0.jpg', 'black bear']]
    """
    text, separator, comments = _without_comments(text)
    lines = [line.strip() for line in re.split(r"\r\n|\n|\r", text) if line.strip()]
    if not any(line.strip('",;\t| ') for line in lines):
        raise DatasetError(f"'{path}' is empty; expected a line for each image.")
    if not separator and path.suffix.lower() in (".txt", ".lst") and not set(lines[0]) & set(",;\t"):
        rows = _blank_separated(lines)
    else:
        rows = _separated(text, separator or _separator(lines), path)
    titles = _titles(rows)
    rows = rows[len(titles) :]
    if len(rows[0]) < 2:
        raise DatasetError(
            f"'{path}' has one column, '{rows[0][0][:60]}'; expected a column of files and one of labels,\n"
            "separated by commas, semicolons or tabs."
        )
    above = [*comments, *titles]
    return rows, tuple(f"A line above the rows of {path.name} is left out: {line[:60]}" for line in above)


def _without_comments(text: str) -> tuple[str, str, list[str]]:
    """A list without Excel's sep= and comments above it, the separator told by that, and the comments."""
    lines, separator = text.lstrip("\r\n").splitlines(keepends=True), ""
    if told := re.fullmatch(r'"?sep=([,;\t|])"?', lines[0].strip("\r\n "), re.IGNORECASE):
        lines, separator = lines[1:], told[1]
    count = next((k for k, line in enumerate(lines) if not line.startswith("#")), 0)
    comments = lines[:count]
    if not count or any(map(is_file_name, _words(" ".join(comments)))):
        return "".join(lines), separator, []
    is_numbered = bool(re.match(r"#[,;\t|]", comments[-1]))  # a column called #
    header = comments[-1] if is_numbered else comments[-1].lstrip("# ")
    names = _words(header)
    is_as_wide = 1 < len(names) == len(_words(lines[count])) and (is_numbered or " " not in header)
    if (any(map(is_usual, names[1:])) or is_as_wide) and not any(map(is_usual, _words(lines[count]))):
        return "".join([header, *lines[count:]]), separator, [line.strip() for line in comments[:-1]]
    return "".join(lines[count:]), separator, [line.strip() for line in comments]


def _words(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"[,;\t|]", line)]


def _blank_separated(lines: Sequence[str]) -> list[list[str]]:
    """Files and labels that may hold blanks, cut behind the extension of an image where there is one.

    Several numbers behind a file are cells of their own.
    """
    firsts = [line.split(maxsplit=1)[0] for line in lines]
    are_files = 2 * len(set(firsts)) > len(firsts)
    rows = [_cut(line, are_files) for line in lines]
    numbers = [row[-1].split() for row in rows]
    is_numbers = all(re.fullmatch(r"-?[\d.]+", number) for row in numbers for number in row)
    if is_numbers and {len(row) for row in numbers} == {len(numbers[0])}:
        return [[*row[:-1], *own] for row, own in zip(rows, numbers, strict=True)]
    return rows


def _cut(line: str, is_first_file: bool) -> list[str]:
    """A file and its label; where no extension ends the file, it is the first word or all but the last."""
    ends = (match.end() for match in re.finditer(r"\.\w+(?=\s)", line))
    if end := next((end for end in ends if is_file_name(line[:end])), None):
        return [line[:end], line[end:].strip()]
    return line.split(maxsplit=1) if is_first_file and not is_file_name(line) else line.rsplit(maxsplit=1)


def _separator(lines: Sequence[str]) -> str:
    """The mark that all of the first lines have, apart from titles."""
    for titles in range(MOST_TITLES + 1):
        below = lines[titles : titles + 20]
        counts = {mark: [line.count(mark) for line in below] for mark in "\t;,|"}
        if below and any(min(count) for count in counts.values()):
            break
    else:
        counts = {mark: [line.count(mark) for line in lines[:20]] for mark in "\t;,|"}
    return max(counts, key=lambda mark: (min(counts[mark]), counts[mark][0]))


def _separated(text: str, separator: str, path: Path) -> list[list[str]]:
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # cells hold outlines and whole images
    try:
        cells = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
        return [[cell.strip() for cell in row] for row in cells if any(row)]
    except csv.Error as cause:
        raise DatasetError(f"Cannot read '{path}': {cause}.") from cause


def _titles(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of one cell above the names of the columns."""
    filled = [[cell for cell in row if cell] for row in rows[: MOST_TITLES + 1]]
    header = next((k for k, row in enumerate(filled) if len(row) > 1), 0)
    return [row[0] for row in filled[:header] if row] if any(map(is_usual, rows[header])) else []


def without_boxes(rows: list[list[str]]) -> tuple[list[list[str]], list[int]]:
    """Leave the boxes out of columns of words with four numbers each, as ImageNet's lists have them.

    Args:
        rows: The rows of a list.

    Returns:
        The rows, and the places of those columns: in each, all boxes of a row are of one word.

    Example:
        >>> without_boxes([["0", "n01440764 1 2 3 4 n01440764 5 6 7 8"], ["1", "n01443537 1 2 3 4"]])
        ([['0', 'n01440764'], ['1', 'n01443537']], [1])
    """
    width = min(map(len, rows), default=0)
    boxes = [k for k in range(width) if all(_word_of_boxes(row[k]) for row in rows)]
    if not boxes:
        return rows, boxes
    return [
        [_word_of_boxes(cell) if k in boxes else cell for k, cell in enumerate(row)] for row in rows
    ], boxes


def _word_of_boxes(cell: str) -> str:
    """The one word of a cell's boxes; empty where it holds something else."""
    parts = cell.split()
    words, numbers = set(parts[::5]), [part for k, part in enumerate(parts) if k % 5]
    is_boxes = len(parts) % 5 == 0 and len(words) == 1 and all(number.isdecimal() for number in numbers)
    return words.pop() if is_boxes and not parts[0].isdecimal() else ""


def is_file_name(cell: str) -> bool:
    """Tell whether a text ends as the names of image files do.

    Example:
        >>> is_file_name("imgs/7.PNG"), is_file_name("7")
        (True, False)
    """
    return PurePosixPath(cell.replace("\\", "/")).suffix.lower() in image_suffixes()
