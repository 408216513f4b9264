"""Folders as other people name and pack them: splits, copies, thumbnails, parts that are no classes."""

import io
import tarfile

import datasets
import pytest

from tests.support.folders import BOTH, Folders, both, check_folder
from tests.support.folders import TRAIN as TRAINED
from tests.support.images import fill
from tests.support.tables import TEST, TRAIN, Forms, cells, write_csv, write_parquet, write_pictures

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


# Copies of tables and archives


def tables(folder, **more):
    """Tables of two splits, and of more labels by file name, beside them."""
    for name, labels in {"train": TRAIN, "test": TEST, **more}.items():
        write_parquet(folder / f"{name.replace('__', '/')}.parquet", labels)
    return folder


@refused("copy-name", says="All 24 images of .*/train.parquet' are in .*/data/train.parquet' too")
def a_table_in_two_folders_is_refused(folder):
    return tables(folder, data__train=TRAIN)


@refused("copy-order", says="All 24 images of .*train - Copy.parquet' are in .*/train.parquet' too")
def a_copy_in_another_order_is_refused(folder):
    rows = datasets.Dataset.from_parquet(str(tables(folder) / "train.parquet"))
    rows.select(range(23, -1, -1)).to_parquet(folder / "train - Copy.parquet")
    return folder


@refused("copy-part", says="All 7 images of .*train_small.parquet' are in .*/train.parquet' too")
def a_part_of_a_table_beside_it_is_refused(folder):
    tables(folder)
    rows = datasets.Dataset.from_parquet(str(folder / "train.parquet"))
    rows.select(range(3, 24, 3)).to_parquet(folder / "train_small.parquet")
    return folder


@read("copy-link")
def a_link_to_a_table_beside_it_is_read_once(folder):
    tables(folder)
    (folder / "train_latest.parquet").symlink_to(folder / "train.parquet")
    return folder


@read("copy-shards", counts=(13, 8, 5))
def shards_of_a_set_may_hold_equal_images(folder):
    rows = datasets.Dataset.from_parquet(str(tables(folder) / "train.parquet"))
    for number, chosen in enumerate((range(24), [0, 13])):
        rows.select(chosen).to_parquet(folder / f"train-{number:05}-of-00002.parquet")
    (folder / "train.parquet").unlink()
    return folder


@read("copy-numbered", counts=(13, 8, 5))
def small_shards_by_number_may_hold_equal_images(folder):
    shards_of_a_set_may_hold_equal_images(folder)
    for number in range(2):
        (folder / f"train-{number:05}-of-00002.parquet").rename(folder / f"train_{number}.parquet")
    return folder


@read("copy-overlap", counts=(13, 7, 5))
def tables_that_share_one_image_are_read(folder):
    tables(folder)
    rows = datasets.Dataset.from_parquet(str(folder / "train.parquet"))
    rows.select(range(12)).to_parquet(folder / "train_a.parquet")
    rows.select([0, *range(12, 24)]).to_parquet(folder / "train_b.parquet")
    (folder / "train.parquet").unlink()
    return folder


def shard(file, labels):
    """A WebDataset archive."""
    with tarfile.open(file, "w") as archive:
        for row, (label, cell) in enumerate(zip(labels, cells(labels), strict=True)):
            for end, content in (("png", cell["bytes"]), ("cls", b"%d" % label)):
                member = tarfile.TarInfo(f"{row:05}.{end}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


@read("shards", names=("0", "1", "2"))
def shards_of_two_splits(folder):
    shard(folder / "train-0000.tar", TRAIN)
    shard(folder / "test-0000.tar", TEST)
    return folder


@refused("shards-copy", says=r"All 24 images of .*train-0000 \(1\).tar' are in .*/train-0000.tar' too")
def a_copy_of_a_shard_is_refused(folder):
    shard(folder / "train-0000 (1).tar", TRAIN)
    return shards_of_two_splits(folder)


def snapshots(folder, *commits):
    """A folder as the Hub's cache lays it out."""
    folder = folder / "datasets--org--photos"
    (folder / "blobs").mkdir(parents=True)
    tables(folder / "blobs")
    for commit in commits:
        (folder / "snapshots" / commit / "data").mkdir(parents=True)
        for split in ("train", "test"):
            link = folder / "snapshots" / commit / "data" / f"{split}-00000-of-00001.parquet"
            link.symlink_to(folder / "blobs" / f"{split}.parquet")
    for file in (folder / "blobs").iterdir():
        file.rename(file.with_suffix(""))
    for link in folder.rglob("*-of-*"):
        target = link.readlink().with_suffix("")
        link.unlink()
        link.symlink_to(target)
    return folder


@read("hub-main", notes=["Read: snapshots/1b, one of 2, which refs/main names."])
def the_snapshot_of_main_is_read(folder):
    folder = snapshots(folder, "1b", "0a")
    write_parquet(folder / "snapshots" / "0a" / "data" / "train-00001-of-00002.parquet", [0] * 9)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("1b")
    return folder


@read("hub-one")
def the_only_snapshot_is_read(folder):
    return snapshots(folder, "0a")


@refused("hub-two", says="2 snapshots of a data set, '0a', '1b'.*snapshots/0a")
def snapshots_none_of_which_is_known_as_main_are_refused(folder):
    return snapshots(folder, "0a", "1b")


@read("dev-and-val", tested=(4, 3, 3), notes=["Joined as the split 'validation': dev.parquet, val.parquet."])
def tables_called_dev_and_val_are_joined_with_a_note(folder):
    tables(folder, dev=TEST, val=[0])
    (folder / "test.parquet").unlink()
    return folder


@read("dev-and-val-lists", tested=(4, 3, 3), notes=["Joined as the split 'validation': dev.csv, val.csv."])
def lists_called_dev_and_val_are_joined_with_a_note(folder):
    for split, labels in {"train": TRAIN, "dev": TEST, "val": [0]}.items():
        rows = write_pictures(folder / "pictures", labels, split + "{row}.png")
        write_csv(folder / f"{split}.csv", rows)
    return folder


@pytest.mark.parametrize(("build", "outcome", "says", "options"), FOLDERS)
def test_folders_are_read_right_or_refused(tmp_path, build, outcome, says, options):
    check_folder(tmp_path, build, outcome, says, options)


@pytest.mark.parametrize("id", FORMS.reads)
def test_forms_that_are_read(id, tmp_path):
    FORMS.check_read(id, tmp_path)


@pytest.mark.parametrize("id", FORMS.refusals)
def test_forms_that_are_refused(id, tmp_path):
    FORMS.check_refused(id, tmp_path)
