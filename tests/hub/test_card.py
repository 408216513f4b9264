import copy
import csv
import json
import re
import shutil
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from lort_hub.backbones.load import load_backbone
from lort_hub.commands.training_arguments import TrainingArguments
from lort_hub.data.load import load_long_tailed
from lort_hub.evaluation.markdown import escape
from lort_hub.evaluation.metrics import evaluate
from lort_hub.evaluation.report import MetricsRecord, Report
from lort_hub.evaluation.tables import GROUPS, REPORT_COLUMNS, results_table
from lort_hub.files import write_csv
from lort_hub.heads.fit import fit_head
from lort_hub.heads.methods import STAGE1
from lort_hub.heads.training_set import TrainingSet
from lort_hub.hub.card import address_cards, render_card, render_head_card
from lort_hub.hub.head_file import HeadConfig
from lort_hub.hub.output import save_output
from lort_hub.hub.run_record import per_class_rows
from lort_hub.records import RunRecord, TrainedOn, environment
from lort_hub.run_log import RunLog

HOSTILE = [
    "a|b", "<script>alert(1)</script>", "{{ 7*7 }}", "line\nbreak", "\n\n# Heading", "```", "`code`",
    "[x](http://y)", "![i](data:x)", "**bold**\r\n---\nlicense: mit", "~~gone~~", "&lt;b&gt;", "\\", "$x^{$",
    "---", "__a__", "_a_b_", "*a*", "www.b.com", "http://c.com", "<d@e.com>", "🐼 pánda", "- item: x", "# h",
    "end\n```\n<b>of</b> code",
]  # fmt: skip
MARKS = ("html_inline", "image", "link_open", "strong_open", "em_open", "s_open", "softbreak", "hardbreak")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The output folder of a run on digits: a LORT head beside cross-entropy, with random features."""
    torch.manual_seed(0)
    folder, rng = tmp_path_factory.mktemp("card") / "out", np.random.default_rng(0)
    backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
    data = load_long_tailed("digits")
    x = torch.randn(len(data.train), backbone.num_features)
    fit = fit_head(TrainingSet(x, torch.from_numpy(data.train.labels), 10), "lort", gamma=0.5)
    logits = rng.normal(size=(2, len(data.test), 10)) + 2 * np.eye(10)[data.test.labels]
    reports = {
        name: evaluate(z, data.test.labels, data.class_counts, weight=fit.weight, bootstrap=50)
        for name, z in zip(("ce", "lort"), logits, strict=True)
    }
    log, software = RunLog(), environment("retrain.py --dataset digits")
    for name, seconds in {"data": 1.25, "head": 0.5}.items():
        log.add_phase(name, seconds)
    how = {"log": log, "environment": software}
    save_output(folder, backbone, data, fit, reports, arguments={"seed": 0}, **how)
    return folder


@pytest.fixture
def run_and_metrics(written):
    """The content of run.json and metrics.json, to be changed by a test."""
    return tuple(json.loads((written / f"{name}.json").read_text()) for name in ("run", "metrics"))


def render(metrics, run, repo_id=None):
    """The card of changed contents of metrics.json and run.json."""
    return render_card(MetricsRecord.from_json(metrics), RunRecord.from_json(run), repo_id)


def render_head(config, repo_id=None):
    return render_head_card(HeadConfig.from_json(config), repo_id)


def rows_of(run, metrics):
    return per_class_rows(RunRecord.from_json(run), MetricsRecord.from_json(metrics))


def table_of(**reports):
    return results_table({name: Report.from_json(report) for name, report in reports.items()})


def markdown(card):
    """Structure of a card's blocks, how often each inline mark-up occurs, and its plain text."""
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(card.split("\n---\n", 1)[1])
    inline = [child for token in tokens for child in token.children or ()]
    code = [child.content in ("<code>", "</code>") for child in inline]
    marks = Counter(child.type for child, is_code in zip(inline, code, strict=True) if not is_code)
    text = "".join(child.content for child, is_code in zip(inline, code, strict=True) if not is_code)
    return [token.type for token in tokens], {mark: marks[mark] for mark in MARKS}, text


