from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch.nn.functional import one_hot

from lort_hub.heads.choose import fit_by_name
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitted import Fit
from lort_hub.heads.methods import METHODS, STACK, STACKED
from lort_hub.heads.scorers import SCORERS, calibration_scale
from lort_hub.heads.search import fold_heads_of, select
from lort_hub.heads.selected import fit_selected, make_validator
from lort_hub.heads.stack import MEMBER_TOLERANCE, choose_weights, combine, fit_stack
from lort_hub.heads.sum_weights import (
    SLOPE,
    SLOPE_SAMPLES,
    TAU,
    best_weights,
    centred_log_counts,
    choose_members,
    choose_slope,
    weighted_sum,
)
from lort_hub.heads.training_set import TrainingSet
from tests.support.features import clusters

COUNTS = torch.tensor([300, 90, 30])
LABELS = torch.repeat_interleave(torch.arange(3), COUNTS)


def views(*strengths, seed=0):
    """Calibrated logits that tell the class through noise of their own, by name."""
    random = torch.Generator().manual_seed(seed)
    noise = [torch.randn(len(LABELS), 3, generator=random) for _ in strengths]
    logits = [s * one_hot(LABELS, 3) + n for s, n in zip(strengths, noise, strict=True)]
    return {str(k): calibration_scale(z, LABELS) * z for k, z in enumerate(logits)}


def balanced_loss(total):
    wrong = 0.25 / (9 / (1 / 300 + 1 / 90 + 1 / 30) + 0.5)
    each = -total.log_softmax(dim=1)
    right = each[torch.arange(len(LABELS)), LABELS]
    each = (1 - wrong) * right + wrong * (each.sum(dim=1) - right) / 2
    return torch.stack([each[k == LABELS].mean() for k in range(3)]).mean()


@pytest.mark.parametrize(("prior", "centre"), [(0.0, "0123"), (10.0, "0123"), (10.0, "12")])
def test_the_weights_are_the_minimum_that_another_method_finds(prior, centre):
    logits = views(1.0, 0.7, 0.3, 1.5)
    log_prior = (COUNTS / COUNTS.sum()).log().double()
    z = torch.stack(list(logits.values())).double()
    samples = 9 / (1 / 300 + 1 / 90 + 1 / 30)

    def loss(parameters):
        *weights, tau = np.abs(parameters)
        shares = [weight / sum(weights) for weight in weights]
        away = [share - (str(m) in centre) / len(centre) for m, share in enumerate(shares)]
        pull = 4 * prior / samples / 2 * sum(weights) ** 2 * sum(a**2 for a in away)
        return (balanced_loss(torch.tensordot(torch.tensor(weights), z, 1) - tau * log_prior) + pull).item()

    theirs = np.abs(minimize(loss, np.ones(5), method="Powell", options={"ftol": 1e-12}).x)
    logits[TAU] = -log_prior.float().expand(len(LABELS), -1)
    ours = best_weights(logits, LABELS, centre=list(centre), prior_samples=prior)
    assert list(ours.values()) == pytest.approx(theirs, abs=5e-3)


