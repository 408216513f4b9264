import errno
import functools
import os
import signal
import time
from contextlib import nullcontext

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.distributed import group as groups

import lort_hub.features.store
import lort_hub.heads.rescaling
from lort_hub.backbones.load import load_backbone
from lort_hub.data.dataset import BadImageError, ImageSplit
from lort_hub.data.transforms import EVAL_VIEW
from lort_hub.errors import ProcessLostError
from lort_hub.features.distributed import Processes
from lort_hub.features.extract import extract_features
from lort_hub.features.matrix import CPU, FeatureMatrix
from lort_hub.features.store import FeatureStore
from lort_hub.heads.base import FitInputs, move_head
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitters import fit_method
from lort_hub.heads.methods import METHODS
from lort_hub.heads.stack import fit_stack
from lort_hub.heads.training_set import TrainingSet
from tests.support.distributed import together
from tests.support.features import equal
from tests.support.images import NOISE_PNGS, split_of
from tests.support.pretend_gpu import pretend_gpu

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

COUNTS = torch.tensor([70, 40, 24, 12, 8])
SAMPLES = int(COUNTS.sum())
PARTS_OF = {"uneven": 22, "refitted": 22, "empty": 77, "held out": 22, "groups": 22}
"""Rows of each part: 7 parts, or 2, so that one of three processes has none."""
ON_DISK = ("uneven", "empty")
CHOSEN = {
    "uneven": ("lort", "eb-lda"),
    "refitted": ("ce", "logit-adjust"),
    "empty": ("lort", "eb-lda"),
    "held out": ("ce", "lort", "eb-lda", "balanced-softmax", "tau-norm", "lort-path"),
    "groups": ("ce", "lort", "eb-lda"),
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
    "eb-lda": {"sphericity": 0.3},
    "tau-norm": {"power": 0.7},
    "logit-adjust": {"tau": 1.0},
    "lort-path": {"strength": 0.5},
    "lort-published": {"delta": 0.9},
    "cosine": {"gamma": 1.0, "scale": 16.0},
    "disalign": {"rho": 1.0},
}
FITTED = {"uneven": GIVEN.keys() - {"maxnorm"}, "empty": GIVEN.keys(), "refitted": {"maxnorm"}}
"""Methods that are fitted with given settings as well."""
RUNS = [("uneven", 3), ("empty", 3), ("held out", 3), ("refitted", 2), ("groups", 2)]
"""Kinds and numbers of processes, whose cost grows with the square of the number."""
SLOW = [(kind, count) for kind in PARTS_OF for count in (2, 3, 4) if (kind, count) not in RUNS]
RUNS += [pytest.param(*run, marks=pytest.mark.slow) for run in SLOW]


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
    lort_hub.features.store.PART_SIZE = PARTS_OF[kind]
    store = FeatureStore.create(folder / kind, {}, num_samples=SAMPLES)
    for part in range(store.num_parts):
        rows = torch.tensor(list(store.rows(part)))
        store.save_part(EVAL_VIEW, part, x[rows], labels[rows], rows, skipped=[])


def training_set(folder, kind, device=CPU):
    matrix, labels, rows = FeatureStore(next((folder / kind).iterdir())).open(processes=everyone())
    # Three parts hold all that is held out: the last of three processes has none.
    held_out = (rows < 3 * PARTS_OF[kind]) & (rows % 2 == 0) if kind == "held out" else None
    groups = rows % 40 if kind == "groups" else None  # each has samples in several processes
    return TrainingSet(matrix.to(device), labels, len(COUNTS), held_out, groups)


def all_heads(folder, kind, on_gpus=False):
    """Head and selection by method, chosen and given."""
    with pretend_gpu() if on_gpus else nullcontext(CPU) as device:
        return _all_heads(training_set(folder, kind, device), kind)


def _all_heads(training, kind):
    fits = {}
    baseline = fit_head(training, "ce", weight_decay=0.01)
    for name in CHOSEN[kind]:
        fits[f"{name} chosen"] = fit_head(training, name, baseline=baseline)
    fits["closed form"] = fit_head(training, "lort", gamma=0.5, weight_decay=0.01, solver="closed-form")
    told = {name: (vars(fit.head), fit.selection.to_dict()) for name, fit in fits.items() if fit.selection}
    told["closed form"] = vars(fits["closed form"].head), None
    if kind == "uneven":
        told["stack"] = vars(fit_stack(training, baseline=baseline).head), None
    for name in sorted(FITTED.get(kind, ())):
        inputs = FitInputs(training, base=baseline.as_solved)
        told[name] = vars(move_head(fit_method(METHODS[name], inputs, GIVEN[name]), CPU)), None
    return told, len(training.labels), int(training.held_out.sum()) if kind == "held out" else None


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """A function of a kind of problem and a number of processes: what each of them says."""
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lort_hub.features.store, "PART_SIZE", None)  # it is set, and put back
        # It has no minimum where the gate becomes a step, and then any rounding grows with each iteration.
        patch.setattr(lort_hub.heads.rescaling, "DISALIGN_ITERATIONS", 10)
        patch.setattr("lort_hub.features.matrix.free_memory", lambda _: 2**30)
        for kind in PARTS_OF:
            problem(folder, kind)

        @functools.cache
        def said(kind, count, on_gpus=False):
            patch.setattr(lort_hub.features.store, "IN_MEMORY", 0 if kind in ON_DISK else 2**30)
            ended = together(count, lambda _: all_heads(folder, kind, on_gpus))
            assert [code for code, _ in ended] == [0] * count
            return [of for _, of in ended]

        yield said


