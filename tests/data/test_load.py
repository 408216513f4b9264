import shutil
import time
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from lort_hub.data.dataset import BadImageError
from lort_hub.data.holdout import hold_out, record_training, unseen_images
from lort_hub.data.load import load_long_tailed
from lort_hub.errors import ConfigError, DatasetError
from lort_hub.records import TrainedOn
from tests.support.hub_client import Client
from tests.support.images import noise_image, png


def parquet(folder, columns, *, features=None, split="train"):
    folder.mkdir(exist_ok=True)
    datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / f"{split}.parquet")


def images(count, start=0):
    return [{"bytes": png(np.asarray(noise_image(start + k, (8, 8)))), "path": None} for k in range(count)]


def features(names, **more):
    kinds = {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=names), **more}
    return datasets.Features(kinds)


def test_digits_are_scikit_learn_s_with_a_balanced_test():
    from sklearn.datasets import load_digits

    data = load_long_tailed("digits", imbalance="none")
    assert len(data.train) + len(data.test) == 1797
    assert np.bincount(data.test.labels).tolist() == [50] * 10
    raw = load_digits()
    row = int(np.flatnonzero(raw.target == data.train.labels[0])[0])
    expected = np.round(raw.images[row] * 255 / 16).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(data.train.image(0))[:, :, 0], expected)


def test_cifar100_preset_columns_and_the_field_s_subset(test_data):
    folder = str(test_data / "data" / "cifar100")
    data = load_long_tailed(folder, imbalance="exp:100", label_column="fine_label")
    assert (len(data.train), len(data.test)) == (10_847, 10_000)
    assert (data.class_counts.max(), data.class_counts.min()) == (500, 5)
    with pytest.raises(DatasetError, match=r'fine_label, coarse_label(.|\n)*`label_column="fine_label"`'):
        load_long_tailed(folder)


def test_caltech101_is_found_with_no_flag(test_data):
    data = load_long_tailed(str(test_data / "data" / "caltech101"))
    assert (len(data.train), len(data.test), data.num_classes) == (7_242, 1_000, 100)
    assert (data.class_counts.max(), data.class_counts.min()) == (790, 21)
    assert data.train.image(0).mode == "RGB"


def test_imagefolder_with_a_test_split(photos):
    data = load_long_tailed(str(photos))
    assert data.class_names == ("ant", "bee", "cat")
    assert data.class_counts.tolist() == [9, 6, 3]
    assert np.bincount(data.test.labels).tolist() == [4, 4, 4]


def test_imagefolder_without_a_test_split_holds_out_a_fifth_of_each_class(photos, tmp_path):
    shutil.copytree(photos / "train", tmp_path / "flat")
    data = load_long_tailed(str(tmp_path / "flat"))
    assert np.bincount(data.test.labels).tolist() == [1, 1, 1]
    assert data.class_counts.tolist() == [8, 5, 2]
    assert not set(data.train.rows) & set(data.test.rows)
    assert "held out" in data.source["test_split"]


def test_string_and_integer_labels_become_classes(tmp_path):
    parquet(
        tmp_path / "a",
        {"picture": images(4), "kind": ["dog", "cat", "dog", "cat"]},
        features=datasets.Features({"picture": datasets.Image(), "kind": datasets.Value("string")}),
    )
    assert load_long_tailed(str(tmp_path / "a")).class_names == ("cat", "dog")
    parquet(
        tmp_path / "b",
        {"picture": images(4), "kind": [7, 3, 7, 3]},
        features=datasets.Features({"picture": datasets.Image(), "kind": datasets.Value("int64")}),
    )
    data = load_long_tailed(str(tmp_path / "b"))
    assert data.class_names == ("3", "7")


def test_fingerprint_is_of_the_content_alone(tmp_path):
    kinds = features(["a", "b"])
    names = ("one", "two", "pixel", "label")
    pictures = {name: images(4) for name in names}
    pictures["pixel"][3] = images(1, start=99)[0]
    labels = {key: [0, 1, 0, 1] for key in names} | {"label": [0, 1, 1, 0]}
    found = {}
    for name in names:
        parquet(tmp_path / name, {"picture": pictures[name], "kind": labels[name]}, features=kinds)
        parquet(
            tmp_path / name, {"picture": pictures[name], "kind": labels[name]}, features=kinds, split="test"
        )
        found[name] = load_long_tailed(str(tmp_path / name)).train.fingerprint()
    assert found["one"] == found["two"]
    assert len(set(found.values())) == 3


