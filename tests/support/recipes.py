"""Recipes as subprocesses."""

import os
import subprocess
import sys

import pytest

from lort_hub.commands.runtime import run as run_main
from tests.support import ROOT

SMALL = ("--backbone", "test_resnet", "--no-pretrained", "--image-size", "32", "--num-workers", "0")


def run(recipe, *flags, launcher=(sys.executable,), cache=None, **environment):
    environment = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    if cache:
        environment["LORT_HUB_CACHE"] = str(cache)
    command = [*launcher, ROOT / "recipes" / recipe, *(str(flag) for flag in flags)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def retrain(*flags, **options):
    return run("retrain.py", *flags, **options)


def train(*flags, **options):
    return run("train.py", *flags, **options)


def refused(capsys, main, arguments=None):
    """Exit code and standard error of a recipe that ends in an error."""
    with pytest.raises(SystemExit) as stop:
        run_main(main, arguments)
    return stop.value.code, capsys.readouterr().err
