"""Inputs near to those that were tried: read right, or refused, and never wrong in silence."""

import io
import json
import tarfile
import zipfile
from unittest import mock

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lort_hub.data import overlap
from lort_hub.data.dataset import ImageSplit
from lort_hub.data.groups import Grouping
from lort_hub.data.load import load_long_tailed
from lort_hub.data.overlap import number_contents
from lort_hub.data.webdatasets import webdatasets
from tests.support.folders import TRAIN as TRAINED
from tests.support.folders import Folders, both, check_folder
from tests.support.images import NOISE_PNGS, fill
from tests.support.tables import (
    TEST,
    TRAIN,
    Forms,
    cells,
    class_folders,
    competition,
    texts,
    write_csv,
    write_parquet,
    write_pictures,
    write_plain,
)

FORMS, FOLDERS = Forms(), Folders()
read, refused, case = FORMS.read, FORMS.refused, FOLDERS.case
HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}
EVEN = {name: (k, 2) for name, k in TRAINED.items()}


# Folders of splits


@case("two-trains", EVEN, "another split  train/ant/0.jpg", train_split="train_clean")
def the_other_training_folder_is_no_test_split(folder):
    both(folder, train="train_clean")
    fill(folder / "train", TRAINED, start=9000)


@case("train-aug", "'train', 'train_aug' hold the same folders")
def augmented_copies_are_no_test_split(folder):
    fill(folder / "train", TRAINED)
    fill(folder / "train_aug", TRAINED, start=9000)


@case("svhn", "pictures of 'train' lie in no class folders")
def splits_of_pictures_are_no_classes(folder):
    fill(folder, {"train": 6, "test": 4, "extra": 5})


@case("heaps", "lie in no class folders")
def splits_of_pictures_with_a_longer_name_are_no_classes(folder):
    fill(folder, {"train_images": 6, "test": 4, "val": 5})


@case("split-in-class", "hold pictures beside folders called as splits, 'test'")
def folders_of_test_pictures_in_class_folders(folder):
    fill(folder, TRAINED)
    for name in TRAINED:
        fill(folder / name, {"test": 2}, start=5000)


@case("split-in-class", {"ant": (7, 1), "bee": (5, 1), "cat": (4, 1)}, class_folder="first")
def folders_in_class_folders_that_are_parts_of_them(folder):
    fill(folder, TRAINED)
    for at, name in enumerate(TRAINED):
        fill(folder / name, {"test": 2}, start=5000 + 100 * at)


@case("split-for-each-class", "each hold splits: 'test', 'train'")
def a_split_for_each_class(folder):
    for split, name in {"train": "ant", "test": "bee"}.items():
        fill(folder / name, {split: 5}, start=len(name) * 100)


# Lists beside class folders


@read("deep-metadata", notes=["a table beside class folders  data/metadata.csv"])
def class_folders_below_data(folder):
    class_folders(folder / "data")
    files = sorted((folder / "data").rglob("*.png"))
    rows = [(file.relative_to(folder / "data"), "fm"[k % 2]) for k, file in enumerate(files)]
    write_csv(folder / "data/metadata.csv", rows, header=("file_name", "sex"))
    return folder


@read(
    "class-of-a-split-word",
    names=("bullet_train", "bus"),
    counts=(12, 7),
    tested=(3, 3),
    notes=["a table beside class folders"],
    told_by_pixels=False,
)
def a_class_called_bullet_train(folder):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        named = write_pictures(folder / split, [k for k in labels if k < 2], "{label}/{row}.png")
        for label, name in (("ant", "bullet_train"), ("bee", "bus")):
            (folder / split / label).rename(folder / split / name)
        views = [(f.replace("ant", "bullet_train").replace("bee", "bus"), "lr"[len(f) % 2]) for f, _ in named]
        write_csv(folder / split / "metadata.csv", views, header=("file_name", "view"))
    return folder


@read("list-in-a-class", notes=["a table beside class folders  train/ant/boxes.csv"])
def boxes_in_one_class_folder(folder):
    class_folders(folder)
    rows = [(file.name, "lr"[k % 2]) for k, file in enumerate(sorted((folder / "train/ant").iterdir()))]
    write_csv(folder / "train/ant/boxes.csv", rows, header=("file", "view"))
    return folder


