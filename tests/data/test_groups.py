from dataclasses import replace

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lort_hub.data.groups import Grouping, name_groups, number_groups
from lort_hub.data.holdout import hold_out
from lort_hub.data.load import load_long_tailed
from lort_hub.errors import ConfigError, DatasetError
from tests.support.images import fill, split_of


def clips(folder, counts, frames=4, start=0):
    """Clips of frames, named as clip03_2.jpg."""
    fill(folder, {name: clips * frames for name, clips in counts.items()}, start=start)
    for name, clips in counts.items():
        for k in range(clips * frames):
            path = folder / name / f"{k}.jpg"
            path.rename(path.with_name(f"{name}{k // frames:02}_{k % frames}.jpg"))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    clips(folder, {"ant": 10, "bee": 5, "cat": 2, "dog": 1})
    return folder


def clips_of(split):
    return {file.rsplit("/", 1)[1].split("_")[0] for file in split.files()}


def test_a_clip_is_wholly_in_training_or_wholly_in_the_test(clip_folder):
    data = load_long_tailed(str(clip_folder), group_pattern=r"(\w+)_\d")
    assert not clips_of(data.train) & clips_of(data.test)
    assert np.bincount(data.test.labels).tolist() == [8, 4, 4]  # of the only clip of the dog nothing
    assert data.class_counts.tolist() == [32, 16, 4, 4]
    assert "56 training images in 14 groups by `group_pattern" in "".join(data.notes)
    apart = load_long_tailed(str(clip_folder))
    assert clips_of(apart.train) & clips_of(apart.test)


def test_column_pattern_and_file_of_the_same_groups_hold_out_the_same(clip_folder, tmp_path):
    files = sorted(clip_folder.rglob("*.jpg"))
    names = [path.name.split("_")[0] for path in files]
    rows = [f"{path.relative_to(clip_folder)},{name}\n" for path, name in zip(files, names, strict=True)]
    (tmp_path / "groups.csv").write_text("file,group\n" + "".join(rows))
    (tmp_path / "table").mkdir()
    columns = {
        "image": [{"bytes": path.read_bytes(), "path": None} for path in files],
        "label": [path.parent.name for path in files],
        "clip": names,
    }
    kinds = {"image": datasets.Image(), "label": datasets.Value("string"), "clip": datasets.Value("string")}
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
    table.to_parquet(tmp_path / "table/train.parquet")
    found = [
        load_long_tailed(str(clip_folder), group_pattern=r"(\w+)_\d"),
        load_long_tailed(str(clip_folder), group_file=tmp_path / "groups.csv"),
        load_long_tailed(str(tmp_path / "table"), group_column="clip", label_column="label"),
    ]
    assert [data.test.rows.tolist() for data in found] == [found[0].test.rows.tolist()] * 3


def test_a_test_split_of_trained_groups_is_counted(tmp_path):
    clips(tmp_path / "train", {"ant": 4, "bee": 4})
    clips(tmp_path / "test", {"ant": 6, "bee": 2}, start=5000)
    data = load_long_tailed(str(tmp_path), group_pattern=r"(\w+)_\d")
    assert "24 of 32 test images are of groups that are trained on" in "".join(data.notes)
    assert len(data.train) == 32


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=4, max_size=40),
    groups=st.lists(st.integers(0, 9), min_size=40, max_size=40),
    share=st.sampled_from([0.0, 0.1, 0.2, 0.5]),
)
def test_no_group_is_torn_no_class_is_lost_and_each_has_its_share_where_groups_allow(labels, groups, share):
    labels, groups = np.array(labels), np.array(groups[: len(labels)])
    split = split_of([b""] * len(labels))
    split = replace(split, labels=labels, groups=groups, class_names=tuple("abcd"))
    kept, held = hold_out(split, share)
    assert sorted([*kept.rows, *held.rows]) == list(range(len(labels)))
    assert not set(kept.groups) & set(held.groups)
    assert set(kept.labels) == set(labels)
    for label in set(labels):
        wanted = int((labels == label).sum() * share) or int(share > 0 and (labels == label).sum() > 1)
        if (held.labels == label).sum() < wanted:  # every group left holds the last of some class
            for group in set(groups[(labels == label)]) - set(held.groups):
                left = labels[~np.isin(groups, [*held.groups, group])]
                assert set(left) != set(labels)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=12), st.data())
