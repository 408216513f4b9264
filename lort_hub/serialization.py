"""Write dataclasses to JSON, and read them back from files of other versions."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from lort_hub.errors import CheckpointError

R = TypeVar("R", bound="Record")


@dataclass(frozen=True)
class Record:
    """A dataclass that is written to JSON, and read back from a file of this version or another.

    A field whose default is None is absent from the file where it is None. Fields of the file that the class
    does not have are ignored; those that the file lacks are None or their default. `class_` is `class` in the
    file.

    Example:
        >>> @dataclass(frozen=True)
        ... class ClassCount(Record):
        ...     class_: int
        ...     train_images: int | None
        >>> ClassCount.from_json({"class": 3, "added_later": True})
        ClassCount(class_=3, train_images=None)
        >>> ClassCount(3, 20).to_json()
        {'class': 3, 'train_images': 20}
    """

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON-ready values."""
        values = {field: getattr(self, field.name) for field in fields(self)}
        return {
            field.name.rstrip("_"): _to_json(value)
            for field, value in values.items()
            if not (value is None and field.default is None)
        }

    @classmethod
    def from_json(cls: type[R], value: Any) -> R:
        """Build the record from parsed JSON.

        Raises:
            CheckpointError: It lacks a field that has no default, or holds a value of another type.
        """
        if not isinstance(value, dict):
            raise CheckpointError(f"{cls.__name__} is {value!r:.40}, expected a JSON object.")
        kinds, values, missing = get_type_hints(cls), {}, []
        for field in fields(cls):
            name = field.name.rstrip("_")
            if name in value:
                values[field.name] = _from_json(kinds[field.name], value[name], f"{cls.__name__}.{name}")
            elif type(None) in get_args(kinds[field.name]):
                values[field.name] = None
            elif field.default is MISSING:
                missing.append(name)
        if missing:
            raise CheckpointError(f"{cls.__name__} lacks {', '.join(missing)}.")
        return cls(**values)

    @classmethod
    def read(cls: type[R], path: Path) -> R:
        """Read the record from a JSON file."""
        return cls.from_json(json.loads(path.read_text()))

    @classmethod
    def part_of(cls: type[R], larger: Record) -> R:
        """Build the record from another one that has all of its fields."""
        return cls(**{field.name: getattr(larger, field.name) for field in fields(cls)})


def _to_json(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, dict):
        return {name: _to_json(item) for name, item in value.items()}
    return [_to_json(item) for item in value] if isinstance(value, list | tuple) else value


PLAIN: dict[type, tuple[type | tuple[type, ...], str]] = {
    bool: (bool, "true or false"),
    int: (int, "an integer"),
    float: ((int, float), "a number"),
    str: (str, "a text"),
}
"""What parsed JSON holds for a field of each plain type, and its name in words."""


def _from_json(kind: Any, value: Any, name: str) -> Any:
    """Convert parsed JSON to the type of the named field: records, tuples, and dicts of them."""
    if isinstance(kind, type) and issubclass(kind, Record):
        return kind.from_json(value)
    origin, inner = get_origin(kind), get_args(kind)
    if type(None) in inner:
        return None if value is None else _from_json(inner[0], value, name)
    expected = {tuple: list, dict: dict}.get(origin)
    if expected and not isinstance(value, expected):
        raise CheckpointError(f"{name} is {value!r:.40}, expected a JSON {expected.__name__}.")
    if origin is tuple:
        if ... not in inner and len(value) != len(inner):
            raise CheckpointError(f"{name} is {value!r:.40}, expected {len(inner)} values.")
        if inner[0] in PLAIN:
            _check_plain(inner[0], value, name)
            return tuple(value)
        return tuple(_from_json(inner[0], item, name) for item in value)
    if origin is dict:
        return {key: _from_json(inner[1], item, f"{name}.{key}") for key, item in value.items()}
    if kind in PLAIN:
        _check_plain(kind, [value], name)
    return value


def _check_plain(kind: type, values: list[Any], name: str) -> None:
    types, words = PLAIN[kind]
    for value in values:
        is_whole = kind is int and isinstance(value, float) and value.is_integer()
        is_other_bool = isinstance(value, bool) and kind in (int, str)
        if is_other_bool or not (isinstance(value, types) or is_whole):
            raise CheckpointError(f"{name} is {value!r:.40}, expected {words}.")
