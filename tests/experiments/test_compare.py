import itertools
import json
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from lort_hub.evaluation.metrics import evaluate
from lort_hub.evaluation.significance import RATIOS, holm, paired_p_value, paired_tests, shifted_accuracy
from lort_hub.evaluation.tables import COMPARISON_COLUMNS, comparison_table, result_row, study_table
from lort_hub.experiments.compare import each_method
from lort_hub.heads.fit import fit_best, fit_head, stage1_fit
from lort_hub.heads.methods import AUTO
from lort_hub.heads.training_set import TrainingSet
from tests.support.features import clusters

PROMISED = ("method", "seed", "accuracy", "balanced_accuracy", "many", "medium", "few", "macro_f1", "nll")
PROMISED += ("ece", "logits_magnitude_mean", "logits_magnitude_std", "seconds", "chosen")


def two_heads(seed, rates, size=60, classes=8):
    """Whether two heads are right on each test image, with correlated errors, and the labels."""
    rng, labels = np.random.default_rng(seed), np.repeat(np.arange(classes), size)
    shared, alone = rng.random(len(labels)), rng.random((2, len(labels)))
    draws = np.where(rng.random((2, len(labels))) < 0.5, shared, alone)
    return *((draw < rate).astype(float) for draw, rate in zip(draws, rates, strict=True)), labels


def exact_p_value(difference, labels):
    """The bootstrap's p-value with all its resamples: sums of classes as convolutions, in fractions."""
    total = {Fraction(0): 1.0}
    for label in np.unique(labels):
        values = difference[labels == label]
        for _ in values:
            grown = Counter()
            for value, count in zip(*np.unique(values, return_counts=True), strict=True):
                for sum_, share in total.items():
                    grown[sum_ + Fraction(int(value), len(values))] += share * count / len(values)
            total = grown
    return min(1.0, 2 * min(sum(p for s, p in total.items() if side * s >= 0) for side in (1, -1)))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(2, 10), min_size=2, max_size=3))
@example(36, [10, 10, 10])  # 0.1 + 0.2 - 0.3 is no zero to a float
def test_p_value_is_the_one_that_all_resamples_would_give(seed, sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    right, other = np.random.default_rng(seed).integers(0, 2, (2, len(labels)))
    resamples = 100_000
    expected = exact_p_value(right - other, labels)
    error = 2 * np.sqrt(expected / 2 * (1 - expected / 2) / resamples)
    assert paired_p_value(right, other, labels, resamples=resamples) == pytest.approx(
        expected, abs=5 * error + 1 / resamples
    )


def test_p_values_are_uniform_where_there_is_no_difference():
    p_values = [paired_p_value(*two_heads(seed, (0.7, 0.7)), resamples=1000) for seed in range(400)]
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert 0.02 < np.mean(np.array(p_values) <= 0.05) < 0.08


def test_p_value_finds_a_difference_of_every_class_and_not_the_noise():
    assert paired_p_value(*two_heads(0, (0.8, 0.6))) < 1e-3
    assert paired_p_value(*two_heads(0, (0.6, 0.8))) < 1e-3
    right, _, labels = two_heads(0, (0.7, 0.7))
    assert paired_p_value(right, right, labels) == 1.0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_p_value_sees_neither_the_order_of_the_images_nor_which_head_comes_first(seed):
    right, other, labels = two_heads(seed, (0.7, 0.66))
    p, order = paired_p_value(right, other, labels), np.random.default_rng(seed).permutation(len(labels))
    assert paired_p_value(right[order], other[order], labels[order]) == p
    error = 2 * np.sqrt(p / 2 * (1 - p / 2) / 10_000)
    assert paired_p_value(other, right, labels) == pytest.approx(p, abs=5 * np.sqrt(2) * error)


def test_p_value_of_means_over_seeds_equals_a_literal_bootstrap():
    runs = [two_heads(seed, (0.7, 0.68), size=40, classes=3) for seed in range(3)]
    labels = np.repeat([0, 1, 2], [10, 40, 70])  # classes of unequal size weigh the same
    right, other = (np.mean([run[k] for run in runs], axis=0) for k in (0, 1))
    rng, difference, resamples = np.random.default_rng(1), right - other, 20_000
    totals = np.zeros(resamples)
    for label in range(3):
        values = difference[labels == label]
        totals += values[rng.integers(len(values), size=(resamples, len(values)))].mean(axis=1)
    totals = totals.round(12)
    expected = 2 * min(np.mean(totals <= 0), np.mean(totals >= 0))
    assert paired_p_value(right, other, labels, resamples=20_000) == pytest.approx(expected, abs=0.03)


def test_holm_by_hand():
    # Sorted .005, .01, .03, .04: times 4, 3, 2, 1 = .02, .03, .06, .04, made to rise.
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.7, "b": 0.6}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.999))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values, level):
    named = {str(k): p for k, p in enumerate(p_values)}
    corrected = holm(named)
    assert corrected.keys() == named.keys()
    assert all(p <= corrected[name] <= 1 for name, p in named.items())
    order = sorted(named, key=named.get)
    assert all(corrected[a] <= corrected[b] for a, b in itertools.pairwise(order))
    left = list(order)
    while left and len(left) * named[left[0]] <= level:
        left.pop(0)
    assert {name for name, p in corrected.items() if p > level} == set(left)


