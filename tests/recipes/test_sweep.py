"""The paper's studies as a user runs them."""

import json

import pytest
from accelerate import Accelerator
from scipy.stats import spearmanr
from sklearn.metrics import balanced_accuracy_score

from lort_hub.backbones.load import load_backbone
from lort_hub.data.load import load_long_tailed
from lort_hub.experiments.ablations import DELTAS, STUDIES
from lort_hub.heads.fit import fit_baseline
from lort_hub.heads.task import RetrainingTask
from tests.support.comparisons import COLUMNS, DIGITS, forked, rows_of, tables_of, without_seconds
from tests.support.recipes import SMALL, start

FLAGS = (*DIGITS, "--imbalance", "exp:100", "--studies", "delta", "path", "--output-dir")
CORRELATION = "rank correlation with balanced accuracy, over all linear heads above"


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    out = tmp_path_factory.mktemp("swept") / "out"
    finished = start("sweep.py", *FLAGS, out)
    assert finished.returncode == 0, finished.stderr
    return out, finished.stdout


def test_each_study_has_its_rows_a_table_and_a_plot(swept):
    out, said = swept
    files = sorted(path.name for path in out.iterdir())
    assert files == ["delta.png", "log.jsonl", "path.png", "results.csv", "results.md", "run.json"]
    rows = rows_of(out)
    assert [row["method"] for row in rows] == ["delta"] * 2 * len(DELTAS) + ["path"] * 33
    assert {*COLUMNS} - {"cell"} <= set(rows[0])
    text = (out / "results.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## delta", "## path", f"## {CORRELATION}",
    ]  # fmt: skip
    for name, table in tables_of(out).items():
        for line, row in zip(table, [row for row in rows if row["method"] == name], strict=True):
            varied = json.loads(row["chosen"])
            assert [line[key] for key in varied] == ["n/a" if v is None else str(v) for v in varied.values()]
            assert line["balanced"] == f"{100 * float(row['balanced_accuracy']):.1f}"
    pairs = [(float(row["logits_magnitude_mean"]), float(row["balanced_accuracy"])) for row in rows]
    rho = spearmanr(*zip(*pairs, strict=True)).statistic
    correlations = text.partition(f"## {CORRELATION}")[2]
    assert f"- mean of LoMa: {round(rho, 3)}\n" in correlations
    assert correlations.strip() in said


def test_rows_are_what_these_heads_reach_on_the_test_images(swept):
    rows = [(row, json.loads(row["chosen"])) for row in rows_of(swept[0])]
    backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
    task = RetrainingTask.extract(
        backbone, load_long_tailed("digits", imbalance="exp:100"), Accelerator(cpu=True)
    )
    ce = fit_baseline(task.training)
    shares = task.training.class_counts / len(task.training.labels)
    x, y = task.test.x, task.test.y
    weight, bias = ce.as_solved
    logits = x @ weight.T + bias
    paths = {varied["by"]: [] for row, varied in rows if row["method"] == "path"}
    for row, varied in rows:
        if row["method"] == "path":
            paths[varied["by"]].append(float(row["balanced_accuracy"]))
        if varied["by"] == "logit-adjust":
            expected = (logits - varied["strength"] * shares.log()).argmax(dim=1)
            assert float(row["balanced_accuracy"]) == pytest.approx(balanced_accuracy_score(y, expected))
    start = balanced_accuracy_score(y, logits.argmax(dim=1))
    assert {name: rates[0] for name, rates in paths.items()} == pytest.approx(dict.fromkeys(paths, start))
    assert all(max(rates) > start for rates in paths.values())


def test_the_same_command_gives_the_same_numbers_and_a_folder_in_use_is_left_alone(swept, tmp_path):
    again = forked(tmp_path, *FLAGS, "again", recipe="sweep.py")
    assert again["code"] == 0, again["said"]
    assert without_seconds(rows_of(tmp_path / "again")) == without_seconds(rows_of(swept[0]))
    before = (tmp_path / "again" / "results.csv").read_bytes()
    for flag, code, message in (((), 1, "--overwrite"), (("--resume",), 0, "nothing to do")):
        finished = forked(tmp_path, *FLAGS, "again", *flag, recipe="sweep.py")
        assert finished["code"] == code
        assert message in finished["said"]
    assert (tmp_path / "again" / "results.csv").read_bytes() == before


def test_all_studies_run_on_a_backbone_s_own_head_and_views(photos, tmp_path):
    flags = ("--dataset", photos, "--output-dir", "head", "--method", "ce", "--bootstrap", "0")
    head = forked(tmp_path, *SMALL, *flags, recipe="retrain.py")
    assert head["code"] == 0, head["said"]
    flags = ("--features-of", "head", "--dataset", photos, "--num-workers", "0", "--views", "1")
    finished = forked(tmp_path, *flags, "--output-dir", "out", recipe="sweep.py")
    assert finished["code"] == 0, finished["said"]
    rows = rows_of(tmp_path / "out")
    assert list(dict.fromkeys(row["method"] for row in rows)) == list(STUDIES)
    assert all((tmp_path / "out" / f"{name}.png").exists() for name in STUDIES)
    seen = [json.loads(row["chosen"])["views"] for row in rows if row["method"] == "views"]
    assert seen == [0, 0, 1, 1]
    test = json.loads((tmp_path / "head" / "metrics.json").read_text())["test"]
    own = [row for row in rows if json.loads(row["chosen"]) == {"head": "baseline", "scale": 1.0}]
    assert [float(row["nll"]) for row in own] == [pytest.approx(test["nll"], abs=1e-5)]
    assert "nan" not in (tmp_path / "out" / "results.md").read_text()


def test_wrong_arguments_exit_2_and_a_dry_run_writes_nothing(tmp_path):
    unknown = forked(tmp_path, *DIGITS, "--studies", "delta", "wieght-decay", recipe="sweep.py")
    assert unknown["code"] == 2
    assert "Did you mean 'weight-decay'" in unknown["said"]
    views = forked(tmp_path, *DIGITS, "--views", "-1", recipe="sweep.py")
    assert views["code"] == 2
    assert "--views is -1" in views["said"]
    dry = forked(tmp_path, *DIGITS, "--dry-run", "--studies", "scale", recipe="sweep.py")
    assert dry["code"] == 0, dry["said"]
    assert "test_resnet on digits: studies scale" in dry["said"]
    assert not list(tmp_path.iterdir())