@read("own-lists", notes=["output folder of lort_hub  out/audit"])
def lists_of_our_audit(folder):
    class_folders(folder)
    files = sorted((folder / "train").rglob("*.png"))
    rows = [("train", file.relative_to(folder), file.parent.name) for file in files[:4]]
    write_csv(folder / "out/audit/broken_images.csv", rows, header=("split", "file", "class"))
    record = {"environment": {"versions": {"lort_hub": "1"}}}
    (folder / "out/audit/audit.json").write_text(json.dumps(record))
    return folder


@read("test-list", notes=["a table beside class folders  test.csv"], **HELD_OUT)
def class_folders_and_a_list_of_unlabelled_test_images(folder):
    write_pictures(folder / "train", TRAIN, "{label}/{row}.png")
    rows = [(name, k % 2) for k, (name, _) in enumerate(write_pictures(folder / "test", TEST))]
    write_csv(folder / "test.csv", rows, header=("file", "width"))
    return folder


@refused(
    "labelled-test-list", says="test.csv tells the classes of the test images, and folders tell those of the"
)
def class_folders_and_a_list_of_labelled_test_images(folder):
    write_pictures(folder / "train", TRAIN, "{label}/{row}.png")
    write_csv(folder / "test.csv", write_pictures(folder / "test", TEST))
    return folder


@read("leaves-and-masks", **HELD_OUT)
def a_list_in_a_lone_folder_of_pictures(folder):
    write_csv(
        folder / "leaves/labels.csv", write_pictures(folder / "leaves", TRAIN), header=("file", "disease")
    )
    write_pictures(folder / "masks", TRAIN, "m{row}.png")
    return folder


@read("lists-in-a-wrapper", notes=["1 images lie in other folders than those of test.csv, train.csv"])
def lists_below_a_folder_beside_other_pictures(folder):
    class_folders(folder / "data")
    for split in ("train", "test"):
        files = sorted((folder / "data" / split).rglob("*.png"))
        rows = [(file.relative_to(folder / "data"), file.parent.name) for file in files]
        write_csv(folder / f"data/{split}.csv", rows)
    write_pictures(folder / "docs", [0], "figure{row}.png")
    return folder


@read("one-list", notes=["The folders of the images tell the splits: train, test."])
def a_list_of_images_in_folders_of_splits(folder):
    rows = [
        (f"images/{split}/{name}", label)
        for split, labels in (("train", TRAIN), ("test", TEST))
        for name, label in write_pictures(folder / "images" / split, labels)
    ]
    write_csv(folder / "labels.csv", rows)
    return folder


@read("broken-test-list", notes=["test.csv is not read: Row 4 of"], **HELD_OUT)
def a_test_list_that_cannot_be_read(folder):
    competition(folder)
    rows = "".join(f"{k}.png,{name}{', red' * (k == 4)}\n" for k, name in enumerate(texts(TEST)))
    (folder / "test.csv").write_text(f"image_id,label\n{rows}")
    return folder


@read("lost-test-images", notes=["test.csv is not read: no image that it names is there."], **HELD_OUT)
def a_test_list_without_its_images(folder):
    competition(folder)
    write_csv(folder / "test.csv", [(f"gone/{k}.jpg", "ant") for k in range(5)])
    return folder


@read("nested-classes-with-lists")
def lists_of_splits_beside_class_folders_without_any(folder):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        rows = write_pictures(folder / "images", labels, f"{{label}}/{split[1:]}{{row}}.png")
        write_csv(folder / f"{split}.csv", [(f"images/{name}", label) for name, label in rows])
    return folder


def eurosat(folder):
    """Class folders without splits, and the labels of each split by file."""
    return {
        split: write_pictures(folder, labels, f"{{label}}/{split[1:]}{{row}}.png")
        for split, labels in (("train", TRAIN), ("test", TEST))
    }


@read("eurosat")
def lists_of_splits_beside_class_folders(folder):
    for split, rows in eurosat(folder).items():
        write_csv(folder / f"{split}.csv", rows)
    return folder


@read("eurosat-column", notes=["Column 'split' tells the splits"])
def a_list_with_a_column_of_splits_beside_class_folders(folder):
    rows = [(*row, split) for split, listed_rows in eurosat(folder).items() for row in listed_rows]
    write_csv(folder / "metadata.csv", rows, header=("file_name", "label", "split"))
    return folder