def test_tests_are_of_means_over_seeds_against_ce_and_the_best():
    first, second, labels = two_heads(0, (0.9, 0.6))
    third = two_heads(1, (0.6, 0.6))[0]
    right = {
        "stage 1": [second, third],
        "ce": [third, second],
        "lort": [first, first],
        "auto": [first, first],
    }
    tests = paired_tests(right, labels)
    assert {title: set(values) for title, values in tests.items()} == {
        "p vs ce": {"stage 1", "lort"},
        "p vs best": {"stage 1", "ce"},
    }
    mean = (second + third) / 2
    raw = {"stage 1": 1.0, "lort": paired_p_value(first, mean, labels)}
    assert tests["p vs ce"] == holm(raw)
    assert set(paired_tests({"lort": [first], "ncm": [second]}, labels)) == {"p vs best"}


def test_the_best_of_a_tail_is_so_by_balanced_accuracy():
    labels = np.repeat([0, 1], [90, 10])
    right = {"majority": [(labels == 0) * 1.0], "balanced": [np.arange(100) % 5 > 0]}
    assert set(paired_tests(right, labels)["p vs best"]) == {"majority"}


@pytest.mark.parametrize(("name", "sizes"), [("forward 25", (100, 20, 4)), ("backward 25", (4, 20, 100))])
def test_shifted_accuracy_is_that_of_a_test_set_with_this_prior(name, sizes):
    # The middle class is the most frequent in training, the first comes next; a fourth has no test image.
    counts, rates = np.array([50, 500, 5, 1]), np.array([0.5, 0.75, 0.25])
    labels = np.repeat([1, 0, 2], sizes)
    predicted = np.concatenate(
        [np.where(np.arange(n) < rates[k] * n, k, 3) for k, n in zip([1, 0, 2], sizes, strict=True)]
    )
    shifted = evaluate(np.eye(4)[predicted], labels, counts)
    assert shifted["per_class_accuracy"] == [*rates, None]
    assert shifted_accuracy([*rates, None], counts)[name] == pytest.approx(shifted["accuracy"], rel=1e-12)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9))
def test_a_uniform_test_prior_gives_balanced_accuracy_and_shifts_move_it_their_way(seed, classes):
    rng = np.random.default_rng(seed)
    labels, counts = rng.integers(classes, size=50), rng.permutation(classes) + 1
    report = evaluate(rng.normal(size=(50, classes)), labels, counts)
    shifts = shifted_accuracy(report["per_class_accuracy"], counts)
    assert shifts["uniform"] == pytest.approx(report["balanced_accuracy"])
    forward = [f"forward {ratio}" for ratio in RATIOS]
    backward = [f"backward {ratio}" for ratio in reversed(RATIOS)]
    assert list(shifts) == [*forward, "uniform", *backward]
    falling = sorted(rng.random(classes), reverse=True)
    rates = np.empty(classes)
    rates[np.argsort(-counts)] = falling
    values = list(shifted_accuracy(rates.tolist(), counts).values())
    assert values == sorted(values, reverse=True)


def report_of(seed=0, weight=None, counts=(200, 50, 5), labels=(0, 0, 1, 1, 2, 2)):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), len(counts)))
    return evaluate(logits, np.array(labels), np.array(counts), weight=weight)


def test_a_row_has_the_columns_promised_and_the_report_s_numbers():
    weight = np.array([[3.0, 4.0], [0.0, 10.0], [15.0, 0.0]])
    report = report_of(weight=weight)
    row = result_row(report, np.array([200, 50, 5]), method="ce", seed=3, seconds=0.5, chosen='{"tau": 1}')
    assert set(PROMISED) <= set(row)
    assert (row["method"], row["seed"], json.loads(row["chosen"])) == ("ce", 3, {"tau": 1})
    for name in ("accuracy", "balanced_accuracy", "many", "medium", "few", "macro_f1", "nll", "ece", "n"):
        assert row[name] == report[name]
    assert row["logits_magnitude_mean"] == pytest.approx(np.mean(report["logits_magnitude"]["per_class"]))
    assert row["logits_magnitude_std"] == pytest.approx(np.std(report["logits_magnitude"]["per_class"]))
    assert row["weight_norm_spread"] == pytest.approx(np.std([5, 10, 15]) / 10)
    assert result_row(report_of(), np.array([200, 50, 5]))["weight_norm_spread"] is None


