"""Forked processes that form one gloo group, as those of one `accelerate launch` do."""

import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import torch

FORK = multiprocessing.get_context("fork")
SECONDS = 120


def together(count, work):
    """`work(index)` in each of several processes; (exit code, what it returned or raised) of each.

    Exit codes: 0 it returned, 1 it raised, -9 it was killed. Whoever still runs after `SECONDS` hangs.
    """
    with tempfile.TemporaryDirectory() as folder:
        children = [FORK.Process(target=_member, args=(work, k, count, Path(folder))) for k in range(count)]
        for child in children:
            child.start()
        for child in children:
            child.join(SECONDS)
        hanging = [index for index, child in enumerate(children) if child.is_alive()]
        for index in hanging:
            children[index].kill()
        assert not hanging, f"processes {hanging} of {count} hang"
        files = [Path(folder) / str(index) for index in range(count)]
        said = [torch.load(file, weights_only=False) if file.exists() else None for file in files]
    return [(child.exitcode, what) for child, what in zip(children, said, strict=True)]


def _member(work, index, count, folder):
    signal.alarm(SECONDS + 60)
    os.environ.update(
        RANK=str(index), LOCAL_RANK=str(index), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count),
        ACCELERATE_USE_CPU="true", GLOO_SOCKET_IFNAME="lo",
    )  # fmt: skip
    code = 0
    try:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/group", rank=index, world_size=count
        )
        said = work(index)
    except Exception as error:
        traceback.print_exc()
        code, said = 1, error
    torch.save(said, folder / f"{index}.new")
    (folder / f"{index}.new").rename(folder / str(index))
    sys.stderr.flush()
    os._exit(code)
