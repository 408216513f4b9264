import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from lort_hub.evaluation.magnitude import logits_magnitude
from lort_hub.experiments.ablations import (
    DECAYS,
    DELTAS,
    NOISE,
    RATES,
    SCALES,
    STUDIES,
    Bench,
    NoisyHead,
    rank_correlations,
)
from lort_hub.features.matrix import FeatureMatrix
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitted import stage1_fit
from lort_hub.heads.solvers.objective import Objective, logit_gap
from lort_hub.heads.solvers.sgd import sgd
from lort_hub.heads.training_set import TrainingSet
from tests.support.features import clusters
from tests.support.rows import row_of

LORT = 3 / (3 + 100 * (1 - 0.98) / 0.98)
"""LORT's delta at three classes: the logit gap that 0.98 has at 100."""


@pytest.fixture(scope="module")
def bench():
    training, _ = clusters(counts=(30, 12, 5), dim=4)
    ncm = fit_head(training, "ncm", calibrate=False)
    views = [FeatureMatrix.of(training.x + shift) for shift in (0.5, -0.5)]
    return Bench(training, stage1_fit(ncm.weight, ncm.bias), views, seed=3)


def published(bench, views=None, zero=False, lr=5e-4, **objective):
    """The paper's SGD, from its parts."""
    start = (bench.baseline.weight, bench.baseline.bias)
    init = tuple(torch.zeros_like(tensor) for tensor in start) if zero else start
    counts = bench.training.class_counts
    objective = Objective(**{"delta": LORT, **objective})
    head = sgd(
        [view.whole() for view in views or [bench.training.matrix]],
        bench.training.labels,
        counts,
        objective,
        init=init,
        lr=lr,
        seed=3,
    )
    return head.weight.float()


@pytest.mark.parametrize("study", ["lr", "path"])
def test_heads_from_a_gpu_are_those_of_the_cpu_and_lie_there(gpu, bench, study):
    bare = bench.training
    training = TrainingSet(bare.matrix.to(gpu), bare.labels, bare.num_classes)
    on_gpu = list(STUDIES[study](replace(bench, training=training)))
    for (varied, head), (expected_of, expected) in zip(on_gpu, STUDIES[study](bench), strict=True):
        assert varied == expected_of
        torch.testing.assert_close(head.logits(bare.x), expected.logits(bare.x), rtol=1e-4, atol=1e-4)


def test_delta_study_is_of_balanced_optima_and_of_sgd(bench):
    series = list(STUDIES["delta"](bench))
    assert [varied["delta"] for varied, _ in series] == [delta for delta in DELTAS for _ in range(2)]
    for varied, head in series:
        delta = varied["delta"]
        gap = round(logit_gap(delta, 3), 3) if delta else None
        assert varied.get("logit gap", gap) == gap
        if varied["by"] == "SGD":
            assert head.weight.equal(published(bench, delta=delta))
        elif delta in (0.0, 0.5):
            method, given = ("crt+lort", {"delta": delta}) if delta else ("crt", {})
            assert head.weight.equal(
                fit_head(bench.training, method, calibrate=False, seed=3, **given).weight
            )
    assert [varied["by"] for varied, _ in series[:2]] == ["optimum, balanced", "SGD"]


def test_rate_study_is_of_sgd_from_the_trained_head_and_from_zero(bench):
    series = list(STUDIES["lr"](bench))
    assert [(varied["from"], varied["lr"]) for varied, _ in series] == [
        (start, lr) for lr in RATES for start in ("trained head", "zero")
    ]
    for varied, head in series[::5]:
        expected = published(bench, zero=varied["from"] == "zero", lr=varied["lr"])
        assert head.weight.equal(expected)


def test_decay_study_is_of_sgd_with_weight_decay(bench):
    series = list(STUDIES["weight-decay"](bench))
    assert [(v["weight decay"], v["lr"]) for v, _ in series] == [
        (d, lr) for d in DECAYS for lr in (5e-5, 5e-4)
    ]
    for varied, head in series[1::4]:
        assert head.weight.equal(published(bench, weight_decay=varied["weight decay"]))


def test_view_study_is_of_sgd_on_so_many_augmented_views_and_none_are_the_plain_features(bench):
    series = list(STUDIES["views"](bench))
    assert [varied["views"] for varied, _ in series] == [0, 0, 1, 1, 2, 2]
    for varied, head in series[1::2]:
        assert head.weight.equal(published(bench, views=list(bench.views[: varied["views"]])))
    assert len(list(STUDIES["views"](Bench(bench.training, bench.baseline)))) == 2


def test_scale_study_leaves_the_predictions_and_scales_the_logits_magnitude(bench):
    x, labels = bench.training.x, bench.training.labels.numpy()
    series = list(STUDIES["scale"](bench))
    assert [(v["head"], v["scale"]) for v, _ in series] == [
        (name, scale) for name in ("baseline", "lort") for scale in SCALES
    ]
    assert series[2][1].weight.equal(bench.baseline.weight)
    for first in (0, 5):
        plain = series[first + 2][1].logits(x)
        magnitude = logits_magnitude(plain.numpy(), labels)
        for varied, head in series[first : first + 5]:
            logits = head.logits(x)
            assert logits.argmax(dim=1).equal(plain.argmax(dim=1))
            np.testing.assert_allclose(
                logits_magnitude(logits.numpy(), labels), varied["scale"] * magnitude, rtol=1e-4
            )


