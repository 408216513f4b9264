"""Read a folder of pictures: plan what becomes of each folder, then collect the pictures."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lort_hub.data.formats import advice_on
from lort_hub.data.image_folder.classes import ClassFolder, class_folders, classes_of, refuse_images
from lort_hub.data.image_folder.names import (
    are_parts,
    fold,
    is_heap,
    kind_of,
    longer_kind_of,
    masks_beside,
    names_of,
)
from lort_hub.data.image_folder.reading import HEAP, TABLE, FolderReading, LeftOut
from lort_hub.data.image_folder.splits import Layout, find_layout
from lort_hub.data.image_folder.thumbnails import leave_out_thumbnails
from lort_hub.data.image_folder.tree import (
    NO_IMAGE,
    NOT_OPENED,
    Folder,
    extension_of,
    list_pictures,
    printable,
)
from lort_hub.errors import DatasetError, NoClassFoldersError
from lort_hub.shorten import quoted, shown

if TYPE_CHECKING:
    import datasets

TABLES = frozenset([".parquet", ".arrow", ".feather", ".csv", ".tsv", ".jsonl", ".tar"])
ABOVE = "above the class folders"
BESIDE = "beside the pictures, as masks are"
NO_LABELS = "no class folders"
ANNOTATIONS = frozenset([".txt", ".xml", ".json"])
NOT_LISTED = "not in the list of labels"
UNUSED = "another split"
NO_SPLIT = "no split"


@dataclass
class _Plan:
    """What becomes of the folders, by their path.

    Attributes:
        read_as: "train" or "test", and the class, of a folder whose pictures are read.
        passed_as: Split, class and reason of a folder whose pictures are not, and of all below it.
        listed: Classes of the test pictures by their names, where a list has them.
        empty: Class folders without a picture.
    """

    read_as: dict[str, tuple[str, str]] = field(default_factory=dict)
    passed_as: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    listed: dict[str, str] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)

    def read(self, role: str, split: Folder, name: str, classes: Mapping[str, Sequence[Folder]]) -> None:
        """Read a split by its class folders."""
        self.passed_as[split.path] = (name, "", ABOVE)
        firsts = class_folders(split, classes)
        level = next(one for one in split.below() if any(inner is firsts[0] for inner in one.folders))
        for inner in level.folders:
            self.passed_as[inner.path] = (name, inner.name, BESIDE)
        self.empty += [f"{name}/{inner.name}" for inner in level.folders if not inner.total]
        for class_name, folders in classes.items():
            self.read_as |= {one.path: (role, class_name) for one in folders}


def read_image_folder(
    folder: Path,
    *,
    train_split: str | None = None,
    test_split: str | None = None,
    class_folder: ClassFolder | None = None,
    label_column: str | None = None,
) -> FolderReading | None:
    """Read a folder of pictures whose folders are their classes.

    Args:
        folder: The data folder.
        train_split: Name or path of the training split; None to find it.
        test_split: Name or path of the test split; None to find it.
        class_folder: Whether a picture's class is the first or the last of the folders below its split; None
            where it makes no difference.
        label_column: Column of a table that holds the labels instead; None for the class folders.

    Returns:
        What was read; None where a table has to say what the pictures are.

    Raises:
        DatasetError: No class folders, folders that could be read in two ways, no such split, or classes with
            test pictures alone.

    Example:
        >>> reading = read_image_folder(Path("photos"))  # doctest: +SKIP
        >>> reading.train.features["label"].names  # doctest: +SKIP
        ['ant', 'bee', 'cat']
    """
    root = leave_out_thumbnails(list_pictures(str(folder.resolve())))
    extensions = {kind.extension for one in root.below() for kind in one.passed}
    if extensions & TABLES and label_column is not None:
        return None
    if not root.total:
        _refuse_unreadable(root, has_table=bool(extensions & TABLES))
        return None
    layout = find_layout(root, train_split, test_split, by_capitals=class_folder is None)
    train = classes_of(layout.train, layout.train_name, class_folder)
    if len(train) < 2 or are_parts(list(train)):
        if extensions & TABLES:
            return None
        _refuse_capitals(layout)
        raise _no_class_folders(root, layout.train, train)
    recurs = any(train.keys() <= {one.name for one in class_folders(of, train)} for of in layout.tests)
    if class_folder is None and not recurs:
        refuse_images(train)
    plan = _Plan()
    plan.read("train", layout.train, layout.train_name, train)
    for one in layout.others:
        reason = HEAP if layout.is_flat else UNUSED if kind_of(one.name) else NO_SPLIT
        plan.passed_as[one.path] = (one.name, "", reason)
    test = _plan_test(plan, layout, train, class_folder, is_asked=test_split is not None)
    return _carry_out(plan, root, layout, test)


def _plan_test(
    plan: _Plan, layout: Layout, train: Collection[str], class_folder: ClassFolder | None, *, is_asked: bool
) -> Folder | None:
    """Plan to read the first possible test split that has labels."""
    test = None
    for split in layout.tests:
        folders = [one.name for one in class_folders(split, train)]
        is_alone = len(folders) == 1 and fold(folders[0]) not in map(fold, train)
        listed = {} if len(folders) > 1 else _listed_labels(split)
        if test is not None:
            plan.passed_as[split.path] = (split.name, "", UNUSED)
        elif set(listed.values()) & set(train):
            test, plan.listed = split, listed
            plan.passed_as[split.path] = (split.name, "", NOT_LISTED)
        elif folders and not is_alone and not are_parts(folders):
            test = split
            plan.read("test", split, split.name, classes_of(split, split.name, class_folder, train))
        elif is_asked:
            raise DatasetError(
                f"Split '{split.name}' has no class folders, so its pictures have no labels.\n"
                "Expected the class folders of the training split, or another split as `test_split`."
            )
        else:
            plan.passed_as[split.path] = (split.name, "", NO_LABELS)
    return test


def _listed_labels(split: Folder) -> dict[str, str]:
    """Classes of a split's pictures by their names, from a list beside them as Tiny ImageNet has it."""
    try:
        text = Path(split.path, "val_annotations.txt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    rows = [line.split("\t") for line in text.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) > 1}


def _carry_out(plan: _Plan, root: Folder, layout: Layout, test: Folder | None) -> FolderReading:
    """Collect the pictures of each split and class, and count all other files."""
    pictures: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    files, examples = Counter[tuple[str, str, str, str]](), dict[tuple[str, str, str, str], str]()
    waiting = [(root, ("", "", ABOVE))]
    while waiting:
        folder, outer = waiting.pop()
        split, class_name, reason = here = plan.passed_as.get(folder.path, outer)
        others = [
            (extension, TABLE if extension in TABLES else why, number, folder.examples[extension, why])
            for (extension, why), number in folder.passed.items()
        ]
        masks = masks_beside(folder.pictures)
        for name in folder.pictures:
            path = f"{folder.path}/{name}"
            if folder.path in plan.read_as and name in masks:
                others.append((extension_of(name), BESIDE, 1, printable(name)))
            elif folder.path in plan.read_as:
                role, label = plan.read_as[folder.path]
                pictures[role].append((label, path))
            elif reason == NOT_LISTED and name in plan.listed:
                pictures["test"].append((plan.listed[name], path))
            else:
                others.append((extension_of(name), reason, 1, printable(name)))
        for extension, why, number, name in others:
            kind = (split, class_name, extension, why)
            files[kind] += number
            if kind not in examples:
                examples[kind] = os.path.relpath(f"{printable(folder.path)}/{name}", printable(root.path))
        waiting.extend((inner, here) for inner in reversed(folder.folders))
    left_out = tuple(LeftOut(*kind, number, examples[kind]) for kind, number in files.items())
    names = sorted({label for role in pictures.values() for label, _ in role})
    _check_test_classes(pictures, plan, left_out)
    return FolderReading(
        folder=Path(root.path),
        train=_rows(pictures["train"], names),
        test=_rows(pictures["test"], names) if test else None,
        train_split=layout.train_name,
        test_split=test.name if test else None,
        left_out=left_out,
        empty_classes=tuple(plan.empty),
        in_doubt=tuple(name for name in names if layout.is_flat and (kind_of(name) or is_heap(name))),
    )


def _rows(pictures: Sequence[tuple[str, str]], names: Sequence[str]) -> datasets.Dataset:
    """Rows in the order of the classes; of a file whose path is no text, as in Latin-1, its bytes."""
    import datasets

    number = {name: k for k, name in enumerate(names)}
    pictures = sorted(pictures, key=lambda one: number[one[0]])
    images = [
        path if printable(path) == path else {"path": printable(path), "bytes": Path(path).read_bytes()}
        for _, path in pictures
    ]
    labels = [number[label] for label, _ in pictures]
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))})
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=kinds)


