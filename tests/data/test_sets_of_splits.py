"""Test lists and splits of several sets: those of the set that is trained on are read, and no other."""

import pytest

from tests.support.tables import TEST, TRAIN, Forms, write_csv, write_pictures

FORMS = Forms()
read = FORMS.read
OTHER = [0, 1, 2, 2, 1, 0]


def lists(folder, **labels):
    """A list NAME.csv and pictures for each set of labels."""
    for name, of in labels.items():
        rows = write_pictures(folder / "images", of, f"{name}{{row}}.png")
        write_csv(folder / f"{name}.csv", rows)
    return folder


@read("subset", notes=["6 images lie in other folders than those of small_train.csv, small_test.csv"])
def the_test_list_of_another_subset(folder):
    lists(folder, small_train=TRAIN, small_test=TEST, large_test=OTHER)
    for path in folder.glob("images/large*"):
        path.rename(folder / path.name)
    return folder / "small_train.csv"


@read("domain", notes=["12 images lie in other folders than those of real_train.csv, real_test.csv"])
def the_test_list_of_another_domain(folder):
    lists(folder, real_train=TRAIN, real_test=TEST, sketch_test=OTHER, sketch_val=OTHER)
    for path in folder.glob("images/sketch*"):
        path.rename(folder / path.name)
    return folder / "real_train.csv"


@read("fold", notes=["6 images have no row in train_1.csv, test_1.csv"])
def the_test_list_of_another_fold(folder):
    return lists(folder, train_1=TRAIN, test_1=TEST, test_2=OTHER) / "train_1.csv"


@read("labels")
def a_test_list_called_otherwise(folder):
    return lists(folder, train=TRAIN, test_labels=TEST) / "train.csv"


@read(
    "none",
    tested=(5, 5, 5),
    notes=["Read as the test of train.csv, though called otherwise: large_test.csv, small_test.csv"],
)
def lists_none_of_which_is_called_so(folder):
    return lists(folder, train=TRAIN, small_test=TEST, large_test=OTHER) / "train.csv"


@read(
    "folder",
    counts=(14, 9, 7),
    notes=["Joined as the split 'train': large_train.csv, small_train.csv"],
)
def training_lists_of_two_sets(folder):
    return lists(folder, small_train=TRAIN, large_train=OTHER, test=TEST)


def column(folder, words, name="split"):
    """A list with a column of splits, of the word for each set of labels."""
    rows = []
    for word, labels in words.items():
        rows += [(*row, word) for row in write_pictures(folder / "images", labels, f"{word}{{row}}.png")]
    write_csv(folder / "metadata.csv", rows, header=("file", "label", name))
    return folder


WILDS = {"train": TRAIN, "val": OTHER, "test": TEST, "id_val": OTHER, "id_test": OTHER}


@read("wilds", notes=["Column 'split' tells the splits: train, validation, test, id_val, id_test"])
def the_test_and_another_one_that_is_called_longer(folder):
    return column(folder, WILDS)


@read("wilds-other", tested=(2, 2, 2), test_split="id_test", notes=["tells the splits"])
def the_other_test_by_its_name(folder):
    return column(folder, WILDS)


@read("fer", tested=(5, 5, 5), notes=["'Usage' tells the splits: train, test (PrivateTest, PublicTest)"])
def two_tests_with_longer_names(folder):
    return column(folder, {"Training": TRAIN, "PublicTest": OTHER, "PrivateTest": TEST}, "Usage")


@pytest.mark.parametrize("id", FORMS.reads)
def test_set_is_read(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")
