"""Draw the figures of README and docs from the numbers in docs/results and model_cards.

python benchmarks/figures.py
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from results import CELLS, DOCS, PRIORS, SHOWN, means

CARD = Path(__file__).parents[1] / "model_cards" / "cifar100-lt-ir100-efficientnet-lite0-lort"
GREY, BLUE, ORANGE, GREEN, PURPLE = "#888888", "#0072B2", "#D55E00", "#009E73", "#AA3377"
COLORS = {
    "ce": GREY, "lort": BLUE, "auto": ORANGE, "balanced-softmax": GREEN, "lort-published": PURPLE,
}  # fmt: skip
STYLE = {
    "svg.fonttype": "none",  # text stays text: small files, and a test can read the numbers
    "svg.hashsalt": "lort_hub",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "legend.frameon": False,
}


def main(folder: Path = DOCS / "figures") -> None:
    folder.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        for draw in FIGURES:
            draw().savefig(folder / f"{draw.__name__}.svg", metadata={"Date": None})


def read_table(path: Path, header: str = "") -> list[dict[str, str]]:
    """Rows of the first Markdown table after a header, by column; of equal columns the last counts."""
    text = path.read_text()
    lines = text[text.index(header) :].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    end = next((place for place, row in enumerate(cells) if place and row == cells[0]), len(cells))
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:end]]


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def per_class_accuracy() -> Figure:
    """Accuracy of each class against its training images, before and after the head is re-trained."""
    metrics, run = (json.loads((CARD / f"{name}.json").read_text()) for name in ("metrics", "run"))
    counts = np.array(run["data"]["class_counts"])
    figure, axes = new_figure(6.4, 4.2)
    groups = {"few": counts < 20, "medium": (counts >= 20) & (counts <= 100), "many": counts > 100}
    reports = {"cross-entropy head": metrics["baseline"], "LORT head": metrics["test"]}
    for (name, report), color in zip(reports.items(), (GREY, BLUE), strict=True):
        accuracy = 100 * np.array(report["per_class_accuracy"])
        label = f"{name}: balanced accuracy {100 * report['balanced_accuracy']:.1f} %"
        axes.scatter(counts, accuracy, s=14, color=color, alpha=0.4, linewidths=0)
        for group, members in groups.items():
            ends, mean = counts[members][[0, -1]], 100 * report[group]
            axes.plot(ends, [mean, mean], color=color, linewidth=3, label=label)
            axes.annotate(
                f"{mean:.1f}", (ends[1], mean), (0, 4), textcoords="offset points", color=color, weight="bold"
            )
            label = None
    for group, members in groups.items():
        where = np.sqrt(counts[members].max() * counts[members].min())
        axes.text(where, 0.98, group, transform=axes.get_xaxis_transform(), ha="center", va="top")
    for edge in (20, 100):
        axes.axvline(edge, color="black", linewidth=0.5, linestyle=":")
    axes.set_xscale("log")
    axes.set_xticks([5, 10, 20, 50, 100, 200, 500], ["5", "10", "20", "50", "100", "200", "500"], minor=False)
    axes.set_xticks([], minor=True)
    axes.set(ylim=(-2, 105), xlabel="training images of the class", ylabel="test accuracy, %")
    figure.legend(loc="outside upper left")
    return figure


def data_flow() -> Figure:
    """From backbone and images to a model on the Hub."""
    figure = Figure(figsize=(9, 2.5))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 9), ylim=(0, 2.5))
    axes.axis("off")
    boxes = {
        "backbone": (0.8, 1.85, "backbone\ntimm or transformers"),
        "data": (0.8, 0.65, "images\nlong-tailed training set"),
        "features": (2.75, 1.25, "features\nextracted once, cached"),
        "head": (4.5, 1.25, "head\n22 methods, settings\nchosen on training images"),
        "metrics": (6.3, 1.85, "metrics and plots\nmany / medium / few"),
        "model": (6.3, 0.65, "complete model\nnew head in place"),
        "hub": (8.15, 1.25, "folder or Hub\nmodel, card, head"),
    }
    for name, (x, y, text) in boxes.items():
        color = BLUE if name == "head" else GREY
        box = FancyBboxPatch((x - 0.72, y - 0.36), 1.44, 0.72, "round,pad=0.02,rounding_size=0.08")
        box.set(facecolor="#EAF2F8" if name == "head" else "white", edgecolor=color, linewidth=1.2)
        axes.add_patch(box)
        title, _, rest = text.partition("\n")
        axes.text(x, y + 0.14, title, ha="center", va="center", weight="bold", fontsize=9)
        axes.text(x, y - 0.12, rest, ha="center", va="center", fontsize=7)
    arrows = "backbone features, data features, features head, head metrics, head model"
    for arrow in f"{arrows}, metrics hub, model hub".split(", "):
        (x, y, _), (to_x, to_y, _) = (boxes[name] for name in arrow.split())
        style = {"arrowstyle": "-|>", "color": "black", "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
        rise = 0.18 * np.sign(to_y - y)
        axes.annotate("", (to_x - 0.75, to_y - rise), (x + 0.75, y + rise), arrowprops=style)
    return figure


def cells() -> dict[str, dict[str, dict[str, float]]]:
    return {file.stem: means(file) for file in sorted(CELLS.glob("*.csv"))}


def accuracy_by_cell() -> Figure:
    """Balanced accuracy of five methods on each of the 13 data cells."""
    figure, axes = new_figure(8, 5)
    found = cells()
    markers = {"ce": "o", "lort-published": "v", "lort": "s", "balanced-softmax": "D", "auto": "|"}
    for method, marker in markers.items():
        scores = [100 * cell[method]["balanced_accuracy"] for cell in found.values()]
        size = 260 if marker == "|" else 36
        axes.scatter(scores, range(len(found)), s=size, marker=marker, color=COLORS[method], label=method)
    axes.set_yticks(range(len(found)), list(found))
    axes.invert_yaxis()
    axes.grid(axis="y", linewidth=0.3)
    axes.set(xlabel="balanced test accuracy, %")
    figure.legend(loc="outside upper center", ncols=5)
    return figure


def regret_by_method() -> Figure:
    """How far each method is below the best of each cell, and on average."""
    regrets: dict[str, list[float]] = {name: [] for name in (*SHOWN, "auto") if name != "stage 1"}
    for cell in cells().values():
        best = max(
            row["balanced_accuracy"] for name, row in cell.items() if name not in ("auto", "best", "stage 1")
        )
        for name, found in regrets.items():
            found.append(100 * (best - cell[name]["balanced_accuracy"]))
    methods = sorted(regrets, key=lambda name: np.mean(regrets[name]))
    figure, axes = new_figure(7.5, 3.8)
    for place, method in enumerate(methods):
        color, mean = COLORS.get(method, "black"), np.mean(regrets[method])
        axes.scatter(regrets[method], [place] * len(cells()), s=22, color=color, alpha=0.5, linewidths=0)
        axes.scatter(mean, place, s=160, marker="|", color=color)
        axes.text(42, place, f"{mean:.2f}", va="center", ha="right", color=color)
    axes.text(42, -0.8, "mean", ha="right", va="center")
    axes.set_yticks(range(len(methods)), methods)
    axes.set(xlim=(-0.5, 42.5), ylim=(len(methods) - 0.5, -1.1))
    axes.grid(axis="y", linewidth=0.3)
    axes.set(xlabel="points of balanced accuracy below the best method of the cell (one dot a cell)")
    return figure


def selection_scores() -> Figure:
    """What each score of selection reaches: mean and spread over 40 draws of the held-out images."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    decays = ("0.005", "0.01", "0.02")
    for axes, decay in zip(figure.subplots(1, 3, sharey=True), decays, strict=True):
        rows = read_table(DOCS / "results" / "noise.md", f"weight decay {decay}:")
        for shift, (score, color) in enumerate((("accuracy", GREY), ("likelihood", BLUE))):
            mean, spread = np.array([[float(part) for part in row[score].split("±")] for row in rows]).T
            places = np.arange(len(rows)) + 0.25 * shift
            axes.errorbar(mean, places, xerr=spread, fmt="o", markersize=4, color=color, label=score)
        axes.set_yticks(np.arange(len(rows)) + 0.12, [row["method"] for row in rows])
        axes.set(title=f"stage 1 with weight decay {decay}", xlabel="accuracy reached, %")
        axes.grid(axis="y", linewidth=0.3)
    axes.invert_yaxis()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


