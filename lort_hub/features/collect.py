"""Collect on the first process what only other nodes keep, where nodes have caches of their own."""

from __future__ import annotations

from lort_hub.features.distributed import Processes, fail_together
from lort_hub.features.store import FeatureStore


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
        >>> from pathlib import Path
        >>> store = FeatureStore.create(Path(tempfile.mkdtemp()), {"backbone": "b"}, num_samples=2)
        >>> collect_parts(store, "eval", Processes())
    """
    if processes.count == 1:
        return
    lacking = processes.broadcast_object(store.missing(view) if processes.index == 0 else [])
    own = {part: path for part in lacking if (path := store.path(view, part))}
    owners = processes.gather_objects({part: path.stat().st_size for part, path in own.items()})
    for part in lacking:
        source = next((index for index, sizes in enumerate(owners) if part in sizes), None)
        if source is None:
            continue
        data = own[part].read_bytes() if processes.index == source else b""
        data = processes.send_to_first(data, source=source, size=owners[source][part])
        with fail_together(processes):
            if processes.index == 0:
                store.add_part(view, part, data)
