import json
import os
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lort_hub.data.image_folder.read import read_image_folder
from lort_hub.data.load import load_long_tailed
from lort_hub.errors import DatasetError
from tests.support.images import fill, noise_image

TRAIN, TEST = {"ant": 6, "bee": 4, "cat": 3}, {"ant": 2, "bee": 2, "cat": 2}
BOTH = {"ant": (6, 2), "bee": (4, 2), "cat": (3, 2)}
TRAIN_ALONE = {"ant": (5, 1), "bee": (3, 1), "cat": (2, 1)}
CASES = []


def case(name, outcome, says="", **options):
    """A folder, by the name it has in the list of tried inputs, and what becomes of it.

    Args:
        name: Its name.
        outcome: Training and test images of each class, or what the refusal says.
        says: What is said besides.
        options: Of `load_long_tailed`.
    """

    def add(build):
        CASES.append(pytest.param(build, outcome, says, options, id=f"{name}-{build.__name__}"))
        return build

    return add


def both(folder, train="train", test="test"):
    fill(folder / train, TRAIN)
    fill(folder / test, TEST, start=5000)


def counts_of(data):
    """Training and test images by class."""
    tested = np.bincount(data.test.labels, minlength=data.num_classes)
    return {
        name: (int(k), int(n)) for name, k, n in zip(data.class_names, data.class_counts, tested, strict=True)
    }


# Splits: the first folder, and nothing else.


@case("plain", BOTH)
def splits(folder):
    both(folder)


@case("d01b", {"bus": (6, 2), "car": (4, 2), "train": (3, 2)})
def class_called_train(folder):
    fill(folder / "train", {"bus": 6, "car": 4, "train": 3})
    fill(folder / "test", {"bus": 2, "car": 2, "train": 2}, start=5000)


@case("d01b", {"dev": (6, 2), "test": (4, 2), "val": (3, 2)})
def classes_called_test_val_and_dev(folder):
    fill(folder / "train", {"test": 4, "val": 3, "dev": 6})
    fill(folder / "test", {"test": 2, "val": 2, "dev": 2}, start=5000)


@case("d29", {"bullet_train": (6, 2), "car_dev": (4, 2), "test-tube": (3, 2)})
def classes_with_the_words_in_them(folder):
    fill(folder / "train", {"bullet_train": 6, "car_dev": 4, "test-tube": 3})
    fill(folder / "val", {"bullet_train": 2, "car_dev": 2, "test-tube": 2}, start=5000)


@case("d01", {"bus": (5, 1), "car": (4, 1), "train": (4, 1)})
def flat_with_a_class_called_train(folder):
    fill(folder, {"bus": 6, "car": 5, "train": 5})


@case("d02", {"bullet_train": (5, 1), "bus": (4, 1), "test-tube": (4, 1)})
def flat_with_the_words_in_class_names(folder):
    fill(folder, {"bullet_train": 6, "bus": 5, "test-tube": 5})


@case("d02b", {"bus": (6, 1), "car": (4, 1)})
def flat_with_the_words_in_file_names(folder):
    fill(folder, {"bus": 5, "car": 5})
    for name in ("test_000.jpg", "ILSVRC2012_val_1.jpg"):
        fill(folder / "more", {"bus": 1}, start=len(name))
        (folder / "more/bus/0.jpg").rename(folder / "bus" / name)
    shutil.rmtree(folder / "more")


@case("d13", BOTH)
def splits_in_capitals(folder):
    both(folder, "Train", "TEST")


@case("d26", BOTH)
def training_and_dev(folder):
    both(folder, "training", "dev")


@case("d28", BOTH)
def train_set_and_test_set(folder):
    both(folder, "train_set", "test_set")


@case("d28", BOTH)
def images_of_2017(folder):
    both(folder, "Train2017", "Val2017")


@case("d28", BOTH, "val 3 .jpg another split")
def validation_beside_a_test_split(folder):
    both(folder)
    fill(folder / "val", {"ant": 1, "bee": 1, "cat": 1}, start=9000)


@case("d28", BOTH, "test 2 .jpg another split", test_split="val")
def the_split_that_is_asked_for(folder):
    both(folder, test="val")
    fill(folder / "test", {"ant": 1, "bee": 1}, start=9000)


@case("d28", BOTH, test_split="validation")
def the_split_by_another_name(folder):
    both(folder, test="valid")


