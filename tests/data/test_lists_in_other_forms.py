"""Lists, manifests and cards that name images, splits or labels in forms of their own."""

import json
from pathlib import Path

import pytest

from tests.support.images import fill
from tests.support.tables import NAMES, TEST, TRAIN, Forms, class_folders, picture, write_csv, write_pictures

FORMS = Forms()
read, refused = FORMS.read, FORMS.refused
HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}
BY_LISTS = ["Class folders in the splits of"]


def write(file, lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


def class_folders_of_both(folder):
    """Class folders without splits, and the paths of the images of each."""
    return {
        split: [
            f"images/{name}"
            for name, _ in write_pictures(folder / "images", labels, f"{{label}}/{split[1:]}{{row}}.png")
        ]
        for split, labels in (("train", TRAIN), ("test", TEST))
    }


# What stands before the files


@read("sizes-first", notes=BY_LISTS)
def sizes_before_the_files_are_no_labels(folder):
    for split, names in class_folders_of_both(folder).items():
        write(folder / f"{split}.txt", [f"{640 + k % 4} {name}" for k, name in enumerate(names)])
    return folder


@refused("codes-first", says="The labels of train.txt and the class folders tell different classes")
def codes_before_the_files_contradict_the_folders(folder):
    for split, names in class_folders_of_both(folder).items():
        write(folder / f"{split}.txt", [f"{k % 4} {name}" for k, name in enumerate(names)])
    return folder


# Training and validation images in one


@read("trainval-lists", notes=BY_LISTS)
def lists_of_train_val_and_test(folder):
    for split, names in class_folders_of_both(folder).items():
        write(folder / {"train": "train_val_list.txt", "test": "test_list.txt"}[split], names)
    return folder


@read("trainval-beside-train", notes=[*BY_LISTS, "no image  lists/trainval.txt"])
def a_list_that_is_not_read_is_the_one_named(folder):
    names = class_folders_of_both(folder)
    for split, of in {**names, "trainval": names["train"]}.items():
        write(folder / f"lists/{split}.txt", of)
    return folder


@read("trainval-tables")
def tables_of_train_val_and_test(folder):
    for split, labels, name in (("train_val", TRAIN, "a{row}.png"), ("test", TEST, "b{row}.png")):
        write_csv(folder / f"{split}.csv", write_pictures(folder / "images", labels, name))
    return folder


@read("trainval-folders")
def folders_of_train_val_and_test(folder):
    class_folders(folder)
    (folder / "train").rename(folder / "train_val")
    return folder


@read("trainval-column", notes=["Column 'split' tells the splits: train, test."])
def a_column_of_train_val_and_test(folder):
    rows = [
        (*row, split)
        for split, labels, name in (("train_val", TRAIN, "a{row}.png"), ("test", TEST, "b{row}.png"))
        for row in write_pictures(folder, labels, name)
    ]
    write_csv(folder / "labels.csv", rows, header=("file", "label", "split"))
    return folder


# Names of images in one list, their labels in another


def clothing(folder, image):
    """The lists of Clothing1M: folders are numbered, and no classes."""
    rows = write_pictures(folder, TRAIN + TEST, image)
    names = [name for name, _ in rows]
    for split, of in {"clean_train": names[:20], "clean_val": names[20:27], "clean_test": names[27:]}.items():
        write(folder / f"{split}_key_list.txt", of)
    write(folder / "noisy_label_kv.txt", [f"{name} {k % 5}" for k, name in enumerate(names)])
    write(folder / "clean_label_kv.txt", [" ".join(row) for row in rows])
    return folder


@read(
    "clothing",
    counts=(12, 7, 1),
    tested=(0, 3, 3),
    told_by_pixels=False,
    notes=["List clean_label_kv.txt in the splits of clean_train_key_list.txt, clean_test_key_list.txt"],
)
def lists_of_keys_and_a_list_of_labels_in_nested_folders(folder):
    clothing(folder, "images/0/0/{row}.png")
    for k in range(20):
        (folder / f"images/{k % 2}/{k % 3}").mkdir(parents=True, exist_ok=True)
        (folder / f"images/0/0/{k}.png").rename(folder / f"images/{k % 2}/{k % 3}/{k}.png")
    return clothing(folder, "images/0/0/{row}.png")


@refused("clothing-flat", says="labels of clean_label_kv.txt and the class folders tell different classes")
def lists_of_keys_and_a_list_of_labels_in_numbered_folders(folder):
    clothing(folder, "images/0/{row}.png")
    (folder / "images/1").mkdir()
    for k in range(0, 30, 2):
        (folder / f"images/0/{k}.png").rename(folder / f"images/1/{k}.png")
    for file in folder.glob("*.txt"):
        rows = file.read_text().splitlines()
        write(file, [f"images/{1 - int(row[9:].split('.')[0]) % 2}{row[8:]}" for row in rows])
    return folder


def celeba(folder):
    """Labels in one list, and the number of each image's split in another."""
    rows = write_pictures(folder / "images", TRAIN)
    write(folder / "identity_CelebA.txt", [f"{file} {NAMES.index(label)}" for file, label in rows])
    write(folder / "list_eval_partition.txt", [f"{file} {k % 3}" for k, (file, _) in enumerate(rows)])
    return folder


@read(
    "partition",
    names=("0", "1", "2"),
    notes=["No published split is read, though one may be in list_eval_partition.txt: write it into"],
    **HELD_OUT,
)
def a_list_of_partitions_is_no_list_of_test_images(folder):
    return celeba(folder) / "identity_CelebA.txt"


@refused("partition-folder", says=r"lie in one class folder, 'images', expected two or more\.\n")
def a_list_of_partitions_gives_no_classes(folder):
    return celeba(folder)


# Lists of one class each


@read(
    "list-of-each-class",
    counts=(5, 5),
    tested=(1, 1),
    names=("f", "m"),
    notes=["ants.csv, bees.csv, cats.csv may be of one class each: no column is called as labels are."],
    told_by_pixels=False,
)
def lists_of_one_class_each(folder):
    for label, name in enumerate(("ants", "bees", "cats")):
        files = write_pictures(folder / "images", [label] * 4, f"{name}{{row}}.png")
        write_csv(folder / f"{name}.csv", [(file, "fm"[k % 2]) for k, (file, _) in enumerate(files)])
        rows = [(file, "fm"[k % 2]) for k, (file, _) in enumerate(files)]
        write_csv(folder / f"{name}.csv", rows, header=("file", "sex"))
    return folder


@read("list-of-each-city", notes=["train_berlin.csv, train_munich.csv may be of one class"], **HELD_OUT)
def lists_of_one_city_each(folder):
    rows = write_pictures(folder / "images", TRAIN)
    for name, of in (("berlin", rows[::2]), ("munich", rows[1::2])):
        write_csv(folder / f"train_{name}.csv", of, header=("file", "taxon"))
    return folder


@read("list-of-each-site", notes=["Joined as the split 'train': north.csv, south.csv."], **HELD_OUT)
def lists_of_one_site_each(folder):
    rows = write_pictures(folder / "images", TRAIN)
    for name, of in (("north", rows[::2]), ("south", rows[1::2])):
        write_csv(folder / f"{name}.csv", of, header=("file", "diagnosis"))
    return folder


# Annotation tools


def manifest(folder, name):
    rows = [
        {
            "source-ref": f"s3://bucket/photos/{file}",
            "job": 7 + len(label),
            "job-metadata": {"class-name": label, "confidence": 0.9, "human-annotated": "yes"},
        }
        for file, label in write_pictures(folder / "photos", TRAIN)
    ]
    write(folder / name, map(json.dumps, rows))
    return folder


@read("manifest", **HELD_OUT)
def a_manifest_of_ground_truth(folder):
    return manifest(folder, "output.manifest")


@read("manifest-lines", **HELD_OUT)
def a_manifest_of_ground_truth_as_json_lines(folder):
    return manifest(folder, "output.jsonl")


@refused("cvat", says="annotations.xml is not read: export class folders, as CVAT's form ImageNet has them")
def annotations_of_cvat(folder):
    write_pictures(folder / "images", TRAIN)
    write(folder / "annotations.xml", ["<annotations></annotations>"])
    return folder


@refused("label-studio", says="Label Studio's JSON of annotations.*Export CSV or JSON-MIN")
def annotations_of_label_studio(folder):
    rows = [
        {
            "data": {"image": f"/data/upload/{file}"},
            "annotations": [{"result": [{"value": {"choices": [label]}}]}],
        }
        for file, label in write_pictures(folder / "images", TRAIN)
    ]
    write(folder / "project-1.json", [json.dumps(rows)])
    return folder


@read("fiftyone", **HELD_OUT)
def labels_of_fiftyone(folder):
    rows = write_pictures(folder / "data", TRAIN)
    labels = {file.removesuffix(".png"): NAMES.index(label) for file, label in rows}
    write(folder / "labels.json", [json.dumps({"classes": NAMES, "labels": labels})])
    return folder / "labels.json"


@read(
    "ecotaxa",
    notes=["types of the columns, below their names in ecotaxa_export.tsv, are left out"],
    **HELD_OUT,
)
def a_line_of_types_below_the_names(folder):
    rows = [(k, *row) for k, row in enumerate(write_pictures(folder, TRAIN))]
    header = ("object_id", "img_file_name", "object_annotation_category")
    write_csv(folder / "ecotaxa_export.tsv", [("[t]", "[t]", "[t]"), *rows], header=header, delimiter="\t")
    return folder


# JSON


JSON_FORMS = {
    "by-file": lambda rows: {file: {"label": label, "width": 12} for file, label in rows},
    "in-an-object": lambda rows: {"version": 1, "data": [{"file": f, "label": label} for f, label in rows]},
    "columns": lambda rows: dict(zip(("file", "label"), map(list, zip(*rows, strict=True)), strict=True)),
    "pandas": lambda rows: {
        name: {str(row): cell for row, cell in enumerate(cells)}
        for name, cells in zip(("file", "label"), zip(*rows, strict=True), strict=True)
    },
}


def json_in(form):
    def build(folder):
        rows = write_pictures(folder / "images", TRAIN)
        write(folder / "labels.json", [json.dumps(JSON_FORMS[form](rows))])
        return folder / "labels.json"

    return build


for form in JSON_FORMS:
    read(f"json-{form}", **HELD_OUT)(json_in(form))


# Texts


@read("utf-16-without-mark", **HELD_OUT)
def utf_16_without_its_mark(folder):
    write_csv(folder / "labels.csv", write_pictures(folder / "images", TRAIN), encoding="utf-16-le")
    return folder


@read("long-cells", **HELD_OUT)
def cells_longer_than_csv_takes_by_itself(folder):
    rows = [(*row, "1 2 " * 50_000) for row in write_pictures(folder / "images", TRAIN)]
    write_csv(folder / "labels.csv", rows, header=("file", "label", "outline"))
    return folder


@read("footer", notes=["2 of 26 rows of labels.csv name no file and are left out."], **HELD_OUT)
def lines_below_the_rows(folder):
    write_csv(folder / "labels.csv", write_pictures(folder / "images", TRAIN))
    with (folder / "labels.csv").open("a") as file:
        file.write("Total: 24 images\n# made by hand\n")
    return folder


def totals_below(*cells, header=("image_id", "label")):
    def write(folder):
        rows = [(Path(file).stem, label) for file, label in write_pictures(folder / "images", TRAIN)]
        rows = rows if header[0] == "image_id" else [row[::-1] for row in rows]
        write_csv(folder / "labels.csv", [*rows, cells], header=header)
        return folder

    return write


LEFT_OUT = ["1 of 25 rows of labels.csv name no file and are left out."]
read("totals", notes=LEFT_OUT, **HELD_OUT)(totals_below("Total", "24"))
read("totals-alone", notes=LEFT_OUT, **HELD_OUT)(totals_below("Grand total", ""))
read("totals-behind", notes=LEFT_OUT, **HELD_OUT)(totals_below("Sum:", "24", header=("label", "image_id")))


@read("all-is-a-file", counts=(11, 6, 4), tested=(2, 1, 1), told_by_pixels=False)
def an_image_called_as_totals_are(folder):
    totals_below("all", "ant")(folder)
    picture(0).save(folder / "images" / "all.png")
    return folder


@refused("numpy-one-hot", says=r"several labels a row: row 0 has \['1', '0', '0'\]")
def one_hot_labels_as_numpy_writes_them(folder):
    rows = write_pictures(folder / "images", TRAIN)
    flags = {"ant": "[1 0 0]", "bee": "[0 1 0]", "cat": "[0 0 1]"}
    write_csv(folder / "labels.csv", [(file, flags[label]) for file, label in rows])
    return folder


def one_hot(yes, no):
    def build(folder):
        rows = write_pictures(folder / "images", TRAIN)
        flags = [(file, *(yes if label == name else no for name in NAMES)) for file, label in rows]
        write_csv(folder / "labels.csv", flags, header=("file", *NAMES))
        return folder

    return build


ONE_HOT = "The label is spread over 3 one-hot columns: ant, bee, cat"
for yes, no in (("yes", "no"), ("Y", "N"), ("x", "")):
    refused(f"one-hot-{yes}", says=rf'{ONE_HOT}.*= \(table\[\[...\]\] == "{yes}"\)\.idxmax')(one_hot(yes, no))
for yes, no in (("1", "0"), ("True", "False")):
    refused(f"one-hot-{yes}", says=rf"{ONE_HOT}.*= table\[\[...\]\]\.idxmax")(one_hot(yes, no))


# Splits as README.md tells them


def card(folder, *lines):
    write(folder / "README.md", ["---", "configs:", "- config_name: default", *lines, "---"])
    return folder


@read("card-lists")
def lists_that_readme_gives_to_splits(folder):
    for name, labels in (("one", TRAIN), ("two", TEST)):
        write_csv(folder / f"{name}.csv", write_pictures(folder / "images", labels, name + "{row}.png"))
    patterns = [
        f"  - split: {split}\n    path: {name}.csv" for split, name in (("train", "one"), ("test", "two"))
    ]
    return card(folder, "  data_files:", *patterns)


@read("card-folder", notes=[])
def the_folder_that_readme_names(folder):
    class_folders(folder / "photos")
    fill(folder / "sketches", {"ant": 2, "bee": 2})
    return card(folder, "  data_dir: photos")


@read("card-folders", notes=["README.md sorts 9 of the 33 pictures otherwise than their folders"])
def other_splits_than_those_of_the_folders(folder):
    class_folders(folder)
    return card(folder, "  data_files:", "  - split: train\n    path: '**'")


@read("card-part", notes=["no image  README.md"])
def the_one_split_of_folders_that_readme_lists(folder):
    return card(class_folders(folder), "  data_files:", "  - split: train\n    path: train/**")


@read("card-all-lists")
def lists_of_splits_that_readme_names_by_one_pattern(folder):
    for name, labels in (("train", TRAIN), ("test", TEST)):
        write_csv(folder / f"{name}.csv", write_pictures(folder / "images", labels, name + "{row}.png"))
    return card(folder, "  data_files: '*.csv'")


@read("card-lost-folder", notes=["README.md names a folder as its `data_dir` that is not there: '"])
def a_folder_of_readme_that_is_not_there_beside_others(folder):
    class_folders(folder)
    return card(folder, "  data_dir: photos")


@refused("card-lost", says="README.md names a folder as its `data_dir` that is not there: '.*photos'")
def a_folder_of_readme_that_is_not_there(folder):
    return card(folder, "  data_dir: photos")


@read("card-mapping")
def splits_of_readme_as_an_object(folder):
    for name, labels in (("one", TRAIN), ("two", TEST)):
        write_csv(folder / f"{name}.csv", write_pictures(folder / "images", labels, name + "{row}.png"))
    return card(folder, "  data_files:", "    train: one.csv", "    test: two.csv")


@read("card-number", notes=["no image  README.md"])
def files_of_readme_that_are_none(folder):
    return card(class_folders(folder), "  data_files: 7")


# Folders of systems


@read("system-folders", **HELD_OUT)
def folders_of_systems_beside_classes(folder):
    write_pictures(folder, TRAIN, "{label}/{row}.png")
    for name in ("lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "#recycle"):
        fill(folder, {name: 1}, start=9000)
    return folder


@read("system-folders-of-lists", **HELD_OUT)
def folders_of_systems_beside_the_images_of_a_list(folder):
    rows = write_pictures(folder / "images", TRAIN)
    write_csv(folder / "labels.csv", rows)
    for name in ("lost+found", "@eaDir"):
        write_pictures(folder / f"images/{name}", TRAIN)
    return folder


@pytest.mark.parametrize("id", FORMS.reads)
def test_list_in_its_own_form_is_read(id, tmp_path):
    FORMS.check_read(id, tmp_path)


@pytest.mark.parametrize("id", FORMS.refusals)
def test_list_in_its_own_form_is_refused(id, tmp_path):
    FORMS.check_refused(id, tmp_path)
