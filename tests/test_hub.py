"""Loading from a Hub, over the wire: the loopback one of hub_server."""

import json
import os
import subprocess
import sys

import datasets
import numpy as np
import pytest
import timm
import torch

from lort_hub.data import encode_png
from tests.conftest import ROOT
from tests.hub_server import commit_of, serve
from tests.recipes import retrain, transformers_folder


def load(endpoint, home, statement, **environment):
    """Run one statement after load_backbone is imported, in a process that knows only this Hub."""
    code = (
        "from lort_hub import load_backbone, load_long_tailed\n"
        "from lort_hub.errors import LortHubError\n"
        f"try:\n    {statement}\nexcept LortHubError as error:\n    print(type(error).__name__, error)"
    )
    environment |= {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """timm/resnet50.a1_in1k with random weights, a transformers model, and a small cifar100."""
    root = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    resnet = root / "models" / "timm" / "resnet50.a1_in1k"
    timm.models.save_for_hf(timm.create_model("resnet50"), str(resnet), safe_serialization=True)
    (resnet / "pytorch_model.bin").write_bytes(b"a pickle nobody may fetch")
    transformers_folder(root / "models" / "org" / "vit")
    pickled = root / "models" / "org" / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text((resnet / "config.json").read_text())
    (pickled / "pytorch_model.bin").write_bytes(b"a pickle nobody may fetch")

    names = [f"class {k}" for k in range(100)]
    kinds = {"fine_label": datasets.ClassLabel(names=names), "coarse_label": datasets.ClassLabel(names=names)}
    cifar = root / "datasets" / "uoft-cs" / "cifar100" / "cifar100"
    cifar.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, each in (("train", 6), ("test", 1)):
        labels = list(range(100)) * each
        noise = (rng.integers(0, 255, (32, 32, 3), dtype=np.uint8) for _ in labels)
        rows = {"img": [{"bytes": encode_png(pixels), "path": None} for pixels in noise]}
        rows |= {"fine_label": labels, "coarse_label": labels}
        features = datasets.Features({"img": datasets.Image(), **kinds})
        whole = datasets.Dataset.from_dict(rows, features=features)
        whole.to_parquet(cifar / f"{split}-00000-of-00001.parquet")
    return root


def test_the_readme_s_command_with_a_hub(hub, tmp_path):
    with serve(hub) as (endpoint, asked):
        finished = retrain(
            "--backbone", "resnet50", "--image-size", "32", "--num-workers", "0",
            "--output-dir", tmp_path / "out",
            cache=tmp_path / "cache", HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "home"),
        )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    commit = commit_of(hub / "models" / "timm" / "resnet50.a1_in1k")
    assert (run["backbone"]["source"], run["backbone"]["revision"]) == ("timm/resnet50.a1_in1k", commit)
    assert run["data"]["revision"] == commit_of(hub / "datasets" / "uoft-cs" / "cifar100")
    assert run["data"]["imbalance"] == "exp:100"
    assert (run["data"]["class_counts"][0], run["data"]["class_counts"][-1]) == (6, 1)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model: timm/resnet50.a1_in1k" in card
    assert "- uoft-cs/cifar100" in card
    fetched = [path for method, path in asked if method == "GET" and "/resolve/" in path]
    assert not [path for path in fetched if path.endswith((".bin", ".pth"))]
    # Every file comes from the one commit that was looked up first.
    assert {path.split("/resolve/")[1].split("/")[0] for path in fetched if "resnet50" in path} == {commit}


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("b = load_backbone('org/vit'); print(b.library, b.num_features, b.revision)", "transformers 32"),
        (
            "b = load_backbone('org/vit@main'); print(b.library, b.num_features, b.revision)",
            "transformers 32",
        ),
        ("d = load_long_tailed('cifar100'); print(d.name, d.num_classes, len(d.test))", "cifar100 100 100"),
    ],
)
def test_what_was_loaded_once_works_offline(hub, tmp_path, statement, said):
    with serve(hub) as (endpoint, _):
        online = load(endpoint, tmp_path, statement)
    assert online.startswith(said)
    gone = "http://127.0.0.1:9"
    assert load(gone, tmp_path, statement, HF_HUB_OFFLINE="1") == online
    assert "HubUnavailableError Cannot reach" in load(gone, tmp_path, statement)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("load_backbone('org/nothing')", "BackboneError No model 'org/nothing' on"),
        ("load_backbone('org/vit@v9')", "BackboneError The model 'org/vit' has no revision 'v9'"),
        ("load_backbone('org/pickled')", "pickled weights are never read"),
        ("load_long_tailed('org/nothing')", "DatasetError No dataset 'org/nothing' on"),
    ],
)
def test_what_a_hub_does_not_have_is_said(hub, tmp_path, statement, expected):
    with serve(hub) as (endpoint, asked):
        said = load(endpoint, tmp_path, statement)
    assert expected in said
    assert not [path for _, path in asked if path.endswith(".bin")]


def test_a_hub_that_answers_503_is_an_error_not_a_traceback(hub, tmp_path):
    with serve(hub, fail_with=503) as (endpoint, _):
        assert "HubUnavailableError Cannot reach" in load(endpoint, tmp_path, "load_backbone('resnet50')")