@case("d28f", BOTH)
def splits_in_a_folder_called_data(folder):
    both(folder / "download" / "data")


@case("d13b", BOTH, "seg_pred 4 .jpg no split")
def splits_twice_nested_and_unlabelled_pictures(folder):
    both(folder, "seg_train/seg_train", "seg_test/seg_test")
    fill(folder / "seg_pred", {"seg_pred": 4}, start=9000)


@case("d25", BOTH, "unlabeled 4 .jpg no split unlabeled/0.jpg")
def unlabelled_pictures_beside_the_splits(folder):
    both(folder, test="valid")
    fill(folder, {"unlabeled": 4}, start=9000)


@case(
    "d28g", r"'fold1', 'fold2', each hold the same folders: 'ant', 'bee', 'cat'(.|\n)*`train_split` 'fold1'"
)
def folds(folder):
    both(folder, "fold1", "fold2")


@case("d28g", BOTH, train_split="fold1", test_split="fold2")
def folds_by_name(folder):
    both(folder, "fold1", "fold2")


@case("d28g", TRAIN_ALONE, "B 6 .jpg no split", train_split="A")
def one_fold_by_name(folder):
    both(folder, "A", "B")


@case("d28g", BOTH, train_split="parts/A", test_split="parts/B")
def folds_by_their_paths(folder):
    both(folder / "parts", "A", "B")
    fill(folder, {"readme": 1}, start=9000)
    shutil.rmtree(folder / "readme")


@case("d28g", "`test_split` 'B' is a part of the training split 'train'", test_split="B")
def fold_for_testing_alone(folder):
    both(folder, "A", "B")


@case("d28", r"Several folders could be the training split: 'Training', 'train'")
def two_training_splits(folder):
    both(folder)
    fill(folder / "Training", TRAIN, start=9000)


@case("d28", r"Several folders could be the test split: 'TEST', 'test'")
def two_test_splits(folder):
    both(folder)
    fill(folder / "TEST", TEST, start=9000)


@case("d28", BOTH, "TEST 6 .jpg another split", test_split="test")
def two_test_splits_of_which_one_is_named(folder):
    both(folder)
    fill(folder / "TEST", TEST, start=9000)


@case("d28", r"No split 'train' in 'photos', found: 'test'")
def no_training_split(folder):
    fill(folder / "test", TEST)


@case("d28", r"class folders, 'ant', 'bee', 'cat', beside a split, 'test'")
def class_folders_beside_the_test_split(folder):
    both(folder, train=".")


@case("d28", r"'ant', 'bee', 'cat', each hold splits: 'test', 'train'")
def splits_inside_classes(folder):
    for start, name in enumerate(TRAIN):
        fill(folder / name, {"train": 4, "test": 2}, start=1000 * start)


@case("d28", "'train' could be a split, or a class as 'bus', 'car'")
def class_called_train_with_folders_in_it(folder):
    fill(folder, {"bus": 4, "car": 4})
    fill(folder / "train", {"steam": 3, "express": 3}, start=5000)


@case("wrong", "No split 'tset' in 'photos'. Did you mean 'test'", test_split="tset")
def mistyped_split(folder):
    both(folder)


@case("d14", TRAIN_ALONE, "test 5 .jpg no class folders")
def unlabelled_test_split(folder):
    fill(folder / "train", TRAIN)
    fill(folder, {"test": 5}, start=5000)


@case("d14", TRAIN_ALONE, "test 5 .jpg no class folders")
def unlabelled_test_split_in_a_folder(folder):
    fill(folder / "train", TRAIN)
    fill(folder / "test", {"unknown": 5}, start=5000)


@case("p14", BOTH, "test 5 .jpg no class folders")
def unlabelled_test_split_and_labelled_validation(folder):
    both(folder, test="validation")
    fill(folder, {"test": 5}, start=9000)


@case("d14", "Split 'test' has no class folders", test_split="test")
def unlabelled_test_split_that_is_asked_for(folder):
    fill(folder / "train", TRAIN)
    fill(folder, {"test": 5}, start=5000)


# Classes: the next folder, and nothing above it.


@case("d15b", BOTH, "train 1 .jpg above the class folders train/sheet.jpg")
def stray_picture_in_a_split(folder):
    both(folder)
    shutil.copy(folder / "test/ant/0.jpg", folder / "train/sheet.jpg")


