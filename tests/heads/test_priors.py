import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import cauchy, halfcauchy, multinomial, norm

from lort_hub.errors import ConfigError
from lort_hub.heads.priors import (
    EXPONENT_SCALE,
    EXPONENTS,
    SPREADS,
    confusion_of,
    estimate_bbse,
    estimate_em,
    mix_weights,
)
from lort_hub.heads.scorers import Predictions

MEANS = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
TRUE = torch.tensor([0.55, 0.25, 0.15, 0.05]).double()
EQUAL = torch.full((4,), 25)
COUNTS = torch.tensor([400, 100, 40, 10])


def sample(seed, number, shares=TRUE):
    """Log-likelihoods of overlapping Gaussians, and the classes of the samples."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(shares, number, replacement=True, generator=random)
    x = MEANS[labels] + torch.randn(number, 2, generator=random)
    return -0.5 * torch.cdist(x, MEANS).square(), labels


def held_out(seed, number):
    """Predictions of samples of all classes alike, as by a head that was fitted without them."""
    log_likelihoods, labels = sample(seed, number, shares=torch.full((4,), 0.25))
    return Predictions(labels, log_likelihoods.argmax(dim=1))


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
    ours = estimate_em(log_likelihoods, EQUAL, strength=0.0, resamples=0).shares
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
        float((estimate_em(log_likelihoods, EQUAL, strength=s, resamples=0).shares - 0.25).abs().sum())
        for s in (0.0, 10.0, 100.0, 1e6)
    ]
    assert away == sorted(away, reverse=True)
    assert away[-1] < 1e-3


def test_both_estimates_find_the_mix_of_many_samples():
    log_likelihoods, labels = sample(1, 20_000)
    found = np.bincount(labels, minlength=4) / 20_000
    em = estimate_em(log_likelihoods, EQUAL, strength=1.0, resamples=0)
    predicted = log_likelihoods.argmax(dim=1)
    bbse = estimate_bbse(predicted, held_out(2, 20_000), EQUAL, strength=1.0, resamples=0)
    assert em.shares.numpy() == pytest.approx(found, abs=0.01)
    assert bbse.shares.numpy() == pytest.approx(found, abs=0.02)


def test_bbse_solves_the_equation_of_the_paper_where_that_has_a_solution():
    log_likelihoods, _ = sample(3, 5000)
    predicted, known = log_likelihoods.argmax(dim=1), held_out(4, 5000)
    confusion = confusion_of(known.labels, known.predicted, 4)
    inverted = np.linalg.solve(confusion.T.numpy(), np.bincount(predicted, minlength=4) / 5000)
    assert (inverted > 0).all()
    ours = estimate_bbse(predicted, known, EQUAL, strength=0.0, resamples=0).shares
    assert ours.numpy() == pytest.approx(inverted, abs=1e-3)


def estimate_of(estimator, log_likelihoods, known, counts, **how):
    if estimator == "em":
        return estimate_em(log_likelihoods, counts, **how)
    return estimate_bbse(log_likelihoods.argmax(dim=1), known, counts, **how)


@pytest.mark.parametrize("estimator", ["em", "bbse"])
@pytest.mark.parametrize("number", [40, 200, 2000])
def test_intervals_hold_the_true_share_as_often_as_they_say_or_more(estimator, number):
    held = []
    for seed in range(30):
        found = estimate_of(estimator, sample(seed, number)[0], held_out(100 + seed, 200), COUNTS, seed=seed)
        held.append(((found.low <= TRUE) & (found.high >= TRUE)).double())
        assert (found.low <= found.shares).all()
        assert (found.shares <= found.high).all()
    # 120 intervals of 95 %: two and a half deviations.
    assert float(torch.stack(held).mean()) >= 0.9


def test_intervals_hold_the_noise_of_held_out_images_too():
    predicted = sample(0, 100_000)[0].argmax(dim=1)
    widths = [
        float((found.high - found.low).mean())
        for found in (estimate_bbse(predicted, held_out(1, number), COUNTS) for number in (50, 200_000))
    ]
    assert widths[0] > 10 * widths[1]


@pytest.mark.parametrize("estimator", ["em", "bbse"])
@pytest.mark.parametrize("seed", range(3))
def test_the_prior_vanishes_where_many_images_are_of_another_mix(estimator, seed):
    """`TRUE` in another order is no power of the training mix."""
    true = TRUE[[2, 0, 3, 1]]
    known, errors, weights = held_out(9, 100_000), [], []
    for number in (100, 10_000, 100_000):
        log_likelihoods, _ = sample(seed, number, shares=true)
        found = estimate_of(estimator, log_likelihoods, known, COUNTS)
        errors.append(float((found.shares - true).abs().max()))
        weights.append(4 * found.strength / (number + 4 * found.strength))
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] < 0.002
    assert errors[-1] < 0.01


@pytest.mark.parametrize(("present", "number"), [(1, 5000), (10, 5000), (50, 5000), (2, 50)])
def test_the_prior_gives_way_to_some_classes_of_a_hundred_that_alone_are_there(present, number):
    """Nearly perfect decisions, counts of a long tail; the classes are every one so many apart."""
    counts = (500 * 100 ** -(torch.arange(100) / 99)).round().long()
    true = torch.zeros(100, dtype=torch.float64)
    true[:: 100 // present] = 1 / present
    random = torch.Generator().manual_seed(present)

    def decisions(labels):
        wrong = torch.rand(len(labels), generator=random) < 0.05
        return torch.where(wrong, torch.randint(100, labels.shape, generator=random), labels)

    labels = torch.multinomial(true, number, replacement=True, generator=random)
    predicted, known = decisions(labels), torch.arange(100).repeat_interleave(200)
    known = Predictions(known, decisions(known))
    errors = [
        float(
            (estimate_bbse(predicted, known, counts, strength=given, resamples=0).shares - true).abs().sum()
        )
        for given in (None, 0.0)
    ]
    assert errors[0] < errors[1] + 0.1


@pytest.mark.parametrize("power", [-1.0, 0.0, 0.5, 1.0])
def test_the_prior_helps_where_the_mix_is_a_power_of_the_training_mix(power):
    true = (power * COUNTS.double().log()).softmax(dim=0)
    errors = {None: [], 0.0: []}
    for seed in range(10):
        predicted = sample(seed, 200, shares=true)[0].argmax(dim=1)
        for strength, each in errors.items():
            known = held_out(200 + seed, 100)
            found = estimate_bbse(predicted, known, COUNTS, strength=strength, resamples=0)
            each.append(float((found.shares - true).square().sum()))
    assert np.mean(errors[None]) < 0.9 * np.mean(errors[0.0])


def test_the_strength_is_the_share_of_noise_in_the_likeliest_variance():
    """By hand: 159 of 400 predictions of class 0, where equal shares of perfect decisions predict 200.

    The variance of the samples is 0.25 / 400; that of shares about the centre is 0.5^2 0.2^2, the squared
    distance less that, but for the steps of the spread.
    """
    labels = torch.arange(2).repeat(500_000)
    found = estimate_bbse(
        torch.tensor([0] * 159 + [1] * 241), Predictions(labels, labels), torch.tensor([7, 7])
    )
    weight = (0.25 / 400) / (0.25 / 400 + 0.01)
    assert found.strength == pytest.approx(200 * weight / (1 - weight), rel=1e-3)
    assert found.shares[0] == pytest.approx((159 + found.strength) / (400 + 2 * found.strength), rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_centre_is_the_likeliest_power_where_shares_spread_about_it(seed):
    true = torch.tensor([0.1, 0.15, 0.2, 0.55], dtype=torch.float64)
    predicted, known = sample(seed, 300, shares=true)[0].argmax(dim=1), held_out(seed, 60)
    found = estimate_bbse(predicted, known, COUNTS, resamples=0)
    centre = estimate_bbse(predicted, known, COUNTS, strength=1e12, resamples=0).shares
    confusion = confusion_of(known.labels, known.predicted, 4).numpy()
    counts, held = np.bincount(predicted, minlength=4), np.bincount(known.labels, minlength=4)
    powers = {}
    for power in EXPONENTS:
        mix = COUNTS.numpy() ** power / (COUNTS.numpy() ** power).sum()
        likelihood = multinomial.logpmf(counts, 300, mix @ confusion)
        powers[likelihood + cauchy.logpdf(power, scale=EXPONENT_SCALE)] = mix
    mix = powers[max(powers)]
    mean = mix @ confusion
    noise = mean * (1 - mean) / 300
    noise += sum(mix[k] ** 2 * confusion[k] * (1 - confusion[k]) / (held[k] + 2) for k in range(4))
    weights = {}
    for width in SPREADS:
        variance = noise + sum((width * mix[k] * confusion[k]) ** 2 for k in range(4))
        likelihood = norm.logpdf(counts / 300, mean, np.sqrt(variance)).sum() + halfcauchy.logpdf(width)
        weights[likelihood] = min(0.95, noise.sum() / variance.sum())
    weight = weights[max(weights)]
    assert centre.numpy() == pytest.approx(mix, abs=1e-6)
    assert found.strength == pytest.approx(75 * weight / (1 - weight))


@pytest.mark.parametrize("power", [-0.8, 0.0, 0.8])
def test_noise_in_the_rows_of_rare_classes_does_not_draw_the_power_to_equal_classes(power):
    """A head that is right about 4 of 10, known from 500 held-out images of a class down to 5."""
    random, num_classes = np.random.default_rng(0), 100
    counts = (500 * 100 ** -torch.linspace(0, 1, num_classes)).round().long()
    mix = (power * counts.double().log()).softmax(dim=0).numpy()

    def predictions(labels):
        right = random.random(len(labels)) < 0.4
        return torch.from_numpy(np.where(right, labels, random.integers(num_classes, size=len(labels))))

    found = []
    for _ in range(5):
        labels = counts.argsort(descending=True).repeat_interleave(counts)
        known = Predictions(labels, predictions(labels.numpy()))
        predicted = predictions(random.choice(num_classes, 2500, p=mix))
        centre = estimate_bbse(predicted, known, counts, strength=1e12, resamples=0).shares
        found.append(np.polyfit(counts.double().log(), centre.log(), 1)[0])
    assert np.mean(found) == pytest.approx(power, abs=0.1)


@pytest.mark.parametrize("estimator", ["em", "bbse"])
def test_one_image_of_the_rarest_of_many_classes_is_no_inverse_of_the_training_mix(estimator):
    counts = (500 * 100 ** -torch.linspace(0, 1, 20)).round().long()
    known = torch.arange(20).repeat_interleave(counts)
    wrong = torch.randint(20, known.shape, generator=torch.Generator().manual_seed(0))
    right = torch.rand(len(known), generator=torch.Generator().manual_seed(1)) < 0.7
    predictions = Predictions(known, torch.where(right, known, wrong))
    one = torch.where(torch.arange(20) == 19, 0.7, 0.3 / 19).log()[None]
    for strength in (None, 1e12):  # as it is, and the centre alone
        shares = estimate_of(estimator, one, predictions, counts, strength=strength).shares
        assert shares[19] < 0.15
        assert shares[0] > 0.02


@pytest.mark.parametrize("estimator", ["em", "bbse"])
def test_one_image_tells_next_to_nothing(estimator):
    found = estimate_of(estimator, sample(0, 1)[0], held_out(1, 200), EQUAL)
    assert found.shares.numpy() == pytest.approx(0.25, abs=0.15)
    assert ((found.high - found.low) > 0.9).all()


@pytest.mark.parametrize("estimator", ["em", "bbse"])
@pytest.mark.parametrize("number", [1, 3, 10])
def test_a_few_images_of_equal_classes_cost_next_to_no_accuracy(estimator, number):
    log_likelihoods, labels = sample(99, 4000, shares=torch.full((4,), 0.25))

    def accuracy(shares):
        decisions = (log_likelihoods + shares.log()).argmax(dim=1)
        return float((decisions == labels).double().mean())

    adapted = []
    for seed in range(20):
        few = sample(seed, number, shares=torch.full((4,), 0.25))[0]
        found = estimate_of(estimator, few, held_out(100 + seed, 100), COUNTS)
        adapted.append(accuracy(found.shares))
    assert np.mean(adapted) > accuracy(torch.full((4,), 0.25)) - 0.015


@pytest.mark.parametrize("estimator", ["em", "bbse"])
def test_classes_that_no_image_is_of_leave_the_prior_as_strong(estimator):
    """Certain decisions on 100 images of the training mix, which lack many of 40 classes."""
    counts = (200 * 0.9 ** torch.arange(40)).ceil().long()
    random = torch.Generator().manual_seed(0)
    labels = torch.multinomial(counts.double(), 100, replacement=True, generator=random)
    assert len(labels.unique()) < 30
    certain, known = torch.full((100, 40), -50.0), torch.arange(40).repeat(100)
    certain[torch.arange(100), labels] = 0.0
    found = estimate_of(estimator, certain, Predictions(known, known), counts)
    weight = 40 * found.strength / (100 + 40 * found.strength)
    assert weight > 0.6
    assert float((found.shares - counts / counts.sum()).abs().sum()) < 0.25


def test_a_row_of_the_confusion_matrix_is_a_distribution_also_without_samples():
    confusion = confusion_of(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 2]), 4)
    assert confusion.sum(dim=1).tolist() == pytest.approx([1] * 4)
    assert confusion[1].tolist() == [0.25] * 4


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(ConfigError, match="expected a number of images from 0"):
        estimate_em(torch.zeros(4, 2), torch.tensor([1, 1]), strength=strength)