@given(
    st.lists(st.floats(-1.5, 2.5), min_size=1, max_size=5),
    st.sampled_from([0.0, 10.0]),
    st.integers(0, 9),
    st.booleans(),
)
def test_no_small_change_of_the_weights_makes_the_samples_likelier(strengths, prior, seed, is_free):
    logits = views(*strengths, seed=seed)
    log_prior = (COUNTS / COUNTS.sum()).log().double()
    logits[TAU] = -log_prior.float().expand(len(LABELS), -1)
    found = best_weights(logits, LABELS, prior_samples=prior, free=(TAU,) if is_free else ())
    weights = torch.tensor(list(found.values()), dtype=torch.float64, requires_grad=True)
    z = torch.stack(list(logits.values())).double()
    heads = weights[:-1]
    pull = len(heads) * prior / (9 / (1 / 300 + 1 / 90 + 1 / 30)) / 2 * (heads - heads.mean()).square().sum()
    (balanced_loss(torch.tensordot(weights, z, 1)) + pull).backward()
    inside = (weights > 0) | torch.tensor([False] * len(heads) + [is_free])
    assert (weights.grad[inside].abs() < 1e-6).all()
    assert (weights.grad[~inside] > -1e-6).all()


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_found_from_a_start_that_is_far_too_sure(seed):
    """Newton's first step is too long by many powers of ten there."""
    random, counts = torch.Generator().manual_seed(seed), torch.tensor([100, 50, 20, 5, 1])
    labels = torch.arange(5).repeat_interleave(5)
    log_prior = (counts / counts.sum()).log()
    noise = torch.randn(25, 5, generator=random)
    logits = {
        "scale": 0.1 * one_hot(labels, 5) + 0.1 * noise + 20 * log_prior,
        "kept": -log_prior.expand(25, -1),
    }
    found = torch.tensor(list(best_weights(logits, labels, free=("kept",)).values()), dtype=torch.float64)
    z, wrong = torch.stack(list(logits.values())).double(), 0.25 / (25 + 0.5)

    def loss(weights):
        each = -torch.tensordot(torch.as_tensor(weights), z, 1).log_softmax(dim=1)
        right = each[torch.arange(25), labels]
        return ((1 - wrong) * right + wrong * (each.sum(dim=1) - right) / 4).mean().item()

    start = np.array([1.0, 20.0])
    theirs = minimize(loss, start, method="Powell", bounds=[(0, 1e4), (-1e6, 1e6)], options={"ftol": 1e-14})
    assert loss(found) <= theirs.fun + 1e-7


def test_a_head_that_is_constant_keeps_its_weight():
    constant = torch.full((len(LABELS), 3), 0.3)
    found = best_weights({"head": views(1.0)["0"], "flat": constant}, LABELS, free=("flat",))
    assert found["flat"] == pytest.approx(0.5, abs=1e-3)


def test_heads_that_no_sample_tells_apart_share_the_weight():
    sure = {name: 40.0 * one_hot(LABELS, 3).float() for name in "abc"}
    weights, _ = choose_members(sure, LABELS, COUNTS)
    assert weights["a"] == pytest.approx(weights["b"]) == pytest.approx(weights["c"])


@pytest.mark.parametrize("favoured", ["0", "1"])
def test_of_few_samples_the_favoured_heads_are_taken_and_many_samples_decide_themselves(favoured):
    heads = views(2.0, 1.0)
    one_each = torch.tensor([0, 300, 390])
    few = {name: z[one_each] for name, z in heads.items()}
    assert list(choose_members(few, LABELS[one_each], COUNTS, favoured=favoured)[0]) == [favoured]
    assert set(choose_members(heads, LABELS, COUNTS, favoured=favoured)[0]) == {"0", "1"}


def test_what_is_left_of_the_training_mix_in_all_heads_is_taken_out():
    log_prior = (COUNTS / COUNTS.sum()).log()
    half, whole = ({n: z + left * log_prior for n, z in views(1.5, 1.5).items()} for left in (0.5, 1.0))
    weights, tau = choose_members(half, LABELS, COUNTS)
    more_of_it = tau + 0.5 * sum(weights.values())
    assert choose_members(whole, LABELS, COUNTS) == (
        pytest.approx(weights, rel=1e-4),
        pytest.approx(more_of_it),
    )


def test_no_weight_is_negative_where_the_best_of_all_sums_would_have_one():
    good = views(1.0)["0"]
    assert best_weights({"good": good, "wrong": -one_hot(LABELS, 3).float()}, LABELS)["wrong"] == 0


def test_a_head_that_brings_nothing_is_dropped_and_those_that_do_stay():
    logits = views(1.5, 1.5, 0.0, 0.0)
    kept, tau = choose_members(logits, LABELS, COUNTS)
    assert list(kept) == ["0", "1"]
    assert (kept, tau) == choose_members({name: logits[name] for name in "01"}, LABELS, COUNTS)
    assert kept["0"] == pytest.approx(kept["1"], rel=0.3)


def test_the_same_head_twice_is_the_head():
    head = views(1.5)["0"]
    twice, tau = choose_members({"one": head, "other": head.clone()}, LABELS, COUNTS)
    once, tau_of_one = choose_members({"one": head}, LABELS, COUNTS)
    assert twice["one"] == pytest.approx(twice["other"])
    assert sum(twice.values()) == pytest.approx(once["one"], rel=1e-3)
    assert tau == pytest.approx(tau_of_one, abs=1e-3)


