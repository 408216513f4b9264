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


@pytest.mark.parametrize(
    "text",
    [
        "Class;Count\nCat;3\npolar bear;0\n",
        "class\tcount\ncat\t3\nPolar Bear\t0\n",
        "class, count\ncat, 3\npolar bear, 0\n",
        "class,count\ncat,3\npolar bear,0\n,\n",
        "cat;3\npolar bear;0\n",
        "polar bear\t0\ncat\t3\n",
        "id,COUNT,note,CLASS\n7,3,,cat\n8,0,,polar bear\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_forms_that_spreadsheets_write_are_read(tmp_path, text, encoding):
    path = tmp_path / "counts.csv"
    path.write_text(text, encoding=encoding)
    _, numbers = read(path, ["cat", "polar bear"])
    assert [number.strip() for number in numbers] == ["3", "0"]


def test_a_file_of_an_older_excel_is_read(tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text("class;count\nbär;3\n", encoding="cp1252")
    assert read(path, ["bär"]) == ("count", ["3"])


def test_a_first_row_is_one_of_numbers_only_where_it_is_a_class_and_a_number(tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text("klasse,anzahl\ncat,3\n")
    with pytest.raises(ConfigError, match="columns klasse, anzahl"):
        read(path, ["cat"])
    path.write_text("3,17\n4,5\n")
    assert read(path, ["3", "4"]) == ("number", ["17", "5"])
    path.write_text("17,cat\n5,dog\n")
    with pytest.raises(ConfigError, match="columns 17, cat"):
        read(path, ["cat", "dog"])


def test_classes_that_differ_in_capitals_alone_are_named_exactly(tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text("class,count\nAnt,3\nant,1\nBEE,2\n")
    assert read(path, ["ant", "Ant", "bee"]) == ("count", ["1", "3", "2"])
    path.write_text("class,count\nANT,3\nant,1\nbee,2\n")
    with pytest.raises(ConfigError, match="the class 'ANT', which the data set has not"):
        read(path, ["ant", "Ant", "bee"])
    path.write_text("class,count\nbee,3\nBee,1\n")
    with pytest.raises(ConfigError, match="the class 'bee' twice, in the rows 'bee, 3' and 'Bee, 1'"):
        read(path, ["bee"])


def test_a_decimal_comma_between_commas_is_no_cell_that_is_left_out(tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text("class,count\ncat,0,5\n")
    with pytest.raises(ConfigError, match="a row of 3 cells, expected 2: cat, 0, 5"):
        read(path, ["cat"])
