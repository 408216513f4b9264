"""Names of folders and files that every system takes, and copies that replace and lose nothing."""

import string
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lort_hub.classifiers.sort_into import (
    DistinctNames,
    check_sort_folder,
    class_folders,
    safe_name,
    sort_into,
)
from lort_hub.data.image_folder.read import read_image_folder
from lort_hub.data.unlabelled import load_unlabelled
from lort_hub.errors import CheckpointError
from tests.support.images import NOISE_PNGS, noise_image, split_of

LETTERS = string.ascii_letters + 'é\u0301ßİ\u0131\u017fK0. _-/\\:*?"<>|\n\0\u202e日\ud800'
NAMES = st.text(st.sampled_from(LETTERS), max_size=12) | st.text(max_size=300)
RESERVED = ("CON", "con", "nul.txt", "LPT1", "Com7.jpg", "__MACOSX", ".git", "Thumbs.db", "..", ".", "")


@given(NAMES)
@example("a" * 300 + ".jpg")
@example("." * 300)
@example("日" * 200)
@example("a." + "b" * 300)
@pytest.mark.parametrize("fixed", [None, *RESERVED])
@settings(max_examples=60)
def test_a_safe_name_is_one_on_every_system(fixed, name):
    safe = safe_name(name if fixed is None else fixed)
    assert safe
    assert len(safe.encode()) <= 200
    assert not set(safe) & set('/\\:*?"<>|\0\n')
    assert safe == safe.strip()
    assert not safe.startswith(".")
    assert not safe.endswith(".")
    assert safe.partition(".")[0].upper() not in {"CON", "PRN", "AUX", "NUL", "COM7", "LPT1"}
    assert safe.lower() not in {"__macosx", "thumbs.db", "desktop.ini"}
    assert safe_name(safe) == safe


@pytest.mark.parametrize("name", ["ant", "Siamese cat", "café", "日本", "a.b", "photo 1.JPG", "x_2", "l'œil"])
def test_a_good_name_stays(name):
    assert safe_name(name) == name


@given(st.lists(NAMES.map(safe_name), max_size=30))
def test_names_taken_are_distinct_to_systems_that_fold_letters(names):
    taken = DistinctNames()
    given_out = [taken.take(name) for name in names]
    assert len({name.casefold() for name in given_out}) == len(names)
    assert len({name.upper() for name in given_out}) == len(names)
    for asked, got in zip(names, given_out, strict=True):
        assert Path(got).suffix == Path(asked).suffix


@given(st.lists(NAMES | st.sampled_from(("unsure", "Unsure", "a/b", "a:b", "a_b")), unique=True, max_size=20))
def test_each_class_has_a_folder_of_its_own(class_names):
    folders, unsure = class_folders(class_names)
    assert list(folders) == class_names
    names = [*folders.values(), unsure]
    assert len({name.casefold() for name in names}) == len(class_names) + 1
    assert all("/" not in name and name not in ("", ".", "..") for name in names)


def predictions(classes, probabilities):
    return pa.table({"class_1": pa.array(classes, pa.string()), "probability_1": probabilities})


FILES = ("x.png", "X.png", "x_2.png", "x", "=1.png", "é.png", "e\u0301.png", f"{'a' * 200}.png")
files = st.lists(
    st.tuples(
        st.sampled_from(("", "a", "a/b", "c")),
        st.sampled_from(FILES),
    ),
    unique=True,
    min_size=1,
    max_size=12,
)
CLASSES = ("ant", "Ant", "a/b", "..", "unsure", "", "café", "NUL")


