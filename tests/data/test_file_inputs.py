"""Files: what Pillow opens, through links, under any name, and nothing silently left out."""

import json
import os
import shutil

import numpy as np
import pytest

from tests.support.folders import BOTH, TRAIN, Folders, both, check_folder
from tests.support.images import fill

FOLDERS = Folders()  # ids: rows of the list of inputs that were tried
case = FOLDERS.case


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


def beside_each(suffix, content):
    """Every picture with a file of another type beside it."""

    def build(folder):
        both(folder)
        for path in list(folder.rglob("*.jpg")):
            path.with_suffix(suffix).write_bytes(content)

    build.__name__ = suffix[1:]
    return build


case("d09t", BOTH, "train 13 .txt no image")(beside_each(".txt", b"0 0.5 0.5 1 1"))
case("d09j", BOTH, "train 13 .json no image")(beside_each(".json", b'{"a": 1}'))
case("d09x", BOTH, "train 13 .xml no image")(beside_each(".xml", b"<a/>"))
case("d09npy", BOTH, "train 13 .npy no image")(beside_each(".npy", b"\x93NUMPY"))


@case("d09few", BOTH, "train 1 .txt no image train/ant/notes.txt")
def a_few_stray_texts(folder):
    both(folder)
    (folder / "train/ant/notes.txt").write_text("ants")
    (folder / "notes.txt").write_text("animals")


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


def in_a_folder_called(name):
    def build(folder):
        both(folder / name)
        return folder / name

    build.__name__ = name
    return build


for row, name in {
    "d03": "d03 [photos]", "f10": "a::b", "f1": "test", "f2": "train", "f3": ".hid", "f4": "__x__",
    "f5": "my photos (2024) #1 100%", "f6": "what?", "f7": "star*", "f9": "a {b,c}",
}.items():  # fmt: skip
    case(row, BOTH)(in_a_folder_called(name))


@case("f8", {"ant [red]": (6, 2), "bee*": (4, 2)})
def class_names_with_brackets_and_stars(folder):
    fill(folder / "train", {"ant [red]": 6, "bee*": 4})
    fill(folder / "test", {"ant [red]": 2, "bee*": 2}, start=5000)


@case("d03b", {"ant [red]": (5, 1), "bee": (3, 1)})
def flat_folder_of_classes_with_brackets(folder):
    fill(folder, {"ant [red]": 6, "bee": 4})


@case("d21", "photos.rar is not read: unpack it")
def archive_of_another_type(folder):
    (folder / "photos.rar").write_bytes(b"Rar!")


@case("d21", "x_train.npy is not read: write its images as files")
def arrays(folder):
    np.save(folder / "x_train.npy", np.zeros((2, 8, 8)))


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


@case(
    "d19",
    dict.fromkeys(
        ("new: yaml # x", "\u65e5\u672c\u8a9e", "LABEL_3", "true", "x" * 180, "comma, name", "[link](x)"),
        (3, 1),
    ),
)
def more_class_names_of_all_kinds(folder):
    names = ("new: yaml # x", "\u65e5\u672c\u8a9e", "LABEL_3", "true", "x" * 180, "comma, name", "[link](x)")
    fill(folder, dict.fromkeys(names, 4))


@case("scans", r"12 \.dcm: a picture that Pillow cannot open\.\n0\.dcm is not read: write it as images that")
def scans_alone(folder):
    for name in TRAIN:
        (folder / name).mkdir()
        for k in range(4):
            (folder / name / f"{k}.dcm").write_bytes(bytes(132))


@case("scans", "12 without extension: a picture that Pillow cannot open: DICOM, to be written as PNG")
def scans_without_an_extension(folder):
    for name in TRAIN:
        (folder / name).mkdir()
        for k in range(4):
            (folder / name / f"IM{k}").write_bytes(bytes(128) + b"DICM")


@case("abroad", "`train_split` '\u8bad\u7ec3\u96c6'")
def splits_in_another_language(folder):
    both(folder, "\u8bad\u7ec3\u96c6", "\u6d4b\u8bd5\u96c6")


@case("empty", "Expected train.parquet")
def empty_folder(folder):
    pass


@case("empty", "No folder '/")
def missing_folder(folder):
    return folder / "nowhere"


@pytest.mark.parametrize(("build", "outcome", "says", "options"), FOLDERS)
def test_folder_is_read_as_a_person_would_or_refused(tmp_path, build, outcome, says, options):
    check_folder(tmp_path, build, outcome, says, options)