def shifted_priors() -> Figure:
    """Accuracy under five test priors, mean over the 13 cells."""
    figure, axes = new_figure(7, 3.6)
    for method, marker in {"ce": "o", "lort": "s", "balanced-softmax": "D", "auto": "^"}.items():
        scores = [100 * np.mean([cell[method][prior] for cell in cells().values()]) for prior in PRIORS]
        axes.plot(PRIORS, scores, marker=marker, markersize=5, color=COLORS[method], label=method)
    axes.set(ylabel="accuracy, %", xlabel="test prior: as the training set ... the other way round")
    axes.legend()
    return figure


def lort_path() -> Figure:
    """Balanced accuracy along LORT's path: SGD, one closed-form step, a bias linear in the counts."""
    rows = read_table(DOCS / "results" / "lort_path.md")
    figure, axes = new_figure(7, 3.8)
    kinds = {
        "LORT by SGD from the trained head": (r"LORT by SGD, lr", PURPLE, "v-"),
        "one closed-form step": (r"one step", BLUE, "s-"),
        "bias linear in the counts": (r"bias linear", ORANGE, "^-"),
    }
    for label, (pattern, color, style) in kinds.items():
        points = sorted(
            (float(row["logits"]), float(row["balanced"]))
            for row in rows
            if re.match(pattern, row["head"]) and row["logits"]
        )
        axes.plot(*zip(*points, strict=True), style, markersize=5, color=color, label=label)
    start = float(rows[0]["balanced"])
    axes.axhline(start, color="black", linewidth=0.8, linestyle=":")
    axes.text(230, start, f"stage 1: {start}", ha="right", va="bottom")
    axes.axvline(1.01, color="black", linewidth=0.5, linestyle="--")
    axes.text(1.06, 44, "1.01, matched to log pi")
    axes.set_xscale("log")
    axes.set_xticks([0.2, 0.5, 1, 2, 5, 10, 50, 200], ["0.2", "0.5", "1", "2", "5", "10", "50", "200"])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="length of the path, in logits of a class of average size", ylabel="balanced accuracy, %")
    axes.set_ylim(25, 45)  # the single step ends at 2.5
    axes.legend(loc="upper right")
    return figure


