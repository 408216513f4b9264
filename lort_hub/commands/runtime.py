"""Run a recipe: connect its processes, time its phases, turn its errors into messages and exit codes."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lort_hub import STARTED
from lort_hub.commands.arguments import RunArguments
from lort_hub.commands.command_line import LORT_HUB_COMMAND, as_flags, resuming_command
from lort_hub.commands.json_output import print_result
from lort_hub.errors import ConfigError, LortHubError, ProcessLostError
from lort_hub.files import DISK_ERRORS
from lort_hub.run_log import RunLog

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_accelerator(arguments: RunArguments, **options: Any) -> Accelerator:
    """Create the Accelerator of a recipe, and refuse processes that it does not connect.

    Args:
        arguments: The recipe's flags.
        options: Further options of `Accelerator`.

    Raises:
        ConfigError: Several processes were started that Accelerate does not connect, the device is not there,
            or the tracker's package is not installed.

    Example:
        >>> make_accelerator(RunArguments(mixed_precision="no")).num_processes
        1
    """
    report_to = None if arguments.report_to == "none" else arguments.report_to
    if report_to and find_spec(report_to) is None:
        raise ConfigError(f"--report-to {report_to} needs its package: pip install {report_to}")
    logs = arguments.output_dir.with_name(f"{arguments.output_dir.name}-logs")
    options |= {"log_with": report_to, "project_dir": str(logs)}
    return join_processes(arguments.mixed_precision, arguments.device, **options)


def join_processes(mixed_precision: str | None = None, device: str = "auto", **options: Any) -> Accelerator:
    """Join this process with the others that the launcher started.

    Args:
        mixed_precision: no, bf16 or fp16; None for that of `accelerate launch`.
        device: cpu, cuda, or auto for what Accelerate finds: backbones run there, and heads are solved there
            unless it is neither.
        options: Further options of `Accelerator`.

    Raises:
        ConfigError: Several processes were started that Accelerate does not connect, there is no GPU, or
            a CPU is asked for fp16.

    Example:
        >>> join_processes().num_processes
        1
    """
    from accelerate import Accelerator

    on_cpu = device == "cpu" or ("LOCAL_RANK" in os.environ and gpu_count() == 0)
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=mixed_precision, **options)
    if device == "cuda" and accelerator.device.type != "cuda":
        _refuse_cuda()
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise ConfigError(
            "A CPU computes fp16 as float32, which the record would not say.\n"
            "Use --mixed-precision bf16, or no."
        )
    reuse_freed_memory()
    use_idle_cores()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world != accelerator.num_processes:
        raise ConfigError(
            f"{world} processes were started, but Accelerate connects {accelerator.num_processes}: "
            "each would do all the work and write the same folder.\nStart them with: "
            f"lort-hub {Path(sys.argv[0]).stem} --num-processes {world} ..."
        )
    return accelerator


def _refuse_cuda() -> NoReturn:
    import torch

    if torch.cuda.is_available():  # set by hand, or by `accelerate config`
        problem, remedy = "Accelerate is set to the CPU", "Unset ACCELERATE_USE_CPU"
    elif torch.version.cuda or torch.version.hip:
        problem, remedy = f"torch {torch.__version__} sees none", "Look at the driver (nvidia-smi)"
    else:
        problem, remedy = (
            f"torch {torch.__version__} is a build for CPUs",
            "Install one for GPUs (pytorch.org)",
        )
    raise ConfigError(
        f"--device cuda needs a GPU of NVIDIA or AMD, but {problem}.\n"
        f"{remedy}.\nOr leave out --device: auto takes GPUs where there are some."
    )


def gpu_count() -> int:
    """Count the GPUs that can work together, one for each process; Apple's cannot.

    Example:
        >>> gpu_count() >= 0
        True
    """
    import torch

    return 0 if torch.backends.mps.is_available() else torch.accelerator.device_count()


def reuse_freed_memory() -> None:
    """Keep glibc from returning each batch's activations to the system, only to fault them in again.

    Seen on 2 cores: tf_efficientnet_lite0's features at 224 px at 65 images/s instead of 35.
    """
    m_trim_threshold, m_mmap_max = -1, -4
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


def use_idle_cores() -> None:
    """Give each process its share of the cores where a launcher left it one.

    Without GPUs, `accelerate launch` and `torchrun` set OMP_NUM_THREADS to 1 unless told otherwise. Seen on 2
    cores: Caltech-101's features in 66 s instead of 80, its two heads in 21 s instead of 37.
    """
    import torch

    launched = "ACCELERATE_MIXED_PRECISION" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ
    if launched and os.environ.get("OMP_NUM_THREADS") == "1":
        here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, here // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def start_log() -> RunLog:
    """Start a recipe's log with the seconds since the process started, most of them for imports.

    Example:
        >>> list(start_log().seconds)  # doctest: +ELLIPSIS
        imports: ... s
        ['imports']
    """
    log = RunLog()
    _end_phase("imports", STARTED, log)
    return log


@contextmanager
def phase(name: str, log: RunLog) -> Iterator[None]:
    """Time one phase of a recipe, add it to the log, and print its line.

    Args:
        name: Its name.
        log: Log of the run.

    Example:
        >>> log = RunLog()
        >>> with phase("data", log):
        ...     pass
        data: 0.0 s
        >>> list(log.seconds)
        ['data']
    """
    start = time.perf_counter()
    yield
    _end_phase(name, start, log)


def _end_phase(name: str, start: float, log: RunLog) -> None:
    from accelerate import PartialState

    seconds = time.perf_counter() - start
    log.add_phase(name, seconds)
    PartialState().print(f"{name}: {seconds:.1f} s", flush=True)


def run(main: Callable[[], dict[str, Any] | None], arguments: type | None = None) -> None:
    """Run a recipe, print its result if `--json` asks for it, and turn its errors into exit codes.

    Args:
        main: The recipe; what it returns is its result.
        arguments: Its dataclass of flags; arguments that a message names are shown as these flags.

    Example:
        >>> run(lambda: None)
    """
    with exit_codes(arguments):
        print_result(main)


@contextmanager
def exit_codes(arguments: type | None = None) -> Iterator[None]:
    """Turn errors that the user can mend into one message and an exit code.

    The exit code is 2 for wrong arguments, 1 for other errors of lort_hub and 130 for Ctrl-C. Any other
    exception is a bug of ours and keeps its traceback.

    Args:
        arguments: As in `run`.

    Example:
        >>> with exit_codes():
        ...     pass
    """
    # Imported objects stay. Collecting garbage among them, as Python does after every 700 new objects and
    # before it exits, took a quarter of the start and half a second at the end.
    gc.set_threshold(10_000)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know no letters but ASCII's
    names = {field.name for field in fields(arguments)} if arguments else set()
    try:
        with _disconnected(), _lost_processes():
            yield
    except ConfigError as error:
        _exit(2, as_flags(str(error), names))
    except ProcessLostError as error:
        _exit(1, f"{error}{' Add --resume to it.' if 'resume' in names else ''}")
    except LortHubError as error:
        _exit(1, as_flags(str(error), names))
    except KeyboardInterrupt:
        next_step = f" To go on from the finished parts:\n{resuming_command()}" if "resume" in names else ""
        _exit(130, f"Interrupted.{next_step}")
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # of torch, which may not be imported
            raise
        _exit(
            1,
            f"The GPU is out of memory: {str(error).partition('. ')[0]}.\n"
            "Lower --batch-size if it was the backbone. For heads: more GPUs, or --device cpu.\n"
            "What was extracted is kept.",
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still to be written there, at the exit
        _exit(1, "The program that read the output has ended, and so has this run.")
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        flags = [flag for flag in ("--output-dir", "--output") if flag[2:].replace("-", "_") in names]
        place = " or ".join([*flags, "LORT_HUB_CACHE"])
        _exit(
            1,
            f"Cannot write {error.filename or 'a file'}: {error.strerror}.\n"
            f"Nothing was lost: make room or name another place ({place}), then run again.",
        )
    finally:
        gc.freeze()


@contextmanager
def _disconnected() -> Iterator[None]:
    """Leave the other processes at the end, unless one is lost or this one stopped in the midst of a step."""
    try:
        yield
    except ProcessLostError:
        raise
    except (LortHubError, OSError) as error:
        traceback.clear_frames(error.__traceback__)  # they refer to the processes
        _disconnect()
        raise
    else:
        _disconnect()


def _disconnect() -> None:
    if os.environ.get("WORLD_SIZE", "1") != "1" and "torch" in sys.modules:
        from lort_hub.features.distributed import disconnect

        disconnect()


@contextmanager
def _lost_processes() -> Iterator[None]:
    """Recognise dead processes in errors of torch and Accelerate too, as in the midst of a training step."""
    try:
        yield
    except RuntimeError:
        if os.environ.get("WORLD_SIZE", "1") == "1":
            raise
        from lort_hub.features.distributed import detect_lost_process

        with detect_lost_process():
            raise


def _exit(code: int, message: str) -> None:
    report = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if report and LORT_HUB_COMMAND in os.environ:  # which shows the message of the first process that ended
        written = Path(f"{report}.{os.getpid()}")
        written.write_text(json.dumps({"message": message, "timestamp": int(time.time())}))
        written.replace(report)
    else:
        print(f"error: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(code)
