"""Lists of the names of training and test images beside a list of the labels of all images."""

import json
from pathlib import Path

import numpy as np
import pytest

from lort_hub.data.load import load_long_tailed
from lort_hub.errors import DatasetError
from tests.support.tables import NAMES, TEST, TRAIN, class_of, write_csv, write_pictures

LABELS = {"train": TRAIN, "val": [0, 1, 2, 2], "test": TEST}
ALL = [label for labels in LABELS.values() for label in labels]


def write(file, lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


def pictures(folder, splits=("train", "test")):
    """Flat pictures of all splits, in no order that tells them; their names by split, and rows of labels."""
    names = {
        split: [
            name for name, _ in write_pictures(folder / "images", LABELS[split], f"{split[1]}{{row}}.png")
        ]
        for split in splits
    }
    rows = [
        (name, NAMES[label])
        for split in splits
        for name, label in zip(names[split], LABELS[split], strict=True)
    ]
    return names, sorted(rows, key=lambda row: row[0][1:])


def check(spec, lists, *, test="test", **options):
    """The splits of the lists are read, with the labels of the table, and the lists are named."""
    data = load_long_tailed(str(spec), **options)
    assert data.class_names == tuple(NAMES)
    assert data.class_counts.tolist() == [12, 7, 5]
    assert np.bincount(data.test.labels).tolist() == np.bincount(LABELS[test]).tolist()
    for split, name in ((data.train, "train"), (data.test, test)):
        cells = split.encoded(range(len(split)))
        assert all(Path(cell["path"]).name.startswith(name[1]) for cell in cells)
        assert [class_of(split.image(k)) for k in range(len(split))] == split.labels.tolist()
    (note,) = (note for note in data.notes if "in the splits of" in note)
    assert all(name in note for name in lists)
    assert not any("not read" in note or "published split" in note for note in data.notes)
    return data


def refusal(spec, **options):
    with pytest.raises(DatasetError) as error:
        load_long_tailed(str(spec), **options)
    assert len(str(error.value).splitlines()) <= 3
    return str(error.value)


@pytest.mark.parametrize("given", [".", "labels.csv"])
def test_texts_of_names_beside_a_list_of_labels(tmp_path, given):
    names, rows = pictures(tmp_path)
    write_csv(tmp_path / "labels.csv", rows)
    write(tmp_path / "train_val_list.txt", names["train"])
    write(tmp_path / "test_list.txt", names["test"])
    write(tmp_path / "test_notes.txt", ["no image"])
    check(tmp_path / given, ["train_val_list.txt", "test_list.txt"])


@pytest.mark.parametrize("given", [".", "labels.txt"])
def test_texts_of_names_beside_a_text_of_labels(tmp_path, given):
    names, rows = pictures(tmp_path)
    write(tmp_path / "labels.txt", map(" ".join, rows))
    for split, of in names.items():
        write(tmp_path / f"{split}.txt", of)
    check(tmp_path / given, ["train.txt", "test.txt"])


@pytest.mark.parametrize("given", [".", "labels.csv"])
def test_tables_of_names_beside_a_list_of_labels(tmp_path, given):
    names, rows = pictures(tmp_path)
    write_csv(tmp_path / "labels.csv", rows)
    for split, of in names.items():
        write(tmp_path / f"{split}.csv", ["file", *of])
    check(tmp_path / given, ["train.csv", "test.csv"])


def test_a_json_file_of_splits_beside_one_of_labels(tmp_path):
    names, rows = pictures(tmp_path)
    (tmp_path / "labels.json").write_text(json.dumps(dict(rows)))
    (tmp_path / "split.json").write_text(json.dumps(names))
    check(tmp_path, ["split.json"])


def test_a_list_of_the_training_images_beside_a_list_of_labels_is_no_split(tmp_path):
    rows = write_pictures(tmp_path / "images", TRAIN)
    write_csv(tmp_path / "labels.csv", rows)
    write(tmp_path / "train.txt", [name for name, _ in rows])
    assert not any("published split" in note for note in load_long_tailed(str(tmp_path)).notes)


def test_a_text_of_the_labels_that_a_list_has_is_no_split(tmp_path):
    rows = write_pictures(tmp_path / "images", TRAIN)
    write_csv(tmp_path / "labels.csv", rows)
    write(tmp_path / "labels.txt", [f"{name} {label}" for name, label in rows])
    data = load_long_tailed(str(tmp_path / "labels.csv"))
    assert not any("published split" in note for note in data.notes)
