"""Stage 1 killed anywhere and started again ends with the weights of a run that was left alone."""

import json
import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator

from lort_hub.errors import CheckpointError
from lort_hub.resume import resume_from, save_epoch
from tests.conftest import ROOT
from tests.recipes import SMALL, timm_folder

# Forks one warm process for each run, so that a run costs its epochs and no imports.
SERVER = """
import contextlib, io, json, os, resource, runpy, signal, sys
import lort_hub.batches, lort_hub.output, lort_hub.resume, matplotlib.figure, timm, torch, transformers

torch.set_num_threads(1)
recipe, plan = sys.argv[1], json.loads(sys.argv[2])
EVENTS = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "shutil.rmtree"}

def child(flags, kill_at, full_at, report):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if event in EVENTS and "-training" in str(arguments[0]):
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if seen == full_at:  # the disk is full from here on
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    sys.addaudithook(hook)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sys.argv = [recipe, *flags]
    code, said = 0, io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            runpy.run_path(recipe, run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with open(report, "w") as file:
        json.dump({"seen": seen, "said": said.getvalue()}, file)
    os._exit(code)

results = []
for number, step in enumerate(plan):
    report = f"report{number}"
    pid = os.fork()
    if pid == 0:
        child(step["flags"], step.get("kill_at"), step.get("full_at"), report)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    told = json.load(open(report)) if os.path.exists(report) else {}
    results.append({"code": code, **told})
print(json.dumps(results))
"""