@case("d15", BOTH, ". 1 .jpg above the class folders sheet.jpg")
def stray_picture_above_the_splits(folder):
    both(folder)
    shutil.copy(folder / "test/ant/0.jpg", folder / "sheet.jpg")


@case("d17", "6 pictures of 'train' lie in no class folders(.|\n)*train/CLASS")
def classes_in_file_names(folder):
    fill(folder, {"train": 6, "test": 3})


@case("d17", "9 pictures of 'photos' lie in one class folder, 'ant', expected two")
def one_class(folder):
    fill(folder, {"ant": 9})


@case("d06", {"n1": (6, 2), "n2": (4, 2), "n3": (3, 1)}, "test 5 .jpeg no class folders")
def tiny_imagenet_as_downloaded(folder):
    fill(folder / "train", {"n1/images": 6, "n2/images": 4, "n3/images": 3}, ".JPEG")
    fill(folder / "val", {"images": 5}, ".JPEG", start=5000)
    fill(folder / "test", {"images": 5}, ".JPEG", start=9000)
    rows = [f"{k}.JPEG\tn{k % 3 + 1}\t0\t0\t62\t57\n" for k in range(5)]
    (folder / "val/val_annotations.txt").write_text("".join(rows))
    (folder / "train/n1/n1_boxes.txt").write_text("0.JPEG\t0\t0\t62\t57\n")


@case("d27", {"covid": (5, 1), "normal": (3, 1)}, "train 10 .png beside the pictures, as masks are")
def masks_beside_images(folder):
    fill(folder / "covid", {"images": 6, "masks": 6}, ".png")
    fill(folder / "normal", {"images": 4, "masks": 4}, ".png", start=5000)


@case("d27", BOTH, "masks", class_folder="first")
def masks_beside_pictures(folder):
    both(folder)
    fill(folder / "train/ant", {"masks": 6}, ".png", start=9000)


@case("d27", "each hold the same folders: 'left', 'right'")
def two_folders_below_each_class(folder):
    for start, name in enumerate(TRAIN):
        fill(folder / "train" / name, {"left": 3, "right": 3}, start=1000 * start)


@case("d27", {"ant": (5, 1), "bee": (5, 1)}, class_folder="first")
def two_folders_below_each_class_as_the_user_says(folder):
    fill(folder / "ant", {"left": 3, "right": 3})
    fill(folder / "bee", {"left": 3, "right": 3}, start=5000)


@case("d11", r"the classes could be 'insects', 'mammals', or 'ant', 'bee', 'cat'(.|\n)*`class_folder")
def one_level_more(folder):
    fill(folder / "train", {"insects/ant": 6, "insects/bee": 4, "mammals/cat": 3})
    fill(folder / "test", {"insects/ant": 2, "insects/bee": 2, "mammals/cat": 2}, start=5000)


@case("d11", BOTH, class_folder="last")
def one_level_more_of_which_the_last_counts(folder):
    one_level_more(folder)


@case("d11", {"insects": (10, 4), "mammals": (3, 2)}, class_folder="first")
def one_level_more_of_which_the_first_counts(folder):
    one_level_more(folder)


@case("d11", "Several folders of 'train' are called 'indoor'", class_folder="last")
def last_folders_of_one_name(folder):
    fill(folder / "train", {"market/outdoor": 3, "market/indoor": 3, "pool/outdoor": 3, "pool/indoor": 3})


@case("d07", {"__background__": (6, 2), "bee": (4, 2)})
def class_called_background(folder):
    fill(folder / "train", {"__background__": 6, "bee": 4})
    fill(folder / "test", {"__background__": 2, "bee": 2}, start=5000)


@case("d07", {"bee": (4, 2), "cat": (3, 2)}, "train 6 .jpg hidden train/.ant/0.jpg")
def hidden_class(folder):
    fill(folder / "train", {".ant": 6, "bee": 4, "cat": 3})
    fill(folder / "test", {"bee": 2, "cat": 2}, start=5000)


@case("d24", r"no training image: 'ant' \('ant' is 'Ant' there\)")
def class_in_capitals_in_one_split(folder):
    both(folder)
    (folder / "train/ant").rename(folder / "train/Ant")


@case("d24", {"Ant": (5, 1), "ant": (3, 1), "ant ": (2, 1)}, "look the same: 'Ant', 'ant', 'ant '")
def classes_that_look_the_same(folder):
    fill(folder, {"Ant": 6, "ant": 4, "ant ": 3})


