"""Save a re-trained model as an output folder: model, head, numbers, plots and card, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lort_hub import records
from lort_hub.backbones.backbone import Backbone
from lort_hub.backbones.save import check_saved, save_model
from lort_hub.data.dataset import LongTailedData
from lort_hub.data.overlap import write_duplicates
from lort_hub.errors import ConfigError, did_you_mean
from lort_hub.evaluation.arrays import Array
from lort_hub.evaluation.heads import optimism_note
from lort_hub.evaluation.html import write_page
from lort_hub.evaluation.plots import write_plots
from lort_hub.evaluation.report import MetricsRecord, Report, Scores
from lort_hub.files import atomic_folder, check_output_dir, write_csv, write_json
from lort_hub.heads.fitted import Fit
from lort_hub.heads.methods import STACK, STAGE1
from lort_hub.hub.card import render_card
from lort_hub.hub.head_file import HeadConfig, write_held_out
from lort_hub.hub.lort_head import LortHead
from lort_hub.hub.page import render_run
from lort_hub.hub.run_record import (
    BASELINES,
    backbone_record,
    baseline_record,
    data_record,
    head_record,
    per_class_rows,
    selection_record,
)
from lort_hub.records import DEFAULT, Environment, RunRecord
from lort_hub.run_log import RunLog
from lort_hub.spreadsheets import harmless_rows

CHECKED_IMAGES = 4


def save_output(
    folder: Path | str,
    backbone: Backbone,
    data: LongTailedData,
    fit: Fit,
    reports: Report | Mapping[str, Report],
    *,
    baseline: str | None = None,
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
        reports: Report of the head; or reports by method: of the head, of the baseline, and of more heads to
            compare with.
        baseline: The baseline's name in `reports`, also where it is the head itself; None for the first of
            the others.
        overwrite: Replace an output folder that is there already.
        license: License of the model, for its card; None for that of the backbone.
        arguments: Arguments of a recipe, by name; None for a run from Python.
        environment: Software of the run; None to collect it.
        history: One row for each epoch of stage 1.
        log: Log of the run, for the card and log.jsonl; the results are added to it.
        logits: Logits (N, K) of the head on the test images of `data`, to show its mistakes in report.html
            and to compare these images with the held-out ones.

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
    if baseline not in (None, fit.method, *reports):
        raise ConfigError(f"`baseline` is '{baseline}', expected one of `reports`: {', '.join(reports)}.")
    others = [name for name in reports if name not in (fit.method, baseline)]
    if baseline is None and others:
        baseline = others.pop(0)
    elif baseline == fit.method:
        baseline = None
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
        note=optimism_note(fit, logits, data.test.labels),
    )
    run = RunRecord(
        arguments=dict(arguments or {}),
        environment=environment or records.environment(),
        backbone=backbone_record(backbone if fit.method == STAGE1 else _with_other_head(backbone), license),
        head=head_record(fit),
        baseline=baseline_record(baseline, backbone) if baseline else None,
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
        write_csv(staged / "per_class.csv", harmless_rows(per_class_rows(run, metrics)))
        write_duplicates(staged, data.duplicates)
        if log:
            log.write(staged)
        write_plots(staged / "plots", run.data.class_counts, reports)
        write_page(staged / "report.html", render_run(metrics, run, data.test, logits))
        (staged / "README.md").write_text(render_card(metrics, run), encoding="utf-8", errors="replace")


def _with_other_head(backbone: Backbone) -> Backbone:
    return replace(backbone, trained_on=backbone.trained_on and backbone.trained_on.with_other_head())


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
        if name.removesuffix(DEFAULT) not in (*BASELINES, STACK):
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
