"""Files of one number a class: every class is named once, and errors say what to do."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lort_hub.data.class_file import read_class_file
from lort_hub.errors import ConfigError

COLUMNS = (("name", "train_images"), ("class", "count"))


def read(path, names):
    return read_class_file(path, names, COLUMNS, "class and count")


@given(st.dictionaries(st.text("abcé ,'\"", min_size=1), st.integers(0), min_size=1), st.randoms())
def test_numbers_come_in_the_order_of_the_classes_in_any_order_of_rows(tmp_path_factory, numbers, random):
    path = tmp_path_factory.mktemp("file") / "numbers.csv"
    rows = list(numbers.items())
    random.shuffle(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("note", "count", "class"), *(("", n, name) for name, n in rows)])
    assert read(path, list(numbers)) == ("count", [str(n) for n in numbers.values()])


def test_the_first_pair_of_columns_that_the_file_has_is_read(tmp_path):
    path = tmp_path / "per_class.csv"
    path.write_text("class,count,name,train_images\nx,1,cat,7\n")
    assert read(path, ["cat"]) == ("train_images", ["7"])


def test_many_classes_that_are_missing_are_counted(tmp_path):
    path = tmp_path / "few.csv"
    path.write_text("class,count\na,1\n")
    with pytest.raises(ConfigError, match=r"no row for b, c, d, e, f and 1 more; expected one for each"):
        read(path, list("abcdefg"))