def fences(card):
    """The content of a card's blocks of code."""
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark")
    return [token.content for token in parser.parse(card) if token.type == "fence"]


def test_card_is_rendered_from_the_two_files_alone(written, run_and_metrics):
    run, metrics = run_and_metrics
    assert (written / "README.md").read_text() == render(metrics, run)


def test_table_has_every_column_and_only_numbers_of_the_metrics(run_and_metrics):
    run, metrics = run_and_metrics
    table = table_of(ce=metrics["baseline"], lort=metrics["test"])
    assert table in render(metrics, run)
    header, rule, *rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in table.split("\n")
    ]
    assert header == ["head", "accuracy", "balanced", "many", "medium", "few", "macro F1", "ECE", "NLL"]
    assert len({len(line) for line in table.split("\n")}) == 1
    assert set("".join(rule)) <= set("-| ")
    for name, row, report in zip(("ce", "lort"), rows, (metrics["baseline"], metrics["test"]), strict=True):
        assert row[0] == name
        for key, cell in zip(REPORT_COLUMNS, row[1:], strict=True):
            value, *interval = [float(number) for number in re.findall(r"[\d.]+", cell)]
            scale, digits = (1, 3) if key == "nll" else (100, 1)
            assert value == round(scale * report[key], digits)
            expected = report["interval"].get(key) or []
            assert interval == [round(100 * end, 1) for end in expected]


def test_empty_group_is_not_available_and_not_in_the_metadata(run_and_metrics):
    run, _ = run_and_metrics
    labels = np.arange(10)
    report = evaluate(np.eye(10), labels, np.full(10, 500), bootstrap=10)
    assert results_table({"lort": report}).count("n/a") == 2
    values = report.to_json()
    card = render({"test": values, "baseline": values, "selection": None, "timing": {"data": 1.0}}, run)
    assert [result.metric_name for result in ModelCard(card).data.eval_results] == [
        "accuracy", "balanced accuracy", "many-shot accuracy (n=10)", "macro F1"
    ]  # fmt: skip


def test_metadata_round_trips_the_numbers(run_and_metrics):
    run, metrics = run_and_metrics
    data, test = ModelCard(render(metrics, run)).data, metrics["test"]
    found = {result.metric_name: result for result in data.eval_results}
    groups = {f"{group}-shot accuracy (n={test['groups'][group]['n']})": test[group] for group in GROUPS}
    names = {"accuracy": "accuracy", "balanced accuracy": "balanced_accuracy", "macro F1": "macro_f1"}
    expected = {**groups, **{name: test[key] for name, key in names.items()}}
    assert {name: result.metric_value for name, result in found.items()} == pytest.approx(expected, abs=1e-6)
    assert {result.dataset_name for result in found.values()} == {"digits (exp:10)"}
    assert (data.library_name, data.pipeline_tag) == ("timm", "image-classification")


def test_hub_sources_are_linked_and_local_ones_are_not(run_and_metrics):
    run, metrics = run_and_metrics
    assert ModelCard(render(metrics, run)).data.get("base_model") is None
    assert ModelCard(render(metrics, run)).data.get("datasets") is None
    run["backbone"].update(source="timm/resnet18.a1_in1k", revision="f" * 40, license="apache-2.0")
    run["data"].update(dataset="uoft-cs/cifar100", revision="e" * 40)
    data = ModelCard(render(metrics, run)).data
    assert (data.base_model, data.datasets, data.license) == (
        "timm/resnet18.a1_in1k", ["uoft-cs/cifar100"], "apache-2.0"
    )  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(written, run_and_metrics, name):
    run, metrics = run_and_metrics
    plain = render(metrics, run)
    worst = metrics["test"]["worst_class"]["class"]
    hostile = {"source": name, "spec": name, "architecture": name, "license": name}
    head = json.loads((written / "head" / "config.json").read_text())
    plain_head = render_head(head)
    for record in (run, head):
        record["class_names"] = [f"{name}{k}" for k in range(10)]
        record["data"] |= {"name": name, "dataset": name}
        record["backbone"] |= hostile
    run["environment"]["command"] = f"retrain.py --dataset {name}"
    card = render(metrics, run)
    assert markdown(card)[:2] == markdown(plain)[:2]
    assert markdown(render_head(head))[:2] == markdown(plain_head)[:2]
    text = markdown(card)[2]
    assert f"Hardest classes: {name}{worst} (" in text
    assert f"the long tail of {name} (imbalance" in text
    assert f"--dataset {name}\n".replace("\r", "") in fences(card)[-1]
    data = ModelCard(card).data
    assert data.license == name
    run["backbone"]["license"] = None
    data = ModelCard(render(metrics, run)).data
    assert {result.dataset_name for result in data.eval_results} == {f"{name} (exp:10)"}
    assert data.to_dict().keys() == ModelCard(plain).data.to_dict().keys()
    assert escape(name) == name or f"{name}{worst}" not in card


