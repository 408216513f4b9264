import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score

from lort_hub.errors import ConfigError
from lort_hub.heads.best import choose_method
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.fit import fit_head
from lort_hub.heads.folds import FoldHeads
from lort_hub.heads.methods import GAMMAS, METHODS, RELATIVE_DECAYS
from lort_hub.heads.scorers import SCORERS, standard_error
from lort_hub.heads.search import _decisive_lead, select, setting_paths
from lort_hub.heads.training_set import TrainingSet
from tests.support.features import clusters

LORT, ACCURACY = METHODS["lort"], SCORERS["balanced-accuracy"]
DELTA = 3 / (3 + 100 * (1 - 0.98) / 0.98)
"""LORT's delta at three classes: the logit gap that 0.98 has at 100."""


@pytest.fixture(scope="module")
def training():
    return clusters(counts=(30, 12, 5), dim=4)[0]


def test_a_backbone_s_training_images_do_not_choose():
    # The backbone has memorised what it was trained on: only unseen samples can tell heads apart.
    training, _ = clusters()
    x, labels = training.x.clone(), training.labels
    held = torch.arange(len(labels)) % 4 == 0
    x[~held] += 50 * torch.nn.functional.one_hot(labels[~held], x.shape[1])
    plain = {"delta": 0.98, "gamma": 0.0}
    choice = select(Validator(TrainingSet(x, labels, 3, held)), LORT, plain)
    assert choice.validation == f"the {int(held.sum())} images held out of the backbone's training"
    for tried in choice.candidates[:2]:
        weight_decay = tried["weight_decay"]
        ridge = Ridge(alpha=3 * weight_decay * int((~held).sum())).fit(x[~held], torch.eye(3)[labels[~held]])
        predicted = ridge.predict(x[held]).argmax(axis=1)
        assert tried["score"] == pytest.approx(balanced_accuracy_score(labels[held], predicted), abs=0.03)
    nothing_seen = select(Validator(TrainingSet(x, labels, 3, torch.ones_like(held))), LORT, plain)
    assert nothing_seen.validation == "leave-one-out in closed form"
    without = select(Validator(TrainingSet(x, labels, 3, torch.zeros_like(held))), LORT, plain)
    assert "on images the backbone was trained on" in without.validation


def test_choice_is_near_the_best_on_fresh_data():
    training, centres = clusters(counts=(300, 60, 12), dim=20, noise=2.0)
    generator = torch.Generator().manual_seed(9)
    fresh_labels = torch.arange(3).repeat(400)
    fresh = centres[fresh_labels] + 2.0 * torch.randn(1200, 20, generator=generator)

    def accuracy(settings):
        fit = fit_head(training, "lort", gamma=settings["gamma"], weight_decay=settings["weight_decay"])
        return float((fit.logits(fresh).argmax(1) == fresh_labels).float().mean())

    choice = select(Validator(training), LORT, {"delta": 0.83})
    chosen = accuracy(choice.chosen)
    every = [accuracy(candidate) for candidate in choice.candidates]
    assert chosen >= max(every) - 0.03
    assert chosen > sum(every) / len(every)


@pytest.mark.parametrize("method", ["lort", "ce", "crt", "maxnorm"])
def test_choice_does_not_depend_on_the_features_scale(method):
    training, _ = clusters()
    scaled = TrainingSet(32 * training.x, training.labels, 3)
    first, second = (select(Validator(t), METHODS[method]).chosen for t in (training, scaled))
    assert second.pop("weight_decay") == pytest.approx(first.pop("weight_decay") * 32**2, rel=1e-4)
    assert second == first


@pytest.mark.parametrize(
    ("method", "given", "by", "how"),
    [
        ("lort", {"gamma": 0.0}, "balanced-accuracy", "leave-one-out"),
        ("lort", {"gamma": 0.0}, "nll", "leave-one-out"),
        ("lort", {"gamma": 0.0, "delta": 0.1}, "balanced-accuracy", "cross-validation"),
        ("balanced-softmax+lort", {}, "balanced-accuracy", "cross-validation"),
        ("las", {"delta": 0.98}, "balanced-accuracy", "cross-validation"),
    ],
)
def test_closed_form_only_where_it_holds(method, given, by, how):
    training, _ = clusters(counts=(8, 6, 4))
    assert how in select(Validator(training, select_by=by), METHODS[method], given).validation


def test_given_weight_decay_is_the_only_one_tried():
    training, _ = clusters()
    choice = select(Validator(training), LORT, {"delta": 0.9, "weight_decay": 0.123})
    assert {candidate["weight_decay"] for candidate in choice.candidates} == {0.123}
    assert [candidate["gamma"] for candidate in choice.candidates] == list(GAMMAS)