def tensors(head):
    return {name: value for name, value in head.items() if isinstance(value, torch.Tensor)}


def test_shares_are_as_uneven_as_they_are_meant_to_be(said):
    def sizes(kind, number):
        return [of[number] for of in said(kind, 3)]

    assert sizes("uneven", 1) == [44, 44, 66]
    assert sizes("empty", 1) == [0, 77, 77]
    assert sizes("held out", 2) == [22, 11, 0]


@pytest.mark.parametrize(("kind", "count"), RUNS)
def test_processes_find_the_head_of_one(said, kind, count):
    alone = said(kind, 1)[0][0]
    for name, (head, selection) in said(kind, count)[0][0].items():
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


@pytest.mark.parametrize(("kind", "count"), RUNS)
def test_every_process_has_the_same_bits(said, kind, count):
    first, *others = (of[0] for of in said(kind, count))
    for other in others:
        assert other.keys() == first.keys()
        for name, (head, selection) in other.items():
            assert selection == first[name][1], name
            for key, tensor in tensors(first[name][0]).items():
                assert torch.equal(head[key], tensor), (name, key)


def test_processes_find_the_head_of_one_where_the_gradient_hardly_determines_it(tmp_path, monkeypatch):
    """Features of a random net: any other rounding of a sum, and the head is another one by percents."""
    monkeypatch.setattr(lort_hub.features.store, "PART_SIZE", 60)
    torch.manual_seed(0)
    labels = torch.arange(10).repeat_interleave(30)[torch.randperm(300)]
    x = 0.01 * (torch.randn(10, 8)[labels] + torch.randn(300, 8)) @ torch.randn(8, 32) + 0.5
    x += 1e-3 * torch.randn(300, 32)
    store = FeatureStore.create(tmp_path, {}, num_samples=300)
    for part in range(store.num_parts):
        rows = torch.tensor(list(store.rows(part)))
        store.save_part(EVAL_VIEW, part, x[rows], labels[rows], rows, skipped=[])

    def work(_):
        training = TrainingSet.of(FeatureStore(store.folder), 10, everyone())
        baseline = fit_head(training, "ce", weight_decay=1e-10)
        adjusted = fit_head(training, "balanced-softmax", baseline=baseline)
        return [(fit.weight, fit.bias, fit.settings) for fit in (baseline, adjusted)]

    ((_, alone),) = together(1, work)
    for code, fits in together(3, work):
        assert code == 0
        for (weight, bias, settings), (expected, expected_bias, chosen) in zip(fits, alone, strict=True):
            assert settings == chosen
            assert (weight - expected).abs().max() <= 1e-5 * expected.abs().max()
            assert (bias - expected_bias).abs().max() <= 1e-5 * expected_bias.abs().max()


@pytest.mark.parametrize(("kind", "count"), [pytest.param("empty", 3, marks=pytest.mark.slow), ("groups", 2)])
def test_processes_find_the_same_head_on_gpus(said, kind, count):
    on_cpus = said(kind, count)[0][0]
    for name, (head, selection) in said(kind, count, on_gpus=True)[-1][0].items():
        assert selection == on_cpus[name][1], name
        for key, tensor in tensors(on_cpus[name][0]).items():
            assert torch.equal(head[key], tensor), (name, key)


TYPES = (torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64)


def test_rows_of_all_are_gathered_in_their_order_whatever_their_type_and_number():
    def work(index):
        rows = torch.tensor([[0, 1], [1, 1], [1, 0]])[:index]
        sums = torch.tensor([index, 10]), torch.tensor(0.5 + index), torch.full((2, 2), 0.25).double()
        everyone().all_reduce(*sums)
        return [everyone().gather(rows.to(dtype)) for dtype in TYPES], sums

    expected = torch.tensor([[0, 1], [0, 1], [1, 1], [0, 1], [1, 1], [1, 0]])
    for code, (gathered, sums) in together(4, work):
        assert code == 0
        assert [rows.dtype for rows in gathered] == list(TYPES)
        assert all(torch.equal(rows.to(torch.int64), expected) for rows in gathered)
        assert [tensor.tolist() for tensor in sums] == [[6, 40], 8.0, [[1.0, 1.0], [1.0, 1.0]]]


