"""All methods on the same features, and the one of them that retrain.py takes by itself."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from lort_hub.backbones.load import load_backbone
from lort_hub.data.load import load_long_tailed
from lort_hub.evaluation.metrics import evaluate
from lort_hub.heads.choice import Choice
from lort_hub.heads.fit import fit_baseline, fit_head
from lort_hub.heads.methods import BEST_OF, CHOICES, METHODS, STACK, STACKED
from lort_hub.heads.stack import fit_stack
from lort_hub.heads.task import RetrainingTask
from lort_hub.hub.output import save_output
from tests.support.comparisons import COLUMNS, DIGITS, forked, rows_of, tables_of, without_seconds
from tests.support.pages import check_page
from tests.support.recipes import SMALL, serve, start


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("compared") / "out"
    finished = start("compare.py", *DIGITS, "--methods", "ce", "ncm", "lort", "auto", "--output-dir", out)
    assert finished.returncode == 0, finished.stderr
    return out, finished.stdout


@pytest.fixture(scope="module")
def task():
    backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
    return RetrainingTask.extract(backbone, load_long_tailed("digits"), Accelerator(cpu=True))


def test_a_row_for_every_method_with_the_columns_promised(compared):
    out, said = compared
    files = sorted(path.name for path in out.iterdir())
    names = ["comparison.png", "log.jsonl", "report.html", "results.csv", "results.md", "run.json"]
    assert files == names
    rows = {row["method"]: row for row in rows_of(out)}
    assert list(rows) == ["ce", "ncm", "lort", "auto"]
    for row in rows.values():
        assert set(COLUMNS) <= set(row)
        assert (row["cell"], row["seed"], row["n"]) == ("test_resnet, digits, exp:10", "0", "500")
    chosen = json.loads(rows["auto"]["chosen"])
    assert chosen.pop("method") == STACK
    assert chosen.pop("tau") >= 0
    assert abs(chosen.pop("slope")) < 0.5
    assert set(chosen) <= set(STACKED)
    assert float(rows["auto"]["seconds"]) > float(rows["ce"]["seconds"]) + float(rows["lort"]["seconds"])
    assert json.loads(rows["ncm"]["chosen"]) == {}
    assert json.loads((out / "run.json").read_text())["arguments"]["methods"] == list(rows)
    [(title, table)] = tables_of(out).items()
    assert title == "test_resnet, digits, exp:10"
    page = check_page((out / "report.html").read_text())
    for line, row in zip(table, rows.values(), strict=True):
        for number in line.values():
            assert number.replace(" ", "") in page.text.replace(" ", "")
        assert line["method"] == row["method"]
        assert line["balanced"] == f"{100 * float(row['balanced_accuracy']):.1f}"
        assert (line["p vs ce"] == "") == (row["method"] in ("ce", "auto"))
    assert (out / "results.md").read_text().strip() in said


def test_rows_are_what_these_heads_reach_on_the_test_images(compared, task):
    rows = {row["method"]: row for row in rows_of(compared[0])}
    training, x, y = task.training, task.test.x, task.test.y
    means = torch.stack([training.x[training.labels == k].mean(dim=0) for k in range(10)])
    nearest = torch.cdist(x, means).argmin(dim=1)
    assert float(rows["ncm"]["accuracy"]) == (nearest == y).double().mean().item()
    assert float(rows["ncm"]["macro_f1"]) == pytest.approx(f1_score(y, nearest, average="macro"))
    fit = fit_head(training, "lort")
    assert json.loads(rows["lort"]["chosen"]) == pytest.approx(fit.settings)
    logits = fit.logits(x)
    expected = balanced_accuracy_score(y, logits.argmax(dim=1))
    assert float(rows["lort"]["balanced_accuracy"]) == pytest.approx(expected)
    assert float(rows["lort"]["nll"]) == pytest.approx(log_loss(y, logits.double().softmax(dim=1)), rel=1e-5)
    assert float(rows["lort"]["uniform"]) == pytest.approx(expected)
    baseline = fit_baseline(training)
    fits = [fit_head(training, name, baseline=baseline) for name in STACKED[1:]]
    logits = fit_stack(training, baseline=baseline, known=fits).logits(x)
    assert float(rows["auto"]["nll"]) == pytest.approx(log_loss(y, logits.double().softmax(dim=1)), rel=1e-4)


def test_the_same_command_gives_the_same_numbers_and_a_folder_in_use_is_left_alone(compared, tmp_path):
    out, _ = compared
    flags = (*DIGITS, "--methods", "ce", "ncm", "lort", "auto", "--output-dir")
    again = forked(tmp_path, *flags, tmp_path / "again")
    assert again["code"] == 0, again["said"]
    assert without_seconds(rows_of(tmp_path / "again")) == without_seconds(rows_of(out))
    assert (tmp_path / "again" / "comparison.png").read_bytes() == (out / "comparison.png").read_bytes()
    before = (tmp_path / "again" / "results.csv").read_bytes()
    refused = forked(tmp_path, *flags, tmp_path / "again")
    assert refused["code"] == 1
    assert "--overwrite" in refused["said"]
    resumed = forked(tmp_path, *flags, tmp_path / "again", "--resume")
    assert resumed["code"] == 0
    assert "nothing to do" in resumed["said"]
    assert (tmp_path / "again" / "results.csv").read_bytes() == before
    flags = (*DIGITS, "--methods", "ncm", "--overwrite", "--output-dir")
    assert forked(tmp_path, *flags, tmp_path / "again")["code"] == 0
    assert [row["method"] for row in rows_of(tmp_path / "again")] == ["ncm"]


def test_cuts_make_a_table_each_and_seeds_draw_other_tails(tmp_path):
    flags = (*DIGITS, "--methods", "ncm", "lort", "--imbalances", "exp:10", "step:20", "--seeds", "2")
    shuffled = forked(tmp_path, *flags, "--subset", "shuffle", "--output-dir", "shuffled")
    assert shuffled["code"] == 0, shuffled["said"]
    rows = rows_of(tmp_path / "shuffled")
    cells = [f"test_resnet, digits, {cut}" for cut in ("exp:10", "step:20")]
    got = [(row["cell"], row["seed"], row["method"]) for row in rows]
    assert got == [(cell, seed, name) for cell in cells for seed in "01" for name in ("ncm", "lort")]
    tables = tables_of(tmp_path / "shuffled")
    assert list(tables) == cells
    for cell, table in tables.items():
        for line in table:
            own = [row for row in rows if (row["cell"], row["method"]) == (cell, line["method"])]
            rates = [100 * float(row["balanced_accuracy"]) for row in own]
            assert rates[0] != rates[1]
            assert line["balanced"] == f"{np.mean(rates):.1f} ± {np.std(rates, ddof=1):.1f}"
    assert {line["medium"] for line in tables[cells[1]]} == {"n/a"}
    first = forked(tmp_path, *flags, "--output-dir", "first")
    assert first["code"] == 0, first["said"]
    numbers = without_seconds(rows_of(tmp_path / "first"))
    for one, other in ((0, 2), (1, 3)):  # no folds, no order, the same images: the same head
        for column in ("balanced_accuracy", "many", "macro_f1"):  # whose folds calibrate it otherwise
            assert numbers[one][column] == numbers[other][column]
    flags = (*DIGITS, "--methods", "ncm", "--subset", "shuffle", "--subset-seed", "1", "--output-dir", "one")
    assert forked(tmp_path, *flags)["code"] == 0
    [alone] = without_seconds(rows_of(tmp_path / "one"))
    for column in ("balanced_accuracy", "many", "macro_f1"):
        assert alone[column] == without_seconds(rows)[2][column]


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_a_comparison_killed_anywhere_goes_on_with_the_seeds_it_had(tmp_path, every):
    flags = [*DIGITS, "--methods", "ncm", "crt", "--seeds", "2", "--output-dir"]

    def step(folder, *more, **plan):
        return {"flags": [*flags, folder, *more], "recipe": "compare.py", **plan}

    whole = serve([step("whole")], tmp_path)[0]
    assert whole["code"] == 0, whole["said"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole"]
    points = range(every + 1, whole["seen"] + 1, every)
    killed = serve([step(f"k{point}", kill_at=point) for point in points], tmp_path)
    assert {dead["code"] for dead in killed} == {-9}
    kept = {point: len([*(tmp_path / f"k{point}-unfinished").glob("*.npz")]) for point in points}
    assert {0, 1, 2} == set(kept.values())
    half = next(point for point in points if kept[point] == 1)
    refused, other = serve([step(f"k{half}"), step(f"k{half}", "--resume", "--seed", "7")], tmp_path)
    assert "holds an interrupted run" in refused["said"]
    assert "seed 0 -> 7" in other["said"]
    resumed = serve([step(f"k{point}", "--resume") for point in points], tmp_path)
    for point, went_on in zip(points, resumed, strict=True):
        assert went_on["code"] == 0, went_on["said"]
        done = "nothing to do" in went_on["said"]
        assert done or went_on["said"].count("done before the interruption") == kept[point]
        assert without_seconds(rows_of(tmp_path / f"k{point}")) == without_seconds(
            rows_of(tmp_path / "whole")
        )


def test_wrong_arguments_exit_2_and_a_dry_run_writes_nothing(tmp_path):
    unknown = forked(tmp_path, *DIGITS, "--methods", "ce", "ballanced-softmax")
    assert unknown["code"] == 2
    assert "Did you mean 'balanced-softmax'" in unknown["said"]
    seeds = forked(tmp_path, *DIGITS, "--seeds", "0")
    assert seeds["code"] == 2
    assert "--seeds is 0" in seeds["said"]
    dry = forked(tmp_path, *DIGITS, "--dry-run", "--imbalances", "exp:10", "step:20")
    assert dry["code"] == 0, dry["said"]
    assert f"{', '.join((*METHODS, *CHOICES))} into out" in dry["said"]
    for cut in ("exp:10", "step:20"):
        size = len(load_long_tailed("digits", imbalance=cut).train)
        assert f"digits, {cut}, seed 0: {size} training, 500 test images" in dry["said"]
    assert not list(tmp_path.iterdir())


def test_adapted_heads_stand_beside_those_as_they_are_and_the_one_that_knows_the_prior(tmp_path):
    finished = start(
        "compare.py", *DIGITS, "--methods", "ce", "ncm", "--adapt", "--output-dir", tmp_path / "out"
    )
    assert finished.returncode == 0, finished.stderr
    hows = ("", " em", " bbse", " oracle")
    for row in rows_of(tmp_path / "out"):
        priors = [name.removesuffix(" oracle") for name in row if name.endswith(" oracle")]
        assert {"uniform", "forward 50", "backward 50"} <= set(priors)
        assert float(row["uniform"]) == pytest.approx(float(row["balanced_accuracy"]))
        for prior in priors:
            cells = [f"{100 * float(row[prior + how]):.1f}" for how in hows]
            assert f"| {' | '.join((row['method'], prior, *cells))} |" in finished.stdout


def test_the_backbone_s_own_head_stands_first(photos, tmp_path):
    flags = ("--dataset", photos, "--output-dir", "head", "--method", "ce", "--bootstrap", "0")
    head = forked(tmp_path, *SMALL, *flags, recipe="retrain.py")
    assert head["code"] == 0, head["said"]
    flags = ("--features-of", "head", "--dataset", photos, "--num-workers", "0", "--output-dir", "out")
    finished = forked(tmp_path, *flags, "--methods", "linear-adjust", "disalign")
    assert finished["code"] == 0, finished["said"]
    rows = rows_of(tmp_path / "out")
    assert [row["method"] for row in rows] == ["stage 1", "linear-adjust", "disalign"]
    test = json.loads((tmp_path / "head" / "metrics.json").read_text())["test"]
    assert float(rows[0]["accuracy"]) == test["accuracy"]
    assert float(rows[0]["nll"]) == pytest.approx(test["nll"], abs=1e-5)
    assert rows[0]["many"] == ""
    assert rows[2]["weight_norm_spread"] == ""  # disalign is no linear head
    assert {line["many"] for table in tables_of(tmp_path / "out").values() for line in table} == {"n/a"}


def test_a_folder_s_name_is_no_markup(photos, tmp_path):
    folder = tmp_path / "a|b <i>c"
    shutil.copytree(photos, folder)
    flags = ("--dataset", folder, "--methods", "ncm", "logit-adjust", "--output-dir", "out")
    finished = forked(tmp_path, *SMALL, *flags)
    assert finished["code"] == 0, finished["said"]
    assert rows_of(tmp_path / "out")[0]["cell"] == "test_resnet, a|b <i>c, none"
    [table] = tables_of(tmp_path / "out").values()
    assert [line["method"] for line in table] == ["ncm", "logit-adjust"]
    assert "<i>" not in (tmp_path / "out" / "results.md").read_text()


def test_the_advice_on_a_broken_image_can_be_followed(photos, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    (folder / "train" / "bee" / "3.png").write_bytes(b"not a picture")
    flags = (*SMALL, "--dataset", folder, "--methods", "ncm", "--output-dir", "out")
    stopped = forked(tmp_path, *flags)
    assert stopped["code"] == 1
    assert "class 'bee'" in stopped["said"]
    advised = stopped["said"].partition("leave all such images out with ")[2].strip().strip(".").split()
    followed = forked(tmp_path, *flags, *advised)
    assert followed["code"] == 0, followed["said"]


def test_retrain_explains_in_its_card_the_method_it_chose(photos, tmp_path):
    flags = (*SMALL, "--dataset", photos, "--output-dir", "out", "--method", "best")
    finished = forked(tmp_path, *flags, recipe="retrain.py")
    assert finished["code"] == 0, finished["said"]
    selection = json.loads((tmp_path / "out" / "metrics.json").read_text())["selection"]
    head = json.loads((tmp_path / "out" / "run.json").read_text())["head"]
    assert list(selection["methods"]) == list(BEST_OF)
    assert selection["why"].startswith(f"{head['method']} has NLL ")
    assert f"{abs(selection['methods'][head['method']]):.3f} on held-out training images" in selection["why"]
    assert selection["why"] in finished["said"]
    assert f"Method chosen as well: {selection['why']}." in (tmp_path / "out" / "README.md").read_text()
    for flag in (("--gamma", "1"), ("--delta", "0.9"), ("--views", "1"), ("--solver", "sgd")):
        refused = forked(tmp_path, *flags, "--overwrite", *flag, recipe="retrain.py")
        assert refused["code"] == 2
        assert "--method best chooses every setting" in refused["said"]


@pytest.mark.parametrize("method", ["lws", "ce"])
def test_a_chosen_method_is_explained_even_if_it_has_no_settings_or_is_the_baseline(method, task, tmp_path):
    training, baseline = task.training, fit_head(task.training, "ce")
    fit = baseline if method == "ce" else fit_head(training, method, baseline=baseline)
    scores = dict.fromkeys(BEST_OF, 0.5) | {method: 0.75}
    fit = replace(fit, choice=Choice(method, "balanced-accuracy", {}, scores, dict.fromkeys(BEST_OF, 0.01)))
    counts, labels = training.class_counts.numpy(), task.test.y.numpy()
    reports = {
        head.method: evaluate(head.logits(task.test.x), labels, counts, weight=head.weight)
        for head in (baseline, fit)
    }
    backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
    save_output(tmp_path / "out", backbone, task.data, fit, reports)
    assert f"{method} has balanced-accuracy 75.0 on held-out" in (tmp_path / "out" / "README.md").read_text()
