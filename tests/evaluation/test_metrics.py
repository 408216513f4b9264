import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from lort_hub.errors import ConfigError, FeatureError
from lort_hub.evaluation.magnitude import logits_magnitude, regularized_std
from lort_hub.evaluation.metrics import class_groups, evaluate
from lort_hub.evaluation.report import Report


def sample(seed=0, n=200, classes=5, balanced=False):
    rng = np.random.default_rng(seed)
    labels = (
        np.arange(n) % classes
        if balanced
        else np.r_[np.arange(classes), rng.integers(classes, size=n - classes)]
    )
    return rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels], labels


def test_logits_magnitude_by_hand_in_both_conventions():
    # Class 0's logit: 4 on its own sample; 1, 1 on class 1's; -2 on class 2's.
    logits = np.array([[4.0, 0, 0], [1, 2, 0], [1, 4, 0], [-2, 0, 5]])
    labels = np.array([0, 1, 1, 2])
    np.testing.assert_allclose(logits_magnitude(logits, labels), [4 - 0, 3 - 0, 5 - 0])
    np.testing.assert_allclose(logits_magnitude(logits, labels, "classes"), [4 - (1 - 2) / 2, 3, 5])


def test_regularized_std_by_hand():
    logits = np.array([[4.0, 0], [2, 0], [1, 3], [-1, 3]])
    labels = np.array([0, 0, 1, 1])
    # LoMa_0 = 3 - 0; positives 4, 2 about 3; negatives 1, -1 about 0: all deviations are 1.
    np.testing.assert_allclose(regularized_std(logits, labels)[0], 1 / 3)
    np.testing.assert_allclose(regularized_std(logits, labels, "positives"), [1 / 3, 0])
    np.testing.assert_allclose(regularized_std(logits, labels, "negatives"), [1 / 3, 0])


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.01, 100))
def test_magnitude_scales_and_regularized_std_does_not(seed, scale):
    logits, labels = sample(seed)
    np.testing.assert_allclose(
        logits_magnitude(scale * logits, labels), scale * logits_magnitude(logits, labels)
    )
    np.testing.assert_allclose(regularized_std(scale * logits, labels), regularized_std(logits, labels))


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_conventions_agree_on_a_balanced_set(seed):
    logits, labels = sample(seed, balanced=True)
    np.testing.assert_allclose(logits_magnitude(logits, labels), logits_magnitude(logits, labels, "classes"))


def test_pooled_spread_is_far_from_rounding_at_large_offsets():
    logits, labels = sample()
    np.testing.assert_allclose(
        regularized_std(logits + 1e6, labels), regularized_std(logits, labels), rtol=1e-6
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_rates_equal_independent_implementations(seed):
    logits, labels = sample(seed)
    report, predicted = evaluate(logits, labels, np.ones(5)), logits.argmax(1)
    probabilities = torch.from_numpy(logits).softmax(1)
    assert report["accuracy"] == pytest.approx((predicted == labels).mean())
    assert report["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert report["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0))
    assert report["nll"] == pytest.approx(log_loss(labels, probabilities.numpy(), labels=range(5)))
    theirs = multiclass_calibration_error(probabilities, torch.from_numpy(labels), num_classes=5, n_bins=15)
    assert report["ece"] == pytest.approx(float(theirs), abs=1e-6)


def test_tensors_and_lists_are_taken_as_arrays_are():
    logits, labels = sample()
    counts, weight = np.array([200, 150, 50, 30, 5]), np.ones((5, 2))
    expected = evaluate(logits, labels, counts, weight=weight, bootstrap=10)
    tensors = [torch.from_numpy(array) for array in (logits, labels, counts, weight)]
    tensors[0].requires_grad_()
    assert evaluate(*tensors[:3], weight=tensors[3], bootstrap=10) == expected
    assert evaluate(logits, labels, counts.tolist(), weight=weight, bootstrap=10) == expected
    for half in (torch.float16, torch.bfloat16):
        rounded = torch.from_numpy(logits).to(half)
        assert evaluate(rounded, labels, counts) == evaluate(rounded.double().numpy(), labels, counts)
    assert (logits_magnitude(tensors[0], tensors[1]) == logits_magnitude(logits, labels)).all()
    assert (regularized_std(tensors[0], tensors[1]) == regularized_std(logits, labels)).all()


