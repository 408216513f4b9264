from dataclasses import replace

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import NearestCentroid

from lort_hub.errors import ConfigError
from lort_hub.heads import cross_validation, training_set
from lort_hub.heads.base import FitInputs
from lort_hub.heads.choose import fit_by_name
from lort_hub.heads.class_mix import measure_mix
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitters import fit_method
from lort_hub.heads.folds import FOLDS, stratified_folds
from lort_hub.heads.leave_one_out import predict_leave_one_out
from lort_hub.heads.methods import METHODS
from lort_hub.heads.scorers import SCORERS, calibration_scale, log_likelihoods
from lort_hub.heads.search import setting_paths
from lort_hub.heads.solvers.objective import DEFAULTS
from lort_hub.heads.solvers.problem import LossGradient
from lort_hub.heads.training_set import TrainingSet
from tests.support.features import clusters

NCM, ADJUST, ACCURACY = METHODS["ncm"], METHODS["logit-adjust"], SCORERS["balanced-accuracy"]
HELD_OUT = "the 12 images held out of the backbone's training"
OPTIMISTIC = " on images the backbone was trained on (none held out), over-optimistic for tail classes"


@pytest.fixture(scope="module")
def training():
    return clusters(counts=(30, 12, 5, 1), dim=6, noise=1.5)[0]


def with_held_out(training, held):
    return TrainingSet(training.x, training.labels, 4, held)


def every_fourth(training):
    return torch.arange(len(training.labels)) % 4 == 0


def centroids(x, labels, counts, tau):
    """Nearest class means of scikit-learn, less tau times the log of the counts, as predicted labels."""
    means = torch.from_numpy(NearestCentroid().fit(x, labels).centroids_)
    return lambda held: (held.double() @ means.T - means.square().sum(1) / 2 - tau * counts.log()).argmax(1)


def test_balanced_softmax_is_cross_entropy_with_another_bias_and_its_folds_are_solved_once(monkeypatch):
    training, passes, gradient = clusters(counts=(30, 12, 5))[0], [], LossGradient.__call__
    monkeypatch.setattr(LossGradient, "__call__", lambda *given: passes.append(1) or gradient(*given))
    path = [{**DEFAULTS, "weight_decay": decay} for decay in (1e-1, 1e-2)]
    plain = list(Validator(training).fold_heads(METHODS["ce"], path))
    assert passes
    passes.clear()
    adjusted, method = [{**settings, "tau": 1.0} for settings in path], METHODS["balanced-softmax"]
    balanced = list(Validator(training).fold_heads(method, adjusted))
    assert not passes
    fold_of = stratified_folds(training.labels, FOLDS, seed=0)
    for ours, theirs in zip(balanced, plain, strict=True):
        for fold, (head, ce) in enumerate(zip(ours.heads, theirs.heads, strict=True)):
            counts = torch.bincount(training.labels[fold_of != fold]).double()
            assert head.weight.equal(ce.weight)
            torch.testing.assert_close(head.bias, (ce.bias - (counts / counts.sum()).log()).float())
    alone = Validator(TrainingSet(training.x, training.labels, 3))
    for head, other in zip(balanced[0].heads, next(alone.fold_heads(method, adjusted)).heads, strict=True):
        assert head.weight.equal(other.weight)


def test_folds_of_another_seed_have_heads_of_their_own():
    training, path = clusters(counts=(30, 12, 5))[0], [{**DEFAULTS, "weight_decay": 0.1}]
    first, other, again = (
        next(Validator(training, seed=s).fold_heads(METHODS["ce"], path)) for s in (0, 1, 0)
    )
    assert all(a.weight.equal(b.weight) for a, b in zip(first.heads, again.heads, strict=True))
    assert not any(a.weight.equal(b.weight) for a, b in zip(first.heads, other.heads, strict=True))


def test_every_fold_predicts_from_the_others_alone_head_to_start_from_and_counts_included(training):
    x, labels = training.x, training.labels
    validator = Validator(training, base_method=(NCM, [{}]), seed=4)
    fold_of = stratified_folds(labels, FOLDS, seed=4)
    path = [{"tau": 0.0}, {"tau": 1.5}]
    for settings, said in zip(path, validator.predict(ADJUST, path), strict=True):
        expected = []
        for fold in range(FOLDS):
            kept = fold_of != fold
            counts = torch.bincount(labels[kept], minlength=4).double()
            expected.append(centroids(x[kept], labels[kept], counts, settings["tau"])(x[~kept]))
        assert said.predicted.equal(torch.cat(expected))
        assert said.labels.equal(torch.cat([labels[fold_of == fold] for fold in range(FOLDS)]))
    assert len(said.labels) == 47  # all but the only one of its class


