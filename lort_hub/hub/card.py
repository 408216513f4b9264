"""The report of a run: the table of results and the model cards, from metrics.json and run.json alone."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from lort_hub.evaluation.markdown import code, escape, fenced
from lort_hub.evaluation.tables import GROUPS, results_table
from lort_hub.heads.methods import STAGE1
from lort_hub.hub.card_text import citations, how_made, license_note, source_name
from lort_hub.hub.search import search_tags


def render_card(metrics: dict[str, Any], run: dict[str, Any], repo_id: str | None = None) -> str:
    """Render the card of a complete model.

    Args:
        metrics: Content of metrics.json.
        run: Content of run.json.
        repo_id: Where on the Hub the snippet loads it from; None for the output folder itself.

    Returns:
        Markdown with YAML metadata.

    Example:
        >>> metrics = json.load(open("out/metrics.json"))  # doctest: +SKIP
        >>> card = render_card(metrics, json.load(open("out/run.json")))  # doctest: +SKIP
    """
    test, data = metrics["test"], run["data"]
    baseline = {run["baseline"]["name"]: metrics["baseline"]} if run["baseline"] else {}
    return _fill(
        "model_card.md",
        _metadata(test, run, run["backbone"]["library"]),
        **_results({**baseline, run["head"]["method"]: test}, run),
        citations=citations(run["head"]["method"], run["environment"]["versions"]["lort_hub"]),
        largest=max(data["class_counts"]),
        smallest=min(data["class_counts"]),
        worst=_hardest(test["per_class_accuracy"], run["class_names"]),
        repo_id=repo_id,
        needs_lort_hub=run["backbone"]["needs_lort_hub"],
        made=how_made(metrics, run),
        command=fenced(run["environment"]["command"] or "(from Python)"),
        versions=", ".join(f"{name} {number}" for name, number in run["environment"]["versions"].items()),
        fingerprint=data["fingerprint"],
        data_source=f"{code(data['dataset'])} at revision `{data['revision']}`, " if data["revision"] else "",
    )


def render_head_card(config: dict[str, Any], repo_id: str | None = None) -> str:
    """Render the card of a head alone.

    Args:
        config: Content of the head's config.json.
        repo_id: Where on the Hub the snippet loads it from; None for the head's folder itself.

    Returns:
        Markdown with YAML metadata.

    Example:
        >>> card = render_head_card(json.load(open("out/head/config.json")))  # doctest: +SKIP
    """
    backbone, test = config["backbone"], config["results"][config["head"]["method"]]
    return _fill(
        "head_card.md",
        _metadata(test, config, "lort_hub"),
        **_results(config["results"], config),
        citations=citations(config["head"]["method"], config["lort_hub"]),
        backbone=code(source_name(backbone)),
        revision=backbone["revision"],
        num_features=backbone["num_features"],
        sha256=backbone["sha256"],
        repo_id=repo_id,
    )


def address_cards(folder: Path, repo_id: str) -> None:
    """Have the snippets on the cards in an output folder, or a head's, load from the Hub.

    A card that was changed by hand is left as it is.

    Args:
        folder: Where the cards are; its files are overwritten, so give a copy.
        repo_id: Where the folder is about to be pushed.

    Example:
        >>> address_cards(Path("copy/of/out"), "me/name")  # doctest: +SKIP
    """
    rendered = []
    if (folder / "run.json").exists():
        metrics, run = (json.loads((folder / f"{name}.json").read_text()) for name in ("metrics", "run"))
        rendered.append((folder / "README.md", [render_card(metrics, run, name) for name in (None, repo_id)]))
    head = folder / "head" if (folder / "head").is_dir() else folder
    config = json.loads((head / "config.json").read_text())
    if "results" in config:
        rendered.append((head / "README.md", [render_head_card(config, name) for name in (None, repo_id)]))
    for path, (local, addressed) in rendered:
        if path.exists() and path.read_text(encoding="utf-8") == local:
            path.write_text(addressed, encoding="utf-8")


def _fill(template: str, metadata: Any, **texts: Any) -> str:
    from huggingface_hub import ModelCard

    source = (files("lort_hub.hub") / "templates" / template).read_text(encoding="utf-8")
    return str(ModelCard.from_template(metadata, template_str=source, **texts)) + "\n"


def _results(reports: dict[str, dict[str, Any]], run: dict[str, Any]) -> dict[str, Any]:
    """What both cards say of a model and its results."""
    data, method = run["data"], run["head"]["method"]
    test = reports[method]
    low, high = test["thresholds"]
    return {
        "title": f"{escape(source_name(run['backbone']))}, {method}, {escape(data['name'])}",
        "intro": _intro(run),
        "dataset": f"{code(data['name'])} (imbalance {data['imbalance']})",
        "num_classes": len(run["class_names"]),
        "n_test": f"{test['n']:,}",
        "low": low,
        "high": high,
        "group_sizes": ", ".join(f"{test['groups'][group]['classes']} {group}" for group in GROUPS),
        "interval_note": _interval_note(test),
        "table": results_table(reports),
        "baseline_note": f"The baseline is {run['baseline']['note']}. " if run["baseline"] else "",
        "calibration_note": _calibration_note(test, run["head"]["delta"]),
        "library": run["backbone"]["library"],
        "limits": _limits(run["head"], test, len(run["class_names"])),
        "license": license_note(run["backbone"]),
    }


def _hardest(per_class: list[float | None], names: list[str]) -> str:
    order = sorted((accuracy, k) for k, accuracy in enumerate(per_class) if accuracy is not None)
    text = ", ".join(f"{escape(names[k])} ({100 * accuracy:.0f} %)" for accuracy, k in order[:5])
    never = sum(accuracy == 0 for accuracy, _ in order)
    return text + (f"; in all, {never} classes are never recognised" if never > 5 else "")


def _intro(run: dict[str, Any]) -> str:
    backbone, head = code(source_name(run["backbone"])), run["head"]
    if head["method"] == STAGE1:
        return f"{backbone} trained by plain cross-entropy, the usual stage 1,"
    return (
        f"{backbone} with its linear head re-trained by **{head['method']}** ({head['summary']}), its "
        "backbone untouched,"
    )


def _metadata(test: dict[str, Any], run: dict[str, Any], library: str) -> Any:
    from huggingface_hub import EvalResult, ModelCardData

    data, backbone = run["data"], run["backbone"]
    name = f"{source_name(backbone)} {run['head']['method']}"

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
    lineage = {
        "base_model": backbone["source"],
        "base_model_revision": backbone["revision"],
        "base_model_relation": "finetune",
    }
    tags = search_tags(
        method=run["head"]["method"], backbone=backbone["architecture"], trained_on=data["name"]
    )
    tags += search_tags(
        backbone=backbone["source"] if backbone["revision"] else None,
        trained_on=data["dataset"] if data["revision"] else None,
    )
    return ModelCardData(
        model_name=name,
        library_name=library,
        pipeline_tag="image-classification",
        license=backbone["license"],
        datasets=[data["dataset"]] if data["revision"] else None,
        tags=list(dict.fromkeys(["image-classification", "long-tailed-recognition", *tags])),
        metrics=["accuracy", "f1"],
        eval_results=results,
        ignore_metadata_errors=False,
        **(lineage if backbone["revision"] else {}),
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
    if untested := test.get("per_class_accuracy", []).count(None):
        text += f" Classes without a test image, of which nothing is known: {untested}."
    if test["n"] < 30 * num_classes:
        per_class = test["n"] / num_classes
        text += f" With about {per_class:.0f} test images a class, single classes' numbers are rough."
    return text
