import pytest

import lort_hub
from lort_hub.records import environment


@pytest.mark.parametrize("path", [None, "/nonexistent"])
def test_environment_is_recorded_with_and_without_git(monkeypatch, path):
    if path:
        monkeypatch.setenv("PATH", path)
    found = environment()
    assert found["versions"]["lort_hub"] == lort_hub.__version__
    assert {"torch", "timm", "transformers", "datasets", "accelerate"} <= set(found["versions"])
    revision = found["git_revision"]
    assert revision is None if path else revision is None or len(revision) == 40
