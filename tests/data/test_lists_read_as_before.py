"""Lists that once were misread, or refused, because another kind of list had to be read."""

import numpy as np
import pytest

from lort_hub.data.load import load_long_tailed
from lort_hub.errors import DatasetError
from tests.support.tables import NAMES, TEST, TRAIN, class_of, write_csv, write_pictures

WORDS = [NAMES[label] for label in TRAIN]


def numbered(folder, pattern="{row}.png"):
    """Pictures called by their rows, and rows of their names and classes."""
    return [(str(k), name, label) for k, (name, label) in enumerate(write_pictures(folder, TRAIN, pattern))]


def check_pictures(data):
    """Each picture has the class that it shows."""
    for split in (data.train, data.test):
        assert [class_of(split.image(k)) for k in range(len(split))] == split.labels.tolist()


@pytest.mark.parametrize(
    ("column", "cell"),
    [("catalog", "2019/{}"), ("date", "1/5/{}"), ("pressure", "120/{}")],
)
def test_cells_with_a_slash_are_no_paths_where_their_first_part_is_no_folder(tmp_path, column, cell):
    rows = numbered(tmp_path / "in")
    lines = [(number, cell.format((7 * int(number)) % 24), WORDS[int(number)]) for number, _, _ in rows]
    write_csv(tmp_path / "in" / "train.csv", lines, header=("image_id", column, "label"))
    data = load_long_tailed(str(tmp_path / "in"))
    check_pictures(data)


@pytest.mark.parametrize("first", ["is_valid", "valid"])
@pytest.mark.parametrize("second", ["is_test", "split"])
def test_the_surest_column_of_splits_counts_and_not_the_first(tmp_path, first, second):
    rows = numbered(tmp_path / "in")
    tested = {3, 9, 14, 18, 20, 22}
    answer = {"is_test": ("False", "True"), "split": ("train", "test")}[second]
    lines = [(name, WORDS[k], str(k % 8 == 0), answer[k in tested]) for k, (_, name, _) in enumerate(rows)]
    write_csv(tmp_path / "in" / "list.csv", lines, header=("file", "label", first, second))
    data = load_long_tailed(str(tmp_path / "in"))
    assert len(data.test) == len(tested)
    assert sorted(data.test.labels.tolist()) == sorted(TRAIN[k] for k in tested)


def test_numbers_do_not_beat_the_only_column_of_files_whatever_its_name(tmp_path):
    numbered(tmp_path / "in" / "thumbs")
    lines = [(f"thumbs/{k}.png", str((5 * k) % 24), word) for k, word in enumerate(WORDS)]
    write_csv(tmp_path / "in" / "list.csv", lines, header=("thumbnail", "no", "label"))
    with pytest.raises(DatasetError, match="thumbnail"):
        load_long_tailed(str(tmp_path / "in"))


def test_the_test_list_of_all_folds_is_read_with_the_list_of_one(tmp_path):
    train = numbered(tmp_path / "in", "train{row}.png")
    test = write_pictures(tmp_path / "in", TEST, "test{row}.png")
    for fold in (0, 1):
        kept = [(name, label) for k, name, label in train if int(k) % 2 != fold]
        held = [(name, label) for k, name, label in train if int(k) % 2 == fold]
        write_csv(tmp_path / "in" / f"train_fold{fold}.csv", kept, header=("file", "label"))
        write_csv(tmp_path / "in" / f"val_fold{fold}.csv", held, header=("file", "label"))
    write_csv(tmp_path / "in" / "test.csv", test, header=("file", "label"))
    data = load_long_tailed(str(tmp_path / "in" / "train_fold0.csv"))
    assert np.bincount(data.test.labels).tolist() == np.bincount(TEST).tolist()


@pytest.mark.parametrize("names", [("nan", "cat", "dog"), ("cat", "dog", "cat+dog")])
@pytest.mark.parametrize("is_bare", [True, False])
def test_class_folders_of_any_name_are_read_in_published_splits(tmp_path, names, is_bare):
    lists = {"train": TRAIN, "test": TEST}
    for split, labels in lists.items():
        pictures = write_pictures(tmp_path / "in", labels, f"images/{{label}}/{split}_{{row}}.png")
        renamed = []
        for (path, _), wanted in zip(pictures, labels, strict=True):
            source = tmp_path / "in" / path
            target = tmp_path / "in" / "images" / names[wanted] / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
            renamed.append(target.stem if is_bare else f"{names[wanted]}/{target.name}")
        (tmp_path / "in" / f"{split}.txt").write_text("\n".join(renamed) + "\n")
    for name in NAMES:
        left = tmp_path / "in" / "images" / name
        if left.is_dir() and not any(left.iterdir()):
            left.rmdir()
    data = load_long_tailed(str(tmp_path / "in"))
    assert sorted(data.class_names) == sorted(names)
    assert len(data.train) == len(TRAIN)
    assert len(data.test) == len(TEST)


def test_ids_of_images_are_read_beside_numbers_of_another_kind(tmp_path):
    numbered(tmp_path / "in")
    lines = [(str(k), str((11 * k) % 24), word) for k, word in enumerate(WORDS)]
    write_csv(tmp_path / "in" / "train.csv", lines, header=("id", "area", "species"))
    data = load_long_tailed(str(tmp_path / "in"), label_column="species")
    check_pictures(data)


