"""Lists and tables as other programs write them, and lists of images that are only partly there."""

import json
import re
import shutil
import unicodedata

import datasets
import pytest

from lort_hub.data.load import load_long_tailed
from lort_hub.data.tables.lists import read_list, typed
from tests.support.tables import (
    NAMES,
    TEST,
    TRAIN,
    Forms,
    cells,
    picture,
    seed_of,
    texts,
    write_csv,
    write_pictures,
    write_plain,
    zipped,
)

FORMS = Forms()
read, refused = FORMS.read, FORMS.refused
HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}


def lines(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(rows) + "\n")


def listed(folder, header=("file", "label"), rows=lambda rows: rows, file="labels.csv", **options):
    """A list of pictures in imgs/."""
    write_csv(folder / file, rows(write_pictures(folder / "imgs", TRAIN)), header=header, **options)
    return folder


def two_lists(folder, train="label", test="label", places=("train", "test")):
    """Lists of two splits whose columns of labels are called so."""
    for split, labels, header, place in zip(
        ("train", "test"), (TRAIN, TEST), (train, test), places, strict=True
    ):
        write_csv(folder / f"{split}.csv", write_pictures(folder / place, labels), header=("file", header))
    return folder


# Cells


@refused("comma-in-labels", says="Row 0 of '.*' has 3 cells, expected 2: file, label.")
def commas_in_labels_without_quotation_marks(folder):
    rows = write_pictures(folder / "imgs", TRAIN)
    lines(folder / "train.csv", ["file,label", *(f"{name},{label}, red" for name, label in rows)])
    return folder


@refused("comma-in-first-caption", says="Row 0 of '.*' has 4 cells, expected 3: file, caption, label")
def a_comma_in_the_first_caption(folder):
    rows = [f"{name},a side view,{label}" for name, label in write_pictures(folder / "imgs", TRAIN)]
    rows[0] = rows[0].replace("a side", "a side, left")
    lines(folder / "train.csv", ["file,caption,label", *rows])
    return folder


@refused("row-names", says="has 3 cells, expected 2.*as R writes it, add a name for that column")
def row_names_of_r(folder):
    rows = write_pictures(folder / "imgs", TRAIN)
    lines(folder / "train.csv", ["file,label", *(f"{k},{n},{label}" for k, (n, label) in enumerate(rows, 1))])
    return folder


@read("quoted-after-blank", names=("ant, red", "bee, red", "cat, red"), **HELD_OUT)
def quotation_marks_behind_a_blank(folder):
    rows = write_pictures(folder / "imgs", TRAIN)
    lines(folder / "train.csv", ["file, label", *(f'{name}, "{label}, red"' for name, label in rows)])
    return folder


@read("header-again", notes=["1 rows of labels.csv repeat the names of its columns"], **HELD_OUT)
def names_of_columns_between_rows(folder):
    return listed(folder, rows=lambda rows: [*rows[:9], ("file", "label"), *rows[9:]])


@read("exponents", names=("10", "1E1", "2E1"), told_by_pixels=False, **HELD_OUT)
def labels_that_look_like_exponents(folder):
    called = {"ant": "10", "bee": "1E1", "cat": "2E1"}
    return listed(folder, rows=lambda rows: [(name, called[label]) for name, label in rows])


def test_numbers_as_programs_write_them_stay_numbers():
    assert typed(["1.0", "2.0"]) == ([1.0, 2.0], "float64")
    assert typed(["0.5", "1e-05", "1E+20"]) == ([0.5, 1e-05, 1e20], "float64")


# Columns


def three_columns(folder, others):
    def rows(rows):
        return [(name, other, label) for (name, label), other in zip(rows, others, strict=False)]

    return listed(folder, None, rows)


refused("headerless-sexes", says=r"Several columns could be the label: column 1, column 2")(
    lambda folder: three_columns(folder, "fm" * 12)
)
read("headerless-sexes-told", label_column="column 2", **HELD_OUT)(
    lambda folder: three_columns(folder, "fm" * 12)
)


@read("headerless-labels-first", **HELD_OUT)
def a_text_that_does_not_repeat_behind_the_label(folder):
    return listed(
        folder, None, lambda rows: [(n, label, f"seen by {k}") for k, (n, label) in enumerate(rows)]
    )


