"""Read the names of folders: which are splits, which are masks, and which look the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from lort_hub.data.image_folder.tree import Folder
from lort_hub.shorten import quoted

TRAINVAL = "trainval"
"""The training and the validation split together: the training split where no other one is there."""
KINDS = {
    "train": ("train", "training", "trainset", TRAINVAL),
    "test": ("test", "testing", "testset"),
    "validation": ("validation", "valid", "val", "valset", "dev", "eval", "evaluation"),
}
TESTS = ("test", "validation")
"""Kinds to test on, the first choice first."""
KIND_OF = {word: kind for kind, words in KINDS.items() for word in words}
PICTURES = frozenset(
    ("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "jpegimages", "rgb")
)
HEAPS_OF_IMAGES = frozenset(("image", "images", "img", "imgs", "jpegimages", "jpg", "jpeg", "png"))
"""Names of folders that say of their pictures that they are some; photo and picture may be classes."""
COMPANIONS = frozenset(
    ("mask", "masks", "segmentation", "segmentations", "label", "labels", "annotation", "annotations", "gt")
) | {"segmentationclass", "segmentationobject", "gtfine", "gtcoarse"}
_MASK = re.compile(r"(.+)_(mask|seg|gt)(_\d+)?", re.IGNORECASE)
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
"""Words of a name, also where capitals alone tell them apart."""
_TRAINVAL = re.compile(
    r"((?<![a-z])|(?=T))(?i:train(ing)?[\W_]*(and[\W_]*)?val(id|idation)?)(?![a-z])(?![\W_]*split)"
)
_LABELLED = ({"labeled", "unlabeled"}, {"labelled", "unlabelled"})
EXTRA = frozenset(("extra", "additional", "unlabeled", "unlabelled"))
"""Names of heaps of more pictures beside a training and a test split."""
HEAPS = frozenset((*KINDS["test"], "validation", "valset", "holdout", "unsorted", "pred"))
"""Words of heaps of pictures that are no class."""
_LOWER_HEAPS = frozenset(("val", "dev", "eval"))
"""More of them, in small letters: with a capital they are names of people or codes."""
_HEAP = re.compile("unlabel|predict|submission")
"""Beginnings of more such words."""
_OF_HEAPS = (PICTURES - {"rgb"}) | {"set", "data", "dataset"}
PARTS = (PICTURES - {"rgb"}) | COMPANIONS | {"part", "batch", "fold", "folder", "chunk", "shard"}


_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u2032", "'"))
_KINDS_ALIKE = {"Cf": "", "Pd": "-"}
"""Signs of these kinds look alike: those without a glyph, and dashes."""


def are_parts(names: Sequence[str]) -> bool:
    """Tell by their names whether folders are parts of one heap of pictures, and no classes.

    Example:
        >>> are_parts(["HAM_images_part_1", "HAM_images_part_2"]), are_parts(["images", "masks"])
        (True, True)
        >>> are_parts(["class_1", "class_2"]), are_parts(["photo", "sketch"])
        (False, False)
        >>> are_parts(["labeled", "unlabeled"])
        True
    """
    if {fold(name) for name in names} in _LABELLED:
        return True
    words = [_words(name) for name in names]
    common = set.intersection(*words) if words else set()
    return all(one & PARTS and not one - PARTS - common for one in words)


def is_companion(name: str) -> bool:
    """Tell whether a folder is called as one of masks or the like: by its name, or by its last word.

    Example:
        >>> is_companion("Masks"), is_companion("lung masks"), is_companion("white label")
        (True, True, False)
    """
    last = re.split(r"[^a-z]+", fold(name))[-1]
    return fold(name) in COMPANIONS or last in COMPANIONS - {"label", "labels"}


def masks_beside(names: Sequence[str]) -> set[str]:
    """Find the files that are the mask of another one in the same folder, by their names.

    Example:
        >>> sorted(masks_beside(["1.png", "1_mask.png", "1_mask_1.png", "2_mask.png"]))
        ['1_mask.png', '1_mask_1.png']
    """
    stems = {name: name.rpartition(".")[0] or name for name in names}
    known = set(stems.values())
    return {name for name, stem in stems.items() if (mask := _MASK.fullmatch(stem)) and mask[1] in known}


def kind_of(name: str) -> str | None:
    """Find the kind of split of a folder's name: "train", "test", "validation", or None.

    Example:
        >>> kind_of("Training"), kind_of("test-tube"), kind_of("train_val")
        ('train', None, 'train')
    """
    return KIND_OF.get(fold(with_trainval(name)))


def with_trainval(name: str) -> str:
    """Write the training and the validation split together as one word in a name.

    Example:
        >>> with_trainval("train_val_list"), with_trainval("ImagesTrainAndVal"), with_trainval("train_valley")
        ('trainval_list', 'ImagesTrainval', 'train_valley')
    """
    if "val" not in name.lower():  # as most of a million files are
        return name
    return _TRAINVAL.sub(lambda word: TRAINVAL.capitalize() if word[0][0].isupper() else TRAINVAL, name)


def is_trainval(name: str) -> bool:
    """Tell whether a folder is called as the training and the validation split together.

    Example:
        >>> is_trainval("TrainVal2007"), is_trainval("train"), is_trainval("intrainval")
        (True, False, False)
    """
    return TRAINVAL in _words(name)


def longer_kind_of(name: str, *, by_capitals: bool = True) -> str | None:
    """Find the kind of split of a name that holds the word of one split beside other words.

    Args:
        name: The name.
        by_capitals: Whether capitals tell words apart too.

    Example:
        >>> longer_kind_of("seg_train"), longer_kind_of("val2017"), longer_kind_of("train-test")
        ('train', 'validation', None)
        >>> longer_kind_of("TestData"), longer_kind_of("testbed"), longer_kind_of("TrainVal2007")
        ('test', None, 'train')
        >>> longer_kind_of("TestData", by_capitals=False)
    """
    whole = with_trainval(unicodedata.normalize("NFKC", name))
    cut = {word.lower() for word in re.findall(_CAMEL, whole)} if by_capitals else _words(name)
    kinds = {KIND_OF[word] for word in cut if word in KIND_OF}
    return kinds.pop() if len(kinds) == 1 else None


def is_heap(name: str) -> bool:
    """Tell whether a folder is called as a heap of pictures to test on or without labels, and as no class.

    Example:
        >>> [is_heap(name) for name in ("test_set1", "TestImages", "unlabelled_data")]
        [True, True, True]
        >>> [is_heap(name) for name in ("test-tube", "valid", "images")]
        [False, False, False]
    """
    words = re.findall(_CAMEL, name)
    told = [one for one in words if one.lower() in HEAPS or one in _LOWER_HEAPS or _HEAP.match(one.lower())]
    others = {word.lower() for word in words if word not in told}
    return bool(told) and name.isascii() and others <= _OF_HEAPS


def heaps_among(names: Sequence[str]) -> list[str]:
    """Find the names of heaps of pictures among those of classes, which look otherwise.

    A name with a number is a class beside others with one, one in capitals beside others in capitals, and
    `unsorted` beside `sorted`.

    Example:
        >>> heaps_among(["ant", "bee", "test"]), heaps_among(["Test 1", "Test 2", "Control"])
        (['test'], [])
        >>> heaps_among(["ALA", "GLY", "TEST"]), heaps_among(["sorted", "unsorted", "mixed"])
        ([], [])
    """
    heaps = [name for name in names if is_heap(name)]
    rest = [name for name in names if name not in heaps]
    numbered = [name for name in names if any(map(str.isdigit, name))]
    folded = set(map(fold, names))
    return [
        name
        for name in heaps
        if not (name in numbered and len(numbered) > 1)
        and not (name.isupper() and rest and all(map(str.isupper, rest)))
        and fold(name).removeprefix("un") not in folded - {fold(name)}
    ]


def beside_split(name: str) -> frozenset[str]:
    """Find the words of a folder's name besides those of splits and of pictures.

    Example:
        >>> sorted(beside_split("bounding_box_train")), sorted(beside_split("TestImages2"))
        (['bounding', 'box'], [])
    """
    whole = with_trainval(unicodedata.normalize("NFKC", name))
    words = {word.lower() for word in re.findall(_CAMEL, whole)}
    return frozenset(words - KIND_OF.keys() - _OF_HEAPS)


def fold(name: str) -> str:
    """Fold what people do not see in a name: capitals, blanks, Unicode forms, and signs without a glyph.

    Example:
        >>> fold("Ant\u200b"), fold("non\u2011ant") == fold("non-ant"), fold("ant\u2019s") == fold("ant's")
        ('ant', True, True)
        >>> fold(" Black  Bear"), fold("Cafe\u0301") == fold("caf\u00e9")
        ('black bear', True)
    """
    if not name.isascii():
        normal = unicodedata.normalize("NFKC", name).translate(_APOSTROPHES)
        name = "".join(_KINDS_ALIKE.get(unicodedata.category(sign), sign) for sign in normal)
    return " ".join(name.casefold().split())


def names_alike(names: Iterable[str]) -> list[list[str]]:
    """Group the names that look the same: they differ in capitals, blanks, dashes and the like.

    Example:
        >>> names_alike(["ant", "Ant ", "bee"])
        [['ant', 'Ant ']]
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(fold(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _words(name: str) -> set[str]:
    return {word for word in re.split(r"[^a-z]+", fold(with_trainval(name))) if word}


def names_of(folders: Iterable[Folder]) -> str:
    """Format the names of the first folders, for a message."""
    return quoted([one.name for one in folders])
