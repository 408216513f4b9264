"""Loading from a Hub, over the wire: the loopback one of hub_server."""

import json
import shutil

import datasets
import numpy as np
import pytest
import timm
import torch

from lort_hub.backbones.load import load_backbone
from lort_hub.download import download_model, license_of
from lort_hub.errors import CheckpointError
from tests.support.hub_client import Client, point_to
from tests.support.hub_server import WRITE, commit_of, serve
from tests.support.images import png
from tests.support.models import timm_folder, transformers_folder
from tests.support.recipes import start

LOAD = """
import sys
from lort_hub import LortHead, load_backbone, load_long_tailed
from lort_hub.errors import LortHubError
for statement in sys.argv[1:]:
    try:
        exec(statement)
    except LortHubError as error:
        print(type(error).__name__, error)
"""


def load(endpoint, home, *statements, **environment):
    """Run statements in a process that knows only this Hub; what they printed."""
    done = Client(endpoint, home).fork(LOAD, *statements, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A thin timm/resnet50.a1_in1k with random weights, a transformers model, and a small cifar100."""
    root = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    resnet = root / "models" / "timm" / "resnet50.a1_in1k"
    small = {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)}
    model = timm.create_model("resnet50", **small)
    timm.models.save_for_hf(model, str(resnet), {"model_args": small}, safe_serialization=True)
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
        rows = {"img": [{"bytes": png(pixels), "path": None} for pixels in noise]}
        rows |= {"fine_label": labels, "coarse_label": labels}
        features = datasets.Features({"img": datasets.Image(), **kinds})
        whole = datasets.Dataset.from_dict(rows, features=features)
        whole.to_parquet(cifar / f"{split}-00000-of-00001.parquet")
    return root


def test_the_readme_s_command_with_a_hub(hub, tmp_path):
    with serve(hub) as (endpoint, asked):
        finished = start(
            "retrain.py", "--backbone", "resnet50", "--image-size", "32", "--num-workers", "0",
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


def test_what_was_loaded_once_works_offline(hub, tmp_path):
    statements = [
        "b = load_backbone('org/vit'); print(b.library, b.num_features, b.revision)",
        "b = load_backbone('org/vit@main'); print(b.library, b.num_features, b.revision)",
        "d = load_long_tailed('cifar100'); print(d.name, d.num_classes, len(d.test))",
    ]
    with serve(hub) as (endpoint, _):
        online = load(endpoint, tmp_path, *statements)
    assert online.startswith("transformers 32 ")
    assert online.endswith("cifar100 100 100\n")
    gone = "http://127.0.0.1:9"
    assert load(gone, tmp_path, *statements, HF_HUB_OFFLINE="1") == online
    assert load(gone, tmp_path, *statements).count("HubUnavailableError Cannot reach") == 3


@pytest.fixture(scope="module")
def user(hub, tmp_path_factory):
    """A Hub and a client that loads from it, each time into a new cache."""
    home = tmp_path_factory.mktemp("home")
    with serve(hub) as server:
        yield server, Client(server.endpoint, home)


@pytest.fixture
def load_from(user):
    """Run a statement against the Hub that is returned beside it."""
    server, client = user
    server.faults.clear()
    server.asked.clear()
    shutil.rmtree(client.home / "hub", ignore_errors=True)

    def load_from(statement, **environment):
        code, said = client.run(LOAD, statement, **environment)
        assert code == 0, said
        return said

    return server, load_from


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("load_backbone('org/nothing')", "BackboneError No model 'org/nothing' on"),
        ("load_backbone('org/vit@v9')", "BackboneError The model 'org/vit' has no revision 'v9'"),
        ("load_backbone('org/pickled')", "pickled weights are never read"),
        ("LortHead.from_pretrained('org/vit')", "CheckpointError 'org/vit' is not a LORT head"),
        ("load_long_tailed('org/nothing')", "DatasetError No dataset 'org/nothing' on"),
    ],
)
def test_what_a_hub_does_not_have_is_said(load_from, statement, expected):
    server, load_from = load_from
    assert expected in load_from(statement)
    assert not [path for _, path in server.asked if path.endswith(".bin")]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            {"path": "/api/", "status": 401, "headers": {"X-Error-Code": "RepoNotFound"}},
            "No model 'org/vit' on",
        ),
        ({"path": "/api/models/", "status": 403, "headers": {"X-Error-Code": "GatedRepo"}}, "is gated"),
        (
            {"path": "/resolve/.*safetensors", "status": 403, "headers": {"X-Error-Code": "GatedRepo"}},
            "is gated",
        ),
        ({"path": "/api/", "status": 401}, "does not accept your token"),
        ({"path": "/api/models/", "status": 503}, "HubUnavailableError Cannot reach"),
        ({"path": "/api/models/", "drop": "before"}, "HubUnavailableError Cannot reach"),
        ({"path": "/resolve/.*safetensors", "status": 403}, "HubUnavailableError Could not download"),
    ],
)
def test_what_a_hub_refuses_is_an_error_not_a_traceback(load_from, fault, expected):
    server, load_from = load_from
    server.fail_next("", times=99, **fault)
    said = load_from("load_backbone('org/vit')", HF_TOKEN=WRITE)
    assert expected in said
    assert WRITE not in said


def test_a_truncated_download_is_gone_on_with(load_from, hub):
    server, load_from = load_from
    server.fail_next("GET", "/resolve/.*safetensors", truncate=1000)
    said = load_from("print(load_backbone('org/vit').fingerprint())")
    assert said.splitlines()[-1] == load_backbone(str(hub / "models" / "org" / "vit")).fingerprint()
    assert [path.endswith(".safetensors") for method, path in server.asked if method == "GET"].count(
        True
    ) == 2


@pytest.mark.parametrize(
    "fault", [{"method": "GET", "status": 503}, {"method": "HEAD", "drop": "before"}], ids=["503", "dropped"]
)
def test_a_broken_download_goes_on_where_it_is_run_again(load_from, fault):
    server, load_from = load_from
    server.fail_next(path="/resolve/.*safetensors", **fault)
    twice = "for _ in range(2):\n  try: print(load_backbone('org/vit').library)\n"
    said = load_from(f"{twice}  except LortHubError as error: print(error)")
    assert "Could not download 'org/vit'" in said
    assert "Try again to resume the download." in said
    assert said.splitlines()[-1] == "transformers"


def test_a_download_that_never_completes_is_no_model(load_from):
    server, load_from = load_from
    server.fail_next("GET", "/resolve/.*safetensors", times=99, truncate=0)
    assert "HubUnavailableError Could not download 'org/vit'" in load_from("load_backbone('org/vit')")


def test_a_repository_that_changes_between_two_files_is_read_at_one_commit(load_from, tmp_path):
    """Another model is pushed when the first file is asked for: its weights would not fit that config."""
    server, load_from = load_from
    folder = server.root / "models" / "org" / "moving"
    transformers_folder(folder)
    commit, fingerprint = commit_of(folder), load_backbone(str(folder)).fingerprint()

    def somebody_pushes():
        weights = folder / "model.safetensors"
        weights.write_bytes(timm_folder(tmp_path / "other").joinpath("model.safetensors").read_bytes())

    server.fail_next("GET", "/resolve/", action=somebody_pushes)
    said = load_from("b = load_backbone('org/moving'); print(b.revision, b.fingerprint())")
    assert said.splitlines()[-1] == f"{commit} {fingerprint}"
    assert server.repo("org/moving").at("main").oid != commit


@pytest.mark.parametrize(
    ("card", "known"),
    [
        ("---\nlicense: mit\n---\n# A backbone\n", "mit"),
        ("---\nlicense: 3\n---\n", None),
        ("---\nlicense: [mit, gpl]\n---\n", None),
        ("---\na: b: c\n---\n", None),
        ("---\n- a\n---\n", None),
        ("# No metadata\n", None),
        (None, None),
    ],
)
def test_a_license_is_read_from_whatever_card_there_is(hub, monkeypatch, tmp_path, card, known):
    with serve(hub) as server:
        point_to(server, tmp_path, monkeypatch)
        folder, revision = download_model("org/vit", None, error=CheckpointError)
    if card:
        (folder / "README.md").write_text(card)
    assert license_of("org/vit", revision) == known