@read("constants", **HELD_OUT)
def constant_columns_are_no_labels(folder):
    rows = lambda rows: [(name, "web", 640, label) for name, label in rows]  # noqa: E731
    return listed(folder, ("file", "source", "width", "taxon"), rows)


@refused("two-vary", says="Several columns could be the label: view, taxon")
def two_columns_that_vary_are_asked_for(folder):
    rows = lambda rows: [(n, "web", "lr"[k % 2], label) for k, (n, label) in enumerate(rows)]  # noqa: E731
    return listed(folder, ("file", "source", "view", "taxon"), rows)


read("label-spelt-otherwise")(lambda folder: two_lists(folder, test="Label"))
refused("class-and-category", says="Split 'test' has no column 'class', .* but file, category")(
    lambda folder: two_lists(folder, train="class", test="category")
)
refused("taxon-and-kind", says="Split 'test' has no column 'taxon', .* but file, kind")(
    lambda folder: two_lists(folder, train="taxon", test="kind")
)


@read("spelt-otherwise-parquet")
def tables_whose_labels_are_spelt_otherwise(folder):
    write_plain(folder / "train.parquet", cells(TRAIN), texts(TRAIN))
    table = datasets.Dataset.from_dict({"image": cells(TEST), "LABEL": texts(TEST)})
    table.to_parquet(folder / "test.parquet")
    return folder


NONE = ["The 9 images of 'test' have no labels and are set aside."]


@read("unlabelled", notes=NONE, **HELD_OUT)
def unlabelled_images_with_a_column_that_holds_no_classes(folder):
    two_lists(folder)
    write_csv(folder / "test.csv", [(f"{k}.png", "lr"[k % 2]) for k in range(9)], header=("file", "view"))
    return folder


@read("placeholder", notes=NONE, **HELD_OUT)
def unlabelled_images_with_one_class_in_place_of_labels(folder):
    two_lists(folder)
    write_csv(folder / "test.csv", [(f"{k}.png", "ant") for k in range(9)], header=("file", "target"))
    return folder


@read(
    "minus-one",
    names=("-1", "1", "3"),
    notes=["'-1' is read as a class, of 12 rows"],
    told_by_pixels=False,
    **HELD_OUT,
)
def minus_one_for_a_missing_label(folder):
    return listed(folder, rows=lambda rows: [(name, 2 * NAMES.index(label) - 1) for name, label in rows])


@read("signs", names=("-1", "1"), counts=(10, 10), tested=(2, 2), told_by_pixels=False)
def two_classes_of_either_sign(folder):
    return listed(folder, rows=lambda rows: [(name, -1 if label == "ant" else 1) for name, label in rows])


@read("signs-and-zero", names=("-1", "0", "1"), told_by_pixels=False, **HELD_OUT)
def three_classes_of_either_sign_and_none(folder):
    return listed(folder, rows=lambda rows: [(name, NAMES.index(label) - 1) for name, label in rows])


STATIONS = {"ant": "test track", "bee": "train depot", "cat": "train station"}


@read("stations", names=tuple(STATIONS.values()), told_by_pixels=False, **HELD_OUT)
def labels_with_words_of_splits(folder):
    return listed(folder, rows=lambda rows: [(name, STATIONS[label]) for name, label in rows])


def with_sexes(folder, header):
    """Labels with words of splits beside another column that could hold labels."""
    sexes = lambda rows: [(n, STATIONS[label], "fm"[k % 2]) for k, (n, label) in enumerate(rows)]  # noqa: E731
    return listed(folder, header, sexes)


for column in ("label", "species", "class", "category"):
    read(f"stations-{column}", names=tuple(STATIONS.values()), told_by_pixels=False, **HELD_OUT)(
        lambda folder, column=column: with_sexes(folder, ("image", column, "sex"))
    )
refused("stations-two-labels", says="Several columns could be the label: label, class")(
    lambda folder: with_sexes(folder, ("image", "label", "class"))
)


