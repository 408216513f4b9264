import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure

from lort_hub.metrics import evaluate
from lort_hub.plots import write_plots

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
        expected = [np.nan if rate is None else 100 * rate for rate in found["per_class_accuracy"]]
        np.testing.assert_allclose(np.ma.filled(dots.get_offsets(), np.nan)[:, 1], expected)
        np.testing.assert_allclose(np.ma.filled(dots.get_offsets()[:, 0], np.nan)[:5], counts[:5])
    assert all(np.isfinite(line.get_ydata()).all() for line in axes.lines)
    assert [text.get_text() for text in axes.texts] == ["few", "medium", "many"]
    magnitude = figures["logits_magnitude.png"].axes[0].lines[1].get_ydata()
    expected = np.array(reports["lort"]["logits_magnitude"]["per_class"])
    np.testing.assert_allclose(magnitude, expected / expected.mean())
    line = figures["reliability.png"].axes[0].lines[2]
    bins = np.array(reports["lort"]["calibration"])
    np.testing.assert_allclose(line.get_xydata(), 100 * bins[bins[:, 0] > 0, 1:])
