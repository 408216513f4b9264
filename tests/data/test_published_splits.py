"""Lists of the training and test images of class folders, as data sets are published with them."""

import json
import time

import numpy as np
import pytest

from lort_hub.data.load import load_long_tailed
from lort_hub.data.published_lists import read_names
from tests.support.tables import (
    LABELS,
    NAMES,
    TEST,
    TRAIN,
    check_published,
    class_of,
    refusal,
    write_csv,
    write_pictures,
    zipped,
)


def pictures(folder, splits=("train", "test")):
    """Class folders that hold the pictures of all splits; their paths by split."""
    return {
        split: [name for name, _ in write_pictures(folder, LABELS[split], f"{{label}}/{split}{{row}}.png")]
        for split in splits
    }


def write(file, lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


def check(spec, *lists, test="test", **options):
    """The splits of the lists are read, the classes are the folders, and the lists are named."""
    data = check_published(spec, test=test, begins={split: split for split in LABELS}, **options)
    (note,) = (note for note in data.notes if note.startswith("Class folders in the splits of"))
    assert all(name in note for name in lists)
    return data


def test_lists_of_paths(tmp_path):
    for split, names in pictures(tmp_path / "Images").items():
        write(tmp_path / f"{split.title()}Images.txt", names)
    data = check(tmp_path, "TrainImages.txt", "TestImages.txt")
    assert not any("not read" in note for note in data.notes)


def test_lists_beside_an_archive_of_class_folders(tmp_path):
    for split, names in pictures(tmp_path / "packed/images").items():
        write(tmp_path / f"data/meta/{split}.txt", names)
    write(tmp_path / "packed/notes.txt", ["no list"])
    zipped(tmp_path / "data/photos.zip", tmp_path / "packed")
    data = check(tmp_path / "data", "train.txt", "test.txt")
    assert any("notes.txt" in note for note in data.notes)


def test_lists_in_an_archive_go_before_those_beside_it(tmp_path):
    other = {"train": "test", "test": "train"}
    for split, names in pictures(tmp_path / "packed/images").items():
        write(tmp_path / f"packed/{split}.txt", names)
        write(tmp_path / f"data/{other[split]}.txt", names)
    zipped(tmp_path / "data/photos.zip", tmp_path / "packed")
    check(tmp_path / "data", "train.txt", "test.txt")


def test_lists_of_names_without_their_suffix(tmp_path):
    for split, names in pictures(tmp_path / "images").items():
        write(tmp_path / f"meta/{split}.txt", [name.removesuffix(".png") for name in names])
        by_class = {key: [name for name in names if name.startswith(key)] for key in NAMES}
        (tmp_path / f"meta/{split}.json").write_text(json.dumps(by_class))
    write(tmp_path / "meta/classes.txt", NAMES)
    check(tmp_path, "meta/train.txt", "meta/test.txt")


def test_lists_of_paths_and_labels(tmp_path):
    for split, names in pictures(tmp_path / "images").items():
        write(tmp_path / f"{split}.txt", [f"{name} {NAMES.index(name[:3])}" for name in names])
    check(tmp_path, "train.txt", "test.txt")


def test_labels_that_are_not_the_folders_are_refused(tmp_path):
    for split, names in pictures(tmp_path / "images").items():
        write(tmp_path / f"{split}.txt", [f"{name} {k % 2}" for k, name in enumerate(names)])
    assert "tell different classes" in refusal(tmp_path)


def sites(folder):
    """Pictures in two folders that are no classes; their paths with labels."""
    rows = write_pictures(folder / "all", TRAIN, "{row}.png")
    for k, (name, _) in enumerate(rows):
        path = folder / "ab"[k % 2] / name
        path.parent.mkdir(exist_ok=True)
        (folder / "all" / name).rename(path)
    (folder / "all").rmdir()
    return [(f"{'ab'[k % 2]}/{name}", label) for k, (name, label) in enumerate(rows)]


LABEL_FIRST = ["{label} {path}", "{label},{path}", "{label};{path}", "{number} {name}", "{number}\t{stem}"]
LABEL_FIRST += [r"{label},D:\my photos\{windows}", "{number} /home/me/{path}", "{row},{label},{path}"]


def form_rows(form, rows):
    for row, (path, label) in enumerate(rows):
        names = {"name": path[2:], "stem": path.removesuffix(".png"), "windows": path.replace("/", "\\")}
        yield form.format(path=path, label=label, row=row, number=NAMES.index(label), **names)


@pytest.mark.parametrize("form", [*LABEL_FIRST, "{path};{label}"])
def test_labels_before_or_behind_files_that_are_not_the_folders_are_refused(tmp_path, form):
    rows = sites(tmp_path)
    for split, of in (("train", rows[::3] + rows[1::3]), ("test", rows[2::3])):
        write(tmp_path / f"{split}.txt", form_rows(form, of))
    assert "The labels of train.txt and the class folders tell different classes" in refusal(tmp_path)


@pytest.mark.parametrize("suffix", [".txt", ".csv"])
@pytest.mark.parametrize("form", LABEL_FIRST)
def test_a_given_list_whose_labels_come_before_the_files_tells_the_classes(tmp_path, form, suffix):
    form = form.replace("} ", "}," if suffix == ".csv" else "} ")
    write(tmp_path / f"all{suffix}", form_rows(form, sites(tmp_path)))
    data = load_long_tailed(str(tmp_path / f"all{suffix}"))
    assert (data.class_counts + np.bincount(data.test.labels)).tolist() == [12, 7, 5]
    assert [class_of(data.train.image(k)) for k in range(len(data.train))] == data.train.labels.tolist()


def test_a_given_table_whose_last_column_names_the_files_tells_the_classes(tmp_path):
    rows = [(label, k, path[2:]) for k, (path, label) in enumerate(sites(tmp_path))]
    write_csv(tmp_path / "all.csv", rows, ("Class", "x", "image"))
    assert load_long_tailed(str(tmp_path / "all.csv")).class_names == tuple(NAMES)


def test_numbers_of_rows_before_the_files_are_no_labels(tmp_path):
    for split, names in pictures(tmp_path).items():
        write(tmp_path / f"{split}.txt", [f"{row} {name}" for row, name in enumerate(names)])
    check(tmp_path, "train.txt", "test.txt")
    check(tmp_path / "train.txt", "train.txt", "test.txt")


def test_a_given_list_of_names_with_blanks_has_no_labels(tmp_path):
    names = write_pictures(tmp_path, TRAIN, "{label} bear/{label} {row}.png")
    write(tmp_path / "all.txt", [name for name, _ in names])
    assert load_long_tailed(str(tmp_path / "all.txt")).class_names == ("ant bear", "bee bear", "cat bear")


@pytest.mark.parametrize("name", ["labels.txt", "list.txt", "annotations.txt", "image_labels.lst"])
def test_a_list_of_all_labels_that_are_not_the_folders_is_refused(tmp_path, name):
    rows = write_pictures(tmp_path, TRAIN, "{label}/{row}.png")
    write(tmp_path / name, [f"{file} {'ab'[k % 2]}" for k, (file, _) in enumerate(rows)])
    assert f"The labels of {name} and the class folders tell different classes" in refusal(tmp_path)
    says = refusal(tmp_path, label_column="label")
    assert "is read that has a column 'label'" in says
    assert name in says
    assert load_long_tailed(str(tmp_path / name)).class_names == ("a", "b")


@pytest.mark.parametrize(
    "name", ["image_list.txt", "annotations.txt", "noisy_labels.txt", "labels_quality.txt"]
)
def test_a_list_of_counts_or_of_other_labels_leaves_the_folders_as_they_are(tmp_path, name):
    rows = write_pictures(tmp_path, TRAIN, "{label}/{row}.png")
    write(tmp_path / name, [f"{file} {k % 2}" for k, (file, _) in enumerate(rows)])
    assert load_long_tailed(str(tmp_path)).class_counts.tolist() == [10, 6, 4]


@pytest.mark.parametrize("form", ["{file} {label}", "{file}\t{number}", "{label}", "{number} {label}"])
def test_labels_that_are_the_folders_say_nothing_new(tmp_path, form):
    rows = write_pictures(tmp_path, TRAIN, "{label}/{row}.png")
    lines = [form.format(file=file, label=label, number=NAMES.index(label)) for file, label in rows]
    write(tmp_path / "labels.txt", dict.fromkeys(lines))
    data = load_long_tailed(str(tmp_path))
    assert data.class_counts.tolist() == [10, 6, 4]
    assert not any("published" in note for note in data.notes)


def test_lists_of_three_splits_of_which_the_test_is_read(tmp_path):
    for split, names in pictures(tmp_path / "images", LABELS).items():
        write(tmp_path / f"labels/{split}1.txt", names)
    check(tmp_path, "labels/train1.txt", "labels/test1.txt", "labels/val1.txt")
    check(tmp_path, "labels/val1.txt", test="val", test_split="val")


def test_several_published_splits_are_refused_until_one_is_given(tmp_path):
    names = pictures(tmp_path / "images")
    for split, other in (("train", "test"), ("test", "train")):
        write(tmp_path / f"labels/{split}1.txt", names[split])
        write(tmp_path / f"labels/{split}2.txt", names[other])
    said = refusal(tmp_path)
    assert "2 published splits" in said
    assert "labels/train1.txt with labels/test1.txt, labels/train2.txt with labels/test2.txt" in said
    check(tmp_path / "labels/train1.txt", "train1.txt", "test1.txt", image_root=tmp_path / "images")


def test_a_training_list_alone_is_no_split_unless_it_is_given(tmp_path):
    names = pictures(tmp_path / "images")
    write(tmp_path / "train.txt", names["train"])
    (note,) = (note for note in load_long_tailed(str(tmp_path)).notes if "published split" in note)
    assert "train.txt" in note
    data = load_long_tailed(str(tmp_path / "train.txt"))
    assert data.class_counts.tolist() == [10, 6, 4]  # a fifth of each class of the list


def test_matlab_files_are_named(tmp_path):
    pictures(tmp_path / "Images")
    for split in ("train", "test"):
        (tmp_path / f"{split}_list.mat").write_bytes(b"")
    (note,) = (note for note in load_long_tailed(str(tmp_path)).notes if "published split" in note)
    assert "test_list.mat, train_list.mat" in note


def test_lists_of_numbers_as_those_of_cub_200(tmp_path):
    folder = tmp_path / "CUB_200_2011"
    rows = [(name, split) for split, names in pictures(folder / "images").items() for name in names]
    write(folder / "images.txt", [f"{k} {name}" for k, (name, _) in enumerate(rows, 1)])
    write(
        folder / "train_test_split.txt", [f"{k} {split == 'train':d}" for k, (_, split) in enumerate(rows, 1)]
    )
    write(folder / "classes.txt", [f"{k} {name}" for k, name in enumerate(NAMES, 1)])
    check(tmp_path, "train_test_split.txt")


def test_numbers_that_no_list_names_are_of_no_image(tmp_path):
    test_lists_of_numbers_as_those_of_cub_200(tmp_path)
    with (tmp_path / "CUB_200_2011/train_test_split.txt").open("a") as file:
        file.write("99 1\n")
    check(tmp_path, "train_test_split.txt")


def test_a_json_file_of_splits(tmp_path):
    named = pictures(tmp_path, LABELS)
    rows = {
        split: [[name, NAMES.index(name[:3]), name[:3]] for name in names] for split, names in named.items()
    }
    (tmp_path / "split_zhou_Insects.json").write_text(json.dumps(rows))
    check(tmp_path, "split_zhou_Insects.json")
    check(tmp_path / "split_zhou_Insects.json", "split_zhou_Insects.json")


def test_a_json_file_of_splits_whose_labels_are_not_the_folders(tmp_path):
    rows = [[path, NAMES.index(label), label] for path, label in sites(tmp_path)]
    file = tmp_path / "split_zhou_Insects.json"
    file.write_text(json.dumps({"train": rows[::3] + rows[1::3], "val": [], "test": rows[2::3]}))
    assert "tell different classes" in refusal(tmp_path)
    data = load_long_tailed(str(file))
    assert data.class_names == tuple(NAMES)
    assert data.class_counts.tolist() == [8, 5, 3]
    assert np.bincount(data.test.labels).tolist() == [4, 2, 2]


def test_a_json_file_of_splits_of_one_heap_of_pictures(tmp_path):
    rows = write_pictures(tmp_path / "images", TRAIN)
    file = tmp_path / "split_zhou_Insects.json"
    file.write_text(json.dumps({"train": rows[::3] + rows[1::3], "test": rows[2::3]}))
    assert "Where split_zhou_Insects.json gives the class of each image, name it itself" in refusal(tmp_path)
    data = load_long_tailed(str(file))
    assert data.class_counts.tolist() == [8, 5, 3]
    assert np.bincount(data.test.labels).tolist() == [4, 2, 2]


def test_tables_of_file_names_alone(tmp_path):
    for split, names in pictures(tmp_path / "images").items():
        write_csv(
            tmp_path / f"{split}.csv", [(k, f"images/{name}") for k, name in enumerate(names)], ("id", "file")
        )
    check(tmp_path, "train.csv", "test.csv")


@pytest.mark.parametrize("cells", [("012", "345"), ("012" * 4, "345" * 4), (["ant", "bee"] * 2, ["cat"] * 2)])
def test_tables_of_one_column_of_labels_or_counts_are_no_split(tmp_path, cells):
    """Images are called by numbers and by classes too, so that each cell is one's name."""
    written = [tmp_path / name for name, _ in write_pictures(tmp_path, TRAIN, "{label}/{row}.png")]
    for folder in {path.parent for path in written}:
        min(folder.iterdir()).rename(folder / f"{folder.name}.png")
    for name, column in zip(("y_train.csv", "y_test.csv"), cells, strict=True):
        write(tmp_path / name, ["label", *column])
    data = load_long_tailed(str(tmp_path))
    assert (data.class_counts + np.bincount(data.test.labels)).tolist() == np.bincount(TRAIN).tolist()
    assert not any("in the splits of" in note for note in data.notes)


@pytest.mark.parametrize("header", [[], ["path"]])
def test_tables_of_one_column(tmp_path, header):
    for split, names in pictures(tmp_path / "Images").items():
        write(tmp_path / f"{split}.csv", [*header, *names])
    check(tmp_path, "train.csv", "test.csv")


@pytest.mark.parametrize("label", [None, "bird"])
def test_a_column_of_splits(tmp_path, label):
    rows = [(name, name[:3], split) for split, names in pictures(tmp_path).items() for name in names]
    header = ("file", label, "split")
    if label is None:
        rows, header = [(name, split) for name, _, split in rows], ("file", "split")
    write_csv(tmp_path / "metadata.csv", rows, header)
    data = check(tmp_path, "metadata.csv")
    assert not any("a table beside class folders" in note for note in data.notes)


@pytest.mark.parametrize("column", ["subset", "Phase", "dataset"])
def test_a_column_called_as_one_of_sets(tmp_path, column):
    rows = [(name, split, "ab"[len(name) % 2]) for split, of in pictures(tmp_path).items() for name in of]
    write_csv(tmp_path / "metadata.csv", rows, ("file", column, "usage"))
    check(tmp_path, "metadata.csv")
    rows = [(*row, ("train", "val")[k % 2]) for k, row in enumerate(rows)]
    write_csv(tmp_path / "metadata.csv", rows, ("file", column, "usage", "split"))
    (note,) = (note for note in load_long_tailed(str(tmp_path)).notes if "in the splits of" in note)
    assert note == "Class folders in the splits of metadata.csv: train, validation."


def test_a_column_of_splits_by_number_is_named(tmp_path):
    rows = [(name, int(split == "test")) for split, names in pictures(tmp_path).items() for name in names]
    write_csv(tmp_path / "metadata.csv", rows, ("file", "split"))
    (note,) = (note for note in load_long_tailed(str(tmp_path)).notes if "published split" in note)
    assert "metadata.csv" in note


def test_images_in_no_list_are_left_out_and_counted(tmp_path):
    for split, names in pictures(tmp_path / "images").items():
        write(tmp_path / f"{split}.txt", names)
    for k in range(4):
        source = tmp_path / f"images/ant/train{k}.png"
        (tmp_path / "images/background").mkdir(exist_ok=True)
        (tmp_path / f"images/background/{k}.png").write_bytes(source.read_bytes()[:-1] + b"\0")
    data = check(tmp_path, "train.txt", "test.txt")
    assert any(note.startswith("4 images of the class folders are in no split of") for note in data.notes)


def test_folders_that_tell_the_splits_go_before_lists(tmp_path):
    write_pictures(tmp_path / "train", TRAIN, "{label}/{row}.png")
    write_pictures(tmp_path / "test", TEST, "{label}/{row}.png")
    write(tmp_path / "train.txt", ["test/ant/0.png", "test/bee/3.png"])
    write(tmp_path / "test.txt", ["train/ant/0.png"])
    data = load_long_tailed(str(tmp_path))
    assert data.class_counts.tolist() == [12, 7, 5]
    assert not any("published" in note for note in data.notes)


def test_an_image_that_a_list_names_twice_is_counted_once(tmp_path):
    named = pictures(tmp_path / "in" / "images")
    write(tmp_path / "in" / "train.txt", [f"images/{name}" for name in named["train"] + named["train"][:3]])
    write(tmp_path / "in" / "test.txt", [f"images/{name}" for name in named["test"]])
    data = check(tmp_path / "in", "train.txt", "test.txt")
    assert any(note.startswith("3 rows of train.txt, test.txt name an image") for note in data.notes)


def test_rows_without_an_image_are_counted(tmp_path):
    named = pictures(tmp_path / "images")
    write(tmp_path / "train.txt", [*named["train"], "ant/gone.png"])
    write(tmp_path / "test.txt", named["test"])
    data = check(tmp_path, "train.txt", "test.txt")
    assert "1 of 25 rows of train.txt name no image, such as ant/gone.png." in data.notes
    write(tmp_path / "train.txt", named["train"])
    write(tmp_path / "test.txt", [*named["test"], *(f"bee/lost{k}.png" for k in range(4))])
    data = check(tmp_path, "train.txt", "test.txt")
    assert "4 of 13 rows of test.txt name no image, such as bee/lost0.png." in data.notes


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_rows_without_an_image_are_counted_in_one_file_of_splits(tmp_path, suffix):
    named = pictures(tmp_path / "images")
    named["train"] = [*named["train"], "ant/gone.png"]
    if suffix == "csv":
        rows = [(name, split) for split, names in named.items() for name in names]
        write_csv(tmp_path / "splits.csv", rows, ("file", "split"))
    else:
        (tmp_path / "splits.json").write_text(json.dumps(named))
    data = check(tmp_path, f"splits.{suffix}")
    assert any(
        "rows of splits" in note and note.endswith("no image, such as ant/gone.png.") for note in data.notes
    )


def test_lists_of_other_images_are_named_with_the_reason(tmp_path):
    named = pictures(tmp_path / "images")
    for split, names in named.items():
        write(tmp_path / f"{split}.txt", [f"{split}/{name}".replace("/", "_") for name in names])
    (note,) = (note for note in load_long_tailed(str(tmp_path)).notes if "published split" in note)
    assert "24 of 24 rows of train.txt name no image, such as train_ant_train0.png." in note
    assert "9 of 9 rows of test.txt name no image" in note


@pytest.mark.parametrize(
    "line",
    ["{name},", '"{name}"', '"{name}",{label}', "{name} 1 7", "{jpg}"],
    ids=["comma", "marks", "marks-and-label", "numbers", "extension"],
)
def test_lines_of_lists_in_other_forms(tmp_path, line):
    for split, names in pictures(tmp_path / "images").items():
        forms = ({"name": name, "label": name[:3], "jpg": name.replace(".png", ".jpg")} for name in names)
        write(tmp_path / f"{split}.txt", [line.format(**form) for form in forms])
    data = check(tmp_path, "train.txt", "test.txt")
    assert any("with another extension" in note for note in data.notes) == (line == "{jpg}")


def test_lists_in_utf_16(tmp_path):
    for split, names in pictures(tmp_path / "images").items():
        (tmp_path / f"{split}.txt").write_text("\n".join(names), encoding="utf-16")
    check(tmp_path, "train.txt", "test.txt")


def test_commas_in_the_names_of_classes_do_not_end_the_files_of_a_list(tmp_path):
    for split, of in LABELS.items():
        rows = write_pictures(tmp_path, of, f"{{label}}, the/{split}{{row}}.png")
        write(tmp_path / f"{split}.txt", [f"{name} {NAMES.index(label)}" for name, label in rows])
    data = load_long_tailed(str(tmp_path), test_split="test")
    assert data.class_counts.tolist() == [12, 7, 5]
    assert np.bincount(data.test.labels).tolist() == np.bincount(LABELS["test"]).tolist()


def test_the_time_of_a_long_line_grows_with_its_length_and_not_its_square(tmp_path):
    seconds = []
    for number in (20_000, 200_000):
        write(tmp_path / "train.txt", [" ".join(["7"] * number)])
        start = time.perf_counter()
        (one,) = read_names(tmp_path / "train.txt")
        seconds.append(time.perf_counter() - start)
        assert len(one.listed.columns["line"]) == 1
    assert seconds[1] < 30 * max(seconds[0], 0.01)


def test_of_two_columns_called_as_sets_the_first_is_read(tmp_path):
    rows = [
        (name, split, ("train", "val")[len(name) % 2])
        for split, of in pictures(tmp_path).items()
        for name in of
    ]
    write_csv(tmp_path / "meta.csv", rows, ("file", "phase", "subset"))
    check(tmp_path, "meta.csv")


@pytest.mark.parametrize("words", [("train station", "test field"), ("pre-test", "post-test")])
def test_words_that_only_hold_that_of_a_split_are_none(tmp_path, words):
    rows = write_pictures(tmp_path, TRAIN, "{label}/{row}.png")
    write_csv(
        tmp_path / "meta.csv", [(name, words[k % 2]) for k, (name, _) in enumerate(rows)], ("file", "phase")
    )
    data = load_long_tailed(str(tmp_path))
    assert len(data.train) + len(data.test) == len(TRAIN)
    assert not any("splits of" in note or "published split" in note for note in data.notes)


@pytest.mark.parametrize("row", ["{path} {label} {size}", "{path} -1"])
def test_cells_that_are_no_labels_in_a_json_file_of_splits(tmp_path, row):
    rows = {}
    for split, paths in pictures(tmp_path).items():
        texts = (row.format(path=path, label=path[:3], size=640 + k % 2) for k, path in enumerate(paths))
        rows[split] = [[int(cell) if cell[-1].isdigit() else cell for cell in text.split()] for text in texts]
    (tmp_path / "split.json").write_text(json.dumps(rows))
    check(tmp_path, "split.json")


def test_a_json_file_of_splits_given_itself_takes_no_other_cell_for_the_label(tmp_path):
    rows = {
        split: [[name, "ant", 640] for name in names]
        for split, names in pictures(tmp_path / "images").items()
    }
    (tmp_path / "split.json").write_text(json.dumps(rows))
    data = load_long_tailed(str(tmp_path / "split.json"))
    assert data.class_names == tuple(NAMES)
