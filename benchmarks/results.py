"""docs/results.md from what compare.py wrote: tables, the regret of `auto`, accuracy under other priors.

python benchmarks/results.py [FOLDER ...]     (folders of compare.py; without any, from docs/results alone)
"""

import csv
import re
import shutil
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lort_hub.evaluation.significance import RATIOS

DOCS = Path(__file__).parents[1] / "docs"
CELLS = DOCS / "results" / "cells"
PARTS = ("noise", "cost", "lort_path", "sweep")
"""Files of docs/results that other commands wrote; the template names the commands."""
PLOT = r"### Study of \1\n\n![Balanced accuracy in the study of \1](results/sweep/\1.png)"
PRIORS = [f"forward {RATIOS[0]}", "forward 10", "uniform", "backward 10", f"backward {RATIOS[0]}"]
DEFAULT = ("ce", "eb-lda", "tau-norm", "logit-adjust", "crt", "balanced-softmax", "lort")
"""Single methods that are shown beside the default head."""
CHOICES = ("best", "auto")
SHOWN = (
    "stage 1",
    "ce",
    "tau-norm",
    "logit-adjust",
    "crt",
    "balanced-softmax",
    "lort-path",
    "lort-published",
    "lort",
)


def main() -> None:
    for folder in map(Path, sys.argv[1:]):
        CELLS.mkdir(exist_ok=True)
        for kind in ("csv", "md"):
            shutil.copyfile(folder / f"results.{kind}", CELLS / f"{folder.name}.{kind}")
    (DOCS / "results.md").write_text(render())


def render() -> str:
    """The whole page, from docs/results."""
    files = sorted(CELLS.glob("*.csv"))
    cells = {file.stem: means(file) for file in files}
    environment = Environment(
        loader=FileSystemLoader(DOCS / "results"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    tables = {file.stem: file.with_suffix(".md").read_text().split("\n\n", 1)[1].strip() for file in files}
    parts = {name: (DOCS / "results" / f"{name}.md").read_text().strip() for name in PARTS}
    parts["sweep"] = re.sub(r"(?m)^#### ([\w-]+)$", PLOT, parts["sweep"]).replace("#### rank", "### Rank")
    return environment.get_template("template.md").render(
        default_head=default_head(),
        **parts,
        tables=tables,
        overview=overview(cells),
        regret=regret(cells),
        shifts=shifts(cells),
    )


def means(file: Path) -> dict[str, dict[str, float]]:
    """Mean over seeds of every number, by method; and the number of seeds."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with file.open() as opened:
        for row in csv.DictReader(opened):
            for name, value in row.items():
                if name not in ("cell", "method", "chosen") and value:
                    values[row["method"]][name].append(float(value))
    return {
        method: {**{name: float(np.mean(v)) for name, v in columns.items()}, "seeds": len(columns["seed"])}
        for method, columns in values.items()
    }


def overview(cells: dict[str, dict[str, dict[str, float]]]) -> str:
    """Balanced accuracy of the main methods, a row for each cell."""
    lines = [["cell", "seeds", *SHOWN, "auto"]]
    for name, cell in cells.items():
        shown = [f"{100 * cell[m]['balanced_accuracy']:.1f}" if m in cell else "" for m in (*SHOWN, "auto")]
        lines.append([name, str(cell["auto"]["seeds"]), *shown])
    return markdown(lines)


def regret(cells: dict[str, dict[str, dict[str, float]]]) -> str:
    """How far `auto` is below the method that turned out to be the best, a row for each cell."""
    lines = [["cell", "seeds", "best in hindsight", "its accuracy", "auto", "regret"]]
    regrets = []
    for name, cell in cells.items():
        single = {
            m: row["balanced_accuracy"] for m, row in cell.items() if m not in ("auto", "best", "stage 1")
        }
        best, auto = max(single, key=single.__getitem__), cell["auto"]["balanced_accuracy"]
        regrets.append(100 * (single[best] - auto))
        numbers = [f"{100 * single[best]:.1f}", f"{100 * auto:.1f}", f"{regrets[-1]:.2f}"]
        lines.append([name, str(cell["auto"]["seeds"]), best, *numbers])
    lines.append([f"mean of {len(cells)}", "", "", "", "", f"{np.mean(regrets):.2f}"])
    lines.append(["largest", "", "", "", "", f"{max(regrets):.2f}"])
    return markdown(lines)


def default_head() -> str:
    """The default head beside the single methods of all its seeds, from benchmarks/default_head.py."""
    ends = ["methods", "the best of them", "regret", "ECE of ce", "ECE of auto (largest)"]
    lines, regrets = [["cell", "seeds", *DEFAULT, *CHOICES, *ends]], []
    for file in sorted((DOCS / "results" / "default").glob("*.csv")):
        with file.open() as opened:
            rows = list(csv.DictReader(opened))
        finished = {row["seed"] for row in rows if row["method"] == "auto"}
        accuracies, eces = (_by_method(rows, finished, name) for name in ("balanced_accuracy", "ece"))
        mean = {name: float(np.mean(each)) for name, each in accuracies.items() if len(each) == len(finished)}
        single = {name: value for name, value in mean.items() if name not in CHOICES}
        best = max(single, key=single.__getitem__)
        regrets.append(single[best] - mean["auto"])
        shown = [f"{mean[name]:.1f}" if name in mean else "" for name in (*DEFAULT, *CHOICES)]
        found = [str(len(single)), f"{best} {single[best]:.1f}", f"{regrets[-1]:.2f}"]
        errors = [f"{np.mean(eces['ce']):.1f}", f"{np.mean(eces['auto']):.1f} ({max(eces['auto']):.1f})"]
        lines.append([file.stem, str(len(finished)), *shown, *found, *errors])
    blank = [""] * (len(DEFAULT) + len(CHOICES) + 3)
    lines.append([f"mean of {len(regrets)}", *blank, f"{np.mean(regrets):.2f}", "", ""])
    lines.append(["largest", *blank, f"{max(regrets):.2f}", "", ""])
    return markdown(lines)


def _by_method(rows: list[dict[str, str]], seeds: set[str], column: str) -> dict[str, list[float]]:
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["seed"] in seeds:
            values[row["method"]].append(100 * float(row[column]))
    return values


def shifts(cells: dict[str, dict[str, dict[str, float]]]) -> str:
    """The best head of each cell under five test priors, and how `lort` and `auto` do there."""
    lines = [["cell", *(f"{prior}: best; lort; auto" for prior in PRIORS)]]
    for name, cell in cells.items():
        row = [name]
        for prior in PRIORS:
            single = {
                method: numbers[prior] for method, numbers in cell.items() if method not in ("auto", "best")
            }
            best = max(single, key=single.__getitem__)
            rates = [
                f"{best} {100 * single[best]:.1f}",
                *(f"{100 * cell[m][prior]:.1f}" for m in ("lort", "auto")),
            ]
            row.append("; ".join(rates))
        lines.append(row)
    return markdown(lines)


def markdown(lines: list[list[str]]) -> str:
    lines = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
