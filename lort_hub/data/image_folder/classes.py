"""Find the class folders of a split, or refuse those that could be read in two ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Literal

from lort_hub.data.image_folder.names import HEAPS_OF_IMAGES, PICTURES, fold, is_companion, kind_of, names_of
from lort_hub.data.image_folder.tree import Folder
from lort_hub.errors import DatasetError, NoClassFoldersError
from lort_hub.shorten import quoted

ClassFolder = Literal["first", "last"]


def class_folders(split: Folder, known: Collection[str] = ()) -> list[Folder]:
    """Find the class folders of a split: the folders in it, or in a lone folder inside it.

    Args:
        split: The split.
        known: Names of classes.

    Returns:
        Folders that have pictures; none where the split holds pictures alone, or one folder of its own name
        that does, as archives of archives leave it.

    Example:
        >>> classes = [Folder(name, "", ["0.jpg"], total=1) for name in ("ant", "bee")]
        >>> inner = Folder("seg_train", "", folders=classes, total=2)
        >>> [one.name for one in class_folders(Folder("seg_train", "", folders=[inner], total=2))]
        ['ant', 'bee']
    """
    first = inner = without_companions(split.filled)
    while len(inner) == 1 and inner[0].name not in known:
        inner = without_companions(inner[0].filled)
    is_doubled = not inner and len(first) == 1 and fold(first[0].name) == fold(split.name)
    return [] if is_doubled and first[0].name not in known else inner or first


def without_companions(folders: Sequence[Folder]) -> list[Folder]:
    """Leave out the folders of masks and the like where a folder of pictures is beside them."""
    rest = [one for one in folders if not is_companion(one.name)]
    return rest if len(rest) == 1 and fold(rest[0].name) in PICTURES else list(folders)


def classes_of(
    split: Folder, name: str, class_folder: ClassFolder | None, known: Collection[str] = ()
) -> dict[str, list[Folder]]:
    """Find the classes of a split, each with the folders whose pictures are read.

    Args:
        split: The split.
        name: Its name.
        class_folder: "first" or "last" of the folders on the way from the split to a picture; None where it
            makes no difference.
        known: Names of classes.

    Raises:
        DatasetError: It makes a difference, or the last folders of two classes have the same name.

    Example:
        >>> inner = [Folder(name, "", ["0.jpg"], total=1) for name in ("images", "masks")]
        >>> split = Folder("train", "", folders=[Folder(n, "", folders=inner, total=2) for n in "ab"])
        >>> {name: [one.name for one in read] for name, read in classes_of(split, "train", None).items()}
        {'a': ['a', 'images'], 'b': ['b', 'images']}
    """
    folders = class_folders(split, known)
    read = {one.name: _read_with(one) for one in folders}
    deep = [leaf for one in folders for leaf in read[one.name] if leaf.pictures and leaf is not one]
    if class_folder == "last" and deep:
        leaves = [leaf for one in folders for leaf in read[one.name] if leaf.pictures]
        names = Counter(leaf.name for leaf in leaves)
        if twice := [leaf for leaf in leaves if names[leaf.name] > 1]:
            raise DatasetError(
                f"Several folders of '{name}' are called '{twice[0].name}': they cannot be one class by "
                '`class_folder="last"`.\nGive each class a folder of its own name.'
            )
        return {leaf.name: [leaf] for leaf in leaves}
    if class_folder is None:
        _refuse_two_readings(name, folders, read)
    return read


def refuse_images(classes: Mapping[str, Sequence[Folder]]) -> None:
    """Refuse a folder called as one of images beside one other folder, as one of masks or of copies.

    Args:
        classes: Folders by class.

    Raises:
        NoClassFoldersError: There is one.

    Example:
        >>> refuse_images({"ant": [], "bee": []})
    """
    heaps = [name for name in classes if fold(name) in HEAPS_OF_IMAGES]
    if len(heaps) == 1 and len(classes) == 2 and classes[heap := heaps[0]][0].pictures:
        (other,) = classes.keys() - {heap}
        raise NoClassFoldersError(
            f"'{heap}' beside '{other}' is called as a folder of images, and no class.\n"
            'Where both are classes: `class_folder="first"`. Else make it train/CLASS/*.jpg; or put a '
            f"metadata.csv into '{heap}', with the columns file_name and label."
        )


def _read_with(folder: Folder) -> list[Folder]:
    """A class folder and those below it, without masks and the like beside its pictures."""
    beside = bool(folder.pictures) or any(fold(one.name) in PICTURES for one in folder.filled)
    inner = [one for one in folder.filled if not (beside and is_companion(one.name))]
    return [folder, *(below for one in inner for below in one.below())]


def _refuse_two_readings(name: str, folders: Sequence[Folder], read: Mapping[str, Sequence[Folder]]) -> None:
    """Refuse class folders with several folders in them, which could be the classes as well."""
    inside = {one.name: [leaf for leaf in read[one.name][1:] if leaf.pictures] for one in folders}
    names = {leaf.name for leaves in inside.values() for leaf in leaves}
    first, last = names_of(folders), quoted(sorted(names))
    if beside := sorted(
        {leaf.name for one in folders if one.pictures for leaf in inside[one.name] if kind_of(leaf.name)}
    ):
        raise DatasetError(
            f"Class folders of '{name}', {first}, hold pictures beside folders called as splits, "
            f"{quoted(beside)}.\n"
            "Expected the split first, then the class: train/CLASS and test/CLASS (links will do).\n"
            'Where they are parts of the class: `class_folder="first"`.'
        )
    counts = {
        one.name: sum(len(leaf.pictures) for leaf in inside[one.name]) - len(one.pictures) for one in folders
    }
    are_splits = len({kind_of(one) for one in names} - {None}) > 1
    if not are_splits and (
        len(names) < 2 or not any(len(inside[one]) > 1 and counts[one] >= 0 for one in counts)
    ):
        return
    known = {one.name for one in folders}
    if again := [one for one in folders if len(own := {x.name for x in one.filled}) > 1 and own < known]:
        raise DatasetError(
            f"'{again[0].name}' of '{name}' holds folders of the names that lie beside it: "
            f"{names_of(again[0].filled)}.\n"
            f"Take '{again[0].name}' away where it is a copy of them; where it is a split, move it out."
        )
    if all(kind_of(one) for one in names):
        raise DatasetError(
            f"The class folders of '{name}', {first}, each hold splits: {last}.\n"
            "Expected the split first, then the class: train/CLASS and test/CLASS (links will do)."
        )
    if all({leaf.name for leaf in leaves} == names for leaves in inside.values()):
        largest = max(folders, key=attrgetter("total"))
        raise DatasetError(
            f"The folders of '{name}', {first}, each hold the same folders: {last}.\n"
            f"Where they are splits, name them: `train_split` {largest.name!r}, and `test_split` if one "
            'of them is it. Where they are the classes: `class_folder="first"`.'
        )
    raise DatasetError(
        f"The folders of '{name}' hold folders again: the classes could be {first}, or {last}.\n"
        'Choose `class_folder="first"` or `class_folder="last"`, or name a split\'s folder: `train_split`.'
    )
