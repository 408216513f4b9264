"""The report of a run: the table of results and the model card, from metrics.json and run.json alone."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from lort_hub.heads import STAGE1
from lort_hub.lineage import how_made, source_name
from lort_hub.markdown import code, escape

GROUPS = ("many", "medium", "few")
COLUMNS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "many": "many",
    "medium": "medium",
    "few": "few",
    "macro_f1": "macro F1",
    "ece": "ECE",
    "nll": "NLL",
}


def results_table(reports: dict[str, dict[str, Any]]) -> str:
    """A Markdown table, aligned for a terminal too, with one row per head; rates in percent.

    Args:
        reports: What `evaluate` returned, by the head's name.

    Example:
        >>> import numpy as np
        >>> from lort_hub.metrics import evaluate
        >>> report = evaluate(np.eye(2), np.array([0, 1]), np.array([200, 5]))
        >>> print(results_table({"ce": report}))
        | head | accuracy | balanced | many  | medium | few   | macro F1 | ECE  | NLL   |
        | ---- | -------- | -------- | ----- | ------ | ----- | -------- | ---- | ----- |
        | ce   | 100.0    | 100.0    | 100.0 | n/a    | 100.0 | 100.0    | 26.9 | 0.313 |
    """
    rows = [["head", *COLUMNS.values()]]
    for name, report in reports.items():
        rows.append([escape(name), *(_cell(report, key) for key in COLUMNS)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in rows
    )


def _cell(report: dict[str, Any], key: str) -> str:
    value = report[key]
    if value is None:
        return "n/a"
    if key == "nll":
        return f"{value:.3f}"
    interval = report.get("interval", {}).get(key)
    suffix = f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""
    return f"{100 * value:.1f}{suffix}"


def render_card(metrics: dict[str, Any], run: dict[str, Any]) -> str:
    """Render the model card.

    Args:
        metrics: Content of metrics.json.
        run: Content of run.json.

    Returns:
        Markdown with YAML metadata.

    Example:
        >>> import json
        >>> metrics = json.load(open("out/metrics.json"))  # doctest: +SKIP
        >>> card = render_card(metrics, json.load(open("out/run.json")))  # doctest: +SKIP
    """
    from huggingface_hub import ModelCard

    test, data = metrics["test"], run["data"]
    names, counts = run["class_names"], data["class_counts"]
    low, high = test["thresholds"]
    order = sorted(
        (accuracy, k) for k, accuracy in enumerate(test["per_class_accuracy"]) if accuracy is not None
    )
    card = ModelCard.from_template(
        _metadata(metrics, run),
        template_str=(files("lort_hub") / "templates" / "model_card.md").read_text(),
        title=f"{escape(source_name(run['backbone']))}, {run['head']['method']}, {escape(data['name'])}",
        intro=_intro(run),
        dataset=f"{code(data['name'])} (imbalance {data['imbalance']})",
        num_classes=len(names),
        largest=max(counts),
        smallest=min(counts),
        n_test=test["n"],
        low=low,
        high=high,
        group_sizes=", ".join(f"{test['groups'][group]['classes']} {group}" for group in GROUPS),
        interval_note=_interval_note(test),
        table=results_table(_reports(metrics, run)),
        baseline_note=f"The baseline is {run['baseline']['note']}. " if run["baseline"] else "",
        worst=", ".join(f"{escape(names[k])} ({100 * accuracy:.0f} %)" for accuracy, k in order[:5]),
        calibration_note=_calibration_note(test, run["head"]["delta"]),
        snippet=_snippet(run),
        made=how_made(metrics, run),
        limits=_limits(run["head"], test, len(names)),
        command=run["environment"]["command"],
        versions=", ".join(f"{name} {number}" for name, number in run["environment"]["versions"].items()),
        fingerprint=data["fingerprint"],
    )
    return str(card)


def _reports(metrics: dict[str, Any], run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    baseline = {run["baseline"]["name"]: metrics["baseline"]} if run["baseline"] else {}
    return {**baseline, run["head"]["method"]: metrics["test"]}


def _intro(run: dict[str, Any]) -> str:
    backbone, head = code(source_name(run["backbone"])), run["head"]
    if head["method"] == STAGE1:
        return f"{backbone} trained by plain cross-entropy, the usual stage 1,"
    return (
        f"{backbone} with its linear head re-trained by **{head['method']}** ({head['summary']}), its "
        "backbone untouched,"
    )


def _metadata(metrics: dict[str, Any], run: dict[str, Any]) -> Any:
    from huggingface_hub import EvalResult, ModelCardData

    data, on_hub = run["data"], run["backbone"]["revision"] is not None
    test = metrics["test"]
    name = f"{source_name(run['backbone'])} {run['head']['method']}"

    def row(metric: str, label: str, value: float) -> EvalResult:
        return EvalResult(
            task_type="image-classification",
            dataset_type=data["dataset"] if data["revision"] else data["name"],
            dataset_name=f"{data['name']} ({data['imbalance']})",
            dataset_split=data["test_split"],
            metric_type=metric,
            metric_name=label,
            metric_value=round(value, 6),
        )

    results = [
        row("accuracy", "accuracy", test["accuracy"]),
        row("accuracy", "balanced accuracy", test["balanced_accuracy"]),
    ]
    for group in GROUPS:
        if test[group] is not None:
            size = test["groups"][group]["n"]
            results.append(row("accuracy", f"{group}-shot accuracy (n={size})", test[group]))
    results.append(row("f1", "macro F1", test["macro_f1"]))
    return ModelCardData(
        model_name=name,
        library_name=run["backbone"]["library"],
        pipeline_tag="image-classification",
        license=run["backbone"]["license"],
        base_model=run["backbone"]["source"] if on_hub else None,
        datasets=[data["dataset"]] if data["revision"] else None,
        tags=["image-classification", "long-tailed-recognition", "lort", "lort_hub"],
        metrics=["accuracy", "f1"],
        eval_results=results,
        ignore_metadata_errors=False,
    )


def _interval_note(test: dict[str, Any]) -> str:
    if "interval" not in test:
        return ""
    level = 100 * test["interval"]["level"]
    note = f" In brackets: {level:.0f} % bootstrap interval over the test images of each class"
    pairs = [pair for pair in test["interval"].values() if isinstance(pair, list)]
    return note + (", empty where all are right or all wrong." if any(a == b for a, b in pairs) else ".")


def _calibration_note(test: dict[str, Any], delta: float) -> str:
    note = f"Expected calibration error {100 * test['ece']:.1f} %."
    if delta > 0.5 and test["ece"] > 0.1:
        note += (
            " Over-smoothed labels ask for small logits, so this head's probabilities are far below its"
            " accuracy: use its ranking, or calibrate before you threshold."
        )
    return note


def _limits(head: dict[str, Any], test: dict[str, Any], num_classes: int) -> str:
    if head["gamma"] == head["tau"] == 0:
        text = (
            "It has learned the skewed mix of the training images and favours their frequent classes: where "
            "every class matters alike, prefer a head with class balance (gamma or tau above zero)."
        )
    else:
        text = (
            "It expects every class to be equally likely. Where the deployed mix of classes is as skewed as "
            "the training set, the baseline may be right more often."
        )
    if test["n"] < 30 * num_classes:
        per_class = test["n"] / num_classes
        text += f" With about {per_class:.0f} test images a class, single classes' numbers are rough."
    return text


def _snippet(run: dict[str, Any]) -> str:
    lines = [
        "from transformers import pipeline",
        "",
        'classify = pipeline("image-classification", "PATH_OR_HUB_ID")',
        'classify("image.jpg")',
    ]
    if run["backbone"]["library"] == "timm":
        lines += [
            "",
            "import timm",
            "",
            'model = timm.create_model("local-dir:PATH", pretrained=True).eval()  # or hf-hub:HUB_ID',
            "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
        ]
    if run["backbone"]["needs_lort_hub"]:
        lines.insert(0, "import lort_hub.cifar_resnets  # registers this architecture with timm")
    return "\n".join(lines)