def variants(run, metrics):
    yield "as it is", run, metrics
    bare = copy.deepcopy(metrics)
    bare["selection"], bare["test"]["weight_norm"] = None, None
    del bare["test"]["interval"], bare["baseline"]["interval"]
    yield "bare", run, bare
    yield (
        "sgd",
        {**run, "head": {**run["head"], "relative_gradient": None, "method": "lort-published"}},
        metrics,
    )
    yield "transformers", {**run, "backbone": {**run["backbone"], "library": "transformers"}}, metrics
    yield "no license", {**run, "backbone": {**run["backbone"], "license": None}}, metrics
    yield "no git", {**run, "environment": {**run["environment"], "git_revision": None}}, metrics
    in_python = {**run, "environment": {**run["environment"], "command": None}}
    yield "in Python", in_python, {**metrics, "timing": {}}
    yield "alone", {**run, "baseline": None}, {**metrics, "baseline": None}
    stage1 = {
        "arguments": asdict(TrainingArguments(pretrained=False, epochs=2)),
        "head": {**run["head"], "method": STAGE1},
        "baseline": None,
        "backbone": {**run["backbone"], "trained_on": TrainedOn("digits", "train", (1, 2), "0").to_json()},
    }
    history = [{"held_out_balanced_accuracy": 0.5}, {"held_out_balanced_accuracy": 0.4}]
    trained = {**metrics, "baseline": None, "selection": None, "history": history}
    yield "stage 1", {**run, **stage1}, trained
    yield "stage 1 in Python", {**run, **stage1, "arguments": {}}, trained
    balanced = asdict(TrainingArguments(pretrained=False, epochs=2, loss="balanced-softmax"))
    of_loss = {**run, **stage1, "head": {**stage1["head"], "tau": 1.0}, "arguments": balanced}
    yield "stage 1 of balanced softmax", of_loss, trained
    yield "images that are too easy", run, {**metrics, "note": "100.0 % of the held-out images."}
    tuned = {"tune": "lora", "patience": 3, "mixup": 0.2, "auto_augment": "rand-m9", "ema_decay": 0.99}
    tuned |= {"cutout": 16, "warmup_epochs": 0}
    arguments = asdict(TrainingArguments(**tuned, clip_grad=1.0))
    yield "stage 1 with everything", {**run, **stage1, "arguments": arguments}, trained
    tested = np.array([0, 0, 1])
    partly = evaluate(np.eye(10)[[0, 1, 1]], tested, run["data"]["class_counts"]).to_json()
    yield "classes without test images", run, {**metrics, "test": partly, "baseline": partly}


def test_a_stage_1_says_the_loss_it_was_trained_with(run_and_metrics):
    cards = {name: render(metrics, run) for name, run, metrics in variants(*run_and_metrics)}
    assert "trained by cross-entropy, the usual stage 1, for the long tail" in cards["stage 1"]
    balanced = cards["stage 1 of balanced softmax"]
    assert "the usual stage 1" not in balanced
    assert "trained by cross-entropy of its logits plus the log of the class frequencies, for the" in balanced
    assert "cutout 16" in cards["stage 1 with everything"]
    assert "batches of 64 a process, 0 epochs of warm-up, " in cards["stage 1 with everything"]


def test_no_card_has_a_hole(run_and_metrics):
    for name, run, metrics in variants(*run_and_metrics):
        card = render(metrics, run)
        assert not re.search(
            r"More Information Needed|\b(None|nan|inf|null|Undefined)\b|\{\{|\{%|\}\}", card
        ), name
        assert "  \n" not in card, name
        ModelCard(card)


