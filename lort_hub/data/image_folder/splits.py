"""Find the splits of a folder of pictures by the names of its folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from lort_hub.data.image_folder.classes import class_folders, without_companions
from lort_hub.data.image_folder.names import (
    EXTRA,
    KIND_OF,
    PICTURES,
    TESTS,
    are_parts,
    beside_split,
    fold,
    heaps_among,
    is_trainval,
    kind_of,
    longer_kind_of,
    names_of,
)
from lort_hub.data.image_folder.tree import Folder
from lort_hub.errors import DatasetError, NoSplitError, did_you_mean
from lort_hub.shorten import quoted

_OF_PICTURES = frozenset(("query", "gallery", "sample", "samples", "single", "prediction"))
"""Words of folders of pictures without classes beside those of splits."""


@dataclass(frozen=True)
class Layout:
    """The splits of a data folder.

    Attributes:
        train: Folder of the training split.
        train_name: Its name.
        tests: Folders that could be the test split, the likeliest first.
        others: Folders beside them that are no split.
        is_flat: Whether the data folder has no splits, and all is training.
    """

    train: Folder
    train_name: str
    tests: Sequence[Folder] = ()
    others: Sequence[Folder] = ()
    is_flat: bool = False


def find_layout(
    root: Folder,
    train_split: str | None = None,
    test_split: str | None = None,
    *,
    by_capitals: bool = True,
) -> Layout:
    """Find the splits of a data folder.

    Args:
        root: The data folder.
        train_split: Name of the training split, or its path below the data folder; None to find it.
        test_split: The same of the test split.
        by_capitals: Whether TestData may be a split, and `test` beside classes no class; else capitals tell
            no words apart, and folders of pictures are classes whatever they are called.

    Raises:
        DatasetError: There is no such split, or several could be it.

    Example:
        >>> inner = [Folder(name, "", ["0.jpg"], total=1) for name in ("ant", "bee")]
        >>> splits = [Folder(name, "", folders=inner, total=2) for name in ("Testing", "Training")]
        >>> layout = find_layout(Folder("photos", "", folders=splits, total=4))
        >>> layout.train_name, [folder.name for folder in layout.tests]
        ('Training', ['Testing'])
    """
    if train_split is None or (train_split == "train" and not _find(root, "train")):
        layout = _search(root, by_capitals=by_capitals)
    else:
        train = _named(root, train_split, "train_split")
        parent = next(one for one in root.below() if any(inner is train for inner in one.folders))
        layout = _around(parent, train, by_capitals=by_capitals)
    if test_split is None:
        looks = Counter(fold(one.name) for one in layout.tests)
        if twins := [one for one in layout.tests if looks[fold(one.name)] > 1]:
            raise DatasetError(
                f"Several folders could be the test split: {names_of(twins)}.\n"
                f"Choose one, e.g. `test_split` {twins[0].name!r}."
            )
        return layout
    longer = [one for one in layout.tests if longer_kind_of(one.name) == (kind_of(test_split) or "")]
    is_longer = len(longer) == 1 and not _find(root, test_split)
    test = longer[0] if is_longer else _named(root, test_split, "test_split")
    if any(one is test for one in layout.train.below()):
        raise DatasetError(
            f"`test_split` {test_split!r} is a part of the training split '{layout.train_name}'.\n"
            f"Name the training split too: `train_split` expects one of: {names_of(root.filled)}."
        )
    others = [one for one in (*layout.tests, *layout.others) if one is not test]
    return Layout(layout.train, layout.train_name, [test], others)


def _named(root: Folder, name: str, argument: str) -> Folder:
    folder = _find(root, name)
    if folder is None:
        names = [one.name for one in root.filled]
        raise NoSplitError(
            f"No split '{name}' in '{root.name}'.{did_you_mean(name, names)}\n"
            f"`{argument}` expects a folder with pictures, e.g. one of: {names_of(root.filled)}."
        )
    return folder


def _find(root: Folder, name: str) -> Folder | None:
    """A folder by its path, or the first by its name, or by another name for the same kind of split."""
    node: Folder | None = root
    for part in name.strip("/").split("/"):
        node = next((one for one in node.filled if one.name == part), None) if node else None
    if node:
        return node
    below = [one for one in root.below() if one.total and one is not root]
    below.sort(key=lambda one: one.path.count("/"))
    same = [one for one in below if fold(one.name) == fold(name)]
    kind = [one for one in below if kind_of(name) and kind_of(one.name) == kind_of(name)]
    return next(iter(same + kind), None)


def _search(root: Folder, *, by_capitals: bool) -> Layout:
    """Go down to a training split, or to several folders, which are then classes."""
    node = root
    while True:
        while len(alone := without_companions(node.filled)) == 1 and _holds_both(alone[0]):
            node = alone[0]
        trains = _without_trainval(_training_splits(node.filled, by_capitals=by_capitals))
        if len(trains) > 1:
            raise DatasetError(
                f"Several folders could be the training split: {names_of(trains)}.\n"
                f"Choose one, e.g. `train_split` {trains[0].name!r}."
            )
        if trains:
            return _certain(_around(node, trains[0], by_capitals=by_capitals))
        _refuse_test_alone(root, node.filled)
        inner = without_companions(node.filled)
        if len(inner) != 1 or not inner[0].filled:
            return _flat(node) if by_capitals else Layout(node, "train", is_flat=True)
        node = inner[0]


def _flat(node: Folder) -> Layout:
    """The layout without splits: heaps called as no class are set aside where others may be classes."""
    called = heaps_among([one.name for one in node.filled])
    heaps = [one for one in node.filled if one.name in called and len(class_folders(one)) < 2]
    rest = [one.name for one in node.filled if one not in heaps]
    if (len(rest) < 2 or are_parts(rest)) and not any(fold(name) in PICTURES for name in rest):
        return Layout(node, "train", is_flat=True)
    folders = [one for one in node.folders if one not in heaps]
    train = replace(node, folders=folders, total=node.total - sum(one.total for one in heaps))
    return Layout(train, "train", others=heaps, is_flat=True)


def _certain(layout: Layout) -> Layout:
    """Refuse a training split without a test split, but beside folders that could be one, or classes."""
    classes = {one.name for one in class_folders(layout.train)}
    twins = [one for one in layout.others if len(classes) > 1 and classes <= {x.name for x in one.filled}]
    if twins and not layout.tests:
        raise DatasetError(
            f"{names_of([layout.train, *twins])} hold the same folders: {quoted(sorted(classes))}.\n"
            f"Name the splits: `train_split` {layout.train.name!r}, and `test_split` if one of them is it."
        )
    heaps = [one for one in layout.others if one.pictures]
    if len(heaps) > 1 and not layout.tests:
        raise DatasetError(
            f"'{layout.train.name}' could be a split, or a class as {names_of(heaps)} beside it.\n"
            f"Give `train_split` {layout.train.name!r} where it is a split; else leave no folders in it."
        )
    return layout


def _refuse_test_alone(root: Folder, folders: Sequence[Folder]) -> None:
    tests = [one for one in folders if kind_of(one.name) and len(class_folders(one)) > 1]
    rest = [one for one in folders if one not in tests]
    inside = {inner.name for one in tests for inner in class_folders(one)}
    if any(one.name in inside for one in rest):
        raise DatasetError(
            f"'{root.name}' holds class folders, {names_of(rest)}, beside a split, {names_of(tests)}.\n"
            "Move the class folders into a folder called train."
        )
    trains = [one for one in folders if kind_of(one.name) == "train"]
    if tests and trains:
        raise DatasetError(
            f"'{trains[0].name}' of '{root.name}' holds {len(class_folders(trains[0]))} class folder, and "
            f"'{tests[0].name}' holds {len(class_folders(tests[0]))}.\n"
            "Expected two or more classes to train on. Where the folders are no splits, give one of them."
        )
    if tests and not any(one.pictures for one in rest):
        raise NoSplitError(
            f"No split 'train' in '{root.name}', found: {names_of(folders)}.\n"
            "Name one with `train_split`, which takes the name of any folder."
        )


def _training_splits(folders: Sequence[Folder], *, by_capitals: bool) -> list[Folder]:
    """Which of the folders beside each other are training splits; none where they are classes."""
    named = {kind: [one for one in folders if kind_of(one.name) == kind] for kind in ("train", None)}
    tests = [one for one in folders if kind_of(one.name) in TESTS]
    are_heaps = not any(class_folders(one) for one in folders)
    if not named[None]:
        return named["train"]
    if tests and are_heaps and all(fold(one.name) in EXTRA for one in named[None]):
        return named["train"]
    if splits := [one for one in named["train"] if len(class_folders(one)) > 1]:
        return splits
    if are_heaps and by_capitals and (heaps := _heaps_of_splits(folders)):
        return heaps[:1]
    # A longer name, as seg_train, may be a class's: it is a split's where those beside it share its classes.
    kinds = {one.name: longer_kind_of(one.name, by_capitals=by_capitals) for one in folders}
    if are_heaps:
        kinds |= {one.name: None for one in folders if "class" in beside_split(one.name)}
    trains = [one for one in folders if kinds[one.name] == "train"]
    rest = [one for one in folders if kinds[one.name] != "train"]
    classes = {inner.name for one in trains for inner in class_folders(one)}
    if len(classes) < 2 and not all(kinds.values()):
        return []
    fits = all(_shares(one, classes) in (None, bool(kinds[one.name])) for one in rest)
    return trains if fits and any(kinds[one.name] for one in rest) else []


def _heaps_of_splits(folders: Sequence[Folder]) -> list[Folder]:
    """Training splits among heaps of pictures: beside a test of the same words, or beside no other words.

    Beside several other folders, or one that shares their words (steam engine), they are classes, and so is
    one called `train_class`.
    """
    words = {one.name: beside_split(one.name) for one in folders}
    kinds = {name: None if "class" in own else longer_kind_of(name) for name, own in words.items()}
    others = [one.name for one in folders if not kinds[one.name] and words[one.name] - _OF_PICTURES]
    shared = frozenset().union(*(words[name] for name in others))
    trains = [one for one in folders if kinds[one.name] == "train" and not words[one.name] & shared]
    tested = {words[name] for name, kind in kinds.items() if kind in TESTS}
    fitting = [one for one in trains if words[one.name] in tested or not any(words.values())]
    return fitting if len(others) < 2 else []


def _without_trainval(trains: list[Folder]) -> list[Folder]:
    """The training splits without trainval, where there is another one: that is a part of it."""
    return [one for one in trains if not is_trainval(one.name)] or trains


def _holds_both(folder: Folder) -> bool:
    """Whether a folder called trainval holds the training and the validation split, each in a folder."""
    kinds = {kind_of(one.name) for one in folder.filled}
    return is_trainval(folder.name) and "train" in kinds and len(kinds) > 1 and None not in kinds


def _shares(folder: Folder, classes: Collection[str]) -> bool | None:
    """Whether a folder holds some of these class folders; None where it holds no folders at all."""
    inner = class_folders(folder, classes)
    return any(one.name in classes for one in inner) if inner else None


def _around(parent: Folder, train: Folder, *, by_capitals: bool) -> Layout:
    """The splits beside a training split."""
    classes = {one.name for one in class_folders(train)}
    tests, others = list[Folder](), list[Folder]()
    possible = TESTS[:1] if is_trainval(train.name) else TESTS  # trainval holds the validation split
    for one in parent.filled:
        if one is not train:
            shares = _shares(one, classes) is not False
            longer = longer_kind_of(one.name, by_capitals=by_capitals) if shares else None
            (tests if (kind_of(one.name) or longer) in possible else others).append(one)
    tests.sort(key=_likeliness)
    return Layout(train, train.name, tests, others)


def _likeliness(test: Folder) -> tuple[bool, int]:
    """Order of folders that could be the test split: those called so alone first, tests before validation."""
    if kind_of(test.name):
        return False, list(KIND_OF).index(fold(test.name))
    return True, TESTS.index(longer_kind_of(test.name) or TESTS[-1])
