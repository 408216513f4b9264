"""Number the groups of images that belong together: frames of one clip, photographs of one object."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lort_hub.data.dataset import ImageSplit
from lort_hub.data.image_folder.names import fold
from lort_hub.data.spec import local_path
from lort_hub.data.tables.column_names import is_called_as_group
from lort_hub.errors import ConfigError, DatasetError, did_you_mean

if TYPE_CHECKING:
    import datasets


MOST_GROUPS = 0.9
"""Values of a column for each row above which hardly two images are of one."""


@dataclass(frozen=True)
class Grouping:
    r"""What says which images belong together: at most one of a column, a pattern and a file.

    Attributes:
        column: Column of the groups.
        pattern: Regular expression, searched in the file's path below the data folder; what it finds in its
            parentheses is the group.
        file: CSV with the columns file and group.

    Raises:
        ConfigError: More than one is given, or the pattern has no parentheses.

    Example:
        >>> Grouping(pattern=r"(clip\d+)_").pattern
        '(clip\\d+)_'
    """

    column: str | None = None
    pattern: str | None = None
    file: str | Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be right before anything is loaded."""
        given = [f"`group_{name}`" for name, value in vars(self).items() if value is not None]
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(given)} each say what the groups are; give one of them.")
        if self.pattern is None:
            return
        try:
            groups = re.compile(self.pattern).groups
        except re.error as cause:
            raise ConfigError(
                f"`group_pattern` '{self.pattern}' is no regular expression: {cause}."
            ) from cause
        if groups != 1:
            raise ConfigError(
                f"`group_pattern` '{self.pattern}' has {groups} pairs of parentheses, expected one.\n"
                r"For files as clip12_003.jpg it could be `group_pattern` '(clip\d+)_'."
            )

    @property
    def given(self) -> str | None:
        """What was given, for messages; None where nothing was."""
        return next(
            (f"`group_{name}` '{value}'" for name, value in vars(self).items() if value is not None), None
        )


def name_groups(grouping: Grouping, split: ImageSplit, rows: datasets.Dataset) -> list[str | None]:
    """Find the names of the groups of a split's images.

    Args:
        grouping: What says so.
        split: The images.
        rows: Their rows, with all columns.

    Returns:
        Names (N,); None for an image without a group.

    Raises:
        DatasetError: There is no such column or file, or no image has a name.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> few = load_long_tailed("digits").test.take(range(2))
        >>> rows = few.images.add_column("patient", ["p1", "p2"])
        >>> name_groups(Grouping(column="patient"), few, rows)
        ['p1', 'p2']
    """
    if grouping.column is not None:
        if grouping.column not in rows.column_names:
            raise DatasetError(
                f"No column '{grouping.column}'.{did_you_mean(grouping.column, rows.column_names)}\n"
                f"`group_column` expects one of: {', '.join(rows.column_names)}."
            )
        return [_name(value) for value in rows[grouping.column][:]]
    files = [file and split.name_of(file) for file in split.files()]
    if not any(files):
        raise DatasetError(
            f"The images of split '{split.name}' have no file names, which {grouping.given} needs.\n"
            "Name a column of the groups with `group_column`."
        )
    if grouping.pattern is not None:
        matches = (file and re.search(grouping.pattern, file) for file in files)
        return [_name(match[1]) if match else None for match in matches]
    known = _read_file(local_path(grouping.file or ""))
    return [file and _named_by_end(known, file) for file in split.files()]


def _name(value: Any) -> str | None:
    """A group's name; whole floats, as pandas writes numbers beside empty cells, are numbers."""
    if value is None or value != value:
        return None
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip() or None


def _named_by_end(known: dict[str, str], file: str) -> str | None:
    """The group of the longest end of a path that has one."""
    parts = PurePath(file).parts
    ends = ("/".join(parts[at:]) for at in range(len(parts)))
    return next((known[end] for end in ends if end in known), known.get(file))


