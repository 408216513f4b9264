from dataclasses import replace

import pytest
import torch

from lort_hub.features.matrix import FeatureMatrix
from lort_hub.heads.choose import fit_by_name
from lort_hub.heads.fit import BASELINE_TOLERANCE, fit_baseline, fit_head
from lort_hub.heads.methods import CHOICES, METHODS
from lort_hub.heads.solvers.lbfgs import TOLERANCE
from lort_hub.heads.training_set import TrainingSet
from tests.support.features import clusters
from tests.support.pretend_gpu import GPU as PRETENDED

BARE = clusters(counts=(24, 12, 6), dim=6, noise=2.0)[0]
"""So noisy that no method separates the samples."""
SEEN = {
    "a third unseen by the backbone": {"held_out": torch.arange(len(BARE.labels)) % 3 == 0},
    "all unseen": {},
    "pairs": {"groups": torch.arange(len(BARE.labels)) // 2},
}


@pytest.fixture(autouse=True)
def _two_settings(monkeypatch):
    """Choose between two values of each setting; all of them would take minutes on a pretended GPU."""
    for name, method in METHODS.items():
        grid = {setting: values[len(values) // 2 :][:2] for setting, values in method.grid.items()}
        monkeypatch.setitem(METHODS, name, replace(method, grid=grid))


def training_set(device=None, views=0, seen="a third unseen by the backbone"):
    """The samples, and noisy views of them, on a device."""
    noise = torch.Generator().manual_seed(1)
    copies = [BARE.x + torch.randn(BARE.x.shape, generator=noise) for _ in range(views)]
    every = [FeatureMatrix.of(x) for x in (BARE.x, *copies)]
    matrix, *others = every if device is None else [each.to(device) for each in every]
    return TrainingSet(matrix, BARE.labels, BARE.num_classes, **SEEN[seen]), others


def assert_same(found, expected, gpu):
    """Heads, on the CPU, that differ no more than sums in another order do."""
    tolerance = 1e-6 if gpu is PRETENDED else 1e-4
    assert found.settings == pytest.approx(expected.settings, rel=tolerance)
    assert found.scale == pytest.approx(expected.scale, rel=tolerance)
    for name, part in vars(expected.head).items():
        own = getattr(found.head, name)
        if isinstance(part, torch.Tensor):
            assert (type(own), own.device.type) == (torch.Tensor, "cpu"), name
            assert torch.allclose(own, part, rtol=0, atol=tolerance * float(part.abs().max())), name


@pytest.mark.parametrize("method", [*METHODS, *CHOICES])
def test_a_gpu_gives_the_head_of_the_cpu(gpu, method):
    known = [fit_head(training_set()[0], "ce", weight_decay=0.1)]
    on_cpu, on_gpu = (
        fit_by_name(training_set(device)[0], method, known=known, settings={}) for device in (None, gpu)
    )
    assert_same(on_gpu, on_cpu, gpu)
    assert on_gpu.mix.shares == pytest.approx(on_cpu.mix.shares, rel=1e-4)
    assert torch.equal(on_gpu.held_out.predicted, on_cpu.held_out.predicted)


@pytest.mark.parametrize("seen", ["all unseen", "pairs"])
@pytest.mark.parametrize("method", ["lort", "auto"])
def test_a_gpu_gives_the_head_of_the_cpu_where_each_sample_or_group_is_left_out(gpu, method, seen):
    fits = []
    for device in (None, gpu):
        training, _ = training_set(device, seen=seen)
        fits.append(fit_by_name(training, method, known=[fit_head(training, "ce")], settings={}))
    assert_same(fits[1], fits[0], gpu)


@pytest.mark.parametrize("solver", ["exact", "closed-form", "sgd"])
def test_a_gpu_gives_the_head_of_the_cpu_on_views_of_features_that_do_not_fit_on_it(gpu, monkeypatch, solver):
    monkeypatch.setattr("lort_hub.features.matrix.GPU_SHARE", 0)
    fits = []
    for device in (None, gpu):
        training, views = training_set(device, views=2)
        fits.append(fit_head(training, "lort", solver=solver, weight_decay=0.1, views=views))
    assert_same(fits[1], fits[0], gpu)


def test_a_gpu_gives_the_head_of_the_cpu_where_settings_are_chosen_on_reduced_features(gpu, monkeypatch):
    monkeypatch.setattr("lort_hub.heads.training_set.MIN_WIDTH", 2)
    monkeypatch.setattr("lort_hub.heads.training_set.KEPT_VARIANCE", 0.5)
    monkeypatch.setattr("lort_hub.heads.training_set.KEPT_DIRECTIONS", 1)
    fits = []
    for device in (None, gpu):
        training, _ = training_set(device)
        assert training.reduced.matrix.dim < BARE.matrix.dim
        fits.append(fit_by_name(training, "auto", known=[fit_head(training, "ce")], settings={}))
    assert_same(fits[1], fits[0], gpu)


def test_the_baseline_is_solved_roughly_and_to_the_end_where_it_is_the_head():
    training, _ = training_set(seen="all unseen")
    rough, alone, exact = fit_baseline(training), fit_head(training, "ce"), fit_baseline(training, exact=True)
    assert TOLERANCE < rough.linear.relative_gradient <= BASELINE_TOLERANCE
    assert exact.linear.relative_gradient <= TOLERANCE
    assert exact.weight.equal(alone.weight)
    assert float((rough.weight - alone.weight).norm() / alone.weight.norm()) < 0.03
