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
