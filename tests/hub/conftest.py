"""A loopback Hub that holds a backbone and two heads made on it."""

import shutil

import numpy as np
import pytest
import torch

from lort_hub.backbones.load import load_backbone
from lort_hub.data.load import load_long_tailed
from lort_hub.evaluation.metrics import evaluate
from lort_hub.heads.fit import fit_head
from lort_hub.heads.training_set import TrainingSet
from lort_hub.hub.output import write_output
from lort_hub.records import environment
from tests.support.hub_client import point_to
from tests.support.hub_server import serve
from tests.support.models import timm_folder


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A Hub with a backbone, the complete model re-trained on it (me/full) and its head alone (me/head)."""
    root, patch = tmp_path_factory.mktemp("hub"), pytest.MonkeyPatch()
    timm_folder(root / "models" / "org" / "backbone")
    (root / "models" / "org" / "backbone" / "README.md").write_text("---\nlicense: mit\n---\n# A backbone\n")
    with serve(root) as hub:
        point_to(hub, root / "cache", patch)
        backbone = load_backbone("org/backbone", image_size=32)
        data = load_long_tailed("digits")
        x = torch.randn(len(data.train), backbone.num_features)
        fit = fit_head(TrainingSet(x, torch.from_numpy(data.train.labels), 10), "lort", gamma=0.5)
        logits = np.random.default_rng(0).normal(size=(len(data.test), 10))
        write_output(
            root / "models" / "me" / "full",
            overwrite=False,
            backbone=backbone,
            data=data,
            fit=fit,
            reports={name: evaluate(logits, data.test.labels, data.class_counts) for name in ("ce", "lort")},
            timing={"head": 0.5},
            arguments={},
            environment=environment("python recipes/retrain.py"),
        )
    patch.undo()
    shutil.copytree(root / "models" / "me" / "full" / "head", root / "models" / "me" / "head")
    return root


@pytest.fixture
def hub(made, monkeypatch, tmp_path):
    """The Hub of `made`, with nothing in the client's cache and nothing pushed or changed."""
    root = tmp_path / "hub"
    shutil.copytree(made / "models", root / "models")
    with serve(root) as hub:
        point_to(hub, tmp_path / "cache", monkeypatch)
        yield hub