def bars(labels: list[str], seconds: dict[str, list[float]], height: float) -> Figure:
    """Horizontal bars, a group for each label and a colour for each name."""
    figure, axes = new_figure(7.5, height)
    width = 0.72 / len(seconds)
    for shift, (name, values) in enumerate(seconds.items()):
        places = np.arange(len(labels)) + width * shift
        color = BLUE if "lort_hub" in name else GREY
        axes.barh(places, values, height=0.94 * width, color=color, label=name)
        for place, value in zip(places, values, strict=True):
            text = f"{value:.2f}" if value < 10 else f"{int(value + 0.5):,}"
            axes.annotate(text, (value, place), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(np.arange(len(labels)) + width * (len(seconds) - 1) / 2, labels)
    axes.invert_yaxis()
    axes.set(xlabel="seconds")
    axes.margins(x=0.12)
    if len(seconds) > 1:
        axes.legend(loc="upper right")
    return figure


def speed_whole() -> Figure:
    """From images to a tested head: median seconds of whole processes."""
    with (DOCS / "results" / "speed" / "versus_whole.jsonl").open() as file:
        pairs = [json.loads(line)["runs"] for line in file]
    names = {
        "(a) backbone in the loop": "20 epochs of SGD,\nbackbone in the loop",
        "(e) Trainer, backbone frozen": "transformers' Trainer,\nbackbone frozen",
        "(b) backbone frozen, no_grad": "20 epochs of SGD,\nbackbone frozen",
        "ours, settings chosen": "lort_hub,\nsettings chosen",
        "ours, settings given": "lort_hub,\nsettings given",
    }
    seconds = [float(np.median([runs[name]["seconds"] for runs in pairs if name in runs])) for name in names]
    figure = bars(list(names.values()), {"seconds": seconds}, 2.9)
    for bar, name in zip(figure.axes[0].patches, names, strict=True):
        bar.set_color(BLUE if name.startswith("ours") else GREY)
    return figure


def speed_heads() -> Figure:
    """Heads on the same features in memory: seconds of other solvers and of lort_hub."""
    rows = read_table(DOCS / "results" / "speed" / "versus_heads.md")
    labels = [f"{row['against']}, delta {row['delta']}" for row in rows]
    columns = {"the other": "seconds", "lort_hub": "lort_hub"}
    return bars(labels, {name: [float(row[key]) for row in rows] for name, key in columns.items()}, 4.6)


def scale() -> Figure:
    """Seconds at published data sets' sizes, beside the bare matrix products that have to be done."""
    files = {"ImageNet-LT": "scale_imagenet_lt.md", "iNaturalist 2018": "scale_inat2018.md"}
    labels, seconds = [], {"bare products": [], "lort_hub": []}
    for shape, name in files.items():
        for row in read_table(DOCS / "results" / "speed" / name):
            if row["what"] != "L-BFGS optimum":  # its bare column has one gradient of nine
                labels.append(f"{row['what']},\n{shape}'s shape")
                seconds["bare products"].append(float(row["bare products, s"].split(" ")[0]))
                seconds["lort_hub"].append(float(row["s"]))
    return bars(labels, seconds, 3.2)


FIGURES: tuple[Callable[[], Figure], ...] = (
    per_class_accuracy, data_flow, accuracy_by_cell, regret_by_method, selection_scores, shifted_priors,
    lort_path, speed_whole, speed_heads, scale,
)  # fmt: skip


if __name__ == "__main__":
    main()
