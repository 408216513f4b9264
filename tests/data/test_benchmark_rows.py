"""Rows of published lists: read alike in the forms that repositories publish them in."""

import gzip
import json

import pytest

from lort_hub.data.benchmark_rows import are_numbers, read_listing
from lort_hub.errors import DatasetError


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "train/n0/a b.JPEG 0\ntrain/n1/b.JPEG 1\n"),
        ("a.txt", "train/n0/a b.JPEG 0\r\ntrain/n1/b.JPEG 1\r\n\r\n"),
        ("a.txt", "train/n0/a b.JPEG\t0\ntrain/n1/b.JPEG\t1"),
        ("a.txt", "train/n0/a b.JPEG, 0\ntrain/n1/b.JPEG, 1"),
        ("a.txt", "train/n0/a b.JPEG 0 n01440764\ntrain/n1/b.JPEG 1 n01443537\n"),
        ("a.txt", '"train/n0/a b.JPEG" 0\n"train/n1/b.JPEG" 1\n'),
        ("a.txt", "'train/n0/a b.JPEG' 0.0\n'train/n1/b.JPEG' 1.0\n"),
        ("a.csv", "path,label\ntrain/n0/a b.JPEG,0.0\ntrain/n1/b.JPEG,1.0\n"),
        ("a.json", '[["train/n0/a b.JPEG", 0], ["train/n1/b.JPEG", 1]]'),
        (
            "a.json",
            json.dumps(
                {
                    "annotations": [
                        {"image_id": 5, "fpath": "train/n0/a b.JPEG", "im_height": 3, "category_id": 0},
                        {"image_id": 6, "fpath": "train/n1/b.JPEG", "im_height": 3, "category_id": 1},
                    ],
                    "num_classes": 2,
                }
            ),
        ),
        ("a.csv", "id,path,label\n7,train/n0/a b.JPEG,0\n8,train/n1/b.JPEG,01\n"),
        (
            "a.json",
            json.dumps(
                {
                    "images": [
                        {"id": 5, "file_name": "train/n0/a b.JPEG"},
                        {"id": 6, "file_name": "train/n1/b.JPEG"},
                    ],
                    "annotations": [{"image_id": 6, "category_id": 1}, {"image_id": 5, "category_id": 0}],
                    "categories": [{"id": 0, "name": "0"}, {"id": 1, "name": "1"}],
                }
            ),
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_every_form_of_a_list_is_read_alike(tmp_path, name, text, packed):
    file = tmp_path / (f"{name}.gz" if packed else name)
    file.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    listing = read_listing(file)
    assert listing.file == file
    assert (listing.paths, listing.labels) == (["train/n0/a b.JPEG", "train/n1/b.JPEG"], ["0", "1"])
    assert listing.tails == [["n0", "a b.JPEG"], ["n1", "b.JPEG"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg,0\nb.jpg,\n", "Row 1 of .* has no path or no label: b.jpg, None"),
        ("file,score,age\na.jpg,0,1\n", "has the columns file, score, age: 1 of image files, 2 of labels"),
        ("name,label\nant,0\n", "0 of image files, 1 of labels"),
    ],
)
def test_what_is_no_list_of_images_is_refused(tmp_path, text, message):
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_listing(tmp_path / "train.csv")


def test_labels_with_fractions_are_names():
    assert not are_numbers(["0.0", "0.5"])


def test_three_numbers_in_a_row_are_no_path_label_and_name(tmp_path):
    (tmp_path / "a.txt").write_text("a.JPEG 0 1\nb.JPEG 1 1\n")
    with pytest.raises(DatasetError):
        read_listing(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no gzip", "Cannot unpack '.*train.csv.gz'"),
        (gzip.compress(b"a.jpg,0\n" * 9, mtime=0)[:-4], "Cannot unpack '.*train.csv.gz'"),
        (
            gzip.compress(b"file,score,age\na.jpg,0,1\n", mtime=0),
            "^'.*data/train.csv.gz' has the columns file, score, age",
        ),
    ],
)
def test_what_is_wrong_with_a_packed_list_names_it(tmp_path, data, message):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv.gz").write_bytes(data)
    with pytest.raises(DatasetError, match=message):
        read_listing(tmp_path / "data" / "train.csv.gz")
