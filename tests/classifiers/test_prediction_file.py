"""Predictions in three formats: what spreadsheets, pandas and pyarrow read."""

import csv
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lort_hub.classifiers.prediction_file import check_decoded, check_format, write_predictions
from lort_hub.data.tables.lists import read_list
from lort_hub.errors import CheckpointError, ConfigError
from lort_hub.spreadsheets import FORMULA, read_harmless

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
FORMULAS = st.tuples(st.sampled_from(["", "'", "''"]), st.sampled_from(FORMULA), TEXTS).map("".join)


def table(files, classes, probabilities, errors):
    columns = {"file": pa.array(files, pa.string()), "class_1": pa.array(classes, pa.string())}
    columns["probability_1"] = pa.array(probabilities, pa.float32())
    return pa.table({**columns, "error": pa.array(errors, pa.string())})


def test_the_csv_by_hand(tmp_path):
    first = table(["a/é.jpg", 'say "x",\n.jpg'], ["ant", None], [0.12345678, None], [None, "cut short"])
    second = table(["b.jpg"], ["bee"], [1.0], [None])
    write_predictions(tmp_path / "p.csv", iter([first, second]))
    assert (tmp_path / "p.csv").read_bytes().decode() == (
        "file,class_1,probability_1,error\r\n"
        "a/é.jpg,ant,0.123457,\r\n"
        '"say ""x"",\n.jpg",,,cut short\r\n'
        "b.jpg,bee,1.0,\r\n"
    )


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_file_of_something_else_is_no_file_of_predictions(suffix, tmp_path):
    path = tmp_path / f"p{suffix}"
    one = table(["a.jpg"], ["ant"], [0.5], [None])
    write_predictions(path, iter([one]))
    check_decoded(path)
    write_predictions(path, iter([one.drop_columns("error")]))
    with pytest.raises(CheckpointError, match="is no file of predictions"):
        check_decoded(path)
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(CheckpointError, match="is no file of predictions"):
        check_decoded(path)


@pytest.mark.parametrize("start", FORMULA)
def test_no_cell_of_the_csv_is_a_formula(start, tmp_path):
    attack = f"{start}HYPERLINK(1)"
    one = table([f"{attack}.jpg"], [attack], [0.5], [attack])
    for suffix in (".csv", ".jsonl", ".parquet"):
        write_predictions(tmp_path / f"p{suffix}", iter([one]))
    with (tmp_path / "p.csv").open(newline="") as file:
        [row] = list(csv.DictReader(file))
    assert row == {
        "file": f"./{attack}.jpg", "class_1": f"'{attack}", "probability_1": "0.5", "error": f"'{attack}"
    }  # fmt: skip
    assert json.loads((tmp_path / "p.jsonl").read_text())["class_1"] == attack
    assert pq.read_table(tmp_path / "p.parquet")["file"].to_pylist() == [f"{attack}.jpg"]


@given(st.lists(st.tuples(TEXTS, TEXTS | FORMULAS, st.floats(0, 1, width=32)), min_size=1, max_size=6))
def test_any_text_is_read_back_as_it_was(rows):
    files, classes, probabilities = zip(*rows, strict=True)
    one = table(files, classes, probabilities, [None] * len(rows))
    with TemporaryDirectory() as folder:
        for suffix in (".csv", ".jsonl", ".parquet"):
            write_predictions(Path(folder) / f"p{suffix}", iter([one]))
        with (Path(folder) / "p.csv").open(newline="", encoding="utf-8") as file:
            read = list(csv.DictReader(file))
        for row, (name, label, probability) in zip(read, rows, strict=True):
            assert row["file"].removeprefix("./" if name.startswith(FORMULA) else "") == name
            assert not row["class_1"].startswith(FORMULA)
            assert read_harmless(row["class_1"]) == label
            assert float(row["probability_1"]) == pytest.approx(probability, rel=1e-5)
        lines = (Path(folder) / "p.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        assert [json.loads(line)["file"] for line in lines] == list(files)
        assert pq.read_table(Path(folder) / "p.parquet").equals(one)


def test_as_a_data_set_its_classes_are_those_of_the_model(tmp_path):
    names = ["=0", "'=1", "'tis", "bee"]
    write_predictions(tmp_path / "p.csv", iter([table(["a.jpg"] * 4, names, [0.5] * 4, [None] * 4)]))
    assert read_list(tmp_path / "p.csv").columns["class_1"] == names
    own = tmp_path / "own.csv"  # of somebody else, whose texts are what they are
    own.write_text("file,class_1\na.jpg,'=0\n")
    assert read_list(own).columns["class_1"] == ["'=0"]


def test_pandas_reads_all_three_alike(tmp_path):
    one = table(["a.jpg", "b.jpg"], ["ant", None], [0.25, None], [None, "cut short"])
    for suffix in (".csv", ".jsonl", ".parquet"):
        write_predictions(tmp_path / f"p{suffix}", iter([one, one]))
    frames = [
        pandas.read_csv(tmp_path / "p.csv"),
        pandas.read_json(tmp_path / "p.jsonl", lines=True),
        pandas.read_parquet(tmp_path / "p.parquet"),
    ]
    for frame in frames:
        assert list(frame.columns) == ["file", "class_1", "probability_1", "error"]
        assert frame["probability_1"].fillna(-1).tolist() == [0.25, -1, 0.25, -1]
        assert frame["error"].isna().tolist() == [True, False] * 2
    assert frames[2].dtypes["probability_1"] == np.float32


@pytest.mark.parametrize(("name", "hint"), [("p.json", "Did you mean '.jsonl'"), ("p", "''"), ("p.xlsx", "")])
def test_another_format_is_refused_with_the_list(name, hint, tmp_path):
    with pytest.raises(ConfigError, match=r"Expected a file that ends in \.csv, \.jsonl, \.parquet") as error:
        check_format(tmp_path / name)
    assert hint in str(error.value)
    check_format(tmp_path / "P.CSV")
