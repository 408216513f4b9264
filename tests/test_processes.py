import json
import os
import signal

import pytest
import torch
from torch.distributed import group as groups

import lort_hub.rescaling
import lort_hub.store
from lort_hub.errors import ProcessLostError
from lort_hub.fitting import Sample
from lort_hub.heads import fit_head
from lort_hub.methods import METHODS
from lort_hub.processes import Processes
from lort_hub.store import EVAL_VIEW, FeatureStore
from lort_hub.training_set import TrainingSet
from tests.groups import together

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

COUNTS = torch.tensor([70, 40, 24, 12, 8])
SAMPLES = int(COUNTS.sum())
PARTS_OF = {"uneven": 22, "empty": 77, "held out": 22}
"""Rows of each part: 7 parts over 4 processes, or 2, so that two processes have none."""
CHOSEN = {
    "uneven": ("ce", "lort", "logit-adjust"),
    "empty": ("lort",),
    "held out": ("ce", "lort", "balanced-softmax", "tau-norm", "lort-path"),
}
GIVEN = {
    "ce": {"weight_decay": 0.01},
    "crt": {"gamma": 1.0, "weight_decay": 0.01},
    "lort": {"delta": 0.9, "gamma": 0.5, "weight_decay": 0.01},
    "balanced-softmax": {"tau": 1.0, "weight_decay": 0.01},
    "las": {"gamma": 1.0, "label_aware": True, "delta": 0.2, "weight_decay": 0.01},
    "maxnorm": {"gamma": 1.0, "weight_decay": 0.01, "share": 0.6},
    "lws": {},
    "ncm": {},
    "tau-norm": {"power": 0.7},
    "logit-adjust": {"tau": 1.0},
    "lort-path": {"strength": 0.5},
    "lort-published": {"delta": 0.9},
    "cosine": {"gamma": 1.0, "scale": 16.0},
    "disalign": {"rho": 1.0},
}


def everyone():
    count = torch.distributed.get_world_size()
    return Processes() if count == 1 else Processes(groups.WORLD)


def problem(folder, kind):
    """A store of overlapping classes; where shares are empty they are sorted, as image folders are."""
    torch.manual_seed(0)
    labels = torch.arange(len(COUNTS)).repeat_interleave(COUNTS)
    if kind != "empty":
        labels = labels[torch.randperm(SAMPLES)]
    x = torch.randn(len(COUNTS), 8)[labels] + 1.5 * torch.randn(SAMPLES, 8) + 1
    lort_hub.store.PART_SIZE = PARTS_OF[kind]
    store = FeatureStore.create(folder / kind, {}, num_samples=SAMPLES)
    for part in range(store.num_parts):
        rows = torch.tensor(list(store.rows(part)))
        store.save_part(EVAL_VIEW, part, x[rows], labels[rows], rows, skipped=[])


def training_set(folder, kind):
    matrix, labels, rows = FeatureStore(next((folder / kind).iterdir())).open(processes=everyone())
    # Two parts hold all that is held out: processes without any are the last ones of four.
    held_out = (rows < 2 * PARTS_OF[kind]) & (rows % 2 == 0) if kind == "held out" else None
    return TrainingSet(matrix, labels, len(COUNTS), held_out)


def all_heads(folder, kind):
    """Head and selection by method, chosen and given."""
    training, fits = training_set(folder, kind), {}
    baseline = fit_head(training, "ce", weight_decay=0.01)
    for name in CHOSEN[kind]:
        fits[f"{name} chosen"] = fit_head(training, name, baseline=baseline)
    fits["closed form"] = fit_head(training, "lort", gamma=0.5, weight_decay=0.01, solver="closed-form")
    told = {name: (vars(fit.head), fit.selection.to_dict()) for name, fit in fits.items() if fit.selection}
    told["closed form"] = vars(fits["closed form"].head), None
    for name, settings in GIVEN.items() if kind != "held out" else ():
        sample = Sample(training, base=(baseline.weight, baseline.bias))
        told[name] = vars(METHODS[name].fit(sample, settings)), None
    return told, len(training.labels), int(training.held_out.sum()) if kind == "held out" else None


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What each of 1, 2 and 4 processes says of every kind of problem."""
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lort_hub.store, "PART_SIZE", None)  # it is set, and put back
        patch.setattr(lort_hub.store, "IN_MEMORY", 0)
        # It has no minimum where the gate becomes a step, and then any rounding grows with each iteration.
        patch.setattr(lort_hub.rescaling, "DISALIGN_ITERATIONS", 10)
        for kind in PARTS_OF:
            problem(folder, kind)
        ended = {
            count: together(count, lambda _: {kind: all_heads(folder, kind) for kind in PARTS_OF})
            for count in (1, 2, 4)
        }
    assert all(code == 0 for run in ended.values() for code, _ in run)
    return {count: [of for _, of in run] for count, run in ended.items()}


def tensors(head):
    return {name: value for name, value in head.items() if isinstance(value, torch.Tensor)}


def test_shares_are_as_uneven_as_they_are_meant_to_be(said):
    def sizes(kind, number):
        return [of[kind][number] for of in said[4]]

    assert sizes("uneven", 1) == [22, 44, 44, 44]
    assert sizes("empty", 1) == [0, 77, 0, 77]
    assert sizes("held out", 2) == [11, 11, 0, 0]


@pytest.mark.parametrize("kind", PARTS_OF)
@pytest.mark.parametrize("count", [2, 4])
def test_processes_find_the_head_of_one(said, kind, count):
    alone = said[1][0][kind][0]
    for name, (head, selection) in said[count][0][kind][0].items():
        expected, how = alone[name]
        for key, tensor in tensors(expected).items():
            error = (head[key] - tensor).abs().max() / tensor.abs().max().clamp_min(1e-30)
            assert error <= 1e-5, (name, key)
        if how:
            assert selection["chosen"].keys() == how["chosen"].keys(), name
            assert selection["chosen"] == pytest.approx(how["chosen"], rel=1e-6), name
            assert selection["score"] == pytest.approx(how["score"], abs=1e-6), name
            assert (selection["how"], selection["by"]) == (how["how"], how["by"])
            assert len(selection["candidates"]) == len(how["candidates"])


@pytest.mark.parametrize("kind", PARTS_OF)
@pytest.mark.parametrize("count", [2, 4])
def test_every_process_has_the_same_bits(said, kind, count):
    first, *others = (of[kind][0] for of in said[count])
    for other in others:
        assert other.keys() == first.keys()
        for name, (head, selection) in other.items():
            assert selection == first[name][1], name
            for key, tensor in tensors(first[name][0]).items():
                assert torch.equal(head[key], tensor), (name, key)
