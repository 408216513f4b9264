import copy
import dataclasses
import multiprocessing
import os
import random
import re
import signal
import time

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

import lort_hub.features.store
from lort_hub.backbones.backbone import Backbone
from lort_hub.backbones.load import load_backbone
from lort_hub.data.dataset import BadImageError, ImageSplit
from lort_hub.data.transforms import EVAL_VIEW, augmented_view
from lort_hub.errors import FeatureError
from lort_hub.features.extract import extract_features
from lort_hub.features.store import FeatureStore
from tests.support.features import equal
from tests.support.fork_server import ranks, run_forks
from tests.support.images import NOISE_PNGS, split_of

FORK = multiprocessing.get_context("fork")
# Forked children stand for processes of their own; Python 3.12 warns of forking beside torch's threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def split():
    return split_of(NOISE_PNGS)


@pytest.fixture
def backbone():
    return load_backbone("test_resnet", pretrained=False, image_size=32)


@pytest.fixture(autouse=True)
def _parts_of_three(monkeypatch):
    monkeypatch.setattr(lort_hub.features.store, "PART_SIZE", 3)


@pytest.fixture
def seen(monkeypatch):
    """Sizes of the batches that went through a backbone."""
    sizes, features = [], Backbone.features
    monkeypatch.setattr(Backbone, "features", lambda self, x: (sizes.append(len(x)), features(self, x))[1])
    return sizes


@pytest.fixture
def bf16():
    AcceleratorState._reset_state(True)
    yield Accelerator(cpu=True, mixed_precision="bf16")
    AcceleratorState._reset_state(True)


def parts(store):
    return sorted(store.folder.glob(f"{EVAL_VIEW}-*.safetensors"))


def plain_features(backbone, split):
    return torch.cat([backbone.features(backbone.transform(split.image(k))[None]) for k in range(len(split))])


def test_features_are_those_of_a_plain_loop(backbone, split, tmp_path):
    features = extract_features(backbone, split, folder=tmp_path, batch_size=3).load()
    plain = plain_features(backbone, split)
    assert plain.std(dim=0).max() > 0.01
    torch.testing.assert_close(features.x, plain, atol=1e-5, rtol=0)
    assert features.y.tolist() == split.labels.tolist()
    assert features.rows.tolist() == list(range(10))


def test_second_extraction_runs_no_forward_pass(backbone, split, tmp_path, seen):
    first = extract_features(backbone, split, folder=tmp_path, batch_size=4, views=1)
    assert sum(seen) == 20
    seen.clear()
    second = extract_features(backbone, split, folder=tmp_path, batch_size=5, views=1)
    assert seen == []
    assert equal(first.load(), second.load())
    more = extract_features(backbone, split, folder=tmp_path, views=2)
    assert sum(seen) == len(more.load(augmented_view(0, 2))) == 10


