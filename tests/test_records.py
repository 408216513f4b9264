import subprocess

import pytest

import lort_hub
from lort_hub.records import environment, git_revision
from tests.support import ROOT


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
    assert git_revision(recipe) != git(ROOT, "rev-parse", "HEAD")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert git_revision(recipe) is None


@pytest.mark.parametrize("path", [None, "/nonexistent"])
def test_environment_is_recorded_with_and_without_git(monkeypatch, path):
    if path:
        monkeypatch.setenv("PATH", path)
    found = environment("lort-hub retrain")
    assert found["command"] == "lort-hub retrain"
    assert found["versions"]["lort_hub"] == lort_hub.__version__
    assert {"torch", "timm", "transformers", "datasets", "accelerate"} <= set(found["versions"])
    revision = found["git_revision"]
    assert revision is None if path else revision is None or len(revision) == 40