def _check_test_classes(
    pictures: Mapping[str, Sequence[tuple[str, str]]], plan: _Plan, left_out: Sequence[LeftOut]
) -> None:
    """Refuse classes with pictures in the test split alone, and say what may have become of the others."""
    trained, tested = ({label for label, _ in pictures[role]} for role in ("train", "test"))
    if not (unknown := sorted(tested - trained)):
        return
    looks = {fold(name): name for name in sorted(trained)}
    alike = [f"{name!r} is {looks[fold(name)]!r} there" for name in unknown if fold(name) in looks]
    instead = [
        f"{row.files} {row.extension} files of {row.class_name!r} were not read ({row.reason})"
        for row in left_out
        if row.class_name in unknown and f"{row.split}/{row.class_name}" in plan.empty
    ]
    why = f" ({shown(alike + instead, 5)})" if alike or instead else ""
    raise DatasetError(
        f"Classes with test images but no training image: {quoted(unknown)}{why}.\n"
        "A head cannot know them: add training images, or remove them from the test split."
    )


def _refuse_unreadable(root: Folder, *, has_table: bool) -> None:
    """Refuse a folder of pictures none of which can be opened; any other may hold a table."""
    kinds, names = Counter[tuple[str, str]](), list[str]()
    for one in root.below():
        for kind, files in one.passed.items():
            if kind.reason.startswith(NOT_OPENED):
                kinds[kind.extension, kind.reason] += files
                names.append(one.examples[kind])
    if kinds and not has_table:
        descriptions = [
            f"{files} {extension or 'without extension'}: {reason}"
            for (extension, reason), files in kinds.most_common()
        ]
        raise DatasetError(
            f"'{root.name}' holds no picture that can be read, but {shown(descriptions, 5)}.\n"
            + (advice_on(names) or "Write them as images that Pillow opens, such as PNG.")
        )


