import pytest
import torch
from accelerate import Accelerator

import lort_hub.heads.task
from lort_hub.backbones.load import load_backbone
from lort_hub.data.load import load_long_tailed
from lort_hub.heads.task import RetrainingTask


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return load_backbone("test_resnet", pretrained=False, image_size=32)


@pytest.fixture
def task(backbone, tmp_path):
    return RetrainingTask.extract(
        backbone, load_long_tailed("digits"), Accelerator(cpu=True), folder=tmp_path
    )


@pytest.fixture
def fits(monkeypatch):
    """How often a head was fitted."""
    seen, fit_head = [], lort_hub.heads.task.fit_head
    monkeypatch.setattr(
        lort_hub.heads.task, "fit_head", lambda *a, **k: (seen.append(k), fit_head(*a, **k))[1]
    )
    return seen


def results(task):
    return list(task.train_store.folder.glob("result-*.safetensors"))


def test_the_cached_baseline_is_the_baseline_bit_for_bit(backbone, task, fits):
    plain = task.baseline(backbone)
    first, second = task.cached_baseline(backbone), task.cached_baseline(backbone)
    assert len(fits) == 2
    for fit in (first, second):
        assert fit.weight.equal(plain.weight)
        assert fit.bias.equal(plain.bias)
        assert (fit.method, fit.settings, fit.describe()) == ("ce", plain.settings, plain.describe())
        assert fit.selection.to_dict() == plain.selection.to_dict()


def test_another_seed_or_score_or_a_damaged_file_is_fitted_anew(backbone, task, fits):
    first = task.cached_baseline(backbone)
    task.cached_baseline(backbone, seed=1)
    task.cached_baseline(backbone, select_by="macro-f1")
    assert (len(fits), len(results(task))) == (3, 3)
    for path in results(task):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))
    assert task.cached_baseline(backbone).weight.equal(first.weight)
    assert len(fits) == 4


def test_a_backbone_s_own_head_is_not_cached(backbone, task, fits):
    names = task.data.class_names
    known = backbone.with_classifier(torch.eye(10, 96), torch.zeros(10), names)
    assert task.cached_baseline(known).weight.equal(torch.eye(10, 96))
    assert (fits, results(task)) == ([], [])