@case("d24", {"cafe\u0301": (3, 1), "caf\u00e9": (5, 1)}, "look the same")
def classes_in_two_unicode_forms(folder):
    fill(folder, {"caf\u00e9": 6, "cafe\u0301": 4})


@case("d21", BOTH, "Class folders without a picture that could be read: train/dog (empty)")
def empty_class(folder):
    both(folder)
    (folder / "train/dog").mkdir()


# Files: what Pillow opens, through links, and nothing silently left out.


@case("d08", {"bee": (4, 2), "cat": (3, 2)}, "train/ant (10 .raw: a picture that Pillow cannot open)")
def class_of_pictures_that_cannot_be_opened(folder):
    fill(folder / "train", {"bee": 4, "cat": 3})
    fill(folder / "test", {"bee": 2, "cat": 2}, start=5000)
    (folder / "train/ant").mkdir()
    for k in range(10):
        (folder / f"train/ant/{k}.RAW").write_bytes(bytes(99))


@case("d08", r"no training image: 'ant' \(3 .svg files of 'ant' were not read")
def class_with_test_pictures_of_which_none_else_that_cannot_be_opened(folder):
    both(folder)
    for path in (folder / "train/ant").iterdir():
        path.unlink()
    for k in range(3):
        (folder / f"train/ant/{k}.svg").write_text("<svg/>")


@case("d08", "no picture that can be read, but 3 .svg")
def nothing_that_can_be_opened(folder):
    fill(folder, {"ant": 0})
    for k in range(3):
        (folder / f"ant/{k}.svg").write_text("<svg/>")


@case("d08b", BOTH)
def class_of_avif_pictures(folder):
    both(folder)
    for split, count, start in (("train", 6, 0), ("test", 2, 5000)):
        shutil.rmtree(folder / split / "ant")
        fill(folder / split, {"ant": count}, ".avif", start)


@case("i13c", BOTH)
def class_of_pictures_with_a_query_for_extension(folder):
    both(folder)
    shutil.rmtree(folder / "train/ant")
    fill(folder / "train", {"ant": 6}, ".jpg?w=640")


@case("i13c", {"ant": (5, 1), "bee": (3, 1), "cat": (6, 1)})
def pictures_without_extension(folder):
    fill(folder, {"ant": 6, "bee": 4, "cat": 3}, "")
    fill(folder, {"cat": 4}, ".TIF", start=7000)


@case("d04", BOTH)
def classes_that_are_links(folder):
    both(folder / "store")
    for split in ("train", "test"):
        (folder / "data" / split).mkdir(parents=True)
        for name in TRAIN:
            (folder / "data" / split / name).symlink_to(folder / "store" / split / name)
    return folder / "data"


@case("f13", BOTH)
def splits_that_are_links(folder):
    both(folder / "store")
    (folder / "data").mkdir()
    for split in ("train", "test"):
        (folder / "data" / split).symlink_to(folder / "store" / split)
    return folder / "data"


@case("d04b", BOTH)
def pictures_that_are_links(folder):
    both(folder / "store")
    for path in (folder / "store").rglob("*.jpg"):
        link = folder / "data" / path.relative_to(folder / "store")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return folder / "data"


@case("f12", BOTH)
def data_folder_that_is_a_link(folder):
    both(folder)
    (folder.parent / "link").symlink_to(folder)
    return folder.parent / "link"


@case("d05", BOTH, "train 1 .jpg broken link train/ant/gone.jpg")
def broken_link(folder):
    both(folder)
    (folder / "train/ant/gone.jpg").symlink_to(folder / "nowhere.jpg")


@case("d04", BOTH, "train 2 folder link to a folder that is read elsewhere train/ant/loop")
def links_that_lead_back(folder):
    both(folder)
    (folder / "train/ant/loop").symlink_to(folder)
    (folder / "train/cat/up").symlink_to("..")
    (folder / "train/bee/itself").symlink_to("itself")


@case(
    "d04", {"ant": (6, 0), "bee": (4, 2), "cat": (3, 2)}, "test  1      folder  link to a folder that is read"
)
def link_from_the_test_split_to_a_training_class(folder):
    both(folder)
    shutil.rmtree(folder / "test/ant")
    (folder / "test/ant").symlink_to("../train/ant")


