import functools

import pytest
import torch

from lort_hub.errors import ConfigError
from lort_hub.heads.base import FitInputs
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitters import fit_method
from lort_hub.heads.methods import (
    BALANCING,
    BEST_OF,
    METHODS,
    check_settings,
    class_mix,
    methods_table,
)
from lort_hub.heads.search import setting_paths
from lort_hub.heads.training_set import TrainingSet
from tests.support.features import clusters

COUNTS = torch.tensor([240, 160, 104, 72, 48, 32, 21, 14, 10, 6])


def test_best_is_of_methods_that_export_the_simplest_first():
    assert all(METHODS[name].linear for name in BEST_OF)
    assert list(BEST_OF) == sorted(BEST_OF, key=list(METHODS).index)
    assert BEST_OF[0] == "ce"


def test_the_table_of_methods_is_whole():
    header, _, *lines = methods_table().replace("\\|", "").splitlines()
    assert [line.split("|")[1].strip(" `") for line in lines] == list(METHODS)
    assert {line.count("|") for line in (header, *lines)} == {8}


@functools.cache
def many_classes():
    """Ten overlapping classes of features that are zero or positive, as a backbone's, and a balanced test."""
    random = torch.Generator().manual_seed(1)
    means = 0.5 + 0.5 * torch.randn(10, 32, generator=random)
    labels = torch.repeat_interleave(torch.arange(10), COUNTS)
    x = 1.5 * torch.relu(means[labels] + torch.randn(len(labels), 32, generator=random))
    test = 1.5 * torch.relu(means.repeat(200, 1) + torch.randn(2000, 32, generator=random))
    return TrainingSet(x, labels, 10), test


@functools.cache
def two_classes():
    """Gaussians of deviation 1 about -1 and 1, with 1,800 samples and 200."""
    labels = torch.tensor([0] * 1800 + [1] * 200)
    noise = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
    return TrainingSet(2.0 * labels[:, None] - 1 + noise, labels, 2)


@functools.cache
def trained_head(training, step):
    ce = METHODS["ce"]
    head = fit_method(ce, FitInputs(training), setting_paths(ce, training, {})[0][step])
    return head.weight, head.bias


def fitted(name, training, dial, step):
    """Head and settings with the balancing setting at a value and the weight decay of a step on its path."""
    method = METHODS[name]
    path = setting_paths(method, training, {})[0]
    chosen = {**path[step if method.path == "weight_decay" else -1]}
    chosen |= {key: dial for key in BALANCING if key in method.grid}
    return fit_method(method, FitInputs(training, base=trained_head(training, step)), chosen), chosen


DIALLED = [(name, 1.0) for name in METHODS]
DIALLED += [
    (name, 0.0) for name, method in METHODS.items() if any(0.0 in method.grid.get(d, ()) for d in BALANCING)
]


TAU_NORM = "tau-norm"
"""It drops the bias, so what it decides for depends on where zero lies among the features."""


@pytest.mark.parametrize(("name", "dial"), [one for one in DIALLED if one[0] != TAU_NORM])
def test_a_head_decides_for_the_class_mix_that_its_method_states(name, dial):
    training, test = many_classes()
    head, settings = fitted(name, training, dial, step=4)
    frequent = float((head.logits(test).argmax(dim=1) < 5).float().mean())  # half of the test images
    low, high = {"training": (0.68, 1), "balanced": (0.38, 0.68), "inverse": (0, 0.38)}[
        class_mix(name, settings)
    ]
    assert low <= frequent < high


EXACT = ("ncm", "eb-lda", "crt", "balanced-softmax", "crt+lort", "lort", "logit-adjust", "maxnorm")


@pytest.mark.parametrize(("name", "dial"), [("ce", 1.0), ("lort", 0.0), *((name, 1.0) for name in EXACT)])
def test_a_balanced_threshold_lies_midway_and_another_lies_towards_the_rare_class(name, dial):
    training = two_classes()
    head, settings = fitted(name, training, dial, step=8)
    weight, bias = head.weight[:, 0], head.bias
    threshold = float((bias[0] - bias[1]) / (weight[1] - weight[0]))
    if class_mix(name, settings) == "balanced":
        assert abs(threshold) < 0.15
    else:
        assert threshold > 0.8  # log(9) / 2 = 1.1 by Bayes' rule


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("ncm", {"gamma": 0.5}, "'ncm' has no setting `gamma`; it has none"),
        ("tau-norm", {"weight_decay": 0.1}, "'tau-norm' has no setting `weight_decay`; it has: power"),
        ("maxnorm", {"delta": 0.1}, "has no setting `delta`"),
        ("tau-norm", {"solver": "sgd"}, "not a point of the objective"),
        ("ce", {"weight_decay": 0.0}, "has no minimum"),
        ("lort", {"weight_decay": 0.0, "delta": 0.0}, "has no minimum"),
        ("lort", {"weight_decay": 0.0, "solver": "closed-form"}, "has no minimum"),
        ("lort-published", {"solver": "closed-form"}, "has no minimum"),
        ("lort", {"delta": 0.0, "solver": "closed-form"}, "is the limit of over-smoothed labels"),
        ("balanced-softmax+lort", {"solver": "closed-form"}, "is the limit of over-smoothed labels"),
    ],
)
def test_settings_that_a_method_cannot_have_are_refused(method, given, message):
    with pytest.raises(ConfigError, match=message):
        check_settings(method, given)


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("lort", {"weight_decay": 0.0}),
        ("ce", {"weight_decay": 0.0, "delta": 0.1}),
        ("ce", {"weight_decay": 0.0, "solver": "sgd"}),
        ("maxnorm", {"weight_decay": 1e-3}),
        ("balanced-softmax", {"gamma": 0.5, "solver": None}),
    ],
)
def test_settings_that_a_method_can_have_are_not_refused(method, given):
    training, _ = clusters(counts=(8, 5, 3))
    check_settings(method, given)
    assert fit_head(training, method, **given, calibrate=False).weight.isfinite().all()
