import numpy as np
import pytest

from lort_hub.evaluation.intervals import accuracy_intervals

NONE = np.array([], dtype=int)


def balanced_interval(right, images, resamples=400, seed=0):
    """Interval of the balanced accuracy where these numbers of images are right in classes of so many."""
    groups = {"many": np.arange(len(right)), "medium": NONE, "few": NONE}
    images = np.broadcast_to(images, len(right))
    found = accuracy_intervals(right / images, images, groups, resamples=resamples, seed=seed)
    assert found.many == found.balanced_accuracy
    return found.balanced_accuracy


@pytest.mark.parametrize(
    ("classes", "size", "rate"),
    [(10, 1, 0.6), (10, 2, 0.6), (50, 2, 0.6), (10, 3, 0.6), (10, 10, 0.6), (10, 2, 0.95), (1, 50, 0.95)],
)
def test_interval_holds_the_truth_about_as_often_as_it_says_with_few_images(classes, size, rate):
    rng = np.random.default_rng(0)
    ends = [balanced_interval(rng.binomial(size, rate, size=classes), size, seed=seed) for seed in range(400)]
    assert sum(low <= rate <= high for low, high in ends) / 400 >= 0.91


def test_interval_of_classes_of_different_accuracy_is_not_moved_to_their_mean():
    rng, rates = np.random.default_rng(0), np.linspace(0.05, 1, 50)
    ends = [balanced_interval(rng.binomial(2, rates), 2, seed=seed) for seed in range(300)]
    assert 0.92 <= np.mean([low <= rates.mean() <= high for low, high in ends]) <= 0.99
    assert np.mean(ends) == pytest.approx(rates.mean(), abs=0.01)


@pytest.mark.parametrize("size", [10, 100])
def test_interval_of_many_images_is_as_wide_as_that_of_the_plain_bootstrap(size):
    right = np.random.default_rng(0).binomial(size, 0.6, size=100)
    low, high = balanced_interval(right, size, resamples=4000)
    error = np.sqrt(np.mean(right / size * (1 - right / size)) / size / 100)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.08)


def test_interval_of_images_that_are_all_right_or_all_wrong_is_that_of_the_exact_test():
    assert balanced_interval(np.array([50]), 50) == pytest.approx((0.025 ** (1 / 50), 1))
    assert balanced_interval(np.zeros(5), 10) == pytest.approx((0, 1 - 0.025 ** (1 / 50)))
    assert balanced_interval(np.array([1]), 1) == pytest.approx((0.025, 1))
    # Two classes of 1 and 99 images weigh the same: n = 2 ** 2 / (1 / 1 + 1 / 99) = 3.96.
    assert balanced_interval(np.array([1, 99]), [1, 99]) == pytest.approx((0.025 ** (1 / 3.96), 1))


def test_no_interval_starts_above_that_of_more_right_images():
    lows = [balanced_interval(np.array([right]), 50, resamples=4000)[0] for right in range(40, 51)]
    assert lows == sorted(lows)


def test_intervals_of_the_groups_are_their_own_and_of_the_accuracy_of_all_images():
    groups = {"many": np.array([0]), "medium": np.array([1, 2]), "few": np.array([3])}
    found = accuracy_intervals(
        np.array([0.9, 0.5, 0.5, np.nan]), np.array([1000, 10, 10, 0]), groups, resamples=2000
    )
    assert found.few is None
    assert found.many == pytest.approx((0.88, 0.918), abs=0.005)
    assert found.accuracy == pytest.approx((0.872, 0.912), abs=0.005)
    assert found.medium == pytest.approx((0.28, 0.72), abs=0.06)
