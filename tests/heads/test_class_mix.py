import functools
import math
import os
from dataclasses import replace

import pytest
import torch

from lort_hub.errors import ConfigError
from lort_hub.heads.base import LinearHead
from lort_hub.heads.choose import fit_by_name
from lort_hub.heads.class_mix import FLOOR, measure_mix, move, read_shares, stated_shares
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitted import Fit
from lort_hub.heads.methods import METHODS
from lort_hub.heads.scorers import calibration_scale
from lort_hub.heads.search import fold_heads_of
from lort_hub.heads.stack import fit_stack
from lort_hub.heads.sum_weights import best_weights
from lort_hub.heads.training_set import TrainingSet
from lort_hub.records import AS_MADE, ClassMix
from tests.support.features import clusters, corners

NAMES = ["cat", "dog", "emu"]


@functools.cache
def two_classes():
    """Gaussians of deviation 1 about -1 and 1, with 3,600 samples and 400, and cross-entropy on them."""
    labels = torch.tensor([0] * 3600 + [1] * 400)
    noise = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    training = TrainingSet(2.0 * labels[:, None] - 1 + noise, labels, 2)
    return training, fit_head(training, "ce")


def threshold(fit):
    """The feature at which both classes are equally likely."""
    return float((fit.bias[0] - fit.bias[1]) / (fit.weight[1] - fit.weight[0]))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shares", [[0.3, 0.7], [0.9, 0.1], [0.5, 0.5]])
def test_a_lort_head_of_any_class_balance_gets_the_threshold_of_bayes(gamma, shares):
    training, _ = two_classes()
    fit = measure_mix(training, fit_head(training, "lort", gamma=gamma))
    moved = move(fit, "mine", torch.tensor(shares))
    # The log-ratio of the classes is 2 x, so that of the posteriors is zero at half the log-odds of the mix.
    assert threshold(moved) == pytest.approx(math.log(shares[0] / shares[1]) / 2, abs=0.12)
    assert float(moved.weight[1] - moved.weight[0]) == pytest.approx(2, rel=0.12)


KINDS = ("ce", "ncm", "eb-lda", "crt", "balanced-softmax", "logit-adjust", "tau-norm", "lort-path")


@pytest.mark.parametrize("method", [*KINDS, "linear-adjust", "lws", "auto"])
def test_a_head_of_every_kind_gets_the_threshold_of_bayes(method):
    training, ce = two_classes()
    fit = fit_stack(training, baseline=ce) if method == "auto" else fit_head(training, method, baseline=ce)
    moved = move(measure_mix(training, fit, ce), "mine", torch.tensor([0.2, 0.8]))
    assert threshold(moved) == pytest.approx(math.log(0.25) / 2, abs=0.12)


def test_held_out_decisions_of_a_sum_are_with_its_log_prior():
    training, ce = two_classes()
    fit = fit_stack(training, baseline=ce)
    sure = replace(fit, settings={**fit.settings, "tau": 100.0})
    plain, rare = (measure_mix(training, one, ce).held_out.predicted for one in (fit, sure))
    assert 0 < int(plain.sum()) < len(plain)
    assert rare.all()


def test_a_balanced_head_is_moved_by_the_log_of_its_shares_alone():
    training, _ = two_classes()
    made = measure_mix(training, fit_head(training, "crt"))
    assert made.mix == ClassMix(AS_MADE, (0.5, 0.5), 1.0)
    moved = move(made, "mine", torch.tensor([0.2, 0.8]))
    shift = moved.bias - made.bias
    assert moved.weight.equal(made.weight)
    assert float(shift[1] - shift[0]) == pytest.approx(math.log(4), rel=1e-5)
    assert moved.logits(training.x).equal(made.logits(training.x) + moved.shift)
    again = move(moved, "back", torch.tensor([0.5, 0.5]))
    assert torch.allclose(again.bias - again.bias.mean(), made.bias - made.bias.mean(), atol=1e-6)
    right = made.logits(training.x).argmax(dim=1) == training.labels
    assert float((made.held_out.labels == made.held_out.predicted).float().mean()) == pytest.approx(
        float(right.float().mean()), abs=0.01
    )


