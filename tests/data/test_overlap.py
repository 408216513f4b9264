import hashlib
import re
import shutil
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lort_hub.audit.collect import Audit
from lort_hub.data.dataset import Duplicate
from lort_hub.data.load import load_long_tailed
from lort_hub.data.overlap import TAIL, number_contents, write_duplicates
from lort_hub.errors import DatasetError
from lort_hub.evaluation.metrics import evaluate
from lort_hub.evaluation.report_page import Answers, render_report
from tests.support.images import fill, split_of
from tests.support.tables import zipped

LONG = bytes(TAIL)
CONTENTS = st.sampled_from([b"a", b"b", b"ab", b"a" + LONG, b"b" + LONG, LONG + b"a", b"", None])


@settings(max_examples=100, deadline=None)
@given(train=st.lists(CONTENTS, min_size=1, max_size=12), test=st.lists(CONTENTS, max_size=6))
def test_numbers_are_equal_exactly_where_the_bytes_are(train, test):
    numbers = np.concatenate(number_contents(split_of(train), split_of(test)))
    contents = [content or at for at, content in enumerate(train + test)]  # nothing is equal to nothing
    for one, number in zip(contents, numbers, strict=True):
        for other, another in zip(contents, numbers, strict=True):
            assert (one == other) == (number == another)


@pytest.fixture
def leaking(tmp_path):
    """Five of six test images are in training, one of them in another class, one of them twice."""
    fill(tmp_path / "train", {"ant": 5, "bee": 4})
    fill(tmp_path / "test", {"ant": 3, "bee": 3}, start=5000)
    for split, name, number, place in (
        ("test", "ant", 0, "train/ant/copy.jpg"),
        ("test", "ant", 1, "train/bee/other_class.jpg"),
        ("test", "bee", 0, "train/bee/copy.jpg"),
        ("test", "bee", 0, "train/bee/again.jpg"),
        ("train", "bee", 3, "test/bee/1.jpg"),
        ("train", "ant", 4, "test/ant/2.jpg"),
    ):
        shutil.copy(tmp_path / split / name / f"{number}.jpg", tmp_path / place)
    return tmp_path


def test_test_images_that_are_trained_on_are_counted_listed_and_said(leaking):
    data = load_long_tailed(str(leaking))
    assert data.source["duplicates"] == {"training": 6, "test": 5, "other_class": 1}
    assert "5 of 6 test images are training images too, byte for byte (1 in another class)" in "".join(
        data.notes
    )
    assert data.class_counts.tolist() == [6, 7]
    listed = defaultdict(set)
    for one in data.duplicates:
        assert one.sha256 == hashlib.sha256((leaking / one.file).read_bytes()).hexdigest()
        assert one.file.split("/")[:2] == [one.split, one.class_name]
        split = data.train if one.used_for == "training" else data.test
        assert split.images[one.row]["image"]["path"] == str(leaking / one.file)
        listed[one.sha256].add(one.file)
    assert sorted(map(sorted, listed.values())) == [
        ["test/ant/0.jpg", "train/ant/copy.jpg"],
        ["test/ant/1.jpg", "train/bee/other_class.jpg"],
        ["test/ant/2.jpg", "train/ant/4.jpg"],
        ["test/bee/0.jpg", "train/bee/again.jpg", "train/bee/copy.jpg"],
        ["test/bee/1.jpg", "train/bee/3.jpg"],
    ]


