"""The column of a list that names image files, beside numbers and texts that fit some of them too."""

import random
from pathlib import Path

import pytest

from lort_hub.data.tables.file_columns import find_file_column
from lort_hub.data.tables.image_files import ImageFiles
from lort_hub.data.tables.lists import FileList
from tests.support.tables import NAMES, TRAIN, Forms, picture, seed_of, write_csv, write_pictures

FORMS = Forms()
read, refused = FORMS.read, FORMS.refused
HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}
SHUFFLED = random.Random(1).sample(range(len(TRAIN)), len(TRAIN))


def numbered(folder, header, row, file="labels.csv", **options):
    """Images called by shuffled numbers, and a list of rows made of their row, number and label."""
    folder.mkdir(parents=True)
    (folder / "im").mkdir()
    for k, label in zip(SHUFFLED, TRAIN, strict=True):
        picture(seed_of(label, k, len(TRAIN))).save(folder / "im" / f"{k}.png")
    rows = [row(k, number, NAMES[TRAIN[k]]) for k, number in enumerate(SHUFFLED)]
    write_csv(folder / file, rows, header=header, **options)
    return folder


FORMS_OF_ROWS = {
    "row-number-called-id": (("id", "image", "label"), lambda k, n, label: (k, f"{n}.png", label)),
    "pandas-index": (("", "image_id", "label"), lambda k, n, label: (k, n, label)),
    "unnamed-index": (("Unnamed: 0", "image_id", "label"), lambda k, n, label: (k, n, label)),
    "patient": (("patient_id", "image_path", "label"), lambda k, n, label: (k, f"im/{n}.png", label)),
    "age": (("age", "scan", "label"), lambda k, n, label: (k, f"{n}.png", label)),
    "age-last": (("scan", "label", "age"), lambda k, n, label: (f"{n}.png", label, k)),
    "label-of-numbers": (("id", "label", "image"), lambda k, n, label: (k, label, n)),
}
for form, (header, row) in FORMS_OF_ROWS.items():
    read(form, **HELD_OUT)(lambda folder, header=header, row=row: numbered(folder, header, row))


@refused("lost-ids", says="'image_id' of .* is called as images are.*such as '10.*numbers of 'id' fit")
def numbers_beside_the_ids_of_images_that_are_not_there(folder):
    return numbered(folder, ("id", "image_id", "label"), lambda k, n, label: (k, 1000 + n, label))


@read("lost-ids", image_column="id", **HELD_OUT)
def numbers_that_are_said_to_name_images(folder):
    return numbered(folder, ("id", "image_id", "label"), lambda _, n, label: (n, 1000 + n, label))


@read("annotations", **HELD_OUT)
def numbers_of_annotations_beside_ids_of_images(folder):
    return numbered(folder, ("id", "image_id", "label"), lambda k, n, label: (k, n, label))


@read("mxnet", **HELD_OUT)
def numbers_labels_and_files_without_a_header(folder):
    numbered(folder, None, lambda k, n, label: (k, label, f"im/{n}.png"), "train.lst", delimiter="\t")
    return folder / "train.lst"


@read("mask", **HELD_OUT)
def masks_before_the_images(folder):
    rows = write_pictures(folder / "images", TRAIN)
    write_pictures(folder / "masks", [0] * len(TRAIN))
    rows = [(f"masks/{name}", f"images/{name}", label) for name, label in rows]
    write_csv(folder / "labels.csv", rows, header=("mask", "image", "label"))
    return folder


@read("back", notes=["24 images have no row"], **HELD_OUT)
def another_view_beside_the_image(folder):
    rows = write_pictures(folder, TRAIN)
    write_pictures(folder, [0] * len(TRAIN), "back {row}.png")
    rows = [(f"back {name}", name, label) for name, label in rows]
    write_csv(folder / "labels.csv", rows, header=("image_back", "image", "label"))
    return folder


@read("mask-and-id", **HELD_OUT)
def ids_of_images_and_files_of_masks(folder):
    rows = write_pictures(folder / "images", TRAIN)
    write_pictures(folder / "masks", [0] * len(TRAIN), "m{row}.png")
    rows = [(f"masks/m{name}", name.removesuffix(".png"), label) for name, label in rows]
    write_csv(folder / "labels.csv", rows, header=("mask_path", "id", "label"))
    return folder


def two_pictures_a_row(folder):
    rows = write_pictures(folder / "whole", TRAIN)
    write_pictures(folder / "cut", [0] * len(TRAIN))
    rows = [(f"whole/{name}", f"cut/{name}", label) for name, label in rows]
    write_csv(folder / "labels.csv", rows, header=("whole_path", "cut_path", "label"))
    return folder


refused("two-paths", says="name images, and not the same: whole_path, cut_path.*image_column")(
    two_pictures_a_row
)
read(
    "two-paths-chosen",
    image_column="whole_path",
    notes=["24 images lie in other folders than those of labels.csv, and are not read: cut."],
    **HELD_OUT,
)(two_pictures_a_row)
refused("numbers", says="not the same: row, number.*image_column")(
    lambda folder: numbered(folder, ("row", "number", "label"), lambda k, n, label: (k, n, label))
)


def renamed(folder):
    return numbered(folder, ("index", "file", "label"), lambda k, n, label: (n, f"IMG_{k}.png", label))


refused("renamed", says=r"'file' .* such as 'IMG_0.png', none of which.*'index' fit.*image_column=\"index\"")(
    renamed
)
read("renamed-chosen", image_column="index", **HELD_OUT)(renamed)


@read("same-files", **HELD_OUT)
def two_columns_that_name_the_same_files(folder):
    return numbered(folder, ("id", "path", "label"), lambda _, n, label: (n, f"im/{n}.png", label))


@refused("addresses", says="'url' .* holds web addresses")
def addresses_beside_labels_that_fit_files(folder):
    rows = write_pictures(folder / "im", TRAIN)
    rows = [(f"https://example.org/{name}?w=9", NAMES.index(label)) for name, label in rows]
    write_csv(folder / "train.csv", rows, header=("url", "label"))
    return folder / "train.csv"


@pytest.mark.parametrize("id", FORMS.reads)
def test_the_images_get_their_own_labels(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_several_columns_are_refused_with_the_choice(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")


def test_files_of_which_few_are_there_go_before_numbers_that_fit_by_chance(tmp_path):
    write_pictures(tmp_path, TRAIN)
    cells = {"age": [str(30 + k) for k in range(100)], "image": [f"{k}.png" for k in range(100)]}
    column = find_file_column(FileList(Path("a.csv"), cells), ImageFiles([tmp_path]))
    assert (column.name, column.share, column.refusal) == ("image", 0.24, "")


@pytest.mark.parametrize(("name", "found"), [("a%20b.png", "a b.png"), ("c%20d.png", "c%20d.png")])
def test_names_are_found_as_web_addresses_spell_them(tmp_path, name, found):
    for file in ("a b.png", "c%20d.png", "c d.png"):
        (tmp_path / file).touch()
    assert ImageFiles([tmp_path]).find(name) == str(tmp_path / found)
