"""Lists of labels beside folders that are cameras, patients or chains, and no classes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lort_hub.data.load import load_long_tailed
from lort_hub.errors import DatasetError
from tests.support.images import fill
from tests.support.tables import NAMES, TEST, TRAIN, Forms, write_csv, write_pictures

FORMS = Forms()
read, refused = FORMS.read, FORMS.refused
HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}


def cameras(folder, name, header=("file", "breed"), below="train", short=False):
    """Pictures of three cameras and a list of their labels."""
    folder.mkdir()
    rows = []
    for k, (file, label) in enumerate(write_pictures(folder / below, TRAIN)):
        place = folder / below / f"cam{k % 3}" / file
        place.parent.mkdir(exist_ok=True)
        (folder / below / file).rename(place)
        rows.append((file if short else place.relative_to(folder), label, "mf"[k % 2])[: len(header)])
    write_csv(folder / name, rows, header=header)
    return folder


@pytest.mark.parametrize("text", [",,\n,,\n", '""\n', " ;\n ;\n"])
def test_an_empty_sheet_beside_class_folders_is_set_aside(text, tmp_path):
    fill(tmp_path / "train", {"ant": 6, "bee": 4})
    fill(tmp_path / "test", {"ant": 3, "bee": 2}, start=900)
    (tmp_path / "notes.csv").write_text(text)
    data = load_long_tailed(str(tmp_path))
    assert (data.class_counts.tolist(), len(data.test)) == ([6, 4], 5)
    with pytest.raises(DatasetError, match=r"notes.csv' is empty; expected a line for each image"):
        load_long_tailed(str(tmp_path / "notes.csv"))


SAYS = (
    "has a row for each image, and no column of it tells the folders cam0, cam1, cam2: are they the classes"
)
refused("train", says=f"train.csv {SAYS}")(lambda folder: cameras(folder, "train.csv"))
refused("labels", says=f"labels.csv {SAYS}")(lambda folder: cameras(folder, "labels.csv", below="."))
refused("short", says=r"\(breed\)")(lambda folder: cameras(folder, "train.csv", short=True))
refused("two", says=r'\(breed, sex\), name it: `label_column="breed"`')(
    lambda folder: cameras(folder, "train.csv", ("file", "breed", "sex"))
)
read("named", label_column="breed", **HELD_OUT)(lambda folder: cameras(folder, "train.csv"))


def cameras_and_a_table(folder):
    """The list as parquet."""
    cameras(folder, "labels.csv", header=("file", "label"), below=".")
    rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    (folder / "labels.csv").unlink()
    columns = dict(zip(("file", "label"), map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), folder / "labels.parquet")
    return folder


refused("table", says="'label' of 'labels.parquet' and the folders cam0, cam1, cam2.*label_column")(
    cameras_and_a_table
)
read("table-named", label_column="label", **HELD_OUT)(cameras_and_a_table)


@read("metadata", notes=["a table beside class folders"], **HELD_OUT)
def a_list_of_features_that_is_not_called_as_one_of_labels(folder):
    rows = write_pictures(folder, TRAIN, "{label}/{row}.png")
    write_csv(
        folder / "metadata.csv", [(file, "mf"[k % 2]) for k, (file, _) in enumerate(rows)], ("file", "sex")
    )
    return folder


@read("with-the-class", notes=["a table beside class folders"], **HELD_OUT)
def a_list_of_labels_and_features(folder):
    rows = write_pictures(folder / "train", TRAIN, "{label}/{row}.png")
    named = [(file, NAMES.index(label), "mf"[k % 2]) for k, (file, label) in enumerate(rows)]
    write_csv(folder / "train.csv", named, ("file", "breed", "sex"))
    return folder


@read("of-a-few", notes=["a table beside class folders"], **HELD_OUT)
def a_list_of_a_few_images(folder):
    rows = write_pictures(folder / "train", TRAIN, "{label}/{row}.png")
    write_csv(
        folder / "train.csv", [(file, "mf"[k % 2]) for k, (file, _) in enumerate(rows[::2])], ("file", "sex")
    )
    return folder


@read(
    "imagenet",
    notes=[f"Column 'PredictionString' of LOC_{k}_solution.csv holds boxes" for k in ("train", "val")],
)
def lists_of_boxes_beside_the_class_folders_of_imagenet(folder):
    lists = {}
    for split, labels, name in (("train", TRAIN, "{label}/t{row}.png"), ("val", TEST, "v{row}.png")):
        rows = write_pictures(folder / "Data" / split, labels, name)
        lists[split] = [(Path(file).stem, f"{label} {k} {k + 3} 9 9") for k, (file, label) in enumerate(rows)]
        write_csv(folder / f"LOC_{split}_solution.csv", lists[split], ("ImageId", "PredictionString"))
    return folder


@refused("one-class", says="'train' of 'bottle' holds 1 class folder, and 'test' holds 3")
def one_class_to_train_on(folder):
    write_pictures(folder / "bottle/train", [0] * 5, "good/{row}.png")
    write_pictures(folder / "bottle/test", TEST, "{label}/{row}.png")
    write_pictures(folder / "bottle/ground_truth", TEST, "{label}/{row}_mask.png")
    return folder / "bottle"


@pytest.mark.parametrize("id", FORMS.reads)
def test_list_is_read(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_list_is_refused_with_what_to_do(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")
