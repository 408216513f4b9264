"""Class folders: the class is the folder below the split, and nothing above it."""

import shutil

import pytest

from tests.support.folders import BOTH, TRAIN, Folders, both, check_folder
from tests.support.images import fill

FOLDERS = Folders()  # ids: rows of the list of inputs that were tried
case = FOLDERS.case


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


@case("d24", {"ant": (5, 1), "ant\u200b": (3, 1), "bee": (2, 1)}, r"look the same: 'ant', 'ant\u200b'.")
def classes_with_signs_without_a_glyph(folder):
    fill(folder, {"ant": 6, "ant\u200b": 4, "bee": 3})


@case("d21", BOTH, "Class folders without a picture that could be read: train/dog (empty)")
def empty_class(folder):
    both(folder)
    (folder / "train/dog").mkdir()


@pytest.mark.parametrize(("build", "outcome", "says", "options"), FOLDERS)
def test_folder_is_read_as_a_person_would_or_refused(tmp_path, build, outcome, says, options):
    check_folder(tmp_path, build, outcome, says, options)