@pytest.mark.parametrize("header", ["#,Name,Type 1", "#id,file,breed"])
def test_a_header_that_begins_with_a_hash_is_one(tmp_path, header):
    rows = numbered(tmp_path / "in")
    lines = [f"{k},{name},{WORDS[int(k)]}" for k, name, _ in rows]
    (tmp_path / "in" / "list.csv").write_text("\n".join([header, *lines]) + "\n")
    data = load_long_tailed(str(tmp_path / "in"), label_column=header.split(",")[-1])
    assert sorted(data.class_names) == sorted(NAMES)
    assert len(data.train) + len(data.test) == len(TRAIN)


def test_folders_of_splits_and_classes_beside_lists_of_attributes_are_the_data(tmp_path):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        pictures = write_pictures(tmp_path / "in", labels, f"{split}/{{label}}/{{row}}.png")
        lines = [(path, str(k % 5), str(k % 3)) for k, (path, _) in enumerate(pictures)]
        write_csv(tmp_path / "in" / f"{split}.csv", lines, header=("file", "xmin", "quality"))
    data = load_long_tailed(str(tmp_path / "in"))
    assert data.class_names == tuple(NAMES)
    assert data.class_counts.tolist() == [12, 7, 5]
    assert len(data.test) == len(TEST)


@pytest.mark.parametrize("delimiter", [",", "\t"])
@pytest.mark.parametrize("labels", [["0", "1", "2"], NAMES])
def test_distinct_labels_before_the_files_of_a_short_test_list_are_read(tmp_path, labels, delimiter):
    ending = "csv" if delimiter == "," else "tsv"
    for split, of in (("train", TRAIN), ("test", [0, 1, 2])):
        rows = write_pictures(tmp_path / "in", of, f"images/{split}{{row}}.png")
        cells = [(labels[k], name) for k, (name, _) in zip(of, rows, strict=True)]
        write_csv(tmp_path / "in" / f"{split}.{ending}", cells, header=None, delimiter=delimiter)
    data = load_long_tailed(str(tmp_path / "in"))
    assert np.bincount(data.train.labels).tolist() == [12, 7, 5]
    assert data.test.labels.tolist() == [0, 1, 2]
    check_pictures(data)


def test_some_of_many_numbered_classes_before_the_files_of_a_test_list_are_read(tmp_path):
    tested = [(5 * k + 4) % 40 for k in range(13)]
    for split, of in (("train", [*range(40)] * 2), ("test", tested)):
        rows = write_pictures(tmp_path / "in", [0] * len(of), f"images/{split}{{row}}.png")
        cells = [(label, name) for label, (name, _) in zip(of, rows, strict=True)]
        write_csv(tmp_path / "in" / f"{split}.csv", cells, header=None)
    data = load_long_tailed(str(tmp_path / "in"))
    assert [data.class_names[k] for k in data.test.labels] == [str(label) for label in tested]


def test_codes_before_the_files_and_another_column_behind_them_are_several(tmp_path):
    rows = write_pictures(tmp_path / "in", TRAIN)
    cells = [(101 + 7 * TRAIN[k], name, ("john", "mary")[k % 2]) for k, (name, _) in enumerate(rows)]
    write_csv(tmp_path / "in" / "list.csv", cells, header=None)
    with pytest.raises(DatasetError, match="Several columns could be the label"):
        load_long_tailed(str(tmp_path / "in"))


@pytest.mark.parametrize("ending", [".png", ""])
def test_files_without_a_label_are_refused_and_not_left_out_as_remarks(tmp_path, ending):
    rows = [(name.removesuffix(".png") + ending, label) for name, label in write_pictures(tmp_path, TRAIN)]
    write_csv(tmp_path / "list.csv", [*rows, *((f"gone{k}{ending}", "") for k in range(4))])
    with pytest.raises(DatasetError, match="label") as refusal:
        load_long_tailed(str(tmp_path))
    assert "name no file" not in str(refusal.value)


@pytest.mark.parametrize(
    ("label", "cells", "other", "ticks"),
    [
        ("diagnosis", "01", "reviewed", "x"),
        ("disease", ("no", "yes"), "second reading", "x"),
        ("outcome", "01", "note", "yes"),
        ("sick", "01", "reviewed", "x"),
    ],
)
def test_a_column_of_ticks_beside_the_label_is_none_of_several_labels(tmp_path, label, cells, other, ticks):
    rows = [
        (name, cells[k % 2], ticks if k % 3 == 0 else "")
        for k, (name, _) in enumerate(write_pictures(tmp_path, TRAIN))
    ]
    write_csv(tmp_path / "list.csv", rows, header=("file", label, other))
    data = load_long_tailed(str(tmp_path))
    assert data.class_names == tuple(sorted(cells))


@pytest.mark.parametrize(("label", "other"), [("disease", "smoker"), ("outcome", "flipped")])
def test_the_only_column_of_0_and_1_that_is_called_as_a_label_is_told(tmp_path, label, other):
    rows = [(name, k % 2, int(k % 3 == 0)) for k, (name, _) in enumerate(write_pictures(tmp_path, TRAIN))]
    write_csv(tmp_path / "list.csv", rows, header=("file", label, other))
    with pytest.raises(DatasetError, match=f'Choose one, e.g. `label_column="{label}"`'):
        load_long_tailed(str(tmp_path))


@pytest.mark.parametrize("other", ["patient_name", "camera_model_name"])
def test_one_hot_columns_are_told_beside_names_of_something_else(tmp_path, other):
    rows = [
        (name, *(int(label == one) for one in NAMES), "pq"[k % 2])
        for k, (name, label) in enumerate(write_pictures(tmp_path, TRAIN))
    ]
    write_csv(tmp_path / "list.csv", rows, header=("file", *NAMES, other))
    with pytest.raises(DatasetError, match="spread over 3 one-hot columns: ant, bee, cat"):
        load_long_tailed(str(tmp_path))