def test_corrupt_image_is_named_by_row_file_and_class(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "train" / "bee" / "2.png").write_bytes(b"not a picture")
    train = load_long_tailed(str(folder)).train
    bad = next(k for k in range(len(train)) if "bee/2.png" in train.images[k]["image"]["path"])
    with pytest.raises(BadImageError, match=rf"row {bad} of split 'train' \(.*bee/2.png\), class 'bee'"):
        train.image(bad)


def test_truncated_image_is_refused(tmp_path):
    broken = images(4)
    broken[2]["bytes"] = broken[2]["bytes"][:-40]
    parquet(tmp_path / "d", {"picture": broken, "kind": [0, 1, 0, 1]}, features=features(["a", "b"]))
    parquet(
        tmp_path / "d", {"picture": images(2), "kind": [0, 1]}, features=features(["a", "b"]), split="test"
    )
    with pytest.raises(BadImageError, match="row 2 of split 'train', class 'a'"):
        load_long_tailed(str(tmp_path / "d")).train.image(2)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([0, 1, 0, 1], [0, -1], "Row 1 of split 'test' has label -1, expected 0..2"),
        ([0, 1, 2, 1], [0, 1, 2], None),
        ([0, 1, 0, 1], [0, 1, 2], "test images but no training image: 'c'"),
        ([0, 1, 0, 1], [0, 1], "no image at all: 'c'"),
        ([0, None, 2, 1], [0], "Row 1 of split 'train' has no label"),
    ],
)
def test_labels_are_checked_before_any_image(tmp_path, train, test, message):
    kinds = features(["a", "b", "c"])
    parquet(tmp_path / "d", {"picture": images(len(train)), "kind": train}, features=kinds)
    parquet(tmp_path / "d", {"picture": images(len(test)), "kind": test}, features=kinds, split="test")
    if message is None:
        assert load_long_tailed(str(tmp_path / "d")).num_classes == 3
    else:
        with pytest.raises(DatasetError, match=message):
            load_long_tailed(str(tmp_path / "d"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spec": "cifar1000"}, "Did you mean 'cifar100'"),
        ({"spec": "imagenet-lt"}, "no official copy"),
        ({"label_column": "lable"}, "Did you mean 'label'"),
        ({"image_column": "picture"}, "expects one of: image, label"),
        ({"test_split": "tset"}, "Did you mean 'test'"),
        ({"class_folder": "middle"}, 'expected "first" or "last"'),
        ({"subset": "shufle"}, 'expected "first" or "shuffle"'),
        ({"on_duplicate": "dorp"}, 'expected "keep" or "drop"'),
    ],
)
def test_wrong_names_are_answered_with_the_right_ones(photos, options, message):
    with pytest.raises((DatasetError, ConfigError), match=message):
        load_long_tailed(**{"spec": str(photos), **options})


def test_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(DatasetError, match="Expected train.parquet"):
        load_long_tailed(str(tmp_path))


@pytest.mark.parametrize("name", ["load_long_tailed('cifar100')", "load_backbone('resnet50')"])
def test_unreachable_hub_is_said_within_seconds_and_leaves_nothing(tmp_path, name):
    home, start = tmp_path / "home", time.monotonic()
    result = Client("http://127.0.0.1:9", home).fork(
        f"from lort_hub import load_long_tailed, load_backbone; {name}"
    )
    assert "HubUnavailableError: Cannot reach http://127.0.0.1:9" in result.stderr
    assert "ConnectError" in result.stderr
    assert "local-dir:FOLDER" in result.stderr
    assert time.monotonic() - start < 30
    assert not [path for path in Path(home).rglob("*") if path.is_file()]


