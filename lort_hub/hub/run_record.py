"""Record a run: its backbone, head, baseline, selection and data, and one row for each class."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from lort_hub.backbones.backbone import Backbone
from lort_hub.data.dataset import LongTailedData
from lort_hub.data_record import DataRecord
from lort_hub.download import license_of
from lort_hub.evaluation.report import Confused, MetricsRecord, SelectionRecord
from lort_hub.heads.class_mix import mix_power
from lort_hub.heads.fitted import Fit
from lort_hub.heads.methods import METHODS, STACK, STAGE1, Mix, class_mix
from lort_hub.records import DEFAULT, BackboneRecord, BaselineRecord, HeadRecord, RunRecord

SUMMARIES = {STACK: "a weighted sum of calibrated heads"} | {n: m.summary for n, m in METHODS.items()}
BASELINES = {
    **{name: f"{method.summary} on the same features" for name, method in METHODS.items()},
    "ce": "cross-entropy on the same features, its weight decay chosen on held-out training images",
    STAGE1: "the head the backbone came with",
}
LEAST_SKEW = 0.4
"""Logarithm of the largest class over the smallest below which what a head favours is not told by the mix."""


def per_class_rows(run: RunRecord, metrics: MetricsRecord) -> list[dict[str, Any]]:
    """Build the rows of per_class.csv.

    Args:
        run: Content of run.json.
        metrics: Content of metrics.json.

    Example:
        >>> per_class_rows(run, metrics)[0]["name"]  # doctest: +SKIP
        'cat'
    """
    test, baseline, names = metrics.test, metrics.baseline, run.class_names
    confused = test.confused or [Confused(None, 0, 0)] * len(names)
    return [
        {
            "class": k,
            "name": name,
            "train_images": run.data.class_counts[k],
            "accuracy": test.per_class_accuracy[k],
            "baseline_accuracy": baseline.per_class_accuracy[k] if baseline else None,
            "logits_magnitude": test.logits_magnitude.per_class[k],
            "regularized_std": test.regularized_std.per_class[k],
            "weight_norm": test.weight_norm.per_class[k] if test.weight_norm else None,
            "test_images": confused[k].n,
            "confused_with": None if (other := confused[k].class_) is None else names[other],
            "confused_images": confused[k].wrong,
        }
        for k, name in enumerate(names)
    ]


def backbone_record(backbone: Backbone, license: str | None = None) -> BackboneRecord:
    """Record a backbone.

    Args:
        backbone: Backbone.
        license: Its license; None for the one that its own config or its card on the Hub states.

    Example:
        >>> from lort_hub.backbones.load import load_backbone
        >>> backbone_record(load_backbone("test_resnet", pretrained=False)).num_features
        96
    """
    model: Any = backbone.model
    config = model.pretrained_cfg if backbone.library == "timm" else {"architecture": model.config.model_type}
    on_card = license_of(backbone.source, backbone.revision) if backbone.revision else None
    return BackboneRecord(
        spec=backbone.spec,
        source=backbone.source,
        revision=backbone.revision,
        library=backbone.library,
        sha256=backbone.fingerprint(),
        num_features=backbone.num_features,
        preprocessing=backbone.preprocessing,
        architecture=config["architecture"],
        license=license or on_card or config.get("license"),
        trained_on=backbone.trained_on,
        needs_lort_hub=type(backbone.model).__module__.startswith("lort_hub."),
    )


def head_record(fit: Fit) -> HeadRecord:
    """Record a re-trained head.

    Example:
        >>> import torch
        >>> from lort_hub.heads.fitted import stage1_fit
        >>> head_record(stage1_fit(torch.eye(2), torch.zeros(2))).method
        'stage 1'
    """
    return HeadRecord(
        method=fit.method,
        summary=SUMMARIES.get(fit.method),
        iterations=fit.linear.iterations,
        relative_gradient=fit.linear.relative_gradient,
        settings=fit.settings,
        scale=fit.scale,
        mix=fit.mix,
        candidates=fit.candidates,
        **asdict(fit.objective),
    )


def selection_record(fit: Fit) -> SelectionRecord | None:
    """Record how the settings of a head were chosen, and its method; None where both were given.

    Example:
        >>> import torch
        >>> from lort_hub.heads.fitted import stage1_fit
        >>> selection_record(stage1_fit(torch.eye(2), torch.zeros(2))) is None
        True
    """
    if fit.selection is None and fit.choice is None:
        return None
    tried = fit.selection.to_dict() if fit.selection else {"chosen": fit.settings}
    method = {"why": fit.reason, "methods": fit.choice.scores} if fit.choice else {}
    return SelectionRecord.from_json({**tried, **method})


def data_record(data: LongTailedData) -> DataRecord:
    """Record a data set, with its training rows and the checksums of its images.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> data_record(load_long_tailed("digits", imbalance="exp:50")).imbalance
        'exp:50'
    """
    rows = data.train.rows.astype(np.int64)
    return DataRecord.from_json(
        {
            "left_out": [],
            **data.source,
            "class_counts": data.class_counts.tolist(),
            "train_rows": rows.tolist(),
            "train_rows_sha256": hashlib.sha256(rows.tobytes()).hexdigest(),
            "fingerprint": data.train.fingerprint(),
            "test_fingerprint": data.test.fingerprint(),
        }
    )


def decided_mix(head: HeadRecord, class_counts: Sequence[int]) -> Mix:
    """Tell which class mix a head decides for: as measured on held-out images, or else by its method.

    The measured one is a power of the training mix, nearer to it, to equal classes, or to its inverse. Where
    classes are of nearly one size, no power can be told.

    Args:
        head: The head, not moved to a stated mix.
        class_counts: Training images (K,).

    Example:
        >>> objective = {"settings": {}, "delta": 0, "gamma": 0, "tau": 0, "weight_decay": 0}
        >>> head = HeadRecord("ncm", "", 0, None, **objective)
        >>> decided_mix(head, [90, 10])
        'balanced'
        >>> from lort_hub.records import ClassMix
        >>> decided_mix(HeadRecord("ncm", "", 0, None, **objective, mix=ClassMix("", (0.1, 0.9))), [90, 10])
        'inverse'
    """
    log_counts = np.log(np.maximum(class_counts, 1))
    if head.mix is None or np.ptp(log_counts) < LEAST_SKEW:
        return class_mix(head.method, head.settings)
    power = mix_power(head.mix, torch.tensor(class_counts))
    return "training" if power > 0.5 else "inverse" if power < -0.5 else "balanced"


def baseline_record(name: str, backbone: Backbone) -> BaselineRecord:
    """Record the head to compare with; not of the training mix where its loss balanced the classes.

    Args:
        name: One of `BASELINES`, with `DEFAULT` at its end beside another head of that method.
        backbone: The backbone, for the loss that it was trained with.

    Example:
        >>> from lort_hub.backbones.load import load_backbone
        >>> baseline_record("ncm", load_backbone("test_resnet", pretrained=False)).note
        'nearest class mean on the same features'
    """
    method = name.removesuffix(DEFAULT)
    if method == STAGE1 and backbone.trained_on and backbone.trained_on.logit_offset:
        note = f"{BASELINES[STAGE1]}, trained for classes equally likely"
        return BaselineRecord(name, note, mix="balanced")
    return BaselineRecord(name, BASELINES[method])
