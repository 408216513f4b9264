import subprocess

import lort_hub
from lort_hub.records import environment, git_revision


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


def test_an_environment_without_a_recipe_has_no_command_and_no_revision():
    found = environment()
    assert (found["command"], found["git_revision"]) == (None, None)
    assert found["versions"]["lort_hub"] == lort_hub.__version__
    assert {"torch", "timm", "transformers", "datasets", "accelerate"} <= set(found["versions"])
