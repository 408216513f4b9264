"""Benchmarks of small trees of images and lists in the forms of the published ones."""

import json
import re
from pathlib import Path

import pytest

from lort_hub.data.benchmark_images import prepare_benchmark, write_benchmark
from lort_hub.data.benchmark_lists import Benchmark, PublishedList
from lort_hub.data.load import load_long_tailed
from lort_hub.errors import DatasetError
from tests.support.images import noise_image

TINY = Benchmark(
    "Tiny-LT",
    (PublishedList("train", ("Tiny_LT_train", "train2018"), 6), PublishedList("test", ("Tiny_LT_test",), 4)),
    classes=2,
    largest=4,
    smallest=2,
)
TRAIN = {f"n{label}/n{label}_{k}.png": label for label, count in ((0, 4), (1, 2)) for k in range(count)}
TEST = {f"n{label}/val_{label}{k}.png": label for label in (0, 1) for k in range(2)}


def make_images(folder, names):
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise_image(seed + len(str(path)), (8, 8)).save(path)


def write_lists(folder, train=TRAIN, test=TEST, *, before=("train/", "val/"), mark=" ", end="\n"):
    folder.mkdir(exist_ok=True)
    for split, rows, start in (("train", train, before[0]), ("test", test, before[1])):
        lines = [f"{start}{path}{mark}{label}{end}" for path, label in rows.items()]
        (folder / f"Tiny_LT_{split}.txt").write_bytes("".join(lines).encode())
    return folder


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    make_images(folder / "train", TRAIN)
    make_images(folder / "val", TEST)
    return folder


def shape(prepared, images):
    return {
        split: {
            str(Path(path).relative_to(images.resolve())): name
            for path, name in zip(rows.paths, rows.labels, strict=True)
        }
        for split, rows in prepared.splits.items()
    }


EXPECTED = {
    "train": {f"train/{path}": f"n{label}" for path, label in TRAIN.items()},
    "test": {f"val/{path}": f"n{label}" for path, label in TEST.items()},
}


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"mark": "\t", "end": "\r\n"},
        {"mark": ","},
        {"before": ("data/train/", "data/val/")},
        {"before": ("/home/some body/ImageNet/train/", "/home/some body/ImageNet/val/")},
        {"before": ("C:\\ImageNet\\", "C:\\ImageNet\\")},
        {"before": ("", "")},
    ],
)
def test_whatever_the_paths_begin_with_the_same_images_are_found(images, tmp_path, form):
    lists = write_lists(tmp_path / "lists", **form)
    prepared = prepare_benchmark(TINY, images, lists)
    assert shape(prepared, images) == EXPECTED
    assert prepared.notes == ()


def test_validation_images_may_lie_flat(images, tmp_path):
    for path in sorted((images / "val").rglob("*.png")):
        path.rename(images / "val" / path.name)
    prepared = prepare_benchmark(TINY, images, write_lists(tmp_path / "lists"))
    flat = {f"val/{Path(path).name}": f"n{label}" for path, label in TEST.items()}
    assert shape(prepared, images) == {**EXPECTED, "test": flat}


def test_a_file_of_the_same_name_in_another_class_is_no_find(tmp_path):
    train = {f"{letter}/{k}.png": label for label, letter in enumerate("ab") for k in range(3)}
    make_images(tmp_path / "images" / "data", [*train, "c/7.png"])
    (tmp_path / "images" / "data" / "b" / "2.png").unlink()
    make_images(tmp_path / "images" / "data", ["c/2.png"])
    lists = write_lists(tmp_path / "lists", train, {"c/7.png": 0}, before=("x/", "x/"))
    with pytest.raises(DatasetError, match=r"1 of 6 images of Tiny_LT_train.txt .* such as x/b/2.png\."):
        prepare_benchmark(TINY, tmp_path / "images", lists, any_counts=True)


def test_of_several_copies_the_longest_path_wins_and_a_tie_is_refused(images, tmp_path):
    make_images(images / "small", TRAIN)
    lists = write_lists(tmp_path / "lists", before=("/x/train/", "/x/val/"))
    assert shape(prepare_benchmark(TINY, images, lists), images) == EXPECTED
    lists = write_lists(tmp_path / "lists", before=("/x/", "/x/"))
    with pytest.raises(DatasetError, match=r"'/x/n0/n0_0.png' of Tiny_LT_train.txt fits 2 files: .*small"):
        prepare_benchmark(TINY, images, lists)