@pytest.mark.parametrize("repo_id", [None, "me/name"])
@pytest.mark.parametrize(("library", "needed"), [("timm", False), ("timm", True), ("transformers", False)])
def test_snippets_compile_and_name_what_they_need(written, run_and_metrics, repo_id, library, needed):
    run, metrics = run_and_metrics
    run["backbone"].update(library=library, needs_lort_hub=needed)
    head = json.loads((written / "head" / "config.json").read_text())
    head["backbone"] |= {"library": library, "revision": "f" * 40}
    snippet, *others = re.findall(r"```python\n(.*?)```", render(metrics, run, repo_id), re.DOTALL)
    of_head, *more = re.findall(r"```python\n(.*?)```", render_head(head, repo_id), re.DOTALL)
    assert others == more == []
    for block in (snippet, of_head):
        compile(block, "card", "exec")
        assert ("import timm" in block) == (library == "timm")
        assert "\n\n\n" not in block
    assert ("lort_hub" in snippet) == needed
    assert f'pipeline("image-classification", "{repo_id or "."}")' in snippet
    assert (f'"{"hf-hub:me/name" if repo_id else "local-dir:."}"' in snippet) == (library == "timm")
    assert f'from_pretrained("{repo_id or "."}")' in of_head
    assert "attach()" in of_head


def test_cards_are_addressed_to_where_they_are_pushed_unless_edited(written, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(written, folder)
    address_cards(folder, "me/name")
    for place in (folder, folder / "head"):
        card = (place / "README.md").read_text()
        assert '"me/name")' in card
        assert "In this folder" not in card
    edited = (written / "README.md").read_text() + "More.\n"
    (folder / "README.md").write_text(edited)
    address_cards(folder, "me/other")
    assert (folder / "README.md").read_text() == edited
    metadata, body = (written / "README.md").read_text().split("\n---\n", 1)
    (folder / "README.md").write_text(f"{metadata}\nmine: true  # kept\n---\n{body}")
    address_cards(folder, "me/other")
    kept, addressed = (folder / "README.md").read_text().split("\n---\n", 1)
    assert kept == f"{metadata}\nmine: true  # kept"
    assert addressed != body
    assert '"me/other")' in addressed
    shutil.copytree(written / "head", tmp_path / "alone")
    address_cards(tmp_path / "alone", "me/head")
    assert '"me/head")' in (tmp_path / "alone" / "README.md").read_text()


def test_a_thousand_classes_make_no_longer_card(run_and_metrics):
    run, metrics = run_and_metrics
    names, counts = [f"class {k}" for k in range(1000)], np.arange(1000, 0, -1)
    report = evaluate(np.eye(1000), np.arange(1000), counts).to_json()
    run["class_names"], run["data"]["class_counts"] = names, counts.tolist()
    card = render({**metrics, "test": report, "baseline": report}, run)
    assert len(card) < 10_000
    assert "1000 classes with 1000 down to 1 training images" in card


def test_tags_say_method_backbone_and_data(run_and_metrics):
    run, metrics = run_and_metrics
    plain = ["image-classification", "long-tailed-recognition", "lort_hub", "method:lort"]
    tags = ModelCard(render(metrics, run)).data.tags
    assert tags == [*plain, "backbone:test_resnet", "trained-on:digits"]
    run["backbone"].update(source="timm/test.r1", revision="f" * 40)
    run["data"].update(dataset="org/digits", revision="e" * 40)
    tags = ModelCard(render(metrics, run)).data.tags
    assert {"backbone:timm/test.r1", "backbone:test_resnet", "trained-on:org/digits", "trained-on:digits"} < {
        *tags
    }
    run["data"].update(name="my photos: a|b\n---", revision=None)
    assert ModelCard(render(metrics, run)).data.tags[-2] == "trained-on:my-photos-a-b"


def test_a_license_is_stated_where_it_is_known_and_never_made_up(run_and_metrics):
    run, metrics = run_and_metrics
    card = render(metrics, run)
    assert ModelCard(card).data.license is None
    assert "Not stated: no license of the backbone is known." in card
    run["backbone"]["license"] = "cc-by-nc-4.0"
    assert "`cc-by-nc-4.0`." in render(metrics, run)


def test_citations_are_of_the_method_and_of_lort(run_and_metrics):
    run, metrics = run_and_metrics
    assert render(metrics, run).count("https://arxiv.org/abs/") == 1
    run["head"]["method"] = "balanced-softmax"
    card = render(metrics, run)
    assert "`balanced-softmax`: [arXiv 2007.10740](https://arxiv.org/abs/2007.10740)." in card
    assert "https://arxiv.org/abs/2403.00250" in card
    assert "Made with lort_hub" in card


def test_what_the_test_images_cannot_say_is_said(run_and_metrics):
    run, metrics = run_and_metrics
    limits = render(metrics, run).split("## When not to use it\n")[1].split("##")[0]
    assert "expects every class to be equally likely" in limits
    assert "without a test image" not in limits
    metrics["test"]["per_class_accuracy"][3] = None
    assert "Classes without a test image, of which nothing is known: 1." in render(metrics, run)
    assert "\nBalanced accuracy, groups and F1 leave out classes without a test image: 1.\n" in render(
        metrics, run
    )
    metrics["test"]["n"] = 100
    assert "With about 10 test images a class" in render(metrics, run)


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("ce", {"gamma": 0.0, "tau": 0.0}, "favours their frequent classes"),
        ("lort", {"gamma": 0.0, "tau": 0.0}, "favours their frequent classes"),
        ("tau-norm", {"power": 0.0}, "favours their frequent classes"),
        *((name, {}, "expects every class to be equally likely") for name in ("eb-lda", "ncm", "lws")),
        ("tau-norm", {"power": 0.1}, "expects every class to be equally likely"),
        ("maxnorm", {"gamma": 1.0, "share": 0.2}, "expects every class to be equally likely"),
        ("stack", {"ce": 0.3, "ncm": 0.7}, "expects every class to be equally likely"),
        ("balanced-softmax+lort", {"tau": 1.0}, "favours the rare classes"),
    ],
)
def test_limits_are_those_of_the_method_and_its_settings(run_and_metrics, method, settings, said):
    run, metrics = run_and_metrics
    run["head"].update(method=method, settings=settings, gamma=0.0, tau=0.0)
    assert said in render(metrics, run).split("## When not to use it\n")[1].split("##")[0]