def test_a_setting_the_method_lacks_is_named():
    training, _ = clusters()
    with pytest.raises(ConfigError, match="no setting gamma; it has: power"):
        select(Validator(training), METHODS["tau-norm"], {"gamma": 1.0})


def test_a_plateau_of_large_decays_does_not_end_the_walk():
    # The classes differ only along directions of small variance: large decays predict the majority alone.
    generator = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(2), torch.tensor([500, 40]))
    x = 10 * torch.randn(540, 32, generator=generator)
    x[:, :4] = 0.3 * torch.randn(540, 4, generator=generator) + 0.5 * labels[:, None]
    choice = select(Validator(TrainingSet(x, labels, 2), select_by="balanced-accuracy"), METHODS["ce"])
    scores = [tried["score"] for tried in choice.candidates]
    assert max(scores[:3]) == pytest.approx(0.5, abs=0.01)
    assert max(scores) > 0.8
    chosen = next(t for t in choice.candidates if t["weight_decay"] == choice.chosen["weight_decay"])
    assert chosen["score"] > 0.8


def test_the_simplest_setting_within_a_standard_error_wins():
    training, _ = clusters(counts=(80, 30, 10), noise=1.5)
    validator, path = Validator(training), setting_paths(METHODS["ce"], training, {}, decay_stride=2)[0]
    choice = select(validator, METHODS["ce"])
    said = dict(zip(range(len(path)), validator.predict(METHODS["ce"], path), strict=True))
    tried = len(choice.candidates)
    best = max(range(tried), key=lambda k: SCORERS["nll"](said[k]))
    within = [
        k
        for k in range(tried)
        if SCORERS["nll"](said[best]) - SCORERS["nll"](said[k]) <= standard_error(said[best], said[k], "nll")
    ]
    assert choice.chosen == path[within[0]]


def test_a_setting_that_loses_on_the_first_fold_is_scored_from_it():
    # Small decays fit the wrong labels: one fold is enough to see it.
    training, _ = clusters(counts=(400, 400, 400), dim=40)
    wrong = torch.rand(1200, generator=torch.Generator().manual_seed(0)) < 0.4
    labels = torch.where(wrong, (training.labels + 1) % 3, training.labels)
    training = TrainingSet(training.x, labels, 3)
    validator, nll = Validator(training), SCORERS["nll"]
    path = setting_paths(METHODS["ce"], training, {}, decay_stride=2)[0]
    choice = select(validator, METHODS["ce"])
    best, loser = choice.candidates[-2:]
    assert best["score"] == max(tried["score"] for tried in choice.candidates)
    every = list(zip(choice.candidates, validator.cross_validate(METHODS["ce"], path), strict=False))
    assert all(tried["score"] == nll(said) for tried, said in every[:-1])
    first = [validator.predict_folds(FoldHeads(0, said.fold_heads.heads[:1])) for _, said in every[-2:]]
    assert loser["score"] == pytest.approx(best["score"] - nll(first[0]) + nll(first[1]), abs=1e-12)
    assert best["score"] > nll(every[-1][1]) != loser["score"]


def test_of_equally_good_class_balances_the_largest_is_chosen():
    training, _ = clusters(counts=(40, 20, 1), noise=0.1)
    selection = select(Validator(training), METHODS["lort"])
    assert selection.score == 1.0
    assert {tried["gamma"] for tried in selection.candidates if tried["score"] == 1.0} == {
        0,
        0.25,
        0.5,
        0.75,
        1,
    }
    assert selection.chosen["gamma"] == 1


def test_the_choice_of_a_method_is_explained_and_on_equal_samples():
    training, _ = clusters(counts=(100, 30, 8), noise=2.0)
    ce = fit_head(training, "ce")
    validator = Validator(training, base_method=(METHODS["ce"], [ce.settings]))
    names = ("ce", "logit-adjust", "lort")
    choice = choose_method(validator, {name: select(validator, METHODS[name]) for name in names})
    again = next(validator.cross_validate(LORT, [choice.selections["lort"].chosen]))
    assert choice.scores["lort"] == SCORERS["nll"](again)
    best = max(choice.scores, key=choice.scores.get)
    assert choice.scores[best] - choice.scores[choice.method] <= choice.errors[choice.method]
    assert choice.reason.startswith(f"{choice.method} has NLL {-choice.scores[choice.method]:.3f}")
    assert all(choice.selections[name].held_out is not None for name in ("ce", "logit-adjust"))


