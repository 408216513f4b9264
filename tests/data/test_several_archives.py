"""Several archives of one data set: none replaces the files of another."""

import shutil

import pytest

from lort_hub.data.load import load_long_tailed
from lort_hub.errors import DatasetError
from tests.support.tables import NAMES, TEST, TRAIN, class_folders, write_pictures, zipped


def test_archives_with_other_files_of_one_name_are_refused(tmp_path):
    for name, labels in (("batch1", TRAIN), ("batch2", TEST)):
        write_pictures(tmp_path / name, labels, "{label}/{row}.png")
        zipped(tmp_path / "in" / f"{name}.zip", tmp_path / name)
    with pytest.raises(
        DatasetError, match=r"batch2\.zip' holds another 'ant/0\.png' than an archive beside it"
    ):
        load_long_tailed(str(tmp_path / "in"))


def test_parts_of_one_split_with_other_files_of_one_name_are_refused(tmp_path):
    for name, labels in (("train_part1", TRAIN), ("train_part2", TEST), ("test", TEST)):
        write_pictures(tmp_path / name, labels, "{label}/{row}.png")
        zipped(tmp_path / "in" / f"{name}.zip", tmp_path / name)
    with pytest.raises(DatasetError, match=r"train_part2\.zip' holds another"):
        load_long_tailed(str(tmp_path / "in"))


def test_archives_with_the_same_file_and_other_notices_are_joined(tmp_path):
    folder = class_folders(tmp_path / "raw")
    for split in ("train", "test"):
        (folder / "LICENSE.txt").write_text(split)
        shutil.copytree(folder / split, tmp_path / split / split)
        shutil.copy(folder / "LICENSE.txt", tmp_path / split)
        shutil.copy(folder / "train/ant/0.png", tmp_path / split / "cover.png")
        zipped(tmp_path / f"in/{split}_set.zip", tmp_path / split)
    assert load_long_tailed(str(tmp_path / "in")).class_counts.tolist() == [12, 7, 5]


def test_an_archive_for_each_class(tmp_path):
    write_pictures(tmp_path / "raw", TRAIN, "{label}/{row}.png")
    for name in NAMES:
        zipped(tmp_path / "in" / f"{name}.zip", tmp_path / "raw" / name)
    data = load_long_tailed(str(tmp_path / "in"))
    assert data.class_names == tuple(NAMES)
    assert data.class_counts.tolist() == [10, 6, 4]


def test_numbered_archives_of_pictures_are_no_classes_and_are_named(tmp_path):
    for name, start in (("data1", 0), ("data2", 100)):
        rows = write_pictures(tmp_path / name, TRAIN, f"{start}{{row}}.png")
        assert len(rows) == len(TRAIN)
        zipped(tmp_path / "photos" / f"{name}.zip", tmp_path / name)
    with pytest.raises(DatasetError, match=r"The 48 pictures of 'photos-\w{16}' lie in no class folders"):
        load_long_tailed(str(tmp_path / "photos"))
