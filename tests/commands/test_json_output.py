"""One object on stdout, whatever a recipe prints, and nothing where there is no result."""

import csv
import json
import sys

import pytest

from lort_hub.commands.json_output import print_result
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.retraining_arguments import RetrainingArguments
from lort_hub.commands.runtime import run
from lort_hub.errors import ConfigError, LortHubError
from tests.support.hub_server import WRITE, serve
from tests.support.recipes import SMALL, refused
from tests.support.recipes import run as run_fork


def recipe():
    print("features: 1.0 s")
    return {"accuracy": 0.5, "few": None, "name": "日本"}


def test_what_is_printed_goes_to_stderr_and_the_result_is_all_of_stdout(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["recipe.py", "--json"])
    run(recipe)
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"accuracy": 0.5, "few": None, "name": "日本"}
    assert shown.err == "features: 1.0 s\n"
    print_result(lambda: None)
    assert capsys.readouterr().out == ""


def test_without_the_flag_and_on_other_processes_no_result_is_printed(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["recipe.py"])
    run(recipe)
    assert capsys.readouterr() == ("features: 1.0 s\n", "")
    monkeypatch.setattr(sys, "argv", ["recipe.py", "--json"])
    monkeypatch.setenv("RANK", "1")
    run(recipe)
    assert capsys.readouterr() == ("", "features: 1.0 s\n")


def test_an_error_leaves_stdout_empty_and_nan_is_a_bug(capsys, monkeypatch):
    def main():
        raise LortHubError("What happened.")

    monkeypatch.setattr(sys, "argv", ["recipe.py", "--json"])
    assert refused(capsys, main) == (1, "error: What happened.\n")
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="not JSON compliant"):
        run(lambda: {"nll": float("nan")})


def test_a_recipe_without_a_result_does_not_know_the_flag():
    assert not hasattr(parse_arguments(RetrainingArguments, ["--json"], json=True), "json")
    with pytest.raises(ConfigError, match="Unknown argument '--json'"):
        parse_arguments(RetrainingArguments, ["--json"])


def result(recipe, *flags, **options):
    """The one JSON object that a recipe prints."""
    finished = run_fork(recipe, *flags, "--json", **options)
    assert finished.returncode == 0, finished.stderr
    [line] = finished.stdout.splitlines()
    return json.loads(line)


def test_commands_that_make_a_model_print_its_scores(photos, tmp_path):
    flags = [*SMALL, "--dataset", photos, "--output-dir"]
    made = result("retrain.py", *flags, tmp_path / "head", "--method", "ncm")
    assert (made["output_dir"], made["method"], made["pushed"]) == (str(tmp_path / "head"), "ncm", None)
    test = json.loads((tmp_path / "head" / "metrics.json").read_text())["test"]
    assert list(made["results"]) == ["ce", "lort", "ncm"]
    assert made["results"]["ncm"]["balanced_accuracy"] == test["balanced_accuracy"]
    assert result("retrain.py", *flags, tmp_path / "head", "--method", "ncm", "--resume") == made
    assert "into" in result("retrain.py", *flags, tmp_path / "no", "--dry-run")["plan"]
    trained = result("train.py", *flags, tmp_path / "stage1", "--epochs", "1")
    assert (trained["method"], list(trained["results"])) == ("stage 1", ["stage 1"])


@pytest.mark.parametrize("recipe", [["compare.py", "--methods", "ncm"], ["sweep.py", "--studies", "delta"]])
def test_commands_that_make_a_table_print_its_rows(recipe, photos, tmp_path):
    flags = [*recipe, *SMALL, "--dataset", photos, "--output-dir", tmp_path / "out"]
    made = result(*flags)
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(made["results"]) == len(rows)
    for row, shown in zip(rows, made["results"], strict=True):
        assert shown["many"] is None
        assert shown["balanced_accuracy"] == float(row["balanced_accuracy"])
        assert shown["chosen"] == json.loads(row["chosen"])
    assert result(*flags, "--resume") == made


def test_an_audit_and_an_adaptation_print_their_records(photos, outputs, tmp_path):
    made = result("audit.py", photos, "--output-dir", tmp_path / "audit")
    assert made.pop("output_dir") == str(tmp_path / "audit")
    assert made == json.loads((tmp_path / "audit" / "audit.json").read_text())
    flags = ["--images", photos / "test", "--estimator", "em", "--output-dir", tmp_path / "adapted"]
    made = result("adapt.py", outputs["timm"], *flags)
    assert (made["samples"], made["estimator"], len(made["class_mix"])) == (12, "em", 10)
    assert sum(row["share"] for row in made["class_mix"]) == pytest.approx(1, abs=1e-6)


def test_a_push_prints_where_it_went(outputs, tmp_path):
    with serve(tmp_path / "hub") as hub:
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": WRITE}
        planned = result("push.py", outputs["timm"], "--to", "me/model", "--dry-run", **environment)
        assert planned["files"]["README.md"] == (outputs["timm"] / "README.md").stat().st_size
        made = result("push.py", outputs["timm"], "--to", "me/model", **environment)
        address = f"{hub.endpoint}/me/model"
        assert made == {"to": "me/model", "url": address, "commit": hub.repo("me/model").at("main").oid}
        refused = run_fork("push.py", tmp_path, "--to", "me/model", "--json", **environment)
        assert (refused.returncode, refused.stdout) == (1, "")
