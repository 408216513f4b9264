"""Run what the processes of a run cannot all do at once: checks on the first, loading once on each node."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from lort_hub.errors import DatasetError

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")


class Data(Protocol):
    """A data set as this module sees it."""

    def describe(self) -> str:
        """Describe it in a line."""

    def listing(self) -> str:
        """Hash what it consists of."""


D = TypeVar("D", bound=Data)


def on_first(accelerator: Accelerator, function: Callable[..., T], *args: Any, **options: Any) -> T:
    """Run a function on the first process, and return its value on all; every process calls this.

    What only the first process writes, such as the output folder, need not be there on other nodes.

    Args:
        accelerator: The recipe's Accelerator.
        function: The function.
        args: Its positional arguments.
        options: Its other arguments.

    Raises:
        Exception: On every process, what the function raises on the first.

    Example:
        >>> from accelerate import Accelerator
        >>> on_first(Accelerator(cpu=True), max, 1, 2)
        2
    """
    from lort_hub.features.distributed import Processes, fail_together

    processes = Processes.of(accelerator)
    value: T | None = None
    with fail_together(processes):
        if accelerator.is_main_process:
            value = function(*args, **options)
    return cast("T", processes.broadcast_object(value))


def in_turns(accelerator: Accelerator, load: Callable[..., T], *args: Any, **options: Any) -> T:
    """Load something on the first process, then on the first of each other node, then on the others.

    So it is downloaded or unpacked once where the nodes share a cache, and once on each node where they do
    not. Every process calls this.

    Args:
        accelerator: The recipe's Accelerator.
        load: Loads it.
        args: Positional arguments of `load`.
        options: Its other arguments.

    Raises:
        Exception: On every process, what `load` raises on one; the message names the node.

    Example:
        >>> from accelerate import Accelerator
        >>> in_turns(Accelerator(cpu=True), max, 1, 2)
        2
    """
    from lort_hub.features.distributed import Processes, fail_together

    processes = Processes.of(accelerator)
    own_turn = 0 if accelerator.is_main_process else 1 if accelerator.is_local_main_process else 2
    value: T | None = None
    for turn in range(3):
        with fail_together(processes):
            if turn == own_turn:
                value = load(*args, **options)
    return cast("T", value)


def load_data(accelerator: Accelerator, load: Callable[..., D], *args: Any, **options: Any) -> D:
    """Load a data set as `in_turns` does, and refuse nodes whose files differ; every process calls this.

    Args:
        accelerator: The recipe's Accelerator.
        load: Loads the data.
        args: Positional arguments of `load`.
        options: Its other arguments.

    Raises:
        DatasetError: The nodes do not read the same images; the message names two that differ.

    Example:
        >>> from accelerate import Accelerator
        >>> from lort_hub.data.load import load_long_tailed
        >>> len(load_data(Accelerator(cpu=True), load_long_tailed, "digits").test)
        500
    """
    from lort_hub.features.distributed import Processes, node_name

    data = in_turns(accelerator, load, *args, **options)
    processes = Processes.of(accelerator)
    if processes.count == 1:
        return data
    (listing, *first), *others = processes.gather_objects((data.listing(), node_name(), data.describe()))
    for other, *second in others:
        if other != listing:
            (here, of_here), (there, of_there) = first, second
            raise DatasetError(
                f"The nodes do not read the same images. On {here}: {of_here}. On {there}: {of_there}.\n"
                "Copy the same files to each node, or name a folder that all of them share."
            )
    return data