def test_noise_study_disturbs_heads_of_falling_magnitude(bench):
    x, labels = bench.training.x, bench.training.labels.numpy()
    series = list(STUDIES["noise"](bench))
    assert [(v["delta"], v["noise"]) for v, _ in series] == [(d, n) for d in DELTAS[2:] for n in NOISE]
    clean = [head for varied, head in series if varied["noise"] == 0]
    assert all(torch.equal(noisy.logits(x), noisy.head.logits(x)) for noisy in clean)
    means = [logits_magnitude(noisy.logits(x).numpy(), labels).mean() for noisy in clean]
    assert means == sorted(means, reverse=True)


@settings(deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.5, 2.0, 64.0]))
def test_noise_is_in_units_of_each_class_s_own_logits(seed, scale):
    head = torch.nn.Linear(6, 3).requires_grad_(False)
    fit = stage1_fit(head.weight * torch.tensor([[1.0], [5.0], [0.1]]), head.bias).linear
    x = torch.randn(5000, 6, generator=torch.Generator().manual_seed(seed))
    clean, noisy = fit.logits(x), NoisyHead(fit, 0.5, seed).logits(x)
    spread = (noisy - clean).std(dim=0) / clean.std(dim=0)
    torch.testing.assert_close(spread, torch.full((3,), 0.5), rtol=0.05, atol=0)
    assert noisy.equal(NoisyHead(fit, 0.5, seed).logits(x))
    assert not noisy.equal(NoisyHead(fit, 0.5, seed + 1).logits(x))
    scaled = stage1_fit(scale * fit.weight, scale * fit.bias).linear
    assert NoisyHead(scaled, 0.5, seed).logits(x).equal(scale * noisy)  # no scale makes a head more robust


def test_path_study_starts_at_the_baseline_thrice_and_bends_it_by_the_counts(bench):
    series = list(STUDIES["path"](bench))
    strengths = [round(0.2 * k, 1) for k in range(11)]
    names = ("lort-path", "linear-adjust", "logit-adjust")
    assert [(v["by"], v["strength"]) for v, _ in series] == [(n, s) for n in names for s in strengths]
    shares = torch.tensor([30, 12, 5]) / 47
    bends = {"linear-adjust": 3 * shares, "logit-adjust": shares.log()}
    for varied, head in series:
        if varied["strength"] == 0:
            assert head.weight.equal(bench.baseline.weight)
            assert head.bias.equal(bench.baseline.bias)
        if varied["by"] in bends:
            expected = bench.baseline.bias - varied["strength"] * bends[varied["by"]]
            torch.testing.assert_close(head.bias, expected)
        else:
            assert varied["strength"] == 0 or not head.weight.equal(bench.baseline.weight)


@pytest.mark.parametrize("name", STUDIES)
def test_every_head_of_a_study_is_told_apart_by_what_it_varies(name, bench):
    series = list(STUDIES[name](bench))
    assert len({tuple(varied.items()) for varied, _ in series}) == len(series)
    assert len({tuple(varied) for varied, _ in series}) == 1
    for varied, head in series:
        assert all(isinstance(value, (str, int, float, type(None))) for value in varied.values())
        assert head.logits(bench.training.x).isfinite().all()


def row(accuracy, magnitude, spread=1.0, deviation=0.5, norms=0.1):
    return row_of(
        balanced_accuracy=accuracy,
        logits_magnitude_mean=magnitude,
        logits_magnitude_std=spread,
        regularized_std_mean=deviation,
        weight_norm_spread=norms,
    )


def test_rank_correlations_equal_scipy_s_and_leave_out_what_does_not_vary():
    rows = [row(0.5, 3.0, 1.0, norms=0.3), row(0.6, 1.0, 0.6, norms=0.2), row(0.7, 2.0, 0.2, norms=0.3)]
    rows.append(row(0.55, 2.0, 3.0, norms=0.05))
    noisy = row(0.1, 100.0, 1.0, norms=None)
    found = rank_correlations([*rows, noisy])
    accuracy = [0.5, 0.6, 0.7, 0.55]
    assert found == pytest.approx(
        {
            "mean of LoMa": spearmanr([3, 1, 2, 2], accuracy).statistic,
            "spread of LoMa over classes": spearmanr([1 / 3, 0.6, 0.1, 1.5], accuracy).statistic,
            "spread of weight norms over classes": spearmanr([0.3, 0.2, 0.3, 0.05], accuracy).statistic,
        },
        abs=5e-4,
    )
    # By hand: ranks of LoMa 4, 1, 2.5, 2.5 and of accuracy 1, 3, 4, 2.
    assert found["mean of LoMa"] == pytest.approx(-3 / math.sqrt(4.5 * 5), abs=5e-4)


def test_heads_that_are_all_equally_good_correlate_with_nothing():
    assert rank_correlations([row(0.9, 1.0, norms=0.1), row(0.9, 2.0, norms=0.2), row(0.9, 3.0)]) == {}


def test_numbers_that_one_test_class_alone_leaves_undefined_are_left_out():
    rows = [row(accuracy, None, None, None, norms=accuracy) for accuracy in (0.5, 0.6, 0.8)]
    assert rank_correlations(rows) == {"spread of weight norms over classes": 1.0}
    assert rank_correlations([row(accuracy, 1.0, norms=None) for accuracy in (0.5, 0.6, 0.8)]) == {}
