"""Record the events of a run: the seconds of its phases, and the numbers of its epochs and heads."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

LOG = "log.jsonl"
"""File of the events of a run, a line of JSON for each."""


class RunLog:
    """The events of a run in their order.

    Attributes:
        rows: A row of log.jsonl for each event: its time, its name, and its numbers.
        seconds: Seconds of each phase of this process; those of one name are added up.

    Example:
        >>> log = RunLog()
        >>> log.add("epoch", epoch=1, loss=0.5)
        >>> {key: value for key, value in log.rows[0].items() if key != "time"}
        {'name': 'epoch', 'epoch': 1, 'loss': 0.5}
    """

    def __init__(self) -> None:
        """Start without events."""
        self.rows: list[dict[str, Any]] = []
        self.seconds: dict[str, float] = {}

    def add(self, name: str, **numbers: Any) -> None:
        """Add an event that has just ended."""
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self.rows.append({"time": time, "name": name, **numbers})

    def add_phase(self, name: str, seconds: float) -> None:
        """Add a phase that has just ended."""
        self.add(name, seconds=round(seconds, 3))
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 3)

    def go_on_from(self, checkpoint: Path | None) -> None:
        """Put the events up to a checkpoint before those of this process.

        Args:
            checkpoint: Folder that the interrupted run wrote its log in; None where there is none.
        """
        if checkpoint and (checkpoint / LOG).exists():
            self.rows[:0] = [json.loads(line) for line in (checkpoint / LOG).read_text().splitlines()]

    def write(self, folder: Path) -> None:
        """Write log.jsonl; NaN is refused."""
        lines = [json.dumps(row, allow_nan=False) for row in self.rows]
        (folder / LOG).write_text("".join(f"{line}\n" for line in lines))
