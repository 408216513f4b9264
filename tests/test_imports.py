import importlib
import json
import subprocess
import sys

import pytest

import lort_hub
from tests.conftest import ROOT

HEAVY = (
    "torch",
    "timm",
    "transformers",
    "datasets",
    "accelerate",
    "matplotlib",
    "huggingface_hub",
    "sklearn",
)

IMPORT = """
import sys
seen = []
sys.addaudithook(lambda event, args: event.startswith(("socket.", "subprocess.")) and seen.append(event))
import {module}
import json
print(json.dumps([sorted(set({heavy}) & set(sys.modules)), seen]))
"""


def after_import(module):
    """Heavy packages loaded, and sockets and processes opened, by importing a module."""
    code = IMPORT.format(module=module, heavy=HEAVY)
    command = [sys.executable, "-W", "error", "-c", code]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=True)
    return json.loads(finished.stdout)


@pytest.mark.parametrize("module", ["lort_hub", "lort_hub.config", "lort_hub.errors"])
def test_import_is_light_and_quiet(module):
    assert after_import(module) == [[], []]


def test_public_names_resolve_and_are_few():
    assert len(lort_hub.__all__) == len(set(lort_hub.__all__)) <= 12
    assert set(lort_hub.__all__) <= set(dir(lort_hub))
    for name in dir(lort_hub):
        assert getattr(lort_hub, name) is not None or name.startswith("__")
    for name in lort_hub.__all__:
        found = getattr(lort_hub, name)
        assert (found.__name__, found.__module__.partition(".")[0]) == (name, "lort_hub")
        assert found.__doc__


def test_public_names_are_those_of_their_modules():
    namespace = {}
    exec("from lort_hub import *", namespace)
    assert set(lort_hub.__all__) <= set(namespace)
    assert namespace["evaluate"] is importlib.import_module("lort_hub.metrics").evaluate


def test_unknown_attribute_is_named():
    with pytest.raises(AttributeError, match="module 'lort_hub' has no attribute 'fit_heads'"):
        lort_hub.fit_heads  # noqa: B018
    assert not hasattr(lort_hub, "np")


def test_importing_everything_reaches_for_no_network():
    modules = ["lort_hub." + path.stem for path in (ROOT / "lort_hub").glob("*.py") if path.stem[0] != "_"]
    _, seen = after_import(", ".join(modules))
    assert not {"socket.connect", "socket.getaddrinfo", "socket.bind"} & set(seen)
