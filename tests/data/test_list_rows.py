"""Images that several rows or several lists name: counted once, or refused."""

import pytest

from lort_hub.data.load import load_long_tailed
from tests.support.tables import NAMES, TEST, TRAIN, Forms, write_csv, write_pictures

FORMS = Forms()
read, refused = FORMS.read, FORMS.refused


@read(
    "annotators",
    counts=(10, 6, 4),
    tested=(2, 1, 1),
    notes=["24 of 48 rows of 'train' name an image that an earlier row names"],
)
def a_row_of_each_annotator(folder):
    rows = [(*row, name) for row in write_pictures(folder / "im", TRAIN) for name in "AB"]
    write_csv(folder / "labels.csv", rows, header=("image", "label", "annotator"))
    return folder


@read("boxes", notes=["12 of 36 rows of 'train' name", "4 of 13 rows of 'test' name"])
def a_row_of_each_box(folder):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        rows = [
            (name, label, 0, k)
            for at, (name, label) in enumerate(write_pictures(folder / split, labels))
            for k in range(1 + at % 2)
        ]
        write_csv(folder / split / "_annotations.csv", rows, header=("filename", "class", "xmin", "ymin"))
    return folder


@refused("two-labels-in-the-test", says="Row 9 gives .*0.png' the label 'cat', and an earlier row 'ant'")
def a_test_image_with_two_labels(folder):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        rows = write_pictures(folder / split, labels)
        write_csv(folder / f"{split}.csv", [(f"{split}/{n}", k) for n, k in rows])
    with (folder / "test.csv").open("a") as opened:
        opened.write("test/0.png,cat\n")
    return folder


def a_part_of_the_training_list(folder):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        rows = [(f"{split}/{name}", label) for name, label in write_pictures(folder / split, labels)]
        write_csv(folder / f"{split}.csv", rows)
        if split == "train":
            write_csv(folder / "train_small.csv", rows[::2])
    return folder


refused(
    "part-of-a-list", says="train.csv' and 'train_small.csv' are lists of one split, and 12 images .*0.png"
)(a_part_of_the_training_list)
read("part-of-a-list-named")(lambda folder: a_part_of_the_training_list(folder) / "train.csv")


@pytest.mark.parametrize("id", FORMS.reads)
def test_each_image_is_counted_once(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_images_named_twice_are_refused(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")


def test_two_lists_of_other_images_are_one_split(tmp_path):
    rows = [(f"train/{name}", label) for name, label in write_pictures(tmp_path / "train", TRAIN)]
    write_csv(tmp_path / "train_a.csv", rows[::2])
    write_csv(tmp_path / "train_b.csv", rows[1::2])
    write_csv(tmp_path / "test.csv", [(f"test/{n}", k) for n, k in write_pictures(tmp_path / "test", TEST)])
    assert load_long_tailed(str(tmp_path)).class_counts.tolist() == [12, 7, 5]


@pytest.mark.parametrize("column", ["label", "Breed"])
def test_of_two_lists_of_a_split_that_with_the_asked_column_is_read(column, tmp_path):
    files = write_pictures(tmp_path / "images", TRAIN)
    write_csv(tmp_path / "train.csv", files, header=("file", column))
    cameras = [(file, "xy"[k % 2]) for k, (file, _) in enumerate(files)]
    write_csv(tmp_path / "train_cameras.csv", cameras, header=("file", "camera"))
    assert len(load_long_tailed(str(tmp_path), label_column=column).class_names) == len(NAMES)
