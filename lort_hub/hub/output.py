"""Save a re-trained model as an output folder: model, head, numbers, plots and card, whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lort_hub import records
from lort_hub.backbones.backbone import Backbone
from lort_hub.backbones.save import check_saved, save_model
from lort_hub.data.dataset import LongTailedData
from lort_hub.data.overlap import write_duplicates
from lort_hub.data_record import DataRecord
from lort_hub.download import license_of
from lort_hub.errors import ConfigError, did_you_mean
from lort_hub.evaluation.arrays import Array
from lort_hub.evaluation.html import write_page
from lort_hub.evaluation.plots import write_plots
from lort_hub.evaluation.report import Confused, MetricsRecord, Report, Scores, SelectionRecord
from lort_hub.files import atomic_folder, check_output_dir, write_csv, write_json
from lort_hub.heads.fitted import Fit
from lort_hub.heads.methods import METHODS, STACK, STAGE1
from lort_hub.hub.card import render_card
from lort_hub.hub.head_file import HeadConfig, write_held_out
from lort_hub.hub.lort_head import LortHead
from lort_hub.hub.page import render_run
from lort_hub.records import BackboneRecord, BaselineRecord, Environment, HeadRecord, RunRecord
from lort_hub.run_log import RunLog

CHECKED_IMAGES = 4
SUMMARIES = {STACK: "a weighted sum of calibrated heads"} | {n: m.summary for n, m in METHODS.items()}
BASELINES = {
    **{name: f"{method.summary} on the same features" for name, method in METHODS.items()},
    "ce": "cross-entropy on the same features, its weight decay chosen by cross-validation",
    STAGE1: "the head the backbone came with",
}


def save_output(
    folder: Path | str,
    backbone: Backbone,
    data: LongTailedData,
    fit: Fit,
    reports: Report | Mapping[str, Report],
    *,
    overwrite: bool = False,
    license: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    environment: Environment | None = None,
    history: Sequence[dict[str, Any]] = (),
    log: RunLog | None = None,
    logits: Array | Tensor | None = None,
) -> None:
    """Save a backbone with its re-trained head as a folder that plain timm or transformers loads.

    The folder holds the complete model, the head alone, metrics.json, per_class.csv, run.json, plots and the
    model card, and duplicates.csv where test images are training images too; `push_to_hub` publishes it. The
    page report.html has pictures of the test images, and is not published. The saved model is loaded again
    and its logits are compared. Where several processes run, call it on one.

    Args:
        folder: Output folder.
        backbone: Frozen backbone.
        data: Data set.
        fit: Re-trained head.
        reports: Report of the head; or reports by method: of the head, of the baseline as the first of the
            others, and of more heads to compare with.
        overwrite: Replace an output folder that is there already.
        license: License of the model, for its card; None for that of the backbone.
        arguments: Arguments of a recipe, by name; None for a run from Python.
        environment: Software of the run; None to collect it.
        history: One row for each epoch of stage 1.
        log: Log of the run, for the card and log.jsonl; the results are added to it.
        logits: Logits (N, K) of the head on the test images of `data`, to show its mistakes in report.html.

    Raises:
        CheckpointError: The folder is not empty or cannot be written, or the saved model has other logits.
        ConfigError: The head is not linear, or does not fit the backbone, the data, the reports or the
            logits.

    Example:
        >>> import tempfile
        >>> from lort_hub import evaluate, extract_features, fit_head, load_backbone, load_long_tailed
        >>> backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
        >>> data = load_long_tailed("digits", imbalance="exp:50")
        >>> train = extract_features(backbone, data.train)
        >>> test = extract_features(backbone, data.test)
        >>> baseline = fit_head(train, "ce")
        >>> fit = fit_head(train, "lort")
        >>> reports = {
        ...     head.method: evaluate(head.logits(test.x), test.y, data.class_counts, weight=head.weight)
        ...     for head in (baseline, fit)
        ... }
        >>> folder = Path(tempfile.mkdtemp()) / "digits"
        >>> save_output(folder, backbone, data, fit, reports)
        >>> sorted(path.name for path in folder.iterdir())[:4]
        ['README.md', 'config.json', 'head', 'metrics.json']
    """
    folder = Path(folder)
    reports = {fit.method: reports} if isinstance(reports, Report) else reports
    check_output_dir(folder, overwrite=overwrite)
    _check_parts(backbone, data, fit, reports, logits)
    others = [name for name in reports if name != fit.method]
    baseline = others.pop(0) if others else None
    reports = {name: report for name, report in reports.items() if name != fit.method} | {
        fit.method: reports[fit.method]
    }
    metrics = MetricsRecord(
        test=reports[fit.method],
        baseline=reports[baseline] if baseline else None,
        selection=selection_record(fit),
        timing=dict(log.seconds if log else {}),
        history=tuple(history) or None,
        others={name: reports[name] for name in others} or None,
    )
    run = RunRecord(
        arguments=dict(arguments or {}),
        environment=environment or records.environment(),
        backbone=backbone_record(backbone if fit.method == STAGE1 else _with_other_head(backbone), license),
        head=head_record(fit),
        baseline=_baseline_record(baseline, backbone) if baseline else None,
        data=data_record(data),
        class_names=tuple(data.class_names),
    )
    if log:
        for name, report in reports.items():
            log.add("result", method=name, **Scores.part_of(report).to_json())
    images = [data.test.image(k) for k in range(min(CHECKED_IMAGES, len(data.test)))]
    with atomic_folder(folder, overwrite=overwrite) as staged:
        save_model(backbone, fit.weight, fit.bias, data.class_names, staged)
        check_saved(staged, backbone, fit.weight, fit.bias, images)
        LortHead(fit.weight, fit.bias, HeadConfig.of(run, metrics).to_json()).save_pretrained(staged / "head")
        if fit.held_out:
            write_held_out(staged / "head", fit.held_out)
        write_json(staged / "metrics.json", metrics.to_json())
        write_json(staged / "run.json", run.to_json())
        write_csv(staged / "per_class.csv", per_class_rows(run, metrics))
        write_duplicates(staged, data.duplicates)
        if log:
            log.write(staged)
        write_plots(staged / "plots", run.data.class_counts, reports)
        write_page(staged / "report.html", render_run(metrics, run, data.test, logits))
        (staged / "README.md").write_text(render_card(metrics, run), encoding="utf-8")


def _with_other_head(backbone: Backbone) -> Backbone:
    return replace(backbone, trained_on=backbone.trained_on and backbone.trained_on.with_other_head())


def _baseline_record(method: str, backbone: Backbone) -> BaselineRecord:
    """Record the head to compare with; not of the training mix where its loss balanced the classes."""
    if method == STAGE1 and backbone.trained_on and backbone.trained_on.logit_offset:
        note = f"{BASELINES[STAGE1]}, trained for classes equally likely"
        return BaselineRecord(method, note, mix="balanced")
    return BaselineRecord(method, BASELINES[method])


def _check_parts(
    backbone: Backbone,
    data: LongTailedData,
    fit: Fit,
    reports: Mapping[str, Report],
    logits: Array | Tensor | None,
) -> None:
    expected = (data.num_classes, backbone.num_features)
    if tuple(fit.weight.shape) != expected:
        raise ConfigError(
            f"The head has {fit.weight.shape[0]} classes and {fit.weight.shape[1]} features, expected "
            f"{expected[0]} and {expected[1]}.\nPass the backbone and the data that it was fitted on."
        )
    if fit.method not in reports:
        raise ConfigError(
            f"`reports` are of {', '.join(reports) or 'nothing'}, expected one of '{fit.method}', the method "
            "of the head, and any of heads to compare with."
        )
    for name, report in reports.items():
        if name not in (*BASELINES, STACK):
            raise ConfigError(
                f"`reports` has '{name}', expected the name of a method.{did_you_mean(name, BASELINES)}"
            )
        if len(report.per_class_accuracy) != data.num_classes:
            raise ConfigError(
                f"The report of '{name}' is on {len(report.per_class_accuracy)} classes, expected "
                f"{data.num_classes}."
            )
    if logits is not None and tuple(logits.shape) != (len(data.test), data.num_classes):
        raise ConfigError(
            f"`logits` have the shape {tuple(logits.shape)}, expected {(len(data.test), data.num_classes)}: "
            "those of the test images of `data`, in their order."
        )


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
