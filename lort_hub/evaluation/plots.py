"""Plot accuracy against class size, logits magnitude, reliability, and the results of experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from lort_hub.evaluation.html import shorten
from lort_hub.evaluation.report import Number, Report, ResultRow
from lort_hub.heads.methods import CHOICES

BLUE, ORANGE, GREY, GREEN = "#0072B2", "#D55E00", "#888888", "#009E73"
BETWEEN = ((GREEN, ":"), (ORANGE, "-."), ("#CC79A7", (0, (6, 2))), ("#000000", (0, (1, 1))))
"""Colours and dashes of the heads between the first and the last."""
RASTERED = 500
"""Classes above which their dots in an SVG are a picture, which keeps it small."""
File = Path | BinaryIO


def write_plots(folder: Path, class_counts: Sequence[int] | None, reports: Mapping[str, Report]) -> None:
    """Plot a head, beside those that it is compared with.

    Args:
        folder: Folder of the PNG files; made if it does not exist.
        class_counts: Training images (K,); None where nobody knows them, and logits magnitudes are left out.
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
    plot_accuracy(folder / "per_class_accuracy.png", class_counts, reports)
    if class_counts is not None:
        plot_magnitude(folder / "logits_magnitude.png", class_counts, reports)
    plot_reliability(folder / "reliability.png", reports)


def plot_accuracy(file: File, class_counts: Sequence[int] | None, reports: Mapping[str, Report]) -> None:
    """Plot the accuracy of each class against its training images, or from the lowest to the highest.

    Args:
        file: Where to write it: a PNG file, or a stream for an SVG of half the width.
        class_counts: Training images (K,); None where nobody knows them.
        reports: As in `write_plots`.

    Example:
        >>> import io
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> report = evaluate(np.eye(2), np.array([0, 1]), np.array([200, 5]))
        >>> file = io.BytesIO()
        >>> plot_accuracy(file, [200, 5], {"lort": report})
        >>> b"</svg>" in file.getvalue()
        True
    """
    figure, axes = _figure(file)
    if class_counts is None:
        for (name, report), style in _styled(reports):
            accuracy = np.sort(100 * _defined(report.per_class_accuracy))
            axes.plot(np.arange(1, len(accuracy) + 1), accuracy, **style, label=_plain(name))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(ylim=(-3, 103), xlabel="class, the lowest accuracy first", ylabel="test accuracy, %")
        _save(figure, axes, file, "Accuracy of each class")
        return
    counts = np.maximum(np.asarray(class_counts), 1)
    many, unseen = len(counts) > RASTERED, np.asarray(class_counts) == 0
    for (name, report), style in _styled(reports):
        accuracy = np.where(unseen, np.nan, 100 * _defined(report.per_class_accuracy))
        color = style["color"]
        axes.scatter(counts, accuracy, s=14, color=color, alpha=0.45, linewidths=0, rasterized=many)
        axes.plot(*_trend(counts, accuracy), **style, label=_plain(name))
    axes.update_datalim([(counts.min(), 0), (counts.max(), 100)])  # classes without a test image too
    _mark_groups(axes, counts, next(iter(reports.values())).thresholds)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(ylim=(-3, 103), xlabel="training images of the class", ylabel="test accuracy, %")
    _save(figure, axes, file, "Accuracy of each class (dots) and its trend over class size", pad=18)


def plot_magnitude(file: File, class_counts: Sequence[int], reports: Mapping[str, Report]) -> None:
    """Plot the logits magnitude of each class, relative to its mean.

    Args:
        file: As in `plot_accuracy`.
        class_counts: Training images (K,).
        reports: As in `write_plots`.

    Example:
        >>> plot_magnitude(Path("logits_magnitude.png"), [200, 5], reports)  # doctest: +SKIP
    """
    figure, axes = _figure(file)
    order = np.argsort(-np.asarray(class_counts), kind="stable")
    for (name, report), style in _styled(reports):
        magnitude = _defined(report.logits_magnitude.per_class)[order]
        mean = magnitude[np.isfinite(magnitude)].mean() if np.isfinite(magnitude).any() else np.nan
        axes.plot(magnitude / mean, **style, label=f"{_plain(name)} (mean {mean:.3g})")
    axes.axhline(1, color="black", linewidth=0.5)
    axes.set(xlabel="class, most training images first", ylabel="logits magnitude / its mean")
    _save(figure, axes, file, "Logits magnitude of each class, relative to its mean")


