"""The log of a run: its order, its sums, and what a resumed run finds."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from lort_hub.run_log import RunLog


def test_rows_bear_the_time_at_which_they_ended():
    log, before = RunLog(), datetime.now(timezone.utc)
    log.add("epoch", epoch=1, loss=0.5)
    [row] = log.rows
    assert list(row) == ["time", "name", "epoch", "loss"]
    assert timedelta(milliseconds=-1) <= datetime.fromisoformat(row["time"]) - before < timedelta(minutes=1)


def test_seconds_of_a_phase_add_up_and_each_has_a_row():
    log = RunLog()
    for name, seconds in (("data", 1.5), ("features", 2.0), ("data", 0.25)):
        log.add_phase(name, seconds)
    assert log.seconds == {"data": 1.75, "features": 2.0}
    assert [row["seconds"] for row in log.rows] == [1.5, 2.0, 0.25]


def test_a_resumed_run_has_the_events_up_to_the_checkpoint_once_and_first(tmp_path):
    first = RunLog()
    first.add_phase("data", 1.0)
    first.add("epoch", epoch=1)
    first.write(tmp_path)
    first.add("epoch", epoch=2)  # after the checkpoint, so trained again
    resumed = RunLog()
    resumed.add_phase("data", 2.0)
    resumed.go_on_from(tmp_path)
    resumed.add("epoch", epoch=2)
    resumed.write(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows == resumed.rows
    assert rows[:2] == first.rows[:2]
    assert [row["name"] for row in rows] == ["data", "epoch", "data", "epoch"]
    assert resumed.seconds == {"data": 2.0}


def test_where_there_is_no_checkpoint_nothing_is_read_and_nan_is_refused(tmp_path):
    log = RunLog()
    log.go_on_from(None)
    log.go_on_from(tmp_path)
    assert log.rows == []
    log.add("epoch", loss=float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        log.write(tmp_path)
