import pytest
import torch

from lort_hub.errors import ConfigError
from lort_hub.evaluation.metrics import evaluate
from lort_hub.features.matrix import FeatureMatrix
from lort_hub.heads.choose import fit_by_name
from lort_hub.heads.class_mix import mix_power
from lort_hub.heads.fit import fit_baseline, fit_head
from lort_hub.heads.fitted import Fit
from lort_hub.heads.methods import CHOICES, METHODS
from lort_hub.heads.refit import refit
from lort_hub.heads.training_set import TrainingSet
from lort_hub.hub.run_record import head_record
from lort_hub.records import ChosenSettings, HeadRecord
from tests.support.features import clusters

LINEAR = [name for name, method in METHODS.items() if method.linear]


@pytest.fixture(scope="module")
def problem():
    """Noisy clusters, a third held out of the backbone's training, and the baseline on them."""
    whole, _ = clusters(counts=(48, 24, 12), dim=6, noise=2.0)
    held_out = torch.arange(len(whole.labels)) % 3 == 0
    training = TrainingSet(whole.x, whole.labels, 3, held_out=held_out)
    return training, fit_baseline(training)


def recorded(fit, training):
    """The record of a head as another run reads it, and the samples of each class."""
    return HeadRecord.from_json(head_record(fit).to_json()), training.class_counts.tolist()


@pytest.mark.parametrize("name", [*LINEAR, *CHOICES])
def test_a_refit_on_the_same_features_is_the_head(problem, name):
    training, baseline = problem
    fit = fit_by_name(training, name, known=[baseline], settings={})
    again = refit(training, *recorded(fit, training), baseline=baseline, held_out=fit.held_out)
    expected = fit.logits(training.x)
    torch.testing.assert_close(
        again.logits(training.x), expected, rtol=0, atol=1e-3 * float(expected.abs().max())
    )
    assert (again.method, again.settings, again.scale) == (fit.method, fit.settings, fit.scale)
    assert again.mix.shares == pytest.approx(fit.mix.shares, rel=1e-6)
    assert again.mix.scale == fit.mix.scale
    assert again.held_out is fit.held_out
    assert again.selection is None
    assert again.choice is None
    assert again.candidates == fit.candidates
    assert Fit.from_cache(*again.to_cache()).candidates == fit.candidates


@pytest.mark.parametrize("name", ["lort", "tau-norm", "balanced-softmax", "auto"])
def test_on_memorised_features_a_refit_is_as_sure_as_it_may_be_and_a_new_choice_far_too_sure(name):
    """Samples that the backbone was trained on lie near their class's centre, new ones do not."""
    labels, centres = clusters(counts=(200, 100, 50), dim=6)[0].labels, clusters(dim=6)[1]
    random = torch.Generator().manual_seed(1)

    def features(labels, noise):
        return centres[labels] + noise * torch.randn(len(labels), 6, generator=random)

    unseen = torch.arange(len(labels)) % 5 == 0
    memorised, new = features(labels, 0.5), features(labels, 2.0)
    honest = TrainingSet(torch.where(unseen[:, None], new, memorised), labels, 3, held_out=unseen)
    baseline = fit_baseline(honest)
    fit = fit_by_name(honest, name, known=[baseline], settings={})
    whole = TrainingSet(memorised, labels, 3)
    again = refit(whole, *recorded(fit, honest), baseline=baseline)
    anew = fit_by_name(whole, name, known=[fit_baseline(whole)], settings={})
    tested = torch.arange(3).repeat(1000)
    x = features(tested, 2.0)
    again_error, anew_error = (
        evaluate(head.logits(x), tested, whole.class_counts).ece for head in (again, anew)
    )
    assert again_error < 0.08
    assert anew_error > again_error + 0.06


@pytest.mark.parametrize(("solver", "number"), [("closed-form", 0), ("exact", 2), ("sgd", 1)])
def test_a_refit_has_the_solver_and_the_views_of_its_run(problem, solver, number):
    training, baseline = problem
    noise = torch.Generator().manual_seed(3)
    views = [
        FeatureMatrix.of(training.x + torch.randn(training.x.shape, generator=noise)) for _ in range(number)
    ]
    given = {"solver": solver, "weight_decay": 0.01, "gamma": 1.0}
    fit = fit_by_name(training, "lort", known=[baseline], settings=given, views=views)
    earlier = recorded(fit, training)
    again = refit(training, *earlier, baseline=baseline, solver=solver, views=views)
    torch.testing.assert_close(again.weight, fit.weight, rtol=1e-4, atol=1e-6)
    without = refit(training, *earlier, baseline=baseline, solver=solver)
    assert number == 0 or not torch.allclose(without.weight, fit.weight, rtol=1e-2)


def test_settings_are_those_of_the_run_or_given_not_both(problem):
    training, baseline = problem
    chosen = ChosenSettings({"power": 0.3}, 2.5)
    fit = fit_head(training, "tau-norm", baseline=baseline, chosen=chosen)
    lengths = baseline.linear.weight.norm(dim=1, keepdim=True)
    torch.testing.assert_close(fit.weight, 2.5 * baseline.linear.weight / lengths**0.3)
    for name, given in (("auto", {}), ("lort", {"gamma": 0.5})):
        with pytest.raises(ConfigError, match="`chosen` has every setting"):
            fit_head(training, name, baseline=baseline, chosen=chosen, **given)


def test_a_head_records_the_settings_of_those_that_were_chosen_with_it(problem):
    training, baseline = problem
    fit = fit_by_name(training, "auto", known=[baseline], settings={})
    record, _ = recorded(fit, training)
    assert record.candidates.keys() == fit.choice.scores.keys() - {"stack"}
    for name, chosen in record.candidates.items():
        assert chosen.settings == fit.choice.selections[name].chosen
        assert chosen.scale == fit.choice.scales[name]
    for name in ("best", "ncm"):
        beside = fit_by_name(training, name, known=[baseline], settings={})
        assert recorded(beside, training)[0].candidates == {
            "ce": ChosenSettings(baseline.settings, baseline.scale)
        }


@pytest.mark.parametrize(("name", "power"), [("ce", 1.0), ("auto", 0.0)])
def test_a_refit_on_other_counts_holds_the_same_power_of_their_mix(problem, name, power):
    """A head that decides for the training mix, and one for equal classes, are moved from there."""
    training, baseline = problem
    fit = fit_by_name(training, name, known=[baseline], settings={})
    other, _ = clusters(counts=(30, 40, 50), dim=6, noise=2.0)
    again = refit(other, *recorded(fit, training), baseline=fit_baseline(other))
    powers = [mix_power(head.mix, on.class_counts) for head, on in ((fit, training), (again, other))]
    expected = other.class_counts.double() ** powers[0]
    torch.testing.assert_close(torch.tensor(again.mix.shares).double(), expected / expected.sum())
    assert powers[1] == pytest.approx(powers[0], abs=1e-6)
    assert powers[0] == pytest.approx(power, abs=0.4)


def test_settings_of_a_run_that_are_no_point_of_its_method_s_grid_are_taken(problem):
    """As of `--method ce --delta 0.9 --weight-decay 0.1 --solver closed-form`."""
    training, baseline = problem
    given = {"delta": 0.9, "weight_decay": 0.1, "solver": "closed-form"}
    fit = fit_by_name(training, "ce", known=[baseline], settings=given)
    again = refit(training, *recorded(fit, training), baseline=baseline, solver="closed-form")
    torch.testing.assert_close(again.weight, fit.weight)
