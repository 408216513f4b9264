"""Make long-tailed benchmarks of the images that people have and the published lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lort_hub.data.benchmark_lists import Benchmark, count_differences, find_lists, name_classes
from lort_hub.data.benchmark_rows import Listing, read_listing
from lort_hub.data.tables.image_files import ImageFiles, parts_of
from lort_hub.errors import DatasetError
from lort_hub.files import missing_path, write_csv


@dataclass(frozen=True)
class PreparedBenchmark:
    """A benchmark whose images were found.

    Attributes:
        splits: Rows by split, whose paths are those of the image files and whose labels are class names.
        notes: What the user should know of it.
    """

    splits: dict[str, Listing]
    notes: tuple[str, ...]


def prepare_benchmark(
    benchmark: Benchmark, images: Path, lists: Path, *, any_counts: bool = False, allow_missing: bool = False
) -> PreparedBenchmark:
    """Read a benchmark's lists, check them, and find their images.

    Args:
        benchmark: The benchmark.
        images: Folder of the images, at any depth.
        lists: Folder of the published lists.
        any_counts: Whether to go on where counts or labels differ from the known ones.
        allow_missing: Whether to leave out rows whose image is not there.

    Raises:
        DatasetError: A list is missing or differs, images are missing, an image has two labels or is in both
            the training and the test list.

    Example:
        >>> inat = BENCHMARKS["inat2018"]  # doctest: +SKIP
        >>> prepare_benchmark(inat, Path("inat"), Path("lists"))  # doctest: +SKIP
        PreparedBenchmark(splits={'train': Listing(...), 'test': Listing(...)}, notes=())
    """
    if not images.is_dir():
        raise DatasetError(missing_path(images, str(images), "images"))
    splits = {split: read_listing(file) for split, file in find_lists(benchmark, lists).items()}
    differences = count_differences(benchmark, splits)
    if differences and not any_counts:
        raise DatasetError(
            f"The lists are not those of {benchmark.title} as published: {'; '.join(differences)}.\n"
            "Get the published lists, or take these with `any_counts=True`."
        )
    notes = [f"Not as published: {line}." for line in differences]
    names = name_classes(splits)
    found = _find_images(images, splits)
    missing = {
        split: [path for path, file in zip(listing.paths, found[split], strict=True) if file is None]
        for split, listing in splits.items()
    }
    lines = [
        f"{len(paths):,} of {len(splits[split].paths):,} images of {splits[split].file.name} are not below "
        f"'{images}', such as {', '.join(paths[:3])}."
        for split, paths in missing.items()
        if paths
    ]
    everywhere = all(len(paths) == len(splits[split].paths) for split, paths in missing.items())
    if lines and (everywhere or not allow_missing):
        advice = "" if everywhere else ", or leave these rows out with `allow_missing=True`"
        raise DatasetError(f"{' '.join(lines)}\nGive the folder of all images as `images`{advice}.")
    prepared = {}
    for split, listing in splits.items():
        there = [(file, label) for file, label in zip(found[split], listing.labels, strict=True) if file]
        notes += _check_repeats(listing, there)
        files, labels = [file for file, _ in there], [names[label] for _, label in there]
        prepared[split] = Listing(listing.file, files, labels, len(missing[split]))
    _check_apart(prepared["train"], prepared["test"])
    return PreparedBenchmark(prepared, (*notes, *lines))


def write_benchmark(folder: Path, prepared: PreparedBenchmark) -> None:
    """Write train.csv, val.csv and test.csv, each with the columns `image` and `label`.

    Args:
        folder: An existing folder.
        prepared: The benchmark.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> rows = Listing(Path("train.txt"), ["/images/0.jpg"], ["ant"])
        >>> write_benchmark(folder, PreparedBenchmark({"train": rows}, ()))
        >>> (folder / "train.csv").read_text().split()
        ['image,label', '/images/0.jpg,ant']
    """
    for split, rows in prepared.splits.items():
        pairs = zip(rows.paths, rows.labels, strict=True)
        write_csv(folder / f"{split}.csv", [{"image": path, "label": label} for path, label in pairs])


class _Tails:
    """The image files below a folder by the last parts of their paths, of which only some are wanted."""

    def __init__(self, folder: Path, wanted: set[str]) -> None:
        self.root, self.files = str(folder.resolve()), dict[str, list[str]]()
        for path in ImageFiles([folder]).files:
            start = len(self.root.rstrip("/"))
            while start >= 0:
                tail = path[start + 1 :]
                if tail in wanted:
                    self.files.setdefault(tail, []).append(path)
                start = path.find("/", start + 1)

    def find(self, tail: str, listed: str) -> list[str]:
        """The files with a tail, of which those come first that share most of a listed path."""
        fitting = self.files.get(tail, [])
        parts = parts_of(listed) if len(fitting) > 1 else []
        for count in range(len(parts), 0, -1):
            longer = "/" + "/".join(parts[-count:])
            if closest := [path for path in fitting if path.endswith(longer)]:
                direct = [path for path in closest if path == self.root + longer]
                return direct or closest
        return fitting


def _find_images(folder: Path, splits: Mapping[str, Listing]) -> dict[str, list[str | None]]:
    """Find the image of each row.

    What all paths of a list begin with may be of another machine. All else must be there, but where no two
    images of a list have the same file name, that is enough: ImageNet's validation images often lie flat.
    """
    tails = {split: ["/".join(parts) for parts in listing.tails] for split, listing in splits.items()}
    names = {split: [parts[-1] for parts in listing.tails] for split, listing in splits.items()}
    tell = {split: len(set(of)) == len(set(tails[split])) for split, of in names.items()}
    wanted = {tail for of in tails.values() for tail in of}
    wanted.update(name for split, of in names.items() if tell[split] for name in of)
    on_disk = _Tails(folder, wanted)
    found: dict[str, list[str | None]] = {}
    for split, listing in splits.items():
        files = found[split] = []
        for path, tail, name in zip(listing.paths, tails[split], names[split], strict=True):
            fitting = on_disk.find(tail, path) or (on_disk.find(name, path) if tell[split] else [])
            if len(fitting) > 1:
                raise DatasetError(
                    f"'{path}' of {listing.file.name} fits {len(fitting)} files: {', '.join(fitting[:2])}.\n"
                    "Give a folder with one copy of the images as `images`."
                )
            files.append(fitting[0] if fitting else None)
    return found


def _check_repeats(listing: Listing, rows: Sequence[tuple[str, str]]) -> list[str]:
    """Refuse images with two labels, and count those that are listed twice."""
    label_of = dict(rows)
    if several := next((row for row in rows if label_of[row[0]] != row[1]), None):
        file, label = several
        raise DatasetError(
            f"'{file}' has two labels in {listing.file.name}: {label} and {label_of[file]}.\n"
            "Correct the list: an image has one class."
        )
    repeated = [file for file, count in Counter(file for file, _ in rows).items() if count > 1]
    count = f"{len(rows) - len(label_of):,} rows of {listing.file.name} repeat an image"
    return [f"{count}, such as {repeated[0]}; they are kept."] if repeated else []


def _check_apart(train: Listing, test: Listing) -> None:
    in_train = set(train.paths)
    if both := [file for file in dict.fromkeys(test.paths) if file in in_train]:
        raise DatasetError(
            f"{len(both):,} images are in both {train.file.name} and {test.file.name}, such as '{both[0]}'.\n"
            "Results would be too rosy: get the published lists, or take the rows out of one of them."
        )
