import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from lort_hub.errors import FeatureError
from lort_hub.heads import rescaling
from lort_hub.heads.base import FitCache, FitInputs, LinearHead
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitters import fit_method
from lort_hub.heads.methods import METHODS
from lort_hub.heads.posthoc import lort_step
from lort_hub.heads.rescaling import learned_weight_scaling
from lort_hub.heads.search import setting_paths
from lort_hub.heads.training_set import TrainingSet
from tests.support.features import clusters

DECAY = 0.02
COUNTS = torch.tensor([30, 12, 5])
SHARES = COUNTS.double() / COUNTS.sum()
BALANCED = 1 / (3 * COUNTS.double())
"""Weight of each sample of a class, where classes weigh the same."""
LORT = 3 / (3 + 100 * (1 - 0.98) / 0.98)
"""LORT's delta at three classes: the logit gap that 0.98 has at 100."""


@pytest.fixture(scope="module")
def inputs():
    training, _ = clusters(counts=COUNTS.tolist(), dim=4)
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(3, 4, generator=generator), torch.randn(3, generator=generator)
    return FitInputs(training, base=base, tolerance=1e-7)


def fitted(inputs, name, **settings):
    first = setting_paths(METHODS[name], inputs.training, {})[0][0]
    return fit_method(METHODS[name], inputs, {**first, **settings})