def plot_reliability(file: File, reports: Mapping[str, Report]) -> None:
    """Plot how often the top prediction is right against its probability.

    Args:
        file: As in `plot_accuracy`.
        reports: As in `write_plots`.

    Example:
        >>> plot_reliability(Path("reliability.png"), reports)  # doctest: +SKIP
    """
    figure, axes = _figure(file)
    axes.plot([0, 100], [0, 100], color="black", linewidth=0.5)
    for (name, report), style in _styled(reports):
        samples, confidence, accuracy = np.asarray(report.calibration).T
        filled = samples > 0
        label = f"{_plain(name)} (ECE {100 * report.ece:.1f} %)"
        axes.plot(100 * confidence[filled], 100 * accuracy[filled], **{**style, "linewidth": 1}, label=label)
        size = 10 + 150 * samples[filled] / samples.max()
        axes.scatter(
            100 * confidence[filled], 100 * accuracy[filled], s=size, color=style["color"], alpha=0.6
        )
    axes.set(xlim=(-3, 103), ylim=(-3, 103), xlabel="confidence, %", ylabel="accuracy, %")
    _save(figure, axes, file, "Reliability of the top prediction (the larger a dot, the more test images)")


def plot_tail(file: File, class_counts: Sequence[int], thresholds: Sequence[int]) -> None:
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
    figure, axes = _figure(file)
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
    _save(figure, axes, file)


def plot_comparison(file: File, rows: Sequence[ResultRow]) -> None:
    """Plot the balanced accuracy of each method: a panel for each data cell, a dot for each seed.

    Args:
        file: As in `plot_accuracy`.
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
    width = 2 + 4 * len(cells) if isinstance(file, Path) else 5
    figure = Figure(figsize=(width, 1 + 0.25 * len(methods)), dpi=150, layout="constrained")
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
        axes.set(xlabel="balanced test accuracy, %")
        axes.spines[["top", "right"]].set_visible(False)
        if isinstance(file, Path):
            axes.set_title(_plain(cell))
    figure.axes[0].set_ylim(len(methods) - 0.5, -0.5)
    _write(figure, file)


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
    figure, axes = _figure(path)
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
    axes.set(xlabel=along, ylabel="balanced test accuracy, %")
    _save(figure, axes, path, f"Study of {name}")


def _figure(file: File) -> tuple[Figure, Axes]:
    size = (7, 4) if isinstance(file, Path) else (5, 3.8)  # of a page that a phone shows too
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    return figure, figure.subplots()


def _save(figure: Figure, axes: Axes, file: File, title: str = "", pad: float | None = None) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, loc="best")
    if isinstance(file, Path):  # a page has a text of its own above it
        axes.set_title(title, pad=pad)
    _write(figure, file)


def _write(figure: Figure, file: File) -> None:
    if isinstance(file, Path):
        figure.savefig(file, metadata={"Software": None})
        return
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "lort_hub"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def _styled(reports: Mapping[str, Report]) -> list[tuple[tuple[str, Report], dict[str, Any]]]:
    """The reports, each with the colour and the dashes of its line."""
    between = [BETWEEN[k % len(BETWEEN)] for k in range(len(reports) - 2)]
    looks = [(GREY, "--"), *between, (BLUE, "-")][-len(reports) :]
    styles = [{"color": color, "linestyle": dashes, "linewidth": 2} for color, dashes in looks]
    return list(zip(reports.items(), styles, strict=True))


def _defined(values: Sequence[Number]) -> Any:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _plain(name: str) -> str:
    """A name to draw: matplotlib reads formulas between dollars, and SVG has no control characters."""
    return shorten("".join(c if c.isprintable() else " " for c in name), 48).replace("$", r"\$")


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
