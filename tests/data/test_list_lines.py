"""Lines of lists: without names of columns, with lines above them, with blanks in labels."""

from pathlib import Path

import pytest

from lort_hub.data.tables.cells import read_cells
from lort_hub.errors import DatasetError
from tests.support.tables import NAMES, TEST, TRAIN, Forms, write_csv, write_pictures

FORMS = Forms()
read, refused = FORMS.read, FORMS.refused
HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}
NO_NAMES = "labels.csv has no names of columns"


def written(folder, line, file="labels.csv", above="", name="im/{row}.png"):
    """Images and a list with a line for each, made of its row, file and label."""
    rows = write_pictures(folder, TRAIN, name)
    lines = [line(row, name, label) for row, (name, label) in enumerate(rows)]
    (folder / file).write_text(above + "\n".join(lines) + "\n")
    return folder / file


# No names of columns


read("ids", notes=[f"{NO_NAMES}: its first line is the row of '0'"], **HELD_OUT)(
    lambda folder: written(folder, lambda row, _, label: f"{row},{label}")
)
read("ids-second", notes=[NO_NAMES], **HELD_OUT)(
    lambda folder: written(folder, lambda row, _, label: f"{label},{row}")
)
read("ids-with-words", notes=[f"{NO_NAMES}: its first line is the row of 'IMG_0'"], **HELD_OUT)(
    lambda folder: written(folder, lambda row, _, label: f"IMG_{row},{label}", name="im/IMG_{row}.png")
)
read("numbers-and-names", **HELD_OUT)(
    lambda folder: written(folder, lambda _, name, label: f"{name},{NAMES.index(label)},{label}")
)
read("sizes-behind", names=("0", "1", "2"), **HELD_OUT)(
    lambda folder: written(folder, lambda _, name, label: f"{name},{NAMES.index(label)},224,224")
)


for form, names in (("names", tuple(NAMES)), ("numbers", ("0", "1", "2"))):
    read(
        f"totals-below-{form}",
        names=names,
        notes=["1 of 25 rows of labels.csv name no file and are left out."],
        **HELD_OUT,
    )(
        lambda folder, names=names: written(
            folder,
            lambda row, name, label: f"{name},{names[NAMES.index(label)]}" + "\n,24" * (row == 23),
            above="file,label\n",
        )
    )


def cameras_behind(folder):
    return written(folder, lambda row, name, label: f"{name},{label},camera {row % 2}")


refused("cameras-behind", says="Several columns could be the label: column 1, column 2")(cameras_behind)
read("cameras-behind-told", label_column="column 1", **HELD_OUT)(cameras_behind)
read("counted-names", **HELD_OUT)(
    lambda folder: written(folder, lambda row, _, label: f"{row},{label}", above="0,1\n")
)
read("label-first", **HELD_OUT)(lambda folder: written(folder, lambda _, name, label: f"{label},{name}"))
read("mxnet", names=("0", "1", "2"), **HELD_OUT)(
    lambda folder: written(
        folder, lambda row, name, label: f"{row}\t{NAMES.index(label)}.000000\t{name}", "train.lst"
    )
)
refused("several-numbers", says="could be the label: column 1, column 2.*label_column")(
    lambda folder: written(folder, lambda row, name, label: f"{name},{NAMES.index(label)},{row % 4}")
)


@read("ids-of-two-lists", notes=["train.csv has no names of columns", "test.csv has no names of columns"])
def ids_without_names_of_columns_in_two_lists(folder):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        rows = write_pictures(folder / split, labels, f"{split}_{{row}}.png")
        ids = [(name.removesuffix(".png"), label) for name, label in rows]
        write_csv(folder / f"{split}.csv", ids, header=None)
    return folder


@read("splits-first", notes=["Column 'split' tells the splits: train, test"])
def splits_before_the_files(folder):
    lines = [
        f"{split.upper()},gs://bucket/{name},{label},,"
        for split, labels in (("train", TRAIN), ("test", TEST))
        for name, label in write_pictures(folder / "im", labels, f"{len(labels)}_{{row}}.png")
    ]
    (folder / "automl.csv").write_text("\n".join(lines))
    return folder


@refused("unassigned", says="'split' looks like the split .* 24 of 33 rows hold 'UNASSIGNED'")
def rows_of_no_split(folder):
    splits_before_the_files(folder)
    lines = (folder / "automl.csv").read_text().replace("TRAIN,", "UNASSIGNED,")
    (folder / "automl.csv").write_text(lines)
    return folder


# Lines above the rows

ABOVE = {
    "sep": ("sep=;\nimage;label\n", ";", ()),
    "title": ("My birds,\nimage,label\n", ",", ["above the rows of labels.csv is left out: My birds"]),
    "title-without-comma": (
        "My birds\nimage,label\n",
        ",",
        ["above the rows of labels.csv is left out: My birds"],
    ),
    "comments": ("# made by hand\n# of 2020\nimage,label\n", ",", ["is left out: # of 2020"]),
    "comments-and-no-names": ("# made by hand\n", ",", ["is left out: # made by hand"]),
    "names-in-a-comment": ("#image,label\n", ",", ()),
    "one-name": ("image,\n", ",", ()),
}
for form, (above, mark, notes) in ABOVE.items():
    read(form, notes=notes, **HELD_OUT)(
        lambda folder, above=above, mark=mark: written(
            folder, lambda _, name, label: f"{name}{mark}{label}", above=above
        )
    )


# Blanks

BEARS = {"ant": "black bear", "bee": "brown bear", "cat": "fox"}
read("blanks-in-labels", names=("black bear", "brown bear", "fox"), **HELD_OUT)(
    lambda folder: written(folder, lambda _, name, label: f"{name} {BEARS[label]}", "train.txt")
)
read("blanks-in-files", **HELD_OUT)(
    lambda folder: written(
        folder, lambda _, name, label: f"{name} {label}", "train.txt", name="im/picture {row}.png"
    )
)
read("blanks-in-files-behind-labels", names=("a1", "b2", "c3"), **HELD_OUT)(
    lambda folder: written(
        folder, lambda _, name, label: f"{label[0]}{NAMES.index(label) + 1} {name}", "train.txt"
    )
)
read(
    "blanks-in-labels-of-ids",
    names=("black bear", "brown bear", "fox"),
    notes=["train.txt has no names of columns"],
    **HELD_OUT,
)(lambda folder: written(folder, lambda row, _, label: f"{row} {BEARS[label]}", "train.txt"))
read(
    "ids-again",
    names=("black bear", "brown bear", "fox"),
    notes=["1 of 25 rows of 'train' name an image", "train.txt has no names"],
    **HELD_OUT,
)(
    lambda folder: written(
        folder, lambda row, _, label: "\n".join([f"{row} {BEARS[label]}"] * (1 + (row == 5))), "train.txt"
    )
)
refused("numbers-behind-files", says="could be the label: column 1, column 2, column 3")(
    lambda folder: written(
        folder, lambda row, name, label: f"{name} {NAMES.index(label)} {row % 4} {row % 5}", "train.txt"
    )
)


@pytest.mark.parametrize("id", FORMS.reads)
def test_lines_are_read(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_lines_are_refused_with_the_reason(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")


@pytest.mark.parametrize("content", ["sep=;\n", "\n \n"])
def test_a_list_of_no_rows_is_called_empty(content):
    with pytest.raises(DatasetError, match="a.csv' is empty"):
        read_cells(content, Path("a.csv"))
