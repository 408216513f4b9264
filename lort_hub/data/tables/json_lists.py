"""Read the forms in which JSON lists image files and their labels, apart from COCO's."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lort_hub.data.image_folder.names import are_parts, is_trainval
from lort_hub.data.tables.cells import is_file_name
from lort_hub.data.tables.splits import split_in_name
from lort_hub.errors import DatasetError

Columns = dict[str, list[str | None]]
_OF_STYLEGAN = re.compile(r"\d{5}/img\d{8}\.")
"""What StyleGAN calls images, by their number: the folders hold a thousand each, and are no classes."""


def columns_of(rows: Sequence[dict[str, Any]]) -> Columns:
    """Gather the cells of objects by column, as texts.

    Example:
        >>> columns_of([{"file": "0.jpg", "label": 1}, {"file": "1.jpg"}])
        {'file': ['0.jpg', '1.jpg'], 'label': ['1', None]}
    """
    rows = [_with_class_name(row) for row in rows]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [_as_text(row.get(name)) for row in rows] for name in names}


def _with_class_name(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a SageMaker manifest with the name of its class in place of its number."""
    if "source-ref" not in row:
        return row
    told = {name.removesuffix("-metadata"): cell for name, cell in row.items() if name.endswith("-metadata")}
    names = {
        job: cell["class-name"]
        for job, cell in told.items()
        if isinstance(cell, dict) and "class-name" in cell
    }
    return {name: cell for name, cell in row.items() if not name.endswith("-metadata")} | names


def columns_of_json(content: Any, path: Path) -> tuple[Columns, bool]:
    """Read a list of objects, or rows of each split, labels by file, files by class, columns, or pairs.

    Args:
        content: Parsed JSON.
        path: Its file, for messages.

    Returns:
        The columns, and whether the file may be a report, or tell the splits of class folders alone: lists of
        lists, files by class, columns, a list in an object, or pairs that are not StyleGAN's.

    Raises:
        DatasetError: It is none of these.

    Example:
        >>> columns_of_json({"0.jpg": "ant"}, Path("labels.json"))
        ({'file': ['0.jpg'], 'label': ['ant']}, False)
        >>> columns_of_json({"train": [["0.jpg", 0, "ant"]], "test": []}, Path("split.json"))
        ({'split': ['train'], 'file': ['0.jpg'], 'label': ['ant']}, True)
    """
    named = {key: _by_name(rows) for key, rows in content.items()} if isinstance(content, dict) else content
    if rows := _rows(named):
        if {"annotations", "data"} <= rows[0].keys():
            raise DatasetError(
                f"'{path}' is Label Studio's JSON of annotations, which is not read.\n"
                "Export CSV or JSON-MIN: both have a row for each image, and its label in a column."
            )
        return columns_of(rows), named != content
    if isinstance(content, dict) and content and all(map(is_file_name, content)):
        if all(isinstance(row, dict) for row in content.values()):
            return columns_of([{"file": name, **row} for name, row in content.items()]), False
        return {"file": list(content), "label": [_as_text(value) for value in content.values()]}, False
    if pairs := _pairs_by_class(content):
        files, labels = zip(*pairs, strict=True)
        columns = {"file": list(files), "label": [_as_text(label) for label in labels]}
        return columns, not all(map(_OF_STYLEGAN.match, files))
    if rows := _inner_rows(content):
        return columns_of(rows), True
    raise DatasetError(
        f"'{path}' is no list of images.\nExpected a list of objects with a file and a label each, an object "
        "of labels by file or of files by class, pairs as `labels`, such a list for each split, or COCO's "
        "images, categories and annotations."
    )


def _rows(content: Any) -> list[dict[str, Any]]:
    """Objects of a list, or of a list for each split, which is a column then; none of other content."""
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return content
    if _is_row(content):
        return [content]
    if not isinstance(content, dict) or not all(map(split_in_name, content)):
        return []
    lists = {name: rows for name, rows in content.items() if not ("train" in content and is_trainval(name))}
    if not all(isinstance(rows, list) and len(_rows(rows)) == len(rows) for rows in lists.values()):
        return []
    rows = [{"split": name, **row} for name, rows in lists.items() for row in rows]
    return rows if all(split_in_name(str(row["split"])) for row in rows) else []


def _by_name(rows: Any) -> Any:
    """Lists that begin with a file and end with its label as objects; other content as it is."""
    are_lists = isinstance(rows, list) and all(map(ends_with_label, rows))
    if are_lists and _are_files([row[0] for row in rows]):
        return [{"file": row[0], "label": row[-1]} for row in rows]
    return rows


def ends_with_label(row: Any) -> bool:
    """Tell whether a row is a file and its label, or a file, the number of its class and the name.

    Example:
        >>> [ends_with_label(row) for row in (["0.jpg", "ant"], ["0.jpg", 0, "ant"], ["0.jpg", "ant", 640])]
        [True, True, False]
    """
    return isinstance(row, list) and (len(row) == 2 or (len(row) == 3 and isinstance(row[2], str)))


def _is_row(content: Any) -> bool:
    """Tell whether an object is the only row of a list: a cell in each column, one of them a file."""
    if not isinstance(content, dict) or len(content) < 2 or any(map(is_file_name, content)):
        return False
    cells = content.values()
    one_each = not any(isinstance(cell, list | dict) for cell in cells)
    return one_each and any(isinstance(cell, str) and is_file_name(cell) for cell in cells)


def _pairs_by_class(content: Any) -> list[tuple[str, Any]]:
    """Files and labels of an object of files by class, or of pairs as `labels`; none of other content."""
    if not isinstance(content, dict) or not content:
        return []
    if all(map(_are_files, content.values())):
        is_told = not are_parts(list(content)) and not all(map(split_in_name, content))
        return [(file, label) for label, files in content.items() for file in files] if is_told else []
    pairs, names = content.get("labels"), content.get("classes")
    if isinstance(pairs, dict) and isinstance(names, list):  # as FiftyOne writes them
        return [(file, _name_of(label, names)) for file, label in pairs.items()]
    if isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        return [(file, label) for file, label in pairs] if _are_files([pair[0] for pair in pairs]) else []
    return []


def _name_of(label: Any, names: Sequence[Any]) -> Any:
    return names[label] if isinstance(label, int) and 0 <= label < len(names) else label


def _inner_rows(content: Any) -> list[dict[str, Any]]:
    """Rows of an object with one list of objects, or with the cells of each column, as pandas writes them."""
    if not isinstance(content, dict) or any(map(split_in_name, content)):
        return []
    lists = [rows for rows in content.values() if isinstance(rows, list)]
    if len(lists) == 1 and lists[0] and all(isinstance(row, dict) for row in lists[0]):
        return lists[0]
    cells = [[*column.values()] if isinstance(column, dict) else column for column in content.values()]
    if not all(isinstance(column, list) for column in cells) or len(set(map(len, cells))) != 1:
        return []
    of_files = sum(map(_are_files, cells))
    rows = zip(*cells, strict=True) if 0 < of_files < len(cells) else []
    return [dict(zip(content, row, strict=True)) for row in rows]


def _are_files(values: Any) -> bool:
    """Tell whether a value is a list of names of image files."""
    return isinstance(values, list) and all(isinstance(one, str) and is_file_name(one) for one in values)


def _as_text(value: Any) -> str | None:
    if isinstance(value, dict):
        return json.dumps(value)
    return None if value is None else str(value).strip() or None
