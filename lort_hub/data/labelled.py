"""Load the labelled images that a classifier is tested on, of a data set with a training split or without."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lort_hub.data.dataset import Duplicate, ImageSplit, LongTailedData
from lort_hub.data.image_folder.classes import ClassFolder
from lort_hub.data.image_folder.names import TESTS
from lort_hub.data.load import image_split, load_long_tailed, notes_on_test
from lort_hub.data.request import OpenedData, Request
from lort_hub.data.root_folder import with_root
from lort_hub.data.sources import open_source
from lort_hub.data.spec import local_path
from lort_hub.data.tables.labels import read_labels
from lort_hub.errors import ConfigError, DatasetError, NoSplitError, did_you_mean

NO_TRAINING = "none"
"""Name of the training split of images that are all for the test."""

OPENING = ("image_column", "label_column", "class_folder", "image_root")
"""Options that such images need too."""

HELD_OUT = (
    "There is no test split: of each class, the fifth is tested that a training here would hold out. "
    '`train_split="none"` tests all images, for models that were trained on none of them.'
)


@dataclass(frozen=True)
class LabelledData:
    """Labelled images to test classifiers on.

    Attributes:
        name: Short name of the data set.
        test: The images.
        class_counts: Training images (K,) of the data's own training split; None where it has none.
        source: JSON description of where it is from.
        notes: Lines for the user: what was not read, and what the numbers cannot tell.
        duplicates: Images that are in the training split and in the test split.
    """

    name: str
    test: ImageSplit
    class_counts: NDArray[np.int64] | None
    source: dict[str, Any]
    notes: tuple[str, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes."""
        return self.test.class_names

    @classmethod
    def of(cls, data: LongTailedData) -> LabelledData:
        """Take the test images of a long-tailed data set, and the counts of its training images."""
        return cls(data.name, data.test, data.class_counts, data.source, data.notes, data.duplicates)

    def describe(self) -> str:
        """Describe the data in a line."""
        return f"{len(self.test):,} test images of {len(self.class_names):,} classes ({self.split})"

    def listing(self) -> str:
        """Hash labels and names of files, as `ImageSplit.listing` does."""
        return self.test.listing()

    @property
    def split(self) -> str:
        """Name of the test split, or how it was made."""
        return str(self.source["test_split"])


def load_labelled(
    spec: str, *, train_split: str | None = None, test_split: str | None = None, **options: Any
) -> LabelledData:
    """Load the images that a classifier is tested on; with a training split, as `load_long_tailed` does.

    Args:
        spec: As in `load_long_tailed`.
        train_split: Name of the training split, whose images are counted; None for `train` where there is
            one, "none" where all images are for the test.
        test_split: None for `test`, else `validation`, else a fifth of each class of the training split; the
            whole of the only split where all images are for the test.
        options: Other arguments of `load_long_tailed`.

    Raises:
        ConfigError: It has no such option.
        DatasetError: Columns, splits, labels or classes that cannot be used, each with what was found.
        HubUnavailableError: The Hub is needed and does not answer.

    Example:
        >>> data = load_labelled("digits", imbalance="exp:10")
        >>> data.describe(), data.class_counts[:3].tolist()
        ('500 test images of 10 classes (test)', [128, 100, 77])
        >>> load_labelled("digits", train_split="none").class_counts is None
        True
    """
    parameters = signature(load_long_tailed).parameters
    if unknown := next((name for name in options if name not in parameters), None):
        raise ConfigError(
            f"`load_labelled` has no option `{unknown}`.{did_you_mean(unknown, parameters)}\n"
            f"Expected some of: {', '.join(parameters)}."
        )
    if train_split != NO_TRAINING:
        try:
            data = load_long_tailed(spec, train_split=train_split, test_split=test_split, **options)
        except NoSplitError:
            if train_split is not None:
                raise
        else:
            held_out = data.test.name == data.train.name
            return replace(LabelledData.of(data), notes=(*(HELD_OUT,) * held_out, *data.notes))
    alone = _load_alone(spec, test_split, **{name: options[name] for name in OPENING if name in options})
    idle = [name for name in options if name not in OPENING and options[name] != parameters[name].default]
    notes = [f"There is no training split, so that `{name}` has no effect." for name in idle]
    return replace(alone, notes=(*alone.notes, *notes))


def _load_alone(
    spec: str,
    test_split: str | None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    class_folder: ClassFolder | None = None,
    image_root: str | Path | None = None,
) -> LabelledData:
    """Load one split, all of it for the test."""
    request = Request(
        spec,
        image_column=image_column,
        label_column=label_column,
        image_root=local_path(image_root) if image_root else None,
        class_folder=class_folder,
    )
    found = _open_split(request, [test_split] if test_split else [*TESTS, None])
    rows, split = found.train, found.train_split
    names, labels, _no_test = read_labels(rows, None, found.label_column, (split, None))
    [test] = with_root([image_split(rows, labels, found, split, names)])
    if len(names) < 2:
        raise DatasetError(f"Found one class, '{names[0]}'; expected at least two. Check `label_column`.")
    read_as = {"train_split": None, "test_split": split, "imbalance": "none", "duplicates": None}
    source = {**found.describe(), **read_as}
    return LabelledData(found.name, test, None, source, (*found.notes, *notes_on_test(test, ())))


def _open_split(request: Request, names: list[str | None]) -> OpenedData:
    """Open the first split of these names that there is, as if it were a training split."""
    *likely, last = names
    for name in likely:
        with suppress(NoSplitError):
            return open_source(replace(request, train_split=name))
    return open_source(replace(request, train_split=last))
