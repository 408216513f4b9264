"""Lists of image files in the forms that people bring: read right, or refused with the reason."""

import json
from pathlib import Path

import numpy as np
import pytest

from lort_hub.data.dataset import BadImageError
from lort_hub.data.load import load_long_tailed
from lort_hub.errors import DatasetError
from tests.support.tables import (
    NAMES,
    TEST,
    TRAIN,
    Forms,
    class_folders,
    competition,
    picture,
    write_csv,
    write_pictures,
)

FORMS = Forms()  # ids: rows of the list of inputs that were tried
read, refused = FORMS.read, FORMS.refused
HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}


def stems(rows):
    return [(Path(name).stem, label) for name, label in rows]


@read("p10", "p10-folder", **HELD_OUT)
def train_csv_beside_folders(folder):
    return competition(folder)


read("p10-file", **HELD_OUT)(lambda folder: competition(folder) / "train.csv")
read("p10-root", image_root=lambda folder: folder / "train_images", **HELD_OUT)(
    lambda folder: competition(folder) / "train.csv"
)
read("p10-relative-root", image_root="train_images", **HELD_OUT)(
    lambda folder: competition(folder) / "train.csv"
)
read("p10-ids", **HELD_OUT)(lambda folder: competition(folder, stems))
read("p20", **HELD_OUT)(lambda folder: competition(folder, delimiter=";"))
read("p19", **HELD_OUT)(lambda folder: competition(folder, encoding="utf-8-sig"))
read("p22", **HELD_OUT)(lambda folder: competition(folder, header=("filename", "label")))
read("p10-utf16", **HELD_OUT)(lambda folder: competition(folder, encoding="utf-16"))
read("p10-no-header", **HELD_OUT)(lambda folder: competition(folder, header=None))
read("p10-kaggle-paths", **HELD_OUT)(
    lambda folder: competition(
        folder, lambda rows: [(f"/kaggle/input/x/train_images/{name}", label) for name, label in rows]
    )
)
read("p10-windows-paths", **HELD_OUT)(
    lambda folder: competition(folder, lambda rows: [(f"train_images\\{n}", label) for n, label in rows])
)
read("p10-jpg-ids-that-are-numbers", names=("0", "1", "2"), **HELD_OUT)(
    lambda folder: competition(folder, lambda rows: [(Path(n).stem, NAMES.index(k)) for n, k in rows])
)
read("p10-spaces", **HELD_OUT)(
    lambda folder: competition(folder, lambda rows: [(f" {name} ", f" {label}") for name, label in rows])
)
read("p10-more-columns", **HELD_OUT)(
    lambda folder: competition(
        folder,
        lambda rows: [(name, label, k % 2, f"photo {k}") for k, (name, label) in enumerate(rows)],
        header=("image_id", "label", "source", "caption"),
    )
)


@read("p10-tsv", **HELD_OUT)
def tsv(folder):
    rows = write_pictures(folder / "imgs", TRAIN)
    write_csv(folder / "labels.tsv", rows, delimiter="\t")
    return folder


@read("p26", names=("ant", "bee", "café"), notes=["metadata.csv is not UTF-8"], **HELD_OUT)
def latin_1(folder):
    rows = [(name, label.replace("cat", "café")) for name, label in write_pictures(folder, TRAIN)]
    write_csv(folder / "metadata.csv", rows, header=("file_name", "label"), encoding="latin-1")
    return folder


def with_test_csv(folder, test):
    competition(folder)
    write_csv(
        folder / "test.csv", test(write_pictures(folder / "test_images", TEST)), header=("image_id", "label")
    )
    return folder


@read("p10-test-csv")
def labelled_test_csv(folder):
    return with_test_csv(folder, lambda rows: rows)


read("p10-test-csv-file")(lambda folder: labelled_test_csv(folder) / "train.csv")
read("p10-test-csv-root", image_root=lambda folder: folder / "train_images")(
    lambda folder: labelled_test_csv(folder) / "train.csv"
)
read("p10-empty-test", notes=["9 images of 'test' have no labels"], **HELD_OUT)(
    lambda folder: with_test_csv(folder, lambda rows: [(name, "") for name, _ in rows])
)


read(
    "placeholders-in-the-test",
    notes=["All 9 rows of 'test' have one label, 'ant'", "2 of 3 classes have no test image"],
    tested=(9, 0, 0),
    told_by_pixels=False,
)(lambda folder: with_test_csv(folder, lambda rows: [(name, "ant") for name, _ in rows]))


@read("p10-unlabelled-test", notes=["9 images of 'test' have no labels"], **HELD_OUT)
def unlabelled_test_csv(folder):
    competition(folder)
    names = write_pictures(folder / "test_images", TEST)
    write_csv(
        folder / "test.csv", [(name, k) for k, (name, _) in enumerate(names)], header=("image_id", "width")
    )
    return folder


