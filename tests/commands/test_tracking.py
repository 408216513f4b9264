"""What trackers get at the end of a run: a tracker of the test's own, and TensorBoard's files."""

import json
import subprocess
import sys

import numpy as np
import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker

from lort_hub.commands.tracking import held_out_scores, track_output, track_results
from lort_hub.evaluation.metrics import evaluate
from lort_hub.evaluation.plots import write_plots
from lort_hub.evaluation.tables import results_table
from tests.support import ROOT
from tests.support.recipes import SMALL, run


class Plain(GeneralTracker):
    """A tracker that knows numbers and text alone."""

    name, requires_logging_directory, tracker = "plain", False, None

    def __init__(self):
        super().__init__()
        self.seen = []

    def store_init_configuration(self, values):
        pass

    def log(self, values, step=None):  # noqa: ARG002
        self.seen.append(values)

    def finish(self):
        self.seen.append("finished")


class Rich(Plain):
    """One that takes tables and pictures, too."""

    def log_table(self, name, columns, data):
        self.seen.append((name, columns, data))

    def log_images(self, pictures):
        self.seen.append({name: (batch.shape, batch.dtype) for name, batch in pictures.items()})


@pytest.fixture
def reports():
    logits, labels = np.eye(3)[[0, 1, 2, 1]], np.array([0, 1, 2, 2])
    return {
        name: evaluate(scale * logits, labels, np.array([200, 50, 5]))
        for name, scale in [("ce", 1), ("lort", 3)]
    }


def tracked(tracker, report):
    AcceleratorState._reset_state(True)
    accelerator = Accelerator(cpu=True, log_with=tracker)
    accelerator.init_trackers("lort_hub")
    report(accelerator)
    return tracker.seen


def test_a_tracker_gets_numbers_table_and_plots_and_is_ended(reports, tmp_path):
    write_plots(tmp_path, [200, 50, 5], reports)
    seen = tracked(Rich(), lambda accelerator: track_results(accelerator, reports, tmp_path))
    ce, lort, (name, columns, data), pictures, end = seen
    assert ce["ce/few"] == lort["lort/few"] == 0.5
    assert lort["lort/nll"] == reports["lort"].nll != ce["ce/nll"]
    assert (name, columns[:3]) == ("results", ["method", "accuracy", "balanced_accuracy"])
    assert [row[:3] for row in data] == [[name, 0.75, pytest.approx(2.5 / 3)] for name in ("ce", "lort")]
    assert set(pictures) == {"logits_magnitude", "per_class_accuracy", "reliability"}
    for (count, height, width, channels), kind in pictures.values():
        assert (count, channels, kind, min(height, width) > 200) == (1, 3, np.uint8, True)
    assert end == "finished"


def test_a_tracker_without_tables_gets_markdown(reports, tmp_path):
    seen = tracked(Plain(), lambda accelerator: track_results(accelerator, reports, tmp_path))
    assert seen[2:] == [{"results": results_table(reports)}, "finished"]
    rows = [{"method": "ce", "seed": 0}, {"method": "lort", "seed": 0}]
    seen = tracked(Rich(), lambda accelerator: track_output(accelerator, rows, "| ce |", tmp_path))
    assert seen == [("results", ["method", "seed"], [["ce", 0], ["lort", 0]]), {}, "finished"]


def test_an_empty_group_has_no_number():
    report = evaluate(np.eye(2), np.array([0, 1]), np.array([200, 5]))
    assert held_out_scores(report) == {
        "held_out_balanced_accuracy": 1.0,
        "held_out_many": 1.0,
        "held_out_few": 1.0,
    }


READ = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
tags = events.Tags()
numbers = {tag: [[event.step, event.value] for event in events.Scalars(tag)] for tag in tags["scalars"]}
print(json.dumps({"numbers": numbers, "images": tags["images"], "texts": tags["tensors"]}))
"""


def test_tensorboard_has_each_epoch_and_the_results(photos, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    flags = ["--dataset", photos, "--output-dir", tmp_path / "out", "--report-to", "tensorboard"]
    finished = run("train.py", *SMALL, *flags, "--epochs", "2", "--holdout", "0.34")
    assert finished.returncode == 0, finished.stderr
    code = [sys.executable, "-c", READ, tmp_path / "out-logs" / "lort_hub"]
    said = subprocess.run(code, capture_output=True, text=True, cwd=ROOT, timeout=120, check=True)
    seen = json.loads(said.stdout.splitlines()[-1])
    history = json.loads((tmp_path / "out" / "metrics.json").read_text())["history"]
    for name in ("lr", "loss", "held_out_few", "held_out_balanced_accuracy"):
        assert seen["numbers"][name] == [[row["epoch"], pytest.approx(row[name])] for row in history]
    assert "stage_1/balanced_accuracy" in {name.replace(" ", "_") for name in seen["numbers"]}
    assert set(seen["images"]) == {"logits_magnitude", "per_class_accuracy", "reliability"}
    assert any("results" in tag for tag in seen["texts"])