@given(files, st.data())
@settings(max_examples=40)
def test_every_image_is_copied_once_and_none_is_changed(files, data):
    with TemporaryDirectory() as root:
        photos, target = Path(root) / "photos", Path(root) / "sorted"
        for k, (folder, name) in enumerate(files):
            (photos / folder).mkdir(parents=True, exist_ok=True)
            (photos / folder / name).write_bytes(NOISE_PNGS[k % 10] + bytes([k]))  # no two alike
        before = contents(photos)
        images = load_unlabelled(str(photos))
        many = len(images)
        classes = data.draw(st.lists(st.sampled_from((*CLASSES, None)), min_size=many, max_size=many))
        sure = data.draw(st.lists(st.sampled_from((0.25, 0.75)), min_size=many, max_size=many))
        tables = [predictions(classes[:2], sure[:2]), predictions(classes[2:], sure[2:])]
        sort_into(target, images, tables, CLASSES, 0.5)
        assert contents(photos) == before
        folders, unsure = class_folders(CLASSES)
        expected = Counter(
            (unsure if p < 0.5 else folders[name], Path(path).read_bytes())
            for name, p, path in zip(classes, sure, images.files(), strict=True)
            if name is not None
        )
        copies = Counter((path.parent.name, data) for path, data in contents(target).items())
        assert copies == expected
        assert [path.name for path in Path(root).iterdir() if path.name not in ("photos", "sorted")] == []


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_was_sorted_is_read_as_a_data_set(tmp_path):
    classes = ["ant", "a/b", "train", "test", ".hidden", "labels", "unsure"]
    (tmp_path / "in").mkdir()
    for k in range(21):
        noise_image(k).save(tmp_path / "in" / f"{k}.png")
    images = load_unlabelled(str(tmp_path / "in"))
    names = [classes[k % 7] for k in range(21)]
    sort_into(tmp_path / "out", images, [predictions(names, [1.0] * 21)], classes, 0.5)
    reading = read_image_folder(tmp_path / "out")
    labels = reading.train.features["label"].names
    assert labels == sorted(["ant", "a_b", "train_class", "test_class", "hidden", "labels", "unsure"])
    assert Counter(reading.train["label"]) == dict.fromkeys(range(7), 3)


@pytest.mark.parametrize(
    "classes", [["ant", "train", "test"], ["train", "valid"], ["bus", "train", "unlabeled"]]
)
def test_classes_called_as_splits_are_read_as_classes_beside_few_others(tmp_path, classes):
    (tmp_path / "in").mkdir()
    for k in range(12):
        noise_image(k).save(tmp_path / "in" / f"{k}.png")
    images, names = load_unlabelled(str(tmp_path / "in")), [classes[k % len(classes)] for k in range(12)]
    sort_into(tmp_path / "out", images, [predictions(names, [1.0] * 12)], classes, 0.5)
    folders, _ = class_folders(classes)
    reading = read_image_folder(tmp_path / "out")
    assert reading.train.features["label"].names == sorted(folders.values())


def test_images_of_a_table_keep_their_bytes_and_get_names(tmp_path):
    split = split_of(NOISE_PNGS[:3])
    paths = (None, "../x", ".png")
    named = split.images.map(lambda row, k: {"image": {**row["image"], "path": paths[k]}}, with_indices=True)
    split = replace(split, images=named)
    sort_into(tmp_path / "out", split, [predictions(["a"] * 3, [1.0] * 3)], ["a"], 0.0)
    assert contents(tmp_path / "out") == {
        tmp_path / "out/a" / name: data
        for name, data in zip(("000000.png", "x", "png"), NOISE_PNGS[:3], strict=True)
    }


def test_a_file_that_vanished_leaves_nothing(tmp_path):
    (tmp_path / "in").mkdir()
    for k in range(2):
        noise_image(k).save(tmp_path / "in" / f"{k}.png")
    images = load_unlabelled(str(tmp_path / "in"))
    (tmp_path / "in/1.png").unlink()
    with pytest.raises(CheckpointError, match=r"1\.png can no longer be read: No such file"):
        sort_into(tmp_path / "out", images, [predictions(["a", "b"], [1.0, 1.0])], ["a", "b"], 0.0)
    assert list(tmp_path.iterdir()) == [tmp_path / "in"]


def test_a_folder_with_files_or_inside_the_images_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    output = tmp_path / "predictions.csv"
    check_sort_folder(tmp_path / "new", [str(tmp_path / "in")], output)
    with pytest.raises(CheckpointError, match=r"full is not empty, and files in it are never replaced"):
        check_sort_folder(tmp_path / "full", [], output)
    with pytest.raises(CheckpointError, match="is not empty"):
        check_sort_folder(tmp_path / "full/mine.txt", [], output)
    with pytest.raises(CheckpointError, match="lies in .*in, whose images would then be there twice"):
        check_sort_folder(tmp_path / "in/sorted", [str(tmp_path / "in")], output)
