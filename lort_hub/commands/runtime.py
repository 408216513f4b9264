"""How a recipe runs: its processes, the seconds of its phases, what it records of itself, and exit codes."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lort_hub import STARTED
from lort_hub.commands.arguments import RunArguments
from lort_hub.errors import ConfigError, LortHubError

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_accelerator(arguments: RunArguments, **options: Any) -> Accelerator:
    """The Accelerator of a recipe, refused where its processes would not know of each other.

    Args:
        arguments: The recipe's flags.
        options: More for `Accelerator`.

    Raises:
        ConfigError: Several processes were started that Accelerate does not connect, or the tracker's package
            is not installed.

    Example:
        >>> make_accelerator(RunArguments(mixed_precision="no")).num_processes
        1
    """
    from accelerate import Accelerator

    report_to = None if arguments.report_to == "none" else arguments.report_to
    if report_to and find_spec(report_to) is None:
        raise ConfigError(f"--report-to {report_to} needs its package: pip install {report_to}")
    logs = arguments.output_dir.with_name(f"{arguments.output_dir.name}-logs")
    accelerator = Accelerator(
        mixed_precision=arguments.mixed_precision,
        log_with=report_to,
        project_dir=str(logs),
        **options,
    )
    reuse_freed_memory()
    use_idle_cores()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world != accelerator.num_processes:
        raise ConfigError(
            f"{world} processes were started, but Accelerate runs {accelerator.num_processes}: each would "
            "do all the work and write the same folder.\nWithout GPUs start them as: "
            "ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 recipes/retrain.py ..."
        )
    return accelerator


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


def start_timing() -> dict[str, float]:
    """Begin a recipe's `timing` with what it has spent until here, most of it on importing the libraries.

    Example:
        >>> list(start_timing())  # doctest: +ELLIPSIS
        imports: ... s
        ['imports']
    """
    timing: dict[str, float] = {}
    _add("imports", STARTED, timing)
    return timing


@contextmanager
def phase(name: str, timing: dict[str, float]) -> Iterator[None]:
    """Time one phase of a recipe and log its line.

    Args:
        name: Its name.
        timing: Where its seconds are kept, added to those of an earlier phase of that name.

    Example:
        >>> timing = {}
        >>> with phase("data", timing):
        ...     pass
        data: 0.0 s
        >>> list(timing)
        ['data']
    """
    start = time.perf_counter()
    yield
    _add(name, start, timing)


def _add(name: str, start: float, timing: dict[str, float]) -> None:
    from accelerate import PartialState

    seconds = time.perf_counter() - start
    timing[name] = round(timing.get(name, 0.0) + seconds, 3)
    PartialState().print(f"{name}: {seconds:.1f} s", flush=True)


def run(main: Callable[[], None]) -> None:
    """Run a recipe and turn what the user can mend into one message and an exit code.

    Args:
        main: The recipe; 2 is the exit code of wrong arguments, 1 of everything else the user can mend.

    Example:
        >>> run(lambda: None)
    """
    # What is imported stays. To look for garbage in it, as Python does after every 700 new objects and before
    # it exits, took a quarter of the start and half a second at the end.
    gc.set_threshold(10_000)
    try:
        main()
    except ConfigError as error:
        _exit(2, str(error))
    except LortHubError as error:
        _exit(1, str(error))
    except KeyboardInterrupt:
        _exit(130, "Interrupted. Add --resume to the same command to go on from the finished parts.")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS):
            raise
        _exit(
            1,
            f"Cannot write {error.filename or 'a file'}: {error.strerror}.\n"
            "Nothing was lost: make room or name another place (--output-dir, LORT_HUB_CACHE), run again.",
        )
    finally:
        gc.freeze()


def _exit(code: int, message: str) -> None:
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(code)
