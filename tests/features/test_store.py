import os
import time

import pytest
import torch

import lort_hub.features.store
from lort_hub.data.transforms import EVAL_VIEW
from lort_hub.errors import FeatureError
from lort_hub.features.store import FeatureStore


@pytest.fixture(autouse=True)
def _parts_of_three(monkeypatch):
    monkeypatch.setattr(lort_hub.features.store, "PART_SIZE", 3)


def test_damaged_description_of_a_store_is_named(tmp_path):
    store = FeatureStore.create(tmp_path, {}, num_samples=3)
    for damage in (b"", b"{", b"{}", b"\xff\xfe"):
        (store.folder / "store.json").write_bytes(damage)
        with pytest.raises(FeatureError, match=r"store\.json is missing or damaged"):
            FeatureStore(store.folder)


def test_a_part_written_twice_counts_once(tmp_path):
    store = FeatureStore.create(tmp_path, {}, num_samples=3)
    for x in (torch.zeros(2, 4), torch.full((2, 4), 1e-6)):  # two processes, other batch sizes
        store.save_part(EVAL_VIEW, 0, x, torch.tensor([0, 1]), torch.tensor([0, 2]), skipped=[1])
    assert len([*store.folder.glob(f"{EVAL_VIEW}-*.safetensors")]) == 2
    assert (len(store.load()), store.skipped()) == (2, [1])


@pytest.mark.parametrize(("samples", "processes"), [(30, 3), (31, 4), (1, 2), (0, 2), (5, 1)])
def test_shares_are_contiguous_even_and_cover_every_part_once(tmp_path, samples, processes):
    store = FeatureStore.create(tmp_path, {}, num_samples=samples)
    shares = [store.share(process, processes) for process in range(processes)]
    assert [part for share in shares for part in share] == list(range(store.num_parts))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_leftovers_of_killed_processes_are_deleted_but_no_one_else_s_files(tmp_path):
    store = FeatureStore.create(tmp_path, {}, num_samples=1)
    for name, age in {"old.tmp": 4000, "young.tmp": 3000}.items():
        (store.folder / name).touch()
        os.utime(store.folder / name, (time.time() - age,) * 2)
    FeatureStore.create(tmp_path, {}, num_samples=1)
    assert {path.name for path in store.folder.iterdir()} == {"store.json", "young.tmp"}


def test_what_float16_cannot_hold_is_refused_with_the_type_that_can(tmp_path):
    wide, labels, rows = torch.tensor([[1.0], [7e4]]), torch.tensor([0, 1]), torch.tensor([4, 6])
    store = FeatureStore.create(tmp_path, {"dtype": "float16"}, num_samples=7)
    with pytest.raises(FeatureError, match=r"too large for torch.float16, first for sample 6(.|\n)*bfloat16"):
        store.save_part(EVAL_VIEW, 0, wide, labels, rows, skipped=[])
    with pytest.raises(FeatureError, match=r"NaN or infinite features, first for sample 4"):
        store.save_part(EVAL_VIEW, 0, wide / 0, labels, rows, skipped=[])
    assert not [*store.folder.glob("*.safetensors")]
    FeatureStore.create(tmp_path, {"dtype": "bfloat16"}, num_samples=7).save_part(
        EVAL_VIEW, 0, wide, labels, rows, skipped=[]
    )


def test_a_file_another_process_removes_meanwhile_is_no_error(tmp_path, monkeypatch):
    store = FeatureStore.create(tmp_path, {}, num_samples=1)
    gone = store.folder / f"{EVAL_VIEW}-00000-{64 * '0'}.safetensors"
    monkeypatch.setattr(type(tmp_path), "glob", lambda *_: [gone])
    assert FeatureStore.create(tmp_path, {}, num_samples=1).missing(EVAL_VIEW) == [0]
    assert store.skipped() == []
