import dataclasses
import io
import multiprocessing
import os
import random
import signal
import time

import datasets
import numpy as np
import pytest
import torch

import lort_hub.features
from lort_hub.backbones import Backbone, load_backbone
from lort_hub.data import BadImageError, ImageSplit
from lort_hub.errors import FeatureError
from lort_hub.features import EVAL_VIEW, FeatureStore, augmented_view, extract_features
from tests.conftest import noise_image

NAMES = ("ant", "bee")
# Forked children stand for processes of their own; Python 3.12 warns of forking beside torch's threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def png(seed):
    buffer = io.BytesIO()
    noise_image(seed, (20, 16)).save(buffer, format="PNG")
    return buffer.getvalue()


def split_of(encoded):
    images = datasets.Dataset.from_dict(
        {"image": [{"bytes": data, "path": f"{k}.png"} for k, data in enumerate(encoded)]},
        features=datasets.Features({"image": datasets.Image(decode=False)}),
    )
    return ImageSplit(images, np.arange(len(encoded)) % 2, np.arange(len(encoded)), "image", "train", NAMES)


@pytest.fixture
def split():
    return split_of([png(k) for k in range(10)])


@pytest.fixture
def backbone():
    return load_backbone("test_resnet", pretrained=False, image_size=32)


@pytest.fixture
def four_parts(monkeypatch):
    monkeypatch.setattr(lort_hub.features, "PART_SIZE", 3)


@pytest.fixture
def seen(monkeypatch):
    """Sizes of the batches that went through a backbone."""
    sizes, features = [], Backbone.features

    def counted(self, pixels):
        sizes.append(len(pixels))
        return features(self, pixels)

    monkeypatch.setattr(Backbone, "features", counted)
    return sizes


@pytest.fixture
def accelerator_of():
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    def make(precision):
        AcceleratorState._reset_state(True)
        return Accelerator(cpu=True, mixed_precision=precision)

    yield make
    AcceleratorState._reset_state(True)


def parts(store, view=EVAL_VIEW):
    return sorted(store.folder.glob(f"{view}-*.safetensors"))


def equal(left, right):
    return all(torch.equal(a, b) for a, b in zip(vars(left).values(), vars(right).values(), strict=True))


def test_features_are_those_of_a_plain_loop(backbone, split, tmp_path):
    features = extract_features(backbone, split, folder=tmp_path, batch_size=3).load()
    with torch.no_grad():
        plain = [backbone.features(backbone.transform(split.image(k))[None])[0] for k in range(10)]
    torch.testing.assert_close(features.x, torch.stack(plain), atol=1e-5, rtol=0)
    assert (features.x.dtype, features.x.std() > 0) == (torch.float32, True)
    assert features.y.tolist() == split.labels.tolist()
    assert features.rows.tolist() == list(range(10))


def test_second_extraction_runs_no_forward_pass(backbone, split, tmp_path, seen):
    first = extract_features(backbone, split, folder=tmp_path, batch_size=4, views=1)
    assert sum(seen) == 20
    seen.clear()
    second = extract_features(backbone, split, folder=tmp_path, batch_size=5, views=1)
    assert seen == []
    assert equal(first.load(), second.load())


def test_more_views_extract_only_the_new_ones(backbone, split, tmp_path, seen):
    extract_features(backbone, split, folder=tmp_path, views=1)
    seen.clear()
    store = extract_features(backbone, split, folder=tmp_path, views=2)
    assert sum(seen) == 10
    assert len(store.load(augmented_view(0, 2))) == 10


@pytest.mark.usefixtures("four_parts")
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


def test_damaged_description_of_a_store_is_named(tmp_path):
    store = FeatureStore.create(tmp_path, {}, num_samples=1)
    for damage in (b"", b"{", b"{}", b"\xff\xfe"):
        (store.folder / "store.json").write_bytes(damage)
        with pytest.raises(FeatureError, match=r"store\.json is missing or damaged"):
            FeatureStore(store.folder)