@pytest.fixture(scope="module")
def problem():
    training, centres = clusters(counts=(200, 80, 40, 20), dim=10, noise=2.5)
    labels = torch.arange(4).repeat(1500)
    noise = torch.randn(len(labels), 10, generator=torch.Generator().manual_seed(5))
    return training, centres[labels] + 2.5 * noise, labels


@pytest.fixture(scope="module")
def stacked(problem):
    training, _, _ = problem
    return fit_stack(training, baseline=fit_head(training, "ce"))


def test_a_stack_is_the_weighted_sum_of_its_calibrated_members(problem, stacked):
    training, x, _ = problem
    baseline = fit_head(training, "ce")
    assert set(stacked.settings) <= {*STACKED, TAU, SLOPE}
    validator = make_validator(training, baseline, None, 0)
    scales = choose_weights(validator, stacked.choice.selections).scales
    assert scales == stacked.choice.scales
    expected = torch.zeros(4)
    for name, weight in stacked.choice.weights.items():
        selection = stacked.choice.selections[name]
        selection = replace(selection, start=validator.mean_head(selection.held_out))
        how = {"baseline": baseline, "tolerance": MEMBER_TOLERANCE}
        head = baseline if name == "ce" else fit_selected(training, name, selection, **how)
        expected = expected + weight * scales[name] * head.linear.logits(x)
    log_counts = torch.tensor([200, 80, 40, 20]).log()
    log_counts -= log_counts.mean()
    expected = (1 + stacked.settings[SLOPE] * log_counts) * (expected - expected.mean(dim=1, keepdim=True))
    expected -= stacked.settings[TAU] * log_counts
    assert abs(stacked.settings[SLOPE]) > 1e-3
    torch.testing.assert_close(stacked.logits(x), expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(stacked.logits(x), x @ stacked.weight.T + stacked.bias)


def test_a_stack_means_what_it_says_and_is_not_worse_than_its_candidates(problem, stacked):
    training, x, labels = problem
    top, predicted = stacked.logits(x).softmax(dim=1).max(dim=1)
    accuracy = (predicted == labels).float().mean()
    assert abs(top.mean() - accuracy) < 0.05
    for name in STACKED:
        single = (fit_head(training, name).logits(x).argmax(dim=1) == labels).float().mean()
        assert accuracy > single - 0.01


def test_the_reason_names_each_member_with_its_weight_and_the_best_head_alone(stacked):
    scores = stacked.choice.scores
    assert list(scores) == [*STACKED, STACK]
    best = max(STACKED, key=lambda name: scores[name])
    for name, weight in stacked.choice.weights.items():
        assert f"{weight:.2f} {name}" in stacked.reason
    assert f"has NLL {-scores[STACK]:.3f} on held-out training images" in stacked.reason
    in_sample = ", with weights found on the same images; the best "
    assert stacked.reason.endswith(f"{in_sample}of 6 methods alone, {best}, has NLL {-scores[best]:.3f}")


def test_few_images_draw_to_the_candidates_that_decide_for_balanced_classes():
    training, _ = clusters(counts=(30, 6, 3), noise=3.0)
    validator = make_validator(training, fit_head(training, "ce"), None, 0)
    selections = {name: select(validator, METHODS[name]) for name in ("ce", "eb-lda", "balanced-softmax")}
    choice = choose_weights(validator, selections)
    logits = {}
    for name, selection in selections.items():
        z, labels = validator.held_out_logits(fold_heads_of(validator, METHODS[name], selection))
        logits[name] = choice.scales[name] * z
    chosen, any_of_them = (
        choose_members(logits, labels, training.class_counts, favoured=favoured)
        for favoured in (["eb-lda", "balanced-softmax"], list(selections))
    )
    factor = choice.weights["eb-lda"] / chosen[0]["eb-lda"]
    assert choice.weights == pytest.approx({name: factor * w for name, w in chosen[0].items()}, rel=1e-4)
    assert choice.weights.get("ce", 0) < any_of_them[0].get("ce", 0) - 0.02


@pytest.mark.parametrize("counts", [(30, 1), (30, 1, 1), (10, 1, 1, 1, 1), (1, 1, 1)])
def test_where_one_class_alone_can_be_held_out_the_balanced_heads_are_taken_alike(counts):
    training, _ = clusters(counts=counts)
    fit = fit_stack(training, baseline=fit_head(training, "ce"))
    chosen = fit.choice.weights
    assert {"eb-lda", "balanced-softmax", "lort"} <= set(chosen) <= {*STACKED} - {"ce", "crt"}
    assert max(chosen.values()) == pytest.approx(min(chosen.values()), rel=1e-3)
    assert (fit.choice.tau, fit.choice.slope) == (0, 0)


def test_the_weights_do_not_depend_on_a_class_without_held_out_samples():
    """Other classes' samples would say no more of it than that it is best never predicted."""
    training, _ = clusters(counts=(40, 20, 1), noise=2.0)
    validator = make_validator(training, fit_head(training, "ce"), None, 0)
    selections = {name: select(validator, METHODS[name]) for name in ("ce", "balanced-softmax")}
    choice = choose_weights(validator, selections)
    logits = {}
    for name, selection in selections.items():
        z, labels = validator.held_out_logits(fold_heads_of(validator, METHODS[name], selection))
        assert choice.scales[name] == pytest.approx(calibration_scale(z[:, :2], labels), rel=1e-6)
        logits[name] = choice.scales[name] * (z - z.mean(dim=1, keepdim=True))[:, :2]
    weights, tau = choose_members(logits, labels, training.class_counts[:2], favoured=["balanced-softmax"])
    log_counts, scored = centred_log_counts(training.class_counts), torch.tensor([True, True, False])
    expected = choose_slope(logits, labels, {**weights, TAU: tau}, log_counts, scored)
    assert {**choice.weights, TAU: choice.tau, SLOPE: choice.slope} == pytest.approx(expected, rel=1e-4)


def test_all_members_predict_the_same_held_out_samples(problem):
    training, _, _ = problem
    held = torch.arange(len(training.labels)) % 4 == 0
    training = type(training)(training.x, training.labels, 4, held)
    validator = make_validator(training, fit_head(training, "ncm"), None, 0)
    for name in ("ncm", "lort", "logit-adjust"):
        chosen = select(validator, METHODS[name]).chosen
        heads = next(validator.fold_heads(METHODS[name], [chosen]))
        logits, labels = validator.held_out_logits(heads)
        assert labels.equal(training.labels[held])
        assert logits.shape == (len(labels), 4)


def test_the_sum_of_a_single_member_is_that_head_and_the_log_prior(problem):
    training, _, _ = problem
    validator = Validator(training)
    choice = choose_weights(validator, {"ncm": select(validator, METHODS["ncm"])})
    assert choice.scores[STACK] >= choice.scores["ncm"]
    fit, weight = fit_head(training, "ncm"), choice.weights["ncm"]
    log_counts = centred_log_counts(training.class_counts).float()
    factors = weight * (1 + choice.slope * log_counts)
    settings = {"ncm": weight, TAU: choice.tau, SLOPE: choice.slope}
    head = combine({"ncm": fit}, settings, training.class_counts)
    torch.testing.assert_close(head.weight, factors[:, None] * (fit.weight - fit.weight.mean(dim=0)))
    bias = factors * (fit.bias - fit.bias.mean()) - choice.tau * log_counts
    torch.testing.assert_close(head.bias, bias)
    assert choice.scores["ncm"] == pytest.approx(
        SCORERS["nll"](next(validator.cross_validate(METHODS["ncm"], [{}]))), abs=1e-4
    )


def centred(logits):
    return {name: z - z.mean(dim=1, keepdim=True) for name, z in logits.items()}


@pytest.mark.parametrize("slope", [-0.2, 0.0, 0.3])
def test_scales_that_follow_the_class_sizes_are_found_again(slope):
    """Labels are drawn from the very probabilities, all classes as likely, so that the truth is known."""
    random, counts = torch.Generator().manual_seed(1), torch.tensor([900, 90, 30, 5])
    log_counts = centred_log_counts(counts)
    drawn = torch.randn(200_000, 4, generator=random)
    z = centred({"head": 2 * drawn})
    truth = {"head": 1.5, TAU: 0.4, SLOPE: slope}
    labels = weighted_sum(z, truth, log_counts).softmax(dim=1).multinomial(1, generator=random)[:, 0]
    keep = torch.cat([(labels == k).nonzero()[:20_000, 0] for k in range(4)])
    shift = torch.bincount(labels, minlength=4).double().log()  # as kept in equal parts, Bayes' rule
    found = choose_slope({"head": z["head"][keep]}, labels[keep], {"head": 1.0, TAU: 0.0}, log_counts)
    line = float(log_counts @ shift / (log_counts @ log_counts))
    assert (shift - shift.mean() - line * log_counts).abs().max() < 0.3  # nearly a line, that TAU takes in
    assert found["head"] == pytest.approx(1.5, abs=0.1)
    assert found[SLOPE] == pytest.approx(slope, abs=0.03)


def test_the_slope_is_the_minimum_that_another_method_finds():
    z, log_counts = centred(views(1.0, 0.7)), centred_log_counts(COUNTS)
    total = 0.6 * z["0"].double() + 0.5 * z["1"].double()
    samples = 9 / (1 / 300 + 1 / 90 + 1 / 30)

    def loss(parameters):
        factor, moved, tau = parameters
        pull = 2 * SLOPE_SAMPLES / samples / 2 * 2 * moved**2
        return (balanced_loss((factor + moved * log_counts) * total - abs(tau) * log_counts) + pull).item()

    factor, moved, tau = minimize(
        loss, [1.0, 0.0, 0.1], method="Powell", options={"xtol": 1e-9, "ftol": 1e-14}
    ).x
    found = choose_slope(z, LABELS, {"0": 0.6, "1": 0.5, TAU: 0.0}, log_counts)
    expected = {"0": 0.6 * factor, "1": 0.5 * factor, TAU: abs(tau), SLOPE: moved / factor}
    assert found == pytest.approx(expected, abs=1e-3)


def test_classes_whose_logits_are_wrong_turn_no_scale_around():
    """The best line would take the logits of frequent classes times less than 0."""
    counts = torch.tensor([1000] * 3 + [20] * 3)
    labels = torch.arange(6).repeat_interleave(200)
    random = torch.Generator().manual_seed(0)
    sign = torch.tensor([-1.0] * 3 + [1.0] * 3)
    z = centred({"head": 3 * sign * one_hot(labels, 6) + torch.randn(1200, 6, generator=random)})["head"]
    settings = {"head": 0.5, TAU: 0.1}
    log_counts = centred_log_counts(counts)
    line = log_counts.float()
    best = best_weights(
        {"sum": 0.5 * z, "slope": 0.5 * line * z, TAU: -line.expand_as(z)}, labels, free=["slope"]
    )
    assert (best["sum"] + best["slope"] * log_counts).min() < 0
    assert choose_slope({"head": z}, labels, settings, log_counts) == {**settings, SLOPE: 0.0}


def test_few_samples_leave_the_scales_of_all_classes_alike():
    few = torch.tensor([0, 1, 300, 301, 390, 391])
    z = {name: logits[few] for name, logits in centred(views(1.0)).items()}
    assert abs(choose_slope(z, LABELS[few], {"0": 1.0, TAU: 0.0}, centred_log_counts(COUNTS))[SLOPE]) < 2e-3


def test_weights_are_the_same_to_five_digits_in_any_order_of_the_samples():
    order = torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(3))
    logits = views(1.0, 0.7, 1.5)
    first = best_weights(logits, LABELS)
    second = best_weights({name: z[order] for name, z in logits.items()}, LABELS[order])
    assert second == pytest.approx(first, rel=1e-6)


@pytest.fixture(scope="module", params=["all unseen", "a third unseen"])
def noisy(request):
    """Few samples of many channels, where coarse solves end far from the optimum."""
    training = clusters(counts=(60, 20, 8), dim=40, noise=2.0)[0]
    held_out = None if request.param == "all unseen" else torch.arange(88) % 3 == 0
    return TrainingSet(training.x, training.labels, 3, held_out)


@pytest.mark.parametrize("name", ["auto", "tau-norm"])
def test_a_head_is_the_same_from_a_baseline_fitted_now_or_cached(noisy, name):
    """A coarse solve ends where its path led it, so heads of folds are fitted along the same path again."""
    fits = [fit_head(noisy, "ce"), fit_head(noisy, "lort")]
    cached = [Fit.from_cache(*fit.to_cache()) for fit in fits]
    first, *others = (
        fit_by_name(noisy, name, known=known, settings={})
        for known in (fits, cached, fits[:1], [fits[0], cached[1]])
    )
    for other in others:
        assert other.settings == first.settings
        assert other.weight.equal(first.weight)
        assert other.bias.equal(first.bias)
