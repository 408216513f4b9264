"""Lists that name files with another extension, as other numbers, or in another form of Unicode."""

import shutil
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.tables import TEST, TRAIN, Forms, write_csv, write_pictures

FORMS = Forms()
read, refused = FORMS.read, FORMS.refused
HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}


def listed(folder, pattern, written, file="train.csv", column="image_id", labels=TRAIN):
    """Pictures, and a list that writes their names otherwise."""
    rows = write_pictures(folder, labels, pattern)
    cells = [(written(k, name), label) for k, (name, label) in enumerate(rows)]
    write_csv(folder / file, cells, header=(column, "label"))
    return folder


def jpg(_, name):
    return name.replace(".png", ".jpg")


def number(k, _):
    return str(k)


def noted(id, note, pattern, written, **options):
    read(id, notes=[f"of 24 rows of train.csv name their file {note}"], **HELD_OUT)(
        lambda folder: listed(folder, pattern, written, **options)
    )


noted("extension", "with another extension, such as 'im/a0.jpg' for a0.png", "im/a{row}.png", jpg)
noted("bare", "with another extension", "im/a{row}.png", lambda k, _: f"a{k}.jpg")
noted("some", "with another extension", "a{row}.png", lambda k, name: jpg(k, name) if k % 3 else name)
noted("one", "with another extension", "a{row}.png", lambda k, name: jpg(k, name) if k == 3 else name)
noted("float", "by another form of its number, such as '0.0' for 0.png", "{row}.png", lambda k, _: f"{k}.0")
noted("zeros", "by another form of its number", "{row:03d}.png", number)
noted("id", "by another form of its number", "{row:03d}.png", number, column="id")
noted("zeros-and-extension", "by another form of its number", "{row:03d}.png", lambda k, _: f"{k}.png")
noted("more-zeros", "by another form of its number", "{row}.png", lambda k, _: f"{k:03d}.png")
read("plain", **HELD_OUT)(lambda folder: listed(folder, "a{row}.png", lambda _, name: name))
SAME = {
    "percent": ("a {row}.png", lambda _, name: name.replace(" ", "%20")),
    "backslash": ("im/sub/a{row}.png", lambda _, name: name.replace("/", "\\")),
    "capitals": ("im/a{row}.png", lambda _, name: name.upper()),
    "unicode": ("im/e\u0301{row}.png", lambda _, name: unicodedata.normalize("NFC", name)),
    "dot": ("im/a{row}.png", lambda _, name: f"./{name}"),
}
for id, (pattern, written) in SAME.items():
    read(id, **HELD_OUT)(lambda folder, pattern=pattern, written=written: listed(folder, pattern, written))


@refused("two-files", says="'a3.jpg' of column 'image_id'.*a3.bmp and a3.png both fit it")
def two_files_of_one_stem(folder):
    listed(folder, "a{row}.png", jpg)
    shutil.copy(folder / "a3.png", folder / "a3.bmp")
    return folder


@refused("two-numbers", says="'7' of column 'image_id'.*007.png and 07.png both fit it")
def two_files_of_one_number(folder):
    listed(folder, "{row:03d}.png", number)
    shutil.copy(folder / "007.png", folder / "07.png")
    return folder


refused("not-all", says=r"none of which is below .*\. Images there have names such as 'a0.png'")(
    lambda folder: listed(folder, "a{row}.png", lambda k, name: "gone.jpg" if k == 5 else jpg(k, name))
)
refused("other-names", says="No column .* Images there have names such as 'img_0.png'")(
    lambda folder: listed(folder, "img_{row}.png", number)
)


@refused("masks", says="names files such as '0.jpg', none of which is below")
def masks_are_not_the_images_that_are_not_there(folder):
    return listed(folder, "masks/{row}.png", lambda k, _: f"{k}.jpg")


@read("pairs", notes=["1 of 24 rows of train.csv name a file that is not there", "have no row"], **HELD_OUT)
def a_mask_beside_each_image_is_not_the_one_that_is_not_there(folder):
    listed(folder, "{row}.png", lambda _, name: name)
    for k in range(len(TRAIN)):
        shutil.copy(folder / f"{k}.png", folder / f"{k}.bmp")
    (folder / "0.png").unlink()
    return folder


@read("other-folder", notes=["1 of 24 rows of train.csv name a file that is not there"], **HELD_OUT)
def a_file_elsewhere_is_not_the_one_that_is_not_there(folder):
    listed(folder, "im/{row}.png", lambda _, name: name.removeprefix("im/"))
    write_pictures(folder, [0], "0.bmp")
    (folder / "im/0.png").unlink()
    return folder


@read("class-folders", notes=["a table beside class folders  metadata.csv"], **HELD_OUT)
def numbers_beside_class_folders_name_no_files(folder):
    rows = write_pictures(folder, TRAIN, "images/{label}/{row:03d}.png")
    write_csv(folder / "metadata.csv", [(k, "mf"[k % 2]) for k in range(len(rows))], header=("id", "sex"))
    return folder


@read("splits", notes=["24 of 24 rows of train.csv name", "9 of 9 rows of test.csv name"])
def lists_of_two_splits(folder):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        listed(folder, f"{split}/{{row:03d}}.png", number, f"{split}.csv", labels=labels)
    return folder


@read("table", notes=["24 of 24 rows of train.parquet name their file by another form"], **HELD_OUT)
def a_table_of_floats(folder):
    labels = [label for _, label in write_pictures(folder, TRAIN)]
    cells = {"id": [float(k) for k in range(len(labels))], "label": labels}
    pq.write_table(pa.table(cells), folder / "train.parquet")
    return folder


@pytest.mark.parametrize("id", FORMS.reads)
def test_list_is_read(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_list_is_refused_with_what_to_do(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")
