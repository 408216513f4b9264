"""Files that are downloaded of a data set on the Hub."""

from fnmatch import fnmatch

import pytest

from lort_hub.data.hub_data import wanted_files
from lort_hub.data.tables.configurations import Configuration


@pytest.mark.parametrize("number", [3, 1200])
def test_no_weights_are_downloaded_with_pictures(number):
    pictures = [f"{name}{k}.jpg" for name in ("ant/", "bee [1]/", "") for k in range(number)] + ["labels.csv"]
    others = ["model.safetensors", "W.PKL", "ant/w.bin", ".gitattributes", "ant/.gitattributes", "README.md"]
    patterns = wanted_files(Configuration("default"), [*pictures, *others])
    assert len(patterns) < 20
    assert [name for name in others if any(fnmatch(name, pattern) for pattern in patterns)] == []
    assert all(any(fnmatch(name, pattern) for pattern in patterns) for name in pictures)
