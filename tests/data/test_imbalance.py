import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lort_hub.data.imbalance import long_tailed_counts, long_tailed_indices
from lort_hub.errors import ConfigError


@pytest.mark.parametrize(("ratio", "total"), [(200, 9_502), (100, 10_847), (50, 12_608), (10, 19_573)])
def test_cifar100_sizes_are_the_paper_s(ratio, total):
    assert long_tailed_counts(f"exp:{ratio}", 100, 500).sum() == total


@pytest.mark.parametrize("ratio", [10, 50, 100, 200])
def test_counts_equal_the_authors_loop(ratio):
    expected = [int(500 * (1 / ratio) ** (k / 99.0)) for k in range(100)]
    assert long_tailed_counts(f"exp:{ratio}", 100, 500).tolist() == expected


def test_profiles_by_hand():
    assert long_tailed_counts("none", 3, 50).tolist() == [50, 50, 50]
    assert long_tailed_counts("step:10", 4, 50).tolist() == [50, 50, 5, 5]
    assert long_tailed_counts("step:10:0.25", 4, 50).tolist() == [50, 50, 50, 5]
    # Pareto of shape 6 at half rank, IR 64: (1 + (2 - 1) / 2) ** -6 = (2 / 3) ** 6.
    assert long_tailed_counts("pareto:64", 3, 1000).tolist() == [1000, int(1000 * (2 / 3) ** 6), 15]


@given(
    st.sampled_from(["exp:{}", "pareto:{}", "step:{}", "step:{}:0.99", "tail:{}:0.99"]),
    st.floats(1, 1000),
    st.integers(1, 200),
    st.integers(1, 5000),
)
def test_every_profile_falls_from_the_maximum_to_the_ratio(name, ratio, classes, largest):
    counts = long_tailed_counts(name.format(ratio), classes, largest)
    assert (np.diff(counts) <= 0).all()
    assert counts.min() >= 1
    assert counts[-1] <= counts[0] <= largest
    if classes > 1:
        assert counts[0] == largest
        assert abs(counts[-1] - max(1, largest / ratio)) <= 1


def test_first_subset_equals_a_literal_loop_over_the_file():
    labels = np.random.default_rng(0).integers(5, size=1000)
    counts, kept, seen = long_tailed_counts("exp:10", 5, 200), [], np.zeros(5, int)
    for row, label in enumerate(labels):
        if seen[label] < counts[label]:
            kept.append(row)
            seen[label] += 1
    assert long_tailed_indices(labels, "exp:10", num_classes=5).tolist() == kept


def test_shuffle_keeps_the_counts_and_follows_its_seed():
    labels = np.arange(1000) % 5
    first, again, other = (
        long_tailed_indices(labels, "exp:10", num_classes=5, subset="shuffle", seed=seed)
        for seed in (0, 0, 1)
    )
    assert first.tolist() == again.tolist() != other.tolist()
    assert np.bincount(labels[first]).tolist() == long_tailed_counts("exp:10", 5, 200).tolist()


def test_none_keeps_every_row_of_an_unequal_set():
    labels = np.array([0, 0, 0, 1])
    assert long_tailed_indices(labels, "none", num_classes=2).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("expo:100", "Did you mean 'exp'"),
        ("exp:hundred", "Cannot read"),
        ("exp", "Cannot read"),
        ("exp:0.5", "ratio >= 1"),
        ("step:10:1.5", "fraction"),
        ("exp:10:0.5", "fraction"),
        ("none:3", "Expected none"),
    ],
)
def test_unreadable_profiles_are_named_with_an_example(text, message):
    with pytest.raises(ConfigError, match=message):
        long_tailed_counts(text, 10, 100)


def test_two_humps_are_the_ends_of_an_exponential():
    counts = long_tailed_counts("humps:16", num_classes=5, max_count=1600)
    assert counts.tolist() == [1600, 1131, 200, 141, 100]  # 16^-(0, 1/8, 3/4, 7/8, 1)


def test_one_tail_leaves_the_others_equal():
    counts = long_tailed_counts("tail:100:0.5", num_classes=5, max_count=1000)
    assert counts.tolist() == [1000, 1000, 1000, 100, 10]
    assert long_tailed_counts("tail:100", num_classes=11, max_count=1000)[:9].tolist() == [1000] * 9
