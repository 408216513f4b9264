from hypothesis import example, given
from hypothesis import strategies as st

from lort_hub.training.stopping import has_ended


def rows(scores):
    return [{"held_out_balanced_accuracy": score} for score in scores]


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3]), max_size=8), st.integers(0, 2), st.integers(0, 3))
@example([0.2, 0.3, 0.3, 0.1], 5, 2)
@example([0.2, 0.3, 0.3, 0.1], 5, 3)
def test_it_ends_after_patience_epochs_that_did_not_raise_the_maximum(scores, more, patience):
    waited, best = 0, 0.0
    for score in scores:
        waited, best = (0, score) if score > best else (waited + 1, best)
    wanted = more == 0 or (patience > 0 and waited >= patience)
    assert has_ended(rows(scores), len(scores) + more, patience) == wanted


def test_epochs_without_one_right_answer_are_no_better_ones():
    assert has_ended(rows((0.0, 0.0, 0.0)), 9, 2)