@pytest.mark.parametrize("name", METHODS)
def test_paths_cover_every_choice_and_scale_with_the_features(name, training):
    method = METHODS[name]
    paths = setting_paths(method, training, {})
    outer = {key: values for key, values in method.grid.items() if key != method.path}
    assert len(paths) == math.prod(len(values) for values in outer.values())
    assert all(len(path) == len(method.grid.get(method.path, [None])) for path in paths)
    for path in paths:
        assert all(len({s[key] for s in path}) == 1 for key in path[0] if key != method.path)
        assert set(path[0]) >= {*method.grid, *method.fixed}
        for settings in path:
            assert settings.get("delta", DELTA) == pytest.approx(DELTA) or not method.over_smoothed
    scaled = TrainingSet(3 * training.x, training.labels, 3)
    for path, again in zip(paths, setting_paths(method, scaled, {}), strict=True):
        for first, second in zip(path, again, strict=True):
            expected = {**first}
            if "weight_decay" in method.grid:
                expected["weight_decay"] *= 9
            assert second == pytest.approx(expected, rel=1e-5)


def test_a_grid_names_its_path_and_has_at_most_one_other_setting():
    # So it is clear which one varies along a path where the caller gives the other.
    for method in METHODS.values():
        assert method.path in method.grid if method.grid else method.path is None
        assert len(method.grid) <= 2


def test_decays_are_in_units_of_the_balanced_variance_over_k_the_safest_first(training):
    x, labels = training.x.double(), training.labels
    omega = 1 / (3 * training.class_counts.double()[labels])  # classes weigh the same
    variance = (omega @ (x - omega @ x).square()).mean().item()
    [path] = setting_paths(METHODS["crt"], training, {})
    found = [settings["weight_decay"] for settings in path]
    assert found == pytest.approx([variance / 3 * decay for decay in RELATIVE_DECAYS], rel=1e-5)
    assert found == sorted(found, reverse=True)
    assert [
        s["weight_decay"] for s in setting_paths(METHODS["crt"], training, {}, decay_stride=2)[0]
    ] == found[::2]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("lort", {"gamma": 0.3}),
        ("lort", {"gamma": 0.3, "weight_decay": 0.7, "delta": 0.9}),
        ("lort", {"weight_decay": 0.7}),
        ("las", {"delta": 0.3}),
        ("las", {"weight_decay": 0.7}),
        ("maxnorm", {"weight_decay": 0.7}),
        ("maxnorm", {"share": 0.5}),
        ("cosine", {"scale": 4.0}),
        ("ce", {"gamma": 0.3}),
    ],
)
def test_given_settings_are_in_every_step_and_nothing_is_chosen_of_them(name, given, training):
    paths = setting_paths(METHODS[name], training, given)
    tried = [settings for path in paths for settings in path]
    for settings in tried:
        assert settings.items() >= given.items()
        assert settings.keys() == setting_paths(METHODS[name], training, {})[0][0].keys()
    left = [len(values) for key, values in METHODS[name].grid.items() if key not in given]
    assert len(tried) == math.prod(left)
    along = METHODS[name].path
    assert [len(path) for path in paths] == ([len(tried)] if along not in given else [1] * len(tried))


def test_with_a_given_decay_every_gamma_is_scored_by_heads_of_that_gamma(training):
    validator, given = Validator(training), {"weight_decay": 1e-3}
    scored = {one["gamma"]: one["score"] for one in select(validator, METHODS["lort"], given).candidates}
    assert len(set(scored.values())) > 1
    for gamma, score in scored.items():
        path = setting_paths(METHODS["lort"], training, {"gamma": gamma, **given})[0]
        [held_out] = validator.predict(METHODS["lort"], path)
        assert score == pytest.approx(SCORERS[validator.scorer_of(METHODS["lort"])](held_out))


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("ncm", {"weight_decay": 1.0}, "no setting weight_decay; it has: none"),
        ("lws+lort", {"gamma": 1.0, "tau": 1.0}, "no setting gamma, tau; it has: delta"),
        ("maxnorm", {"delta": 0.5}, "no setting delta; it has: gamma, weight_decay, share"),
        ("lort", {"power": 1.0}, "no setting power; it has: delta, gamma, tau, weight_decay"),
    ],
)
def test_settings_a_method_lacks_are_refused_by_name(name, given, message, training):
    with pytest.raises(ConfigError, match=message):
        setting_paths(METHODS[name], training, given)


@pytest.mark.parametrize(("number", "folds"), [(2, 5), (3, 5), (4, 5), (2, 3)])
def test_a_lead_that_ends_a_race_is_turned_around_once_in_a_hundred(number, folds):
    """Simulated: each fold tells the same unknown difference, with noise of its own."""
    random = np.random.default_rng(0)
    lead = _decisive_lead(number, folds)
    # A flat prior on the difference, given the mean of the first folds, and the folds that are left.
    difference = (lead + random.normal(size=400_000)) / math.sqrt(number)
    rest = random.normal(difference * (folds - number), math.sqrt(folds - number))
    total = (lead * math.sqrt(number) + rest) / math.sqrt(folds)
    assert np.mean(total < -1) == pytest.approx(0.01, rel=0.1)