@pytest.mark.parametrize("counts", [[50] * 10, [52, 48, 50, 49, 51] * 2])
@pytest.mark.parametrize(
    ("method", "said"), [("ce", "favours their frequent"), ("ncm", "expects every class")]
)
def test_where_all_classes_are_as_large_the_method_says_what_is_favoured(
    run_and_metrics, counts, method, said
):
    run, metrics = run_and_metrics
    run["data"]["class_counts"] = counts
    mix = {"name": "as made", "shares": [0.1] * 10, "scale": 1.0}
    run["head"].update(method=method, settings={}, gamma=0.0, scale=1.0, mix=mix)
    assert said in render(metrics, run).split("## When not to use it\n")[1]


@pytest.mark.parametrize(
    ("power", "decides", "limit"),
    [
        (1.1, "It decides for the class mix of the training images", "favours their frequent classes"),
        (0.2, "It decides for classes that are equally likely", "expects every class to be equally likely"),
        (-1.0, "It decides for a mix of mostly rare classes", "favours the rare classes"),
    ],
)
def test_a_measured_class_mix_counts_and_not_what_its_method_promises(run_and_metrics, power, decides, limit):
    run, metrics = run_and_metrics
    shares = np.power(run["data"]["class_counts"], power)
    mix = {"name": "as made", "shares": (shares / shares.sum()).tolist(), "scale": 1.0}
    run["head"].update(method="lort-published", settings={}, scale=1.0, mix=mix)
    card = render(metrics, run)
    assert decides in card
    assert limit in card.split("## When not to use it\n")[1]


