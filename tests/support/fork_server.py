"""Run Python as forks of one process that has imported the libraries, so that a run costs its work alone.

Nothing of lort_hub is imported beforehand: a job imports it as a process of its own does, or never sees it.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

LIBRARIES = ("accelerate", "datasets", "huggingface_hub", "jinja2", "matplotlib.backends.backend_agg")
LIBRARIES += ("scipy.stats", "sklearn.datasets", "sklearn.metrics", "timm.optim", "timm.scheduler", "torch")
LIBRARIES += ("matplotlib.figure", "transformers.hf_argparser", "PIL.Image")
SECONDS = 300
FILE_OPERATIONS = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "shutil.rmtree"}
KEPT = ("-training", "-unfinished", ".parts")
"""Ends of the names of folders whose file operations are counted."""


@dataclass
class Finished:
    """How a job ended: 3 is the code of an exception that nobody caught, -9 of a killed process."""

    returncode: int
    stdout: str
    stderr: str
    seen: int | None
    """How many file operations it did on what it keeps for a resumed run; None where it was killed."""

    @property
    def said(self):
        return self.stdout + self.stderr


def run_forks(*jobs):
    """Run jobs at the same time, each a dictionary of `_run`'s arguments but the first."""
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder) / str(k) for k in range(len(jobs))]
        for place, job in zip(folders, jobs, strict=True):
            place.mkdir()
            job["argv"] = [str(word) for word in job["argv"]]
            job["cwd"] = str(job.get("cwd") or place)
        server = _server()
        server.stdin.write(json.dumps([[str(f), job] for f, job in zip(folders, jobs, strict=True)]) + "\n")
        server.stdin.flush()
        codes = json.loads(server.stdout.readline())
        return [_finished(code, place) for code, place in zip(codes, folders, strict=True)]


def ranks(count):
    """Environments of processes that know of each other, as torchrun sets them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "ACCELERATE_USE_CPU": "true"}
    world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**world, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def _finished(code, folder):
    stdout, stderr, seen = (folder / name for name in ("stdout", "stderr", "seen"))
    return Finished(
        code,
        stdout.read_text(),
        stderr.read_text() if stderr.exists() else "",
        int(seen.read_text()) if seen.exists() else None,
    )


@functools.cache
def _server():
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.fork_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    atexit.register(server.__exit__, None, None, None)
    return server


def _serve():
    for library in LIBRARIES:
        importlib.import_module(library)
    transformers = sys.modules["transformers"]
    for name in ("AutoImageProcessor", "AutoModelForImageClassification", "ViTImageProcessor", "pipeline"):
        getattr(transformers, name)  # which imports it
    sys.modules["PIL.Image"].init()
    sys.modules["torch"].set_num_threads(1)
    gc.freeze()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        children = []
        for folder, job in json.loads(line):
            children.append(os.fork())
            if children[-1] == 0:
                try:
                    _run(Path(folder), **job)
                finally:
                    os._exit(4)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), file=answers, flush=True)


def _run(folder, code, argv, cwd, environment, merged=False, kill_at=None, full_at=None, at_output=None):
    """Run code in this fork.

    Args:
        folder: Where its output is written.
        code: Python statements.
        argv: What they find in `sys.argv`.
        cwd: Their working directory.
        environment: Environment variables to set.
        merged: Whether what it says on stderr is written among what it says on stdout.
        kill_at: Number of the file operation, of those counted, at which the process is killed.
        full_at: Number of the file operation from which on the disk is full; 0 for the start.
        at_output: What happens when an output folder is about to be written: "full disk", or "filled" by
            another process.
    """
    signal.alarm(SECONDS)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    os.dup2(os.open(folder / "stdout", os.O_WRONLY | os.O_CREAT), 1)
    os.dup2(1 if merged else os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT), 2)
    sys.argv = argv
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout.reconfigure(line_buffering=True)
    os.chdir(cwd)
    os.environ.update(environment)
    if any(name.startswith("HF_") for name in environment):
        _read_environment_again()
    seen = 0
    if full_at == 0:
        _fill_disk()

    def count(event, arguments):
        nonlocal seen, at_output
        if at_output and event == "os.mkdir":
            staged = re.fullmatch(r"\.(.*)\.\d+\.tmp", os.path.basename(str(arguments[0])))  # noqa: PTH119
            if staged:
                trouble, at_output = at_output, None
                _fill_disk() if trouble == "full disk" else _fill_folder(Path(staged[1]))
        if event in FILE_OPERATIONS and any(kept in str(arguments[0]) for kept in KEPT):
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if seen == full_at:
                _fill_disk()

    sys.addaudithook(count)
    exit_code = 0
    try:
        exec(compile(code, argv[0], "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        exit_code = end.code if isinstance(end.code, int) else bool(end.code)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        exit_code = 3
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    sys.stdout.flush()
    sys.stderr.flush()
    (folder / "seen").write_text(str(seen))
    os._exit(exit_code)


def _fill_disk(size=2**16):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _fill_folder(folder):
    folder.mkdir()
    (folder / "theirs.txt").write_text("theirs")


def _read_environment_again():
    """Have the Hub's clients read HF_ENDPOINT, HF_HOME and the like, which they do only when imported."""
    import datasets
    import huggingface_hub

    importlib.reload(huggingface_hub.constants)
    importlib.reload(datasets.config)
    huggingface_hub.hf_api.api.endpoint = huggingface_hub.constants.ENDPOINT


if __name__ == "__main__":
    _serve()
