import errno
import json
import os
import sys
from pathlib import Path

import pytest
from accelerate import Accelerator

from lort_hub.commands.arguments import RunArguments
from lort_hub.commands.command_line import LORT_HUB_COMMAND
from lort_hub.commands.output_dir import check_output_dir, is_finished, kept_on_failure, start_run
from lort_hub.commands.retraining_arguments import RetrainingArguments
from lort_hub.commands.training_arguments import TrainingArguments
from lort_hub.errors import CheckpointError
from tests.support.files import fill


def test_output_folder_that_cannot_be_is_refused_before_any_compute(tmp_path):
    fill(tmp_path, {"file": "", "full/file": "", "ours/run.json": ""})
    refused = {"file": "is a file", "file/out": "file is a file", "full": "`overwrite=True`"}
    for name, message in refused.items():
        with pytest.raises(CheckpointError, match=message):
            check_output_dir(tmp_path / name, overwrite=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="not lort_hub's"):
        check_output_dir(tmp_path / "full", overwrite=True)
    with pytest.raises(CheckpointError, match="is a mount point"):
        check_output_dir(Path("/proc"), overwrite=True)
    for name in ("ours", "empty", "new/deep"):
        check_output_dir(tmp_path / name, overwrite=name == "ours")
    assert not (tmp_path / "new").exists()
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(CheckpointError, match="no permission to write in .*locked"):
            check_output_dir(tmp_path / "locked" / "out", overwrite=False)


@pytest.mark.parametrize("name", ["dataset", "image_root", "backbone", "group_file"])
@pytest.mark.parametrize("inner", ["", "photos/train"])
def test_what_a_run_reads_is_never_overwritten(tmp_path, name, inner):  # q1, q3, vitcopy
    out = tmp_path / "out"
    fill(tmp_path, {"out/run.json": "{}", "out/photos/train/ant/0.jpg": ""})
    accelerator = Accelerator(cpu=True)
    start_run(RunArguments(output_dir=out, overwrite=True, dataset="digits"), accelerator)
    spec = f"local-dir:{out / inner}" if name == "backbone" else str(out / inner)
    arguments = RunArguments(output_dir=out, overwrite=True, **{"dataset": "digits", name: spec})
    with pytest.raises(
        CheckpointError, match=f"--{name.replace('_', '-')} .* which --overwrite would replace"
    ):
        start_run(arguments, accelerator)
    assert (out / "photos/train/ant/0.jpg").exists()


@pytest.mark.parametrize("kind", [TrainingArguments, RetrainingArguments])
def test_the_run_that_is_fitted_again_is_never_overwritten(tmp_path, kind):
    fill(tmp_path, {"out/run.json": "{}"})
    given = {"output_dir": tmp_path / "out", "refit": tmp_path / "out", "dataset": "digits"}
    with pytest.raises(CheckpointError, match="--refit .* which --overwrite would replace"):
        start_run(kind(**given, overwrite=True), Accelerator(cpu=True))


def test_finished_run_is_recognised_by_its_arguments(tmp_path):
    ran = {"method": "lort", "seed": 0, "resume": False, "num_workers": 4, "output_dir": "out"}
    assert not is_finished(tmp_path, ran)
    fill(tmp_path, {"run.json": json.dumps({"arguments": ran})})
    assert is_finished(tmp_path, ran)
    assert is_finished(tmp_path, {**ran, "resume": True, "num_workers": 0, "output_dir": str(tmp_path)})
    with pytest.raises(CheckpointError, match="method lort -> ce, seed 0 -> 1, views None -> 2\\."):
        is_finished(tmp_path, {**ran, "method": "ce", "seed": 1, "views": 2})
    assert not is_finished(tmp_path / "run.json", ran)


TROUBLES = {
    "ours": (CheckpointError("out was filled\nmove it away"), "out was filled\nmove it away"),
    "the disk's": (OSError(errno.ENOSPC, "No space left", "a.png"), "Cannot write a.png: No space left."),
    "a bug's": (KeyError("plot"), "The output could not be written: KeyError: 'plot'"),
}


@pytest.mark.parametrize("kind", TROUBLES)
def test_whatever_hinders_the_output_the_message_ends_with_how_to_go_on(kind, capsys, monkeypatch):
    monkeypatch.setenv(LORT_HUB_COMMAND, "lort-hub retrain --num-processes 2")
    flags = ["--dataset", "my photos", "--push-to-hub", "me/photos", "--resume", "--output-dir", "x"]
    monkeypatch.setattr(sys, "argv", ["retrain.py", *flags])
    trouble, said = TROUBLES[kind]
    with pytest.raises(CheckpointError) as raised, kept_on_failure("the weights are in x"):
        raise trouble
    assert str(raised.value) == (
        f"{said}\nNothing is lost: the weights are in x. To go on from there:\n"
        "lort-hub retrain --num-processes 2 --dataset 'my photos' "
        "--push-to-hub me/photos --output-dir x --resume"
    )
    assert ("Traceback" in capsys.readouterr().err) == (kind == "a bug's")
