"""Plot accuracy against class size, logits magnitude, reliability, and the results of experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from lort_hub.evaluation.report import Number, Report, ResultRow
from lort_hub.heads.methods import CHOICES

BLUE, ORANGE, GREY, GREEN = "#0072B2", "#D55E00", "#888888", "#009E73"


def write_plots(folder: Path, class_counts: Sequence[int], reports: Mapping[str, Report]) -> None:
    """Plot a head, beside those that it is compared with.

    Args:
        folder: Folder of the PNG files; made if it does not exist.
        class_counts: Training images (K,).
        reports: Report of each head, by its name: the baseline first, the head itself last.

    Example:
        >>> import tempfile
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> report = evaluate(np.eye(2), np.array([0, 1]), np.array([200, 5]))
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_plots(folder, [200, 5], {"ce": report, "lort": report})
        >>> sorted(path.name for path in folder.iterdir())
        ['logits_magnitude.png', 'per_class_accuracy.png', 'reliability.png']
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts = np.asarray(class_counts)
    colors = [GREY, *[GREEN] * (len(reports) - 2), BLUE][-len(reports) :]
    named = list(zip(reports.items(), colors, strict=True))

    figure, axes = _figure()
    for (name, report), color in named:
        accuracy = 100 * _defined(report.per_class_accuracy)
        axes.scatter(counts, accuracy, s=14, color=color, alpha=0.45, linewidths=0)
        axes.plot(*_trend(counts, accuracy), color=color, linewidth=2, label=_plain(name))
    axes.update_datalim([(counts.min(), 0), (counts.max(), 100)])  # classes without a test image too
    _mark_groups(axes, counts, next(iter(reports.values())).thresholds)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(ylim=(-3, 103), xlabel="training images of the class", ylabel="test accuracy, %")
    axes.set_title("Accuracy of each class (dots) and its trend over class size", pad=18)
    _save(figure, axes, folder / "per_class_accuracy.png")

    figure, axes = _figure()
    order = np.argsort(-counts, kind="stable")
    for (name, report), color in named:
        magnitude = _defined(report.logits_magnitude.per_class)[order]
        mean = magnitude[np.isfinite(magnitude)].mean() if np.isfinite(magnitude).any() else np.nan
        label = f"{_plain(name)} (mean {mean:.3g})"
        axes.plot(magnitude / mean, color=color, linewidth=1.5, label=label)
    axes.axhline(1, color="black", linewidth=0.5)
    axes.set(xlabel="class, most training images first", ylabel="logits magnitude / its mean")
    axes.set_title("Logits magnitude of each class, relative to its mean")
    _save(figure, axes, folder / "logits_magnitude.png")

    figure, axes = _figure()
    axes.plot([0, 100], [0, 100], color="black", linewidth=0.5)
    for (name, report), color in named:
        samples, confidence, accuracy = np.asarray(report.calibration).T
        filled = samples > 0
        label = f"{_plain(name)} (ECE {100 * report.ece:.1f} %)"
        axes.plot(100 * confidence[filled], 100 * accuracy[filled], color=color, linewidth=1, label=label)
        size = 10 + 150 * samples[filled] / samples.max()
        axes.scatter(100 * confidence[filled], 100 * accuracy[filled], s=size, color=color, alpha=0.6)
    axes.set(xlim=(-3, 103), ylim=(-3, 103), xlabel="confidence, %", ylabel="accuracy, %")
    axes.set_title("Reliability of the top prediction (dot area: share of the test images)")
    _save(figure, axes, folder / "reliability.png")


