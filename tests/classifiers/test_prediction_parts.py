"""Parts of a prediction: who computes which, damaged ones, and what is never replaced."""

import multiprocessing

import pyarrow as pa
import pytest

from lort_hub.classifiers.prediction_parts import PredictionParts, is_finished
from lort_hub.errors import CheckpointError
from lort_hub.features.distributed import Processes

PLAN = {"model": "m", "images": "i"}


class Process(Processes):
    """One of several processes."""

    def __new__(cls, *_):
        return object.__new__(cls)

    def __init__(self, index, count):
        object.__setattr__(self, "at", (index, count))

    index = property(lambda self: self.at[0])
    count = property(lambda self: self.at[1])


def rows(parts, part):
    names = [f"{row}.jpg" for row in parts.rows(part)]
    return pa.table({"file": names, "class_1": names, "error": pa.nulls(len(names), pa.string())})


@pytest.fixture
def parts(tmp_path):
    """Four parts of 200 images, of which the last is computed."""
    parts = PredictionParts(tmp_path / "p.csv", 200)
    parts.start(PLAN, resume=False, overwrite=False)
    parts.save(3, rows(parts, 3))
    return parts


@pytest.mark.parametrize("number", [1, 63, 64, 65, 4096, 4097, 65536, 100_000])
def test_parts_cover_every_image_once_however_many_processes(number, tmp_path):
    parts = PredictionParts(tmp_path / "p.csv", number)
    for count in (1, 2, 3):
        shares = [parts.missing(Process(index, count)) for index in range(count)]
        covered = sorted(row for share in shares for part in share for row in parts.rows(part))
        assert covered == list(range(number))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(len(parts.rows(part)) <= 1024 for part in parts.missing(Processes()))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_runs_never_write_the_same_parts(parts):
    def start(resume):
        with pytest.raises(CheckpointError, match=r"Another run is writing .*p.csv.\nWait for its end"):
            PredictionParts(parts.output, 200).start(PLAN, resume=resume, overwrite=not resume)

    def exit_code(work, *words):
        process = multiprocessing.get_context("fork").Process(target=work, args=words)
        process.start()
        process.join()
        return process.exitcode

    assert [exit_code(start, resume) for resume in (True, False)] == [0, 0]
    assert parts.missing(Processes()) == [0, 1, 2]
    parts.remove()
    again = PredictionParts(parts.output, 200).start
    assert exit_code(lambda: again(PLAN, resume=False, overwrite=False)) == 0
    assert exit_code(lambda: again(PLAN, resume=True, overwrite=False)) == 0  # the one before has ended


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "short"])
def test_a_damaged_part_is_missing(damage, parts):
    assert parts.missing(Processes()) == [0, 1, 2]
    path = parts.folder / "000003.parquet"
    if damage == "short":
        parts.save(3, rows(parts, 3).slice(1))
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9] if damage == "cut" else b"")
    assert parts.missing(Processes()) == [0, 1, 2, 3]


def test_parts_of_another_plan_are_refused(parts):
    parts.start(PLAN, resume=True, overwrite=False)
    with pytest.raises(CheckpointError, match="is of a run with other `images`, `model`"):
        parts.start({"model": "n", "images": "j"}, resume=True, overwrite=False)
    assert parts.missing(Processes()) == [0, 1, 2]
    parts.start({"model": "n", "images": "j"}, resume=False, overwrite=True)
    assert parts.missing(Processes()) == [0, 1, 2, 3]


def test_an_interrupted_run_waits_for_a_decision(parts):
    with pytest.raises(CheckpointError, match="holds the finished parts of an interrupted run"):
        is_finished(parts.output, resume=False, overwrite=False)
    assert not is_finished(parts.output, resume=True, overwrite=False)
    assert not is_finished(parts.output, resume=False, overwrite=True)


def test_a_file_of_somebody_else_is_never_replaced(parts):
    for part in range(3):
        parts.save(part, rows(parts, part))
    parts.output.write_text("mine")
    with pytest.raises(CheckpointError, match="was written by another process meanwhile"):
        parts.put_together(overwrite=False)
    assert parts.output.read_text() == "mine"
    parts.put_together(overwrite=True)
    whole = parts.output.read_text()
    assert whole.splitlines()[1:] == [f"{row}.jpg,{row}.jpg," for row in range(200)]
    parts.put_together(overwrite=False)  # after a kill between this step and the next
    assert parts.output.read_text() == whole
    parts.remove()
    assert [path.name for path in parts.output.parent.iterdir()] == ["p.csv"]
    with pytest.raises(CheckpointError, match="is there already"):
        is_finished(parts.output, resume=False, overwrite=False)
    assert is_finished(parts.output, resume=True, overwrite=False)
    assert not is_finished(parts.output, resume=True, overwrite=True)


def test_what_cannot_be_written_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(CheckpointError, match=r"folder\.csv is a folder, expected a file"):
        is_finished(tmp_path / "folder.csv", resume=False, overwrite=True)
    with pytest.raises(CheckpointError, match="cannot be written"):
        is_finished(tmp_path / "file/p.csv", resume=False, overwrite=False)
    with pytest.raises(CheckpointError, match=r"Cannot write .*p\.csv: Not a directory.*\n.*another file"):
        PredictionParts(tmp_path / "file/p.csv", 1).start(PLAN, resume=False, overwrite=False)
    assert not is_finished(tmp_path / "new/deep/p.csv", resume=False, overwrite=False)