def _read_file(path: Path) -> dict[str, str]:
    """Groups by file, from a CSV."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"file", "group"} <= set(reader.fieldnames or ()):
                raise DatasetError(
                    f"'{path}' has the columns {', '.join(reader.fieldnames or ())}, expected file and group."
                )
            names = {(row["file"] or "").strip(): _name(row["group"]) for row in reader}
            return {file: name for file, name in names.items() if file and name}
    except (OSError, UnicodeDecodeError, csv.Error) as cause:
        raise DatasetError(f"Cannot read `group_file` '{path}': {cause}.") from cause


def note_columns_of_groups(rows: datasets.Dataset, image_column: str, label_column: str) -> list[str]:
    """Say which column may tell groups of images where none was named, and a test set was held out.

    Args:
        rows: The rows.
        image_column: Column of the images.
        label_column: Column of the labels; one of other names for them tells no groups.

    Example:
        >>> import datasets
        >>> rows = datasets.Dataset.from_dict({"label": [0, 1, 0, 1], "patient": ["a", "a", "b", "c"]})
        >>> [note.partition(":")[0] for note in note_columns_of_groups(rows, "image", "label")]
        ["Column 'patient' has 3 values in 4 rows"]
    """
    for name in filter(is_called_as_group, rows.column_names):
        dtype = str(getattr(rows.features[name], "dtype", ""))
        if name not in (image_column, label_column) and dtype.startswith(("int", "string", "large_string")):
            pairs = {
                pair for pair in zip(rows[name][:], rows[label_column][:], strict=True) if pair[0] is not None
            }
            values, labels = ({pair[k] for pair in pairs} for k in (0, 1))
            are_labels = len(pairs) == len(values) == len(labels)
            if 2 < len(values) <= MOST_GROUPS * len(rows) and not are_labels:
                return [
                    f"Column '{name}' has {len(values):,} values in {len(rows):,} rows: images of one are "
                    "held out apart, which is too rosy where they belong together. "
                    f'`group_column="{name}"` keeps them together.'
                ]
    return []


def note_alike_groups(train: Sequence[str | None], test: Sequence[str | None]) -> list[str]:
    """Say where no test image is of a group that is trained on, and names of both look the same.

    Args:
        train: Names of the training images' groups.
        test: Names of the test images' groups.

    Example:
        >>> note_alike_groups(["P01", "P02", None], ["p1", "p9"])[0].partition("or ")[2]
        "zeros, as 'p1' and 'P01': where they are the same, write them the same."
        >>> note_alike_groups(["P01", "p1"], ["p1"])
        []
    """
    trained = {_folded(name): name for name in train if name is not None}
    alike = [name for name in test if name is not None and _folded(name) in trained]
    if not alike or set(train) & set(test) - {None}:
        return []
    return [
        f"{len(alike):,} of {len(test):,} test images are of groups that differ from those trained on in "
        f"capitals or zeros, as {alike[0]!r} and {trained[_folded(alike[0])]!r}: where they are the same, "
        "write them the same."
    ]


def _folded(name: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", fold(name))


def number_groups(
    names: Sequence[Sequence[str | None]], contents: Sequence[NDArray[np.int64]]
) -> list[NDArray[np.int64]]:
    """Number the groups of several splits' images; images of the same content belong together too.

    Args:
        names: Names (N,) of the groups of each split; None for an image without.
        contents: Numbers (N,) of the contents of each split's images.

    Returns:
        Numbers (N,) of each split.

    Example:
        >>> number_groups([["a", "b", None, "a"], ["c"]], [np.array([0, 1, 2, 3]), np.array([2])])
        [array([0, 1, 2, 0]), array([2])]
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    flat, content = [name for split in names for name in split], np.concatenate(contents)
    first: dict[str, int] = {}
    same = [at if name is None else first.setdefault(name, at) for at, name in enumerate(flat)]
    each, size = np.arange(len(flat)), int(max(len(flat), content.max() + 1))
    pairs = np.concatenate([each, each]), np.concatenate([same, content])
    edges = coo_matrix((np.ones(2 * len(flat)), pairs), shape=(size, size))
    number = connected_components(edges, directed=False)[1][: len(flat)].astype(np.int64)
    return np.split(number, np.cumsum([len(split) for split in names])[:-1])