@pytest.mark.parametrize(
    "name", ["ce", "eb-lda", "lws", "las", "balanced-softmax", "disalign", "cosine", "lort-sgd"]
)
def test_held_out_predictions_are_those_of_a_head_fitted_without_them(name, training, monkeypatch):
    monkeypatch.setattr(cross_validation, "FOLD_TOLERANCE", 1e-5)
    held = every_fourth(training)
    kept, method = ~held, METHODS[name]
    base = torch.randn(4, 6), torch.randn(4)
    settings = setting_paths(method, training, {})[0][0]
    said = next(Validator(with_held_out(training, held), base_head=base).predict(method, [settings]))
    alone = TrainingSet(training.x[kept], training.labels[kept], 4)
    head = fit_method(method, FitInputs(alone, base=base, tolerance=1e-5), settings)
    logits = head.logits(training.x[held])[:, :3]  # no sample of class 3 is held out
    assert said.labels.equal(training.labels[held])
    assert said.predicted.equal(logits.argmax(dim=1))
    expected = log_likelihoods(calibration_scale(logits, said.labels) * logits, said.labels)
    torch.testing.assert_close(said.log_likelihood, expected, atol=1e-3, rtol=0)


def test_closed_form_is_ridge_regression_that_left_the_sample_out(training):
    x, labels = training.x, training.labels
    settings = {**DEFAULTS, "delta": 0.98, "weight_decay": 0.02}
    said = next(Validator(training).predict(METHODS["lort"], [settings]))
    predicted = []
    for k in range(len(labels)):
        kept = torch.arange(len(labels)) != k
        ridge = Ridge(alpha=4 * 0.02 * len(labels)).fit(x[kept], torch.eye(4)[labels[kept]])
        predicted.append(int(ridge.predict(x[k : k + 1])[0, :3].argmax()))
    # The only sample of class 3 cannot be held out, and nothing is predicted as that class.
    assert said.predicted.tolist() == predicted[:-1]
    assert ACCURACY(said) == pytest.approx(balanced_accuracy_score(labels[:-1], predicted[:-1]))


def in_groups(training, groups):
    return TrainingSet(training.x, training.labels, 4, groups=groups)


def test_closed_form_leaves_the_group_of_a_sample_out(training):
    x, labels, groups = training.x, training.labels, torch.arange(48) // 3
    settings = {**DEFAULTS, "delta": 0.98, "weight_decay": 0.02}
    said = next(Validator(in_groups(training, groups)).predict(METHODS["lort"], [settings]))
    for group in range(16):
        kept = groups != group
        ridge = Ridge(alpha=4 * 0.02 * len(labels)).fit(x[kept], torch.eye(4)[labels[kept]])
        few = ~kept & (labels < 3)
        assert said.predicted[few[:-1]].tolist() == ridge.predict(x[few])[:, :3].argmax(axis=1).tolist()


def test_closed_form_leaves_all_of_a_group_out_where_some_of_it_is_not_scored(training, monkeypatch):
    groups, path = torch.arange(48) % 12, [{**DEFAULTS, "delta": 0.98, "weight_decay": 0.02}]
    every = next(predict_leave_one_out(in_groups(training, groups), path, likelihood=True))
    monkeypatch.setattr("lort_hub.heads.training_set.SCORING_NUMBERS", 150)
    few = in_groups(training, groups)
    assert few.num_scored < 48
    some = next(predict_leave_one_out(few, path, likelihood=True))
    assert some.predicted.equal(every.predicted[few.scoring_mask])


