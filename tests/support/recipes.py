"""Recipes, as forks of a process that has imported the libraries or started as a user does."""

import os
import subprocess
import sys

import pytest

from lort_hub.commands.runtime import run as run_main
from tests.support import ROOT
from tests.support.fork_server import ranks, run_forks

SMALL = ("--backbone", "test_resnet", "--no-pretrained", "--image-size", "32", "--num-workers", "0")
WITHOUT_LORT_HUB = "import sys; sys.modules['lort_hub'] = None\n"
RUN_PATH = "import runpy, sys; runpy.run_path(sys.argv[0], run_name='__main__')"


def job(recipe, *flags, cwd=None, cache=None, before="pass", **environment):
    """A recipe as a job of the fork server, with statements to run before it."""
    if cache:
        environment["LORT_HUB_CACHE"] = str(cache)
    return {
        "code": f"{before}\n{RUN_PATH}",
        "argv": [ROOT / "recipes" / recipe, *flags],
        "cwd": cwd,
        "environment": environment,
    }


def run(recipe, *flags, **options):
    """Run a recipe as a fork."""
    return run_forks(job(recipe, *flags, **options))[0]


def run_plain(code, *argv, cwd):
    """Run statements as a fork in which an import of lort_hub fails."""
    return run_forks({"code": WITHOUT_LORT_HUB + code, "argv": ["-c", *argv], "cwd": cwd, "environment": {}})[
        0
    ]


def run_together(count, recipe, *flags, **options):
    """Run a recipe as so many processes that know of each other, as torchrun starts them."""
    return run_forks(*(job(recipe, *flags, **options, **rank) for rank in ranks(count)))


def run_on_nodes(folders, recipe, *flags, before=("pass", "pass"), **environment):
    """Run a recipe as a process on each of several nodes, which work in folders and caches of their own."""
    jobs = []
    for number, (folder, rank) in enumerate(zip(folders, ranks(len(folders)), strict=True)):
        folder.mkdir(exist_ok=True)
        node = {"GROUP_RANK": str(number), "GROUP_WORLD_SIZE": str(len(folders))}
        rank |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", **node, **environment}
        jobs.append(job(recipe, *flags, cwd=folder, cache=folder / "cache", before=before[number], **rank))
    return run_forks(*jobs)


def start(recipe, *flags, launcher=(sys.executable,), cache=None, **environment):
    """Start a recipe as a user does."""
    environment = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    if cache:
        environment["LORT_HUB_CACHE"] = str(cache)
    command = [*launcher, ROOT / "recipes" / recipe, *(str(flag) for flag in flags)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def serve(plan, cwd):
    """Run recipes, each {flags, recipe, kill_at, full_at}; the exit code and output of each."""
    results = []
    for step in plan:
        step = {"recipe": "train.py", **step}
        [done] = run_forks({**job(step.pop("recipe"), *step.pop("flags"), cwd=cwd), "merged": True, **step})
        results.append({"code": done.returncode, "said": done.said, "seen": done.seen})
    return results


def train_all(cwd, *runs):
    """Runs of train.py, each a list of flags, that must succeed; what they said."""
    results = serve([{"flags": flags} for flags in runs], cwd)
    for flags, result in zip(runs, results, strict=True):
        assert result["code"] == 0, (flags, result["said"])
    return [result["said"] for result in results]


def retrain(*flags, **options):
    return run("retrain.py", *flags, **options)


def train(*flags, **options):
    return run("train.py", *flags, **options)


def refused(capsys, main, arguments=None):
    """Exit code and standard error of a recipe that ends in an error."""
    with pytest.raises(SystemExit) as stop:
        run_main(main, arguments)
    return stop.value.code, capsys.readouterr().err
