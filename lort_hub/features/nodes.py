"""Copy files between nodes that do not share them: to the first process, or from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from lort_hub.features.distributed import Processes, fail_together, node_name
from lort_hub.features.store import FeatureStore

CHUNK = 2**26
"""Bytes of a file that are sent at a time."""


def collect_parts(store: FeatureStore, view: str, processes: Processes) -> None:
    """Copy the parts of a view that the first process lacks into its store; every process calls this.

    Where all processes share the cache folder, the first lacks none, and nothing is sent.

    Args:
        store: The store of this process, with its share of the parts.
        view: Name of the view.
        processes: All processes.

    Raises:
        OSError: On every process, if the first has no room for a part.

    Example:
        >>> import tempfile
        >>> store = FeatureStore.create(Path(tempfile.mkdtemp()), {"backbone": "b"}, num_samples=2)
        >>> collect_parts(store, "eval", Processes())
    """
    if processes.count > 1:
        lacking = store.missing(view) if processes.index == 0 else []
        collect_files(lacking, partial(store.path, view), partial(store.add_part, view), processes)


def collect_files(
    lacking: Sequence[int],
    find: Callable[[int], Path | None],
    write: Callable[[int, bytes], object],
    processes: Processes,
) -> None:
    """Copy numbered files that the first process lacks from whoever has them; every process calls this.

    Args:
        lacking: Their numbers, of which those of the first process count.
        find: Finds the file of a number on this node.
        write: Writes a file of the first process.
        processes: All processes.

    Raises:
        OSError: On every process, if the first has no room for a file.

    Example:
        >>> collect_files([], lambda number: None, lambda number, data: None, Processes())
    """
    lacking = processes.broadcast_object(lacking)
    own = {number: path for number in lacking if (path := find(number))}
    owners = processes.gather_objects({number: path.stat().st_size for number, path in own.items()})
    for number in lacking:
        source = next((index for index, sizes in enumerate(owners) if number in sizes), None)
        if source is None:
            continue
        data = own[number].read_bytes() if processes.index == source else b""
        data = processes.send_to_first(data, source=source, size=owners[source][number])
        with fail_together(processes):
            if processes.index == 0:
                write(number, data)


def is_first_without(has: bool, processes: Processes) -> bool:
    """Tell whether this is the first process of a node without something; every process calls this.

    Args:
        has: Whether this process has it.
        processes: All processes.

    Example:
        >>> is_first_without(False, Processes()), is_first_without(True, Processes())
        (True, False)
    """
    ends = processes.gather_objects((node_name(), has))
    return not has and ends.index((node_name(), False)) == processes.index


@contextmanager
def lend_folder(folder: Path, processes: Processes) -> Iterator[Path]:
    """Give every process the files of a folder of the first; every process calls this.

    Args:
        folder: The folder, without folders in it.
        processes: All processes.

    Yields:
        The folder where this process sees it, else a copy on its node, which is deleted afterwards.

    Raises:
        OSError: On every process, if a node has no room for the copy.

    Example:
        >>> with lend_folder(Path("out/stage1-training/epoch_0001"), Processes()) as seen:
        ...     print(seen)
        out/stage1-training/epoch_0001
    """
    if processes.count == 1:
        yield folder
        return
    listing = processes.broadcast_object(_listing(folder))
    is_seen = _listing(folder) == listing
    with TemporaryDirectory() as own:
        copies: dict[str, Path] = {}  # one for all processes of a node
        for node, sees, place in processes.gather_objects((node_name(), is_seen, own)):
            if not sees:
                copies.setdefault(node, Path(place))
        is_receiver = Path(own) in copies.values()
        for name, *_ in listing if copies else ():
            _send_file(folder / name, Path(own) / name if is_receiver else None, processes)
        yield folder if is_seen else copies[node_name()]
        processes.gather_objects(None)  # or a process deletes what another one still reads


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _send_file(source: Path, target: Path | None, processes: Processes) -> None:
    start, more = 0, True
    while more:
        data = b""
        with fail_together(processes):
            if processes.index == 0:
                with source.open("rb") as file:
                    file.seek(start)
                    data = file.read(CHUNK)
        data = processes.broadcast_object(data)
        with fail_together(processes):
            if target:
                with target.open("ab") as file:
                    file.write(data)
        start, more = start + len(data), len(data) == CHUNK
