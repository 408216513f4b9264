"""Tell by their names what columns are likely to hold, and choose among several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lort_hub.errors import DatasetError, did_you_mean

if TYPE_CHECKING:
    import datasets

IMAGE_NAMES = ("image", "img", "picture", "photo")
LABEL_NAMES = (
    *("label", "labels", "class", "class_name", "classname", "target", "category", "species"),
    *("label_id", "class_id", "classid", "category_id", "class_label", "label_name", "category_name"),
)
"""Names that settle which of several fitting columns is meant."""

_OF_LABELS = {*LABEL_NAMES, "classes", "targets", "categories", "list", "annotation", "annotations", "truth"}
"""Words of the names of files that hold labels."""
_ANY_LABELS = {"image", "images", "img", "all", "my", "data", "dataset", "ground", "id", "ids", "meta"}
_ANY_LABELS |= {"clean", "kv", "true"}
"""Words beside them that say of no other labels."""

FILE_WORDS = ("image", "img", "picture", "photo", "file")
"""First letters of words in the name of a column that names files."""


LIKELY = (
    *("label", "class", "species", "scientific", r"\bdx\b", "diagnos", "categor", "breed"),
    *("genus", "disease", "emotion", "variety", "name"),
)
"""Words in the names of columns, the likeliest to hold classes first."""
MAYBE_LABELS = frozenset(
    ("y", "cls", "gt", "ground_truth", "grade", "type", "kind", "tag", "annotation", "finding", "outcome")
) | {"action", "choice", "animal", "crop", "make", "model", "style"}
"""Whole names of columns that hold classes where no other column does."""

_OF_FILE = re.compile(
    r"(image|img|picture|photo|file)?(width|height|mode|format|year)|(file|image)size|sizebytes|bytes"
    r"|licen[cs]e|fold|batch|annotator(id)?|patient(id)?"
)
"""Letters of the names of columns that tell of a file, and of its classes where they are named."""


_GROUP = re.compile(
    "(patient|subject|lesion|individual|person|participant|specimen|seq|sequence|location|video|clip|slide"
    "|capture|session|burst)(id|no|number|key|name)?"
)
"""Letters of the names of columns whose values are of things that several images show."""


def is_called_as_files(column: str) -> bool:
    """Tell by its name whether a column is likely to name image files.

    Example:
        >>> is_called_as_files("ImageId"), is_called_as_files("path"), is_called_as_files("pathology")
        (True, True, False)
    """
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", column)]
    return any(word == "path" or word.startswith(FILE_WORDS) for word in words)


def is_label(column: str) -> bool:
    """Tell whether a column bears a usual name of labels.

    Example:
        >>> is_label("Label"), is_label("file_name")
        (True, False)
    """
    return column.lower() in LABEL_NAMES


def is_called_labels(stem: str) -> bool:
    """Tell whether a file is called as a list of the labels of images.

    Example:
        >>> [is_called_labels(stem) for stem in ("image_labels", "list", "annotations", "features")]
        [True, True, True, False]
        >>> is_called_labels("noisy_labels"), is_called_labels("annotation_quality")
        (False, False)
    """
    words = set(re.findall("[a-z]+", stem.lower()))
    return bool(words & _OF_LABELS) and words <= _OF_LABELS | _ANY_LABELS


def is_likely_label(column: str) -> bool:
    """Tell whether a word in the name of a column says that it holds classes.

    Example:
        >>> is_likely_label("diagnosis"), is_likely_label("sex")
        (True, False)
    """
    return any(re.search(word, column.lower()) for word in LIKELY)


def may_be_called_label(column: str) -> bool:
    """Tell whether a column is called as one that holds classes where no other column does.

    Example:
        >>> may_be_called_label("Species"), may_be_called_label("outcome"), may_be_called_label("sex")
        (True, True, False)
    """
    return is_label(column) or is_likely_label(column) or column.lower() in MAYBE_LABELS


def describes_files(column: str) -> bool:
    """Tell by its name whether a column describes files or where they are from, and is hardly the label.

    Example:
        >>> describes_files("file_size"), describes_files("PatientId"), describes_files("size")
        (True, True, False)
    """
    return bool(_OF_FILE.fullmatch(re.sub("[^a-z]", "", column.lower())))


def is_called_as_group(column: str) -> bool:
    """Tell by its name whether the images of one value of a column belong together.

    Example:
        >>> [is_called_as_group(name) for name in ("lesion_id", "PatientID", "patient_sex")]
        [True, True, False]
    """
    return bool(_GROUP.fullmatch(re.sub("[^a-z]", "", column.lower())))


def is_usual(column: str) -> bool:
    """Tell whether a text is a usual name of a column of files or labels, and no file itself.

    Example:
        >>> is_usual("Label"), is_usual("file_name"), is_usual("IMG_0001")
        (True, True, False)
    """
    return is_label(column) or (is_called_as_files(column) and not re.search(r"[\d.]", column))


def check_exists(rows: datasets.Dataset, asked: str, argument: str) -> None:
    """Refuse a column that a table has not.

    Args:
        rows: The table.
        asked: Name of the column.
        argument: What it was named by.

    Raises:
        DatasetError: The table has no such column.

    Example:
        >>> import datasets
        >>> check_exists(datasets.Dataset.from_dict({"label": [0]}), "label", "label_column")
    """
    columns: list[str] = rows.column_names
    if asked not in columns:
        raise DatasetError(
            f"No column '{asked}'.{did_you_mean(asked, columns)}\n"
            f"`{argument}` expects one of: {', '.join(columns)}."
        )


def choose_one(candidates: Sequence[str], kind: str, argument: str, usual: Sequence[str]) -> str:
    """Choose the one column that fits, or the one of them that has the usual name.

    Args:
        candidates: Names of the columns that fit.
        kind: What they hold, for messages.
        argument: What names one.
        usual: Usual names.

    Raises:
        DatasetError: Several fit.

    Example:
        >>> choose_one(["id", "label"], "label", "label_column", LABEL_NAMES)
        'label'
    """
    preferred = [name for name in candidates if name.lower() in usual]
    if len(candidates) == 1 or len(preferred) == 1:
        return (preferred or list(candidates))[0]
    raise several_fit(candidates, kind, argument, _likeliest(candidates))


def several_fit(candidates: Sequence[str], kind: str, argument: str, likeliest: str) -> DatasetError:
    """Return the refusal of several columns that fit.

    Args:
        candidates: Their names.
        kind: What they hold.
        argument: What names one.
        likeliest: The one to name as an example.

    Example:
        >>> print(several_fit(["sex", "site"], "label", "label_column", "site"))
        Several columns could be the label: sex, site.
        Choose one, e.g. `label_column="site"`.
    """
    return DatasetError(
        f"Several columns could be the {kind}: {', '.join(candidates)}.\n"
        f'Choose one, e.g. `{argument}="{likeliest}"`.'
    )


def _likeliest(candidates: Sequence[str]) -> str:
    """The column whose name says most that it holds classes; else the first that does not describe files."""
    said = [name for word in LIKELY for name in candidates if re.search(word, name.lower())]
    said += [name for name in candidates if name.lower() in MAYBE_LABELS]
    return next(iter([*said, *(name for name in candidates if not describes_files(name)), *candidates]))