def test_bad_image_is_an_error_that_names_it(backbone, tmp_path):
    split = split_of([png(0), png(1), b"no image", png(3)]).take(np.array([3, 2]))
    with pytest.raises(BadImageError, match=r"row 2 of split 'train' \(2\.png\), class 'ant'(.|\n)*skip"):
        extract_features(backbone, split, folder=tmp_path)


@pytest.mark.usefixtures("four_parts")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_images_are_skipped_and_recorded(backbone, split, tmp_path, num_workers):
    encoded = [png(k) for k in range(10)]
    for row in (1, 6, 7, 8):  # one inside a part, and a whole part
        encoded[row] = encoded[row][: len(encoded[row]) // 2]
    options = {"folder": tmp_path, "num_workers": num_workers, "batch_size": 2}
    store = extract_features(backbone, split_of(encoded), on_bad_image="skip", **options)
    features, good = store.load(), [0, 2, 3, 4, 5, 9]
    assert store.skipped() == [1, 6, 7, 8]
    assert features.rows.tolist() == good
    assert features.y.tolist() == split.labels[good].tolist()
    whole = extract_features(backbone, split, **options).load()
    torch.testing.assert_close(features.x, whole.x[good], atol=1e-5, rtol=0)


def test_a_part_written_twice_counts_once(tmp_path):
    store = FeatureStore.create(tmp_path, {}, num_samples=3)
    for x in (torch.zeros(2, 4), torch.full((2, 4), 1e-6)):  # two processes, other batch sizes
        store.save_part(EVAL_VIEW, 0, x, torch.tensor([0, 1]), torch.tensor([0, 2]), skipped=[1])
    assert len(parts(store)) == 2
    assert (len(store.load()), store.skipped()) == (2, [1])


def test_views_are_seeded_and_differ(backbone, split, tmp_path):
    def views(name, seed=0, **options):
        store = extract_features(backbone, split, folder=tmp_path / name, views=2, seed=seed, **options)
        return [store.load(view).x for view in (EVAL_VIEW, augmented_view(seed, 1), augmented_view(seed, 2))]

    one, other = views("one", batch_size=10), views("one", seed=1)
    for left, right in ((one[0], one[1]), (one[0], one[2]), (one[1], one[2]), (one[1], other[1])):
        assert ((left - right).abs().amax(dim=1) > 1e-3).sum() >= 8
    assert all(map(torch.equal, one, views("workers", batch_size=10, num_workers=2)))
    for left, right in zip(one, views("batches", batch_size=3), strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=0)


def test_extraction_leaves_the_caller_s_random_state(backbone, split, tmp_path):
    states = random.getstate(), torch.get_rng_state()
    extract_features(backbone, split, folder=tmp_path, views=1)
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


def test_frozen_means_frozen(backbone, split, tmp_path):
    eval_features = extract_features(backbone, split, folder=tmp_path / "eval").load()
    backbone.model.train()
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    assert any("running_mean" in name for name in before)
    trained = extract_features(backbone, split, folder=tmp_path / "train", views=1).load()
    after = backbone.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert equal(trained, eval_features)
    assert not any(parameter.grad_fn or parameter.grad for parameter in backbone.model.parameters())


def test_nan_weight_is_refused(backbone, split, tmp_path):
    next(backbone.model.parameters()).data.view(-1)[0] = float("nan")
    with pytest.raises(FeatureError, match="NaN or infinite features, first for sample 0"):
        extract_features(backbone, split, folder=tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_key_is_of_everything_the_features_depend_on(backbone, split, tmp_path, accelerator_of):
    def key(backbone=backbone, split=split, **options):
        return extract_features(backbone, split.take(np.arange(2)), folder=tmp_path, **options).folder.name

    own = key()
    assert key(batch_size=1) == key(num_workers=1) == key(views=1) == own
    head = backbone.with_classifier(torch.zeros(2, 96), torch.zeros(2), NAMES)
    assert key(head) == own
    torch.manual_seed(1)
    others = [
        key(load_backbone("test_resnet", pretrained=False, image_size=32)),
        key(dataclasses.replace(backbone, preprocessing={**backbone.preprocessing, "crop_pct": 0.5})),
        key(split=split.take(np.arange(2, 4))),
        key(split=dataclasses.replace(split, labels=1 - split.labels)),
        key(on_bad_image="skip"),
        key(accelerator=accelerator_of("bf16")),
    ]
    assert len({own, *others}) == 7


def test_bf16_is_near_float32(backbone, split, tmp_path, accelerator_of):
    exact = extract_features(backbone, split, folder=tmp_path).load().x
    mixed = extract_features(backbone, split, folder=tmp_path, accelerator=accelerator_of("bf16")).load().x
    assert mixed.dtype == torch.float32
    assert 0 < (mixed - exact).norm() / exact.norm() < 0.02


def in_child(work):
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    return child


@pytest.mark.usefixtures("four_parts")
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_killed_extraction_goes_on_where_it_stopped(backbone, split, tmp_path, monkeypatch, seen, stop):
    whole = extract_features(backbone, split, folder=tmp_path / "whole").load()
    seen.clear()
    with monkeypatch.context() as slow:
        decode = ImageSplit.image
        slow.setattr(ImageSplit, "image", lambda self, row: (time.sleep(0.1), decode(self, row))[1])
        child = in_child(lambda: extract_features(backbone, split, folder=tmp_path / "killed"))
        while not list((tmp_path / "killed").glob("*/*.safetensors")):
            assert child.is_alive()
            time.sleep(0.01)
        os.kill(child.pid, stop)
        child.join(30)
    assert child.exitcode == -stop if stop == signal.SIGKILL else child.exitcode != 0
    store = FeatureStore(next((tmp_path / "killed").iterdir()))
    with pytest.raises(FeatureError, match="has [123] of 4 parts"):
        store.load()
    kept = {path.name: path.stat().st_mtime_ns for path in parts(store)}
    resumed = extract_features(backbone, split, folder=tmp_path / "killed")
    assert sum(seen) == sum((3, 3, 3, 1)[part] for part in range(4) if part >= len(kept))
    assert kept.items() <= {path.name: path.stat().st_mtime_ns for path in parts(resumed)}.items()
    assert equal(resumed.load(), whole)


@pytest.mark.usefixtures("four_parts")
def test_two_processes_may_extract_into_one_store(backbone, split, tmp_path):
    whole = extract_features(backbone, split, folder=tmp_path / "whole").load()
    barrier = multiprocessing.get_context("fork").Barrier(2)

    def work():
        barrier.wait(30)
        store = extract_features(backbone, split, folder=tmp_path / "shared", views=1)
        os._exit(0 if equal(store.load(), whole) and len(store.load(augmented_view(0, 1))) == 10 else 3)

    children = [in_child(work), in_child(work)]
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]


@pytest.mark.parametrize("found", ["leftover.tmp", f"eval-00000-{64 * '0'}.safetensors"])
def test_a_file_another_process_removes_meanwhile_is_no_error(tmp_path, monkeypatch, found):
    store = FeatureStore.create(tmp_path, {}, num_samples=1)
    with monkeypatch.context() as raced:
        raced.setattr(type(tmp_path), "glob", lambda self, _: [self / found])
        assert FeatureStore.create(tmp_path, {}, num_samples=1).folder == store.folder
        if found.startswith(EVAL_VIEW):
            assert store.missing(EVAL_VIEW) == [0]
            assert store.skipped() == []


def test_only_old_leftovers_of_killed_processes_are_deleted(tmp_path):
    store = FeatureStore.create(tmp_path, {}, num_samples=1)
    old, young = store.folder / "old.tmp", store.folder / "young.tmp"
    old.touch()
    young.touch()
    os.utime(old, (0, 0))
    FeatureStore.create(tmp_path, {}, num_samples=1)
    assert (old.exists(), young.exists()) == (False, True)
