"""The `lort-hub` command, run in a process of its own from the checkout."""

import ast
import json
import os
import subprocess
import sys

import pytest

from lort_hub.commands.main import overview
from tests.support import ROOT
from tests.support.hub_server import WRITE, serve
from tests.support.recipes import SMALL
from tests.support.recipes import run as run_fork

RECIPES = sorted((ROOT / "recipes").glob("*.py"))
MAIN = "from lort_hub.commands.main import main; main()"


def lort_hub(*words, cwd=None, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", MAIN, *(str(word) for word in words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, timeout=300)


def test_the_commands_are_the_recipes_with_what_they_do_on_one_screen():
    shown = overview().splitlines()
    for path in RECIPES:
        first = ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]
        what = first.split(":")[0].rstrip(".")
        assert [line.split(maxsplit=1) for line in shown].count([path.stem, what]) == 1
    assert len(shown) <= 24
    assert max(map(len, shown)) <= 80  # so that none is wrapped
    for words in ([], ["--help"], ["-h"]):
        listed = lort_hub(*words)
        assert (listed.returncode, listed.stdout, listed.stderr) == (0, overview() + "\n", "")


def test_a_command_shows_its_own_name_in_its_help_and_its_errors():
    helped = lort_hub("retrain", "--num-processes", "2", "--help")
    assert helped.returncode == 0
    assert helped.stdout.startswith("usage: lort-hub retrain [flags]\n")
    assert "--num-processes N " in helped.stdout
    assert "--num-processes" not in lort_hub("push", "--help").stdout
    unknown = lort_hub("retrian")
    assert (unknown.returncode, "Did you mean 'retrain'" in unknown.stderr) == (2, True)
    for word in ("0", "two", ""):
        refused = lort_hub("retrain", f"--num-processes={word}")
        assert (refused.returncode, f"--num-processes is '{word}'" in refused.stderr) == (2, True)


def test_several_processes_run_as_one_command(tmp_path):
    flags = [*SMALL, "--dataset", "digits", "--method", "ncm", "--output-dir", "out"]
    finished = lort_hub("retrain", *flags, "--num-processes", "2", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("Wrote out") == 1
    environment = json.loads((tmp_path / "out" / "run.json").read_text())["environment"]
    assert environment["command"] == " ".join(["lort-hub retrain --num-processes 2", *flags])


LAUNCH = """
from functools import partial
from pathlib import Path
from lort_hub.commands.launch import Launch
from lort_hub.commands.runtime import run
run(partial(Launch(num_processes=2).run, Path("recipe.py"), []))
"""
RECIPE = """
import os, signal, time
from lort_hub.commands.runtime import run
from lort_hub.errors import LortHubError

def main():
    if os.environ["LOCAL_RANK"] == "0":
        time.sleep(60)
    {what}

run(main)
"""


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("raise LortHubError('What happened.\\nWhat to do.')", "error: What happened.\nWhat to do.\n"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "error: Process 1 was killed by SIGKILL.\n"),
        ("1 / 0", "Traceback (most recent call last):\n"),
    ],
)
def test_the_error_of_the_first_process_that_failed_is_shown(what, message, tmp_path):
    (tmp_path / "recipe.py").write_text(RECIPE.format(what=what))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LORT_HUB_COMMAND": "lort-hub recipe"}
    failed = subprocess.run(
        [sys.executable, "-c", LAUNCH],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=50,
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith(message)
    assert failed.stderr.count("rror: ") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["retrain", "--solver", "closed-form", "--method", "ce"], "Use it with --method lort or crt+"),
        (["push", "out", "--to", "me/name"], "push runs as one process; leave out --num-processes"),
    ],
)
def test_what_several_processes_refuse_is_one_message(words, message):
    refused = lort_hub(*words, "--num_processes=2")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count(message) == 1
    assert len(refused.stderr.splitlines()) <= 3


MENDABLE = {
    **{name: [*SMALL, "--dataset", "./nowhere"] for name in ("train", "retrain", "compare", "sweep")},
    "adapt": ["./nowhere/model", "--images", "./nowhere"],
    "audit": ["./nowhere"],
    "predict": ["./nowhere/model", "./nowhere"],
    "prepare": ["imagenet-lt", "--images", "./nowhere", "--lists", "./nowhere"],
    "push": ["./nowhere", "--to", "me/name"],
}
"""Flags with which a command finds what its user can mend; codes 0 and 2 are tested of every recipe."""


@pytest.mark.parametrize("recipe", MENDABLE)
def test_what_the_user_can_mend_is_exit_code_1_and_one_message(recipe, tmp_path):
    with serve(tmp_path / "hub") as hub:
        where = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": WRITE, "HF_HOME": str(tmp_path / "home")}
        stopped = run_fork(f"{recipe}.py", *MENDABLE[recipe], cwd=tmp_path, **where)
    assert stopped.returncode == 1, stopped.stderr
    assert stopped.stderr.startswith("error: ")
    assert "nowhere" in stopped.stderr
    assert len(stopped.stderr.splitlines()) <= 4