def test_cross_entropy_holds_the_training_mix():
    training, ce = two_classes()
    made = measure_mix(training, ce)
    assert made.mix.shares[1] == pytest.approx(0.1, abs=0.02)
    moved = move(made, "train", training.class_counts / 4000)
    assert threshold(moved) == pytest.approx(threshold(ce), abs=0.1)


@pytest.mark.parametrize(
    ("counts", "method", "rare"),
    [((30, 1), "ce", 1 / 31), ((30, 1), "balanced-softmax", 0.5), ((1, 1), "ce", 0.5)],
)
def test_where_one_class_at_most_can_be_held_out_the_mix_is_that_of_the_method(counts, method, rare):
    training, _ = clusters(counts=counts)
    mix = measure_mix(training, fit_head(training, method)).mix
    assert mix.shares[1] == pytest.approx(rare, rel=1e-6)
    assert mix.scale == 1


def test_a_class_without_held_out_samples_does_not_change_the_mix_that_is_measured():
    counts = (60, 20, 1)
    training, _ = clusters(counts=counts, noise=2.0)
    fit = fit_head(training, "ce")
    measured = measure_mix(training, fit)
    validator = Validator(training)
    logits, labels = validator.held_out_logits(fold_heads_of(validator, METHODS["ce"], fit.selection))
    logits = fit.scale * logits[:, :2]
    prior = -torch.tensor(counts).div(81).log()[:2].expand_as(logits)
    unit = calibration_scale(logits - logits.mean(dim=0), labels)
    scale, kept = best_weights({"scale": unit * logits, "kept": prior}, labels).values()
    assert measured.mix.scale == pytest.approx(scale * unit, rel=1e-6)
    assert math.log(measured.mix.shares[0] / measured.mix.shares[1]) == pytest.approx(
        kept * math.log(3), rel=1e-5
    )


def test_a_class_that_does_not_occur_has_the_floor():
    fit = Fit(LinearHead(torch.eye(2), torch.zeros(2)), "ncm", {}, mix=ClassMix(AS_MADE, (0.5, 0.5)))
    moved = move(fit, "mine", torch.tensor([1.0, 0.0]))
    assert moved.mix.shares[1] == pytest.approx(FLOOR, rel=1e-5)
    assert moved.bias.isfinite().all()


def test_a_head_as_solved_is_not_moved():
    with pytest.raises(ConfigError, match="not calibrated"):
        move(Fit(LinearHead(torch.eye(2), torch.zeros(2)), "ncm", {}), "train", torch.tensor([0.5, 0.5]))


def test_a_mix_is_read_by_class_in_any_order(tmp_path):
    file = tmp_path / "mix.csv"
    file.write_text("class,count\nemu,0\ncat,30\ndog,10\n")
    assert read_shares(file, NAMES) == [30, 10, 0]
    assert stated_shares(str(file), NAMES, torch.ones(3)).tolist() == [0.75, 0.25, 0]
    assert stated_shares("train", NAMES, torch.tensor([6, 3, 1])).tolist() == pytest.approx([0.6, 0.3, 0.1])
    assert stated_shares("balanced", NAMES, torch.tensor([6, 3, 1])).tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    "text",
    [
        "Class;Share\nCat;0,75\ndog;0,25\nemu;0\n",
        "label,probability\ncat,0.75\ndog,0.25\nemu,0.0\n",
        "class\tshare\ncat\t75 %\ndog\t25%\nemu\t0%\n",
        "class,share\ncat,3e38\ndog,1e38\nemu,0\n",
        "class,share\ncat,3e-60\ndog,1e-60\nemu,0\n",
        "cat;75,0\ndog;25,0\nemu;0\n",
    ],
)
def test_a_mix_is_read_as_people_write_it(tmp_path, text):
    file = tmp_path / "mix.csv"
    file.write_text(text)
    assert stated_shares(str(file), NAMES, torch.ones(3)).tolist() == pytest.approx([0.75, 0.25, 0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class,share\ncat,1\ndog,1\nemo,1\n", "'emo', which the data set has not. Did you mean 'emu'?"),
        ("class,share\ncat,1\nemu,1\n", "no row for dog; expected one for each class"),
        ("class,share\ncat,1\ncat,1\n", "'cat' twice"),
        ("class,share\ncat,-1\ndog,1\nemu,1\n", "the share of 'cat' is '-1', expected a number from 0"),
        ("class,share\ncat,\ndog,1\nemu,1\n", "the share of 'cat' is '', expected a number from 0"),
        ("class,share\ncat,inf\ndog,1\nemu,1\n", "the share of 'cat' is 'inf'"),
        ("class,count\ncat,0\ndog,0\nemu,0\n", "every class the count 0"),
        ("name,share\ncat,1\n", "columns name, share,\nexpected class and share, or class and count"),
        ("", "columns none"),
        ("class,share\ncat,1e308\ndog,1e308\nemu,1e308\n", "larger than a number can be"),
        ("class,share\ncat,20%\ndog,0.3\nemu,50%\n", "the share of 'dog' has no %, "),
        ('class,count\ncat,"1,234"\ndog,1\nemu,1\n', "the count of 'cat' is '1,234': thousands or decimals?"),
        ("cat;1.234\ndog;1\nemu;1\n", "the number of 'cat' is '1.234': thousands or decimals?"),
        ("class,name,train_images,test_images\n0,cat,5,1\n1,dog,2,1\n2,emu,1,1\n", "which is the mix?"),
    ],
)
def test_what_is_wrong_with_a_mix_is_said(tmp_path, text, said):
    file = tmp_path / "mix.csv"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_shares(file, NAMES)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) <= 3