@pytest.mark.parametrize("harm", ["delete", "flip", "truncate", "empty"])
def test_only_a_damaged_part_is_extracted_again(backbone, split, tmp_path, seen, harm):
    store = extract_features(backbone, split, folder=tmp_path)
    whole, seen[:] = store.load(), []
    victim = parts(store)[1]
    data = bytearray(victim.read_bytes())
    data[-5] ^= 1  # in the tensor data, where safetensors itself sees nothing
    new = {"flip": bytes(data), "truncate": bytes(data[:-7]), "empty": b""}
    victim.unlink() if harm == "delete" else victim.write_bytes(new[harm])
    with pytest.raises(FeatureError, match=f"'{EVAL_VIEW}'.* has 3 of 4 parts.\nRun the same command again"):
        store.load()
    again = extract_features(backbone, split, folder=tmp_path)
    assert sum(seen) == 3
    assert equal(again.load(), whole)
    assert len(parts(again)) == 4


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_images_are_named_or_skipped_and_recorded(backbone, split, tmp_path, num_workers):
    encoded = list(NOISE_PNGS)
    for row in (1, 6, 7, 8):  # one inside a part, and a whole part
        encoded[row] = encoded[row][: len(encoded[row]) // 2]
    options, bad = {"folder": tmp_path, "num_workers": num_workers, "batch_size": 2}, split_of(encoded)
    with pytest.raises(BadImageError, match=r"row 6 of split 'train' \(6\.png\), class 'ant'(.|\n)*skip"):
        extract_features(backbone, bad.take(np.array([2, 6])), **options)
    assert multiprocessing.active_children() == []  # no worker outlives the error
    store = extract_features(backbone, bad, on_bad_image="skip", **options)
    features, good = store.load(), [0, 2, 3, 4, 5, 9]
    assert store.skipped() == [1, 6, 7, 8]
    assert features.rows.tolist() == good
    assert features.y.tolist() == split.labels[good].tolist()
    whole = extract_features(backbone, split, **options).load()
    torch.testing.assert_close(features.x, whole.x[good], atol=1e-5, rtol=0)


def test_views_are_seeded_and_differ_and_leave_the_caller_s_randomness(backbone, split, tmp_path):
    random.seed("the caller's own")
    states = random.getstate(), torch.get_rng_state()

    def views(name, seed=0, **options):
        store = extract_features(backbone, split, folder=tmp_path / name, views=2, seed=seed, **options)
        return [store.load(view).x for view in (EVAL_VIEW, augmented_view(seed, 1), augmented_view(seed, 2))]

    one, other = views("one", batch_size=10), views("one", seed=1)
    for left, right in ((one[0], one[1]), (one[0], one[2]), (one[1], one[2]), (one[1], other[1])):
        assert ((left - right).abs().amax(dim=1) > 1e-3).sum() >= 8
    assert all(map(torch.equal, one, views("workers", batch_size=10, num_workers=2)))
    torch.testing.assert_close(views("batches", batch_size=2), one, atol=1e-5, rtol=0)
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


def test_an_image_s_view_is_its_own_and_the_same_in_any_subset(backbone, tmp_path):
    split, view = split_of(NOISE_PNGS[:1] * 8), augmented_view(0, 1)
    whole = extract_features(backbone, split, folder=tmp_path, views=1).load(view).x
    assert len(torch.unique((whole * 1e3).round(), dim=0)) > 4
    part = extract_features(backbone, split.take(np.arange(5, 8)), folder=tmp_path, views=1).load(view).x
    torch.testing.assert_close(part, whole[5:], atol=1e-5, rtol=0)


def test_frozen_means_frozen(backbone, split, tmp_path):
    eval_features, gradients = extract_features(backbone, split, folder=tmp_path / "eval").load(), set()
    backbone.model.train().requires_grad_(True)
    next(backbone.model.children()).register_forward_hook(lambda *_: gradients.add(torch.is_grad_enabled()))
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    assert any("running_mean" in name for name in before)
    trained = extract_features(backbone, split, folder=tmp_path / "train", views=1).load()
    after = backbone.model.state_dict()
    assert all(torch.equal(before.pop(name), tensor) for name, tensor in after.items())
    assert not before
    assert gradients == {False}
    assert equal(trained, eval_features)


def test_nan_weight_is_refused(backbone, split, tmp_path):
    next(backbone.model.parameters()).data.view(-1)[0] = float("nan")
    with pytest.raises(FeatureError, match="NaN or infinite features, first for sample 0"):
        extract_features(backbone, split, folder=tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_key_is_of_everything_the_features_depend_on(backbone, split, tmp_path):
    def key(backbone=backbone, split=split, **options):
        return extract_features(backbone, split.take(np.arange(2)), folder=tmp_path, **options).folder.name

    own = key()
    assert key(batch_size=1) == key(num_workers=1) == key(views=1) == own
    head = backbone.with_classifier(torch.zeros(2, 96), torch.zeros(2), ["ant", "bee"])
    assert key(head) == own
    torch.manual_seed(1)
    others = [
        key(load_backbone("test_resnet", pretrained=False, image_size=32)),
        key(dataclasses.replace(backbone, preprocessing={**backbone.preprocessing, "crop_pct": 0.5})),
        key(split=split.take(np.arange(2, 4))),
        key(split=dataclasses.replace(split, labels=1 - split.labels)),
        key(on_bad_image="skip"),
    ]
    assert len({own, *others}) == 6


def test_bf16_is_near_float32(backbone, split, tmp_path, bf16):
    store = extract_features(backbone, split, folder=tmp_path, accelerator=bf16)
    exact, mixed = plain_features(backbone, split), store.load().x
    assert (store.content["precision"], mixed.dtype) == ("bf16", torch.float32)
    assert 0 < (mixed - exact).norm() / exact.norm() < 0.02


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_killed_extraction_goes_on_where_it_stopped(backbone, split, tmp_path, monkeypatch, seen, stop):
    whole = extract_features(backbone, split, folder=tmp_path / "whole").load()
    seen.clear()
    with monkeypatch.context() as slow:
        decode = ImageSplit.decode
        slow.setattr(ImageSplit, "decode", lambda *image: (time.sleep(0.1), decode(*image))[1])
        child = FORK.Process(target=lambda: extract_features(backbone, split, folder=tmp_path / "killed"))
        child.start()
        while not list((tmp_path / "killed").glob("*/*.safetensors")):
            assert child.is_alive()
            time.sleep(0.01)
        os.kill(child.pid, stop)
        child.join(30)
    assert child.exitcode == {signal.SIGKILL: -9, signal.SIGINT: 1}[stop]
    store = FeatureStore(next((tmp_path / "killed").iterdir()))
    with pytest.raises(FeatureError, match="has [123] of 4 parts"):
        store.load()
    kept = {path: path.stat().st_mtime_ns for path in parts(store)}
    resumed = extract_features(backbone, split, folder=tmp_path / "killed")
    assert sum(seen) == 10 - 3 * len(kept)
    assert kept.items() <= {path: path.stat().st_mtime_ns for path in parts(resumed)}.items()
    assert equal(resumed.load(), whole)


def test_two_processes_may_extract_into_one_store(backbone, split, tmp_path):
    whole = extract_features(backbone, split, folder=tmp_path / "whole").load()
    together = FORK.Barrier(2)

    def work():
        together.wait(30)
        store = extract_features(backbone, split, folder=tmp_path / "shared", views=1)
        assert equal(store.load(), whole)
        assert len(store.load(augmented_view(0, 1))) == 10

    children = [FORK.Process(target=work), FORK.Process(target=work)]
    for call in (FORK.Process.start, FORK.Process.join):
        list(map(call, children))
    assert [child.exitcode for child in children] == [0, 0]


FAILING = """
import resource, signal, sys
from pathlib import Path
import torch
from accelerate import Accelerator
import lort_hub.features.store
from lort_hub.features.extract import extract_features
from lort_hub.backbones.load import load_backbone
from lort_hub.features.store import FeatureStore
from tests.support.images import NOISE_PNGS, split_of

torch.manual_seed(0)
lort_hub.features.store.PART_SIZE = 3
accelerator, folder = Accelerator(cpu=True), Path(sys.argv[1])
last = accelerator.process_index == 1
backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
plain = type(backbone).features

def attempt(name, encoded=NOISE_PNGS):
    try:
        store = extract_features(backbone, split_of(encoded), accelerator=accelerator, folder=folder / name)
        said = f"done: {store.missing('eval')}"
    except Exception as error:
        store = FeatureStore(next((folder / name).iterdir()))
        said = f"{type(error).__name__}: {error} / {store.missing('eval')}"
    (folder / f"{name}-{accelerator.process_index}").write_text(said)

attempt("image", [*NOISE_PNGS[:7], b"no image", *NOISE_PNGS[8:]])
type(backbone).features = lambda self, x: plain(self, x) * (float("nan") if last else 1)
attempt("nan")
type(backbone).features = lambda self, x: [][1] if last else plain(self, x)
attempt("bug")
type(backbone).features = plain
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
if last:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, unlimited[1]))
attempt("disk")
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
attempt("disk")
"""


def test_an_error_of_one_process_is_raised_by_all_and_keeps_what_is_whole(tmp_path):
    job = {"code": FAILING, "argv": ["-c", tmp_path]}
    for done in run_forks(*({**job, "environment": rank} for rank in ranks(2))):
        assert done.returncode == 0, done.stderr
    said = {
        name: [(tmp_path / f"{name}-{process}").read_text() for process in range(2)]
        for name in ("image", "nan", "bug", "disk")
    }
    for name, (first, second) in said.items():
        if name != "bug":
            assert first == second
    assert re.match(r"BadImageError: Cannot decode row 7 (.|\n)* / \[2, 3\]$", said["image"][0])
    assert re.match(r"FeatureError: .* first for sample 6(.|\n)* / \[2, 3\]$", said["nan"][0])
    assert all("IndexError" in text for text in said["bug"])
    assert said["disk"] == ["done: []"] * 2


def test_half_precision_is_another_store_and_half_the_bytes(backbone, split, tmp_path):
    exact = extract_features(backbone, split, folder=tmp_path)
    assert "dtype" not in exact.content  # caches from before there was a choice stay valid
    for dtype, error in ((torch.float16, 2**-11), (torch.bfloat16, 2**-8)):
        store = extract_features(backbone, split, folder=tmp_path, dtype=dtype)
        assert store.folder != exact.folder
        kept = torch.cat([load_file(part)["x"] for part in parts(store)])
        assert kept.dtype == dtype
        assert ((kept.float() - exact.load().x).abs() <= error * exact.load().x.abs() + 1e-7).all()


def test_encoded_images_are_read_a_batch_at_a_time(backbone, split, tmp_path, monkeypatch):
    sizes, encoded = [], ImageSplit.encoded
    monkeypatch.setattr(
        ImageSplit, "encoded", lambda self, rows: (sizes.append(len(rows)), encoded(self, rows))[1]
    )
    extract_features(backbone, split, folder=tmp_path, batch_size=2)
    assert sizes == [2, 1, 2, 1, 2, 1, 1]  # parts of three


def test_the_same_weights_about_another_activation_are_another_store(backbone, split, tmp_path):
    swapped = copy.deepcopy(backbone.model)
    name = next(name for name, layer in swapped.named_modules() if isinstance(layer, torch.nn.ReLU))
    swapped.set_submodule(name, torch.nn.GELU())
    other = dataclasses.replace(backbone, model=swapped)
    assert other.fingerprint() == backbone.fingerprint()
    assert other.structure() != backbone.structure()
    made, again = (extract_features(one, split, folder=tmp_path) for one in (backbone, other))
    assert not made.x.equal(again.x)
    headed = backbone.with_classifier(torch.zeros(3, backbone.num_features), torch.zeros(3), ("a", "b", "c"))
    assert headed.structure() == backbone.structure()
