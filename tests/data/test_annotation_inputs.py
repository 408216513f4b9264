"""Files and labels that fit no list, and annotations of images: read right, or refused with the reason."""

import json
import shutil
from pathlib import Path

import pytest

from lort_hub.data.load import load_long_tailed
from tests.support.tables import (
    NAMES,
    TEST,
    TRAIN,
    Forms,
    class_folders,
    competition,
    picture,
    write_csv,
    write_pictures,
)

FORMS = Forms()  # ids: rows of the list of inputs that were tried
read, refused = FORMS.read, FORMS.refused
HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}


@read("p30-list", names=("0", "1", "2"))
def a_published_list(folder):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        rows = write_pictures(folder / "images" / split, labels, "{label}/{row}.png")
        lines = [f"{split}/{name} {NAMES.index(label)}" for name, label in rows]
        (folder / f"Photos_LT_{split}.txt").write_text("\n".join(lines))
    return folder / "Photos_LT_train.txt"


FORMS.reads["p30-list"] = (*FORMS.reads["p30-list"][:5], {"image_root": lambda folder: folder / "images"})


@refused("p30-url", says="'url' of .* holds web addresses.*Download")
def addresses(folder):
    folder.mkdir()
    write_csv(
        folder / "train.csv", [(f"https://x.org/{k}.jpg", "ant") for k in range(9)], header=("url", "label")
    )
    return folder


@refused("p30-pixels", says="has 65 columns and none of files: are they pixels")
def pixels(folder):
    write_csv(
        folder / "train.csv", [[k % 2] + [0] * 64 for k in range(9)], header=["label", *map(str, range(64))]
    )
    return folder


@refused("p11-root", says="'image_id' of .* names files such as '0.png'.*`image_root`")
def images_elsewhere(folder):
    rows = write_pictures(folder / "far", TRAIN)
    write_csv(folder / "near" / "train.csv", rows)
    return folder / "near"


@refused("p11-no-root", says="No folder 'imgs'", image_root="imgs")
def no_such_root(folder):
    return competition(folder)


@refused("p11-two", says="Row 0 of .* names '0.png', which fits 2 files.*`image_root`")
def two_files_of_a_name(folder):
    rows = write_pictures(folder / "a", TRAIN)
    shutil.copytree(folder / "a", folder / "b")
    write_csv(folder / "train.csv", rows)
    return folder


