"""What a user of Python saves: the folder of ten lines, and what is refused before anything is written."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from lort_hub import (
    LortHead,
    evaluate,
    extract_features,
    fit_head,
    load_backbone,
    load_long_tailed,
    save_output,
)
from lort_hub.classifiers.about import about_classifier
from lort_hub.classifiers.class_counts import read_counts
from lort_hub.classifiers.load import load_classifier
from lort_hub.data.dataset import Duplicate
from lort_hub.data.overlap import count_duplicates
from lort_hub.errors import CheckpointError, ConfigError
from lort_hub.evaluation.report import MetricsRecord
from lort_hub.hub.card import render_card
from lort_hub.hub.run_record import data_record
from lort_hub.hub.validate import validated_copy
from lort_hub.records import RunRecord, environment
from lort_hub.spreadsheets import FORMULA
from tests.support import ROOT
from tests.support.hub_client import Client
from tests.support.hub_server import WRITE, serve
from tests.support.models import timm_folder
from tests.support.pages import check_page

IMAGES = 3
PLAIN = """
import json, sys
sys.modules["lort_hub"] = None  # any import of it fails
import timm, torch
from PIL import Image
from transformers import AutoModelForImageClassification
folder, images = sys.argv[1], [Image.open(path).convert("RGB") for path in sys.argv[2:]]
model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
pixels = torch.stack([transform(image) for image in images])
with torch.inference_mode():
    logits = {"timm": model(pixels).tolist()}
    model_of_transformers = AutoModelForImageClassification.from_pretrained(folder).eval()
    logits["transformers"] = model_of_transformers(pixels).logits.tolist()
