"""Define the long-tailed benchmarks, and find and check their published lists."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from lort_hub.data.benchmark_rows import Listing, are_numbers, name_of_list
from lort_hub.errors import DatasetError, did_you_mean
from lort_hub.files import missing_path
from lort_hub.shorten import quoted, shown


@dataclass(frozen=True)
class PublishedList:
    """A published list of a benchmark.

    Attributes:
        split: Split that is made of it: train, val or test.
        stems: Names of its file without the extension, the usual one first.
        images: Number of its rows.
    """

    split: str
    stems: tuple[str, ...]
    images: int


@dataclass(frozen=True)
class Benchmark:
    """A long-tailed benchmark as it was published.

    Attributes:
        title: Its name in the literature.
        lists: Its lists, the training images first.
        classes: Number of its classes.
        largest: Training images of its largest class.
        smallest: Training images of its smallest class.
    """

    title: str
    lists: tuple[PublishedList, ...]
    classes: int
    largest: int
    smallest: int


BENCHMARKS = {
    "imagenet-lt": Benchmark(
        "ImageNet-LT",
        (
            PublishedList("train", ("ImageNet_LT_train", "train"), 115_846),
            PublishedList("val", ("ImageNet_LT_val", "val"), 20_000),
            PublishedList("test", ("ImageNet_LT_test", "test"), 50_000),
        ),
        *(1000, 1280, 5),
    ),
    "places-lt": Benchmark(
        "Places-LT",
        (
            PublishedList("train", ("Places_LT_train", "train"), 62_500),
            PublishedList("val", ("Places_LT_val", "val"), 7_300),
            PublishedList("test", ("Places_LT_test", "test"), 36_500),
        ),
        *(365, 4980, 5),
    ),
    "inat2018": Benchmark(
        "iNaturalist 2018",
        (
            PublishedList("train", ("iNaturalist18_train", "train2018", "train"), 437_513),
            PublishedList("test", ("iNaturalist18_val", "val2018", "val"), 24_426),
        ),
        *(8142, 1000, 2),
    ),
}


def find_lists(benchmark: Benchmark, folder: Path) -> dict[str, Path]:
    """Find a benchmark's lists in a folder by their names, in capitals or not.

    Args:
        benchmark: The benchmark.
        folder: Folder of its lists.

    Returns:
        The file of each split.

    Raises:
        DatasetError: The folder or a list is missing, or two files may be the same list.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("train2018.json", "val2018.json"):
        ...     (folder / name).touch()
        >>> {split: file.name for split, file in find_lists(BENCHMARKS["inat2018"], folder).items()}
        {'train': 'train2018.json', 'test': 'val2018.json'}
    """
    if not folder.is_dir():
        raise DatasetError(missing_path(folder, str(folder), "lists"))
    files = sorted(file for file in folder.iterdir() if name_of_list(file) and file.is_file())
    found = {}
    for one in benchmark.lists:
        stems = {_plain(stem) for stem in one.stems}
        fitting = [file for file in files if _plain(name_of_list(file)) in stems]
        if len(fitting) > 1:
            raise DatasetError(
                f"{len(fitting)} files in '{folder}' may be the {one.split} list of {benchmark.title}: "
                f"{shown([file.name for file in fitting])}.\nKeep one of them in a folder for `lists`."
            )
        if not fitting:
            names = [file.name for file in files]
            wanted = f"{one.stems[0]}.txt"
            others = [f"{stem}{'.json' if stem[-1].isdigit() else '.txt'}" for stem in one.stems[1:]]
            raise DatasetError(
                f"No {one.split} list of {benchmark.title} in '{folder}'.{did_you_mean(wanted, names)}\n"
                f"Expected {' or '.join([wanted, *others])}; found {shown(names) or 'no list'}."
                f"{_found_below(folder, stems)}"
            )
        found[one.split] = fitting[0]
    return found


def count_differences(benchmark: Benchmark, splits: Mapping[str, Listing]) -> list[str]:
    """Compare the rows of lists with what is known of the published ones.

    Args:
        benchmark: The benchmark.
        splits: Its lists as they were read.

    Returns:
        A line for each difference: what was counted, and what is known.

    Example:
        >>> tiny = Benchmark("tiny", (PublishedList("train", ("train",), 3),), 2, largest=2, smallest=1)
        >>> count_differences(tiny, {"train": Listing(Path("a"), ["a", "b", "c"], ["0", "0", "2"])})
        ['train labels are not 0 to 1: 1 is missing; 2 is beyond']
    """
    counts = Counter(splits["train"].labels)
    counted = [(f"{one.split} images", len(splits[one.split].paths), one.images) for one in benchmark.lists]
    sizes = (len(counts), max(counts.values()), min(counts.values()))
    names = ("classes", "images of the largest class", "images of the smallest class")
    known = (benchmark.classes, benchmark.largest, benchmark.smallest)
    counted += zip(names, sizes, known, strict=True)
    lines = [f"{what}: {got:,}, known {want:,}" for what, got, want in counted if got != want]
    trained = set(counts)
    if are_numbers(counts):
        expected = [str(k) for k in range(len(counts))]
        holes = [label for label in expected if label not in trained]
        beyond = sorted(trained.difference(expected), key=int)
        if holes:
            of = f"{shown(holes)} is missing; {shown(beyond)} is beyond"
            lines.append(f"train labels are not 0 to {len(counts) - 1}: {of}")
    for split, listing in splits.items():
        if unknown := sorted(set(listing.labels) - trained):
            lines.append(f"{split} labels without a training image: {shown(unknown)}")
    return lines


def name_classes(splits: Mapping[str, Listing]) -> dict[str, str]:
    """Name each label by the folder that its training images lie in, where each has one of its own.

    As many of the last folders are taken as tell all labels apart; the initial that Places has above a class
    (`/a/airfield`) is no part of the name. Labels that are names already stay.

    Args:
        splits: The lists.

    Returns:
        The name of each label; the label itself where folders do not tell it.

    Raises:
        DatasetError: Images of a label lie in the folder of another one in another list.

    Example:
        >>> paths = ["data/a/airfield/1.jpg", "data/b/bar/1.jpg"]
        >>> name_classes({"train": Listing(Path("train.txt"), paths, ["0", "1"])})
        {'0': 'airfield', '1': 'bar'}
    """
    labels = list(dict.fromkeys(label for listing in splits.values() for label in listing.labels))
    folders = {split: _class_folders(listing) for split, listing in splits.items()}
    for depth in range(1, max(map(len, folders["train"])) + 1) if are_numbers(labels) else ():
        pairs = {
            (label, folder[-depth:])
            for label, folder in zip(splits["train"].labels, folders["train"], strict=True)
        }
        label_of = {folder: label for label, folder in pairs}
        if () in label_of or not len(pairs) == len(label_of) == len(dict(pairs)):
            continue
        for split, listing in splits.items():
            for path, label, folder in zip(listing.paths, listing.labels, folders[split], strict=True):
                if label_of.get(folder[-depth:], label) != label:
                    raise DatasetError(
                        f"'{path}' has label {label} in {listing.file.name}, but its folder is that of label "
                        f"{label_of[folder[-depth:]]} in {splits['train'].file.name}.\n"
                        "The lists number the classes differently: take all of them from one source."
                    )
        names = {label: "/".join(_without_initial(folder)) for label, folder in pairs}
        if len(set(names.values())) == len(names):
            return {label: names.get(label, label) for label in labels}
    return {label: label for label in labels}


def _found_below(folder: Path, stems: Collection[str]) -> str:
    """A sentence on the folders below, two deep, that hold a list of these names."""
    files = sorted(file for depth in ("*/*", "*/*/*") for file in folder.glob(depth))
    below = dict.fromkeys(str(file.parent) for file in files if _plain(name_of_list(file)) in stems)
    return f"\nOne is in {quoted(list(below), 3)}: name that folder with `lists`." if below else ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _class_folders(listing: Listing) -> list[tuple[str, ...]]:
    return [tuple(parts[:-1]) for parts in listing.tails]


def _without_initial(folder: tuple[str, ...]) -> tuple[str, ...]:
    is_initial = len(folder) > 1 and folder[0] == folder[1][:1]
    return folder[1:] if is_initial else folder
