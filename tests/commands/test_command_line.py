import os
import subprocess
import sys

import pytest

from lort_hub.commands.command_line import (
    LORT_HUB_COMMAND,
    as_flags,
    command_for,
    program_name,
    recipes_folder,
    recorded_command,
    resuming_command,
)
from tests.support import ROOT

FLAGS = ("views", "on_bad_image", "overwrite", "pretrained", "train_split", "methods", "revision")
LAUNCHERS = ("ACCELERATE_", "TORCHELASTIC_", "WORLD_SIZE", "LOCAL_", "GROUP_", LORT_HUB_COMMAND)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("name one with `train_split`.", "name one with --train-split."),
        ('leave it out: `on_bad_image="skip"`', "leave it out: --on-bad-image skip"),
        ("`on_bad_image='skip'`", "--on-bad-image skip"),
        ("`overwrite=True`, `pretrained=False`", "--overwrite, --no-pretrained"),
        ("`methods=['ce', 'lort']` or `views=2`", "--methods ce lort or --views 2"),
        ("`revision` and `create_pr=True`", "--revision and `create_pr=True`"),
        ("`hf auth login`, `save(overwrite=True)`", "`hf auth login`, `save(overwrite=True)`"),
        ("overwrite=True and views", "overwrite=True and views"),
    ],
)
def test_arguments_in_backticks_become_flags_of_the_recipe_and_nothing_else_does(message, shown):
    assert as_flags(message, FLAGS) == shown


@pytest.fixture
def started(monkeypatch):
    """Set what a launcher sets; returns the command that is recorded."""
    for name in [name for name in os.environ if name.startswith(LAUNCHERS)]:
        monkeypatch.delenv(name)

    def record(*flags, recipe="/somewhere/recipes/retrain.py", **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", [recipe, *flags])
        return recorded_command()

    return record


def test_a_benchmark_is_named_where_it_lies(started, tmp_path, monkeypatch):
    path = "/somewhere/benchmarks/audit.py"
    assert started("--resume", recipe=path) == "python benchmarks/audit.py"
    assert (program_name(), resuming_command()) == (
        "python benchmarks/audit.py",
        "python benchmarks/audit.py --resume",
    )
    (tmp_path / "benchmarks").mkdir()
    monkeypatch.chdir(tmp_path / "benchmarks")
    assert started(recipe="paper.py") == "python benchmarks/paper.py"
    monkeypatch.setenv(LORT_HUB_COMMAND, "lort-hub audit --num-processes 2")
    monkeypatch.setattr(sys, "argv", ["/somewhere/recipes/audit.py"])
    assert program_name() == "lort-hub audit"


TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2"}


@pytest.mark.parametrize(
    ("environment", "command"),
    [
        ({}, "python recipes/retrain.py"),
        ({LORT_HUB_COMMAND: "lort-hub retrain"}, "lort-hub retrain"),
        (
            {LORT_HUB_COMMAND: "lort-hub retrain --num-processes 8", "ACCELERATE_MIXED_PRECISION": "no"},
            "lort-hub retrain --num-processes 8",
        ),
        (TORCHRUN, "torchrun --nnodes 2 --nproc_per_node 4 recipes/retrain.py"),
        (
            {**TORCHRUN, "GROUP_WORLD_SIZE": "1", "ACCELERATE_USE_CPU": "true"},
            "ACCELERATE_USE_CPU=true torchrun --nproc_per_node 4 recipes/retrain.py",
        ),
        (
            {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_CPU": "False"},
            "accelerate launch recipes/retrain.py",
        ),
        (
            {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_USE_CPU": "True"},
            "accelerate launch --cpu --mixed_precision bf16 recipes/retrain.py",
        ),
        (
            {**TORCHRUN, "GROUP_WORLD_SIZE": "1", "ACCELERATE_MIXED_PRECISION": "no"},
            "accelerate launch --multi_gpu --num_processes 8 recipes/retrain.py",
        ),
    ],
)
def test_the_command_is_recorded_as_it_was_started(started, environment, command):
    flags = ("--dataset", "my photos", "--seed=3")
    assert started(*flags, **environment) == f"{command} --dataset 'my photos' --seed=3"


def test_flags_that_a_reproduction_would_not_give_are_left_out_with_their_values(started):
    flags = ["--push-to-hub", "me/a b", "--views", "2", "--private", "--overwrite", "True", "--resume"]
    flags += ["--report_to=wandb", "--groups", "5", "50"]
    assert started(*flags) == "python recipes/retrain.py --views 2 --groups 5 50"


def test_a_command_is_spelt_for_how_this_process_was_started(monkeypatch):
    monkeypatch.delenv(LORT_HUB_COMMAND, raising=False)
    assert command_for("push", "out") == "python recipes/push.py out"
    monkeypatch.setenv(LORT_HUB_COMMAND, "lort-hub retrain")
    assert command_for("push", "out") == "lort-hub push out"


def test_a_checkout_runs_the_recipes_beside_its_package():
    assert recipes_folder() == ROOT / "recipes"


@pytest.mark.parametrize("launcher", ["accelerate", "torchrun"])
def test_launchers_set_the_variables_that_tell_them_apart(launcher, tmp_path):
    (tmp_path / "retrain.py").write_text(
        "import os, sys\nfrom lort_hub.commands.command_line import recorded_command\n"
        "os.environ['LOCAL_RANK'] == '0' and print(recorded_command())\n"
    )
    module, flags = {
        "accelerate": ("accelerate.commands.launch", ["--multi_gpu", "--num_processes", "2"]),
        "torchrun": ("torch.distributed.run", ["--nproc_per_node", "2"]),
    }[launcher]
    command = [sys.executable, "-m", module, *flags, tmp_path / "retrain.py", "--seed", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    words = ["accelerate launch"] if launcher == "accelerate" else ["torchrun"]
    assert finished.stdout.strip() == " ".join([*words, *flags, "recipes/retrain.py --seed 1"])