def _refuse_capitals(layout: Layout) -> None:
    """Refuse folders that capitals alone tell to be splits, where they could be the classes as well."""
    folders = [layout.train, *layout.tests, *layout.others]
    heaps = [one for one in folders if one.pictures and not kind_of(one.name)]
    by_capitals = [
        one for one in heaps if longer_kind_of(one.name) and not longer_kind_of(one.name, by_capitals=False)
    ]
    if len(heaps) > 1 and by_capitals == heaps:
        raise DatasetError(
            f"The pictures of '{layout.train_name}' lie in no class folders: {names_of(heaps)} are called as "
            "splits, and could be classes.\n"
            'Where they are the classes: `class_folder="first"`. Where they are splits, put the pictures of '
            "each into class folders, or a metadata.csv beside them, with the columns file_name and label."
        )


def _no_class_folders(root: Folder, split: Folder, classes: Collection[str]) -> NoClassFoldersError:
    inside = f"one class folder, {next(iter(classes))!r}" if len(classes) == 1 else "no class folders"
    files = Counter[str]()
    for kind, count in (kind for one in root.below() for kind in one.passed.items()):
        files[kind.extension] += count if kind.reason == NO_IMAGE else 0
    extension, number = next(iter(files.most_common(1)), ("", 0))
    examples = [name for one in (root, *root.folders) for name in one.examples.values()]
    advice = advice_on(examples)
    if extension in ANNOTATIONS and number >= split.total:
        advice = (
            f"The {number:,} {extension} files look like annotations of objects, which are not read: cut the "
            "objects out, one class an image."
        )
    if len(root.filled) > 1 and any(one.pictures and not kind_of(one.name) for one in root.filled):
        advice += ' Where all folders here are classes: `class_folder="first"`.'
    problem = f"The {split.total:,} pictures of '{split.name}' lie in {inside}, expected two or more. "
    problem += advice.strip()
    return NoClassFoldersError(
        f"{problem.strip()}\nMake it train/CLASS/*.jpg and test/CLASS/*.jpg, or CLASS/*.jpg alone; or put a "
        "metadata.csv beside the pictures, with the columns file_name and label."
    )
