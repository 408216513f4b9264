"""Published lists: found by their names, and checked against what is known of them."""

from pathlib import Path

import pytest

from lort_hub.data.benchmark_lists import BENCHMARKS, count_differences, find_lists, name_classes
from lort_hub.data.benchmark_rows import Listing
from lort_hub.errors import DatasetError


def counts(classes, total, largest, smallest):
    """Images of each class, which add up."""
    numbers = [largest] + [smallest] * (classes - 1)
    left = total - sum(numbers)
    for k in range(1, classes):
        more = min(left, largest - smallest)
        numbers[k] += more
        left -= more
    assert (left, sum(numbers)) == (0, total)
    return numbers


def full_size(name):
    """Lists of the published sizes, each image in the folder of its class."""
    benchmark, splits = BENCHMARKS[name], {}
    for one in benchmark.lists:
        if one.split == "train":
            sizes = counts(benchmark.classes, one.images, benchmark.largest, benchmark.smallest)
        else:
            sizes = [one.images // benchmark.classes] * benchmark.classes
            assert sum(sizes) == one.images
        labels = [str(k) for k, size in enumerate(sizes) for _ in range(size)]
        paths = [f"{one.split}/n{label}/{row}.jpg" for row, label in enumerate(labels)]
        splits[one.split] = Listing(Path(f"{one.split}.txt"), paths, labels)
    return splits


@pytest.mark.parametrize("name", BENCHMARKS)
def test_lists_of_the_published_sizes_have_no_difference(name):
    assert count_differences(BENCHMARKS[name], full_size(name)) == []


def test_every_class_of_a_list_of_full_size_is_named():
    names = name_classes(full_size("places-lt"))
    assert names == {str(k): f"n{k}" for k in range(365)}


def test_what_differs_is_counted_and_named():
    splits = full_size("places-lt")
    train = splits["train"]
    gone = max(row for row, label in enumerate(train.labels) if label == "364")
    labels = ["365" if label == "7" else label for label in train.labels]
    del labels[gone]
    smaller = Listing(train.file, train.paths[:-1], labels)
    assert count_differences(BENCHMARKS["places-lt"], {**splits, "train": smaller}) == [
        "train images: 62,499, known 62,500",
        "images of the smallest class: 4, known 5",
        "train labels are not 0 to 364: 7 is missing; 365 is beyond",
        "val labels without a training image: 7",
        "test labels without a training image: 7",
    ]


def test_lists_are_found_by_their_names_and_doubt_is_named(tmp_path):
    for name in ("ImageNet_LT_train.txt", "imagenet-lt-VAL.csv", "ImageNet_LT_tset.txt", "notes.md"):
        (tmp_path / name).touch()
    with pytest.raises(DatasetError, match=r"No test list of ImageNet-LT.*mean 'ImageNet_LT_tset.txt'"):
        find_lists(BENCHMARKS["imagenet-lt"], tmp_path)
    (tmp_path / "ImageNet_LT_tset.txt").rename(tmp_path / "ImageNet_LT_test.txt")
    found = find_lists(BENCHMARKS["imagenet-lt"], tmp_path)
    assert {split: file.name for split, file in found.items()} == {
        "train": "ImageNet_LT_train.txt",
        "val": "imagenet-lt-VAL.csv",
        "test": "ImageNet_LT_test.txt",
    }
    (tmp_path / "train.txt").touch()
    with pytest.raises(DatasetError, match=r"2 files .* ImageNet_LT_train.txt, train.txt"):
        find_lists(BENCHMARKS["imagenet-lt"], tmp_path)
    with pytest.raises(DatasetError, match=r"Expected Places_LT_train.txt or train.txt; found"):
        find_lists(BENCHMARKS["places-lt"], tmp_path / "..")
    with pytest.raises(DatasetError, match="No folder .*from `lists`"):
        find_lists(BENCHMARKS["places-lt"], tmp_path / "none")


@pytest.mark.parametrize("below", ["ImageNet_LT", "data_txt/ImageNet_LT"])
def test_lists_in_a_folder_below_are_pointed_at(tmp_path, below):
    folder = tmp_path / below
    folder.mkdir(parents=True)
    (folder / "ImageNet_LT_train.txt").touch()
    with pytest.raises(DatasetError) as error:
        find_lists(BENCHMARKS["imagenet-lt"], tmp_path)
    assert str(error.value).endswith(f"\nOne is in '{folder}': name that folder with `lists`.")
    assert len(str(error.value).splitlines()) == 3


def test_packed_lists_are_found_by_the_same_names(tmp_path):
    for split in ("train", "val", "test"):
        (tmp_path / f"ImageNet_LT_{split}.txt.gz").touch()
    (tmp_path / "ImageNet_LT_train.tar.gz").touch()
    found = find_lists(BENCHMARKS["imagenet-lt"], tmp_path)
    assert found["train"].name == "ImageNet_LT_train.txt.gz"


def listing(name, *rows):
    return Listing(Path(name), [path for path, _ in rows], [label for _, label in rows])


def test_classes_are_named_by_as_many_folders_as_tell_them_apart():
    train = listing(
        "train.txt",
        ("/data/places/a/airfield/1.jpg", "0"),
        ("/data/places/b/bakery/shop/1.jpg", "1"),
        ("/data/places/s/shop/1.jpg", "2"),
    )
    flat = listing("val.txt", ("val/1.jpg", "1"), ("val/2.jpg", "0"))
    assert name_classes({"train": train, "test": flat}) == {"0": "airfield", "1": "bakery/shop", "2": "shop"}


def test_folders_that_tell_no_class_leave_the_numbers():
    mixed = listing("train.txt", ("a/1.jpg", "0"), ("a/2.jpg", "1"), ("b/3.jpg", "1"))
    assert name_classes({"train": mixed}) == {"0": "0", "1": "1"}
    named = listing("train.json", ("a/1.jpg", "ant"), ("b/2.jpg", "bee"))
    assert name_classes({"train": named}) == {"ant": "ant", "bee": "bee"}


def test_lists_that_number_classes_differently_are_refused():
    train = listing("train.txt", ("train/n0/1.jpg", "0"), ("train/n1/1.jpg", "1"))
    test = listing("test.txt", ("val/n0/9.jpg", "1"), ("val/n1/9.jpg", "0"))
    with pytest.raises(DatasetError, match=r"'val/n0/9.jpg' has label 1 in test.txt.*label 0 in train.txt"):
        name_classes({"train": train, "test": test})
