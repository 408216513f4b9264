"""Output folders of heads on features that are noise."""

import numpy as np
import torch

from lort_hub.backbones.load import load_backbone
from lort_hub.data.load import load_long_tailed
from lort_hub.evaluation.metrics import evaluate
from lort_hub.heads.fit import fit_head
from lort_hub.heads.training_set import TrainingSet
from lort_hub.hub.output import write_output
from lort_hub.records import environment


def write_digits_output(folder, backbone):
    """The output folder of a head for the digits, on features that are noise."""
    rng, data = np.random.default_rng(0), load_long_tailed("digits")
    backbone = load_backbone(str(backbone))
    x = torch.randn(len(data.train), backbone.num_features)
    fit = fit_head(TrainingSet(x, torch.from_numpy(data.train.labels), data.num_classes), "ncm")
    logits = rng.normal(size=(len(data.test), data.num_classes))
    write_output(
        folder,
        overwrite=False,
        backbone=backbone,
        data=data,
        fit=fit,
        reports={"ncm": evaluate(logits, data.test.labels, data.class_counts, weight=fit.weight.numpy())},
        timing={},
        arguments={},
        environment=environment("python recipes/retrain.py"),
    )
    return folder
