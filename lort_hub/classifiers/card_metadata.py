"""Write results into the metadata of a model card, and leave every other byte of it as it is.

Libraries that read and write YAML would lose comments, order and quotes. Here the numbers on one data set are
replaced in the text, which is then parsed again to check that nothing else has changed.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lort_hub.errors import CheckpointError
from lort_hub.files import write_atomically

FRONT_MATTER = re.compile(r"\A(\ufeff?\s*---[ \t]*\r?\n)(.*?)(?=^---[ \t]*\r?$)", re.S | re.M)
"""The opening line of a card's metadata, and the YAML before its closing line."""
IDENTITY = ("type", "config", "split", "revision")
"""What tells the data sets of two entries apart, as on the Hub."""
TASK = "image-classification"
Json = dict[str, Any]


@dataclass(frozen=True)
class Metric:
    """A number of a model on a data set.

    Attributes:
        type: Name of the metric on the Hub, such as "accuracy".
        name: What is shown; what follows " (n=" does not tell two metrics apart.
        value: The number.
    """

    type: str
    name: str
    value: float

    @property
    def identity(self) -> tuple[str, str]:
        """What tells it from other metrics."""
        return self.type, _without_number(self.name)

    def to_flow(self) -> Json:
        """Return the metric as it is in a model-index."""
        return {"type": self.type, "value": self.value, "name": self.name}


def _without_number(name: str) -> str:
    return name.partition(" (n=")[0]


def update_card(path: Path, dataset: Json, metrics: Sequence[Metric], known: Sequence[str]) -> str:
    r"""Write a model's numbers on a data set into the metadata of its card; a card that is missing is made.

    Args:
        path: The card, README.md of a model folder.
        dataset: Name, type, split and revision of the data set, as in a model-index; no None.
        metrics: The numbers.
        known: Names of all metrics that this function ever writes: older numbers of these are replaced.

    Returns:
        What was done, in words.

    Raises:
        CheckpointError: The metadata cannot be read, or not changed without touching anything else.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "README.md"
        >>> _ = path.write_text("---\nlicense: mit  # ours\n---\n# Cats\n")
        >>> numbers = [Metric("accuracy", "accuracy", 0.5)]
        >>> update_card(path, {"name": "Cats", "type": "cats"}, numbers, ["accuracy"])
        'added the results on Cats'
        >>> path.read_text().splitlines()[:3]
        ['---', 'license: mit  # ours', 'model-index:']
    """
    path = path.resolve()
    before = path.read_bytes() if path.exists() else b""
    try:
        text = before.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise CheckpointError(f"{path} is not UTF-8: {cause}.\nSave it as UTF-8.") from cause
    after, done = with_results(text, dataset, metrics, known, model=path.parent.name, source=str(path))
    if after != text:
        mode = path.stat().st_mode if path.exists() else None
        write_atomically(path, after.encode("utf-8"))
        if mode is not None:
            path.chmod(mode)
    return done