def findings(cells, other="sex"):
    """A list of findings, as of chest X-rays, beside what is none of them."""

    def write(folder):
        rows = [
            (name, "fm"[k % 2], *(cells[(k + 2 * of + k // 3) % len(cells)] for of in range(3)))
            for k, (name, _) in enumerate(write_pictures(folder, TRAIN))
        ]
        write_csv(folder / "train.csv", rows, header=("file", other, "edema", "nodule", "mass"))
        return folder

    return write


SEVERAL = "edema, nodule, mass say yes or no.*several labels an image.*are not read.*`label_column`"
refused("findings", says=SEVERAL)(findings("01"))
refused("findings-uncertain", says=SEVERAL)(findings(["1.0", "0.0", "-1.0", ""]))
refused("findings-ticks", says=SEVERAL)(findings(["1", ""]))
refused("findings-called", says=SEVERAL + ", such as disease")(findings("01", other="disease"))


@refused("p11-hot", says="one-hot columns: ant, bee, cat")
def one_hot(folder):
    flags = lambda label: [int(label == name) for name in NAMES]  # noqa: E731
    return competition(folder, lambda rows: [(n, *flags(k)) for n, k in rows], header=("image_id", *NAMES))


@refused("p11-cells", says="Row 3 of .* has 3 cells, expected 2")
def a_row_with_a_cell_too_many(folder):
    return competition(folder, lambda rows: [*rows[:3], (*rows[3], "x"), *rows[4:]]) / "train.csv"


@read("p32-parts", label_column="dx", **HELD_OUT)
def folders_of_parts(folder):
    rows = write_pictures(folder / "HAM_images_part_1", TRAIN[:13], "a{row}.png")
    rows += write_pictures(folder / "HAM_images_part_2", TRAIN[13:], "b{row}.png")
    table = [(Path(n).stem, label, k % 7) for k, (n, label) in enumerate(rows)]
    write_csv(folder / "HAM_metadata.csv", table, header=("image_id", "dx", "age"))
    return folder


refused("p32-which", says="Several columns could be the label: dx, age.*`label_column=.dx.`")(
    folders_of_parts
)


@read("p33-signs", names=("0", "1", "2"), notes=["Meta.csv is not read: its name tells no split"])
def class_folders_of_training_images_and_lists_of_all(folder):
    for split, labels, name in (("Train", TRAIN, "{label}/{row}.png"), ("Test", TEST, "{row}.png")):
        rows = write_pictures(folder / split, labels, name)
        table = [(12, NAMES.index(label), f"{split}/{path}") for path, label in rows]
        write_csv(folder / f"{split}.csv", table, header=("Width", "ClassId", "Path"))
    rows = write_pictures(folder / "Meta", [0, 1, 2])
    write_csv(
        folder / "Meta.csv",
        [(f"Meta/{n}", k, 3) for k, (n, _) in enumerate(rows)],
        header=("Path", "ClassId", "Shape"),
    )
    return folder


@refused("p34-rows", says="Row 24 gives '.*0.png' the label 'cat', and an earlier row 'ant'.*multi-label")
def an_image_in_two_rows(folder):
    return competition(folder, lambda rows: [*rows, ("0.png", "cat")])


def coco(folder, several=False, name="annotations/instances_{split}2017.json"):
    """COCO's annotations of two splits: objects of its class on each image, or of the first class too."""
    for split, labels in (("train", TRAIN), ("val", TEST)):
        rows = write_pictures(folder / f"{split}2017", labels)
        pairs = [(k, NAMES.index(label) + 1) for k, (_, label) in enumerate(rows)]
        pairs += [(k, 1) for k in range(len(rows))] if several else pairs[:2]
        content = {
            "images": [{"id": k, "file_name": file} for k, (file, _) in enumerate(rows)],
            "annotations": [{"image_id": image, "category_id": category} for image, category in pairs],
            "categories": [{"id": k + 1, "name": label} for k, label in enumerate(NAMES)],
        }
        file = folder / name.format(split=split)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    return folder


def coco_with_splits(folder, field="split", cells=("train", "test"), empty=()):
    """COCO's annotations of all images in one file, which say of which split each is."""
    rows = [
        (*row, cell)
        for labels, cell in zip((TRAIN, TEST), cells, strict=True)
        for row in write_pictures(folder / "images", labels, f"{cell}{{row}}.png")
    ]
    content = {
        "images": [
            {"id": k, "file_name": file, "width": 12, "license": k % 2, field: None if k in empty else cell}
            for k, (file, _, cell) in enumerate(rows)
        ],
        "annotations": [
            {"image_id": k, "category_id": NAMES.index(label)} for k, (_, label, _) in enumerate(rows)
        ],
        "categories": [{"id": k, "name": label} for k, label in enumerate(NAMES)],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


for field, words in (("split", ("train", "test")), ("set", ("train", "val")), ("is_test", (False, True))):
    read(f"coco-{field}", notes=[f"Column '{field}' tells the splits: train, "])(
        lambda folder, field=field, words=words: coco_with_splits(folder, field, words)
    )
refused("coco-split-of-some", says="'split' looks like the split of each image, but 1 of 33 rows hold ''")(
    lambda folder: coco_with_splits(folder, empty=[0])
)

SEVERAL = (
    "12 of 24 images of .*json have objects of several categories, such as 12.png: ant, bee.*cut the objects"
)
read("p38-coco")(coco)
read("p38-coco-beside")(lambda folder: coco(folder, name="{split}2017/_annotations.coco.json"))
refused("p38-coco-several", says=SEVERAL)(lambda folder: coco(folder, several=True))
refused("p38-coco-several-file", says=SEVERAL, image_root=lambda folder: folder / "train2017")(
    lambda folder: coco(folder, several=True) / "annotations" / "instances_train2017.json"
)


@read("p38-coco-folders")
def coco_of_several_categories_in_class_folders(folder):
    class_folders(folder)
    images = [str(file.relative_to(folder / "train")) for file in (folder / "train").rglob("*.png")]
    pairs = [(k, category) for k in range(len(images)) for category in (1, 2)]
    content = {
        "images": [{"id": k, "file_name": file} for k, file in enumerate(images)],
        "annotations": [{"image_id": image, "category_id": category} for image, category in pairs],
        "categories": [{"id": 1, "name": "leg"}, {"id": 2, "name": "wing"}],
    }
    (folder / "train" / "parts.json").write_text(json.dumps(content))
    return folder


FORMS.reads["p38-coco-folders"] = (*FORMS.reads["p38-coco-folders"][:4], ["parts.json"], {})


def json_of(folder, content, file="labels.json"):
    rows = write_pictures(folder / "imgs", TRAIN)
    (folder / file).write_text(json.dumps(content(rows)))
    return folder


read("p39-objects", **HELD_OUT)(
    lambda folder: json_of(folder, lambda rows: [{"image": name, "label": label} for name, label in rows])
)
read("p39-mapping", **HELD_OUT)(lambda folder: json_of(folder, dict))
read("p39-file", **HELD_OUT)(lambda folder: json_of(folder, dict, "train.json") / "train.json")


def files_by_class(rows):
    return {name: [file for file, label in rows if label == name] for name in NAMES}


def pairs(rows):
    return {"labels": [list(row) for row in rows]}


read("files-by-class", **HELD_OUT)(lambda folder: json_of(folder, files_by_class) / "labels.json")
read("pairs", **HELD_OUT)(lambda folder: json_of(folder, pairs, "dataset.json") / "dataset.json")


def stylegan(folder, most=8):
    """A list of pairs with a number for each class, and folders of a few images each, by their number."""
    rows = []
    for k, (name, label) in enumerate(write_pictures(folder / "raw", TRAIN)):
        place = folder / f"{k // most:05}/img{k:08}.png"
        place.parent.mkdir(exist_ok=True)
        (folder / "raw" / name).rename(place)
        rows.append([str(place.relative_to(folder)), NAMES.index(label)])
    (folder / "raw").rmdir()
    (folder / "dataset.json").write_text(json.dumps({"labels": rows}))
    return folder


read("stylegan-in-one-folder", **HELD_OUT, names=("0", "1", "2"))(lambda folder: stylegan(folder, 1000))
read("stylegan-itself", **HELD_OUT, names=("0", "1", "2"))(lambda folder: stylegan(folder) / "dataset.json")
read("stylegan-column", **HELD_OUT, names=("0", "1", "2"), label_column="label")(stylegan)
refused(
    "stylegan", says=r"'dataset.json' and the folders 00000, 00001, 00002 tell different classes.*=\"label\""
)(stylegan)
refused("file-of-two-classes", says="gives '.*' the label 'cat', and an earlier row 'ant'.*multi-label")(
    lambda folder: json_of(folder, lambda rows: {**files_by_class(rows), "cat": [rows[0][0]]}) / "labels.json"
)
refused("by-class-in-a-folder", says="Where labels.json gives the class of each image, name it itself")(
    lambda folder: json_of(folder, files_by_class)
)
refused(
    "by-fold-in-a-folder",
    says="lie in one class folder.*not in labels.json either: '.*' is no list of images",
)(lambda folder: json_of(folder, lambda rows: {"train": [name for name, _ in rows]}))
refused("of-pandas-in-a-folder", says="The classes are not in labels.json either: '.*' is no list of images")(
    lambda folder: json_of(
        folder, lambda rows: {"file": dict(enumerate(rows)), "label": dict.fromkeys(range(24), "ant")}
    )
)


@read("lines-in-a-folder", **HELD_OUT)
def lines_of_json(folder):
    lines = [
        json.dumps({"file": name, "label": label}) for name, label in write_pictures(folder / "imgs", TRAIN)
    ]
    (folder / "labels.json").write_text("\n".join(lines))
    return folder


refused("files-by-fold", says="'.*folds.json' is no list of images")(
    lambda folder: (
        json_of(folder, lambda rows: {"fold0": [rows[0][0]], "fold1": [rows[1][0]]}, "folds.json")
        / "folds.json"
    )
)


@pytest.mark.parametrize(
    "report",
    [
        lambda files: {"duplicates": files[:2], "corrupt": files[2:4]},
        lambda files: {"hard": files[:1], "easy": files[1:3]},
        lambda files: {"labels": [[file, "good"] for file in files]},
        lambda files: {"query": files[:3], "gallery": files[3:]},
    ],
)
@pytest.mark.parametrize("told_by", ["class folders", "a list"])
def test_a_report_of_files_is_no_list_of_classes(report, told_by, tmp_path):
    if told_by == "class folders":
        class_folders(tmp_path)
        files = sorted(str(file.relative_to(tmp_path)) for file in (tmp_path / "train").rglob("*.png"))
    else:
        files = [file for file, _ in write_pictures(tmp_path / "imgs", TRAIN)]
        write_csv(tmp_path / "labels.csv", list(zip(files, TRAIN, strict=True)), header=("file", "label"))
    before = load_long_tailed(str(tmp_path))
    (tmp_path / "report.json").write_text(json.dumps(report(files)))
    after = load_long_tailed(str(tmp_path))
    assert after.class_names == before.class_names
    assert len(before.class_names) == 3
    assert after.train.labels.tolist() == before.train.labels.tolist()


@read("herbarium", **HELD_OUT)
def herbarium_with_names_of_its_own_for_ids(folder):
    return json_of(
        folder,
        lambda rows: {
            "images": [{"image_id": f"{k:05d}", "file_name": file} for k, (file, _) in enumerate(rows)],
            "annotations": [
                {"image_id": f"{k:05d}", "category_id": NAMES.index(label), "genus_id": 7}
                for k, (_, label) in enumerate(rows)
            ],
            "categories": [{"category_id": k, "scientificName": name} for k, name in enumerate(NAMES)],
        },
        "train_metadata.json",
    )


refused("p39-settings", says="'.*train.json' is no list of images")(
    lambda folder: json_of(folder, lambda rows: {"epochs": len(rows)}, "train.json") / "train.json"
)
read("p10-capitals", **HELD_OUT)(
    lambda folder: competition(folder, lambda rows: [(name.upper(), label) for name, label in rows])
)
refused("p40-no-match", says="'image_id' of .*csv' names files such as 'x0.png', none of which is below")(
    lambda folder: competition(folder, lambda rows: [(f"x{name}", label) for name, label in rows])
)


@read("p39-names", notes=[".json"], names=("0", "1", "2"), told_by_pixels=False, **HELD_OUT)
def names_of_numbered_classes(folder):
    for row, label in enumerate(TRAIN):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        picture(row).save(folder / str(label) / f"{row}.png")
    (folder / "cat_to_name.json").write_text(json.dumps({str(k): name for k, name in enumerate(NAMES)}))
    return folder


def unread(folder, name, content=b""):
    write_pictures(folder / "imgs", TRAIN)
    (folder / name).write_bytes(content)
    return folder


def given_in_text(folder, cell):
    folder.mkdir()
    write_csv(folder / "train.csv", [(cell, label) for label in TRAIN], ("pixels", "label"))
    return folder


refused("pixels-in-a-cell", says="holds many numbers in a cell of 'pixels': are they pixels?")(
    lambda folder: given_in_text(folder, " ".join(map(str, range(48))))
)
refused("base64-in-a-list", says="'pixels' of .* holds images as base64 text.*Write each as a file")(
    lambda folder: given_in_text(folder, "iVBORw0KGgoAAAANSUhEUg==")
)


@refused("scans", says="0.dcm is not read: write it as images that Pillow opens, such as PNG")
def scans(folder):
    folder.mkdir()
    for row in range(len(TRAIN)):
        (folder / f"{row}.dcm").write_bytes(b"DICM")
    write_csv(folder / "train.csv", list(enumerate(TRAIN)), ("patientId", "Target"))
    return folder


@refused(
    "texts-elsewhere", says='Where meta/train.txt gives the class of each image.*`image_root="/.*Make it'
)
def texts_of_flat_splits(folder):
    for split, labels in (("train", TRAIN), ("val", TEST)):
        rows = write_pictures(folder / split, labels)
        (folder / "meta").mkdir(exist_ok=True)
        (folder / f"meta/{split}.txt").write_text("\n".join(" ".join(row) for row in rows))
    return folder


@refused("signs-of-each-class", says="lie in one class folder[^M]*Make it train/CLASS")
def texts_of_signs(folder):
    rows = write_pictures(folder / "JPEGImages", TRAIN)
    (folder / "Main").mkdir()
    for split, of in (("train", rows[::2]), ("val", rows[1::2])):
        for one in NAMES:
            lines = [f"{name.removesuffix('.png')} {'1' if label == one else '-1'}" for name, label in of]
            (folder / f"Main/{one}_{split}.txt").write_text("\n".join(lines))
    return folder


refused("p41-xlsx", says="labels.xlsx is not read: save the sheet with the labels as CSV")(
    lambda folder: unread(folder, "labels.xlsx")
)
refused("p41-xlsx-file", says="labels.xlsx is not read: save the sheet with the labels as CSV")(
    lambda folder: unread(folder, "labels.xlsx") / "labels.xlsx"
)
refused("p41-gz", says="train.csv.gz is not read: unpack it")(lambda folder: unread(folder, "train.csv.gz"))
refused("p41-mat", says="imagelabels.mat is not read: .*labels as a CSV")(
    lambda folder: unread(folder, "imagelabels.mat")
)


@refused("p41-yolo", says="24 .txt files look like annotations of objects, which are not read")
def labels_of_yolo(folder):
    (folder / "labels").mkdir(parents=True)
    for name, _ in write_pictures(folder / "images", TRAIN):
        (folder / "labels" / name).with_suffix(".txt").write_text("0 0.5 0.5 1 1")
    return folder


@pytest.mark.parametrize("id", FORMS.reads)
def test_annotation_is_read(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_annotation_is_refused_with_the_reason(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")
