"""Which images are tested, and which are counted, of folders with a training split and without."""

import numpy as np
import pytest

from lort_hub.data.labelled import load_labelled
from lort_hub.data.load import load_long_tailed
from lort_hub.errors import ConfigError, DatasetError, NoSplitError
from tests.support.images import fill

COUNTS = {"ant": 6, "bee": 4}


def images_of(data):
    return dict(zip(data.class_names, np.bincount(data.test.labels).tolist(), strict=True))


def test_a_data_set_with_both_splits_is_read_as_for_training(tmp_path):
    fill(tmp_path / "train", COUNTS)
    fill(tmp_path / "test", {"ant": 2, "bee": 3}, start=900)
    data, both = load_labelled(str(tmp_path)), load_long_tailed(str(tmp_path))
    assert data.test.fingerprint() == both.test.fingerprint()
    assert (data.class_counts.tolist(), data.source) == ([6, 4], both.source)


def test_without_a_test_split_the_fifth_that_training_holds_out_is_tested(tmp_path):
    fill(tmp_path, COUNTS)
    data, both = load_labelled(str(tmp_path)), load_long_tailed(str(tmp_path))
    assert data.test.rows.tolist() == both.test.rows.tolist()
    assert data.class_counts.tolist() == [5, 3]
    assert "held out by lort_hub" in data.describe()


@pytest.mark.parametrize(
    ("split", "options"),
    [
        ("test", {}),
        ("val", {}),
        ("", {"train_split": "none"}),
        ("test", {"train_split": "none", "test_split": "test"}),
        ("mine", {"train_split": "none", "test_split": "mine"}),
    ],
)
def test_images_that_are_all_for_the_test(tmp_path, split, options):
    fill(tmp_path / split, COUNTS)
    data = load_labelled(str(tmp_path), **options)
    assert (images_of(data), data.class_counts) == (COUNTS, None)
    assert data.source["train_split"] is None
    assert data.split == (split or "train")


def test_classes_without_a_training_image_can_be_tested_alone(tmp_path):
    fill(tmp_path / "train", COUNTS)
    fill(tmp_path / "test", {**COUNTS, "cat": 2}, start=900)
    with pytest.raises(DatasetError, match="no training image: 'cat'"):
        load_labelled(str(tmp_path))
    data = load_labelled(str(tmp_path), train_split="none")
    assert images_of(data) == {**COUNTS, "cat": 2}


def test_a_split_that_is_not_there_is_no_reason_to_test_another(tmp_path):
    fill(tmp_path / "test", COUNTS)
    with pytest.raises(NoSplitError, match="No split 'trian'"):
        load_labelled(str(tmp_path), train_split="trian")
    with pytest.raises(NoSplitError, match="No split 'tset'"):
        load_labelled(str(tmp_path), train_split="none", test_split="tset")


def test_a_test_split_that_cannot_be_read_is_no_reason_to_test_another(tmp_path):
    import datasets

    images = {"image": [{"bytes": b"", "path": None}] * 4}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    for name, labels in {"train": [0, 1, 0, 1], "test": [0, 1, 0, None]}.items():
        rows = datasets.Dataset.from_dict({**images, "label": labels}, features=features)
        rows.to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(DatasetError, match=r"Row 3 of split 'test' has no label"):
        load_labelled(str(tmp_path), train_split="none")


def test_one_class_is_refused(tmp_path):
    fill(tmp_path / "test", {"ant": 3})
    with pytest.raises(DatasetError):
        load_labelled(str(tmp_path), train_split="none")


@pytest.mark.parametrize("split", [None, "none"])
def test_options_that_it_does_not_have_are_refused(split):
    with pytest.raises(ConfigError, match=r"no option `imbalanse`.*`?imbalance"):
        load_labelled("digits", train_split=split, imbalanse="exp:10")


def test_options_without_effect_are_said():
    data = load_labelled("digits", train_split="none", imbalance="exp:10", on_duplicate="keep")
    assert [note for note in data.notes if "has no effect" in note] == [
        "There is no training split, so that `imbalance` has no effect."
    ]