def optimum(inputs, loss, decay=DECAY):
    """Head (K, D), (K,) that minimises a loss of logits plus a ridge, by SciPy in float64."""
    x = inputs.training.x.double()

    def value(flat):
        parameters = torch.tensor(flat, requires_grad=True)
        weight, bias = parameters[:12].view(3, 4), parameters[12:]
        total = loss(x @ weight.T + bias, inputs.training.labels) + decay / 2 * weight.square().sum()
        total.backward()
        return total.item(), parameters.grad.numpy()

    best = minimize(value, np.zeros(15), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    return torch.tensor(best[:12]).view(3, 4), torch.tensor(best[12:])


def check(head, weight, bias):
    """The same head, up to what is common to all classes."""
    scale = weight.abs().max().item()
    torch.testing.assert_close(
        head.weight - head.weight.mean(dim=0),
        (weight - weight.mean(dim=0)).float(),
        atol=1e-4 * scale,
        rtol=0,
    )
    torch.testing.assert_close(
        head.bias - head.bias.mean(), (bias - bias.mean()).float(), atol=1e-3 * scale, rtol=0
    )


@pytest.mark.parametrize("name", METHODS)
def test_every_method_ends_in_finite_logits_and_a_linear_head_where_it_says_so(name, inputs):
    head = fitted(inputs, name)
    x = torch.cat([inputs.training.x, torch.zeros(1, 4)])
    logits = head.logits(x)
    assert logits.shape == (48, 3)
    assert logits.isfinite().all()
    assert isinstance(head, LinearHead) == METHODS[name].linear
    if METHODS[name].linear:
        torch.testing.assert_close(logits, x @ head.weight.T + head.bias)
    else:  # what is not exported could not be: no linear head has these logits
        u = torch.cat([x, torch.ones(48, 1)], dim=1).double()
        linear = u @ torch.linalg.lstsq(u, logits.double()).solution
        assert (linear - logits).abs().max() > 1e-3


def test_crt_equals_scikit_learn_with_balanced_class_weights(inputs):
    x, labels = inputs.training.x, inputs.training.labels
    theirs = LogisticRegression(
        C=1 / (DECAY * len(x)), class_weight="balanced", tol=1e-10, max_iter=10_000
    ).fit(x.double(), labels)
    head = fitted(inputs, "crt", weight_decay=DECAY)
    check(head, torch.from_numpy(theirs.coef_), torch.from_numpy(theirs.intercept_))


def cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


def smoothed(logits, labels):
    return F.cross_entropy(logits, labels, label_smoothing=LORT, reduction="none")


def label_aware(logits, labels):
    """MiSLAS: the largest class is smoothed by 0.2, the smallest not, as a quarter of a sine between."""
    epsilon = torch.tensor([0.2 * math.sin(math.pi / 2 * (n - 5) / (30 - 5)) for n in COUNTS.tolist()])
    soft = F.one_hot(labels, 3) * (1 - epsilon[labels, None]) + epsilon[labels, None] / 3
    return -(soft * logits.log_softmax(dim=1)).sum(dim=1)


@pytest.mark.parametrize(
    ("name", "losses", "prior", "balance", "given"),
    [
        ("ce", cross_entropy, 0, 0, {}),
        ("balanced-softmax", cross_entropy, 1, 0, {}),
        ("balanced-softmax+lort", smoothed, 1, 0, {}),
        ("crt+lort", smoothed, 0, 1, {}),
        ("lort", smoothed, 0, 0.5, {"gamma": 0.5}),
        ("las", label_aware, 0, 1, {"delta": 0.2}),
    ],
)
def test_heads_are_the_optimum_of_their_equation(name, losses, prior, balance, given, inputs):
    omega = COUNTS.double() ** -balance
    omega = (omega / (omega * COUNTS).sum())[inputs.labels]
    best = optimum(inputs, lambda z, y: omega @ losses(z + prior * SHARES.log(), y))
    check(fitted(inputs, name, weight_decay=DECAY, **given), *best)


def test_lws_with_lort_is_lws_with_lort_s_labels(inputs):
    weight, bias = learned_weight_scaling(*inputs.base, inputs.matrix, inputs.labels, COUNTS, delta=LORT)
    head = fitted(inputs, "lws+lort")
    torch.testing.assert_close(head.weight, weight)
    assert head.bias.equal(bias)


def spread(head, x):
    return head.logits(x).std(dim=1).mean().item()


def test_lws_is_its_learned_scales_with_logits_as_large_as_the_trained_head_s(inputs):
    weight, bias = learned_weight_scaling(*inputs.base, inputs.matrix, inputs.labels, COUNTS)
    head, x = fitted(inputs, "lws"), inputs.training.x
    factor = (head.weight / weight).mean()
    torch.testing.assert_close(head.weight, factor * weight)
    torch.testing.assert_close(head.bias, factor * bias)
    assert spread(head, x) == pytest.approx(spread(LinearHead(*inputs.base), x), rel=1e-5)


@pytest.mark.parametrize(("name", "limit"), [("lws", "LWS_ITERATIONS"), ("disalign", "DISALIGN_ITERATIONS")])
def test_a_head_without_a_minimum_is_not_larger_the_longer_its_solver_goes_on(name, limit, monkeypatch):
    training, _ = clusters(noise=0.3)
    base = fit_method(METHODS["ce"], FitInputs(training), {"weight_decay": 1e-2})
    inputs, spreads = FitInputs(training, base=(base.weight, base.bias)), []
    for iterations in (3, 30):
        monkeypatch.setattr(rescaling, limit, iterations)
        spreads.append(spread(fitted(inputs, name), training.x))
    assert spreads == pytest.approx(2 * [spread(base, training.x)], rel=1e-5)


def test_closed_forms_by_their_equations(inputs):
    (weight, bias), x, labels = inputs.base, inputs.training.x, inputs.labels
    tau = fitted(inputs, "tau-norm", power=0.7)
    torch.testing.assert_close(tau.weight, weight / weight.norm(dim=1, keepdim=True) ** 0.7)
    assert tau.bias.tolist() == [0, 0, 0]
    adjusted = fitted(inputs, "logit-adjust", tau=1.5)
    assert adjusted.weight.equal(weight)
    torch.testing.assert_close(adjusted.bias, bias - 1.5 * SHARES.log().float())
    linear = fitted(inputs, "linear-adjust", strength=0.8)
    torch.testing.assert_close(linear.bias, bias - 0.8 * 3 * SHARES.float())
    path = fitted(inputs, "lort-path", strength=0.8)
    means = torch.stack([x[labels == k].mean(dim=0) for k in range(3)])
    expected = weight - 0.8 * 3 * SHARES.float()[:, None] * means / (x.mean(dim=0).square().sum() + 1)
    torch.testing.assert_close(path.weight, expected)
    assert path.weight.equal(lort_step(weight, bias, inputs.sums, strength=0.8)[0])
    nearest = NearestCentroid().fit(x, labels).predict(x)
    assert fitted(inputs, "ncm").logits(x).argmax(dim=1).tolist() == nearest.tolist()


def test_maxnorm_s_radius_is_a_share_of_the_longest_weight_of_crt_on_all_samples(inputs):
    decay = setting_paths(METHODS["maxnorm"], inputs.training, {})[0][0]["weight_decay"]
    free = fitted(inputs, "crt", weight_decay=decay)
    longest = free.weight.norm(dim=1).max().item()
    training, _ = clusters(counts=COUNTS.tolist(), dim=4)
    for mask in (torch.arange(COUNTS.sum()) % 5 > 0, None):  # a fold, then all
        samples = FitInputs(training, mask, tolerance=1e-7)
        norms = fitted(samples, "maxnorm", share=0.4).weight.norm(dim=1)
        assert norms.max().item() == pytest.approx(0.4 * longest, rel=1e-3)
    assert torch.equal(fitted(inputs, "maxnorm", share=1.0).weight, free.weight)


@pytest.mark.parametrize("changed", [{"share": 0.3}, {"weight_decay": 0.1}, {"delta": 0.5}])
def test_maxnorm_s_head_does_not_depend_on_what_was_fitted_before(changed, inputs):
    alone, after = (replace(inputs, cache=FitCache()) for _ in range(2))
    fitted(after, "maxnorm", share=0.8)
    expected, said = (fitted(each, "maxnorm", **{"share": 0.5, **changed}) for each in (alone, after))
    thousandth = 1e-3 * float(expected.weight.abs().max())  # to which the multipliers are exact
    torch.testing.assert_close(said.weight, expected.weight, atol=thousandth, rtol=0)


def test_ldam_is_the_cosine_classifier_with_a_margin(inputs):
    plain = fitted(inputs, "cosine", scale=8.0)
    assert fitted(inputs, "ldam", scale=8.0, margin=0.0).weight.equal(plain.weight)
    assert not fitted(inputs, "ldam", scale=8.0).weight.equal(plain.weight)
    logits = plain.logits(inputs.training.x)
    torch.testing.assert_close(
        logits, 8 * torch.cosine_similarity(inputs.training.x[:, None], plain.weight, 2)
    )


class Miscounted(FitInputs):
    """A sample that lies about how many images its classes have."""

    @property
    def class_counts(self):
        return COUNTS.flip(0)


COUNTING = {
    "lort": {"gamma": 1.0},
    "cosine": {"gamma": 1.0},
    "logit-adjust": {"tau": 1.0},
    "lort-path": {"strength": 1.0},
    "linear-adjust": {"strength": 1.0},
}
"""Settings under which a method counts, if it ever does."""


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_needs_no_counts_reads_none_and_one_that_does_obeys_them(name, inputs):
    settings = {**setting_paths(METHODS[name], inputs.training, {})[0][0], **COUNTING.get(name, {})}
    x = inputs.training.x
    logits = fit_method(METHODS[name], inputs, settings).logits(x)
    miscounted = Miscounted(inputs.training, base=inputs.base, tolerance=inputs.tolerance)
    lied = fit_method(METHODS[name], miscounted, settings).logits(x)
    assert torch.equal(lied, logits) != METHODS[name].needs_counts


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_needs_no_base_does_not_see_it(name, inputs):
    settings = setting_paths(METHODS[name], inputs.training, {})[0][0]
    other = replace(inputs, base=(torch.ones(3, 4), torch.arange(3.0)))
    first, second = (fit_method(METHODS[name], s, settings).logits(s.training.x) for s in (inputs, other))
    assert torch.equal(first, second) != METHODS[name].needs_base


def test_a_class_that_is_held_out_whole_has_no_mean_and_why_is_said(inputs):
    held_out = TrainingSet(inputs.training.x, inputs.training.labels, 3, inputs.training.labels == 2)
    with pytest.raises(FeatureError, match=r"classes \[2\] were held out(.|\n)*such as `eb-lda`"):
        fit_head(held_out, "ncm")
    assert fit_head(held_out, "eb-lda").logits(inputs.training.x).isfinite().all()