@pytest.mark.parametrize("layout", ["archive", "archive beside the cache", "archives", "snapshot"])
def test_what_is_written_holds_no_paths_of_the_cache(layout, leaking, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("packed")
    if "cache" in layout:  # as in a home folder
        monkeypatch.setenv("LORT_HUB_CACHE", str(folder / ".cache"))
    shutil.copy(leaking / "train/ant/3.jpg", leaking / "train/bee/twin.jpg")
    if layout == "snapshot":
        shutil.copytree(leaking, folder / "snapshots/0b271")
        rows = [f"{path},{path.parent.name}" for path in sorted((folder / "snapshots").rglob("*.jpg"))]
        for split in ("train", "test"):
            lines = ["file,label", *(row for row in rows if f"/{split}/" in row)]
            (leaking / "lists").mkdir(exist_ok=True)
            (leaking / f"lists/{split}.csv").write_text("\n".join(lines))
        spec = leaking / "lists/train.csv"
    elif layout != "archives":
        spec = folder / "photos.zip"
        zipped(spec, leaking)
    else:
        spec = folder
        for split in ("train", "test"):
            zipped(folder / f"{split}.zip", leaking / split)
    data = load_long_tailed(str(spec))
    audit = Audit.collect(data)
    files = {one.file for one in (*data.duplicates, *audit.copies)}
    files |= {audit.place(at).file for at in range(len(audit.facts))}
    files |= {data.test.name_of(file) for file in data.test.files()}
    assert len(files) == 20
    assert all(re.fullmatch(r"(train|test)/(ant|bee)/\w+\.jpg", file) for file in files)
    assert not any(str(folder) in note or "cache" in note for note in data.notes if "byte for byte" in note)
    images = data.test
    answers = Answers("lort", np.eye(2)[1 - images.labels], images.labels, images)
    report = evaluate(answers.logits, answers.labels, data.class_counts)
    page = render_report("Photos", {"lort": report}, data.class_names, answers=answers)
    assert "test/ant/" in page
    assert str(data.test.root) not in page


def test_copies_in_two_classes_are_counted_and_kept(tmp_path):
    fill(tmp_path, {"ant": 6, "bee": 5})
    for number in range(4):
        shutil.copy(tmp_path / "ant" / f"{number}.jpg", tmp_path / "bee" / f"copy{number}.jpg")
    shutil.copy(tmp_path / "ant/5.jpg", tmp_path / "ant/again.jpg")
    data = load_long_tailed(str(tmp_path))
    note = next(note for note in data.notes if "two classes" in note)
    assert note.startswith("8 images lie in two classes or more, byte for byte, such as ant/")
    assert "('ant') and bee/copy" in note
    assert len(data.train) + len(data.test) == 16


def test_copies_in_one_class_are_not_noted(tmp_path):
    fill(tmp_path, {"ant": 6, "bee": 5})
    shutil.copy(tmp_path / "ant/5.jpg", tmp_path / "ant/again.jpg")
    assert not any("byte for byte" in note for note in load_long_tailed(str(tmp_path)).notes)


def test_dropping_takes_the_copies_out_of_training_alone(leaking):
    kept, data = (load_long_tailed(str(leaking), on_duplicate=what) for what in ("keep", "drop"))
    assert len(data.test) == len(kept.test)
    shared = {one.row for one in kept.duplicates if one.used_for == "training"}
    assert set(kept.train.rows) - set(data.train.rows) == shared
    assert data.duplicates == ()
    assert data.source["duplicates"]["test"] == 0
    assert "6 training images were left out" in "".join(data.notes)


def test_dropping_a_whole_class_is_refused(tmp_path):
    fill(tmp_path / "train", {"ant": 5, "bee": 4})
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    with pytest.raises(DatasetError, match="All training images of 'ant', 'bee' are test images too"):
        load_long_tailed(str(tmp_path), on_duplicate="drop")


def test_the_same_file_in_both_splits_is_refused(tmp_path):
    fill(tmp_path / "train", {"ant": 5, "bee": 4})
    fill(tmp_path / "test", {"ant": 1, "bee": 1}, start=5000)
    (tmp_path / "test/ant/link.jpg").symlink_to(tmp_path / "train/ant/0.jpg")
    with pytest.raises(
        DatasetError, match=r"1 training images are test images, the same files(.|\n)*ant/0.jpg"
    ):
        load_long_tailed(str(tmp_path))
    assert len(load_long_tailed(str(tmp_path), on_duplicate="drop").train) == 8


def test_one_file_as_the_training_and_the_test_split_is_refused(photos):
    with pytest.raises(DatasetError):
        load_long_tailed(str(photos), train_split="train", test_split="train")


def test_copies_in_a_cut_count_only_where_they_are_in_it(leaking):
    whole, cut = (load_long_tailed(str(leaking), imbalance=how) for how in ("none", "step:2:0.5"))
    rows = {one.row for one in whole.duplicates if one.used_for == "training"}
    assert {one.row for one in cut.duplicates if one.used_for == "training"} == rows & set(cut.train.rows)


def test_a_part_that_is_held_out_for_the_test_shares_no_picture_with_the_rest(tmp_path):
    fill(tmp_path, {"ant": 10, "bee": 10})
    for k in range(10):
        shutil.copy(tmp_path / f"ant/{k}.jpg", tmp_path / f"ant/{k}_copy.jpg")
        shutil.copy(tmp_path / f"ant/{k}.jpg", tmp_path / f"bee/{k}_of_ant.jpg")
    data = load_long_tailed(str(tmp_path))
    assert len(data.test) >= 6
    assert data.duplicates == ()
    assert not set(data.train.contents) & set(data.test.contents)


def test_classes_without_test_images_and_few_test_images_are_said(tmp_path):
    fill(tmp_path, {"ant": 15, **{f"one_{k:02}": 1 for k in range(19)}})
    notes = load_long_tailed(str(tmp_path)).notes
    assert notes[0].startswith("19 of 20 classes have no test image")
    assert notes[0].endswith("'one_00', 'one_01', 'one_02', 'one_03', 'one_04' and 14 more.")
    assert notes[1].startswith("3 test images for 20 classes")


def test_duplicates_of_names_that_a_spreadsheet_would_run_are_harmless(tmp_path):
    write_duplicates(tmp_path, [Duplicate("ab", "test", "test", 0, "=1+1/0.jpg", "=1+1")])
    assert (tmp_path / "duplicates.csv").read_text().splitlines()[1] == "ab,test,test,0,./=1+1/0.jpg,'=1+1"
