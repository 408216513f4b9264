"""Render the model cards of an output folder from the records of its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lort_hub.evaluation.markdown import code, escape, fenced
from lort_hub.evaluation.report import MetricsRecord, Number, Report, Scores
from lort_hub.evaluation.tables import GROUPS, mix_table, results_table, scale_table
from lort_hub.files import read_csv
from lort_hub.heads.methods import STAGE1, Mix
from lort_hub.hub.adapted_card import ADAPTED, CLASS_MIX, Adaptation, render_adapted_card
from lort_hub.hub.card_text import (
    calibration_note,
    citations,
    fill_template,
    how_made,
    license_note,
    mix_note,
    source_name,
)
from lort_hub.hub.head_file import HeadConfig, read_head_config
from lort_hub.hub.run_record import decided_mix
from lort_hub.hub.search import search_tags
from lort_hub.records import RunRecord

IN_PYTHON = "It was made in Python, with `lort_hub.save_output`."
END_OF_METADATA = "\n---\n"


def render_card(metrics: MetricsRecord, run: RunRecord, repo_id: str | None = None) -> str:
    """Render the card of a complete model.

    Args:
        metrics: Content of metrics.json.
        run: Content of run.json.
        repo_id: Hub id that the snippet loads; None for the output folder itself.

    Returns:
        Markdown with YAML metadata.

    Example:
        >>> run = RunRecord.read(Path("out/run.json"))  # doctest: +SKIP
        >>> card = render_card(MetricsRecord.read(Path("out/metrics.json")), run)  # doctest: +SKIP
    """
    config, per_class = HeadConfig.of(run, metrics), metrics.test.per_class_accuracy
    command, versions, data = run.environment.command, run.environment.versions, run.data
    return fill_template(
        "model_card.md",
        _metadata(config, run.backbone.library),
        **_results(config, untested=per_class.count(None)),
        citations=citations(run.head.method, config.lort_hub),
        largest=max(config.class_counts),
        smallest=min(config.class_counts),
        worst=_hardest(per_class, run.class_names),
        repo_id=repo_id,
        needs_lort_hub=run.backbone.needs_lort_hub,
        made=how_made(metrics, run),
        command=IN_PYTHON if command is None else fenced(command),
        versions=", ".join(f"{name} {number}" for name, number in versions.items()),
        fingerprint=data.fingerprint,
        data_source=f"{code(data.dataset)} at revision `{data.revision}`, " if data.revision else "",
    )


def render_head_card(config: HeadConfig, repo_id: str | None = None) -> str:
    """Render the card of a head.

    Args:
        config: Content of the head's config.json.
        repo_id: Hub id that the snippet loads; None for the folder of the head itself.

    Returns:
        Markdown with YAML metadata.

    Example:
        >>> card = render_head_card(HeadConfig.read(Path("out/head/config.json")))  # doctest: +SKIP
    """
    backbone = config.backbone
    return fill_template(
        "head_card.md",
        _metadata(config, "lort_hub"),
        **_results(config),
        citations=citations(config.head.method, config.lort_hub),
        backbone=code(source_name(backbone)),
        revision=backbone.revision,
        num_features=backbone.num_features,
        sha256=backbone.sha256,
        repo_id=repo_id,
    )


def address_cards(folder: Path, repo_id: str) -> None:
    """Make the snippets of the cards in a folder load from the Hub; what was edited stays as it is.

    Edited metadata are kept, as those that hold the results of an evaluation; an edited text is kept whole.

    Args:
        folder: Copy of an output folder, or of a head's; its cards are overwritten.
        repo_id: Hub id that the folder is about to be pushed to.

    Example:
        >>> address_cards(Path("copy/of/out"), "me/name")  # doctest: +SKIP
    """
    rendered = []
    if (folder / "run.json").exists():
        metrics, run = MetricsRecord.read(folder / "metrics.json"), RunRecord.read(folder / "run.json")
        rendered.append((folder / "README.md", [render_card(metrics, run, name) for name in (None, repo_id)]))
    head = folder / "head" if (folder / "head").is_dir() else folder
    values = read_head_config(head, head)
    if (folder / ADAPTED).exists():
        adaptation, rows = Adaptation.read(folder / ADAPTED), read_csv(folder / CLASS_MIX, text=["class"])
        cards = [render_adapted_card(values, rows, adaptation, name) for name in (None, repo_id)]
        rendered.append((folder / "README.md", cards))
    if "results" in values:
        config = HeadConfig.from_json(values)
        rendered.append((head / "README.md", [render_head_card(config, name) for name in (None, repo_id)]))
    for path, (local, addressed) in rendered:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        metadata, mark, body = text.partition(END_OF_METADATA)
        if text == local:
            path.write_text(addressed, encoding="utf-8")
        elif mark and body == local.partition(END_OF_METADATA)[2]:  # only its metadata were edited
            body = addressed.partition(END_OF_METADATA)[2]
            path.write_text(f"{metadata}{mark}{body}", encoding="utf-8")


def _results(config: HeadConfig, untested: int = 0) -> dict[str, Any]:
    """Fill the parts that both cards share: the model, its results and its limits."""
    scores, num_classes = config.scores, len(config.class_names)
    low, high = scores.thresholds
    name = escape(source_name(config.backbone))
    return {
        "title": f"{name}, {config.head.method}, {escape(config.data.name)}",
        "intro": _intro(config),
        "dataset": f"{code(config.data.name)} (imbalance {config.data.imbalance})",
        "num_classes": num_classes,
        "n_test": f"{scores.n:,}",
        "copies": config.data.duplicates.test if config.data.duplicates else 0,
        "low": low,
        "high": high,
        "group_sizes": ", ".join(f"{scores.groups[group].classes} {group}" for group in GROUPS),
        "interval_note": _interval_note(scores),
        "table": results_table(config.results),
        "mix_note": mix_note(config.head.mix, config.class_names),
        "mix_table": mix_table(config.results),
        "scale_table": scale_table(config.results, config.head.method if scores.mix else None),
        "baseline_note": f"The baseline is {config.baseline.note}. " if config.baseline else "",
        "calibration_note": calibration_note(config),
        "library": config.backbone.library,
        "limits": _limits(config, untested),
        "license": license_note(config.backbone.license),
    }


def _hardest(per_class: tuple[Number, ...], names: tuple[str, ...]) -> str:
    order = sorted((accuracy, k) for k, accuracy in enumerate(per_class) if accuracy is not None)
    text = ", ".join(f"{escape(names[k])} ({100 * accuracy:.0f} %)" for accuracy, k in order[:5])
    never = sum(accuracy == 0 for accuracy, _ in order)
    return text + (f"; in all, {never} classes are never recognised" if never > 5 else "")


def _intro(config: HeadConfig) -> str:
    backbone, head = code(source_name(config.backbone)), config.head
    if head.method == STAGE1:
        balanced = " of its logits plus the log of the class frequencies,"
        return f"{backbone} trained by cross-entropy{balanced if head.tau else ', the usual stage 1,'}"
    return (
        f"{backbone} with its linear head re-trained by **{head.method}** ({head.summary}), its "
        "backbone untouched,"
    )


def _metadata(config: HeadConfig, library: str) -> Any:
    from huggingface_hub import EvalResult, ModelCardData

    data, backbone, method, scores = config.data, config.backbone, config.head.method, config.scores
    on_hub = data.dataset if data.revision else None

    def row(metric: str, label: str, value: float) -> EvalResult:
        return EvalResult(
            task_type="image-classification",
            dataset_type=on_hub or data.name,
            dataset_name=f"{data.name} ({data.imbalance})",
            dataset_split=data.test_split,
            metric_type=metric,
            metric_name=label,
            metric_value=value,
        )

    results = [row(*metric) for metric in result_metrics(scores)]
    lineage = {
        "base_model": backbone.source,
        "base_model_revision": backbone.revision,
        "base_model_relation": "finetune",
    }
    tags = search_tags(method=method, backbone=backbone.architecture, trained_on=data.name)
    tags += search_tags(backbone=backbone.source if backbone.revision else None, trained_on=on_hub)
    return ModelCardData(
        model_name=f"{source_name(backbone)} {method}",
        library_name=library,
        pipeline_tag="image-classification",
        license=backbone.license,
        datasets=[on_hub] if on_hub else None,
        tags=list(dict.fromkeys(["image-classification", "long-tailed-recognition", *tags])),
        metrics=["accuracy", "f1"],
        eval_results=results,
        ignore_metadata_errors=False,
        **(lineage if backbone.revision else {}),
    )


METRIC_NAMES = ("accuracy", "balanced accuracy", *(f"{group}-shot accuracy" for group in GROUPS), "macro F1")
"""Names of all metrics in the metadata of a card, without the numbers of images behind those of groups."""


def result_metrics(scores: Report | Scores) -> list[tuple[str, str, float]]:
    """List the metrics for the metadata of a card: type, name and value, to six digits.

    Args:
        scores: Numbers of a model on a test set.

    Example:
        >>> import numpy as np
        >>> from lort_hub.evaluation.metrics import evaluate
        >>> result_metrics(evaluate(np.eye(2), np.array([0, 1]), np.array([200, 5])))[2]
        ('accuracy', 'many-shot accuracy (n=1)', 1.0)
    """
    overall, balanced, *of_groups, f1 = METRIC_NAMES
    metrics = [("accuracy", overall, scores.accuracy), ("accuracy", balanced, scores.balanced_accuracy)]
    for group, name in zip(GROUPS, of_groups, strict=True):
        accuracy = getattr(scores, group)
        if accuracy is not None:
            metrics.append(("accuracy", f"{name} (n={scores.groups[group].n})", accuracy))
    metrics.append(("f1", f1, scores.macro_f1))
    return [(kind, name, round(value, 6)) for kind, name, value in metrics]


def _interval_note(scores: Scores) -> str:
    interval = scores.interval
    if interval is None:
        return ""
    note = f" In brackets: {100 * interval.level:.0f} % bootstrap interval over the test images of each class"
    ranges = [interval.accuracy, interval.balanced_accuracy, interval.many, interval.medium, interval.few]
    empty = any(ends[0] == ends[1] for ends in ranges if ends)
    return note + (", empty where each class is all right or all wrong." if empty else ".")


LIMITS: dict[Mix, str] = {
    "training": "It has learned the skewed mix of the training images and favours their frequent classes: "
    "where every class matters alike, prefer a head with class balance (gamma or tau above zero).",
    "balanced": "It expects every class to be equally likely. Where the deployed mix of classes is as skewed "
    "as the training set, {rival} may be right more often.",
    "inverse": "It favours the rare classes, more than where every class is equally likely: prefer a head "
    "whose logits are no smaller than the log prior that its loss adds to them.",
}


def _limits(config: HeadConfig, untested: int) -> str:
    scores, num_classes = config.scores, len(config.class_names)
    skewed = config.baseline is not None and config.baseline.mix is None
    rival = "the baseline" if skewed else "a head of plain cross-entropy"
    if config.head.mix and config.head.mix.is_moved:
        text = "It expects the class mix that it was moved to. Where classes come in another, move it anew."
    else:
        text = LIMITS[decided_mix(config.head, config.class_counts)].format(rival=rival)
    if untested:
        text += f" Classes without a test image, of which nothing is known: {untested}."
    if scores.n < 30 * num_classes:
        per_class = scores.n / num_classes
        text += f" With about {per_class:.0f} test images a class, single classes' numbers are rough."
    return text