@case("d09", BOTH, "train 13 .xml no image train/ant/0.xml")
def side_files(folder):
    both(folder)
    for path in list(folder.rglob("*.jpg")):
        path.with_suffix(".xml").write_text("<annotation/>")
        path.with_suffix(".txt").write_text("0 0.5 0.5 1 1\n")
        path.with_suffix(".json").write_text("{}")
        np.save(path.with_suffix(".npy"), np.zeros(2))


@case("d10", BOTH)
def files_of_the_system(folder):
    both(folder)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.jpg"):
        (folder / "train/ant" / name).write_bytes(b"x")
    fill(folder / "__MACOSX/train", {"ant": 2}, start=9000)
    fill(folder / "train/.ipynb_checkpoints", {"ant": 2}, start=9000)


@case("d16", BOTH, ". 1 folder output folder of lort_hub out1")
def our_own_output(folder):
    both(folder)
    fill(folder / "out1", {"plots": 3}, ".png", start=9000)
    run = {"arguments": {}, "environment": {"versions": {"lort_hub": "0.1.0"}}}
    (folder / "out1/run.json").write_text(json.dumps(run))


@case("p12b", BOTH, "train/metadata.csv")
def metadata_beside_class_folders(folder):
    both(folder)
    for split in ("train", "test"):
        rows = [f"{path.relative_to(folder / split)},30\n" for path in (folder / split).rglob("*.jpg")]
        (folder / split / "metadata.csv").write_text("file_name,age\n" + "".join(rows))


# Paths are paths.


def in_a_folder_called(name):
    def build(folder):
        both(folder / name)
        return folder / name

    build.__name__ = name
    return build


for name in ("d03 [photos]", "a::b", "test", "train", ".hid", "__x__", "what?", "star*", "a {b,c} #1 100%"):
    case("f", BOTH)(in_a_folder_called(name))


@case("f8", {"ant [red]": (6, 2), "bee*": (4, 2)})
def class_names_with_brackets_and_stars(folder):
    fill(folder / "train", {"ant [red]": 6, "bee*": 4})
    fill(folder / "test", {"ant [red]": 2, "bee*": 2}, start=5000)


@case("i13", {**BOTH, "ant": (13, 2)})
def file_names_of_all_kinds(folder):
    both(folder)
    fill(folder, {"more": 7}, start=9000)
    names = ("a#b.jpg", "100%.jpg", "q?w=1.jpg", "\U0001f355.jpg", "a::b.jpg", "a\nb.jpg", "x" * 240 + ".jpg")
    for k, name in enumerate(names):
        (folder / "more" / f"{k}.jpg").rename(folder / "train/ant" / name)
    (folder / "more").rmdir()


@case("i13b", {"ant": (6, 2), "b\u00e9e": (4, 2), "cat": (3, 2)})
def names_in_latin_1(folder):
    both(folder)
    for split in ("train", "test"):
        (folder / split / "bee").rename(os.fsdecode(bytes(folder / split) + b"/b\xe9e"))
    (folder / "train/ant/0.jpg").rename(os.fsdecode(bytes(folder / "train/ant") + b"/caf\xe9.jpg"))


@case(
    "d19",
    {"a|b": (3, 1), " lead": (3, 1), "=1+1": (3, 1), "<b>": (3, 1), "null": (3, 1), "\U0001f355": (3, 1)},
)
def class_names_of_all_kinds(folder):
    fill(folder, dict.fromkeys(("a|b", " lead", "=1+1", "<b>", "null", "\U0001f355"), 4))


@case("empty", "Expected train.parquet")
def empty_folder(folder):
    pass


@case("empty", "No folder '/")
def missing_folder(folder):
    return folder / "nowhere"


@pytest.mark.parametrize(("build", "outcome", "says", "options"), CASES)
def test_folder_is_read_as_a_person_would_or_refused_with_the_reason(tmp_path, build, outcome, says, options):
    folder = tmp_path / "photos"
    folder.mkdir()
    folder = build(folder) or folder
    if isinstance(outcome, str):
        with pytest.raises(DatasetError, match=outcome):
            load_long_tailed(str(folder), **options)
        return
    data = load_long_tailed(str(folder), **options)
    assert counts_of(data) == outcome
    for split in (data.train, data.test):
        for k in range(len(split)):
            assert split.image(k).size == (8, 8)
    notes = " ".join("\n".join(data.notes).split())
    assert " ".join(says.split()) in notes
    assert says or not re.search("not read|without a picture|look the same|byte for byte", notes)


