import itertools
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, kstest

from lort_hub.evaluation.metrics import evaluate
from lort_hub.evaluation.significance import (
    RATIOS,
    holm,
    paired_interval,
    paired_p_value,
    paired_tests,
    shifted_accuracy,
)


def two_heads(seed, rates, size=60, classes=8):
    """Whether two heads are right on each test image, with correlated errors, and the labels."""
    rng, labels = np.random.default_rng(seed), np.repeat(np.arange(classes), size)
    shared, alone = rng.random(len(labels)), rng.random((2, len(labels)))
    draws = np.where(rng.random((2, len(labels))) < 0.5, shared, alone)
    return *((draw < rate).astype(float) for draw, rate in zip(draws, rates, strict=True)), labels


def exact_p_value(difference, labels):
    """How often all flips of the signs bring the difference as far: sums as convolutions, in fractions."""
    sizes = {label: int((labels == label).sum()) for label in np.unique(labels)}
    moves = [Fraction(int(value), sizes[label]) for value, label in zip(difference, labels, strict=True)]
    total = {Fraction(0): Fraction(1)}
    for move in moves:
        grown = Counter()
        for sum_, chance in total.items():
            for sign in (-1, 1):
                grown[sum_ + sign * move] += chance / 2
        total = grown
    return float(sum(chance for sum_, chance in total.items() if abs(sum_) >= abs(sum(moves))))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 10), min_size=2, max_size=3))
