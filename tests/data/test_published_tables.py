"""Lists of the names of training and test images beside a list of the labels of all images."""

import json
import re

import pytest

from lort_hub.data.labelled import load_labelled
from lort_hub.data.load import load_long_tailed
from tests.support.tables import (
    LABELS,
    NAMES,
    TEST,
    TRAIN,
    check_published,
    refusal,
    write_csv,
    write_pictures,
    zipped,
)


def write(file, lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


def pictures(folder, splits=("train", "test")):
    """Flat pictures of all splits, in no order that tells them; their names by split, and rows of labels."""
    names = {
        split: [
            name for name, _ in write_pictures(folder / "images", LABELS[split], f"{split[1]}{{row}}.png")
        ]
        for split in splits
    }
    rows = [
        (name, NAMES[label])
        for split in splits
        for name, label in zip(names[split], LABELS[split], strict=True)
    ]
    return names, sorted(rows, key=lambda row: row[0][1:])


def check(spec, lists, *, test="test", **options):
    """The splits of the lists are read, with the labels of the table, and the lists are named."""
    begins = {split: split[1] for split in LABELS}
    data = check_published(spec, test=test, begins=begins, **options)
    (note,) = (note for note in data.notes if "in the splits of" in note)
    assert all(name in note for name in lists)
    assert not any("not read" in note or "published split" in note for note in data.notes)
    return data


@pytest.mark.parametrize("given", [".", "labels.csv"])
def test_texts_of_names_beside_a_list_of_labels(tmp_path, given):
    names, rows = pictures(tmp_path)
    write_csv(tmp_path / "labels.csv", rows)
    write(tmp_path / "train_val_list.txt", names["train"])
    write(tmp_path / "test_list.txt", names["test"])
    write(tmp_path / "test_notes.txt", ["no image"])
    check(tmp_path / given, ["train_val_list.txt", "test_list.txt"])


@pytest.mark.parametrize("given", [".", "labels.txt"])
def test_texts_of_names_beside_a_text_of_labels(tmp_path, given):
    names, rows = pictures(tmp_path)
    write(tmp_path / "labels.txt", map(" ".join, rows))
    for split, of in names.items():
        write(tmp_path / f"{split}.txt", of)
    check(tmp_path / given, ["train.txt", "test.txt"])


@pytest.mark.parametrize("given", [".", "labels.csv"])
def test_tables_of_names_beside_a_list_of_labels(tmp_path, given):
    names, rows = pictures(tmp_path)
    write_csv(tmp_path / "labels.csv", rows)
    for split, of in names.items():
        write(tmp_path / f"{split}.csv", ["file", *of])
    check(tmp_path / given, ["train.csv", "test.csv"])


def test_a_json_file_of_splits_beside_one_of_labels(tmp_path):
    names, rows = pictures(tmp_path)
    (tmp_path / "labels.json").write_text(json.dumps(dict(rows)))
    (tmp_path / "split.json").write_text(json.dumps(names))
    check(tmp_path, ["split.json"])


FORMS = {
    "stem": (lambda name: name[:-4], {}),
    "stem-below-name": (lambda name: name[:-4], {"head": "image_id"}),
    "folder": (lambda name: f"images/{name}", {}),
    "other-machine": (lambda name: f"/home/me/birds/images/{name}", {}),
    "windows": (lambda name: f"C:\\\\birds\\\\images\\\\{name}", {"newline": "\r\n"}),
    "capitals": (str.upper, {}),
    "blank-lines": (lambda name: f"{name}\n", {}),
    "comment": (str, {"head": "# as in the paper"}),
    "utf-16": (str, {"encoding": "utf-16"}),
    "quoted": (lambda name: f'"{name}"', {"head": '"file"', "file": "{}.csv"}),
    "no-names-of-columns": (str, {"file": "{}.csv"}),
    "tsv": (str, {"head": "image", "file": "{}_images.tsv"}),
    "index": (lambda name: f"{int(name[1:-4])},{name}", {"head": ",file", "file": "{}.csv"}),
    "folder-of-lists": (lambda name: name[:-4], {"file": "ImageSets/Main/{}.txt"}),
    "lst": (str, {"file": "lists/{}_names.lst"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_names_in_the_forms_in_which_lists_have_them(tmp_path, form):
    names, rows = pictures(tmp_path)
    write_csv(tmp_path / "meta/labels.csv", rows)
    line, options = FORMS[form]
    for split, of in names.items():
        file = tmp_path / options.get("file", "{}.txt").format(split)
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [*filter(None, [options.get("head")]), *map(line, of)]
        text = options.get("newline", "\n").join(lines)
        file.write_bytes(text.encode(options.get("encoding", "utf-8")))
    data = check(tmp_path, [])
    assert not any("name no image" in note for note in data.notes)


@pytest.mark.parametrize("text", ["{}", "[{!r}]"])
def test_names_in_one_line(tmp_path, text):
    names, rows = pictures(tmp_path)
    write_csv(tmp_path / "labels.csv", rows)
    for split, of in names.items():
        (tmp_path / f"{split}.txt").write_text(
            text.format(", ".join(of)).replace(", ", "', '" * (text != "{}") or ",")
        )
    check(tmp_path, ["train.txt", "test.txt"])


def test_json_lists_of_names(tmp_path):
    names, rows = pictures(tmp_path)
    write_csv(tmp_path / "labels.csv", rows)
    for split, of in names.items():
        (tmp_path / f"{split}.json").write_text(json.dumps(of))
    check(tmp_path, ["train.json", "test.json"])


@pytest.mark.parametrize("archive", ["all.zip", "images.zip"])
def test_archives_of_a_folder_with_lists_and_of_its_images(tmp_path, archive):
    names, rows = pictures(tmp_path / "data")
    write(tmp_path / "data/labels.csv", ["file,label", *map(",".join, rows)])
    for split, of in names.items():
        write(tmp_path / f"data/{split}.txt", of)
    if archive == "all.zip":
        zipped(tmp_path / archive, tmp_path / "data")
        check(tmp_path / archive, ["train.txt", "test.txt"])
        return
    zipped(tmp_path / "data" / archive, tmp_path / "data/images")
    for file in (tmp_path / "data/images").iterdir():
        file.unlink()
    check(tmp_path / "data", ["train.txt", "test.txt"])


@pytest.mark.parametrize("inside", [(), ("labels.csv",), ("train.txt", "test.txt")])
def test_lists_beside_an_archive_or_in_it(tmp_path, inside):
    names, rows = pictures(tmp_path / "packed")
    for name, lines in {"labels": ["file,label", *map(",".join, rows)], **names}.items():
        file = f"{name}.csv" if name == "labels" else f"{name}.txt"
        write(tmp_path / ("packed" if file in inside else "data") / file, lines)
    zipped(tmp_path / "data/photos.zip", tmp_path / "packed")
    check(tmp_path / "data", ["train.txt", "test.txt"])


def test_lists_in_the_folder_of_the_images_elsewhere(tmp_path):
    names, rows = pictures(tmp_path / "far")
    lists(tmp_path / "far", names, "train", "test")
    write_csv(tmp_path / "near/labels.csv", rows)
    check(tmp_path / "near", ["train.txt", "test.txt"], image_root=tmp_path / "far")


def test_lists_beside_the_labels_go_before_those_of_the_images(tmp_path):
    names, rows = pictures(tmp_path / "far")
    write_csv(tmp_path / "near/labels.csv", rows)
    lists(tmp_path / "near", names, "train", "test")
    lists(tmp_path / "far", {"train": names["test"], "test": names["train"]}, "train", "test")
    check(tmp_path / "near", ["train.txt", "test.txt"], image_root=tmp_path / "far")


def test_test_images_without_labels_are_not_training_images_of_the_same_names(tmp_path):
    rows = write_pictures(tmp_path / "train_images", TRAIN)
    unlabelled = write_pictures(tmp_path / "test_images", TEST)
    write_csv(tmp_path / "labels.csv", rows)
    lists(
        tmp_path,
        {"train": [name for name, _ in rows], "test": [name for name, _ in unlabelled]},
        "train",
        "test",
    )
    data = load_long_tailed(str(tmp_path / "labels.csv"), image_root=tmp_path / "train_images")
    assert len(data.train) + len(data.test) == len(TRAIN)


# Validation


def lists(folder, names, *splits):
    for split in splits:
        write(folder / f"{split}.txt", names[split])


def test_the_validation_split_is_the_test_where_there_is_no_other(tmp_path):
    names, rows = pictures(tmp_path, ("train", "val"))
    write_csv(tmp_path / "labels.csv", rows)
    lists(tmp_path, names, "train", "val")
    check(tmp_path, ["train.txt", "val.txt"], test="val")


def test_the_validation_split_is_neither_trained_on_nor_the_test(tmp_path):
    names, rows = pictures(tmp_path, LABELS)
    write_csv(tmp_path / "labels.csv", rows)
    write(tmp_path / "trainval.txt", [*names["train"], *names["val"]])
    lists(tmp_path, names, *LABELS)
    check(tmp_path, ["train.txt", "test.txt"])
    check(tmp_path, ["train.txt", "val.txt"], test="val", test_split="val")
    assert len(load_labelled(str(tmp_path), train_split="none").test) == len(TEST)


# Rows and names without one another


def test_names_without_a_row_and_rows_without_a_name_are_counted(tmp_path):
    names, rows = pictures(tmp_path)
    write_csv(tmp_path / "labels.csv", [row for row in rows if row[0] not in ("r11.png", "e0.png")])
    write(tmp_path / "train.txt", [*names["train"][:-2], names["train"][0]])
    lists(tmp_path, names, "test")
    data = load_long_tailed(str(tmp_path))
    assert (data.class_counts.tolist(), len(data.test)) == ([11, 7, 3], 8)
    said = "\n".join(data.notes)
    assert "1 of 23 rows of train.txt name no image of the list labels.csv, such as r11.png." in said
    assert "1 of 9 rows of test.txt name no image of the list labels.csv, such as e0.png." in said
    assert "2 images of the list labels.csv are in no split of train.txt, test.txt, and are left out." in said
    assert "1 rows of train.txt, test.txt name an image that an earlier row names" in said


def test_an_image_in_two_splits_is_refused(tmp_path):
    names, rows = pictures(tmp_path)
    write_csv(tmp_path / "labels.csv", rows)
    names["train"].append(names["test"][0])
    lists(tmp_path, names, "train", "test")
    assert "1 training images are test images" in refusal(tmp_path)


def test_names_that_fit_several_images_are_refused(tmp_path):
    rows = [
        row for site in ("a", "b") for row in write_pictures(tmp_path, TRAIN, f"images/{site}/{{row}}.png")
    ]
    write_csv(tmp_path / "labels.csv", rows)
    write(tmp_path / "train_keyframes.txt", [f"{k}.png" for k in range(20)])
    whole(tmp_path, len(rows), f"train_keyframes.txt: {ADVICE}")
    write(tmp_path / "train.txt", [f"{k}.png" for k in range(20)])
    write(tmp_path / "test.txt", [f"{k}.png" for k in range(20, 24)])
    said = refusal(tmp_path)
    assert re.search("'20.png' in test.txt fits 2 images of the list labels.csv: .*/a/20.png", said)
    for split, of in (("train", range(20)), ("test", range(20, 24))):
        write(tmp_path / f"{split}.txt", [f"{site}/{k}" for site in ("a", "b") for k in of])
    data = load_long_tailed(str(tmp_path))
    assert (len(data.train), len(data.test)) == (40, 8)


def test_images_that_a_list_does_not_name_are_other_ones_of_the_same_names(tmp_path):
    names, rows = pictures(tmp_path)
    (tmp_path / "thumbs").mkdir()
    for name, _ in rows:
        (tmp_path / "thumbs" / name).write_bytes((tmp_path / "images" / name).read_bytes()[:90])
    write_csv(tmp_path / "labels.csv", [(f"images/{name}", label) for name, label in rows])
    lists(tmp_path, names, "train", "test")
    data = load_long_tailed(str(tmp_path))
    assert (data.class_counts.tolist(), len(data.test)) == ([12, 7, 5], 9)


def test_test_images_of_the_names_of_training_images_are_none_of_a_list_of_those(tmp_path):
    write_csv(tmp_path / "train.csv", write_pictures(tmp_path / "train_images", TRAIN))
    names = [name for name, _ in write_pictures(tmp_path / "test_images", TEST)]
    write(tmp_path / "test.csv", ["image_id", *names])
    data = load_long_tailed(str(tmp_path))
    assert len(data.train) + len(data.test) == len(TRAIN)
    assert not any("published split" in note for note in data.notes)


def test_unlabelled_test_images_of_a_list_are_set_aside(tmp_path):
    names, rows = pictures(tmp_path, LABELS)
    write_csv(tmp_path / "labels.csv", [row for row in rows if row[0][0] != "e"])
    lists(tmp_path, names, *LABELS)
    data = load_long_tailed(str(tmp_path))
    assert (data.class_counts.tolist(), data.test.name, len(data.test)) == ([12, 7, 5], "validation", 4)
    assert any("test.txt is not read: 9 of 9 rows of test.txt name no image" in note for note in data.notes)


def test_rows_of_one_image_with_two_labels_are_refused(tmp_path):
    names, rows = pictures(tmp_path)
    write_csv(tmp_path / "labels.csv", [*rows, (rows[0][0], "dog")])
    lists(tmp_path, names, "train", "test")
    assert "Expected one class per image; multi-label data are not read." in refusal(tmp_path)


# What is said, and not read


def whole(spec, number, said, **options):
    """All rows are read as those to train on, and a note says why."""
    data = load_long_tailed(str(spec), **options)
    assert len(data.train) + len(data.test) == number
    notes = [note for note in data.notes if "published split" in note]
    assert len(notes) == bool(said)
    assert not said or said in notes[0]
    return data


ADVICE = "write it into the list as a column 'split', with train and test."
UNREAD = {
    "folds": (
        {f"{split}_{k}.txt": split for k in (1, 2) for split in ("train", "test")},
        f"test_1.txt, test_2.txt, train_1.txt, train_2.txt: {ADVICE}",
    ),
    "test-alone": ({"test.txt": "test"}, f"test.txt: {ADVICE}"),
    "test-alone-in-a-table": ({"test.csv": "test"}, f"test.csv: {ADVICE}"),
    "part-of-the-training": ({"train.txt": "train"}, f"train.txt: {ADVICE}"),
    "empty": ({"train.txt": "train", "test.txt": ""}, f"train.txt: {ADVICE}"),
    "numbers": ({"split.json": "json"}, f"split.json: {ADVICE}"),
    "no-names": (
        {"train.txt": "lost", "test.txt": "lost"},
        "2 of 2 rows of test.txt name no image of the list",
    ),
    "lost-beside-found": ({"train.txt": "train", "test.txt": "lost"}, f"train.txt: {ADVICE}"),
    "few": ({"train_blurred.txt": "few", "test_blurred.txt": "test"}, f"train_blurred.txt: {ADVICE}"),
    "texts": ({"train_log.txt": "log", "README.txt": "log", "classes.txt": "log"}, ""),
}


@pytest.mark.parametrize("form", UNREAD)
def test_lists_that_tell_no_split_are_named(tmp_path, form):
    names, rows = pictures(tmp_path)
    write_csv(tmp_path / "labels.csv", rows)
    texts = {
        "lost": ["a.png", "b.png"],
        "few": names["train"][:2],
        "json": ['{"train": [0, 1], "test": [2]}'],
        "log": ["loss 3", "loss 2"],
    }
    files, said = UNREAD[form]
    for k, (file, kind) in enumerate(files.items()):
        lines = names.get(kind, texts.get(kind, []))
        write(tmp_path / file, lines[k:] if form == "folds" else lines)
    whole(tmp_path, len(rows), said)


NUMBERS = {
    "ids": (["id", *map(str, range(20))], ["id", *map(str, range(20, 28))], "csv"),
    "rows": ([*map(str, range(20))], [*map(str, range(20, 28))], "txt"),
    "classes": (["0", "1", "2", "1"], ["2", "0"], "txt"),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_of_rows_classes_or_another_column_are_no_names(tmp_path, kind):
    """Files are called 0.png, 1.png and so on, of other rows than those of the numbers."""
    rows = write_pictures(tmp_path / "images", TRAIN + TEST)[::-1]
    labelled = [f"{k},{file},{label}" for k, (file, label) in enumerate(rows)]
    write(tmp_path / "labels.csv", ["id,file,label", *labelled])
    train, test, suffix = NUMBERS[kind]
    write(tmp_path / f"train_ids.{suffix}", train)
    write(tmp_path / f"test_ids.{suffix}", test)
    whole(tmp_path, len(rows), f"test_ids.{suffix}, train_ids.{suffix}: {ADVICE}")


LISTS_OF_ALL = ("train_val_test_labels.csv", "trainval_labels.csv")


@pytest.mark.parametrize("name", LISTS_OF_ALL)
def test_a_list_called_trainval_that_has_the_test_images_is_split(tmp_path, name):
    names, rows = pictures(tmp_path)
    write_csv(tmp_path / name, rows)
    lists(tmp_path, names, "train", "test")
    data = load_long_tailed(str(tmp_path))
    assert (data.class_counts.tolist(), data.test.labels.tolist()) == ([12, 7, 5], TEST)


def test_lists_of_one_split_are_read_together(tmp_path):
    names, rows = pictures(tmp_path)
    write_csv(tmp_path / "labels.csv", rows)
    write(tmp_path / "train.txt", names["train"][:10])
    write(tmp_path / "training.txt", names["train"][10:])
    lists(tmp_path, names, "test")
    assert load_long_tailed(str(tmp_path)).class_counts.tolist() == [12, 7, 5]


def test_trainval_of_a_json_of_splits_is_not_trained_on_beside_train(tmp_path):
    names, rows = pictures(tmp_path)
    write_csv(tmp_path / "labels.csv", rows)
    val = names["train"][::4]
    train = [name for name in names["train"] if name not in val]
    parts = {"train": train, "val": val, "trainval": names["train"], "test": names["test"]}
    (tmp_path / "split.json").write_text(json.dumps(parts))
    assert len(load_long_tailed(str(tmp_path)).train) == 18


def test_a_list_of_all_images_is_no_split(tmp_path):
    _, rows = pictures(tmp_path)
    write_csv(tmp_path / "labels.csv", rows)
    write(tmp_path / "train.txt", [name for name, _ in rows])
    write(tmp_path / "labels.txt", map(" ".join, rows))
    whole(tmp_path, len(rows), "")
    whole(tmp_path / "labels.csv", len(rows), "")


def test_lists_with_labels_of_their_own_split_only_those_of_the_same(tmp_path):
    names, rows = pictures(tmp_path)
    write_csv(tmp_path / "labels.csv", rows)
    label_of = dict(rows)
    for split, of in names.items():
        write(tmp_path / f"{split}.txt", [f"{name} {NAMES.index(label_of[name])}" for name in of])
    check(tmp_path, ["train.txt", "test.txt"])
    for split, of in names.items():
        write(tmp_path / f"{split}.txt", [f"{name} {k % 2}" for k, name in enumerate(of)])
    whole(tmp_path, len(rows), "test.txt, train.txt: ")


def test_a_column_of_splits_goes_before_lists(tmp_path):
    names, rows = pictures(tmp_path)
    write_csv(
        tmp_path / "labels.csv",
        [(*row, "test" if row[0] in names["train"] else "train") for row in rows],
        ("file", "label", "split"),
    )
    lists(tmp_path, names, "train", "test")
    data = load_long_tailed(str(tmp_path))
    assert (len(data.train), len(data.test)) == (len(TEST), len(TRAIN))
    assert not any("in the splits of" in note for note in data.notes)


def test_splits_that_are_asked_for(tmp_path):
    names, rows = pictures(tmp_path)
    write_csv(tmp_path / "labels.csv", rows)
    lists(tmp_path, names, "train", "test")
    whole(tmp_path, len(rows), "", train_split="train")
    check(tmp_path, ["train.txt"], train_split="train", test_split="test")
    check(tmp_path, ["train.txt"], test_split="test")


def test_a_text_of_labels_is_read_with_the_splits_alone(tmp_path):
    names, rows = pictures(tmp_path)
    write(tmp_path / "labels.txt", map(" ".join, rows))
    assert "Where labels.txt gives the class of each image, name it itself" in refusal(tmp_path)
    lists(tmp_path, names, "test")
    assert "Where labels.txt gives the class of each image, name it itself" in refusal(tmp_path)
    lists(tmp_path, names, "train")
    check(tmp_path, ["train.txt", "test.txt"], train_split="train", test_split="test")
    (tmp_path / "test.txt").rename(tmp_path / "tests.txt")
    for split, of in names.items():
        write(tmp_path / f"{split}.csv", ["file", *of])
    (tmp_path / "train.txt").unlink()
    check(tmp_path, ["train.csv", "test.csv"])
