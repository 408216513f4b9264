import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lort_hub.errors import ConfigError
from lort_hub.heads.priors import confusion_of, estimate_bbse, estimate_em, mix_weights

MEANS = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
TRUE = torch.tensor([0.55, 0.25, 0.15, 0.05]).double()


def sample(seed, number, shares=TRUE):
    """Log-likelihoods of overlapping Gaussians, and the classes of the samples."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(shares, number, replacement=True, generator=random)
    x = MEANS[labels] + torch.randn(number, 2, generator=random)
    return -0.5 * torch.cdist(x, MEANS).square(), labels


def saerens(posteriors, prior, steps):
    """The few lines of Saerens et al. (2002), on posteriors of a known prior."""
    q = prior.copy()
    for _ in range(steps):
        ratio = posteriors * (q / prior)
        q = (ratio / ratio.sum(axis=1, keepdims=True)).mean(axis=0)
    return q


@pytest.mark.parametrize("prior", [[0.25, 0.25, 0.25, 0.25], [0.7, 0.1, 0.1, 0.1]])
def test_it_is_the_em_of_the_paper_on_posteriors_of_any_prior(prior):
    log_likelihoods, _ = sample(0, 300)
    prior = np.array(prior)
    posteriors = (log_likelihoods + torch.tensor(prior).log()).softmax(dim=1).numpy()
    ours = estimate_em(log_likelihoods, strength=0.0, resamples=0).shares
    assert ours.numpy() == pytest.approx(saerens(posteriors, prior, 3000), abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), strength=st.sampled_from([0.0, 0.5, 5.0]))
def test_at_the_end_no_move_of_mass_from_class_to_class_is_likelier(seed, strength):
    log_likelihoods, _ = sample(seed, 60)
    likelihoods = log_likelihoods.double().exp()
    shares = mix_weights(likelihoods, torch.ones(1, 60).double(), strength)[0]
    assert float(shares.sum()) == pytest.approx(1, abs=1e-9)
    slope = (likelihoods / (likelihoods @ shares)[:, None]).sum(dim=0)
    slope += strength / shares if strength else 0.0
    inside = shares > 1e-3
    assert slope[inside] / (60 + 4 * strength) == pytest.approx(torch.ones(int(inside.sum())), abs=0.02)
    assert (slope[~inside] / (60 + 4 * strength) < 1.05).all()


def test_strength_draws_the_mix_to_equal_shares():
    log_likelihoods, _ = sample(0, 300)
    away = [
        float((estimate_em(log_likelihoods, strength=s, resamples=0).shares - 0.25).abs().sum())
        for s in (0.0, 10.0, 100.0, 1e6)
    ]
    assert away == sorted(away, reverse=True)
    assert away[-1] < 1e-3


def test_both_estimates_find_the_mix_of_many_samples():
    log_likelihoods, labels = sample(1, 20_000)
    known, truth = sample(2, 20_000, shares=torch.full((4,), 0.25))
    confusion = confusion_of(truth, known.argmax(dim=1), 4)
    found = np.bincount(labels, minlength=4) / 20_000
    em = estimate_em(log_likelihoods, strength=1.0, resamples=0)
    bbse = estimate_bbse(log_likelihoods.argmax(dim=1), confusion, strength=1.0, resamples=0)
    assert em.shares.numpy() == pytest.approx(found, abs=0.01)
    assert bbse.shares.numpy() == pytest.approx(found, abs=0.02)


def test_bbse_solves_the_equation_of_the_paper_where_that_has_a_solution():
    log_likelihoods, _ = sample(3, 5000)
    known, truth = sample(4, 5000, shares=torch.full((4,), 0.25))
    predicted, confusion = log_likelihoods.argmax(dim=1), confusion_of(truth, known.argmax(dim=1), 4)
    inverted = np.linalg.solve(confusion.T.numpy(), np.bincount(predicted, minlength=4) / 5000)
    assert (inverted > 0).all()
    ours = estimate_bbse(predicted, confusion, strength=0.0, resamples=0).shares
    assert ours.numpy() == pytest.approx(inverted, abs=1e-3)


@pytest.mark.parametrize("estimator", ["em", "bbse"])
def test_intervals_hold_the_true_share_as_often_as_they_say(estimator):
    known, truth = sample(99, 50_000, shares=torch.full((4,), 0.25))
    confusion, held = confusion_of(truth, known.argmax(dim=1), 4), []
    for seed in range(30):
        log_likelihoods, _ = sample(seed, 200)
        if estimator == "em":
            found = estimate_em(log_likelihoods, strength=0.0, seed=seed)
        else:
            found = estimate_bbse(log_likelihoods.argmax(dim=1), confusion, strength=0.0, seed=seed)
        held.append(((found.low <= TRUE) & (found.high >= TRUE)).double())
    # 120 intervals of 95 %: two and a half deviations.
    assert float(torch.stack(held).mean()) == pytest.approx(0.95, abs=0.05)


def test_a_row_of_the_confusion_matrix_is_a_distribution_also_without_samples():
    confusion = confusion_of(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 2]), 4)
    assert confusion.sum(dim=1).tolist() == pytest.approx([1] * 4)
    assert confusion[1].tolist() == [0.25] * 4


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(ConfigError, match="expected a number of images from 0"):
        estimate_em(torch.zeros(4, 2), strength=strength)