@pytest.mark.parametrize(("name", "delta"), [("ce", 0.0), ("lort", 0.9)])
def test_a_copy_beside_each_sample_makes_choices_rosy_unless_copies_are_a_group(name, delta, monkeypatch):
    monkeypatch.setattr(cross_validation, "FOLD_TOLERANCE", 1e-5)
    random = torch.Generator().manual_seed(0)
    x, labels = torch.randn(60, 59, generator=random).repeat(2, 1), torch.arange(120) % 2
    path = [{**DEFAULTS, "delta": delta, "weight_decay": 1e-4}]
    ungrouped, grouped = (
        next(Validator(TrainingSet(x, labels, 2, groups=groups)).predict(METHODS[name], path))
        for groups in (None, torch.arange(60).repeat(2))
    )
    assert ACCURACY(grouped) < 0.6
    if name == "lort":
        assert ACCURACY(ungrouped) > 0.8
        return
    fold_of = stratified_folds(labels, FOLDS, seed=0)
    order = torch.cat([(fold_of == fold).nonzero().flatten() for fold in range(FOLDS)])
    copy_is_fitted_on = fold_of != fold_of[(torch.arange(120) + 60) % 120]
    assert copy_is_fitted_on.double().mean() > 0.7
    assert ungrouped.correct[copy_is_fitted_on[order]].all()


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    st.lists(st.integers(0, 5), min_size=8, max_size=60),
    st.lists(st.integers(0, 14), min_size=60, max_size=60),
    st.integers(0, 3),
)
def test_folds_tear_no_group_and_leave_every_class_to_learn_from(labels, groups, seed):
    labels, groups = torch.tensor(labels), torch.tensor(groups[: len(labels)])
    fold_of = stratified_folds(labels, FOLDS, seed=seed, groups=groups)
    for group in groups.unique():
        assert len(fold_of[groups == group].unique()) == 1
    for label in labels.unique():
        assert len(fold_of[labels == label].unique()) > 1 or (fold_of[labels == label] == -1).all()
    alone = torch.arange(len(labels))
    ungrouped = stratified_folds(labels, FOLDS, seed=seed)
    assert stratified_folds(labels, FOLDS, seed=seed, groups=alone).equal(ungrouped)


def test_groups_of_one_class_are_spread_over_the_folds_evenly():
    labels, groups = torch.arange(400) // 100, torch.arange(400) // 4
    fold_of = stratified_folds(labels, FOLDS, seed=0, groups=groups)
    for label in range(4):
        assert torch.bincount(fold_of[labels == label], minlength=FOLDS).tolist() == [20] * FOLDS


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "maxnorm" not in name])
def test_no_method_can_know_noise_labels_of_samples_it_has_not_seen(name):
    # With as many features as samples every method can learn the labels by heart.
    random = torch.Generator().manual_seed(0)
    x, labels = torch.randn(60, 59, generator=random), torch.arange(60) % 2
    method, training = METHODS[name], TrainingSet(x, labels, 2)
    validator = Validator(training, base_method=(METHODS["ce"], [{**DEFAULTS, "weight_decay": 1e-3}]))
    settings = setting_paths(method, training, {})[0][0]
    assert ACCURACY(next(validator.predict(method, [settings]))) < 0.7


@pytest.mark.parametrize(
    ("held", "name", "by", "how"),
    [
        (None, "lort", "balanced-accuracy", "leave-one-out in closed form"),
        (None, "crt+lort", "macro-f1", "leave-one-out in closed form"),
        (None, "lort", "nll", "leave-one-out in closed form"),
        (None, "eb-lda", "balanced-accuracy", "stratified 5-fold cross-validation"),
        ("some", "eb-lda", "nll", HELD_OUT),
        (None, "lort-published", "balanced-accuracy", "stratified 5-fold cross-validation"),
        (None, "tau-norm", "balanced-accuracy", "stratified 5-fold cross-validation"),
        ("none", "lort", "balanced-accuracy", "leave-one-out in closed form" + OPTIMISTIC),
        ("none", "ce", "balanced-accuracy", "stratified 5-fold cross-validation" + OPTIMISTIC),
        ("some", "lort", "balanced-accuracy", HELD_OUT),
        ("some", "tau-norm", "nll", HELD_OUT),
        ("all", "lort", "balanced-accuracy", "leave-one-out in closed form"),
    ],
)
def test_where_predictions_come_from_is_said(held, name, by, how, training):
    fourth = every_fourth(training)
    given = {None: None, "none": torch.zeros_like(fourth), "some": fourth, "all": torch.ones_like(fourth)}
    validator = Validator(with_held_out(training, given[held]), select_by=by)
    settings = setting_paths(METHODS[name], training, {})[0][0]
    assert validator.describe(METHODS[name], settings) == f"{how}, no image of 1 of 4 classes held out"


