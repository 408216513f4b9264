import json
import subprocess
from dataclasses import fields

import pytest

import lort_hub
from lort_hub.evaluation.report import MetricsRecord
from lort_hub.records import RunRecord, TrainedOn, environment, git_revision, read_trained_on
from lort_hub.serialization import Record
from tests.support import ROOT

CARD = ROOT / "model_cards" / "cifar100-lt-ir100-resnet32-stage-1"
KINDS = {"run": RunRecord, "metrics": MetricsRecord}


def later(value):
    """JSON of a record as a later version may write it: each of its parts has a field more."""
    if isinstance(value, Record):
        known = {field.name.rstrip("_"): later(getattr(value, field.name)) for field in fields(value)}
        return {**known, "added_later": [1]}
    if isinstance(value, dict):
        return {name: later(item) for name, item in value.items()}
    return [later(item) for item in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", KINDS)
def test_a_published_file_of_a_later_version_is_read(name):
    record = KINDS[name].read(CARD / f"{name}.json")
    text = json.dumps(later(record))
    assert text.count("added_later") >= 4
    assert KINDS[name].from_json(json.loads(text)) == record


def test_only_a_model_that_lort_hub_trained_has_a_record_of_its_images(tmp_path):
    rows = read_trained_on(CARD).rows
    assert (len(rows), rows[:2]) == (9796, (0, 1))
    for text in ("", "[]", "{}", '{"backbone": {"trained_on": null}}', '{"backbone": {"trained_on": {}}}'):
        (tmp_path / "run.json").write_text(text)
        assert read_trained_on(tmp_path) is None
    record = TrainedOn("digits", "train", (1, 2), "f00")
    (tmp_path / "run.json").write_text(json.dumps({"backbone": {"trained_on": record.to_json()}}))
    assert read_trained_on(tmp_path) == record


def git(folder, *words):
    identity = ["-c", "user.name=x", "-c", "user.email=x@y"]
    command = ["git", *identity, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_the_revision_is_that_of_the_repository_that_tracks_the_recipe(tmp_path, monkeypatch):
    recipe = tmp_path / "recipes" / "retrain.py"
    recipe.parent.mkdir()
    recipe.touch()
    assert git_revision(recipe) is None  # in no repository
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-qm", "first", "--allow-empty")
    assert git_revision(recipe) is None  # inside of one that does not have it, as site-packages may be
    git(tmp_path, "add", recipe)
    git(tmp_path, "commit", "-qm", "second")
    assert git_revision(recipe) == git(tmp_path, "rev-parse", "HEAD")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert git_revision(recipe) is None


@pytest.mark.parametrize("path", [None, "/nonexistent"])
def test_environment_is_recorded_with_and_without_git(monkeypatch, path):
    if path:
        monkeypatch.setenv("PATH", path)
    found = environment("lort-hub retrain")
    assert found.command == "lort-hub retrain"
    assert (environment().command, environment().git_revision) == (None, None)
    assert found.versions["lort_hub"] == lort_hub.__version__
    assert {"torch", "timm", "transformers", "datasets", "accelerate"} <= set(found.versions)
    revision = found.git_revision
    assert revision is None if path else revision is None or len(revision) == 40