def test_a_report_is_its_json_and_answers_by_name():
    report = evaluate(*sample(), np.array([200, 150, 50, 30, 5]), bootstrap=10)
    values = json.loads(json.dumps(report.to_json()))
    assert Report.from_json(values) == report
    for name, value in values.items():
        assert json.loads(json.dumps(report[name])) == value
    with pytest.raises(KeyError):
        report["balanced"]


def test_groups_at_their_borders():
    groups = class_groups(np.array([500, 101, 100, 20, 19, 1]))
    assert {name: classes.tolist() for name, classes in groups.items()} == {
        "many": [0, 1], "medium": [2, 3], "few": [4, 5]
    }  # fmt: skip
    with pytest.raises(ConfigError, match="100 and 20"):
        class_groups(np.array([1]), (100, 20))


def test_group_accuracy_is_the_mean_over_its_classes():
    # Classes 0 (right 1 of 1) and 1 (right 1 of 3) are many: 2/3, though 2 of 4 samples are right.
    labels = np.array([0, 1, 1, 1, 2])
    logits = np.eye(3)[[0, 1, 0, 0, 2]]
    report = evaluate(logits, labels, np.array([300, 200, 5]))
    assert report["many"] == pytest.approx(2 / 3)
    assert (report["medium"], report["few"]) == (None, 1.0)
    assert report["worst_class"] == {"class": 1, "accuracy": pytest.approx(1 / 3)}
    assert report["groups"]["many"] == {"classes": 2, "train_images": 500, "n": 4}


def test_class_without_test_images_is_none_not_nan():
    report = evaluate(
        np.eye(3)[[0, 1]], np.array([0, 1]), np.array([200, 200, 5]), weight=np.ones((3, 2)), bootstrap=10
    )
    assert report["few"] is None
    assert report["interval"]["few"] is None
    assert report["per_class_accuracy"] == [1.0, 1.0, None]
    assert report["logits_magnitude"]["per_class"][2] is None
    json.dumps(report.to_json(), allow_nan=False)


def test_interval_equals_literal_resampling_within_classes():
    logits, labels = sample(n=120)
    counts = np.array([200, 150, 50, 30, 5])
    interval = evaluate(logits, labels, counts, bootstrap=20_000)["interval"]
    rng, correct = np.random.default_rng(1), logits.argmax(1) == labels
    rows = [np.flatnonzero(labels == k) for k in range(5)]
    draws = [[correct[rng.choice(r, len(r))] for r in rows] for _ in range(4000)]
    accuracy = np.percentile([np.concatenate(d).mean() for d in draws], [2.5, 97.5])
    many = np.percentile([np.mean([d[0].mean(), d[1].mean()]) for d in draws], [2.5, 97.5])
    np.testing.assert_allclose(interval["accuracy"], accuracy, atol=0.01)
    np.testing.assert_allclose(interval["many"], many, atol=0.02)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(0), 0
    for trial in range(300):
        labels = np.repeat([0, 1], 100)
        right = rng.random(200) < np.where(labels == 0, 0.9, 0.6)
        logits = np.eye(2)[np.where(right, labels, 1 - labels)]
        low, high = evaluate(logits, labels, np.ones(2), bootstrap=300, seed=trial)["interval"]["accuracy"]
        covered += low <= 0.75 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_relabelling_the_classes_changes_no_summary():
    logits, labels = sample()
    counts, order = np.array([200, 150, 50, 30, 5]), np.array([3, 1, 4, 0, 2])
    inverse = np.argsort(order)
    first, second = (
        evaluate(logits, labels, counts),
        evaluate(logits[:, order], inverse[labels], counts[order]),
    )
    for key in ("accuracy", "balanced_accuracy", "many", "medium", "few", "macro_f1", "nll", "ece"):
        assert second[key] == pytest.approx(first[key])


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.array([[0.0, 1], [np.nan, 0]]), [0, 1], "Sample 1 has NaN"),
        (np.eye(2), [0, 2], "Sample 1 has label 2"),
        (np.eye(2), [0, 1, 1], "shape"),
        (np.zeros((0, 2)), [], "at least one"),
    ],
)
def test_bad_input_names_the_sample(logits, labels, message):
    with pytest.raises(FeatureError, match=message):
        evaluate(logits, np.array(labels, dtype=int), np.ones(2))