def test_held_out_images_are_seen_where_others_of_their_group_are():
    """Labels are noise, and each pair the same thing twice: who has seen one knows the other."""
    random = torch.Generator().manual_seed(0)
    labels, groups = torch.randint(2, (100,), generator=random).repeat_interleave(2), torch.arange(200) // 2
    x = torch.randn(100, 50, generator=random)[groups] + 0.01 * torch.randn(200, 50, generator=random)
    one_of_each, both = torch.arange(200) % 2 == 1, groups >= 80
    some = Validator(TrainingSet(x, labels, 2, one_of_each | both, groups))
    assert torch.equal(some.training.held_out, both)
    kept = "the 40 images held out of the backbone's training (without 80 of groups that it was trained on)"
    assert some.describe_folds() == kept
    assert 0.3 < ACCURACY(next(some.predict(METHODS["ce"], [{**DEFAULTS, "weight_decay": 1e-3}]))) < 0.7
    none = Validator(TrainingSet(x, labels, 2, one_of_each, groups))
    but = OPTIMISTIC.replace("out)", "out but 100 of groups that it was trained on)")
    assert none.describe_folds() == f"stratified 5-fold cross-validation, groups kept together{but}"
    assert 0.3 < ACCURACY(next(none.predict(METHODS["ce"], [{**DEFAULTS, "weight_decay": 1e-3}]))) < 0.7


def test_all_classes_are_held_out_unless_it_is_said():
    assert Validator(clusters(counts=(9, 3))[0]).describe_folds() == "stratified 5-fold cross-validation"


def test_all_methods_are_judged_on_the_same_samples_and_the_seed_draws_them(training):
    validator = Validator(training, base_method=(NCM, [{}]), seed=1)
    lort = {**DEFAULTS, "delta": 0.9, "weight_decay": 0.1}
    said = [
        next(validator.cross_validate(METHODS[name], [settings]))
        for name, settings in (("ncm", {}), ("lort", lort), ("tau-norm", {"power": 1.0}))
    ]
    assert said[0].labels.equal(said[1].labels)
    assert said[0].labels.equal(said[2].labels)
    runs = [next(Validator(training, seed=seed).predict(NCM, [{}])).log_likelihood for seed in (1, 1, 2)]
    assert runs[0].equal(runs[1])
    assert not runs[0].equal(runs[2])


def test_a_path_is_judged_as_if_each_setting_were_alone(training, monkeypatch):
    monkeypatch.setattr(cross_validation, "FOLD_TOLERANCE", 1e-5)
    # Neighbours start iterating from each other's heads; the optimum does not depend on it.
    path = setting_paths(METHODS["ce"], training, {}, decay_stride=4)[0][:3]
    together = list(Validator(training).predict(METHODS["ce"], path))
    for settings, said in zip(path, together, strict=True):
        alone = next(Validator(training).predict(METHODS["ce"], [settings]))
        assert said.predicted.equal(alone.predicted)


def test_a_class_held_out_whole_counts_as_wrong(training):
    held = training.labels == 3
    validator = Validator(with_held_out(training, held | every_fourth(training)))
    ce = setting_paths(METHODS["ce"], training, {})[0][4]
    said = next(validator.predict(METHODS["ce"], [ce]))
    rates = [said.correct[said.labels == k].mean().item() for k in range(4)]
    assert rates[3] == 0
    assert ACCURACY(said) == pytest.approx(np.mean(rates))


def test_nothing_held_out_scores_nothing():
    training = TrainingSet(torch.eye(3), torch.arange(3), 3)
    said = next(Validator(training).predict(NCM, [{}]))
    assert len(said.labels) == 0
    assert [score(said) for score in SCORERS.values()] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", [name for name in METHODS if "maxnorm" not in name and name != "ncm"])
def test_every_method_has_a_finite_likelihood_where_a_class_has_no_sample_left(name, training):
    held = (training.labels == 3) | every_fourth(training)
    validator = Validator(with_held_out(training, held), base_head=(torch.randn(4, 6), torch.randn(4)))
    said = next(validator.cross_validate(METHODS[name], [setting_paths(METHODS[name], training, {})[0][0]]))
    assert np.isfinite(SCORERS["nll"](said))


def test_over_smoothed_heads_are_chosen_by_accuracy_and_all_others_by_likelihood(training):
    own = {name: Validator(training).scorer_of(method) for name, method in METHODS.items()}
    assert {name for name, by in own.items() if by == "balanced-accuracy"} == {
        name for name in METHODS if ("lort" in name and name != "lort-path") or name == "eb-lda"
    }
    assert set(own.values()) == {"nll", "balanced-accuracy"}
    assert Validator(training, select_by="macro-f1").scorer_of(NCM) == "macro-f1"


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