@example(36, [10, 10, 10])  # 0.1 + 0.2 - 0.3 is no zero to a float
@example(0, [1, 1, 2])
def test_p_value_is_the_one_that_all_flips_of_signs_would_give(seed, sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    right, other = np.random.default_rng(seed).integers(0, 2, (2, len(labels)))
    resamples = 100_000
    expected = exact_p_value(right - other, labels)
    error = np.sqrt(expected * (1 - expected) / resamples)
    assert paired_p_value(right, other, labels, resamples=resamples) == pytest.approx(
        expected, abs=5 * error + 1 / resamples
    )


@pytest.mark.parametrize(("better", "worse"), [(1, 0), (4, 0), (6, 0), (9, 2), (20, 5)])
def test_p_value_of_one_class_is_that_of_the_sign_test(better, worse):
    right, other, labels = np.ones(100), np.ones(100), np.zeros(100, dtype=int)
    other[:better], right[better : better + worse] = 0, 0
    expected = binomtest(better, better + worse).pvalue
    error = np.sqrt(expected * (1 - expected) / 10_000)
    assert paired_p_value(right, other, labels) == pytest.approx(expected, abs=5 * error + 1e-4)


def test_p_value_of_a_clear_difference_is_a_bound_below_what_draws_can_show():
    # 50 of 50 differing images one way: 2 exp(-50 ** 2 / (2 * 50)); exactly 2 ** -49.
    labels = np.repeat([0, 1], 50)
    p = paired_p_value(np.ones(100), np.tile([0, 1], 50), labels)
    assert p == pytest.approx(2 * np.exp(-25), rel=1e-9)
    assert p > 2**-49


def test_one_image_that_is_its_class_proves_nothing():
    labels = np.append(np.repeat(np.arange(5), 20), 5)
    right = np.append(np.repeat([1, 0], 50), 1)
    other = np.append(right[:-1], 0)
    assert paired_p_value(right, other, labels) == 1.0
    low, high = paired_interval(right, other, labels)
    assert low < 0 < high
    assert paired_interval(other, right, labels) == (-high, -low)


@pytest.mark.parametrize(("classes", "size"), [(10, 1), (10, 2), (10, 3), (50, 2), (10, 10)])
def test_equal_heads_differ_in_few_tables_and_intervals_hold_the_truth(classes, size):
    tables = [two_heads(seed, (0.7, 0.7), size, classes) for seed in range(300)]
    p_values = np.array([paired_p_value(*table, resamples=999) for table in tables])
    assert np.mean(p_values <= 0.05) < 0.08
    ends = [paired_interval(*table, resamples=400) for table in tables[:100]]
    assert sum(low <= 0 <= high for low, high in ends) >= 93


@pytest.mark.parametrize(("classes", "size"), [(10, 2), (50, 2), (10, 10)])
def test_intervals_hold_a_difference_that_there_is(classes, size):
    tables = [two_heads(seed, (0.8, 0.6), size, classes) for seed in range(150)]
    ends = [paired_interval(*table, resamples=400) for table in tables]
    assert np.mean([low <= 0.2 <= high for low, high in ends]) >= 0.9


@pytest.mark.parametrize(("differing", "zero"), [(1, True), (5, True), (6, False), (8, False)])
def test_interval_holds_zero_where_the_test_finds_nothing(differing, zero):
    right, labels = np.ones(100), np.zeros(100, dtype=int)
    other = (np.arange(100) >= differing) * 1.0
    low, high = paired_interval(right, other, labels)
    assert low <= differing / 100 <= high
    assert (low == 0) is zero
    assert paired_interval(right, right, labels) == (0.0, 0.0)


def test_p_values_are_uniform_where_there_is_no_difference():
    kept = np.arange(480) % 60 < 60 - 3 * np.repeat(np.arange(8), 60)  # classes of one size would make ties
    tables = [[part[kept] for part in two_heads(seed, (0.7, 0.7))] for seed in range(400)]
    p_values = [paired_p_value(*table, resamples=1000) for table in tables]
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert 0.02 < np.mean(np.array(p_values) <= 0.05) < 0.08


def test_p_value_finds_a_difference_of_every_class_and_not_the_noise():
    assert paired_p_value(*two_heads(0, (0.8, 0.6))) < 1e-3
    assert paired_p_value(*two_heads(0, (0.6, 0.8))) < 1e-3
    right, _, labels = two_heads(0, (0.7, 0.7))
    assert paired_p_value(right, right, labels) == 1.0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
@example(415)
def test_p_value_sees_neither_the_order_of_the_images_nor_which_head_comes_first(seed):
    right, other, labels = two_heads(seed, (0.7, 0.66))
    p, order = paired_p_value(right, other, labels), np.random.default_rng(seed).permutation(len(labels))
    assert paired_p_value(right[order], other[order], labels[order]) == p
    assert paired_p_value(other, right, labels) == p


def test_p_value_of_means_over_seeds_equals_literal_flips():
    runs = [two_heads(seed, (0.7, 0.68), size=40, classes=3) for seed in range(3)]
    labels = np.repeat([0, 1, 2], [10, 40, 70])  # classes of unequal size weigh the same
    right, other = (np.mean([run[k] for run in runs], axis=0) for k in (0, 1))
    moves = (right - other) / np.repeat([10, 40, 70], [10, 40, 70])
    totals = np.random.default_rng(1).choice([-1, 1], size=(20_000, 120)) @ moves
    expected = np.mean(np.abs(totals) >= abs(moves.sum()) - 1e-12)
    assert paired_p_value(right, other, labels, resamples=20_000) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_of_many_images_is_that_of_the_normal_law(seed):
    one, other, labels = two_heads(seed, (0.6, 0.7))
    low, high = paired_interval(one, other, labels)
    difference = np.mean([np.mean((one - other)[labels == k]) for k in range(8)])
    variance = np.mean([np.var((one - other)[labels == k]) / 60 for k in range(8)]) / 8
    error = np.sqrt(variance)
    assert (low, high) == pytest.approx(difference + error * np.array([-1.96, 1.96]), abs=0.1 * error)
    assert paired_interval(other, one, labels) == pytest.approx((-high, -low), abs=1e-12)


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


def test_p_values_against_the_best_are_corrected_for_all_pairs():
    labels = np.zeros(100, dtype=int)
    wrong = {"ce": 0, "lort": 5, "ncm": 8, "lws": 20}  # the first images; more of them are a worse method
    right = {name: [(np.arange(100) >= count) * 1.0] for name, count in wrong.items()}
    p = {
        pair: paired_p_value(right[pair[0]][0], right[pair[1]][0], labels)
        for pair in itertools.combinations(right, 2)
    }
    tests = paired_tests(right, labels)
    corrected = holm(p)
    assert tests["p vs best"] == {name: corrected["ce", name] for name in ("lort", "ncm", "lws")}
    alone = holm({name: p["ce", name] for name in ("lort", "ncm", "lws")})
    assert tests["p vs ce"] == alone
    # The sign test of 8 images one way, 2 / 2 ** 8: fourth of six pairs, or second of three.
    assert tests["p vs best"]["ncm"] == pytest.approx(3 / 2**7, rel=0.5)
    assert tests["p vs ce"]["ncm"] == pytest.approx(2 / 2**7, rel=0.5)


def test_the_best_of_equal_methods_seldom_beats_one():
    found = []
    for seed in range(40):
        tables = [two_heads(seed + 1000 * k, (0.7, 0.7), size=20, classes=5) for k in range(4)]
        right = {f"m{k}": [head] for k, head in enumerate(head for table in tables for head in table[:2])}
        found.append(min(paired_tests(right, tables[0][2])["p vs best"].values()) < 0.05)
    assert np.mean(found) <= 0.05


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


def test_choices_alone_have_no_best_single_method_to_be_tested_against():
    labels = np.repeat([0, 1], 5)
    assert paired_tests({"auto": [labels == 0], "best": [labels == 1]}, labels) == {}
