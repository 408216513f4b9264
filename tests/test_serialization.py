from dataclasses import dataclass

import pytest

from lort_hub.errors import CheckpointError
from lort_hub.serialization import Record


@dataclass(frozen=True)
class Inner(Record):
    class_: int


@dataclass(frozen=True)
class Outer(Record):
    names: tuple[str, ...]
    parts: dict[str, Inner]
    license: str | None
    pairs: tuple[tuple[float, float], ...] = ()
    interval: Inner | None = None


OUTER = {"names": ["a"], "parts": {"b": {"class": 1}}, "license": None, "pairs": [[0.0, 1.0]]}


def test_a_record_is_its_json_and_back():
    record = Outer(("a",), {"b": Inner(1)}, None, ((0.0, 1.0),))
    assert record.to_json() == OUTER
    assert Outer.from_json(OUTER) == record
    whole = {**OUTER, "interval": {"class": 2}}
    assert Outer.from_json(whole).to_json() == whole


def test_what_is_newer_or_older_is_read_all_the_same():
    assert Outer.from_json({**OUTER, "later": {"x": 1}}) == Outer.from_json(OUTER)
    assert Outer.from_json({"names": [], "parts": {}}) == Outer((), {}, None)
    assert Inner.from_json({"class": 3.0}) == Inner(3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"parts": {}}, "Outer lacks names"),
        ({"names": [], "parts": {"b": {}}}, "Inner lacks class"),
        ({"names": 3, "parts": {}}, "Outer.names is 3, expected a JSON list"),
        ({"names": [], "parts": []}, r"Outer.parts is \[\], expected a JSON dict"),
        ({"names": [3], "parts": {}}, "Outer.names is 3, expected a text"),
        ({"names": [], "parts": {"b": {"class": None}}}, "Inner.class is None, expected an integer"),
        ({"names": [], "parts": {"b": {"class": True}}}, "Inner.class is True, expected an integer"),
        ({**OUTER, "license": 3}, "Outer.license is 3, expected a text"),
        ({**OUTER, "pairs": [[0, "x"]]}, "Outer.pairs is 'x', expected a number"),
        ({**OUTER, "pairs": [[]]}, r"Outer.pairs is \[\], expected 2 values"),
        ([], r"Outer is \[\], expected a JSON object"),
    ],
)
def test_what_cannot_be_read_is_one_line(value, message):
    with pytest.raises(CheckpointError, match=message):
        Outer.from_json(value)