@read("p10-submission", notes=["sample_submission.csv is not read"], **HELD_OUT)
def submission(folder):
    competition(folder)
    write_csv(
        folder / "sample_submission.csv",
        [(name, "ant") for name, _ in write_pictures(folder / "test_images", TEST)],
    )
    return folder


@read("p11", **HELD_OUT)
def paths_relative_to_the_list(folder):
    rows = write_pictures(folder, TRAIN, "imgs/{row}.png")
    write_csv(folder / "train.csv", rows, header=("path", "species"))
    return folder


@read("p11b", **HELD_OUT)
def absolute_paths(folder):
    rows = [(str(folder / "far" / name), label) for name, label in write_pictures(folder / "far", TRAIN)]
    write_csv(folder / "near" / "train.csv", rows, header=("path", "label"))
    return folder / "near"


@read(
    "p11c",
    counts=(11, 6, 4),
    tested=(2, 1, 1),
    notes=["1 of 25 rows of train.csv name a file that is not there"],
)
def a_file_that_is_not_there(folder):
    return competition(folder, lambda rows: [*rows, ("gone.png", "ant")])


@read(
    "p21",
    notes=["5 images have no row in metadata.csv, such as 19.png"],
    names=("ant", "bee"),
    counts=(10, 6),
    tested=(2, 1),
)
def images_without_a_row(folder):
    rows = write_pictures(folder, TRAIN)
    write_csv(folder / "metadata.csv", rows[:19], header=("file_name", "label"))
    return folder


@read("p12")
def metadata_of_each_split(folder):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        rows = write_pictures(folder / split, labels)
        write_csv(folder / split / "metadata.csv", rows, header=("file_name", "label"))
    return folder


