"""The output folder of a run: model, head alone, numbers, plots and card, written whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lort_hub.backbones.backbone import Backbone
from lort_hub.backbones.save import check_saved, save_model
from lort_hub.data.dataset import LongTailedData
from lort_hub.download import license_of
from lort_hub.evaluation.plots import write_plots
from lort_hub.evaluation.tables import REPORT_COLUMNS
from lort_hub.files import atomic_folder, write_csv, write_json
from lort_hub.heads.fit import Fit
from lort_hub.heads.methods import METHODS, STAGE1
from lort_hub.hub.card import render_card
from lort_hub.hub.lort_head import LortHead

CHECKED_IMAGES = 4
BASELINES = {
    "ce": "cross-entropy on the same features, its weight decay chosen by cross-validation",
    STAGE1: "the head the backbone came with",
}


def write_output(
    folder: Path,
    *,
    overwrite: bool,
    backbone: Backbone,
    data: LongTailedData,
    fit: Fit,
    reports: dict[str, dict[str, Any]],
    timing: dict[str, float],
    arguments: dict[str, Any],
    environment: dict[str, Any],
    history: Sequence[dict[str, Any]] = (),
) -> None:
    """Write the output folder, after loading the saved model back and comparing its logits.

    Args:
        folder: Where.
        overwrite: Whether a folder there may be replaced.
        backbone: The frozen backbone.
        data: The data set.
        fit: The re-trained head.
        reports: What `evaluate` returned, by name: the baseline, if there is one, and the head.
        timing: Seconds of each phase so far.
        arguments: The recipe's arguments, JSON-ready.
        environment: Versions, command and git revision.
        history: One row for each epoch of stage 1.

    Raises:
        CheckpointError: The saved model does not reproduce our logits, or the folder was filled meanwhile.

    Example:
        >>> write_output(Path("out"), overwrite=False)  # doctest: +SKIP
    """
    test = reports[fit.method]
    baseline_name = next((name for name in reports if name != fit.method), None)
    baseline = reports[baseline_name] if baseline_name else None
    metrics = {
        "test": test,
        "baseline": baseline,
        "selection": _describe_selection(fit),
        "timing": timing,
        **({"history": list(history)} if history else {}),
    }
    run: dict[str, Any] = {
        "arguments": arguments,
        "environment": environment,
        "backbone": _describe_backbone(backbone, arguments.get("license")),
        "head": _describe_head(fit),
        "baseline": {"name": baseline_name, "note": BASELINES[baseline_name]} if baseline_name else None,
        "data": _describe_data(data),
        "class_names": list(data.class_names),
    }
    images = [data.test.image(k) for k in range(min(CHECKED_IMAGES, len(data.test)))]
    with atomic_folder(folder, overwrite=overwrite) as staged:
        save_model(backbone, fit.weight, fit.bias, data.class_names, staged)
        check_saved(staged, backbone, fit.weight, fit.bias, images)
        LortHead(fit.weight, fit.bias, _head_config(run, reports)).save_pretrained(staged / "head")
        write_json(staged / "metrics.json", metrics)
        write_json(staged / "run.json", run)
        write_csv(
            staged / "per_class.csv",
            per_class_rows(data.class_names, data.class_counts.tolist(), test, baseline),
        )
        write_plots(staged / "plots", data.class_counts.tolist(), reports)
        (staged / "README.md").write_text(render_card(metrics, run), encoding="utf-8")


def per_class_rows(
    class_names: Sequence[str],
    class_counts: Sequence[int],
    test: dict[str, Any],
    baseline: dict[str, Any] | None,
) -> list[dict[str, Any]]:
    """Rows of per_class.csv.

    Args:
        class_names: Names (K,).
        class_counts: Training images (K,).
        test: What `evaluate` returned for the new head.
        baseline: The same for the baseline, if there is one.

    Example:
        >>> import numpy as np
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> report = evaluate(np.eye(2), np.array([0, 1]), np.array([200, 5]))
        >>> per_class_rows(["cat", "dog"], [200, 5], report, report)[1]["train_images"]
        5
    """
    return [
        {
            "class": k,
            "name": name,
            "train_images": int(class_counts[k]),
            "accuracy": test["per_class_accuracy"][k],
            "baseline_accuracy": baseline["per_class_accuracy"][k] if baseline else None,
            "logits_magnitude": test["logits_magnitude"]["per_class"][k],
            "regularized_std": test["regularized_std"]["per_class"][k],
            "weight_norm": test["weight_norm"]["per_class"][k] if test["weight_norm"] else None,
        }
        for k, name in enumerate(class_names)
    ]


def _head_config(run: dict[str, Any], reports: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What a head carries of run.json and metrics.json: no rows of data, no single class's scores."""
    told = (*REPORT_COLUMNS, "n", "groups", "thresholds", "interval")
    places = ("name", "dataset", "revision", "imbalance", "test_split")
    return {
        "backbone": {name: value for name, value in run["backbone"].items() if name != "trained_on"},
        "head": run["head"],
        "baseline": run["baseline"],
        "class_names": run["class_names"],
        "class_counts": run["data"]["class_counts"],
        "data": {name: run["data"][name] for name in places},
        "results": {
            name: {key: report[key] for key in told if key in report} for name, report in reports.items()
        },
        "lort_hub": run["environment"]["versions"]["lort_hub"],
    }


def _describe_backbone(backbone: Backbone, license: str | None) -> dict[str, Any]:
    model: Any = backbone.model
    config = model.pretrained_cfg if backbone.library == "timm" else {"architecture": model.config.model_type}
    stated = license_of(backbone.source, backbone.revision) if backbone.revision else None
    return {
        "spec": backbone.spec,
        "source": backbone.source,
        "revision": backbone.revision,
        "library": backbone.library,
        "sha256": backbone.fingerprint(),
        "num_features": backbone.num_features,
        "preprocessing": backbone.preprocessing,
        "architecture": config["architecture"],
        "license": license or stated or config.get("license"),
        "trained_on": backbone.trained_on.to_dict() if backbone.trained_on else None,
        "needs_lort_hub": type(backbone.model).__module__.startswith("lort_hub."),
    }


def _describe_head(fit: Fit) -> dict[str, Any]:
    return {
        "method": fit.method,
        "summary": METHODS[fit.method].summary if fit.method in METHODS else None,
        "iterations": fit.linear.iterations,
        "relative_gradient": fit.linear.relative_gradient,
        "settings": fit.settings,
        **asdict(fit.objective),
    }


def _describe_selection(fit: Fit) -> dict[str, Any] | None:
    selection = fit.selection.to_dict() if fit.selection else None
    if fit.choice is None:
        return selection
    how = {"why": fit.reason, "methods": fit.choice.scores}
    return {"chosen": fit.settings, "candidates": [], **(selection or {}), **how}


def _describe_data(data: LongTailedData) -> dict[str, Any]:
    rows = data.train.rows.astype(np.int64)
    return {
        **data.source,
        "class_counts": data.class_counts.tolist(),
        "train_rows": rows.tolist(),
        "train_rows_sha256": hashlib.sha256(rows.tobytes()).hexdigest(),
        "fingerprint": data.train.fingerprint(),
        "test_fingerprint": data.test.fingerprint(),
    }