def test_a_calibrated_head_is_reported_as_solved_too():
    rng = np.random.default_rng(0)
    labels, weight = rng.integers(0, 4, 60), rng.normal(size=(4, 3))
    solved = rng.normal(size=(60, 4)) + np.eye(4)[labels]
    counts = np.array([200, 50, 9, 3])
    report = evaluate(12 * solved, labels, counts, weight=12 * weight, scale=12)
    for got, factor in ((report.as_solved, 1), (report.calibrated, 12)):
        want = evaluate(factor * solved, labels, counts, weight=factor * weight)
        assert got.nll == pytest.approx(want.nll)
        assert got.ece == pytest.approx(want.ece)
        assert got.logits_magnitude == pytest.approx(want.logits_magnitude.mean)
        assert got.regularized_std == pytest.approx(want.regularized_std.mean)
        assert got.weight_norm == pytest.approx(want.weight_norm.mean)
    assert report.as_solved.regularized_std == pytest.approx(report.calibrated.regularized_std)
    assert want.as_solved is want.calibrated is None


@pytest.mark.parametrize("seed", range(3))
def test_answers_of_other_classes_are_wrong_and_change_nothing_else(seed):
    logits, labels = sample(seed, n=60, classes=7)
    labels = labels % 4
    report = evaluate(logits, labels, [200, 150, 50, 5], others=3)
    predicted = logits.argmax(axis=1)
    assert (predicted >= 4).any()
    recall = [np.mean(predicted[labels == k] == k) for k in range(4)]
    assert report.per_class_accuracy == pytest.approx(recall)
    assert report.accuracy == pytest.approx(np.mean(predicted == labels))
    assert (report.many, report.few) == pytest.approx((np.mean(recall[:2]), recall[3]))
    f1 = f1_score(labels, predicted, labels=range(4), average="macro")
    assert report.macro_f1 == pytest.approx(f1)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert report.nll == pytest.approx(log_loss(labels, probabilities, labels=range(7)))
    error = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=7, n_bins=15
    )
    assert report.ece == pytest.approx(float(error), abs=1e-6)
    assert report.logits_magnitude.per_class == pytest.approx(logits_magnitude(logits, labels)[:4])
    assert report.untested is None
    assert sum(group.classes for group in report.groups.values()) == 4


def test_a_class_that_the_head_does_not_have_is_wrong_and_has_no_nll():
    logits, labels = sample(classes=4)
    lacking = logits.copy()
    lacking[:, 2] = -np.inf
    report, whole = (
        evaluate(part, labels, [200, 150, 50, 5], weight=np.eye(4)) for part in (lacking, logits)
    )
    assert report.per_class_accuracy[2] == 0
    assert (report.medium, report.accuracy) == (0, np.mean(lacking.argmax(axis=1) == labels))
    known = labels != 2
    assert report.nll == pytest.approx(
        evaluate(logits[known][:, [0, 1, 3]], np.array([0, 1, -1, 2])[labels[known]], [1, 1, 1]).nll
    )
    bins = np.array(report.calibration)
    assert bins[:, 0].sum() == report.n  # the ECE counts them
    assert report.ece == pytest.approx(bins[:, 0] @ np.abs(bins[:, 1] - bins[:, 2]) / report.n)
    assert bins[:, 0] @ bins[:, 2] / report.n == pytest.approx(report.accuracy)
    for one, other in (
        (report.logits_magnitude, whole.logits_magnitude),
        (report.regularized_std, whole.regularized_std),
    ):
        assert one.per_class[2] is None
        assert [*one.per_class[:2], one.per_class[3]] == [*other.per_class[:2], other.per_class[3]]
    json.dumps(report.to_json(), allow_nan=False)
    with pytest.raises(FeatureError, match="none of the classes of these samples"):
        evaluate(lacking[labels == 2], labels[labels == 2], [200, 150, 50, 5])