def test_cross_validation_equals_scikit_learn_on_the_same_folds(monkeypatch):
    monkeypatch.setattr(cross_validation, "FOLD_TOLERANCE", 1e-5)
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
    assert agree == total


def test_leave_one_out_never_sees_the_sample():
    # With noise labels and as many features as samples the fit is perfect, the held-out prediction is chance.
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(60, 59, generator=generator), torch.arange(60) % 2
    training = TrainingSet(x, labels, 2)
    held_out = next(predict_leave_one_out(training, [{"gamma": 0.0, "weight_decay": 1e-6}]))
    assert SCORERS["balanced-accuracy"](held_out) < 0.7


@pytest.mark.parametrize("name", ["ce", "balanced-softmax", "eb-lda", "tau-norm"])
def test_a_class_without_held_out_samples_has_no_part_in_scores(name, training):
    """Else the head that neglects it most would score best, for no sample of it tells otherwise."""
    validator = Validator(training, base_method=(NCM, [{}]))
    [found] = validator.fold_heads(METHODS[name], [setting_paths(METHODS[name], training, {})[0][0]])
    loud = [replace(head, bias=head.bias + torch.tensor([0.0, 0.0, 0.0, 1e3])) for head in found.heads]
    quiet, said = validator.predict_folds(found), validator.predict_folds(replace(found, heads=tuple(loud)))
    assert validator.scored_classes.tolist() == [True, True, True, False]
    assert said.predicted.equal(quiet.predicted)
    torch.testing.assert_close(said.log_likelihood, quiet.log_likelihood)
    assert len(said.labels) == 47


def test_a_class_in_one_group_alone_has_no_part_in_scores_of_leave_one_out():
    training = clusters(counts=(12, 8, 4), noise=1.0)[0]
    groups = torch.cat([torch.arange(20), torch.full((4,), 20)])
    grouped = TrainingSet(training.x, training.labels, 3, groups=groups)
    said = next(
        Validator(grouped).predict(METHODS["lort"], [{**DEFAULTS, "delta": 0.9, "weight_decay": 0.1}])
    )
    assert said.labels.equal(training.labels[:20])
    assert set(said.predicted.tolist()) <= {0, 1}


def test_unknown_score_names_the_near_one():
    with pytest.raises(ConfigError, match="Did you mean 'macro-f1'"):
        Validator(clusters()[0], select_by="macrof1")


def test_every_fold_has_a_base_head_that_never_saw_it():
    # Noise labels: only a head that has seen a sample can know its class.
    random = torch.Generator().manual_seed(0)
    x, labels = torch.randn(80, 79, generator=random), torch.arange(80) % 2
    training = TrainingSet(x, labels, 2)
    ce = {**DEFAULTS, "weight_decay": 1e-4}
    validator = Validator(training, base_method=(METHODS["ce"], [ce]))
    assert ACCURACY(next(validator.predict(METHODS["logit-adjust"], [{"tau": 0.0}]))) < 0.7
    seen = fit_head(training, "ce", weight_decay=1e-4)
    rosy = Validator(training, base_head=(seen.weight, seen.bias))
    assert ACCURACY(next(rosy.predict(METHODS["logit-adjust"], [{"tau": 0.0}]))) == 1.0


@pytest.mark.parametrize("last", [1, 2, 4])
def test_a_path_ends_after_the_fold_by_which_its_setting_is_beaten(monkeypatch, last):
    training, _ = clusters()
    fitted, asked = [], []
    monkeypatch.setattr(
        cross_validation, "fit_method", lambda *args: fitted.append(args[2]) or fit_method(*args)
    )

    def is_beaten(first_folds):
        asked.append((len(first_folds.fold_heads.heads), len(first_folds.labels)))
        return len(fitted) == FOLDS + last

    path = [{"tau": 0.0, **DEFAULTS, "weight_decay": decay} for decay in (1.0, 0.1, 0.01)]
    whole = list(Validator(training).cross_validate(METHODS["ce"], path, is_beaten))
    assert len(whole) == 1
    assert [decay["weight_decay"] for decay in fitted] == [1.0] * FOLDS + [0.1] * last
    assert [number for number, _ in asked] == [1, 2, 3, 4, *range(1, last + 1)]  # never after all of them
    assert asked[3][1] < len(whole[0].labels) == 86