@read("p23", names=("1", "2", "3"))
def json_lines(folder):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        rows = write_pictures(folder / split, labels)
        lines = [json.dumps({"file_name": name, "label": NAMES.index(label) + 1}) for name, label in rows]
        (folder / split / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@read("p12-one-list", notes=["The folders of the images tell the splits"])
def one_list_of_two_folders(folder):
    rows = [(f"train/{name}", label) for name, label in write_pictures(folder / "train", TRAIN)]
    rows += [(f"test/{name}", label) for name, label in write_pictures(folder / "test", TEST)]
    write_csv(folder / "metadata.csv", rows, header=("file_name", "label"))
    return folder


@read("p12b", notes=["a table beside class folders", "The class folders are the labels"])
def class_folders_and_metadata(folder):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        rows = write_pictures(folder / split, labels, "{label}/{row}.png")
        ages = [(name, k) for k, (name, _) in enumerate(rows)]
        write_csv(folder / split / "metadata.csv", ages, header=("file_name", "age"))
    return folder


@read(
    "p12b-label",
    names=("new", "old"),
    counts=(12, 12),
    tested=(5, 4),
    label_column="age",
    told_by_pixels=False,
)
def class_folders_and_a_named_column(folder):
    class_folders_and_metadata(folder)
    for split, labels in (("train", TRAIN), ("test", TEST)):
        rows = write_pictures(folder / split, labels, "{label}/{row}.png")
        ages = [(name, ("new", "old")[k % 2]) for k, (name, _) in enumerate(rows)]
        write_csv(folder / split / "metadata.csv", ages, header=("file_name", "age"))
    return folder


@refused("p12b-two", says="'label' of 'metadata.csv' and the folders ant, bee, cat.*label_column")
def class_folders_and_other_labels(folder):
    rows = write_pictures(folder, TRAIN, "{label}/{row}.png")
    write_csv(
        folder / "metadata.csv",
        [(n, ("new", "old")[k % 2]) for k, (n, _) in enumerate(rows)],
        header=("file_name", "label"),
    )
    return folder


@pytest.mark.parametrize("id", FORMS.reads)
def test_list_is_read(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_list_is_refused_with_the_reason(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")


def test_missing_file_is_a_bad_image_and_counts_in_the_fingerprint(tmp_path):
    data = load_long_tailed(str(a_file_that_is_not_there(tmp_path)))
    gone = [k for k, cell in enumerate(data.train.encoded(range(len(data.train)))) if "gone" in cell["path"]]
    with pytest.raises(BadImageError, match=r"gone\.png\), class 'ant': no such file"):
        data.train.image(gone[0])
    before = data.train.fingerprint()
    picture(1).save(tmp_path / "train_images" / "gone.png")
    assert load_long_tailed(str(tmp_path)).train.fingerprint() != before


def test_file_of_another_folder_is_not_taken_for_a_missing_one(tmp_path):
    rows = write_pictures(tmp_path, TRAIN, "imgs/{label}/{row}.png")
    (tmp_path / "imgs" / "ant" / "0.png").unlink()
    picture(99).save(tmp_path / "imgs" / "cat" / "0.png")
    write_csv(tmp_path / "train.csv", rows, header=("path", "species"))
    data = load_long_tailed(str(tmp_path / "train.csv"))
    paths = [
        cell["path"]
        for cell in (*data.train.encoded(range(len(data.train))), *data.test.encoded(range(len(data.test))))
    ]
    assert str(tmp_path / "imgs" / "ant" / "0.png") in paths
    assert str(tmp_path / "imgs" / "cat" / "0.png") not in paths


def objects(folder):
    """Rows of the pictures of both splits, by split."""
    rows = {"train": write_pictures(folder, TRAIN, "{row}.png")}
    rows["test"] = write_pictures(folder, TEST, "t{row}.png")
    return {split: [{"file": n, "label": k} for n, k in pairs] for split, pairs in rows.items()}


def check_both_splits(spec):
    data = load_long_tailed(str(spec))
    assert data.class_names == tuple(NAMES)
    assert data.class_counts.tolist() == np.bincount(TRAIN).tolist()
    assert np.bincount(data.test.labels).tolist() == np.bincount(TEST).tolist()


def test_lines_of_json_in_json_files(tmp_path):
    for split, rows in objects(tmp_path).items():
        lines = "\n".join(json.dumps(row) for row in rows)
        (tmp_path / f"{split}.json").write_text(lines + "\n")
    check_both_splits(tmp_path)


@pytest.mark.parametrize("names", [("train", "test"), ("training", "val")])
def test_a_json_file_of_a_list_of_rows_for_each_split(tmp_path, names):
    rows = dict(zip(names, objects(tmp_path).values(), strict=True))
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    check_both_splits(tmp_path)
    check_both_splits(tmp_path / "annotations.json")


def test_a_json_file_of_splits_one_of_which_is_empty(tmp_path):
    (tmp_path / "annotations.json").write_text(json.dumps({**objects(tmp_path), "test": []}))
    data = load_long_tailed(str(tmp_path))
    assert (data.class_counts + np.bincount(data.test.labels)).tolist() == np.bincount(TRAIN).tolist()


def test_json_lists_of_splits_of_which_one_holds_another(tmp_path):
    rows = objects(tmp_path)
    rows["val"] = [{"file": n, "label": k} for n, k in write_pictures(tmp_path, TEST, "v{row}.png")]
    rows["trainval"] = rows["train"] + rows["val"]
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    check_both_splits(tmp_path)


def test_a_split_that_the_rows_of_a_json_list_name_themselves_goes_first(tmp_path):
    rows = objects(tmp_path)
    whole = [{**row, "split": split} for split, some in rows.items() for row in some]
    (tmp_path / "annotations.json").write_text(json.dumps({"train": whole}))
    check_both_splits(tmp_path)
    (tmp_path / "annotations.json").write_text(json.dumps({"train": [{**whole[0], "split": "x"}]}))
    with pytest.raises(DatasetError, match="no list of images"):
        load_long_tailed(str(tmp_path))


@pytest.mark.parametrize("name", ["test.json", "labels.jsonl", "split.json", "images/train/run.json"])
@pytest.mark.parametrize("depth", [970, 100_000])
def test_json_nested_too_deeply_is_passed_over_or_refused(tmp_path, name, depth):
    class_folders(tmp_path / "images")
    (tmp_path / name).write_text('{"file": "0.png", "label": ' + "[" * depth + "]" * depth + "}")
    check_both_splits(tmp_path)
    with pytest.raises(DatasetError):
        load_long_tailed(str(tmp_path / name))


def test_a_card_that_is_no_yaml_is_passed_over(tmp_path):
    class_folders(tmp_path)
    for text in ("a: " + "[" * 100_000, "date: 2024-13-45"):
        (tmp_path / "README.md").write_text(f"---\n{text}\n---\n")
        check_both_splits(tmp_path)


def test_a_json_file_of_one_row(tmp_path):
    write_pictures(tmp_path, TRAIN, "{row}.png")
    [(name, label)] = write_pictures(tmp_path, TEST[:1], "t{row}.png")
    lines = [json.dumps({"file": f"{k}.png", "label": NAMES[y]}) for k, y in enumerate(TRAIN)]
    (tmp_path / "train.json").write_text("\n".join(lines))
    (tmp_path / "test.json").write_text(json.dumps({"file": name, "label": label}))
    data = load_long_tailed(str(tmp_path))
    assert (len(data.train), len(data.test)) == (len(TRAIN), 1)
