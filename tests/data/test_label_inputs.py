"""Columns of labels: the one of several that is meant, and columns that hold none."""

import json

import datasets
import pytest

from lort_hub.data.tables.label_columns import find_label_column
from lort_hub.errors import DatasetError
from tests.support.tables import NAMES, TRAIN, Forms, cells, texts, write_csv, write_pictures

FORMS = Forms()
read, refused = FORMS.read, FORMS.refused
HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}


def with_names(folder, name):
    """A list of numbered labels with names."""
    rows = enumerate(write_pictures(folder / "im", TRAIN))
    rows = [(file, NAMES.index(label), name(label, row)) for row, (file, label) in rows]
    write_csv(folder / "labels.csv", rows, header=("image", "label", "label_name"))
    return folder


def table(folder, **columns):
    """A table of images with columns, each of which is values and their type."""
    folder.mkdir()
    kinds = {"image": datasets.Image(), **{name: kind for name, (_, kind) in columns.items()}}
    values = {"image": cells(TRAIN), **{name: column for name, (column, _) in columns.items()}}
    rows = datasets.Dataset.from_dict(values, features=datasets.Features(kinds))
    rows.to_parquet(folder / "train.parquet")
    return folder


SEX = ([k % 2 for k in range(len(TRAIN))], datasets.ClassLabel(names=["f", "m"]))

read("label-beside-class-labels", **HELD_OUT)(
    lambda folder: table(folder, sex=SEX, label=(texts(TRAIN), datasets.Value("string")))
)
read("numbers-of-class-labels", **HELD_OUT)(
    lambda folder: table(
        folder,
        animal=(TRAIN, datasets.ClassLabel(names=NAMES)),
        label=(TRAIN, datasets.Value("int64")),
    )
)
read("labels-and-names", **HELD_OUT)(lambda folder: with_names(folder, lambda label, _: label))
refused("labels-and-other-names", says="could be the label: label, label_name")(
    lambda folder: with_names(folder, lambda label, row: f"{label} {row % 2}")
)


@pytest.mark.parametrize(
    ("columns", "example"),
    [
        (("sex", "dx"), "dx"),
        (("user", "scientific_name"), "scientific_name"),
        (("site", "sex"), "site"),
        (("sex", "choice"), "choice"),
        (("year", "stage"), "stage"),
    ],
)
def test_the_example_is_the_likeliest_column(columns, example):
    values = {name: ["a", "a", "b", "b", "ab"[at]] * 2 for at, name in enumerate(columns)}
    with pytest.raises(DatasetError, match=rf'Choose one, e.g. `label_column="{example}"`'):
        find_label_column(datasets.Dataset.from_dict(values), None, "image")


def sized(folder, width="width", height="height", high=(480,)):
    rows = enumerate(write_pictures(folder / "im", TRAIN))
    rows = [(file, 480 + 160 * NAMES.index(label), high[row % len(high)]) for row, (file, label) in rows]
    write_csv(folder / "labels.csv", rows, header=("Id", width, height))
    return folder


DESCRIBED = r"No column is left for the label but those whose names describe images: {}\.\nWhere .*\"{}\""
refused("width", says=DESCRIBED.format("width", "width"))(sized)
refused("size", says=DESCRIBED.format("width, height", "width"))(lambda folder: sized(folder, high=(1, 2)))
for column in ("filesize", "annotator", "patient_id", "mode", "format", "fold", "batch", "license", "year"):
    refused(column, says=DESCRIBED.format(column, column))(lambda folder, name=column: sized(folder, name))
refused("table-of-format", says=DESCRIBED.format("format", "format"))(
    lambda folder: table(folder, format=(texts(TRAIN), datasets.Value("string")))
)
read("width-that-is-the-label", names=("480", "640", "800"), label_column="width", **HELD_OUT)(sized)
read("class-labels-of-years", **HELD_OUT)(
    lambda folder: table(folder, year=(TRAIN, datasets.ClassLabel(names=NAMES)))
)
for column in ("age", "size", "view", "landmark_id"):
    read(f"described-by-{column}", names=("480", "640", "800"), **HELD_OUT)(
        lambda folder, name=column: sized(folder, name)
    )


def objects(folder, **more):
    rows = write_pictures(folder, TRAIN)
    lines = [
        json.dumps({"file_name": name, "objects": {"category": [label]}} | dict.fromkeys(more, label))
        for name, label in rows
    ]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


refused("objects", says="'objects' holds {\"category\": .*expected class labels")(objects)
refused("objects-named", says="'objects' holds {\"category\": .*one of: label", label_column="objects")(
    lambda folder: objects(folder, label="")
)
read("objects-beside-labels", **HELD_OUT)(lambda folder: objects(folder, label=""))


@refused("objects-of-regions", says="'region_attributes' holds {\"class\": .*expected class labels")
def regions(folder):
    """As an annotator of regions writes them: a constant number of them for each picture."""
    rows = write_pictures(folder / "im", TRAIN)
    cells = [(name, 1, 0, '{"name": "rect"}', json.dumps({"class": label})) for name, label in rows]
    header = ("filename", "region_count", "region_id", "region_shape_attributes", "region_attributes")
    write_csv(folder / "regions.csv", cells, header)
    return folder


@refused("shares", says="ant, bee, cat hold fractions, such as 0.8.*'label'.*idxmax")
def shares(folder):
    rows = write_pictures(folder / "im", TRAIN)
    cells = [(name, *(0.8 if label == one else 0.1 for one in NAMES)) for name, label in rows]
    write_csv(folder / "votes.csv", cells, ("image", *NAMES))
    return folder


@pytest.mark.parametrize("id", FORMS.reads)
def test_labels_are_read(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_labels_are_refused_with_the_reason(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")