# Random trees of folders, names, links and file types, against a count of a few lines.

WORDS = [
    "train",
    "Test",
    "val",
    "dev",
    "test-tube",
    "bullet_train",
    "images",
    "masks",
    "__x__",
    "[a]*?",
    "a::b",
]
WORDS += ["caf\u00e9", "cafe\u0301", " ant", "ant", "ANT", "\U0001f355", "null", "0", "a\nb", "x" * 100]
LETTERS = st.characters(exclude_characters="/\0", exclude_categories=["Cs"])
NAMES = st.one_of(st.sampled_from(WORDS), st.text(LETTERS, min_size=1, max_size=12)).filter(
    lambda name: not name.startswith(".") and len(os.fsencode(name)) < 200
)
PICTURES = {
    ".jpg": "JPEG",
    ".JPG": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".avif": "AVIF",
    "": "PNG",
    ".x": "GIF",
}
OTHERS = {".txt": b"a word", ".xml": b"<a/>", ".npy": b"\x93NUMPY", "": b"", ".py": b"P = 1", ".bmp2": b"BM"}
SPLITS = st.sampled_from(
    [
        None,
        ("train", "test"),
        ("Train", "VAL"),
        ("training", "eval"),
        ("seg_train", "seg_test"),
        ("data/train", "data/dev"),
    ]
)


@st.composite
def classes(draw):
    """Class folders: pictures by type, other files by type, whether all lie in one folder more."""
    names = draw(st.lists(NAMES, min_size=2, max_size=5, unique=True))
    files = st.dictionaries(st.sampled_from([*PICTURES]), st.integers(1, 2), min_size=1, max_size=3)
    others = st.dictionaries(st.sampled_from([*OTHERS]), st.integers(1, 2), max_size=2)
    return {name: (draw(files), draw(others), draw(st.booleans())) for name in ["zebra", *names]}


def write(folder, plan, start, links):
    """Write class folders; of some, a link stands in the tree and the folder elsewhere."""
    for number, (name, (pictures, others, is_nested)) in enumerate(plan.items()):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if links and number % 2:
            store = links / f"{start}-{number}"
            store.mkdir(parents=True)
            place.symlink_to(store)
        inner = place / "images" if is_nested else place
        inner.mkdir(parents=True, exist_ok=True)
        for suffix, count in pictures.items():
            for k in range(count):
                picture = noise_image(start + 100 * number + k, (4, 4))
                picture.save(inner / f"p{k}{suffix}", PICTURES[suffix])
        for suffix, count in others.items():
            for k in range(count):
                (inner / f"o{k}{suffix}").write_bytes(OTHERS[suffix])


def opens(path):
    try:
        with Image.open(path):
            return True
    except OSError:
        return False


def by_hand(folder):
    """Pictures by class, and all files, as a person would count them."""
    counts, files = Counter(), 0
    for place, _, names in os.walk(folder, followlinks=True):
        files += len(names)
        name = Path(place).relative_to(folder).parts
        counts.update(name[0] for one in names if name and opens(Path(place, one)))
    return dict(counts), files


def counts_of_rows(rows):
    names = rows.features["label"].names
    return dict(Counter(names[label] for label in rows["label"]))


@settings(max_examples=60, deadline=None)
@given(plan=classes(), tested=classes(), splits=SPLITS, is_linked=st.booleans())
def test_counts_are_those_of_a_person_and_every_file_is_accounted_for(plan, tested, splits, is_linked):
    folder = Path(tempfile.mkdtemp())
    try:
        data = folder / "data"
        links = folder / "store" if is_linked else None
        train, test = splits or (".", None)
        write(data / train, plan, 0, links)
        if test:
            tested = {name: files for name, files in tested.items() if name in plan}
            write(data / test, tested, 50_000, links)
        reading = read_image_folder(data)
        assert reading is not None
        found, expected = [counts_of_rows(reading.train)], [by_hand(data / train)]
        if test:
            found.append(counts_of_rows(reading.test))
            expected.append(by_hand(data / test))
        assert found == [counts for counts, _ in expected]
        left_out = sum(row.files for row in reading.left_out)
        assert len(reading.train) + len(reading.test or []) + left_out == sum(files for _, files in expected)
    finally:
        shutil.rmtree(folder)
