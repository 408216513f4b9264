"""Folders of training and test images: the split is the first folder, and nothing else."""

import shutil

import pytest

from lort_hub.data.load import load_long_tailed
from tests.support.folders import BOTH, TEST, TRAIN, TRAIN_ALONE, Folders, both, check_folder
from tests.support.images import fill

FOLDERS = Folders()  # ids: rows of the list of inputs that were tried
case = FOLDERS.case


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
def file_names_with_the_words_in_them(folder):
    both(folder)
    for path in list(folder.rglob("*.jpg")):
        path.rename(path.with_stem(f"ILSVRC2012_val_{path.stem}"))


@case("d28b", BOTH)
def file_names_with_test_at_the_end_of_a_word(folder):
    both(folder)
    for path in list((folder / "train").rglob("*.jpg")):
        path.rename(path.with_stem(f"eye_test_{path.stem}"))


@case("d28c", BOTH, ". 1 .txt no image README.txt")
def training_and_testing_with_a_readme(folder):
    both(folder, "training", "testing")
    (folder / "README.txt").write_text("Photographs of three animals.")


@case("d29e", {"bus": (6, 2), "car": (4, 2), "car_dev": (3, 2)})
def class_with_dev_in_it_beside_val(folder):
    fill(folder / "train", {"bus": 6, "car": 4, "car_dev": 3})
    fill(folder / "val", {"bus": 2, "car": 2, "car_dev": 2}, start=5000)


@case("d28d", BOTH)
def train_set_and_test_set(folder):
    both(folder, "train_set", "test_set")


@case("d28", BOTH)
def images_of_2017(folder):
    both(folder, "Train2017", "Val2017")


@case("d28h", BOTH, "val 3 .jpg another split")
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


@case("heap", {"ant": (5, 1), "bee": (3, 1)}, "Folder 'test' is set aside, with 5 pictures")
def pictures_to_test_on_beside_classes(folder):
    fill(folder, {"ant": 6, "bee": 4, "test": 5})
    (folder / "sample_submission.csv").write_text("id,label\n0,ant\n1,bee\n")


HEAPS = (
    "TEST",
    "_test",
    "testset",
    "test_images",
    "test_set1",
    "TestData",
    "val",
    "validation",
    "eval",
    "dev",
)
HEAPS += ("holdout", "unlabeled", "Unlabelled", "unlabeled_data", "unsorted", "predict", "pred", "submission")


@case("heap", {"ant": (5, 1), "bee": (3, 1)}, f"Folder '{HEAPS[-1]}' is set aside, with 1 pictures")
def heaps_of_pictures_by_their_names(folder):
    fill(folder, {"ant": 6, "bee": 4, **dict.fromkeys(HEAPS, 1)})


@case("heap", {"ant": (5, 1), "bee": (3, 1)}, "Folder 'test' is set aside, with 5 pictures")
def pictures_to_test_on_in_a_folder_more(folder):
    fill(folder / "data", {"ant": 6, "bee": 4, "test/images": 5})


@case("heap", "lie in one class folder, 'images'")
def pictures_to_test_on_beside_images_are_no_class(folder):
    fill(folder, {"images": 6, "test": 4})


@case("heap", {"bus": (5, 1), "train": (4, 1), "tram": (4, 1)}, "Folder 'train' is read as a class.")
def a_class_called_train_is_noted(folder):
    fill(folder, {"bus": 6, "train": 5, "tram": 5})


@case("heap", {"cut": (5, 1), "torn": (4, 1), "valid": (4, 1)}, "Folder 'valid' is read as a class.")
def a_class_called_valid_is_noted(folder):
    fill(folder, {"cut": 6, "torn": 5, "valid": 5})


HEAPS_OF_SPLITS = [
    "train test images",
    "bounding_box_train bounding_box_test query",
    "train val test images",
    "training_set test_set single_prediction",
    "train test sample",
    "train_images test_images images",
    "train test query gallery",
    "train1 train2",
]


@pytest.mark.parametrize("place", [".", "dataset"])
@pytest.mark.parametrize("names", HEAPS_OF_SPLITS)
def test_splits_of_pictures_beside_another_folder_are_no_classes(tmp_path, names, place):
    first = names.split()[0]
    check_folder(
        tmp_path,
        lambda folder: fill(folder / place, dict.fromkeys(names.split(), 4)),
        f"The 4 pictures of '{first}' lie in no class folders",
        "",
        {},
    )


BUS, ALL_FOUR = {"bus": (3, 1), "tram": (3, 1), "train": (3, 1)}, ("bus", "tram", "train", "test")


@case("vehicles", BUS, "Folder 'train' is read as a class.")
def a_class_called_train_beside_pictures_to_test_on(folder):
    fill(folder, dict.fromkeys(ALL_FOUR, 4))


@case("first", dict.fromkeys(ALL_FOUR, (3, 1)), "Folder 'test' is read as a class.", class_folder="first")
def classes_called_as_splits_that_are_said_to_be_classes(folder):
    fill(folder, dict.fromkeys(ALL_FOUR, 4))


CLASSES_LIKE_HEAPS = [
    "Anu Dev Raj Val",
    "ALA GLY VAL TEST",
    "ABC-100 DEV-100 DEV-200 EVAL-7",
    "Test_1 Test_2 Control Blank",
    "sorted unsorted mixed",
    "dev设备 test-стол ant bee",
    "evaluation invoice letter",
    "steam_train steam_engine steam_test",
    "dog_training dog_walking dog_testing dog_eating",
    "training_shoe running_shoe test_shoe",
    "class_train class_bus class_test",
]


@pytest.mark.parametrize("names", CLASSES_LIKE_HEAPS)
def test_names_of_classes_that_hold_a_word_of_splits_are_classes(tmp_path, names):
    fill(tmp_path, dict.fromkeys(names.split(), 4))
    assert set(load_long_tailed(str(tmp_path)).class_names) == set(names.split())


@pytest.mark.parametrize(("build", "outcome", "says", "options"), FOLDERS)
def test_folder_is_read_as_a_person_would_or_refused(tmp_path, build, outcome, says, options):
    check_folder(tmp_path, build, outcome, says, options)