@read("stations-parquet", names=tuple(STATIONS.values()), told_by_pixels=False, **HELD_OUT)
def labels_with_words_of_splits_in_a_table(folder):
    sexes = list("fm" * 12)
    write_plain(folder / "all.parquet", cells(TRAIN), [STATIONS[one] for one in texts(TRAIN)], sex=sexes)
    return folder


@pytest.mark.parametrize(
    ("column", "words", "is_noted"),
    [
        ("set", ("north", "south"), False),
        ("phase", ("larva", "adult"), False),
        ("dataset", ("vidir_modern", "rosendahl"), False),
        ("set", ("tr", "te"), True),
        ("set", ("entrenamiento", "prueba"), True),
    ],
)
def test_columns_called_as_sets_are_noted_where_a_word_is_of_a_split(column, words, is_noted, tmp_path):
    folder = listed(
        tmp_path,
        ("file", "label", column),
        lambda rows: [(name, label, words[k % 2]) for k, (name, label) in enumerate(rows)],
    )
    notes = "".join(load_long_tailed(str(folder)).notes)
    assert (f"Column '{column}' is not read as splits" in notes) == is_noted


@read(
    "splits-called-label",
    label_column="taxon",
    notes=["Column 'label' tells the splits"],
    counts=(6, 3, 3),
    tested=(6, 4, 2),
)
def splits_in_a_column_called_label(folder):
    sets = ("test set", "train set")
    rows = lambda rows: [(n, sets[k % 2], label) for k, (n, label) in enumerate(rows)]  # noqa: E731
    return listed(folder, ("file", "label", "taxon"), rows)


@read(
    "boxes", notes=["Column 'PredictionString' of train.csv holds boxes; their words are read."], **HELD_OUT
)
def words_with_boxes(folder):
    rows = lambda rows: [(name[:-4], f"{label} 1 2 {name[:-4]} 4 " * 2) for name, label in rows]  # noqa: E731
    return listed(folder, ("ImageId", "PredictionString"), rows, "train.csv")


def test_words_that_numbers_follow_are_boxes_in_all_rows_or_in_none(tmp_path):
    for labels in (
        ["ant 1 2 3 4", "bee"],
        ["ant 1 2 3 4", "bee 1 2 3 4 ant 1 2 3 4"],
        ["1 2 3 4 5", "2 2 3 4 5"],
    ):
        write_csv(tmp_path / "a.csv", [(f"{k}.png", text) for k, text in enumerate(labels)])
        assert read_list(tmp_path / "a.csv").columns["label"] == labels


@read(
    "coco-names",
    names=("ant", "bee"),
    counts=(16, 4),
    tested=(3, 1),
    told_by_pixels=False,
    notes=["2 categories of a.json are called 'ant', and are read as one class."],
)
def categories_of_one_name(folder):
    files = write_pictures(folder / "imgs", TRAIN)
    content = {
        "images": [{"id": k, "file_name": name} for k, (name, _) in enumerate(files)],
        "annotations": [{"image_id": k, "category_id": label} for k, label in enumerate(TRAIN)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(("ant", "ant", "bee"))],
    }
    (folder / "a.json").write_text(json.dumps(content))
    return folder


@read(
    "unlabelled-alike",
    notes=["Column 'lookalike' of 'test' holds classes, and is not read as labels", *NONE],
    **HELD_OUT,
)
def unlabelled_images_with_a_column_that_holds_names_of_classes(folder):
    return two_lists(folder, train="species", test="lookalike")


# Images by numbers


def numbered(folder, more=()):
    """Images named by their ids from 1 on, beside a column of foreign names."""
    rows = write_pictures(folder / "imgs", TRAIN)
    for row in reversed(range(len(TRAIN))):
        (folder / f"imgs/{row}.png").rename(folder / f"imgs/{row + 1}.png")
    for name in more:
        picture(5).save(folder / "imgs" / name)
    rows = [(k + 1, f"IMG_{k:05d}", label) for k, (_, label) in enumerate(rows)]
    write_csv(folder / "all.csv", rows, header=("id", "image_id", "label"))
    return folder


read("ids-agree", notes=["'id' of all.csv names the images, one by one, and 'image_id'"], **HELD_OUT)(
    numbered
)
refused("more-files-than-ids", says="Column 'image_id' of .* is called as images are, and none")(
    lambda folder: numbered(folder, ["25.png"])
)


