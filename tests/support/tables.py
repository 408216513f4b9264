"""Small tables of images, and lists of image files, in the forms that people bring."""

import csv
import io
import re
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lort_hub.data.load import load_long_tailed
from lort_hub.errors import DatasetError

TRAIN = [0] * 12 + [1] * 7 + [2] * 5
TEST = [0] * 3 + [1] * 3 + [2] * 3
LABELS = {"train": TRAIN, "val": [0, 1, 2, 2], "test": TEST}
NAMES = ["ant", "bee", "cat"]
USUAL = ("numbers will be rough.", "are not read: test_images.", "are not read: test.")
"""What is said of sets as small as these, and of test images that no list names, as in competitions."""


def picture(seed, side=12):
    """An image of noise, the redder the higher its class, which is the hundreds of `seed` modulo 3."""
    pixels = np.random.default_rng(seed).integers(0, 120, (side, side, 3), dtype=np.uint8)
    pixels[..., 0] += 60 * (seed // 100 % 3)
    return Image.fromarray(pixels)


def seed_of(label, row, count):
    """The seed of a picture, none twice in splits of different sizes."""
    return 300 * count + 100 * label + row


def encoded(label, row, count):
    buffer = io.BytesIO()
    picture(seed_of(label, row, count)).save(buffer, "PNG")
    return buffer.getvalue()


def cells(labels):
    """Image cells whose pixels tell the label, so that a test sees which label a picture got."""
    return [{"bytes": encoded(k, row, len(labels)), "path": None} for row, k in enumerate(labels)]


def class_of(image):
    """The label that `picture` was made with."""
    return round((np.asarray(image)[..., 0].mean() - 60) / 60)


def write_parquet(file, labels, names=NAMES):
    """A table as `datasets` writes it, with class labels."""
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    columns = {"image": cells(labels), "label": [names.index(NAMES[label]) for label in labels]}
    file.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(columns, features=kinds).to_parquet(file)


def write_plain(file, images, labels, **columns):
    """A table as pandas or polars write it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": images, "label": labels, **columns}), file)


def write_pictures(folder, labels, name="{row}.png"):
    """Picture files; their paths below the folder, with their labels."""
    found = []
    for row, label in enumerate(labels):
        path = folder / name.format(row=row, label=NAMES[label])
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed_of(label, row, len(labels))).save(path)
        found.append((str(path.relative_to(folder)), NAMES[label]))
    return found


def write_csv(file, rows, header=("image_id", "label"), delimiter=",", encoding="utf-8"):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding=encoding) as opened:
        writer = csv.writer(opened, delimiter=delimiter)
        writer.writerows(([header] if header else []) + list(rows))


def both(folder, write):
    """Write train.parquet and test.parquet."""
    for split, labels in (("train", TRAIN), ("test", TEST)):
        write(folder / f"{split}.parquet", labels)
    return folder


def texts(labels):
    """Names of labels."""
    return [NAMES[label] for label in labels]


def zipped(file, folder):
    """Write a zip archive of what lies in a folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))


def class_folders(folder):
    """Class folders of two splits."""
    for split, labels in (("train", TRAIN), ("test", TEST)):
        write_pictures(folder / split, labels, "{label}/{row}.png")
    return folder


def competition(folder, rows=lambda rows: rows, **options):
    """train.csv beside train_images/ and test_images/, the second without labels."""
    listed = write_pictures(folder / "train_images", TRAIN)
    write_pictures(folder / "test_images", TEST)
    write_csv(folder / "train.csv", rows(listed), **options)
    return folder


class Forms:
    """Forms of data by the ids of their reports, with what they shall be read as or why they are refused.

    A form is a function that writes it into a folder and returns the data set's name.
    """

    def __init__(self):
        self.reads, self.refusals = {}, {}

    def read(self, *ids, counts=(12, 7, 5), tested=(3, 3, 3), names=tuple(NAMES), notes=(), **options):
        def add(build):
            self.reads |= dict.fromkeys(ids, (build, counts, tested, names, notes, options))
            return build

        return add

    def refused(self, *ids, says, **options):
        def add(build):
            self.refusals |= dict.fromkeys(ids, (build, says, options))
            return build

        return add

    def check_read(self, id, folder):
        build, counts, tested, names, notes, options = self.reads[id]
        spec = str(build(folder))
        options = {name: value(folder) if callable(value) else value for name, value in options.items()}
        told_by_pixels = options.pop("told_by_pixels", True)
        data = load_long_tailed(spec, **options)
        assert data.class_names == names
        assert tuple(data.class_counts) == counts
        assert tuple(np.bincount(data.test.labels, minlength=len(names))) == tested
        for split in (data.train, data.test) if told_by_pixels else ():
            there = [k for k, cell in enumerate(split.encoded(range(len(split)))) if is_there(cell)]
            assert [class_of(split.image(k)) for k in there] == split.labels[there].tolist()
        said = "\n".join(note for note in data.notes if not note.endswith(USUAL))
        assert bool(said) == bool(notes), said
        for expected in notes:
            assert expected in said

    def check_refused(self, id, folder):
        build, says, options = self.refusals[id]
        spec = str(build(folder))
        options = {name: value(folder) if callable(value) else value for name, value in options.items()}
        with pytest.raises(DatasetError) as error:
            load_long_tailed(spec, **options)
        message = str(error.value)
        assert re.search(says, message, re.DOTALL), message
        assert len(message.splitlines()) <= 4
        assert " --" not in message


def is_there(cell):
    """Whether a cell holds an image, and not the path of a missing file."""
    return cell is not None and (cell["bytes"] is not None or Path(cell["path"]).exists())


def check_published(spec, *, test, begins, **options):
    """A published split is read whole: its images, whose files begin so in each split, with their labels."""
    data = load_long_tailed(str(spec), **options)
    assert data.class_names == tuple(NAMES)
    assert data.class_counts.tolist() == np.bincount(LABELS["train"]).tolist()
    assert np.bincount(data.test.labels).tolist() == np.bincount(LABELS[test]).tolist()
    for split, start in ((data.train, begins["train"]), (data.test, begins[test])):
        cells = split.encoded(range(len(split)))
        assert all(Path(cell["path"]).name.startswith(start) for cell in cells)
        assert [class_of(split.image(k)) for k in range(len(split))] == split.labels.tolist()
    return data


def refusal(spec, **options):
    """What is said where a data set is refused."""
    with pytest.raises(DatasetError) as error:
        load_long_tailed(str(spec), **options)
    assert len(str(error.value).splitlines()) <= 3
    return str(error.value)
