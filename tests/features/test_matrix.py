import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lort_hub.features.store
from lort_hub.data.transforms import EVAL_VIEW
from lort_hub.features.matrix import BLOCK, FeatureMatrix, Part
from lort_hub.features.store import FeatureStore
from lort_hub.heads.solvers.eigenbasis import class_sums
from lort_hub.heads.training_set import TrainingSet
from tests.support.fork_server import run_forks

TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
PARTS = (3, 3, 2, 3)
"""Rows of each part of the store below, whose third lacks an image that could not be decoded."""


def store_of(folder, x, labels, sizes=PARTS):
    """A store of features in their own type, part after part."""
    content = {"dtype": str(x.dtype).removeprefix("torch.")}
    store = FeatureStore.create(folder, content, num_samples=max(sizes) * len(sizes))
    start = 0
    for part, size in enumerate(sizes):
        at = slice(start, start + size)
        store.save_part(EVAL_VIEW, part, x[at], labels[at], torch.arange(len(x))[at], skipped=[])
        start += size
    return FeatureStore(store.folder)


@pytest.fixture(params=["memory", "disk"])
def open_store(request, monkeypatch, tmp_path):
    """Features and labels as a matrix whose parts are in memory, or stay on disk."""
    monkeypatch.setattr(lort_hub.features.store, "PART_SIZE", 3)
    monkeypatch.setattr(lort_hub.features.store, "IN_MEMORY", 2**30 if request.param == "memory" else 0)
    return lambda x, labels, **kind: store_of(tmp_path, x, labels, **kind).open()[0]


def features(dtype=torch.float32, rows=11):
    return torch.randn(rows, 5).to(dtype), torch.arange(rows) % 4


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_are_those_of_the_tensor_in_full_precision(open_store, dtype):
    x, labels = features(dtype)
    full = x if dtype == torch.float64 else x.float()
    for matrix in (open_store(x, labels), FeatureMatrix.of(x)):
        blocks = list(matrix)
        assert (len(matrix), matrix.dim) == (11, 5)
        assert {block.dtype for block, _ in blocks} == {full.dtype}
        assert all(torch.equal(block, full[at]) for block, at in blocks)
        assert [at.start for _, at in blocks] == [0, *(at.stop for _, at in blocks[:-1])]
        assert torch.equal(matrix.whole(), full)
        assert torch.equal(matrix.map(lambda x: x.sum(dim=1)), full.sum(dim=1))


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_are_chosen_moved_mapped_and_joined_in_any_order(open_store, dtype):
    x, labels = features(dtype)
    full, mask, origin = x.double(), torch.arange(11) % 3 != 1, torch.randn(5)
    matrix = open_store(x, labels)
    chosen, moved = matrix.where(mask), matrix.subtract(origin)
    kept, squared = full[mask], (full - origin).square()
    for got, expected in (
        (chosen, kept),
        (moved, full - origin),
        (moved.each(torch.square), squared),
        (chosen.subtract(origin).each(torch.square), squared[mask]),
        (moved.each(torch.square).where(mask), squared[mask]),
        (chosen.where(torch.arange(len(kept)) > 2), kept[3:]),
        (chosen.concatenate([moved, matrix.where(~mask)]), torch.cat([kept, full - origin, full[~mask]])),
        (matrix.where(mask & ~mask).concatenate([matrix]), full),
        (matrix, full),  # it is still what it was
    ):
        assert len(got) == len(expected)
        torch.testing.assert_close(got.whole().double(), expected, atol=2e-6, rtol=0)


@settings(max_examples=50, deadline=None)
@given(st.data(), st.integers(0, 2 * BLOCK + 3))
def test_any_mask_leaves_its_rows_in_their_order(data, rows):
    x = torch.arange(2.0 * rows).reshape(rows, 2)
    mask = torch.rand(rows, generator=torch.Generator().manual_seed(rows)) < data.draw(st.floats(0, 1))
    chosen = FeatureMatrix.of(x).where(mask)
    assert len(chosen) == mask.sum()
    assert torch.equal(chosen.whole(), x[mask])


