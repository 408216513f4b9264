"""Columns that tell the split of each row, under the names and with the words that people give them."""

import pytest

from lort_hub.data.load import load_long_tailed
from tests.support.tables import TEST, TRAIN, Forms, cells, texts, write_csv, write_pictures, write_plain

FORMS = Forms()
read, refused = FORMS.read, FORMS.refused


def listed(folder, column, train, test, more=(), label="label"):
    """A list of pictures with a column of splits, and further columns by their names."""
    rows = []
    for split, labels, cell in (("train", TRAIN, train), ("test", TEST, test)):
        rows += [(*row, cell) for row in write_pictures(folder / "images", labels, f"{split[1:]}{{row}}.png")]
    rows = [(*row, *(k % 2 for _ in more)) for k, row in enumerate(rows)]
    write_csv(folder / "labels.csv", rows, header=("file", label, column, *more))
    return folder


@read("fastai", notes=["Column 'is_valid' tells the splits: train, validation"])
def is_valid_as_fastai_has_it(folder):
    return listed(folder, "is_valid", "False", "True")


@refused("sound", says="'is_valid' says yes for 24 of 33 rows: are they for validation, or sound")
def is_valid_of_most_rows(folder):
    return listed(folder, "is_valid", "True", "False")


@read("sound", counts=(12, 8, 7), tested=(3, 2, 1), train_split="train")
def is_valid_that_is_no_split(folder):
    return listed(folder, "is_valid", "True", "False")


@read("parquet", notes=["Column 'is_validation' tells the splits: train, validation"])
def a_column_of_truth(folder):
    flags = [False] * len(TRAIN) + [True] * len(TEST)
    images = cells(TRAIN) + cells(TEST)
    write_plain(folder / "data.parquet", images, texts(TRAIN + TEST), is_validation=flags)
    return folder


@read("bare", notes=["Column 'train' tells the splits: train, test"])
def a_column_called_train(folder):
    return listed(folder, "train", "True", "False")


@read(
    "bare-numbers",
    notes=[
        "Column 'test' tells the splits: train, test. By it 9 of 33 rows are not trained on; where it is an "
        'attribute, `train_split="train"` reads every row as one to train on.'
    ],
)
def a_column_called_test_of_numbers(folder):
    return listed(folder, "test", 0, 1)


@read("two", notes=["Column 'is_train' tells the splits: train, test."])
def two_columns_of_splits_of_which_none_is_the_label(folder):
    listed(folder, "is_train", 1, 0, label="kind")
    rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    named = [(*row, 1 - int(row[2])) for row in rows]
    write_csv(folder / "labels.csv", named, header=("file", "kind", "is_train", "is_test"))
    return folder


def two_published_splits(folder, other):
    listed(folder, "split_1", "train", "test")
    rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    named = [(*row, other(row[2], k)) for k, row in enumerate(rows)]
    write_csv(folder / "labels.csv", named, header=("file", "label", "split_1", "split_2"))
    return folder


read(
    "other-splits",
    notes=[
        "Column 'split_2' tells other splits than 'split_1', and is not read: take 'split_1' away to read"
    ],
)(lambda folder: two_published_splits(folder, lambda _, row: ("train", "test")[row % 2]))


@pytest.mark.parametrize("same", [str, str.upper])
def test_a_second_column_of_the_same_splits_is_not_noted(same, tmp_path):
    folder = two_published_splits(tmp_path, lambda split, _: same(split))
    assert not any("split_2" in note for note in load_long_tailed(str(folder)).notes)


@refused("alone", says="'test' tells the splits, and no other one is left.*`label_column=\"test\"`")
def a_column_called_test_alone(folder):
    rows = [(name, int(label == "ant")) for name, label in write_pictures(folder, TRAIN)]
    write_csv(folder / "labels.csv", rows, header=("file", "test"))
    return folder


@read("no-attribute", notes=["Column 'split' tells the splits: train, test."])
def a_column_of_splits_is_not_one_of_labels(folder):
    return listed(folder, "split", "train", "test", label="kind")


@refused("flags", says="Column 'train' may tell a split, or a class as bus, car may")
def a_class_called_train_among_others(folder):
    return listed(folder, "train", 1, 0, more=("bus", "car"))


@read("flags", counts=(12, 8, 7), tested=(3, 2, 1), train_split="train")
def a_class_called_train_that_is_no_split(folder):
    return listed(folder, "train", 1, 0, more=("bus", "car"))


@read("words", counts=(12, 8, 7), tested=(3, 2, 1))
def a_column_called_test_of_words(folder):
    return listed(folder, "test", "blood", "urine")


@refused(
    "dcase", says="Column 'subset' looks like the split of each image, but 24 of 33 rows hold 'development'"
)
def development_and_evaluation(folder):
    return listed(folder, "subset", "development", "evaluation")


@refused(
    "automl", says="Column 'ml_use' looks like the split of each image, but 24 of 33 rows hold 'UNASSIGNED'"
)
def unassigned_and_test(folder):
    return listed(folder, "ml_use", "UNASSIGNED", "TEST")


@refused("blank", says="Column 'set' looks like the split of each image, but 24 of 33 rows hold ''")
def empty_cells_and_test(folder):
    return listed(folder, "set", "", "test")


@read("word-in-labels", names=("ant", "test"), counts=(12, 2), tested=(3, 1), told_by_pixels=False)
def a_class_called_test(folder):
    rows = [
        (file, "test" if label == "bee" else label)
        for file, label in write_pictures(folder, [0] * 15 + [1] * 3)
    ]
    write_csv(folder / "labels.csv", rows, header=("file", "label"))
    return folder


@refused(
    "celeba",
    says="Column 'partition' of list_eval_partition.csv tells splits of images whose labels are in",
)
def splits_in_a_list_of_their_own(folder):
    rows = write_pictures(folder / "images", TRAIN)
    write_csv(
        folder / "list_attr.csv",
        [(file, label, k % 2) for k, (file, label) in enumerate(rows)],
        ("f", "sex", "hat"),
    )
    write_csv(
        folder / "list_eval_partition.csv",
        [(file, k % 3) for k, (file, _) in enumerate(rows)],
        ("f", "partition"),
    )
    return folder


@pytest.mark.parametrize("id", FORMS.reads)
def test_split_is_read(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_split_is_refused_with_what_to_do(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")
