"""Images in folders that a list does not lead to, or beside tables: counted, with their folders."""

import pytest

from tests.support.tables import TEST, TRAIN, Forms, write_csv, write_parquet, write_pictures

FORMS = Forms()
HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}


def listed(folder, images, others, name="labels.csv", below="", is_bare=False):
    """A list of the images in one folder, and others in folders beside it."""
    rows = write_pictures(folder / images, TRAIN)
    for other in others:
        write_pictures(folder / other, TEST)
    write_csv(
        folder / below / name, [(file if is_bare else f"{images}/{file}", label) for file, label in rows]
    )
    return folder


def read(id, note, *names, **options):
    notes = [f"images lie in other folders than those of {note}"] if note else []
    FORMS.read(id, notes=notes, **HELD_OUT)(lambda folder: listed(folder, *names, **options))


read("site", "labels.csv, and are not read: siteB.", "siteA", ["siteB"], below="siteA", is_bare=True)
read("more", "labels.csv, and are not read: more.", "images", ["more"])
read("years", "labels.csv, and are not read: 2024, 2025.", "2023", ["2024", "2025"])
read("split", "labels.csv, and are not read: test_set.", "train", ["test_set"], is_bare=True)
read("masks", "", "images", ["masks", "lung masks"])
read("tests", "train.csv, and are not read: test_set.", "train", ["test_set"], name="train.csv")
read("another-heap", "train.csv, and are not read: extra.", "train_images", ["extra"], name="train.csv")


@FORMS.read(
    "test-folder", notes=["9 pictures in folders (test) are not read: the images are those of"], **HELD_OUT
)
def images_to_test_on_in_folders_beside_a_table(folder):
    write_parquet(folder / "train.parquet", TRAIN)
    write_pictures(folder / "test", TEST, "{label}/{row}.png")
    return folder


@FORMS.refused(
    "train-folder", says=r"has its test split in tables, and 24 pictures in folders \(train\).*not read"
)
def training_images_in_folders_beside_a_table(folder):
    write_pictures(folder / "train", TRAIN, "{label}/{row}.png")
    write_parquet(folder / "test.parquet", TEST)
    return folder


@FORMS.read("train-asked", counts=(2, 2, 2), tested=(1, 1, 1), train_split="test", notes=["24 pictures"])
def the_table_of_a_test_split_is_read_where_it_is_asked_for(folder):
    return training_images_in_folders_beside_a_table(folder)


@pytest.mark.parametrize("id", FORMS.reads)
def test_images_of_other_folders_are_counted(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_images_to_train_on_elsewhere_are_refused(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")
