"""Mistakes are those of an independent count, and equal ones have one order."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import confusion_matrix

from lort_hub.evaluation.mistakes import ROWS, find_mistakes

ALL = 10**6


@st.composite
def labelled_logits(draw):
    """Logits of few different values, so that there are ties, and labels."""
    n, classes = draw(st.integers(1, 30)), draw(st.integers(2, 6))
    values = st.lists(st.integers(-2, 2), min_size=n * classes, max_size=n * classes)
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    return np.array(draw(values), dtype=np.float32).reshape(n, classes), np.array(labels)


@given(labelled_logits())
def test_all_mistakes_are_those_of_the_confusion_matrix(test):
    logits, labels = test
    predicted, probability = logits.argmax(axis=1), softmax(logits.astype(np.float64), axis=1)
    matrix = confusion_matrix(labels, predicted, labels=range(logits.shape[1]))
    tested = matrix.sum(axis=1)
    found = find_mistakes(logits, labels, classes=ALL, confusions=ALL, confident=ALL, examples=ALL)
    assert (found.n, found.wrong) == (len(labels), matrix.sum() - np.trace(matrix))

    pairs = [(one.label, one.predicted, one.count, one.tested) for one in found.confusions]
    cells = [(k, j, matrix[k, j], tested[k]) for k, j in np.argwhere(matrix) if k != j]
    assert pairs == sorted(cells, key=lambda cell: (-cell[2], cell[0], cell[1]))

    rates = {k: (matrix[k, k] / tested[k], matrix[k, k] - tested[k], k) for k in np.flatnonzero(tested)}
    wrong = sorted((k for k in rates if rates[k][0] < 1), key=lambda k: rates[k])
    assert [(one.label, one.right, one.tested) for one in found.worst] == [
        (k, matrix[k, k], tested[k]) for k in wrong
    ]
    for one in found.worst:
        own = [(j, matrix[one.label, j]) for j in np.flatnonzero(matrix[one.label]) if j != one.label]
        assert list(one.taken_for) == sorted(own, key=lambda item: (-item[1], item[0]))

    by_position = {one.position: one for one in found.confident}
    assert set(by_position) == set(np.flatnonzero(predicted != labels))
    for at, one in by_position.items():
        assert (one.label, one.predicted) == (labels[at], predicted[at])
        np.testing.assert_allclose(one.probability, probability[at, predicted[at]], rtol=1e-12)
        np.testing.assert_allclose(one.of_label, probability[at, labels[at]], rtol=1e-12)
    alike = probability.round(9)
    order = sorted(by_position, key=lambda at: (-alike[at].max(), alike[at, labels[at]], at))
    assert list(by_position) == order
    for group in (found.worst, found.confusions):
        shown = Counter(one.position for some in group for one in some.examples)
        assert shown == Counter(by_position.keys())


def test_few_are_listed_of_many_and_the_most_confident_are_shown():
    labels = np.zeros(9, dtype=int)
    logits = np.stack([np.zeros(9), np.array([3, 1, 2, 3, -1, 5, 4, 0.5, 0.1])], axis=1)
    found = find_mistakes(logits, labels, confident=3, examples=2)
    assert [one.position for one in found.confident] == [5, 6, 0]
    assert [[one.position for one in some.examples] for some in found.confusions] == [[5, 6]]
    assert (found.wrong, found.worst[0].right, found.worst[0].taken_for) == (8, 1, ((1, 8),))


def test_a_perfect_head_has_none_and_one_image_is_enough():
    perfect = find_mistakes(np.eye(3), np.arange(3))
    assert (perfect.n, perfect.wrong) == (3, 0)
    assert (perfect.worst, perfect.confusions, perfect.confident) == ((), (), ())
    assert find_mistakes(np.array([[0.0, 700.0]]), np.array([0])).confident[0].probability == 1


def test_more_images_than_are_in_memory_at_once_are_in_order():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(2 * ROWS + 3, 4)), rng.integers(0, 4, 2 * ROWS + 3)
    found = find_mistakes(logits, labels, confident=ALL)
    said = softmax(logits, axis=1)[[one.position for one in found.confident]].max(axis=1)
    np.testing.assert_allclose([one.probability for one in found.confident], said, rtol=1e-12)
    assert len(said) == (logits.argmax(axis=1) != labels).sum()
    assert (np.diff(said) <= 0).all()


def test_columns_of_classes_without_labels_and_of_classes_that_a_model_lacks():
    logits = np.array([[-np.inf, 0.0, np.log(3.0)], [-np.inf, 0.0, -np.log(3.0)], [-np.inf, 0.0, 0.0]])
    found = find_mistakes(logits, np.array([0, 1, 0]))
    assert [(one.label, one.predicted, one.count, one.tested) for one in found.confusions] == [
        (0, 1, 1, 2),
        (0, 2, 1, 2),
    ]
    assert [(one.position, round(one.probability, 9), one.of_label) for one in found.confident] == [
        (0, 0.75, 0.0),
        (2, 0.5, 0.0),
    ]