def test_json_of_inaturalist_names_the_classes_by_category(images, tmp_path):
    lists = write_lists(tmp_path / "lists")
    (lists / "Tiny_LT_train.txt").unlink()
    (lists / "Tiny_LT_test.txt").unlink()
    categories = [{"id": 30, "name": "Apis mellifera"}, {"id": 10, "name": "Bombus, terrestris"}]
    for name, start, rows in (("train2018", "train/", TRAIN), ("Tiny_LT_test", "val/", TEST)):
        content = {
            "images": [{"id": k, "file_name": f"{start}{path}"} for k, path in enumerate(rows)],
            "annotations": [
                {"id": k, "image_id": k, "category_id": (30, 10)[label]}
                for k, label in enumerate(rows.values())
            ],
            "categories": categories,
        }
        (lists / f"{name}.json").write_text(json.dumps(content))
    prepared = prepare_benchmark(TINY, images, lists)
    assert set(prepared.splits["train"].labels) == {"Apis mellifera", "Bombus, terrestris"}
    write_benchmark(tmp_path, prepared)
    data = load_long_tailed(str(tmp_path / "train.csv"))
    assert data.class_names == ("Apis mellifera", "Bombus, terrestris")
    assert data.class_counts.tolist() == [4, 2]


def test_the_written_folder_is_a_data_set_with_the_same_counts_and_names(images, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    write_benchmark(out, prepare_benchmark(TINY, images, write_lists(tmp_path / "lists")))
    data = load_long_tailed(str(out))
    assert data.class_names == ("n0", "n1")
    assert data.class_counts.tolist() == [4, 2]
    assert data.test.labels.tolist() == list(TEST.values())
    assert data.train.labels.tolist() == list(TRAIN.values())


def test_counts_that_differ_are_refused_or_noted(images, tmp_path):
    lists = write_lists(tmp_path / "lists", {**TRAIN, "n0/n0_4.png": 0})
    make_images(images / "train", ["n0/n0_4.png"])
    with pytest.raises(
        DatasetError,
        match=r"train images: 7, known 6; images of the largest class: 5, known 4.\n.*`any_counts",
    ):
        prepare_benchmark(TINY, images, lists)
    notes = prepare_benchmark(TINY, images, lists, any_counts=True).notes
    assert notes == (
        "Not as published: train images: 7, known 6.",
        "Not as published: images of the largest class: 5, known 4.",
    )


def test_missing_images_are_refused_or_left_out(images, tmp_path):
    lists = write_lists(tmp_path / "lists")
    for name in ("train/n0/n0_1.png", "train/n0/n0_2.png", "val/n1/val_10.png"):
        (images / name).unlink()
    said = (
        f"2 of 6 images of Tiny_LT_train.txt are not below '{images}', such as train/n0/n0_1.png, "
        "train/n0/n0_2.png.",
        f"1 of 4 images of Tiny_LT_test.txt are not below '{images}', such as val/n1/val_10.png.",
    )
    with pytest.raises(DatasetError, match=re.escape(" ".join(said)) + r"\n.*`allow_missing=True`"):
        prepare_benchmark(TINY, images, lists)
    prepared = prepare_benchmark(TINY, images, lists, allow_missing=True)
    assert prepared.notes == said
    assert {split: (len(rows.paths), rows.missing) for split, rows in prepared.splits.items()} == {
        "train": (4, 2),
        "test": (3, 1),
    }
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="Give the folder of all images as `images`.$"):
        prepare_benchmark(TINY, tmp_path / "empty", lists, allow_missing=True)


def test_an_image_for_training_and_test_is_refused(images, tmp_path):
    shared = {**dict(list(TEST.items())[1:]), "../train/n0/n0_3.png": 0}
    lists = write_lists(tmp_path / "lists", test=shared)
    with pytest.raises(DatasetError, match=r"1 images are in both Tiny_LT_train.txt .*n0/n0_3.png'"):
        prepare_benchmark(TINY, images, lists)


def test_a_row_twice_is_counted_and_two_labels_are_refused(images, tmp_path):
    lists = write_lists(tmp_path / "lists")
    file = lists / "Tiny_LT_train.txt"
    text = file.read_text()
    file.write_text(f"{text}train/n1/n1_0.png 1\n")
    notes = prepare_benchmark(TINY, images, lists, any_counts=True).notes
    repeated = images.resolve() / "train/n1/n1_0.png"
    assert notes[-1] == f"1 rows of Tiny_LT_train.txt repeat an image, such as {repeated}; they are kept."
    file.write_text(f"{text}train/n1/n1_0.png 0\n")
    with pytest.raises(DatasetError, match=r"n1_0.png' has two labels in Tiny_LT_train.txt: 1 and 0"):
        prepare_benchmark(TINY, images, lists, any_counts=True)