def plot_tail(file: Path | BinaryIO, class_counts: Sequence[int], thresholds: Sequence[int]) -> None:
    """Plot the training images of each class as SVG, the largest class first.

    Args:
        file: Where to write it.
        class_counts: Training images (K,).
        thresholds: Few is below the first number, many above the second.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> plot_tail(file, [200, 50, 5], (20, 100))
        >>> b"</svg>" in file.getvalue()
        True
    """
    counts = np.sort(np.asarray(class_counts))[::-1]
    figure, axes = _figure()
    axes.fill_between(np.arange(len(counts) + 1), [*counts, counts[-1]], step="post", color=BLUE, linewidth=0)
    axes.set(xlabel="class, most training images first", ylabel="training images", xlim=(0, len(counts)))
    axes.set_yscale("log")
    axes.set_ylim(min(counts[-1], 1) / 1.5, counts[0] * 1.5)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for name, edge in zip(("few below", "many above"), thresholds, strict=True):
        if counts[-1] < edge < counts[0]:
            axes.axhline(edge, color="black", linewidth=0.5, linestyle=":")
            axes.text(len(counts), edge, f"{name} {edge:,} ", ha="right", va="bottom", color=ORANGE)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def plot_comparison(path: Path, rows: Sequence[ResultRow]) -> None:
    """Plot the balanced accuracy of each method: a panel for each data cell, a dot for each seed.

    Args:
        path: The PNG file.
        rows: Rows of the comparison.

    Example:
        >>> import tempfile
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> from lort_hub.evaluation.tables import result_row
        >>> counts = np.array([200, 5])
        >>> report = evaluate(np.eye(2), np.array([0, 1]), counts)
        >>> origin = {"seed": 0, "seconds": 0.1, "chosen": {}, "cell": "digits"}
        >>> path = Path(tempfile.mkdtemp()) / "comparison.png"
        >>> plot_comparison(path, [result_row(report, counts, method=m, **origin) for m in ("ce", "lort")])
        >>> path.exists()
        True
    """
    cells = list(dict.fromkeys(row.cell or "" for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    figure = Figure(figsize=(2 + 4 * len(cells), 1 + 0.25 * len(methods)), dpi=150, layout="constrained")
    for axes, cell in zip(figure.subplots(1, len(cells), squeeze=False, sharey=True)[0], cells, strict=True):
        for place, method in enumerate(methods):
            scores = [
                100 * row.balanced_accuracy for row in rows if (row.cell or "", row.method) == (cell, method)
            ]
            color = ORANGE if method in CHOICES else BLUE
            axes.scatter(scores, [place] * len(scores), s=12, color=color, alpha=0.5, linewidths=0)
            axes.scatter(np.mean(scores), place, s=60, marker="|", color=color)
        axes.set_yticks(range(len(methods)), [_plain(method) for method in methods])
        axes.grid(axis="y", linewidth=0.3)
        axes.set(xlabel="balanced test accuracy, %", title=_plain(cell))
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylim(len(methods) - 0.5, -0.5)
    figure.savefig(path, metadata={"Software": None})


def plot_study(path: Path, name: str, rows: Sequence[ResultRow]) -> None:
    """Plot the balanced accuracy of an ablation along its second setting, a line for each value of the first.

    Args:
        path: The PNG file.
        name: Name of the ablation.
        rows: Rows of the ablation; `chosen` holds the settings.

    Example:
        >>> import tempfile
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> from lort_hub.evaluation.tables import result_row
        >>> counts = np.array([200, 5])
        >>> report = evaluate(np.eye(2), np.array([0, 1]), counts)
        >>> settings = [{"from": "zero", "lr": lr} for lr in (0.1, 0.2)]
        >>> origin = {"method": "lr", "seed": 0, "seconds": 0.1}
        >>> path = Path(tempfile.mkdtemp()) / "lr.png"
        >>> plot_study(path, "lr", [result_row(report, counts, chosen=s, **origin) for s in settings])
        >>> path.exists()
        True
    """
    figure, axes = _figure()
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        varied = {key: value for key, value in row.chosen.items() if value is not None}
        *groups, (along, value) = list(varied.items())[:2]
        label = "".join(group if isinstance(group, str) else f"{name} {group:g}" for name, group in groups)
        lines.setdefault(label, []).append((value, 100 * row.balanced_accuracy))
    for label, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker=".", label=_plain(label) or None)
    values = sorted({value for points in lines.values() for value, _ in points})
    if values[0] > 0 and values[-1] > 20 * values[0]:
        axes.set_xscale("log")
    axes.set(xlabel=along, ylabel="balanced test accuracy, %", title=f"Study of {name}")
    _save(figure, axes, path)


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    return figure, figure.subplots()


def _save(figure: Figure, axes: Axes, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, loc="best")
    figure.savefig(path, metadata={"Software": None})


def _defined(values: Sequence[Number]) -> Any:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _plain(name: str) -> str:
    return name.replace("$", r"\$")  # matplotlib would read a formula


def _trend(counts: Any, accuracy: Any) -> tuple[Any, Any]:
    """Mean accuracy over neighbouring classes by size."""
    order = np.argsort(counts, kind="stable")
    order = order[np.isfinite(accuracy[order])]
    chunks = np.array_split(order, min(len(order), max(4, len(order) // 8)))
    return (
        [np.exp(np.log(counts[chunk]).mean()) for chunk in chunks],
        [accuracy[chunk].mean() for chunk in chunks],
    )


def _mark_groups(axes: Axes, counts: Any, thresholds: Sequence[int]) -> None:
    low, high = thresholds
    for edge in (low, high):
        if counts.min() < edge < counts.max():
            axes.axvline(edge, color="black", linewidth=0.5, linestyle=":")
    edges = {"few": (counts.min(), low), "medium": (low, high), "many": (high, counts.max())}
    for name, (left, right) in edges.items():
        left, right = max(left, counts.min()), min(right, counts.max())
        if left < right:
            axes.text(
                np.sqrt(left * right),
                1.01,
                name,
                transform=axes.get_xaxis_transform(),
                ha="center",
                color=ORANGE,
            )
