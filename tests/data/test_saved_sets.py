"""Folders that hold what `save_to_disk` of datasets has written."""

import datasets
import pytest

from lort_hub.data.load import load_long_tailed
from lort_hub.errors import DatasetError
from tests.support.tables import NAMES, TEST, TRAIN, cells


def saved(labels):
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    return datasets.Dataset.from_dict({"image": cells(labels), "label": labels}, features=kinds)


def check(folder):
    data = load_long_tailed(str(folder))
    assert data.class_counts.tolist() == [12, 7, 5]
    assert len(data.test) == len(TEST)
    assert data.class_names == tuple(NAMES)


def test_a_saved_set_in_a_folder(tmp_path):
    datasets.DatasetDict(train=saved(TRAIN), test=saved(TEST)).save_to_disk(tmp_path / "in/insects")
    check(tmp_path / "in")


def test_a_saved_set_for_each_split(tmp_path):
    saved(TRAIN).save_to_disk(tmp_path / "in/train")
    saved(TEST).save_to_disk(tmp_path / "in/test")
    check(tmp_path / "in")


def test_two_saved_sets_are_refused(tmp_path):
    for name in ("insects", "mammals"):
        datasets.DatasetDict(train=saved(TRAIN), test=saved(TEST)).save_to_disk(tmp_path / "in" / name)
    with pytest.raises(
        DatasetError, match=r"holds 2 data sets: insects, mammals\.\nGive one of them: .*insects"
    ):
        load_long_tailed(str(tmp_path / "in"))


def test_the_one_split_that_is_called_as_a_test_and_longer(tmp_path):
    datasets.DatasetDict(train=saved(TRAIN), validation_matched=saved(TEST)).save_to_disk(tmp_path / "in")
    check(tmp_path / "in")


def test_two_splits_that_are_called_as_tests_and_longer_are_named(tmp_path):
    splits = {"train": saved(TRAIN), "test_seen": saved(TEST), "test_unseen": saved(TEST[1:])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "in")
    data = load_long_tailed(str(tmp_path / "in"))
    assert data.class_counts.tolist() == [10, 6, 4]
    assert any("Splits that are not read: test_seen, test_unseen" in note for note in data.notes)