@read(
    "eurosat-folds", counts=(12, 8, 7), tested=(3, 2, 1), notes=["a table beside class folders  metadata.csv"]
)
def a_list_with_a_column_of_folds_beside_class_folders(folder):
    rows = [row for listed_rows in eurosat(folder).values() for row in listed_rows]
    write_csv(
        folder / "metadata.csv",
        [(*row, k % 5) for k, row in enumerate(rows)],
        header=("file", "label", "split"),
    )
    return folder


@read("patients", **HELD_OUT)
def folders_of_patients_below_one_folder(folder):
    rows = write_pictures(folder / "images", TRAIN)
    for k, (name, _) in enumerate(rows):
        patient = folder / "images" / f"p{k % 4}"
        patient.mkdir(exist_ok=True)
        (folder / "images" / name).rename(patient / name)
    write_csv(folder / "labels.csv", [(f"images/p{k % 4}/{n}", label) for k, (n, label) in enumerate(rows)])
    return folder


@read("list-of-three-splits", notes=["a table beside class folders  metadata.csv", "no split "])
def a_list_that_names_a_folder_more_than_is_read(folder):
    class_folders(folder)
    write_pictures(folder / "train_aug", [k for k in TRAIN for _ in "12"], "{label}/{row}.png")
    files = sorted(folder.rglob("*.png"))
    rows = [(file.relative_to(folder), "fm"[k % 2]) for k, file in enumerate(files)]
    write_csv(folder / "metadata.csv", rows, header=("file_name", "sex"))
    return folder


@read("karpathy", notes=["Column 'split' tells the splits"])
def a_column_of_splits_beside_folders_called_otherwise(folder):
    rows = [
        (f"images/{'train' if row % 2 else 'val'}2014/{name}", label, split)
        for split, labels in (("train", TRAIN), ("test", TEST))
        for row, (name, label) in enumerate(write_pictures(folder / "x", labels, split[1:] + "{row}.png"))
    ]
    for place, _, _ in rows:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / "x" / place.rpartition("/")[2]).rename(folder / place)
    write_csv(folder / "labels.csv", rows, header=("file", "label", "split"))
    return folder


@read("folds-in-folders-of-splits", notes=["The folders of the images tell the splits: train, test."])
def a_column_of_folds_beside_folders_of_splits(folder):
    rows = [
        (f"{split}/{name}", label, row % 5)
        for split, labels in (("train", TRAIN), ("test", TEST))
        for row, (name, label) in enumerate(write_pictures(folder / split, labels))
    ]
    write_csv(folder / "labels.csv", rows, header=("file", "label", "split"))
    return folder


@read(
    "blank-row",
    counts=(3, 3, 3),
    tested=(1, 1, 1),
    notes=["1 of 13 rows of labels.csv name no file and are left out."],
)
def an_empty_file_in_a_list_of_one_split(folder):
    rows = [(f"val/{name}", label) for name, label in write_pictures(folder / "val", [0, 1, 2] * 4)]
    write_csv(folder / "labels.csv", [*rows, ("", "ant")])
    return folder


# Cells


def listed(folder, column, cell_of):
    """A list with one more column, whose cells are told by the split and the row."""
    rows = [
        (f"{name}", label, cell_of(split, row))
        for split, labels in (("train", TRAIN), ("test", TEST))
        for row, (name, label) in enumerate(write_pictures(folder, labels, split[1:] + "{row}.png"))
    ]
    write_csv(folder / "labels.csv", rows, header=("file", "label", column))
    return folder


@read("cub", notes=["Column 'is_training_image' tells the splits"])
def a_column_that_says_what_is_training(folder):
    return listed(folder, "is_training_image", lambda split, _: int(split == "train"))


@read("is-test", notes=["Column 'is_test' tells the splits"])
def a_column_that_says_what_is_test(folder):
    return listed(folder, "is_test", lambda split, _: split == "test")


@read("floats", notes=["Column 'is_train' tells the splits"])
def a_column_that_says_it_as_floats(folder):
    return listed(folder, "is_train", lambda split, _: "1.0" if split == "train" else "0.0")


