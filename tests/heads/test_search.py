import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, f1_score

from lort_hub.errors import ConfigError
from lort_hub.heads.cross_validation import Validator, predict_leave_one_out, stratified_folds
from lort_hub.heads.fit import fit_head
from lort_hub.heads.methods import GAMMAS, METHODS
from lort_hub.heads.scorers import SCORERS, Predictions, standard_error
from lort_hub.heads.search import choose_method, select, setting_paths
from lort_hub.heads.solvers.objective import DEFAULTS
from lort_hub.heads.training_set import TrainingSet
from tests.support.features import clusters

LORT, ACCURACY = METHODS["lort"], SCORERS["balanced-accuracy"]


@given(st.lists(st.integers(1, 23), min_size=1, max_size=8), st.integers(2, 5), st.integers(0, 99))
def test_folds_spread_every_class_evenly(counts, folds, seed):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    fold_of = stratified_folds(labels, folds, seed=seed)
    for label, count in enumerate(counts):
        of_class = fold_of[labels == label]
        if count == 1:
            assert of_class.tolist() == [-1]
        else:
            sizes = torch.bincount(of_class, minlength=folds)
            assert sizes.max() - sizes.min() <= 1
            assert sizes.max() < count  # every fold's training part keeps the class


def test_scores_equal_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    labels, predicted = torch.randint(3, (2, 50), generator=generator)
    held_out = Predictions(labels, predicted, torch.zeros(50))
    assert SCORERS["balanced-accuracy"](held_out) == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert SCORERS["macro-f1"](held_out) == pytest.approx(f1_score(labels, predicted, average="macro"))


def test_nll_score_weighs_classes_equally():
    held_out = Predictions(torch.tensor([0, 0, 0, 1]), torch.zeros(4), torch.tensor([-1.0, -1.0, -1.0, -3.0]))
    assert SCORERS["nll"](held_out) == pytest.approx(-2.0)


def test_cross_validation_equals_scikit_learn_on_the_same_folds():
    training, _ = clusters()
    x, labels = training.x, training.labels
    fold_of = stratified_folds(labels, 5, seed=3)
    settings = {**DEFAULTS, "weight_decay": 0.05}
    got = next(Validator(training, seed=3).predict(METHODS["ce"], [settings]))
    agree = total = 0
    position = 0
    for fold in range(5):
        kept, held = fold_of != fold, fold_of == fold
        model = LogisticRegression(C=1 / (0.05 * int(kept.sum())), tol=1e-8, max_iter=5000).fit(
            x[kept], labels[kept]
        )
        mine = got.predicted[position : position + int(held.sum())]
        agree += int((mine.numpy() == model.predict(x[held])).sum())
        total += int(held.sum())
        position += int(held.sum())
    assert total == len(labels)
    assert agree >= total - 1  # the folds are solved to 3e-3 only


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


def test_leave_one_out_never_sees_the_sample():
    # With noise labels and as many features as samples the fit is perfect, the held-out prediction is chance.
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(60, 59, generator=generator), torch.arange(60) % 2
    training = TrainingSet(x, labels, 2)
    held_out = next(predict_leave_one_out(training, [{"gamma": 0.0, "weight_decay": 1e-6}]))
    assert SCORERS["balanced-accuracy"](held_out) < 0.7


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


def test_unknown_score_names_the_near_one():
    with pytest.raises(ConfigError, match="Did you mean 'macro-f1'"):
        Validator(clusters()[0], select_by="macrof1")


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


@given(st.integers(0, 50))
def test_standard_error_is_that_of_resampled_differences(seed):
    random = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0] * 30 + [1] * 5 + [2] * 60)
    one, other = (
        Predictions(labels, torch.where(torch.rand(95, generator=random) < share, labels, 3), torch.zeros(95))
        for share in (0.8, 0.6)
    )
    difference, differences = one.correct - other.correct, []
    for _ in range(400):
        drawn = [
            rows[torch.randint(len(rows), (len(rows),), generator=random)]
            for rows in (torch.nonzero(labels == k).squeeze(1) for k in range(3))
        ]
        differences.append(torch.stack([difference[rows].mean() for rows in drawn]).mean())
    expected = torch.stack(differences).std().item()
    assert standard_error(one, other, "balanced-accuracy") == pytest.approx(expected, rel=0.2, abs=1e-12)


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


def test_every_fold_has_a_base_head_that_never_saw_it():
    # Noise labels: only a head that has seen a sample can know its class.
    random = torch.Generator().manual_seed(0)
    x, labels = torch.randn(80, 79, generator=random), torch.arange(80) % 2
    training = TrainingSet(x, labels, 2)
    ce = {**DEFAULTS, "weight_decay": 1e-4}
    validator = Validator(training, base_method=(METHODS["ce"], ce))
    assert ACCURACY(next(validator.predict(METHODS["logit-adjust"], [{"tau": 0.0}]))) < 0.7
    seen = fit_head(training, "ce", weight_decay=1e-4)
    rosy = Validator(training, base_head=(seen.weight, seen.bias))
    assert ACCURACY(next(rosy.predict(METHODS["logit-adjust"], [{"tau": 0.0}]))) == 1.0


def test_the_choice_of_a_method_is_explained_and_on_equal_samples():
    training, _ = clusters(counts=(100, 30, 8), noise=2.0)
    ce = fit_head(training, "ce")
    validator = Validator(training, base_method=(METHODS["ce"], ce.settings))
    names = ("ce", "logit-adjust", "lort")
    choice = choose_method(validator, {name: select(validator, METHODS[name]) for name in names})
    again = next(validator.cross_validate(LORT, [choice.selections["lort"].chosen]))
    assert choice.scores["lort"] == SCORERS["nll"](again)
    best = max(choice.scores, key=choice.scores.get)
    assert choice.scores[best] - choice.scores[choice.method] <= choice.errors[choice.method]
    assert choice.reason.startswith(f"{choice.method} has NLL {-choice.scores[choice.method]:.3f}")
    assert all(choice.selections[name].held_out is not None for name in ("ce", "logit-adjust"))
