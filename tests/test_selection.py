import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, f1_score

from lort_hub.eigenbasis import TrainingSet
from lort_hub.errors import ConfigError
from lort_hub.objectives import Objective
from lort_hub.selection import (
    SCORES,
    Predictions,
    cross_validated_predictions,
    leave_one_out_predictions,
    select,
    stratified_folds,
)
from tests.test_objectives import problem


def clusters(seed=0, counts=(60, 20, 6), dim=8, noise=1.0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    centres = 1.5 * torch.randn(len(counts), dim, generator=generator)
    x = centres[labels] + noise * torch.randn(len(labels), dim, generator=generator)
    return TrainingSet(x, labels, len(counts)), centres


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
    assert SCORES["balanced-accuracy"](held_out) == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert SCORES["macro-f1"](held_out) == pytest.approx(f1_score(labels, predicted, average="macro"))


def test_nll_score_weighs_classes_equally():
    held_out = Predictions(torch.tensor([0, 0, 0, 1]), torch.zeros(4), torch.tensor([-1.0, -1.0, -1.0, -3.0]))
    assert SCORES["nll"](held_out) == pytest.approx(-2.0)


def test_cross_validation_equals_scikit_learn_on_the_same_folds():
    training, _ = clusters()
    x, labels = training.x, training.labels
    fold_of = stratified_folds(labels, 5, seed=3)
    got = next(cross_validated_predictions(training, [Objective(weight_decay=0.05)], fold_of))
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
    choice = select(TrainingSet(x, labels, 3, held), Objective(delta=0.98), gammas=[0.0])
    assert choice.how == f"the {int(held.sum())} images held out of the backbone's training"
    for tried in choice.candidates[:2]:
        weight_decay = tried["weight_decay"]
        ridge = Ridge(alpha=3 * weight_decay * int((~held).sum())).fit(x[~held], torch.eye(3)[labels[~held]])
        predicted = ridge.predict(x[held]).argmax(axis=1)
        assert tried["score"] == pytest.approx(balanced_accuracy_score(labels[held], predicted), abs=0.03)
    nothing_seen = select(
        TrainingSet(x, labels, 3, torch.ones_like(held)), Objective(delta=0.98), gammas=[0.0]
    )
    assert nothing_seen.how == "leave-one-out in closed form"
    without = select(TrainingSet(x, labels, 3, torch.zeros_like(held)), Objective(delta=0.98), gammas=[0.0])
    assert "on images the backbone was trained on" in without.how


def test_leave_one_out_never_sees_the_sample():
    # With noise labels and as many features as samples the fit is perfect, the held-out prediction is chance.
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(60, 59, generator=generator), torch.arange(60) % 2
    training = TrainingSet(x, labels, 2)
    held_out = next(leave_one_out_predictions(training, [Objective(delta=0.99, weight_decay=1e-6)]))
    assert SCORES["balanced-accuracy"](held_out) < 0.7


def test_choice_is_near_the_best_on_fresh_data():
    training, centres = clusters(counts=(300, 60, 12), dim=20, noise=2.0)
    generator = torch.Generator().manual_seed(9)
    fresh_labels = torch.arange(3).repeat(400)
    fresh = centres[fresh_labels] + 2.0 * torch.randn(1200, 20, generator=generator)

    def accuracy(objective):
        from lort_hub.heads import fit_head

        fit = fit_head(training, "lort", gamma=objective["gamma"], weight_decay=objective["weight_decay"])
        return float((fit.logits(fresh).argmax(1) == fresh_labels).float().mean())

    choice = select(training, Objective(delta=0.83), gammas=(0.0, 0.5, 1.0))
    chosen = accuracy({"gamma": choice.chosen.gamma, "weight_decay": choice.chosen.weight_decay})
    every = [accuracy(candidate) for candidate in choice.candidates]
    assert chosen >= max(every) - 0.03
    assert chosen > sum(every) / len(every)


@pytest.mark.parametrize("delta", [0.9, 0.0])
def test_choice_does_not_depend_on_the_features_scale(delta):
    training, _ = clusters()
    scaled = TrainingSet(32 * training.x, training.labels, 3)
    first, second = (select(t, Objective(delta=delta), gammas=(0.0, 1.0)) for t in (training, scaled))
    assert second.chosen.gamma == first.chosen.gamma
    assert second.chosen.weight_decay == pytest.approx(first.chosen.weight_decay * 32**2, rel=1e-4)


@pytest.mark.parametrize(
    ("objective", "by", "how"),
    [
        (Objective(delta=0.98), "balanced-accuracy", "leave-one-out"),
        (Objective(delta=0.98), "nll", "cross-validation"),
        (Objective(delta=0.1), "balanced-accuracy", "cross-validation"),
        (Objective(delta=0.98, tau=1.0), "balanced-accuracy", "cross-validation"),
    ],
)
def test_closed_form_only_where_it_holds(objective, by, how):
    training, _ = clusters(counts=(8, 6, 4))
    assert how in select(training, objective, gammas=(0.0,), by=by).how


def test_given_weight_decay_is_the_only_one_tried():
    training, _ = clusters()
    choice = select(training, Objective(delta=0.9), gammas=(0.0, 1.0), weight_decay=0.123)
    assert {candidate["weight_decay"] for candidate in choice.candidates} == {0.123}
    assert len(choice.candidates) == 2


def test_unknown_score_names_the_near_one():
    _, _, x, labels, _ = problem()
    with pytest.raises(ConfigError, match="Did you mean 'macro-f1'"):
        select(TrainingSet(x.float(), labels, 4), Objective(), gammas=(0.0,), by="macrof1")


def test_a_plateau_of_large_decays_does_not_end_the_walk():
    # The classes differ only along directions of small variance: large decays predict the majority alone.
    generator = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(2), torch.tensor([500, 40]))
    x = 10 * torch.randn(540, 32, generator=generator)
    x[:, :4] = 0.3 * torch.randn(540, 4, generator=generator) + 0.5 * labels[:, None]
    choice = select(TrainingSet(x, labels, 2), Objective(weight_decay=1.0), gammas=[0.0])
    scores = [tried["score"] for tried in choice.candidates]
    assert max(scores[:3]) == pytest.approx(0.5, abs=0.01)
    assert max(scores) > 0.8
    chosen = next(t for t in choice.candidates if t["weight_decay"] == choice.chosen.weight_decay)
    assert chosen["score"] > 0.8