read("blank", counts=(12, 8, 7), tested=(3, 2, 1))(lambda folder: listed(folder, "split", lambda *_: ""))
read("names-of-others", counts=(12, 8, 7), tested=(3, 2, 1))(
    lambda folder: listed(folder, "coco", lambda split, row: f"{split}2014_{row}" if row else "flickr_1")
)


@refused("celeba", says="'split' looks like the split of each image, but 33 of 33 rows hold '0', '2'")
def splits_as_numbers(folder):
    return listed(folder, "split", lambda split, _: {"train": 0, "test": 2}[split])


read("folds-for-training", train_split="train", counts=(12, 8, 7), tested=(3, 2, 1))(
    lambda folder: listed(folder, "split", lambda _, row: row % 5)
)


@refused("a-label-outside", says="label 7, expected")
def a_class_label_outside_its_names_in_one_table(folder):
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = datasets.Dataset.from_dict({"image": cells(TRAIN), "label": [7, *TRAIN[1:]]}, features=kinds)
    names = datasets.ClassLabel(names=["ant", "bee", "cat"])
    table = rows.data.table.replace_schema_metadata(
        {
            "huggingface": json.dumps(
                {"info": {"features": datasets.Features({**kinds, "label": names}).to_dict()}}
            )
        }
    )
    folder.mkdir()
    pq.write_table(table, folder / "train.parquet")
    return folder


@refused("an-empty-split", says="'part' looks like the split of each image, but 2 of 33 rows hold ''")
def a_split_that_is_missing(folder):
    return listed(folder, "part", lambda split, row: "" if row == 7 else split)


@read("another-column", counts=(12, 8, 7), tested=(3, 2, 1))
def a_column_of_other_sets(folder):
    return listed(folder, "set", lambda _, row: "ab"[row % 2])