print(json.dumps({**logits, "names": list(model.pretrained_cfg["label_names"])}))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the ten lines of Python make, and where."""
    folder, root = tmp_path_factory.mktemp("notebook") / "out", tmp_path_factory.mktemp("backbone")
    backbone = load_backbone(str(timm_folder(root)), image_size=32)
    data = load_long_tailed("digits", imbalance="exp:50")
    train = extract_features(backbone, data.train)
    test = extract_features(backbone, data.test)
    baseline = fit_head(train, "ce")
    fit = fit_head(train, "lort", baseline=baseline)
    reports = {
        head.method: evaluate(head.logits(test.x), test.y, data.class_counts, weight=head.weight)
        for head in (baseline, fit)
    }
    save_output(folder, backbone, data, fit, reports)
    return {"folder": folder, "parts": (backbone, data, fit, reports), "test": test}


def test_no_name_in_per_class_csv_is_a_formula_and_each_is_read_as_it_is(made, tmp_path):
    backbone, data, fit, reports = made["parts"]
    names = ("=1+1", "'=1", "-2", "+3", "@four", "\tfive", '=6,"six"', "'tis", "8", "nine")
    splits = {part: replace(getattr(data, part), class_names=names) for part in ("train", "test")}
    save_output(tmp_path / "out", backbone, replace(data, class_names=names, **splits), fit, reports)
    table = tmp_path / "out/per_class.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows][:3] == ["'=1+1", "''=1", "'-2"]
    assert not [cell for row in rows for cell in row.values() if cell.startswith(FORMULA)]
    assert read_counts(table, names).tolist() == data.class_counts.tolist()
    about = about_classifier("digits", tmp_path / "out", *load_classifier(str(tmp_path / "out")))
    confused = [one.class_ for one in reports["lort"].confused]
    assert [one.confused_with for one in about.classes] == [None if k is None else names[k] for k in confused]


def test_names_that_are_no_unicode_do_not_lose_the_output(made, tmp_path):
    backbone, data, fit, reports = made["parts"]
    command = environment("lort-hub retrain --dataset caf\udce9")
    odd = replace(backbone, spec="caf\udce9"), replace(data, name="caf\udce9")
    save_output(tmp_path / "out", *odd, fit, reports, environment=command)
    with validated_copy(tmp_path / "out") as published:
        assert RunRecord.read(published / "run.json").environment == command
        assert "--dataset caf?" in (published / "README.md").read_text(encoding="utf-8")


def test_copies_across_splits_are_listed_counted_said_and_published(made, tmp_path):
    backbone, data, fit, reports = made["parts"]
    copies = tuple(Duplicate("ab" * 32, use, use, 3, f"{use}/4/3.png", "4") for use in ("training", "test"))
    source = {**data.source, "duplicates": count_duplicates(copies)}
    save_output(tmp_path / "out", backbone, replace(data, duplicates=copies, source=source), fit, reports)
    with validated_copy(tmp_path / "out") as published:
        listed = (published / "duplicates.csv").read_text().splitlines()
        cards = [(published / name).read_text() for name in ("README.md", "head/README.md")]
        recorded = RunRecord.read(published / "run.json").data.duplicates
    assert listed == [
        "sha256,used_for,split,row,file,class_name",
        f"{'ab' * 32},training,training,3,training/4/3.png,4",
        f"{'ab' * 32},test,test,3,test/4/3.png,4",
    ]
    assert (recorded.training, recorded.test, recorded.other_class) == (1, 1, 0)
    for card in cards:
        assert "500 test images, of which 1 are training images too, byte for byte" in card
        assert "never used for training" not in card
    assert not (made["folder"] / "duplicates.csv").exists()
    assert "never used for training or for choosing anything" in (made["folder"] / "README.md").read_text()


def test_plain_libraries_load_what_was_saved_and_give_the_logits_of_the_head(made, tmp_path):
    _, data, fit, _ = made["parts"]
    for k in range(IMAGES):
        data.test.image(k).save(tmp_path / f"{k}.png")
    paths = [tmp_path / f"{k}.png" for k in range(IMAGES)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PLAIN, made["folder"], *paths]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    expected = fit.logits(made["test"].x[:IMAGES]).numpy()
    for library in ("timm", "transformers"):
        np.testing.assert_allclose(found[library], expected, atol=1e-4)
    assert found["names"] == [str(digit) for digit in range(10)]


def test_files_hold_the_reports_the_head_and_all_that_is_known_of_the_data(made):
    folder, (backbone, data, fit, reports) = made["folder"], made["parts"]
    metrics, run = MetricsRecord.read(folder / "metrics.json"), RunRecord.read(folder / "run.json")
    assert (metrics.test, metrics.baseline) == (reports["lort"], reports["ce"])
    assert metrics.selection.chosen == fit.settings
    assert len(metrics.selection.candidates) == len(fit.selection.candidates) > 1
    assert (metrics.timing, metrics.history) == ({}, None)
    source = {name: value for name, value in json.loads(json.dumps(data.source)).items() if value is not None}
    assert source.items() <= json.loads((folder / "run.json").read_text())["data"].items()
    assert run.data.class_counts == tuple(data.class_counts)
    assert (run.arguments, run.environment.command) == ({}, None)
    assert run.backbone.sha256 == backbone.fingerprint()
    head = LortHead.from_pretrained(folder)
    assert head.weight.equal(fit.weight)
    assert head.config["results"]["lort"]["n"] == 500
    assert (folder / "README.md").read_text() == render_card(metrics, run)


def test_the_card_says_that_it_was_made_in_python(made):
    card = (made["folder"] / "README.md").read_text()
    assert "It was made in Python, with `lort_hub.save_output`.\n" in card
    assert "accelerate launch" not in card
    assert "Seconds" not in card
    assert [line.split("|")[1].strip() for line in re.findall(r"^\| (?:ce|lort) .*", card, re.MULTILINE)] == [
        "ce",
        "lort",
    ]


def test_it_is_ready_to_be_pushed(made):
    with validated_copy(made["folder"]) as copy:
        assert (copy / "head" / "README.md").exists()
    with validated_copy(made["folder"] / "head") as copy:
        assert LortHead.from_pretrained(copy).in_features == 96


def test_the_readme_s_python_makes_a_model_on_the_hub(photos, tmp_path):
    (block,) = [
        part.split("```")[0]
        for part in (ROOT / "README.md").read_text().split("```python\n")
        if part.startswith("from lort_hub import evaluate")
    ]
    assert len(block.strip().splitlines()) <= 12
    (tmp_path / "photos").symlink_to(photos)
    backbone = timm_folder(tmp_path / "backbone")
    for name in ("hub", "home"):
        (tmp_path / name).mkdir()
    code = f"import os; os.chdir({str(tmp_path)!r})\n{block.replace('resnet50', str(backbone))}"
    with serve(tmp_path / "hub") as hub:
        client = Client(hub.endpoint, tmp_path / "home")
        code, said = client.run(code, HF_TOKEN=WRITE, LORT_HUB_CACHE=str(tmp_path / "cache"))
        assert code == 0, said
        files = hub.repo("me/photos").at("main").files
    assert {"config.json", "model.safetensors", "head/model.safetensors", "metrics.json"} <= set(files)
    card = files["README.md"].data.decode()
    assert "3 classes with 9 down to 3 training images" in card
    assert "It was made in Python" in card


def test_a_baseline_is_optional_and_stands_first_in_whatever_order_it_is_given(made, tmp_path):
    backbone, data, fit, reports = made["parts"]
    save_output(tmp_path / "turned", backbone, data, fit, dict(reversed(reports.items())))
    first, turned = ((folder / "README.md").read_text() for folder in (made["folder"], tmp_path / "turned"))
    assert first == turned
    save_output(tmp_path / "alone", backbone, data, fit, reports["lort"], license="mit")
    metrics = json.loads((tmp_path / "alone" / "metrics.json").read_text())
    assert metrics["baseline"] is None
    card = (tmp_path / "alone" / "README.md").read_text()
    assert "baseline" not in card.split("## How it was made")[0]
    assert "\nlicense: mit\n" in card
    assert "| ce " not in card


def test_the_page_shows_the_mistakes_of_the_logits_given_and_stays_local(made, tmp_path):
    backbone, data, fit, reports = made["parts"]
    assert "What went wrong" not in check_page((made["folder"] / "report.html").read_text()).text
    logits = fit.logits(made["test"].x)
    for part in (logits[1:], logits[:, 1:]):
        with pytest.raises(ConfigError, match=r"`logits` have the shape \(\d+, \d+\), expected \(500, 10\)"):
            save_output(tmp_path / "out", backbone, data, fit, reports, logits=part)
    save_output(tmp_path / "out", backbone, data, fit, reports, logits=logits)
    page = check_page((tmp_path / "out" / "report.html").read_text())
    wrong = int((logits.argmax(dim=1) != made["test"].y).sum())
    assert f"lort is wrong about {wrong} of 500 test images" in page.text
    assert "in Python, with lort_hub.save_output" in page.text
    with validated_copy(tmp_path / "out") as published:
        assert not list(published.rglob("*.html"))  # it holds pictures that may be private


def test_what_does_not_belong_together_is_refused_before_anything_is_written(made, tmp_path):
    backbone, data, fit, reports = made["parts"]
    report, none = reports["lort"], {}
    other = load_backbone("test_vit", pretrained=False)
    few = evaluate(np.eye(3), np.arange(3), np.arange(1, 4))
    cosine = replace(fit, head=object(), method="cosine")
    refused = [
        ((other, data, fit, reports), "10 classes and 96 features, expected 10 and 64"),
        ((backbone, data, fit, none), "`reports` are of nothing, expected one of 'lort'"),
        ((backbone, data, fit, {"ce": report}), "`reports` are of ce, expected one of 'lort'"),
        ((backbone, data, fit, {"lort": report, "crtt": report}), "Did you mean 'crt'"),
        ((backbone, data, fit, {"lort": few}), "on 3 classes, expected 10"),
        ((backbone, data, cosine, {"cosine": report}), "The head of 'cosine' is not linear"),
    ]
    for parts, message in refused:
        with pytest.raises(ConfigError, match=re.escape(message)) as error:
            save_output(tmp_path / "out", *parts)
        assert str(error.value).count("\n") < 3
    assert not list(tmp_path.iterdir())


def test_a_folder_is_replaced_when_asked_and_never_where_it_is_not_an_output(made, tmp_path):
    folder, parts = shutil.copytree(made["folder"], tmp_path / "out"), made["parts"]
    with pytest.raises(CheckpointError, match=r"not empty.\nPass `overwrite=True`"):
        save_output(str(folder), *parts)
    (folder / "mine.txt").write_text("")
    save_output(str(folder), *parts, overwrite=True)
    assert not (folder / "mine.txt").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "mine.txt").write_text("")
    with pytest.raises(CheckpointError, match="not lort_hub's"):
        save_output(tmp_path / "thesis", *parts, overwrite=True)
    assert (tmp_path / "thesis" / "mine.txt").exists()


def test_features_are_as_good_on_disk_as_in_memory(made):
    backbone, data, fit, _ = made["parts"]
    train = extract_features(backbone, data.train)
    again = fit_head(train.load(), "lort")
    assert again.weight.equal(fit.weight)
    assert train.x.equal(train.load().x)
    assert train.y.equal(torch.from_numpy(data.train.labels))


def test_all_that_is_known_of_an_image_folder_is_recorded(photos):
    data = load_long_tailed(str(photos))
    source = {name: value for name, value in json.loads(json.dumps(data.source)).items() if value is not None}
    assert "not_read" in source
    assert source.items() <= data_record(data).to_json().items()
