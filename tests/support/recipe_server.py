"""Recipes as forks of one warm process, so that a run costs its epochs and no imports."""

import atexit
import functools
import json
import os
import subprocess
import sys

from tests.support import ROOT

SERVER = r"""
import contextlib, io, json, os, re, resource, runpy, signal, sys
import lort_hub.training.batches, lort_hub.hub.output, lort_hub.commands.training_arguments
import matplotlib.figure, peft, timm, torch, transformers

torch.set_num_threads(1)
EVENTS = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "shutil.rmtree"}
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

def fill_disk(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def fill_folder(name):
    os.makedirs(name)
    with open(os.path.join(name, "theirs.txt"), "w") as file:
        file.write("theirs")

def child(flags, report, recipe="train.py", kill_at=None, full_at=None, at_output=None):
    signal.alarm(300)
    seen = 0
    if full_at == 0:
        fill_disk(4096)
    def hook(event, arguments):
        nonlocal seen, at_output
        if at_output and event == "os.mkdir":
            staged = re.fullmatch(r"\.(.*)\.\d+\.tmp", os.path.basename(str(arguments[0])))
            if staged:  # the output folder is about to be written
                trouble, at_output = at_output, None
                fill_disk(20_000) if trouble == "full disk" else fill_folder(staged[1])
        if event in EVENTS and any(kept in str(arguments[0]) for kept in ("-training", "-unfinished")):
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if seen == full_at:  # the disk is full from here on
                fill_disk(4096)
    sys.addaudithook(hook)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sys.argv = [os.path.join(sys.argv[1], recipe), *flags]
    code, said = 0, io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:
            code = 3
            print(f"{type(error).__name__}: {error}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with open(report, "w") as file:
        json.dump({"seen": seen, "said": said.getvalue()}, file)
    os._exit(code)

for line in sys.stdin:
    folder, plan = json.loads(line)
    os.chdir(folder)
    results = []
    for number, step in enumerate(plan):
        report = os.path.abspath(f".report{number}")
        pid = os.fork()
        if pid == 0:
            child(report=report, **step)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        told = {}
        if os.path.exists(report):
            told = json.load(open(report))
            os.remove(report)
        results.append({"code": code, **told})
    print(json.dumps(results), file=answers, flush=True)
"""


@functools.cache
def _server():
    command = [sys.executable, "-c", SERVER, str(ROOT / "recipes")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    atexit.register(server.__exit__, None, None, None)
    return server


def serve(plan, cwd):
    """Run a list of {flags, recipe, ...} one after the other; each one's exit code and output.

    `kill_at` and `full_at` number the file operation on checkpoints at which the process is killed, or from
    which on the disk is full, 0 for the start; `at_output` is what happens when the output is about to be
    written: "full disk", or "filled" by another process. Exit code 3 stands for an exception that the recipe
    does not turn into a message.
    """
    server = _server()
    server.stdin.write(json.dumps([str(cwd), plan]) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


def train_all(cwd, *runs):
    """Runs of train.py, each a list of flags, that must succeed; what they said."""
    results = serve([{"flags": [str(flag) for flag in flags]} for flags in runs], cwd)
    for flags, result in zip(runs, results, strict=True):
        assert result["code"] == 0, (flags, result["said"])
    return [result["said"] for result in results]