def test_a_matrix_without_rows_has_columns():
    for nothing in (FeatureMatrix([], 5), FeatureMatrix.of(torch.ones(3, 5)).where(torch.zeros(3) > 0)):
        assert (len(nothing), list(nothing), nothing.whole().shape) == (0, [], (0, 5))
        mapped = nothing.subtract(torch.ones(5)).each(torch.square).map(lambda x: x @ torch.ones(5, 7))
        assert mapped.shape == (0, 7)
        assert nothing.where(torch.zeros(0) > 0).concatenate([nothing]).whole().shape == (0, 5)


def test_sums_of_parts_are_those_of_the_whole(open_store):
    x, labels = features(rows=60)
    matrix = open_store(x, labels, sizes=20 * (3,))
    omega = torch.rand(60, dtype=torch.float64)
    together = torch.cat([x, torch.ones(60, 1)], dim=1).double() * omega[:, None]
    expected = torch.zeros(4, 6, dtype=torch.float64).index_add_(0, labels, together)
    torch.testing.assert_close(class_sums(matrix, labels, omega, 4), expected, atol=1e-12, rtol=0)

    training, mean = TrainingSet(matrix, labels, 4), x.double().mean(dim=0)
    covariance = torch.cov((x.double() - mean).T, correction=0)
    basis = training.basis(0.0)
    torch.testing.assert_close(basis.mean, mean, atol=1e-12, rtol=0)
    restored = basis.vectors * basis.values @ basis.vectors.T
    torch.testing.assert_close(restored, covariance, atol=1e-6, rtol=0)


PEAK = """
import sys
from pathlib import Path
import lort_hub.features.store
from lort_hub.heads.base import FitInputs
from lort_hub.heads.fitters import closed_form
from lort_hub.heads.training_set import TrainingSet

lort_hub.features.store.IN_MEMORY = int(sys.argv[2])
matrix, labels, _ = lort_hub.features.store.FeatureStore(Path(sys.argv[1])).open()
training = TrainingSet(matrix, labels, 10)
closed_form(FitInputs(training), {"delta": 0.9, "gamma": 1.0, "weight_decay": 0.1})
status = Path("/proc/self/status").read_text()  # the peak that getrusage has is this process's parent's
print(status.split("VmHWM:")[1].split()[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_features_on_disk_need_the_memory_of_a_block(tmp_path):
    stores = {}
    for parts in (2, 40):  # 2 MB each
        x, labels = torch.randn(parts * BLOCK, 512).half(), torch.arange(parts * BLOCK) % 10
        stores[parts] = store_of(tmp_path, x, labels, sizes=parts * (BLOCK,)).folder
    runs = [(stores[2], 0), (stores[40], 0), (stores[40], 2**30)]
    jobs = [{"code": PEAK, "argv": ["-c", *run], "environment": {}} for run in runs]
    small, large, kept = (int(done.stdout) / 2**10 for done in run_forks(*jobs))
    assert large - small < 32  # 18 seen: labels and weights of each sample, and what the allocator keeps
    assert kept - small > 70


def test_features_stay_on_a_gpu_where_they_fit_and_are_read_to_it_block_by_block_where_not(gpu, monkeypatch):
    torch.backends.cuda.matmul.allow_tf32 = True
    x, reads = torch.randn(2 * BLOCK + 5, 3).half(), []
    parts = [Part(len(rows), lambda rows=rows: reads.append(1) or rows) for rows in x.split(BLOCK)]
    bare, mask, number = FeatureMatrix(parts, 3), torch.arange(len(x)) % 2 == 0, x.nelement()
    for free, reads_of_two_passes in (
        (4 * number, 4),
        (4 * number - 2, 7),
    ):  # two bytes each, half of it used
        monkeypatch.setattr("lort_hub.features.matrix.free_memory", lambda _, free=free: free)
        reads.clear()
        matrix = bare.to(gpu)
        assert {(block.device, block.dtype) for block, _ in matrix} == {(gpu, torch.float32)}
        assert torch.equal(matrix.whole().cpu(), x.float())
        assert len(reads) == reads_of_two_passes
        assert torch.equal(matrix.where(mask.to(gpu)).whole().cpu(), x[mask].float())
        assert matrix.where(~mask.to(gpu)).where(torch.zeros(BLOCK + 2).bool().to(gpu)).whole().device == gpu
    assert not torch.backends.cuda.matmul.allow_tf32