def test_a_head_of_zero_weights_has_no_spread_of_their_norms():
    # Features that are all zero leave an exact head nothing but its bias.
    fit = fit_head(
        TrainingSet(torch.zeros(6, 2), torch.tensor([0, 0, 0, 1, 1, 2]), 3), "ce", weight_decay=0.1
    )
    report = report_of(weight=fit.weight.numpy())
    assert result_row(report, np.array([200, 50, 5]))["weight_norm_spread"] is None


def row_of(**numbers):
    return {"method": "ce", "chosen": "{}", **dict.fromkeys(COMPARISON_COLUMNS, 0.5), **numbers}


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_table_is_in_percent_with_mean_and_spread_over_seeds():
    numbers = [(0.50, 1.0, 0.1), (0.54, 1.5, None), (0.61, 2.0, None)]
    rows = [
        row_of(balanced_accuracy=accuracy, nll=nll, many=many, few=None, chosen=f'{{"tau": {nll}, "b": 0}}')
        for accuracy, nll, many in numbers
    ]
    rows.append(row_of(method="lort", chosen='{"method": "las", "label_aware": false}'))
    header, _, ce, lort = cells(comparison_table(rows, {"p vs ce": {"lort": 0.0304}}))
    got = dict(zip(header, ce, strict=True))
    assert header[0] == "method"
    assert got["balanced"] == "55.0 ± 5.6"  # std of 50, 54, 61 with N - 1: sqrt(31)
    assert got["NLL"] == "1.500 ± 0.500"
    assert got["many"] == "10.0"  # one seed has it: no spread
    assert got["few"] == "n/a"
    assert got["p vs ce"] == ""
    assert got["chosen"] == "tau 1; tau 1.5; tau 2"
    assert dict(zip(header, lort, strict=True))["p vs ce"] == "0.030"
    assert lort[-1] == "method las"
    assert lort[1] == "50.0"


def test_study_table_has_a_line_for_each_head():
    varied = [{"by": "SGD", "delta": 0.5, "gap": 2.0}, {"by": "SGD", "delta": 0.0, "gap": None}]
    rows = [row_of(chosen=json.dumps(values), few=None, balanced_accuracy=0.123) for values in varied]
    header, rule, *lines = cells(study_table(rows))
    assert header == [
        "by",
        "delta",
        "gap",
        *(title for title in COMPARISON_COLUMNS.values() if title != "seconds"),
    ]
    assert len(rule) == len(header)
    assert [line[:4] for line in lines] == [["SGD", "0.5", "2.0", "12.3"], ["SGD", "0.0", "n/a", "12.3"]]
    assert lines[0][header.index("few")] == "n/a"


def test_methods_come_in_the_order_asked_and_auto_is_the_choice_among_them():
    training, _ = clusters(counts=(30, 12, 5), dim=4)
    baseline = fit_head(training, "ce")
    told = list(each_method(training, baseline, ["lort", "auto", "ncm"], by=None, seed=0))
    assert [name for name, _, _ in told] == ["lort", "ncm", "auto"]
    fits, seconds = {name: fit for name, fit, _ in told}, {name: time for name, _, time in told}
    best = fit_best(training, baseline=baseline)
    assert fits["auto"].method == best.method
    assert fits["auto"].settings == best.settings
    assert fits["auto"].weight.equal(best.weight)
    assert fits["lort"].weight.equal(fit_head(training, "lort").weight)
    assert seconds["auto"] > seconds["lort"]  # it is one of those tried
    assert "lort" in AUTO


def test_the_backbone_s_own_head_is_a_row_and_the_start_of_others():
    training, _ = clusters(counts=(30, 12, 5), dim=4)
    own = stage1_fit(fit_head(training, "ncm").weight, fit_head(training, "ncm").bias)
    told = list(each_method(training, own, ["linear-adjust"], by="balanced-accuracy", seed=0))
    assert [name for name, _, _ in told] == ["stage 1", "linear-adjust"]
    assert told[0][1] is own
    assert told[1][1].weight.equal(own.weight)
