"""Folders as other people name and pack them: names of splits, copies, thumbnails, parts that are no classes."""

import datasets
import pytest
from PIL import Image

from lort_hub.data.load import load_long_tailed
from lort_hub.errors import DatasetError
from tests.support.folders import BOTH, TEST, Folders, both, check_folder
from tests.support.folders import TRAIN as TRAINED
from tests.support.folders import TRAIN_ALONE as ALONE
from tests.support.images import fill, noise_image
from tests.support.tables import Forms, write_csv, write_parquet, write_pictures

FORMS, FOLDERS = Forms(), Folders()
read, refused, case = FORMS.read, FORMS.refused, FOLDERS.case


# Names of splits


@case("longer-names", BOTH, "another split  2_val/ant/0.jpg")
def numbered_folders_are_tested_on_the_test_split(folder):
    both(folder, train="1_train", test="3_test")
    fill(folder / "2_val", TRAINED, start=9000)


@case("longer-dev", BOTH, "another split  data_dev/ant/0.jpg")
def dev_is_no_test_where_there_is_one(folder):
    both(folder, train="data_train", test="data_test")
    fill(folder / "data_dev", TRAINED, start=9000)


@case("longer-asked", BOTH, "2_val", test_split="test")
def the_word_of_a_split_finds_its_longer_name(folder):
    numbered_folders_are_tested_on_the_test_split(folder)


@case("camel", BOTH)
def capitals_tell_words_apart(folder):
    both(folder, train="TrainData", test="TestData")


@case("camel-flat", "pictures of 'TrainData' lie in no class folders")
def folders_of_two_splits_are_no_classes(folder):
    for name in ("TrainData", "TestData"):
        fill(folder, {name: 4})


@case("camel-class", {"BulletTrain": (5, 1), "SteamTrain": (3, 1), "Tram": (2, 1)})
def trains_may_be_classes(folder):
    fill(folder, {"BulletTrain": 6, "SteamTrain": 4, "Tram": 3})


@pytest.mark.parametrize(("build", "outcome", "says", "options"), FOLDERS)
def test_folders_are_read_right_or_refused(tmp_path, build, outcome, says, options):
    check_folder(tmp_path, build, outcome, says, options)


@pytest.mark.parametrize("id", FORMS.reads)
def test_forms_that_are_read(id, tmp_path):
    FORMS.check_read(id, tmp_path)


@pytest.mark.parametrize("id", FORMS.refusals)
def test_forms_that_are_refused(id, tmp_path):
    FORMS.check_refused(id, tmp_path)