def test_groups_and_copies_are_joined_and_no_more(names, data):
    size = len(names)
    contents = [data.draw(st.integers(0, k)) for k in range(size)]
    contents = [contents[k] if contents[contents[k]] == contents[k] else k for k in range(size)]
    (found,) = number_groups([names], [np.array(contents)])
    reach = {k: {k} for k in range(size)}
    for _ in range(size):
        for k in range(size):
            for j in range(size):
                if contents[k] == contents[j] or (names[k] and names[k] == names[j]):
                    reach[k] |= reach[j]
    for k in range(size):
        assert {j for j in range(size) if found[j] == found[k]} == reach[k]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_pattern": "("}, "no regular expression"),
        ({"group_pattern": "clip"}, "0 pairs of parentheses, expected one"),
        ({"group_pattern": "(a)(b)"}, "2 pairs of parentheses"),
        ({"group_pattern": "(a)", "group_column": "b"}, "`group_column` and `group_pattern` each say"),
    ],
)
def test_what_cannot_name_groups_is_refused_before_anything_is_read(options, message):
    with pytest.raises(ConfigError, match=message):
        load_long_tailed("/nowhere", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"group_pattern": "(patient)"},
            "No image of split 'train' has a group by `group_pattern` '\\(patient",
        ),
        ({"group_column": "lable"}, "No column 'lable'. Did you mean 'label'"),
        ({"group_file": "/nowhere.csv"}, "Cannot read `group_file` '/nowhere.csv'"),
    ],
)
def test_groups_that_are_not_there_are_refused(clip_folder, options, message):
    with pytest.raises(DatasetError, match=message):
        load_long_tailed(str(clip_folder), **options)


def test_a_file_of_groups_without_its_columns_is_refused(clip_folder, tmp_path):
    (tmp_path / "groups.csv").write_text("name,clip\na,b\n")
    with pytest.raises(DatasetError, match="has the columns name, clip, expected file and group"):
        load_long_tailed(str(clip_folder), group_file=tmp_path / "groups.csv")


def test_digits_have_no_file_names():
    with pytest.raises(DatasetError, match="have no file names, which `group_pattern` '\\(a\\)' needs"):
        load_long_tailed("digits", group_pattern="(a)")


def test_grouping_says_what_was_given():
    assert Grouping().given is None
    assert Grouping(column="patient").given == "`group_column` 'patient'"


NAMES = ["c1_0.jpg", "c1_1.jpg", "_2.jpg", "_3.jpg"]


@pytest.mark.parametrize("by", ["column", "pattern", "file"])
def test_blank_names_and_short_rows_group_no_strangers(by, tmp_path):
    split = split_of([b""] * 4)
    rows = datasets.Dataset.from_dict({"image": [{"bytes": b"", "path": name} for name in NAMES]})
    split = replace(split, images=rows.cast(split.images.features))
    file = tmp_path / "groups.csv"
    file.write_text("\n".join(["group,file", "c1,c1_0.jpg", "c1 , c1_1.jpg", "c3", ",_2.jpg", " ,_3.jpg"]))
    grouping = Grouping(**{by: {"column": "clip", "pattern": "([^_]*)_", "file": file}[by]})
    rows = split.images.add_column("clip", ["c1", " c1", "", " "])
    assert name_groups(grouping, split, rows) == ["c1", "c1", None, None]


def test_an_empty_name_of_a_column_is_no_column(clip_folder):
    with pytest.raises(DatasetError, match="No column ''"):
        load_long_tailed(str(clip_folder), group_column="")
