import numpy as np
import pytest
from matplotlib import image
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from lort_hub.evaluation.metrics import evaluate
from lort_hub.evaluation.plots import ORANGE, plot_comparison, plot_study, write_plots
from lort_hub.experiments.ablations import STUDIES, Bench
from lort_hub.heads.fit import fit_head
from tests.support.features import clusters
from tests.support.rows import row_of

NAMES = ["logits_magnitude.png", "per_class_accuracy.png", "reliability.png"]


def report(counts, tested=None, seed=0):
    """Report on random logits; `tested` are the classes that have test images."""
    classes = len(counts)
    labels = np.repeat(np.arange(classes) if tested is None else tested, 8)
    rng = np.random.default_rng(seed)
    return evaluate(rng.normal(size=(len(labels), classes)) + 2 * np.eye(classes)[labels], labels, counts)


@pytest.fixture
def figures(monkeypatch):
    """The figures behind the files, by name."""
    drawn, savefig = {}, Figure.savefig

    def kept(self, path, **options):
        drawn[path.name] = self
        savefig(self, path, **options)

    monkeypatch.setattr(Figure, "savefig", kept)
    return drawn


def check(folder):
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    for name in NAMES:
        data = (folder / name).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert b"Software" not in data  # a new matplotlib alone changes no file
        pixels = image.imread(folder / name)
        assert pixels.shape[:2] == (600, 1050)
        assert 0.005 < (pixels[..., :3].min(axis=2) < 0.9).mean() < 0.5  # neither blank nor all ink


@pytest.mark.parametrize(
    ("counts", "tested"),
    [
        ([500, 400, 300], None),  # medium and few are empty
        ([50, 50], None),  # no long tail at all, and many and few are empty
        ([500, 300, 60, 5], [0, 2]),  # classes without test images: None in the report
        ([9, 6, 1], [0]),  # one class alone: no logits magnitude is defined
        ([1, 1, 1], None),
        (list(range(1000, 0, -10)), None),
    ],
)
def test_plots_are_drawn_without_a_warning(tmp_path, counts, tested):
    reports = {"ce": report(counts, tested), "lort": report(counts, tested, seed=1)}
    write_plots(tmp_path / "plots", counts, reports)
    check(tmp_path / "plots")


def test_names_are_no_formulas(tmp_path, figures):
    name = "$x^{$ \\frac"
    write_plots(tmp_path, [200, 5], {"ce": report([200, 5]), name: report([200, 5], seed=1)})
    check(tmp_path)
    for figure in figures.values():
        shown = figure.axes[0].get_legend().get_texts()[1]
        assert shown.get_text().startswith(name.replace("$", r"\$"))
        assert not shown._preprocess_math(shown.get_text())[1]


def test_head_without_a_baseline_is_drawn_alone(tmp_path, figures):
    write_plots(tmp_path, [200, 5], {"ce": report([200, 5])})
    check(tmp_path)
    assert all(len(figure.axes[0].get_legend().get_texts()) == 1 for figure in figures.values())


def test_dots_and_lines_are_the_report_s_numbers_every_time(tmp_path, figures):
    counts = [500, 300, 150, 60, 30, 10, 5]
    reports = {"ce": report(counts, [0, 1, 2, 3, 4, 6]), "lort": report(counts, seed=1)}
    for folder in ("a", "b"):
        write_plots(tmp_path / folder, counts, reports)
    for name in NAMES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    axes = figures["per_class_accuracy.png"].axes[0]
    for dots, found in zip(axes.collections, reports.values(), strict=True):
        expected = [np.nan if rate is None else 100 * rate for rate in found.per_class_accuracy]
        np.testing.assert_allclose(np.ma.filled(dots.get_offsets(), np.nan)[:, 1], expected)
        np.testing.assert_allclose(np.ma.filled(dots.get_offsets()[:, 0], np.nan)[:5], counts[:5])
    assert all(np.isfinite(line.get_ydata()).all() for line in axes.lines)
    assert [text.get_text() for text in axes.texts] == ["few", "medium", "many"]
    magnitude = figures["logits_magnitude.png"].axes[0].lines[1].get_ydata()
    expected = np.array(reports["lort"].logits_magnitude.per_class)
    np.testing.assert_allclose(magnitude, expected / expected.mean())
    line = figures["reliability.png"].axes[0].lines[2]
    bins = np.array(reports["lort"].calibration)
    np.testing.assert_allclose(line.get_xydata(), 100 * bins[bins[:, 0] > 0, 1:])