@pytest.mark.parametrize("at", [1, 7, 40])
def test_who_dies_in_a_fit_is_noticed_by_all_others_at_once(tmp_path, monkeypatch, at):
    monkeypatch.setattr(lort_hub.features.store, "PART_SIZE", None)
    problem(tmp_path, "uneven")

    def work(index):
        total, calls = Processes.all_reduce, []

        def counted(self, *sums):
            calls.append(time.monotonic())
            if index == 1 and len(calls) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            total(self, *sums)

        Processes.all_reduce = counted
        try:
            fit_head(training_set(tmp_path, "uneven"), "lort")
        finally:
            assert time.monotonic() - calls[-1] < 20

    (_, first), killed, (_, third), (_, fourth) = ended = together(4, work)
    assert [code for code, _ in ended] == [1, -signal.SIGKILL, 1, 1]
    assert killed[1] is None
    for error in (first, third, fourth):
        assert isinstance(error, ProcessLostError)
        assert "Another process of this run has ended" in str(error)
        assert "run the same command again: what was finished is kept" in str(error)


@pytest.fixture
def extract(tmp_path, monkeypatch):
    """Extraction by this process or one of a group, with a call before row 9 is decoded, the last one."""
    monkeypatch.setattr(lort_hub.features.store, "PART_SIZE", 3)
    backbone, decode = load_backbone("test_resnet", pretrained=False, image_size=32), ImageSplit.decode

    def run(split, name, before=lambda: None):
        def decoded(self, row, encoded):
            if row == 9:
                before()
            return decode(self, row, encoded)

        AcceleratorState._reset_state(True)
        with monkeypatch.context() as patch:
            patch.setattr(ImageSplit, "decode", decoded)
            return extract_features(
                backbone, split, folder=tmp_path / name, accelerator=Accelerator(cpu=True), batch_size=1
            )

    yield run
    AcceleratorState._reset_state(True)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def full_disk():
    raise OSError(errno.ENOSPC, "No space left on device")


def written(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob(f"{EVAL_VIEW}-*.safetensors")}


def test_who_dies_extracting_is_noticed_and_its_whole_parts_are_kept(extract, tmp_path):
    split = split_of(NOISE_PNGS)
    whole = extract(split, "whole").load()
    (code, error), (killed, _) = together(2, lambda _: extract(split, "killed", die))
    assert (code, killed) == (1, -signal.SIGKILL)
    assert isinstance(error, ProcessLostError)
    assert "run the same command again: what was finished is kept" in str(error)
    store, kept = FeatureStore(next((tmp_path / "killed").iterdir())), written(tmp_path / "killed")
    assert store.missing(EVAL_VIEW) == [3]

    for code, again in together(2, lambda _: extract(split, "killed").load()):
        assert code == 0
        assert equal(again, whole)
    assert kept.items() < written(tmp_path / "killed").items()
    assert not list(tmp_path.rglob("*.tmp"))


def test_what_one_process_meets_is_raised_by_all(extract, tmp_path):
    broken = split_of([*NOISE_PNGS[:8], b"no picture", NOISE_PNGS[9]])
    for code, error in together(2, lambda _: extract(broken, "broken")):
        assert code == 1
        assert isinstance(error, BadImageError)
        assert "Cannot decode row 8 of split 'train' (8.png), class 'ant'" in str(error)
    for code, error in together(2, lambda _: extract(split_of(NOISE_PNGS), "full", full_disk)):
        assert code == 1
        assert (type(error), error.errno) == (OSError, errno.ENOSPC)
    for name, missing in {"broken": [2, 3], "full": [3]}.items():
        assert FeatureStore(next((tmp_path / name).iterdir())).missing(EVAL_VIEW) == missing


def test_processes_of_unequal_threads_stop_together_at_the_same_head():
    labels = torch.arange(6000) % 20
    x = torch.randn(20, 128)[labels] + 2 * torch.randn(6000, 128)

    def work(index):
        torch.set_num_threads(index + 1)
        part = slice(0, 2048) if index == 0 else slice(2048, None)
        training = TrainingSet(FeatureMatrix.of(x[part], everyone()), labels[part], 20)
        fits = [fit_head(training, "ce", weight_decay=1e-5), fit_head(training, "lort", gamma=0.5)]
        return [(fit.weight, fit.bias, fit.linear.iterations, fit.settings) for fit in fits]

    first, second = (said for _, said in together(2, work))
    for one, other in zip(first, second, strict=True):
        assert one[0].equal(other[0])
        assert one[1].equal(other[1])
        assert one[2:] == other[2:]
    assert first[0][2] > 10
