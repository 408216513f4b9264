"""Load a data set as a long-tailed training set and a test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lort_hub.data.dataset import Duplicate, ImageSplit, LongTailedData, brightness_note
from lort_hub.data.frames import frames_note
from lort_hub.data.groups import (
    Grouping,
    name_groups,
    note_alike_groups,
    note_columns_of_groups,
    number_groups,
)
from lort_hub.data.holdout import hold_out
from lort_hub.data.image_folder.classes import ClassFolder
from lort_hub.data.image_folder.names import names_alike
from lort_hub.data.imbalance import long_tailed_indices
from lort_hub.data.overlap import (
    OnDuplicate,
    are_in,
    count_duplicates,
    list_duplicates,
    note_other_classes,
    number_contents,
)
from lort_hub.data.presets import PRESETS
from lort_hub.data.request import OpenedData, Request
from lort_hub.data.root_folder import with_root
from lort_hub.data.sources import open_source
from lort_hub.data.spec import local_path, parse_spec
from lort_hub.data.tables.label_texts import note_doubtful_names
from lort_hub.data.tables.labels import read_labels
from lort_hub.errors import ConfigError, DatasetError
from lort_hub.shorten import quoted

if TYPE_CHECKING:
    import datasets

ENOUGH = 30
"""Test images a class from which on the numbers of single classes are steady."""


def load_long_tailed(
    spec: str,
    *,
    imbalance: str | None = None,
    subset: Literal["first", "shuffle"] = "first",
    subset_seed: int = 0,
    image_column: str | None = None,
    label_column: str | None = None,
    train_split: str | None = None,
    test_split: str | None = None,
    class_folder: ClassFolder | None = None,
    image_root: str | Path | None = None,
    on_duplicate: OnDuplicate = "keep",
    group_column: str | None = None,
    group_pattern: str | None = None,
    group_file: str | Path | None = None,
) -> LongTailedData:
    """Load a data set and cut its training part to a long tail; everything but the pixels is checked.

    Args:
        spec: `digits`, a preset, `org/name[:configuration][@revision]` on the Hub, a folder or a file.
        imbalance: As in `long_tailed_counts`; None for the preset's own, else none.
        subset: Which images of a class to keep.
        subset_seed: Seed of `subset="shuffle"`.
        image_column: Column of the images; None to find it by its type.
        label_column: Column of the labels; None to find it by its type.
        train_split: None for `train`.
        test_split: None for `test`, else `validation`, else a fifth of each class of the training split.
        class_folder: Whether a picture's class is the first or the last of the folders below its split, in an
            image folder; None where it makes no difference.
        image_root: Folder of the images that a CSV or another list names; None for the list's own.
        on_duplicate: "keep" or "drop" training images that are test images too, byte for byte.
        group_column: Column of groups: images of one group, as the frames of a clip, are held out together.
        group_pattern: The same by a regular expression with one pair of parentheses, searched in file names.
        group_file: The same by a CSV with the columns file and group.

    Returns:
        The data set.

    Raises:
        DatasetError: Columns, splits, labels or classes that cannot be used, each with what was found.
        HubUnavailableError: The Hub is needed and does not answer.

    Example:
        >>> data = load_long_tailed("digits", imbalance="exp:10")
        >>> data.class_counts.tolist(), len(data.test)
        ([128, 100, 77, 60, 46, 36, 27, 21, 16, 12], 500)
    """
    if on_duplicate not in get_args(OnDuplicate):
        raise ConfigError(f'`on_duplicate` is {on_duplicate!r}, expected "keep" or "drop".')
    grouping = Grouping(group_column, group_pattern, group_file)
    request = Request(
        spec,
        image_column=image_column,
        label_column=label_column,
        image_root=local_path(image_root) if image_root else None,
        train_split=train_split,
        test_split=test_split,
        class_folder=class_folder,
        group_column=group_column,
    )
    found = open_source(request)
    notes, test_split = list(found.notes), found.test_split
    names, train_labels, test_labels = read_labels(
        found.train, found.test, found.label_column, (found.train_split, test_split)
    )
    train = image_split(found.train, train_labels, found, found.train_split, names)
    if found.test is None or test_split is None:
        if not grouping.given:
            notes += note_columns_of_groups(found.train, found.image_column, found.label_column)
        train, test = hold_out(_numbered([train], [found.train], grouping, notes)[0], 0.2)
        if not len(test):
            raise DatasetError(
                f"Split '{train.name}' has one image a class, or copies of one, and there is no test split.\n"
                "Add a test split (a 'test' folder or test.parquet), or name one with `test_split`."
            )
        test_split = f"a fifth of each class of '{train.name}', held out by lort_hub"
    else:
        test = image_split(found.test, test_labels, found, test_split, names)
        train, test = _numbered([train, test], [found.train, found.test], grouping, notes)
    notes += note_doubtful_names(found.train, found.label_column)
    notes += [f"Classes whose names look the same: {quoted(group)}." for group in names_alike(names)]
    if imbalance is None:
        preset = parse_spec(spec).preset
        imbalance = PRESETS[preset].imbalance if preset else "none"
    train = train.take(
        long_tailed_indices(train.labels, imbalance, num_classes=len(names), subset=subset, seed=subset_seed)
    )
    _check_classes(train, test, names)
    notes += filter(None, (brightness_note(train), frames_note(train)))
    if on_duplicate == "drop":
        train = _without_copies(train, test, notes)
    duplicates = list_duplicates(train, test)
    notes += [*_group_notes(train, test, grouping), *notes_on_test(test, duplicates)]
    source = {
        **found.describe(),
        "test_split": test_split,
        "imbalance": imbalance,
        "subset": subset,
        "subset_seed": subset_seed if subset == "shuffle" else None,
        "on_duplicate": on_duplicate,
        "duplicates": count_duplicates(duplicates),
        "groups": grouping.given,
    }
    return LongTailedData(found.name, train, test, names, source, tuple(notes), duplicates)


def image_split(
    rows: datasets.Dataset,
    labels: NDArray[np.int64],
    found: OpenedData,
    name: str,
    class_names: tuple[str, ...],
) -> ImageSplit:
    """Make a split of opened rows and their checked labels.

    Args:
        rows: The rows.
        labels: Labels (N,).
        found: The data set that they are of.
        name: Name of the split.
        class_names: Names of the K classes.

    Example:
        >>> found = open_source(Request("digits"))
        >>> labels = np.array(found.test["label"])
        >>> image_split(found.test, labels, found, "test", tuple("0123456789")).name
        'test'
    """
    whole = ImageSplit.of_rows(rows, labels, found.image_column, name, class_names, found.dataset)
    return replace(whole, whole=whole.names())


def _numbered(
    splits: Sequence[ImageSplit],
    rows: Sequence[datasets.Dataset],
    grouping: Grouping,
    notes: list[str],
) -> list[ImageSplit]:
    """The splits with numbers of their images' contents and groups; copies belong together."""
    splits = with_root(splits)
    contents = groups = number_contents(*splits)
    if grouping.given:
        names = [name_groups(grouping, *pair) for pair in zip(splits, rows, strict=True)]
        if not any(name is not None for name in names[0]):
            first = next(filter(None, splits[0].files()), "")
            such = f"\nExpected one for images such as '{splits[0].name_of(first)}'." if first else ""
            raise DatasetError(f"No image of split '{splits[0].name}' has a group by {grouping.given}.{such}")
        notes += note_alike_groups(names[0], names[-1]) if len(names) > 1 else []
        groups = number_groups(names, contents)
    numbers = zip(splits, contents, groups, strict=True)
    numbered = [replace(one, contents=content, groups=group) for one, content, group in numbers]
    notes += note_other_classes(numbered)
    return numbered


