"""Runs of compare.py and sweep.py, and what they write."""

import csv
import html

from tests.support.recipes import SMALL, serve

DIGITS = (*SMALL, "--dataset", "digits")
COLUMNS = (
    "method",
    "seed",
    "cell",
    "accuracy",
    "balanced_accuracy",
    "many",
    "medium",
    "few",
    "macro_f1",
    "nll",
)
COLUMNS += ("ece", "logits_magnitude_mean", "logits_magnitude_std", "seconds", "chosen", "n")


def forked(cwd, *flags, recipe="compare.py"):
    return serve([{"flags": [str(flag) for flag in flags], "recipe": recipe}], cwd)[0]


def rows_of(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def tables_of(folder):
    """The rows of each table of results.md, by its heading; every row has the cells that its header has."""
    tables = {}
    for part in (folder / "results.md").read_text().split("## ")[1:]:
        title, _, header, _, *lines = part.strip().splitlines()
        if not header.startswith("|"):
            continue
        lines = [line for line in lines if line.startswith("|")]
        names, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in (header, *lines))
        tables[html.unescape(title)] = [dict(zip(names, row, strict=True)) for row in rows]
    return tables


def without_seconds(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