@refused("lists-as-labels", says="several labels a row: row 0 has .'ant', 'red'.")
def json_lists_of_several_labels(folder):
    rows = write_pictures(folder, TRAIN)
    lines = [json.dumps({"file": name, "label": [label, "red"]}) for name, label in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@read("lists-of-one", **HELD_OUT)
def lists_of_one_label(folder):
    write_csv(folder / "train.csv", [(name, str([label])) for name, label in write_pictures(folder, TRAIN)])
    return folder


@read("line-breaks", **HELD_OUT)
def cells_with_line_breaks(folder):
    rows = [
        (name, label, "two\nlines" * (k < 3)) for k, (name, label) in enumerate(write_pictures(folder, TRAIN))
    ]
    write_csv(folder / "train.csv", rows, header=("image", "label", "description"))
    return folder


@read("line-separator", **HELD_OUT)
def a_json_text_with_a_line_separator(folder):
    rows = write_pictures(folder, TRAIN)
    lines = [json.dumps({"file": n, "label": k, "text": "a\u2028b"}, ensure_ascii=False) for n, k in rows]
    (folder / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


# Tables


@read("other-types")
def a_column_of_another_type_in_each_shard(folder):
    for shard, (rows, ids) in enumerate(
        [(TRAIN[::2], range(12)), (TRAIN[1::2], [f"P{k}" for k in range(12)])]
    ):
        options = {"patient": list(ids), "age": pa.array([3.5] * 12 if shard else [3] * 12)}
        boxes = pa.array([[0.5]] * 12 if shard else [[1]] * 12)
        write_plain(
            folder / f"train-0000{shard}-of-00002.parquet", cells(rows), texts(rows), box=boxes, **options
        )
    write_parquet(folder / "test-00000-of-00001.parquet", TEST)
    return folder


@read("split-called-valid")
def a_saved_split_called_valid(folder):
    rows = {
        name: datasets.Dataset.from_dict(
            {"image": cells(labels), "label": texts(labels)},
            features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")}),
        )
        for name, labels in (("training", TRAIN), ("valid", TEST))
    }
    datasets.DatasetDict(rows).save_to_disk(folder)
    return folder


@read("configuration-of-class-folders")
def a_configuration_of_class_folders(folder):
    class_folders(folder / "small")
    class_folders(folder / "large")
    configs = "".join(f"- config_name: {name}\n  data_dir: {name}\n" for name in ("small", "large"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    return f"{folder}:small"


@pytest.mark.parametrize("id", FORMS.reads)
def test_read_right(id, tmp_path):
    FORMS.check_read(id, tmp_path / "photos")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_refused_with_the_reason(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "photos")


@pytest.mark.parametrize(("build", "outcome", "says", "options"), FOLDERS)
def test_folder_is_read_or_refused(build, outcome, says, options, tmp_path):
    check_folder(tmp_path, build, outcome, says, options)


# Groups, archives, large images


@pytest.mark.parametrize("place", ["2024_sea", "a"])
def test_group_patterns_see_names_below_the_data_folder_alone(place, tmp_path):
    folder = tmp_path / place
    rows = write_pictures(folder / "imgs", TRAIN, "{label}/clip{row}_1.png")
    write_csv(folder / "train.csv", [(f"imgs/{name}", label) for name, label in rows])
    data = load_long_tailed(str(folder / "train.csv"), group_pattern=r"(\d+)_")
    assert len(np.unique(np.concatenate([data.train.groups, data.test.groups]))) == len(TRAIN)


def test_group_files_name_images_of_an_archive_below_it(tmp_path):
    rows = write_pictures(tmp_path / "raw", TRAIN, "{label}/{row}.png")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name, _ in rows:
            archive.write(tmp_path / "raw" / name, name)
    groups = [(name, f"g{k // 2}") for k, (name, _) in enumerate(rows)]
    write_csv(tmp_path / "groups.csv", groups, header=("file", "group"))
    data = load_long_tailed(str(tmp_path / "photos.zip"), group_file=str(tmp_path / "groups.csv"))
    assert len(np.unique(np.concatenate([data.train.groups, data.test.groups]))) == 12
    assert Grouping(file="x").given == "`group_file` 'x'"


def test_class_folders_of_names_with_dots_are_no_webdataset(tmp_path):
    def packed(name, members):
        with tarfile.open(tmp_path / name, "w") as archive:
            for member in members:
                archive.addfile(tarfile.TarInfo(member), io.BytesIO())
        return bool(webdatasets([tmp_path / name]))

    assert not packed("cats.tar", ["cat/cat.0.jpg", "cat/cat.1.jpg", "dog/dog.0.jpg"])
    assert packed("shard.tar", ["a/0001.jpg", "a/0001.cls", "a/0002.jpg", "a/0002.cls"])


def test_zip_names_of_macos_keep_their_letters(tmp_path):
    rows = write_pictures(tmp_path / "raw", TRAIN, "{label}/{row}.png")
    file = zip_without_flags(tmp_path, rows)
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist()[0].startswith("K\u251c\u00f1fer/")
    assert load_long_tailed(str(file)).class_names == ("Käfer", "bee", "cat")


def zip_without_flags(folder, rows):
    """A zip as macOS writes it: names in UTF-8, and no flag that says so."""

    class Unflagged(zipfile.ZipInfo):
        def _encodeFilenameFlags(self):
            return self.filename.encode(), self.flag_bits

    with zipfile.ZipFile(folder / "mac.zip", "w") as archive:
        for name, label in rows:
            member = Unflagged(name.replace("ant", "Käfer") if label == "ant" else name)
            archive.writestr(member, (folder / "raw" / name).read_bytes())
    return folder / "mac.zip"


def test_images_in_several_arrow_chunks_are_read_in_their_order():
    encoded = [{"bytes": data, "path": f"{k}.png"} for k, data in enumerate(NOISE_PNGS)]
    kinds = datasets.Features({"image": datasets.Image(decode=False)})
    parts = [
        datasets.Dataset.from_dict({"image": part}, features=kinds) for part in (encoded[:3], encoded[3:])
    ]
    images = datasets.concatenate_datasets([*parts, parts[0]])
    assert images.data.column(0).num_chunks == 3
    each = np.arange(13)
    split = ImageSplit(images, each % 2, each, "image", "train", ("ant", "bee"))
    assert split.files() == [f"{k}.png" for k in (*range(10), *range(3))]
    assert number_contents(split)[0].tolist() == [*range(10), *range(3)]


def test_images_of_more_than_one_array_holds_are_read_in_parts():
    column = mock.Mock(chunks=["a", "b"])  # of 2 GiB and more in the wild
    column.combine_chunks.side_effect = pa.ArrowInvalid("offset overflow while concatenating arrays")
    assert overlap._parts(column) == ["a", "b"]