@pytest.mark.parametrize(("scale", "flat"), [(None, True), (1.0, True), (30.0, False)])
def test_only_over_smoothed_heads_that_are_as_solved_are_called_flat(run_and_metrics, scale, flat):
    run, metrics = run_and_metrics
    run["head"].update(delta=0.98, scale=scale)
    metrics["test"]["ece"] = 0.5
    card = render(metrics, run)
    assert "Expected calibration error 50.0 %." in card
    assert ("Over-smoothed labels" in card) == flat


def test_the_card_says_what_the_head_decides_for_and_what_its_logits_are(run_and_metrics):
    run, metrics = run_and_metrics
    run["head"].update(method="ncm", settings={}, scale=0.25)
    card = render(metrics, run)
    assert "equally likely, is not told the class counts; its logits are those solved times 0.25" in card
    run["head"].update(method="ce", settings={}, scale=1.0)
    card = render(metrics, run)
    assert "mix of the training images, is not told the class counts; its logits are as solved." in card
    run["head"].update(settings={"gamma": 0.5})
    assert "is told the class counts; its logits are as solved." in render(metrics, run)


def test_both_cards_show_a_calibrated_head_as_solved_too(run_and_metrics):
    run, metrics = run_and_metrics
    labels = np.arange(10)
    report = evaluate(8 * np.eye(10), labels, np.full(10, 500), scale=8.0)
    metrics["test"], metrics["baseline"] = report.to_json(), evaluate(np.eye(10), labels, labels).to_json()
    config = HeadConfig.of(RunRecord.from_json(run), MetricsRecord.from_json(metrics)).to_json()
    for card in (render(metrics, run), render_head(config)):
        rows = [
            line.split("|")[1:-1] for line in card.splitlines() if re.match(r"\| lort +\| (as|cal)", line)
        ]
        assert [[cell.strip() for cell in row] for row in rows] == [
            [
                "lort",
                "as solved",
                f"{100 * report.as_solved.ece:.1f}",
                f"{report.as_solved.nll:.3f}",
                "1",
                "0",
            ],
            ["lort", "calibrated", f"{100 * report.ece:.1f}", f"{report.nll:.3f}", "8", "0"],
        ]


def test_a_moved_head_says_of_each_number_whether_it_is_of_the_head_before(run_and_metrics):
    run, metrics = run_and_metrics
    shares = [0.55, *[0.05] * 9]
    run["head"].update(method="lort", mix={"name": "street.csv", "shares": shares, "scale": 1.0})
    scale = {"logits_magnitude": 1.0, "regularized_std": 0.1, "weight_norm": 1.0}
    solved, calibrated = {"nll": 2.0, "ece": 0.5, **scale}, {"nll": 1.0, "ece": 0.25, **scale}
    moved = {"name": "street.csv", "accuracy": 0.75, "nll": 0.5, "ece": 0.125}
    metrics["test"].update(ece=0.375, as_solved=solved, calibrated=calibrated, mix=moved)
    metrics["baseline"].update(as_solved=solved, calibrated=calibrated, mix=moved)
    card = render(metrics, run)
    assert "The new head alone was moved to the class mix `street.csv`" in card
    assert "of the moved head 37.5 % on the test images as they are, 12.5 % at street.csv." in card
    after = [line for line in card.splitlines() if "| calibrated | 25.0 " in line]
    assert [line.split("|")[1].strip() for line in after] == ["ce", "lort, before it was moved"]


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("lort", {"delta": 0.0, "gamma": 0.0, "tau": 0.0}, "2. Head: lort, delta 0, gamma 0, solved"),
        ("crt", {"delta": 0.0, "gamma": 0.0, "tau": 0.0}, "2. Head: crt, gamma 0, solved"),
        ("stack", {"lort": 1.0, "tau": 0.0}, "2. Head: stack, lort 1, tau 0, solved"),
        ("ce", {"delta": 0.0, "gamma": 0.0, "weight_decay": 0.5}, "2. Head: ce, weight decay 0.5, solved"),
    ],
)
def test_a_setting_that_was_chosen_as_zero_is_on_the_card(run_and_metrics, method, settings, said):
    run, metrics = run_and_metrics
    run["head"].update(method=method, settings=settings)
    assert said in render(metrics, run)