def serve(plan, cwd):
    """Run a list of {flags, kill_at, full_at} one after the other; the exit code and the output of each."""
    recipe = str(ROOT / "recipes" / "train.py")
    command = [sys.executable, "-c", SERVER, recipe, json.dumps(plan)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=400)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def flags_for(photos, out, *more):
    common = ("--dataset", str(photos), "--epochs", "3", "--batch-size", "8", "--bootstrap", "0")
    return [*SMALL, *common, "--output-dir", out, *more]


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_killed_at_any_file_operation_it_goes_on_to_the_same_weights(photos, tmp_path):
    alone = serve([{"flags": flags_for(photos, "alone")}], tmp_path)[0]
    assert alone["code"] == 0, alone
    points = range(1, alone["seen"] + 1, max(1, alone["seen"] // 9))
    plan = []
    for point in points:
        plan.append({"flags": flags_for(photos, f"k{point}"), "kill_at": point})
        plan.append({"flags": flags_for(photos, f"k{point}", "--resume")})
    results = serve(plan, tmp_path)
    for point, killed, resumed in zip(points, results[::2], results[1::2], strict=True):
        assert killed["code"] == -9, (point, killed)
        assert resumed["code"] == 0, (point, resumed)
        assert weights(tmp_path / f"k{point}") == weights(tmp_path / "alone"), point
        assert not (tmp_path / f"k{point}-training").exists()
    assert sum("going on from" in resumed["said"] for resumed in results[1::2]) > len(points) // 2


def damage(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_interrupted_runs(photos, tmp_path):
    alone = serve([{"flags": flags_for(photos, "alone")}], tmp_path)[0]
    # Killed in the last epoch's clean-up: epochs 2 and 3 are there.
    late = alone["seen"] - 4
    serve([{"flags": flags_for(photos, "a"), "kill_at": late}], tmp_path)
    folder = tmp_path / "a-training"
    assert sorted(path.name for path in folder.glob("epoch_*"))[-1] == "epoch_0003"

    beside, other_lr, unknown = serve(
        [
            {"flags": flags_for(photos, "a")},
            {"flags": flags_for(photos, "a", "--resume", "--lr", "0.5")},
            {"flags": flags_for(photos, "a", "--resume", "--seed", "3", "--weight-decay", "0")},
        ],
        tmp_path,
    )
    assert beside["code"] == 1
    assert "--resume to go on" in beside["said"]
    assert other_lr["code"] == 1
    assert "lr 0.01 -> 0.5" in other_lr["said"]
    assert "seed 0 -> 3, weight_decay 0.005 -> 0.0" in unknown["said"]

    damage(folder / "epoch_0003" / "model.safetensors")
    resumed = serve([{"flags": flags_for(photos, "a", "--resume")}], tmp_path)[0]
    assert resumed["code"] == 0, resumed
    assert "epoch_0003 is damaged" in resumed["said"]
    assert weights(tmp_path / "a") == weights(tmp_path / "alone")


def test_a_full_disk_leaves_the_last_checkpoint(photos, tmp_path):
    alone = serve([{"flags": flags_for(photos, "alone")}], tmp_path)[0]
    half = alone["seen"] // 2
    full = serve([{"flags": flags_for(photos, "b"), "full_at": half}], tmp_path)[0]
    assert full["code"] == 1, full
    assert "Cannot write the checkpoint" in full["said"]
    assert "--resume" in full["said"]
    resumed = serve([{"flags": flags_for(photos, "b", "--resume")}], tmp_path)[0]
    assert resumed["code"] == 0, resumed
    assert "going on from" in resumed["said"]
    assert weights(tmp_path / "b") == weights(tmp_path / "alone")


def trained_with_dropout(accelerator):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2))
    return accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


def epoch_of(model, optimizer):
    for _ in range(3):
        model(torch.randn(5, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_random_states_and_momentum_are_part_of_a_checkpoint(tmp_path):
    accelerator = Accelerator(cpu=True)
    model, optimizer = trained_with_dropout(accelerator)
    epoch_of(model, optimizer)
    save_epoch(accelerator, tmp_path, arguments={"lr": 0.1}, history=[{"epoch": 1}])
    epoch_of(model, optimizer)
    accelerator = Accelerator(cpu=True)
    again, optimizer = trained_with_dropout(accelerator)
    _, history = resume_from(accelerator, tmp_path, arguments={"lr": 0.1})
    epoch_of(again, optimizer)
    assert history == [{"epoch": 1}]
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert one.equal(other)


@pytest.mark.parametrize("victim", ["random_states_0.pkl", "optimizer.bin", "MANIFEST.json"])
def test_a_checkpoint_that_lacks_anything_is_passed_over(tmp_path, victim, capsys):
    accelerator = Accelerator(cpu=True)
    trained_with_dropout(accelerator)
    for epochs in (1, 2, 3):
        save_epoch(accelerator, tmp_path, arguments={}, history=[{"epoch": k} for k in range(epochs)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch_0002", "epoch_0003"]
    (tmp_path / "epoch_0003" / victim).unlink()
    checkpoint, history = resume_from(accelerator, tmp_path, arguments={})
    assert (checkpoint.name, len(history)) == ("epoch_0002", 2)
    assert "epoch_0003 is damaged" in capsys.readouterr().out


def test_another_number_of_processes_is_refused(tmp_path):
    accelerator = Accelerator(cpu=True)
    trained_with_dropout(accelerator)
    checkpoint = save_epoch(accelerator, tmp_path, arguments={}, history=[{"epoch": 1}])
    manifest = json.loads((checkpoint / "MANIFEST.json").read_text())
    for process in range(2):
        manifest["files"][f"random_states_{process}.pkl"] = manifest["files"]["random_states_0.pkl"]
    content = (checkpoint / "random_states_0.pkl").read_bytes()
    (checkpoint / "random_states_1.pkl").write_bytes(content)
    (checkpoint / "MANIFEST.json").write_text(json.dumps({**manifest, "processes": 2}))
    with pytest.raises(CheckpointError, match="of 2 processes, got 1"):
        resume_from(accelerator, tmp_path, arguments={})


def test_a_pre_trained_backbone_resumes_too(photos, tmp_path):
    backbone = timm_folder(tmp_path / "backbone")
    flags = ["--backbone", str(backbone), "--dataset", str(photos), "--epochs", "2", "--num-workers", "0"]
    flags += ["--batch-size", "8", "--bootstrap", "0"]
    alone = serve([{"flags": [*flags, "--output-dir", "alone"]}], tmp_path)[0]
    assert alone["code"] == 0, alone
    killed, resumed = serve(
        [
            {"flags": [*flags, "--output-dir", "k"], "kill_at": alone["seen"] // 2 + 2},
            {"flags": [*flags, "--output-dir", "k", "--resume"]},
        ],
        tmp_path,
    )
    assert (killed["code"], resumed["code"]) == (-9, 0)
    assert weights(tmp_path / "k") == weights(tmp_path / "alone")
