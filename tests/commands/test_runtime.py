import errno
import io
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from lort_hub.commands.arguments import RunArguments
from lort_hub.commands.runtime import join_processes, make_accelerator, phase, run, use_idle_cores
from lort_hub.errors import ConfigError, LortHubError
from lort_hub.run_log import RunLog
from tests.support.fork_server import ranks, run_forks
from tests.support.recipes import refused


@pytest.mark.parametrize("kind", [LortHubError, *LortHubError.__subclasses__()])
def test_errors_of_lort_hub_are_one_message_and_a_code(capsys, kind):
    def main():
        raise kind("What happened.\nWhat to do.")

    code, shown = refused(capsys, main)
    assert code == (2 if kind is ConfigError else 1)
    assert shown == "error: What happened.\nWhat to do.\n"


def test_arguments_that_an_error_names_are_shown_as_flags(capsys):
    def main():
        raise LortHubError('Pass `overwrite=True`, or `on_bad_image="skip"` to `fit`.')

    _, shown = refused(capsys, main, RunArguments)
    assert shown == "error: Pass --overwrite, or --on-bad-image skip to `fit`.\n"


def test_what_the_disk_refuses_names_the_place_that_the_command_has(capsys):
    @dataclass
    class WithOutput:
        output: Path = Path("p.csv")

    def main():
        raise OSError(errno.ENOSPC, "no room")

    assert "another place (--output or LORT_HUB_CACHE), then" in refused(capsys, main, WithOutput)[1]
    assert "another place (--output-dir or LORT_HUB_CACHE), then" in refused(capsys, main, RunArguments)[1]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS])
def test_what_the_disk_refuses_is_one_message(capsys, number):
    def main():
        raise OSError(number, os.strerror(number), "some/file")

    code, shown = refused(capsys, main, RunArguments)
    assert code == 1
    assert shown.startswith(f"error: Cannot write some/file: {os.strerror(number)}.\n")
    assert "--output-dir" in shown


def test_a_terminal_of_ascii_shows_other_letters_escaped(monkeypatch):  # x10
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    run(lambda: print("out/日本"))
    terminal.flush()
    assert terminal.buffer.getvalue() == b"out/\\u65e5\\u672c\n"


def test_interrupt_is_130_and_our_own_bugs_keep_their_traceback(capsys):
    for arguments, hint in ((None, False), (RunArguments, True)):
        code, shown = refused(capsys, lambda: os.kill(os.getpid(), signal.SIGINT), arguments)
        assert (code, "--resume" in shown) == (130, hint)
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB.")
    code, shown = refused(capsys, lambda: (_ for _ in ()).throw(full), RunArguments)
    assert (code, shown.splitlines()[0]) == (1, "error: The GPU is out of memory: CUDA out of memory.")
    for bug in (KeyError("x"), RuntimeError("x"), FileNotFoundError(errno.ENOENT, "x")):
        with pytest.raises(type(bug)):
            run(lambda bug=bug: (_ for _ in ()).throw(bug))


ENDING = """
import os, sys
from lort_hub.commands.runtime import join_processes, run
from lort_hub.commands.together import on_first
from lort_hub.errors import DatasetError
from lort_hub.features.distributed import Processes

def threads():
    return len(os.listdir("/proc/self/task"))

def main():
    accelerator = join_processes()
    assert on_first(accelerator, min, 1, 2) == 1 and threads() > before
    cycle = [Processes.of(accelerator)]
    cycle.append(cycle)
    if sys.argv[1:]:
        raise DatasetError("refused")

before = threads()
try:
    run(main)
finally:
    print(threads() - before, "threads")
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to count threads in")
@pytest.mark.parametrize(("words", "code"), [([], 0), (["refuse"], 1)])
def test_processes_leave_each_other_before_python_ends(words, code):
    """A thread of gloo that is left holds a tensor at times, and then aborts the process."""
    jobs = [{"code": ENDING, "argv": ["ending", *words], "environment": rank} for rank in ranks(2)]
    for ended in run_forks(*jobs):
        assert (ended.returncode, ended.stdout.strip()) == (code, "0 threads"), ended.said


def test_output_that_nobody_reads_any_more_ends_a_run_with_one_message():
    code = (
        "from lort_hub.commands.runtime import run\nrun(lambda: [print(k, flush=True) for k in range(10**6)])"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as writer:
        assert writer.stdout.readline() == "0\n"
        writer.stdout.close()
        said = writer.stderr.read()
    assert writer.returncode == 1
    assert said == "error: The program that read the output has ended, and so has this run.\n"


def test_processes_that_do_not_know_of_each_other_are_refused(monkeypatch, tmp_path):
    AcceleratorState._reset_state(True)
    args = RunArguments(output_dir=tmp_path / "out")
    assert make_accelerator(args).num_processes == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    for _ in range(2):
        with pytest.raises(
            ConfigError,
            match="2 processes were started, but Accelerate connects 1(.|\n)*lort-hub .* --num-processes 2",
        ):
            make_accelerator(args)
        AcceleratorState._reset_state(True)
    assert not any(tmp_path.iterdir())


def test_a_gpu_that_is_not_there_is_refused_and_the_cpu_is_always_there(monkeypatch):
    AcceleratorState._reset_state(True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError) as refused:
        join_processes(device="cuda")
    lines = str(refused.value).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("--device cuda needs a GPU of NVIDIA or AMD, but ")
    AcceleratorState._reset_state(True)
    assert {join_processes(device=name).device.type for name in ("cpu", "auto")} == {"cpu"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match="but Accelerate is set to the CPU.\nUnset ACCELERATE_USE_CPU"):
        join_processes(device="cuda")
    AcceleratorState._reset_state(True)


def test_phases_add_up():
    log = RunLog()
    for name in ("a", "b", "a"):
        with phase(name, log):
            before = dict(log.seconds)
    assert [*log.seconds] == ["a", "b"]
    log.seconds["a"] = 100.0
    with phase("a", log):
        pass
    assert 100 <= log.seconds["a"] < 101
    assert before == {"a": before["a"], "b": log.seconds["b"]}
    assert [row["name"] for row in log.rows] == ["a", "b", "a", "a"]


def test_a_tracker_that_is_not_installed_is_named(tmp_path):
    with pytest.raises(ConfigError, match="pip install wandb"):
        make_accelerator(RunArguments(report_to="wandb", output_dir=tmp_path / "out"))


@pytest.mark.parametrize(("launcher", "processes", "share"), [(True, 1, 1), (True, 2, 2), (False, 1, None)])
def test_a_launcher_s_one_thread_becomes_a_share_of_the_cores(monkeypatch, launcher, processes, share):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    if launcher:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    try:
        use_idle_cores()
        cores = len(os.sched_getaffinity(0))
        assert torch.get_num_threads() == (max(1, cores // share) if share else before)
    finally:
        torch.set_num_threads(before)


def test_fp16_on_a_cpu_is_refused():
    AcceleratorState._reset_state(True)
    try:
        with pytest.raises(ConfigError, match="computes fp16 as float32"):
            join_processes("fp16", "cpu")
        if not torch.cuda.is_available():
            with pytest.raises(ConfigError, match="--device cuda needs a GPU"):
                join_processes("fp16", "cuda")
    finally:
        AcceleratorState._reset_state(True)
