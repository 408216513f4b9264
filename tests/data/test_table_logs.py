"""Tables whose folders hold files of removed rows, too."""

import json

import pandas as pd
import pytest

from lort_hub.data.load import load_long_tailed
from tests.support.files import fill
from tests.support.tables import TEST, TRAIN, refusal, write_parquet, write_pictures

PARTS = ("part-0.parquet", "part-1.parquet")


def delta(folder, *commits, first=0):
    """Two files of a Delta table, and a log of actions."""
    for name, labels in zip(PARTS, (TRAIN, TEST), strict=True):
        write_parquet(folder / name, labels)
    logs = {
        f"_delta_log/{first + k:020}.json": "\n".join(map(json.dumps, actions))
        for k, actions in enumerate(commits)
    }
    fill(folder, {**logs, "_delta_log/_last_checkpoint": "{}"})


def action(kind, name, **more):
    return {kind: {"path": name, **more}}


def size(folder):
    data = load_long_tailed(str(folder))
    return len(data.train) + len(data.test), [note for note in data.notes if "_delta_log" in note]


def test_files_that_delta_has_removed_are_not_read(tmp_path):
    both = [{"protocol": {"minReaderVersion": 1}}, *(action("add", name) for name in PARTS)]
    delta(tmp_path / "whole", both)
    assert size(tmp_path / "whole") == (len(TRAIN + TEST), [])
    delta(tmp_path / "part", both, [action("remove", "part-1.parquet")])
    note = "1 of 2 files of tables are not read: _delta_log does not name them."
    assert size(tmp_path / "part") == (len(TRAIN), [note])


def test_each_split_may_be_a_table_of_delta(tmp_path):
    for split in ("train", "test"):
        delta(tmp_path / split, [action("add", "part%2D1.parquet")])
    number, (note,) = size(tmp_path)
    assert number == 2 * len(TEST)
    assert "2 of 4 files" in note


@pytest.mark.parametrize(
    ("says", "commits", "first"),
    [
        ("in checkpoints", [[action("add", "part-0.parquet")]], 10),
        ("rows were removed", [[action("add", "part-0.parquet", deletionVector={"sizeInBytes": 1})]], 0),
        ("names no file", [], 0),
        ("is missing", [[action("add", "part-2.parquet")]], 0),
        ("is not read: ", [[action("add", None)]], 0),
    ],
)
def test_a_log_that_does_not_tell_all_files_is_refused(tmp_path, says, commits, first):
    delta(tmp_path, *commits, first=first)
    assert says in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "log"),
    [
        ("Iceberg", "metadata/v2.metadata.json"),
        ("Iceberg", "metadata/00001-0b5c.metadata.json"),
        ("Hudi", ".hoodie/hoodie.properties"),
    ],
)
def test_tables_of_iceberg_and_hudi_are_refused(tmp_path, name, log):
    for part, labels in zip(PARTS, (TRAIN, TEST), strict=True):
        write_parquet(tmp_path / "data" / part, labels)
    assert size(tmp_path)[0] == len(TRAIN + TEST)
    fill(tmp_path, {log: '{"format-version": 2}'})
    assert f"is a table of {name}" in refusal(tmp_path)


def test_logs_of_tables_that_are_no_data_refuse_nothing(tmp_path):
    write_parquet(tmp_path / "train.parquet", TRAIN)
    rows = pd.DataFrame({"feature": [0.5]})
    for place in ("emb", "emb2", "emb3"):
        (tmp_path / place).mkdir()
        rows.to_parquet(tmp_path / place / "rows.parquet")
    logs = {"emb/_delta_log/9.json": "{}", "emb2/.hoodie/hoodie.properties": ""}
    fill(tmp_path, {**logs, "emb3/metadata/v1.metadata.json": '{"format-version": 2}'})
    assert size(tmp_path)[0] == len(TRAIN)


def test_metadata_of_pictures_are_no_iceberg(tmp_path):
    write_parquet(tmp_path / "train.parquet", TRAIN)
    fill(tmp_path, {"metadata/000001.metadata.json": '{"taken": 2021}'})
    assert size(tmp_path)[0] == len(TRAIN)


def test_lists_in_tables_of_delta_are_read_by_the_log(tmp_path):
    rows = write_pictures(tmp_path, TRAIN + TEST)
    delta(tmp_path, [action("add", "part-0.parquet")])
    for part, of in zip(PARTS, (rows[: len(TRAIN)], rows[len(TRAIN) :]), strict=True):
        pd.DataFrame(of, columns=["file", "label"]).to_parquet(tmp_path / part)
    assert size(tmp_path) == (
        len(TRAIN),
        ["1 of 2 files of tables are not read: _delta_log does not name them."],
    )