def dots(axes):
    """Place and balanced accuracies of each method's dots; every second collection is a mean."""
    pairs = [offsets.get_offsets().data for offsets in axes.collections]
    return {int(one[0, 1]): one[:, 0].tolist() for one in pairs[::2]}, [m[0, 0] for m in pairs[1::2]]


def test_comparison_has_a_panel_for_each_cell_and_a_dot_for_each_seed(tmp_path, figures):
    numbers = {
        ("a|b", "ce"): [0.1, 0.3],
        ("a|b", "auto"): [0.5, 0.7],
        ("$x^{$", "ce"): [0.2],
        ("$x^{$", "auto"): [0.9],
    }
    rows = [
        row_of(cell=cell, method=method, balanced_accuracy=rate)
        for (cell, method), rates in numbers.items()
        for rate in rates
    ]
    for name in ("a.png", "b.png"):
        plot_comparison(tmp_path / name, rows)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    first, second = figures["a.png"].axes
    assert dots(first) == ({0: [10, 30], 1: [50, 70]}, [20, 60])
    assert dots(second) == ({0: [20], 1: [90]}, [20, 90])
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["ce", "auto"]
    assert first.yaxis_inverted()  # the first method on top
    assert second.yaxis_inverted()
    assert [axes.get_title() for axes in (first, second)] == ["a|b", r"\$x^{\$"]
    assert not second.title._preprocess_math(second.get_title())[1]
    assert [same_color(c.get_facecolor()[0][:3], ORANGE) for c in first.collections[::2]] == [False, True]


def study(name, tmp_path, figures, varied):
    """The axes of a study whose k-th head is right k percent of the time."""
    rows = [row_of(chosen=v, balanced_accuracy=k / 100) for k, v in enumerate(varied)]
    plot_study(tmp_path / f"{name}.png", name, rows)
    return figures[f"{name}.png"].axes[0]


def lines_of(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def test_a_study_is_a_line_along_its_last_number_for_each_of_the_others(tmp_path, figures):
    varied = [{"from": f"${start}", "lr": lr} for lr in (1e-4, 1e-2) for start in ("zero", "head")]
    axes = study("lr", tmp_path, figures, varied)
    assert lines_of(axes) == {
        r"\$zero": [[1e-4, pytest.approx(0)], [1e-2, pytest.approx(2)]],
        r"\$head": [[1e-4, pytest.approx(1)], [1e-2, pytest.approx(3)]],
    }
    assert (axes.get_xlabel(), axes.get_xscale()) == ("lr", "log")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [r"\$zero", r"\$head"]
    axes = study("views", tmp_path, figures, [{"lr": 0.1, "views": k} for k in range(3)])
    assert list(lines_of(axes)) == ["lr 0.1"]
    assert axes.get_xscale() == "linear"
    alone = study("alone", tmp_path, figures, [{"lr": 1.0}, {"lr": 2.0}])
    assert alone.get_legend() is None
    assert alone.lines[0].get_xdata().tolist() == [1, 2]


@pytest.mark.parametrize("name", STUDIES)
def test_no_study_is_a_plot_of_single_dots(name, tmp_path, figures):
    training, _ = clusters(counts=(9, 6, 3), dim=2)
    bench = Bench(training, fit_head(training, "ncm"), [training.matrix])
    axes = study(name, tmp_path, figures, [varied for varied, _ in STUDIES[name](bench)])
    assert all(len(points) > 1 for points in lines_of(axes).values())
    assert len(axes.lines) < 8


def test_without_training_counts_there_is_no_order_of_logits_magnitudes(tmp_path, figures):
    write_plots(tmp_path, None, {str(k): report([200, 50, 5], seed=k) for k in range(3)})
    assert sorted(figures) == ["per_class_accuracy.png", "reliability.png"]