def test_hardest_classes_are_named_worst_first(run_and_metrics):
    run, metrics = run_and_metrics
    metrics["test"]["per_class_accuracy"] = [1.0, 0.5, None, 0.25, 0.75, 0.9, 0.9, 0.8, 1.0, 1.0]
    run["class_names"][3] = "x_y"
    hardest = "Hardest classes: x_y (25 %), 1 (50 %), 4 (75 %), 7 (80 %), 5 (90 %)."
    assert hardest in render(metrics, run)
    metrics["test"]["per_class_accuracy"] = [0.0] * 6 + [1.0] * 4
    assert "4 (0 %); in all, 6 classes are never recognised." in render(metrics, run)


def test_interval_is_explained_where_there_is_one(run_and_metrics):
    run, metrics = run_and_metrics
    assert "In brackets: 95 % bootstrap interval" in render(metrics, run)
    del metrics["test"]["interval"], metrics["baseline"]["interval"]
    assert "[" not in table_of(ce=metrics["baseline"], lort=metrics["test"])
    assert "bracket" not in render(metrics, run)


def test_a_name_that_is_no_text_is_written_all_the_same(run_and_metrics, tmp_path):
    run, metrics = run_and_metrics
    run["class_names"] = [f"caf\udce9{k}" for k in range(10)]  # a folder named in Latin-1
    (tmp_path / "README.md").write_text(render(metrics, run), encoding="utf-8")
    assert "caf&#65533;" in (tmp_path / "README.md").read_text()
    rows = rows_of(run, {**metrics, "baseline": None})
    write_csv(tmp_path / "rows.csv", rows)
    assert b",caf\xe93," in (tmp_path / "rows.csv").read_bytes()


def test_per_class_rows_are_the_file(written, run_and_metrics):
    run, metrics = run_and_metrics
    test, base = metrics["test"], metrics["baseline"]
    rows = rows_of(run, metrics)
    with (written / "per_class.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{key: str(value) for key, value in row.items()} for row in rows]
    assert rows[3] == {
        "class": 3,
        "name": "3",
        "train_images": run["data"]["class_counts"][3],
        "accuracy": test["per_class_accuracy"][3],
        "baseline_accuracy": base["per_class_accuracy"][3],
        "logits_magnitude": test["logits_magnitude"]["per_class"][3],
        "regularized_std": test["regularized_std"]["per_class"][3],
        "weight_norm": test["weight_norm"]["per_class"][3],
        "test_images": 50,
        "confused_with": run["class_names"][test["confused"][3]["class"]],
        "confused_images": test["confused"][3]["wrong"],
    }
    alone = rows_of(run, {**metrics, "test": {**test, "weight_norm": None}, "baseline": None})
    assert {(row["baseline_accuracy"], row["weight_norm"]) for row in alone} == {(None, None)}


def test_what_was_left_out_and_what_an_interval_cannot_say_are_said(run_and_metrics):
    run, metrics = run_and_metrics
    assert "could not be decoded" not in render(metrics, run)
    rows = [{"split": "train", "row": 3, "class": "bee"}]
    card = render(metrics, {**run, "data": {**run["data"], "left_out": rows}})
    assert "Images left out because they could not be decoded: 1," in card
    for interval, said in (([0.5, 0.9], False), ([1.0, 1.0], True)):
        test = {**metrics["test"], "interval": {"level": 0.95, "resamples": 10, "accuracy": interval}}
        card = render({**metrics, "test": test}, run)
        assert ("empty where each class is all right or all wrong" in card) is said


def test_the_card_of_a_sum_says_how_its_weights_and_its_members_were_chosen(run_and_metrics):
    run, metrics = run_and_metrics
    run["head"].update(method="stack", settings={"ce": 0.3, "ncm": 0.7}, scale=1.0)
    metrics["selection"] = {
        "chosen": {"ce": 0.3},
        "why": "0.30 ce + 0.70 ncm has NLL 1",
        "methods": {"stack": -1},
    }
    card = render(metrics, run)
    assert "its logits are calibrated by the weights." in card
    assert (
        "weights of their calibrated logits, were chosen on training images alone: 0.30 ce + 0.70 ncm has"
        in card
    )
    assert "no settings to choose" not in card
