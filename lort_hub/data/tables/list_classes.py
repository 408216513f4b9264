"""Decide whether class folders tell the classes of images, or the lists beside them do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lort_hub.data.decoding import image_suffixes
from lort_hub.data.image_folder.classes import classes_of
from lort_hub.data.image_folder.names import TESTS, are_parts, kind_of
from lort_hub.data.image_folder.splits import find_layout
from lort_hub.data.image_folder.thumbnails import leave_out_thumbnails
from lort_hub.data.image_folder.tree import list_pictures
from lort_hub.data.request import Request
from lort_hub.data.tables.column_names import is_called_labels
from lort_hub.data.tables.lists import LISTS
from lort_hub.data.tables.matched import (
    MatchedList,
    label_of,
    lie_apart,
    may_be_classes,
    way_to,
    ways_to_files,
)
from lort_hub.data.tables.splits import kinds_of_cells, split_in_name, tells_splits
from lort_hub.errors import DatasetError
from lort_hub.shorten import shown

NEARLY_ALL = 0.9
"""Share of the images of some folders above which a list is one of all of them."""


def names_tests_alone(matched: Sequence[MatchedList], folder: Path, request: Request) -> bool:
    """Tell whether lists name the test images alone, and class folders hold the images to train on.

    Args:
        matched: The lists.
        folder: The data folder.
        request: The arguments of `load_long_tailed`.

    Raises:
        DatasetError: They tell the classes of the test images as well.

    Example:
        >>> names_tests_alone([], Path("/nonexistent"), Request("photos", train_split="train"))
        False
    """
    named = any(one.split not in TESTS for one in matched)
    if named or request.train_split or request.label_column or not folders_as_read(folder, request):
        return False
    if labelled := [one.listed.path.name for one in matched if label_of(one.listed)]:
        raise DatasetError(
            f"{labelled[0]} tells the classes of the test images, and folders tell those of the others.\n"
            f"Put the test images into class folders, test/CLASS/*.jpg, or take {labelled[0]} away: a fifth "
            "of each class is then held out."
        )
    return True


def tell_no_classes(matched: Sequence[MatchedList], folder: Path, request: Request) -> bool:
    """Tell whether lists name images of class folders, and hold nothing that could be their classes.

    Test images may lie elsewhere.

    Args:
        matched: The lists.
        folder: The data folder.
        request: The arguments of `load_long_tailed`.

    Example:
        >>> tell_no_classes([], Path("/nonexistent"), Request("photos"))
        False
    """
    if not matched or any(may_be_classes(one) for one in matched):
        return False
    paths = [path for one in matched if one.split not in TESTS for path in one.paths if path]
    holders = {str(Path(path).parent) for path in paths}
    return bool(holders) and holders <= folders_as_read(folder, request)


def folders_as_read(folder: Path, request: Request) -> set[str]:
    """Find the class folders of the training split; none where the folders can be read in two ways.

    Args:
        folder: The data folder.
        request: The arguments of `load_long_tailed`.

    Example:
        >>> import tempfile
        >>> folders_as_read(Path(tempfile.mkdtemp()), Request("photos"))
        set()
    """
    try:
        layout = find_layout(
            leave_out_thumbnails(list_pictures(str(folder.resolve()))),
            request.train_split,
            request.test_split,
        )
        classes = classes_of(layout.train, layout.train_name, request.class_folder)
    except DatasetError:
        return set()
    is_told = len(classes) > 1 and not are_parts(list(classes))
    return {one.path for folders in classes.values() for one in folders} if is_told else set()


def find_class_folders(matched: Sequence[MatchedList], folder: Path, request: Request) -> dict[str, str]:
    """Find the class folder of each listed file, where all lie in two or more folders that name no split.

    Where all lie in one, so does the list where it is of one class alone, and the folders tell the classes.
    Lists with labels tell the classes where they tell splits as well, and the folders do not.

    Args:
        matched: The lists.
        folder: The data folder.
        request: The arguments of `load_long_tailed`.

    Returns:
        Classes by file; empty where the lists tell the classes.

    Example:
        >>> find_class_folders([], Path("/nonexistent"), Request("photos"))
        {}
    """
    root = folder.resolve()
    ways = ways_to_files(matched, root)
    inner = {path: [part for part in way if not split_in_name(part)] for path, way in ways.items()}
    below_split = [len(inner[path]) < len(way) for path, way in ways.items()]
    classes = {path: parts[0] for path, parts in inner.items() if parts}
    others = {path: way for path, way in ways.items() if path not in classes}
    if not classes or not all(map(_ends_in_a_class, others.values())):
        return {}
    if not any(below_split) and (_tell_all(matched) or lie_apart(matched)):
        return {}
    names = sorted({*classes.values(), *(way[-1] for way in others.values())})
    if are_parts(names):
        return {}
    holders = {str(Path(path).parent) for path in classes}
    if len(names) == 1:
        below = {path: _below_split(way) for path, way in ways.items()}
        if len({*below.values()}) > 1 and all(below.values()) and all(_tells(one, below) for one in matched):
            return below
        places = {str(one.listed.path.parent.resolve()) for one in matched}
        is_class = all(below_split) and places <= holders and holders & folders_as_read(folder, request)
        return classes if is_class and not any(label_of(one.listed) for one in matched) else {}
    is_inside = any(way != way_to(root, path) for path, way in ways.items())
    if is_inside and not holders & folders_as_read(folder, request):
        return {}
    return classes | {path: way[-1] for path, way in others.items()}


def _below_split(way: Sequence[str]) -> str:
    """The first folder below the one of a split that is called otherwise; empty where there is none."""
    at = next((k for k, part in enumerate(way) if split_in_name(part)), len(way))
    return next((part for part in way[at:] if not split_in_name(part)), "")


def _tells(one: MatchedList, classes: Mapping[str, str]) -> bool:
    """Whether a column of a list tells the classes of its files, each by a value of its own."""
    folders = [classes.get(path) if path else None for path in one.paths]
    for name in may_be_classes(one):
        cells = zip(folders, one.listed.columns[name], strict=True)
        pairs = {(folder, cell) for folder, cell in cells if folder is not None and cell}
        if len(pairs) == len({folder for folder, _ in pairs}) == len({value for _, value in pairs}):
            return True
    return False


def _ends_in_a_class(way: Sequence[str]) -> bool:
    """Whether the last of the folders, all called as splits, may be a class beside others: bullet_train."""
    return len(way) > 1 and not kind_of(way[-1]) and way[-1] != way[-2]


def _tell_all(matched: Sequence[MatchedList]) -> bool:
    """Whether lists tell the class of each image and its split, which folders without splits do not."""
    if not all(label_of(one.listed) for one in matched):
        return False
    kinds = {one.split for one in matched}
    for one in matched:
        for column in filter(tells_splits, one.listed.columns):
            told = set(kinds_of_cells(column, [cell or "" for cell in one.listed.columns[column]]).values())
            kinds |= told if "" not in told else set()
    return len(kinds) > 1


def check_splits_beside(matched: Sequence[MatchedList]) -> None:
    """Refuse a list of nothing but splits beside the one that it belongs to, as CelebA has it.

    Args:
        matched: The lists.

    Raises:
        DatasetError: There is one.

    Example:
        >>> check_splits_beside([])
    """
    for one in matched:
        others = list(one.others)
        beside = [other.listed.path.name for other in matched if other is not one]
        if beside and others and all(map(tells_splits, others)):
            name = one.listed.path.name
            raise DatasetError(
                f"Column '{others[0]}' of {name} tells splits of images whose labels are in {beside[0]}.\n"
                f"Write it into {beside[0]}, with train, test or validation in every row, "
                f"or take {name} away: a fifth of each class is then held out."
            )


def check_folders_agree(matched: Sequence[MatchedList], classes: dict[str, str], folder: Path) -> None:
    """Refuse lists with a label of their own that contradicts the class folders.

    Args:
        matched: The lists.
        classes: Classes by file, from `find_class_folders`.
        folder: The data folder.

    Raises:
        DatasetError: One list does.

    Example:
        >>> check_folders_agree([], {}, Path("photos"))
    """
    for one in matched:
        _check_a_column_agrees(one, classes, folder)
        label = label_of(one.listed)
        file = one.listed.path  # a table may be of features: no list of the images' classes
        is_list = file.suffix.lower() in LISTS or is_called_labels(file.stem)
        if label is None or one.listed.refusal or one.column.refusal or not is_list:
            continue
        cells = zip(one.paths, one.listed.columns[label], strict=True)
        pairs = {(classes[path], value) for path, value in cells if path}
        if len(pairs) > len({pair[0] for pair in pairs}) or len(pairs) > len({pair[1] for pair in pairs}):
            raise DatasetError(
                f"Column '{label}' of '{file.relative_to(folder)}' and the folders "
                f"{shown(sorted(set(classes.values())), 4)} tell different classes of the same images.\n"
                f'Give `label_column="{label}"`, or take {file.name} away to read the folders.'
            )


def _check_a_column_agrees(one: MatchedList, classes: dict[str, str], folder: Path) -> None:
    """Refuse a list called as one of labels, of nearly all images, no column of which tells the folders."""
    listed, columns = one.listed, may_be_classes(one)
    is_called_so = split_in_name(listed.path.stem) or "label" in listed.path.stem.lower()
    if not columns or not is_called_so or label_of(listed) or listed.path.suffix.lower() not in LISTS:
        return
    rows = {row: path for row, path in enumerate(one.paths) if path in classes}
    folders = {Path(path).parent for path in rows.values()}
    beside = sum(path.suffix.lower() in image_suffixes() for folder in folders for path in folder.iterdir())
    below = (Path(path).relative_to(folder.resolve()).parts[:-1] for path in classes)
    if len({split for parts in below for part in parts if (split := split_in_name(part))}) > 1:
        return  # the same folders in those of several splits
    if not rows or len(set(rows.values())) < NEARLY_ALL * beside:
        return
    if _tells(one, classes):
        return
    raise DatasetError(
        f"{listed.path.name} has a row for each image, and no column of it tells the folders "
        f"{shown(sorted(set(classes.values())), 3)}: are they the classes?\n"
        f'Where a column holds the labels ({shown(columns, 4)}), name it: `label_column="{columns[0]}"`.\n'
        f"Where the folders are the classes, take {listed.path.name} away."
    )