@pytest.mark.parametrize("groups", [None, torch.arange(40) // 2])
def test_without_weight_decay_leave_one_out_is_finite_where_directions_have_no_variance(groups):
    training, _ = clusters(counts=(20, 12, 8), dim=6)
    x = torch.cat([training.x, torch.zeros(40, 2)], dim=1)  # two channels that are never active
    dead = TrainingSet(x, training.labels, 3, groups=groups)
    alive = TrainingSet(training.x, training.labels, 3, groups=groups)
    path = [{"gamma": 1.0, "weight_decay": 0.0}]
    found, expected = (next(predict_leave_one_out(one, path, likelihood=True)) for one in (dead, alive))
    assert found.predicted.equal(expected.predicted)
    assert torch.allclose(found.log_likelihood, expected.log_likelihood, atol=1e-3)


def test_groups_that_features_give_away_are_left_out_without_an_error():
    """Leverages near 1, which rounding of the features brings above it."""
    random = torch.Generator().manual_seed(0)
    labels, groups = torch.arange(4).repeat_interleave(torch.tensor([12, 5, 2, 2])), torch.arange(21) // 2
    own, of_class, of_group = (torch.randn(n, 200, generator=random) for n in (21, 4, 21))
    x = (own + 0.1 * of_class[labels] + of_group[groups]).relu()
    training = TrainingSet(x, labels, 4, groups=groups)
    path = setting_paths(METHODS["lort"], training, {"gamma": 0.0})[0]
    said = list(predict_leave_one_out(training, path, likelihood=True))
    assert all(one.log_likelihood.isfinite().all() for one in said)
    for group in range(10):
        kept = (groups != group).numpy()
        model = Ridge(alpha=4 * path[0]["weight_decay"] * 21).fit(x[kept], torch.eye(4)[labels[kept]])
        assert said[0].predicted[~kept].tolist() == model.predict(x[~kept]).argmax(axis=1).tolist()


@pytest.mark.parametrize("name", ["ce", "lort", "crt+lort", "auto", "best"])
def test_a_single_group_leaves_nothing_to_judge_by_but_a_head(name):
    training = TrainingSet(torch.randn(20, 6), torch.arange(20) % 2, 2, groups=torch.zeros(20).long())
    fit = fit_by_name(training, name, known=[fit_head(training, "ce")], settings={})
    [path, *_] = setting_paths(METHODS["lort"], training, {})
    assert len(next(Validator(training).predict(METHODS["lort"], path)).labels) == 0
    assert fit.logits(training.x).isfinite().all()
    assert fit.selection is None or fit.selection.score == 0.0


@pytest.mark.parametrize("held", [False, True])
def test_over_smoothed_heads_are_judged_as_they_are_exported_with_all_features(held, monkeypatch):
    made, _ = clusters(counts=(60, 30, 12), dim=40, noise=2.0)

    def judged(least_width):
        monkeypatch.setattr(training_set, "MIN_WIDTH", least_width)
        monkeypatch.setattr(training_set, "KEPT_DIRECTIONS", 3)
        monkeypatch.setattr(training_set, "KEPT_VARIANCE", 0.5)
        unseen = every_fourth(made) if held else None
        training = TrainingSet(made.x, made.labels, 3, unseen)
        assert (training.reduced.matrix.dim < 30) == (least_width == 1)
        fit = measure_mix(training, fit_head(training, "lort"))
        return fit.settings, fit.scale, fit.mix, fit.held_out.predicted.tolist()

    assert judged(1) == judged(1000)


@pytest.mark.parametrize("name", ["auto", "best"])
def test_all_methods_are_scored_on_the_same_samples_of_a_set_too_large_for_all(name, monkeypatch):
    monkeypatch.setattr(training_set, "MIN_WIDTH", 1)
    monkeypatch.setattr(training_set, "KEPT_DIRECTIONS", 3)
    monkeypatch.setattr(training_set, "KEPT_VARIANCE", 0.5)
    monkeypatch.setattr(training_set, "SCORING_NUMBERS", 50 * 43)
    made, _ = clusters(counts=(60, 30, 12), dim=40, noise=2.0)
    training = TrainingSet(made.x, made.labels, 3)
    assert training.reduced.matrix.dim < 30
    assert training.scoring_mask.sum() < 60
    assert training.reduced.scoring_mask.equal(training.scoring_mask)
    assert set(fit_head(training, name).choice.scores) >= {"ce", "lort"}
