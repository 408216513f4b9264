"""Start a recipe as several processes, on one machine or on several, through Accelerate's launcher."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lort_hub.commands.runtime import gpu_count
from lort_hub.errors import ConfigError, LortHubError

RENDEZVOUS_SECONDS = 600
"""How long a machine waits for the others to start; Accelerate's launcher decides it."""


@dataclass(frozen=True)
class Launch:
    """The processes that a command runs as.

    Attributes:
        num_processes: Number of processes, over all machines.
        num_machines: Number of machines.
        machine_rank: Number of this machine, from 0.
        main_process_ip: Address of machine 0; empty for this machine alone.
        main_process_port: Port of machine 0 that is free.

    Raises:
        ConfigError: The numbers do not fit each other, or several machines have no address to meet at.

    Example:
        >>> Launch(num_processes=16, num_machines=2, machine_rank=1, main_process_ip="10.0.0.1").recorded()
        ['--num-processes', '16', '--num-machines', '2']
    """

    num_processes: int = 1
    num_machines: int = 1
    machine_rank: int = 0
    main_process_ip: str = ""
    main_process_port: int = 29500

    def __post_init__(self) -> None:
        """Refuse numbers that do not fit each other."""
        if self.num_machines > 1 and not self.main_process_ip:
            raise ConfigError(
                f"--num-machines {self.num_machines} needs --main-process-ip, the address of machine 0.\n"
                "Run the command on each machine, with its own --machine-rank: 0, 1, ..."
            )
        if self.machine_rank >= self.num_machines:
            raise ConfigError(
                f"--machine-rank is {self.machine_rank}, expected 0 to {self.num_machines - 1}: "
                f"there are --num-machines {self.num_machines}, counted from 0."
            )
        if self.num_processes % self.num_machines:
            raise ConfigError(
                f"--num-processes {self.num_processes} is no multiple of --num-machines {self.num_machines}: "
                "it counts the processes of all machines."
            )

    def recorded(self) -> list[str]:
        """Spell the flags that whoever reproduces the run gives on each machine."""
        shown = {"--num-processes": self.num_processes, "--num-machines": self.num_machines}
        return [word for flag, number in shown.items() if number > 1 for word in (flag, str(number))]

    def run(self, recipe: Path, words: Sequence[str]) -> None:
        """Run a recipe as these processes, and exit with the code of the first that failed.

        Args:
            recipe: The script.
            words: Its flags.

        Raises:
            ConfigError: This machine has too few GPUs.
            LortHubError: A process was killed, or a machine did not come.
        """
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # before torch is imported
        from accelerate.commands.launch import launch_command, launch_command_parser
        from torch.distributed import DistError
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

        self._check_gpus(words)
        logging.disable(logging.ERROR)  # of the launcher; the recipes print what there is to say
        try:
            launch_command(launch_command_parser().parse_args([*self._launcher(), str(recipe), *words]))
        except ChildFailedError as error:
            _exit_as(min(error.failures.values(), key=_order_of_blame))
        except (DistError, ConnectionError) as error:
            place, reason = f"{self.main_process_ip}:{self.main_process_port}", str(error).splitlines()[0]
            raise LortHubError(
                f"The {self.num_machines} machines did not meet at {place} within {RENDEZVOUS_SECONDS} s: "
                f"{reason[:120]}\n"
                "Start the same command on each, with its own --machine-rank; that port of machine 0 has to "
                "be free, and open to the others."
            ) from None
        except SignalException:
            raise KeyboardInterrupt from None

    def _check_gpus(self, words: Sequence[str]) -> None:
        from accelerate.utils import parse_flag_from_env

        gpus, here = gpu_count(), self.num_processes // self.num_machines
        on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or "--device cpu" in " ".join(words).replace(
            "=", " "
        )
        if gpus and here > gpus and not on_cpu:
            several = f" on {self.num_machines} machines" if self.num_machines > 1 else ""
            raise ConfigError(
                f"--num-processes {self.num_processes}{several} needs as many GPUs, and this machine has "
                f"{gpus}.\nGive --num-processes {gpus * self.num_machines}, or --device cpu for the CPU."
            )

    def _launcher(self) -> list[str]:
        # Without GPUs, too: Accelerate's launcher for CPUs starts one process, whatever number it is given.
        words = ["--multi_gpu", "--num_processes", str(self.num_processes)]
        words += ["--num_machines", str(self.num_machines), "--machine_rank", str(self.machine_rank)]
        words += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port"]
        if self.num_machines == 1:
            return [*words, "0"]
        meeting = ["--main_process_ip", self.main_process_ip]
        return [*words, str(self.main_process_port), *meeting, "--rdzv_conf", f"timeout={RENDEZVOUS_SECONDS}"]


def take_launch(words: Sequence[str]) -> tuple[Launch, list[str]]:
    """Take the flags of the launcher out of a command's flags.

    Args:
        words: All flags of the command.

    Returns:
        The processes to start, and the other flags.

    Raises:
        ConfigError: One of the flags is no number, or they do not fit each other.

    Example:
        >>> take_launch(["--num-processes", "2", "--seed", "1"])[1]
        ['--seed', '1']
    """
    kinds = {f"--{field.name.replace('_', '-')}": field for field in fields(Launch)}
    given, others, rest = dict[str, Any](), list[str](), iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        field = kinds.get(flag.replace("_", "-"))
        if field is None:
            others.append(word)
            continue
        value = value if equals else next(rest, "")
        least = 0 if field.name in ("machine_rank", "main_process_port") else 1
        if field.type == "int" and not (value.isdecimal() and int(value) >= least):
            raise ConfigError(f"{flag.replace('_', '-')} is '{value}', expected a number from {least}.")
        given[field.name] = int(value) if field.type == "int" else value
    return Launch(**given), others


def _exit_as(first: Any) -> None:
    """Exit as a failed process did, with its message."""
    if first.exitcode < 0:
        raise LortHubError(
            f"Process {first.local_rank} was killed by {first.signal_name()}.\n"
            "If memory ran out, lower --batch-size or --num-processes."
        ) from None
    if Path(first.error_file).exists():
        print(f"error: {first.message}", file=sys.stderr)  # noqa: T201
    sys.exit(first.exitcode)


def _order_of_blame(failure: Any) -> tuple[bool, bool, int]:
    """Sort failed processes: the killed first, by time, and last those that the launcher itself ended."""
    return failure.exitcode == -signal.SIGTERM, failure.exitcode > 0, failure.timestamp
