"""The built wheel, installed in a folder of its own and run with no checkout in sight."""

import json
import os
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.recipes import SMALL


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder in which the wheel is installed without its dependencies, inside a git repository."""
    folder = tmp_path_factory.mktemp("installed")
    git = ["git", "-C", folder, "-c", "user.name=x", "-c", "user.email=x"]
    for command in (
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "dist"],
        [*git, "init", "-q"],
        [*git, "commit", "-qm", "x", "--allow-empty"],
    ):
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    [wheel] = (folder / "dist").iterdir()
    target = ["--no-deps", "--no-index", "--target", folder / "site"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *target, wheel], check=True, capture_output=True, timeout=120
    )
    return folder / "site"


@pytest.fixture
def run(installed, tmp_path):
    """Run a command of the installed wheel in an empty folder."""

    def run(*words):
        environment = {**os.environ, "PYTHONPATH": str(installed), "LORT_HUB_CACHE": str(tmp_path / "cache")}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
        command = [str(word) for word in words]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300
        )

    return run


def test_the_wheel_holds_the_recipes_of_the_checkout(installed):
    for folder, pattern in (("", "*.py"), ("configs", "*.yaml")):
        ours, shipped = ROOT / "recipes" / folder, installed / "lort_hub" / "recipes" / folder
        assert {path.name: path.read_bytes() for path in ours.glob(pattern)} == {
            path.name: path.read_bytes() for path in shipped.glob(pattern)
        }


def test_the_command_runs_from_the_wheel_alone(installed, run, tmp_path):
    imported = run(sys.executable, "-c", "import lort_hub; print(lort_hub.__file__)")
    assert imported.stdout.strip() == str(installed / "lort_hub" / "__init__.py")
    command = installed / "bin" / "lort-hub"
    assert "  retrain  " in run(command).stdout
    config = ["--config", "cifar100_lt_ir100.yaml"]
    found = run(command, "train", *config, "--imbalance", "exp:0", "--dry-run", "--epochs", "0")
    assert found.stderr == "error: --epochs is 0, expected at least 1.\n"
    flags = [*SMALL, "--dataset", "digits", "--method", "ncm", "--output-dir", "out"]
    finished = run(command, "retrain", *flags)
    assert finished.returncode == 0, finished.stderr
    assert "balanced" in finished.stdout
    environment = json.loads((tmp_path / "out" / "run.json").read_text())["environment"]
    assert environment["command"] == " ".join(["lort-hub retrain", *flags])
    assert environment["git_revision"] is None
    audited = run(command, "audit", "digits", "--output-dir", "audit")
    assert audited.returncode == 0, audited.stderr
    assert "</html>" in (tmp_path / "audit" / "audit.html").read_text()