def test_16_bit_grey_keeps_its_greys_and_a_bomb_is_a_bad_image(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(ramp).save(tmp_path / split / name / "0.png")
    pixels = np.asarray(load_long_tailed(str(tmp_path)).train.image(0))
    np.testing.assert_array_equal(pixels[:, :, 0], (ramp // 256).astype(np.uint8))
    Image.new("1", (20_000, 10_000)).save(tmp_path / "train" / "a" / "0.png")
    with pytest.raises(BadImageError, match=r"0\.png(.|\n)*decompression bomb"):
        load_long_tailed(str(tmp_path)).train.image(0)


@pytest.mark.parametrize(
    ("kind", "labels"), [("large_string", ["x", "y"]), ("uint8", [0, 1]), ("bool", [False, True])]
)
def test_labels_of_any_plain_type_are_found(tmp_path, kind, labels):
    columns = {"image": images(4), "label": labels * 2}
    types = datasets.Features({"image": datasets.Image(), "label": datasets.Value(kind)})
    parquet(tmp_path / "d", columns, features=types)
    assert load_long_tailed(str(tmp_path / "d")).class_names == tuple(map(str, labels))


def test_a_column_of_images_is_no_label(tmp_path):
    parquet(tmp_path / "d", {"picture": images(4), "kind": [0, 1, 0, 1]}, features=features(["a", "b"]))
    with pytest.raises(DatasetError, match="'picture' holds Image(.|\n)*one of: kind"):
        load_long_tailed(str(tmp_path / "d"), label_column="picture")


def test_a_mistyped_folder_is_called_a_folder():
    with pytest.raises(DatasetError, match=r"No folder '\./nope'"):
        load_long_tailed("./nope")


def test_leaving_images_out_takes_and_names_just_those(photos):
    data = load_long_tailed(str(photos))
    left = data.leave_out([16, 0, 9], iter([11]))
    assert left.train.rows.tolist() == [k for k in range(18) if k not in (0, 9, 16)]
    assert left.test.rows.tolist() == list(range(11))
    assert left.class_counts.tolist() == [8, 5, 2]
    for split, one in ((left.train, data.train), (left.test, data.test)):
        for k, row in enumerate(split.rows):
            assert split.labels[k] == one.labels[row]
            assert split.images[k] == one.images[int(row)]
    assert left.source == data.source | {
        "left_out": [
            {"split": "train", "row": 0, "class": "ant"},
            {"split": "train", "row": 9, "class": "bee"},
            {"split": "train", "row": 16, "class": "cat"},
            {"split": "test", "row": 11, "class": "cat"},
        ]
    }
    # Rows are those of the original split, also in what is a part of it already.
    again = left.leave_out([0], [])
    assert again.source["left_out"] == [{"split": "train", "row": 1, "class": "ant"}]
    assert again.train.rows.tolist() == left.train.rows[1:].tolist()


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (range(15, 18), [], "No training image of 'cat' can be decoded"),
        ([], range(12), "No test image of split 'test' can be decoded"),
    ],
)
def test_a_class_without_images_and_a_test_set_without_any_are_refused(photos, train, test, message):
    data = load_long_tailed(str(photos))
    data.leave_out(train[1:], test[1:])
    with pytest.raises(DatasetError, match=message):
        data.leave_out(train, test)


def test_an_empty_test_split_is_refused(tmp_path):
    kinds = features(["a", "b"])
    parquet(tmp_path / "d", {"picture": images(4), "kind": [0, 1, 0, 1]}, features=kinds)
    parquet(tmp_path / "d", {"picture": [], "kind": []}, features=kinds, split="test")
    with pytest.raises(DatasetError, match="Split 'test' holds no image"):
        load_long_tailed(str(tmp_path / "d"))


def test_rows_of_a_folder_that_has_other_images_now_are_not_taken_for_those_of_the_training(photos, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    before = load_long_tailed(str(folder))
    kept, held = hold_out(before.train, 0.2, seed=0)
    record = TrainedOn.from_json(record_training(before, kept).to_json())
    assert unseen_images(record, before.train).sum() == len(held)
    cut = load_long_tailed(str(folder), imbalance="exp:2")
    assert unseen_images(record, cut.train).sum() == np.isin(cut.train.rows, held.rows).sum()
    first = next((folder / "train").rglob("*.*"))
    shutil.copy(first, first.with_name(f"0{first.name}"))
    after = load_long_tailed(str(folder))
    assert len(after.train) == len(before.train) + 1
    assert unseen_images(record, after.train) is None
    assert unseen_images(replace(record, listing=None), after.train) is not None  # an older record