def _group_notes(train: ImageSplit, test: ImageSplit, grouping: Grouping) -> list[str]:
    if not grouping.given or train.groups is None or test.groups is None:
        return []
    number = len(np.unique(train.groups))
    notes = [
        f"{len(train):,} training images in {number:,} groups by {grouping.given}, held out group by group."
    ]
    if shared := int(np.isin(test.groups, train.groups).sum()):
        notes.append(
            f"{shared:,} of {len(test):,} test images are of groups that are trained on: for new groups "
            "the results are too rosy."
        )
    return notes


def _without_copies(train: ImageSplit, test: ImageSplit, notes: list[str]) -> ImageSplit:
    """The training images that are no test images."""
    stays = ~are_in(train, test)
    left = np.bincount(train.labels[stays], minlength=len(train.class_names))
    if lost := _named(train.class_names, left == 0):
        raise DatasetError(
            f'All training images of {lost} are test images too, so `on_duplicate="drop"` would leave none.\n'
            "Add training images, or remove the copies from the test split."
        )
    if number := int((~stays).sum()):
        notes.append(f"{number:,} training images were left out: they are test images too, byte for byte.")
    return train.take(np.flatnonzero(stays))


def notes_on_test(test: ImageSplit, duplicates: Sequence[Duplicate]) -> list[str]:
    """Say what the numbers on a test split cannot tell.

    Args:
        test: The test images.
        duplicates: Images that are used for training too, byte for byte.

    Example:
        >>> notes_on_test(load_long_tailed("digits").test.take(np.arange(200)), [])
        ["200 test images for 10 classes: single classes' numbers will be rough."]
    """
    notes, counts = [], np.bincount(test.labels, minlength=len(test.class_names))
    copies = count_duplicates(duplicates)
    if copies["test"]:
        other = f" ({copies['other_class']:,} in another class)" if copies["other_class"] else ""
        notes.append(
            f"{copies['test']:,} of {len(test):,} test images are training images too, byte for byte{other}: "
            "the results are too rosy. They are kept, and duplicates.csv in the output folder lists them; "
            '`on_duplicate="drop"` leaves the copies out of the training.'
        )
    if untested := _named(test.class_names, counts == 0):
        notes.append(
            f"{(counts == 0).sum():,} of {len(counts):,} classes have no test image, so that nothing will be "
            f"known of them, and means over classes are over the others. They are {untested}."
        )
    if len(test) < ENOUGH * len(counts):
        notes.append(
            f"{len(test):,} test images for {len(counts):,} classes: single classes' numbers will be rough."
        )
    return notes


def _check_classes(train: ImageSplit, test: ImageSplit, names: tuple[str, ...]) -> None:
    if not len(test):
        raise DatasetError(
            f"Split '{test.name}' holds no image to measure on.\nName another one with `test_split`."
        )
    trained = np.bincount(train.labels, minlength=len(names)) > 0
    tested = np.bincount(test.labels, minlength=len(names)) > 0
    if unknown := _named(names, tested & ~trained):
        raise DatasetError(
            f"Classes with test images but no training image: {unknown}.\n"
            "A head cannot know them: add training images, or remove them from the test split."
        )
    if empty := _named(names, ~trained):
        raise DatasetError(
            f"Classes with no image at all: {empty}.\nAdd images, or remove them from the label names."
        )
    if len(names) < 2:
        raise DatasetError(f"Found one class, '{names[0]}'; expected at least two. Check `label_column`.")


def _named(names: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    return quoted([names[int(k)] for k in np.flatnonzero(chosen)])