def test_a_mix_comes_through_a_pipe_too():
    reader, writer = os.pipe()
    os.write(writer, b"class,share\ncat,3\ndog,1\nemu,0\n")
    os.close(writer)
    assert stated_shares(f"/dev/fd/{reader}", NAMES, torch.ones(3)).tolist() == [0.75, 0.25, 0]
    os.close(reader)


def test_a_mistyped_mix_is_no_file():
    with pytest.raises(ConfigError, match="Did you mean 'balanced'"):
        stated_shares("balance", NAMES, torch.ones(3))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("method", ["ce", "logit-adjust"])
def test_a_head_that_is_right_on_every_held_out_sample_is_not_certain_where_it_is_moved_to(method, seed):
    training, tested, new = corners(seed, scale=1.1, count=4)
    baseline = fit_head(training, "ce")
    fit = measure_mix(training, fit_head(training, method, baseline=baseline), baseline)
    assert fit.held_out.correct.all()
    moved = move(fit, "balanced", torch.ones(3) / 3)
    assert torch.nn.functional.cross_entropy(moved.logits(tested), new).item() < 0.2


def test_the_mix_is_measured_by_heads_of_the_solver_that_made_the_head():
    training, _ = clusters(counts=tuple(range(60, 20, -2)), noise=2.0)
    ce = fit_head(training, "ce")
    given = {"gamma": 0.5, "delta": 0.5, "weight_decay": 1e-5}
    made, exact = (
        fit_by_name(training, "lort", known=[ce], settings={**given, "solver": solver})
        for solver in ("closed-form", "exact")
    )
    # The closed form is of another scale than the optimum, which its fold heads have as well.
    assert made.scale < 0.9 * exact.scale
    assert made.mix.scale == pytest.approx(exact.mix.scale, rel=0.1)


def test_a_head_that_only_sgd_can_fit_has_its_mix_measured():
    training, _ = clusters(counts=(60, 20, 6), noise=2.0)
    ce = fit_head(training, "ce")
    fit = fit_by_name(training, "ce", known=[ce], settings={"solver": "sgd", "weight_decay": 0.0})
    assert fit.mix.shares[0] > fit.mix.shares[2]
    # SGD from the head of cross-entropy does not reach the balanced optimum.
    published = fit_by_name(training, "lort", known=[ce], settings={"solver": "sgd", "gamma": 1.0})
    assert published.mix.scale != 1.0


def test_a_head_that_favours_rare_classes_is_moved_from_what_it_favours():
    training, ce = two_classes()
    fit = measure_mix(training, fit_head(training, "balanced-softmax+lort", baseline=ce), ce)
    assert fit.mix.shares[1] > 0.55
    moved = move(fit, "mine", torch.tensor([0.2, 0.8]))
    assert threshold(moved) == pytest.approx(math.log(0.25) / 2, abs=0.12)