def with_results(
    text: str, dataset: Json, metrics: Sequence[Metric], known: Sequence[str], *, model: str, source: str
) -> tuple[str, str]:
    """Write numbers into the text of a card.

    Args:
        text: The card.
        dataset: As in `update_card`.
        metrics: The numbers.
        known: As in `update_card`.
        model: Name of the model, for a card that has no results.
        source: The file, for messages.

    Returns:
        The text, and what was done, in words.

    Raises:
        CheckpointError: The metadata cannot be read, or not changed without touching anything else.

    Example:
        >>> text, done = with_results("# Cats", {"type": "cats"}, [], [], model="m", source="README.md")
        >>> text.splitlines()[-1]
        '# Cats'
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    found = FRONT_MATTER.match(text)
    if found is None:
        mark = "\ufeff" if text.startswith("\ufeff") else ""
        body = text.removeprefix(mark)
        header, done = _edited("", dataset, metrics, known, model, source)
        between = "" if not body or body.startswith(("\n", "\r")) else newline
        lines = f"---\n{header}---\n".replace("\n", newline)
        return f"{mark}{lines}{between}{body}", done
    opening, block = found.groups()
    edited, done = _edited(block.replace("\r\n", "\n"), dataset, metrics, known, model, source)
    if edited == block.replace("\r\n", "\n"):
        return text, done
    if newline == "\r\n" and block.replace("\r\n", "\n").replace("\n", "\r\n") != block:
        raise _cannot(source, "its lines end in two ways")
    return f"{opening}{edited.replace(chr(10), newline)}{text[found.end() :]}", done


def _cannot(source: str, why: str) -> CheckpointError:
    return CheckpointError(
        f"The metadata of {source} cannot be changed without touching anything else: {why}.\n"
        "It is left as it is; metrics.json has the numbers."
    )


def _edited(
    block: str, dataset: Json, metrics: Sequence[Metric], known: Sequence[str], model: str, source: str
) -> tuple[str, str]:
    """The YAML with the numbers in it, checked, and what was done."""
    try:
        data = yaml.safe_load(block)
        root = yaml.compose(block, yaml.SafeLoader)
    except yaml.YAMLError as cause:
        raise _cannot(source, f"it is no YAML ({str(cause).splitlines()[0]})") from cause
    if data is not None and not isinstance(data, dict):
        raise _cannot(source, f"it is a {type(data).__name__}, expected 'key: value' lines")
    wanted: Json = copy.deepcopy(data or {})
    models = wanted["model-index"] = wanted.get("model-index") or [{"name": model, "results": []}]
    what = dataset.get("name", dataset.get("type"))
    try:
        place = _place(models, dataset)
        if place is None:
            added = {
                "task": {"type": TASK},
                "dataset": dataset,
                "metrics": [one.to_flow() for one in metrics],
            }
            models[0]["results"] = [*(models[0]["results"] or []), added]
            text, done = _with_entry(block, root, wanted), f"added the results on {what}"
        else:
            entry = models[place[0]]["results"][place[1]]
            merged = _merged(entry["metrics"], metrics, known)
            results = _child(_child(root, "model-index").value[place[0]], "results")
            node = _child(results.value[place[1]], "metrics")
            text = _with_metrics(block, node, entry["metrics"], merged)
            entry["metrics"] = [one for _, one in merged]
            done = f"replaced the results on {what}"
        is_right = repr(yaml.safe_load(text)) == repr(wanted)
    except (AttributeError, KeyError, TypeError, yaml.YAMLError) as cause:  # lists and mappings that are none
        raise _cannot(source, "its model-index has another form than the Hub's") from cause
    if not is_right:
        raise _cannot(source, "its model-index is written in a way that cannot be added to")
    return text, f"the results on {what} are there already" if text == block else done


def _place(models: list[Any], dataset: Json) -> tuple[int, int] | None:
    """Positions of the model and of its entry that are of a data set, as the Hub tells them apart."""
    for at, model in enumerate(models):
        for number, entry in enumerate(model.get("results") or []):
            same = all(entry["dataset"].get(key) == dataset.get(key) for key in IDENTITY)
            if same and entry["task"].get("type") == TASK:
                return at, number
    return None


def _merged(
    old: list[Json], metrics: Sequence[Metric], known: Sequence[str]
) -> list[tuple[int | None, Json]]:
    """The metrics of an entry, each with its old position: those of others as they are, ours renewed."""
    pending = {one.identity: one for one in metrics}
    merged: list[tuple[int | None, Json]] = []
    for at, one in enumerate(old):
        identity = (one.get("type"), _without_number(str(one.get("name"))))
        if identity[1] not in known:
            merged.append((at, one))
        elif identity in pending:
            merged.append((at, {**one, **pending.pop(identity).to_flow()}))
    return merged + [(None, one.to_flow()) for one in pending.values()]


def _with_metrics(block: str, node: Any, old: list[Json], merged: list[tuple[int | None, Json]]) -> str:
    """The text with the metrics of one entry as they are now."""
    if node.flow_style:
        return block[: node.start_mark.index] + _flow([one for _, one in merged]) + block[_end(node) :]
    edits: list[tuple[int, int, str]] = []
    for gone in set(range(len(old))) - {at for at, _ in merged}:
        start = block.rfind("\n", 0, node.value[gone].start_mark.index) + 1
        edits.append((start, _line_end(block, _end(node.value[gone])), ""))
    for at, one in merged:
        if at is None:
            end = _line_end(block, _end(node))
            edits.append((end, end, _item(one, node.start_mark.column)))
            continue
        for key in ("value", "name"):
            if one.get(key) != old[at].get(key):
                scalar = _child(node.value[at], key)
                edits.append((scalar.start_mark.index, _end(scalar), _scalar(one[key])))
    for start, end, text in sorted(edits, key=lambda edit: edit[0], reverse=True):
        block = block[:start] + text + block[end:]
    return block


def _with_entry(block: str, root: Any, wanted: Json) -> str:
    """The text with the new last entry of the first model, in the style that is there."""
    models = wanted["model-index"]
    node = _child(root, "model-index")
    if node is None and root is not None and root.flow_style:
        at = _end(root.value[-1][1]) if root.value else root.start_mark.index + 1
        return f"{block[:at]}{', ' * bool(root.value)}model-index: {_flow(models)}{block[at:]}"
    if node is None:
        lines = _dumped({"model-index": models}, root.start_mark.column if root else 0)
        return f"{block}{' ' * (root.start_mark.column if root else 0)}{lines}\n"
    if not (isinstance(node, yaml.SequenceNode) and node.value):
        return f"{block[: node.start_mark.index]} {_flow(models)}{block[_end(node) :]}"
    results, entries = _child(node.value[0], "results"), models[0]["results"]
    if not (isinstance(results, yaml.SequenceNode) and results.value):
        return f"{block[: results.start_mark.index]} {_flow(entries)}{block[_end(results) :]}"
    if results.flow_style:
        end = _end(results.value[-1])
        return f"{block[:end]}, {_flow(entries[-1])}{block[end:]}"
    end = _line_end(block, _end(results))
    return block[:end] + _item(entries[-1], results.start_mark.column) + block[end:]


def _child(node: Any, key: str) -> Any:
    """The node of a key of a mapping; None where it has no such key."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _item(value: Json, column: int) -> str:
    return f"{' ' * column}- {_dumped(value, column + 2)}\n"


def _dumped(value: Json, column: int) -> str:
    lines = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10**6).splitlines()
    return f"\n{' ' * column}".join(lines)


def _scalar(value: Any) -> str:
    return yaml.safe_dump(value, allow_unicode=True, width=10**6).removesuffix("...\n").strip()


def _flow(value: Any) -> str:
    return yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6
    ).strip()


def _end(node: Any) -> int:
    """Where the text of a node ends: PyYAML's own mark of a block lies behind the comments that follow it."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _line_end(block: str, index: int) -> int:
    """Where the line ends that the character before an index is on."""
    if block[index - 1] == "\n":  # of a text of several lines
        return index
    at = block.find("\n", index)
    return len(block) if at < 0 else at + 1
