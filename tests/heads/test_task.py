import resource
import signal
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

import lort_hub.heads.task
from lort_hub.backbones.load import load_backbone
from lort_hub.data.holdout import hold_out, record_training
from lort_hub.data.load import load_long_tailed
from lort_hub.features.extract import extract_features
from lort_hub.heads.best import fit_best
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitted import stage1_fit
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
    seen, fit = [], lort_hub.heads.task.fit_baseline
    monkeypatch.setattr(
        lort_hub.heads.task, "fit_baseline", lambda *a, **k: (seen.append(k), fit(*a, **k))[1]
    )
    return seen


def results(task):
    return list(task.train_store.folder.glob("result-*.safetensors"))


def test_python_chooses_on_the_images_that_the_recipe_chooses_on(backbone, tmp_path):
    data = load_long_tailed("digits")
    kept, held = hold_out(data.train, 0.1)
    trained = replace(backbone, trained_on=record_training(data, kept))
    task = RetrainingTask.extract(trained, data, Accelerator(cpu=True), folder=tmp_path)
    store = extract_features(trained, data.train, folder=tmp_path)
    fits = [fit_head(features, "lort") for features in (store, store.load(), task.training)]
    assert len({fit.selection.validation for fit in fits}) == 1
    assert f"{len(held)} " in fits[0].selection.validation
    assert all(fit.weight.equal(fits[0].weight) for fit in fits)
    assert extract_features(backbone, data.train, folder=tmp_path).unseen is None
    cut = load_long_tailed("digits", imbalance="exp:20").train
    unseen = extract_features(trained, cut, folder=tmp_path).unseen
    assert unseen.sum() == len(set(cut.rows.tolist()) - set(kept.rows.tolist()))
    assert extract_features(trained, data.test, folder=tmp_path).unseen is None


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


@pytest.mark.parametrize("method", ["auto", "lort-published", "crt", "ncm", "maxnorm", "lws"])
def test_a_kept_head_is_the_head_with_all_that_its_record_says(task, method):
    baseline = fit_head(task.training, "ce")
    how = {"baseline": baseline}
    fit = fit_best(task.training, **how) if method == "auto" else fit_head(task.training, method, **how)
    assert task.load_head({"method": method}) is None
    assert task.save_head(fit, {"method": method})
    kept = task.load_head({"method": method})
    assert kept.fingerprint() == fit.fingerprint()
    assert (kept.method, kept.settings, kept.reason, kept.describe()) == (
        fit.method, fit.settings, fit.reason, fit.describe(),
    )  # fmt: skip
    for one, other in ((kept.selection, fit.selection), (kept.choice, fit.choice)):
        assert (one and one.to_dict()) == (other and other.to_dict())
    assert task.load_head({"method": method, "seed": 1}) is None


def test_heads_that_others_start_from_elsewhere_are_told_apart():
    """As the same head is, trained with balanced softmax or with cross-entropy."""
    plain, balanced = (stage1_fit(torch.eye(2), torch.zeros(2), offset) for offset in (None, [-0.5, -1.0]))
    assert plain.weight.equal(balanced.weight)
    assert plain.fingerprint() != balanced.fingerprint()


def test_a_head_is_kept_in_place_of_an_older_one_and_not_at_all_where_there_is_no_room(task):
    older, newer = (stage1_fit(scale * torch.eye(10, 96), torch.zeros(10)) for scale in (1, 2))
    for fit in (older, newer):
        assert task.save_head(fit, {"method": "head"})
    assert task.load_head({"method": "head"}).weight.equal(newer.weight)
    assert len(results(task)) == 1
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        assert not task.save_head(older, {"method": "head"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert task.load_head({"method": "head"}).weight.equal(newer.weight)


def test_heads_of_a_gpu_are_kept_beside_those_of_the_cpu(gpu, monkeypatch, backbone, task):
    def extract():
        return RetrainingTask.extract(
            backbone, task.data, Accelerator(cpu=True), folder=task.train_store.folder.parent, views=1
        )

    how = {"views": extract().views, "weight_decay": 0.1, "calibrate": False}
    on_cpu = task.cached({}, lambda: fit_head(task.training, "lort", **how))
    monkeypatch.setattr("lort_hub.heads.task.solving_device", lambda _: gpu)
    on_gpu, how = extract(), {**how, "views": extract().views}
    assert on_gpu.notes == task.notes
    assert on_gpu.training.device == gpu
    kept = [on_gpu.cached({}, lambda: fit_head(on_gpu.training, "lort", **how)) for _ in range(2)]
    assert len(results(task)) == 2
    for fit in kept:
        assert torch.allclose(fit.weight, on_cpu.weight, rtol=0, atol=1e-5 * float(on_cpu.weight.abs().max()))
        assert fit.logits(task.test.x).device.type == "cpu"