@refused("visits-beside-folders-in-zip", says="visits.csv")
def a_list_of_days_beside_class_folders_in_an_archive(folder):
    write_pictures(folder / "source", TRAIN, "{label}/{row:03d}.png")
    zipped(folder / "photos.zip", folder / "source")
    shutil.rmtree(folder / "source")
    write_csv(folder / "visits.csv", [(k, ("rain", "sun")[k % 2]) for k in range(12)], ("id", "weather"))
    return folder


@refused("two-files-of-a-number", says="imgs/007.png and .*/photos/07.png both fit it.*take days.csv away")
def a_number_that_fits_two_files(folder):
    for name in ("imgs/007", "photos/07", "imgs/008"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(5).save(folder / f"{name}.png")
    write_csv(folder / "days.csv", [(7, "rain"), (8, "sun")], ("id", "weather"))
    return folder


# Accents


def decomposed(text):
    return unicodedata.normalize("NFD", text)


@read("accents", **HELD_OUT)
def files_with_accents_taken_apart(folder):
    rows = write_pictures(folder / decomposed("Käfer"), TRAIN, decomposed("é{row}.png"))
    rows = [(f"Käfer/{unicodedata.normalize('NFC', name)}", label) for name, label in rows]
    write_csv(folder / "labels.csv", rows, header=("file", "label"))
    return folder


@read("accents-of-labels", names=("bee", "cat", "äffchen"), counts=(7, 5, 12), told_by_pixels=False)
def labels_with_accents_in_either_form(folder):
    two_lists(folder)
    for split in ("train", "test"):
        file = folder / f"{split}.csv"
        form = unicodedata.normalize("NFD" if split == "test" else "NFC", "äffchen")
        file.write_text(file.read_text().replace("ant", form))
    return folder


# Images that are only partly there


def sites(folder, root=""):
    """A list of the pictures of two sites, of which the other one's numbers are there at this one too."""
    rows = []
    for row, label in enumerate(TRAIN):
        site = "A" if row % 3 == 0 else "B"
        file = folder / root / f"A/{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(seed_of(label if site == "A" else (label + 1) % 3, row, len(TRAIN))).save(file)
        rows.append((f"{site}/{row}.png", NAMES[label]))
    write_csv(folder / "all.csv", rows, header=("file", "label"))
    return folder


MISSING = ["16 of 24 rows of all.csv name a file that is not there, such as B/1.png."]
read("one-site", notes=MISSING, **HELD_OUT)(sites)
read("one-site-below", notes=MISSING, **HELD_OUT)(lambda folder: sites(folder, "data/here"))
read("one-site-root", notes=MISSING, image_root="data", **HELD_OUT)(lambda folder: sites(folder, "data"))


def names_below(folder, *names):
    rows = [
        (names[k % len(names)].format(name), label)
        for k, (name, label) in enumerate(write_pictures(folder / "imgs", TRAIN))
    ]
    write_csv(folder / "all.csv", rows, header=("file", "label"))
    return folder


read("other-machine", **HELD_OUT)(lambda folder: names_below(folder, "/home/x/a/{}"))
read("other-machines", **HELD_OUT)(lambda folder: names_below(folder, "/home/x/a/{}", "/home/y/b/{}"))
read("merged-folders", **HELD_OUT)(lambda folder: names_below(folder, "2019/{}", "2020/{}"))
read("folder-renamed", **HELD_OUT)(lambda folder: names_below(folder, "one/imgs/{}", "other/imgs/{}"))


def names_elsewhere(folder, above, place):
    rows = [(above + name, label) for name, label in write_pictures(folder / place, TRAIN)]
    write_csv(folder / "all.csv", rows, header=("file", "label"))
    return folder


for above in (
    "/dev/shm/data/",
    "/home/dev/project/",
    "/home/joe/test/",
    "C:\\test\\images\\",
    "/mnt/eval/photos/",
):
    for place in ("train", "train/images", "images"):
        read(f"{above}{place}".replace("\\", "/"), **HELD_OUT)(
            lambda folder, above=above, place=place: names_elsewhere(folder, above, place)
        )


@read("home-of-dev")
def both_lists_with_paths_below_the_home_of_dev(folder):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        rows = write_pictures(folder / split, labels)
        rows = [(f"/home/dev/{split}/{name}", label) for name, label in rows]
        write_csv(folder / f"{split}.csv", rows, header=("file", "label"))
    return folder


@read("val-in-test")
def names_of_validation_files_that_lie_in_test(folder):
    for split, place, labels in (("train", "train", TRAIN), ("val", "test", TEST)):
        rows = [
            (f"{split}/{name}", label)
            for name, label in write_pictures(folder / place, labels, split + "{row}.png")
        ]
        write_csv(folder / f"{split}.csv", rows, header=("file", "label"))
    return folder


read("folder-of-one-site", notes=["12 of 24 rows of all.csv name a file that is not there"], **HELD_OUT)(
    lambda folder: names_below(folder, "photos/imgs/{}", "scans/imgs/{}")  # in a folder called photos
)


@refused("train-in-validation", says="names files such as 'train/0.png', none of which is below")
def names_of_training_files_where_those_of_validation_are(folder):
    rows = [(f"train/{name}", label) for name, label in write_pictures(folder / "validation", TRAIN)]
    write_csv(folder / "all.csv", rows, header=("file", "label"))
    return folder


@read("test-files-missing", notes=["test.csv is not read: no image that it names is there."], **HELD_OUT)
def names_of_test_files_where_those_of_training_are(folder):
    rows = [(f"train/{name}", label) for name, label in write_pictures(folder / "train", TRAIN)]
    write_csv(folder / "train.csv", rows, header=("file", "label"))
    tested = [(f"test/{k}.png", NAMES[label]) for k, label in enumerate(TEST)]
    write_csv(folder / "test.csv", tested, header=("file", "label"))
    return folder


ALONE = r"train.* names images to train on, and '0(\.png)?' is there only among those of another split"


def only_test_images(folder, place="test_images", file="train_labels.csv", rows=lambda rows: rows):
    write_csv(folder / file, rows(write_pictures(folder / place, TRAIN)), header=("image_id", "label"))
    return folder


refused("only-test-images", says=ALONE)(only_test_images)
refused("only-test-ids", says=ALONE)(
    lambda folder: only_test_images(folder, "test", "train.csv", lambda rows: [(n[:-4], k) for n, k in rows])
)
refused("only-validation-images", says=ALONE)(
    lambda folder: only_test_images(folder, "photos/val", "train.csv") / "train.csv"
)
read("meant-by-root", image_root="test_images", **HELD_OUT)(only_test_images)
read("meant-by-name", **HELD_OUT)(lambda folder: only_test_images(folder, file="labels.csv"))
read("meant-by-cells", **HELD_OUT)(
    lambda folder: only_test_images(folder, rows=lambda rows: [(f"test_images/{n}", k) for n, k in rows])
)
read("meant-by-place", **HELD_OUT)(
    lambda folder: only_test_images(folder, "test_run/imgs", "test_run/train.csv") / "test_run/train.csv"
)


read("meant-by-list-and-root", image_root="photos", **HELD_OUT)(
    lambda folder: only_test_images(folder, "photos/test", "train.csv") / "train.csv"
)
read("folder-of-a-kit", **HELD_OUT)(lambda folder: only_test_images(folder, "dev_images", "train.csv"))
read("folder-that-ends-so", **HELD_OUT)(lambda folder: only_test_images(folder, "ILSVRC2012_img_val"))


@read(
    "splits-told-by-a-column", notes=["Column 'split' tells the splits"], counts=(6, 3, 3), tested=(6, 4, 2)
)
def training_list_of_test_images_with_a_column_of_splits(folder):
    rows = write_pictures(folder / "val", TRAIN)
    rows = [(name, label, ("test", "train")[k % 2]) for k, (name, label) in enumerate(rows)]
    write_csv(folder / "train_labels.csv", rows, header=("file", "label", "split"))
    return folder


def at_sites(folder, column, group=False, file="meta.csv", names="{row}.png", labels=TRAIN):
    rows = []
    for row, (name, label) in enumerate(write_pictures(folder / "images/new", labels, names)):
        site = ("barn", "field", "river")[row % 3]
        path = folder / "images" / site / name
        path.parent.mkdir(exist_ok=True)
        (folder / "images" / "new" / name).rename(path)
        rows.append((f"{site}/{name}", label, *([site] if group else [])))
    (folder / "images" / "new").rmdir()
    write_csv(folder / file, rows, header=("file", column, *(["site"] if group else [])))
    return folder


for column in ("y", "outcome", "style", "ground_truth"):
    read(
        f"sites-{column}",
        notes=[f"The labels are column '{column}' of meta.csv, and not the folders"],
        **HELD_OUT,
    )(lambda folder, column=column: at_sites(folder, column))
refused("sites-sex", says="lie in the folders barn, field, river, which no column of it tells")(
    lambda folder: at_sites(folder, "sex")
)


def test_folders_that_are_the_groups_are_no_classes_and_not_noted(tmp_path):
    data = load_long_tailed(str(at_sites(tmp_path, "y", group=True)), group_column="site")
    assert data.class_names == tuple(NAMES)
    assert not [note for note in data.notes if "not the folders" in note]


@read("sites-of-two-lists", notes=["The labels are column 'y' of train.csv, and not the folders"])
def two_lists_of_images_at_sites(folder):
    at_sites(folder, "y", file="train.csv")
    return at_sites(folder, "y", file="test.csv", names="t{row}.png", labels=TEST)


@read("drawn-of-validation", counts=(6, 3, 3), tested=(6, 4, 2))
def both_lists_drawn_of_the_validation_images(folder):
    rows = write_pictures(folder / "val", TRAIN)
    write_csv(folder / "train.csv", rows[1::2], header=("file", "label"))
    write_csv(folder / "test.csv", rows[::2], header=("file", "label"))
    return folder


@read("drawn-of-training", counts=(6, 3, 3), tested=(6, 4, 2))
def both_lists_drawn_of_the_training_images(folder):
    rows = write_pictures(folder / "train", TRAIN)
    write_csv(folder / "train.csv", rows[1::2], header=("file", "label"))
    write_csv(folder / "val.csv", rows[::2], header=("file", "label"))
    return folder


@refused("test-images-missing", says="Unpack the test images where others of these names are meant")
def a_test_list_whose_names_fit_training_images_alone(folder):
    rows = write_pictures(folder / "train", TRAIN)
    write_csv(folder / "train.csv", rows, header=("file", "label"))
    write_csv(folder / "test.csv", rows[::3], header=("file", "label"))
    return folder


read("splits-below")(lambda folder: two_lists(folder, places=("cars/cars/train", "cars/cars/test")))
read("splits-below-images")(
    lambda folder: two_lists(folder, places=("data/train/images", "data/test/images"))
)


@pytest.mark.parametrize("id", FORMS.reads)
def test_read_right(id, tmp_path):
    FORMS.check_read(id, tmp_path / "photos")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_refused_with_the_reason(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "photos")


# Groups


def notes_of_groups(folder, train, test):
    for split, labels, name in (("train", TRAIN, train), ("test", TEST, test)):
        rows = write_pictures(folder / split, labels)
        grouped = [(file, label, name.format(k)) for k, (file, label) in enumerate(rows)]
        write_csv(folder / f"{split}.csv", grouped, header=("file", "label", "patient"))
    data = load_long_tailed(str(folder), group_column="patient")
    return "\n".join(note for note in data.notes if "test images are of groups" in note)


@pytest.mark.parametrize(
    ("train", "test", "says"),
    [
        ("{}", "{}.0", "9 of 9 test images are of groups that are trained on"),
        (
            "P{}",
            "p{}",
            "9 of 9 test images are of groups that differ .* in capitals or zeros, as 'p0' and 'P0'",
        ),
        ("{:03d}", "{}", "9 of 9 test images are of groups that differ .* as '0' and '000'"),
        ("P{}", "Q{}", "$"),
    ],
)
def test_groups_of_both_splits_are_seen_in_either_spelling(train, test, says, tmp_path):
    assert re.match(says, notes_of_groups(tmp_path, train, test))
