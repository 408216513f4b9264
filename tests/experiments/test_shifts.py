import numpy as np
import pytest
import torch

from lort_hub.evaluation.metrics import evaluate
from lort_hub.evaluation.significance import RATIOS, shifted_accuracy
from lort_hub.experiments.shifts import adapted_accuracy
from lort_hub.features.store import Features
from lort_hub.heads.class_mix import measure_mix
from lort_hub.heads.fit import fit_head
from lort_hub.heads.training_set import TrainingSet


def gaussians(seed, counts):
    random, labels = torch.Generator().manual_seed(seed), torch.repeat_interleave(torch.arange(5), counts)
    means = 1.5 * torch.eye(5)
    return means[labels] + torch.randn(len(labels), 5, generator=random), labels


def test_adapted_heads_come_near_the_one_that_knows_the_prior():
    counts = torch.tensor([400, 200, 100, 50, 25])
    training = TrainingSet(*gaussians(0, counts), 5)
    x, labels = gaussians(1, torch.full((5,), 400))
    test = Features(x, labels, torch.arange(2000))
    fit = measure_mix(training, fit_head(training, "ncm"))
    accuracy = adapted_accuracy(fit, test, counts.numpy())
    report = evaluate(fit.logits(x), labels, counts)
    as_is = shifted_accuracy(report.per_class_accuracy, counts.numpy())
    assert set(accuracy) == {f"{name} {how}" for name in as_is for how in ("em", "bbse", "oracle")}
    assert accuracy["uniform oracle"] == pytest.approx(report.balanced_accuracy)
    for name, before in as_is.items():
        oracle = accuracy[f"{name} oracle"]
        assert accuracy[f"{name} em"] > oracle - 0.02
        assert accuracy[f"{name} bbse"] > oracle - 0.02
        assert oracle > before - 0.01
    for direction in ("forward", "backward"):
        assert accuracy[f"{direction} {max(RATIOS)} em"] > as_is[f"{direction} {max(RATIOS)}"] + 0.05


def test_a_head_whose_mix_was_not_measured_is_refused():
    x, labels = gaussians(0, torch.full((5,), 9))
    test = Features(x, labels, torch.arange(45))
    fit = fit_head(TrainingSet(x, labels, 5), "ncm")
    with pytest.raises(ValueError, match="not measured"):
        adapted_accuracy(fit, test, np.full(5, 9))
