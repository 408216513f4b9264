"""What is known of a classifier, from the files in its folder."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from lort_hub.classifiers.about import about_classifier
from lort_hub.classifiers.load import load_classifier
from lort_hub.classifiers.page import ClassFacts
from lort_hub.errors import CheckpointError
from lort_hub.evaluation.metrics import evaluate
from lort_hub.hub.validate import validated_copy


def about(folder, **changes):
    backbone, record = load_classifier(str(folder))
    return about_classifier("digits", folder, replace(backbone, **changes), record)


def test_counts_and_confusions_are_those_of_the_records(outputs):
    metrics, run = (json.loads((outputs["timm"] / f"{name}.json").read_text()) for name in ("metrics", "run"))
    classes = about(outputs["timm"]).classes
    assert [one.train_images for one in classes] == run["data"]["class_counts"]
    for one, confused in zip(classes, metrics["test"]["confused"], strict=True):
        assert (one.test_images, one.confused_images) == (confused["n"], confused["wrong"])
        assert one.confused_with == run["class_names"][confused["class"]]
        assert 0 < one.confused_images < one.test_images


def test_confusions_are_counted_by_true_class():
    labels, predicted = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 2, 1, 2, 1, 1, 0])
    report = evaluate(np.eye(4)[predicted], labels, np.array([9, 8, 7, 6]))
    found = [(one.class_, one.wrong, one.n) for one in report.confused]
    assert found == [(2, 2, 4), (None, 0, 2), (0, 1, 1), (None, 0, 0)]
    tied = evaluate(np.eye(3)[[2, 1]], np.array([0, 0]), np.array([9, 8, 7])).confused[0]
    assert (tied.class_, tied.wrong) == (1, 1)


def test_a_head_alone_knows_its_counts_and_a_plain_model_its_names(outputs, tmp_path):
    head = about(outputs["timm"] / "head").classes
    counts = [one.train_images for one in about(outputs["timm"]).classes]
    assert head == tuple(ClassFacts(str(k), count) for k, count in enumerate(counts))
    shutil.copytree(outputs["timm"], tmp_path / "plain", ignore=shutil.ignore_patterns("head", "*.csv"))
    assert about(tmp_path / "plain").classes == tuple(ClassFacts(str(k)) for k in range(10))


def test_classes_of_one_name_stay_apart(outputs):
    names = [one.name for one in about(outputs["timm"], class_names=("crane",) * 9 + ("owl",)).classes]
    assert names == [f"crane ({k})" for k in range(9)] + ["owl"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda config: config["results"].popitem(),
            r"HeadConfig.results lacks '\w+', the head's own method",
        ),
        (lambda config: config.pop("backbone"), "HeadConfig lacks backbone"),
        (lambda config: config.update(head=[]), r"HeadRecord is \[\], expected a JSON object"),
        (lambda config: config["head"].update(delta="x"), "HeadRecord.delta is 'x', expected a number"),
        (lambda config: config.update(class_counts=[3]), "class_counts has 1 numbers for 10 class_names"),
    ],
)
def test_a_damaged_record_is_refused_with_what_is_wrong(change, message, outputs, tmp_path):
    folder = shutil.copytree(outputs["timm"], tmp_path / "out")
    config = json.loads((folder / "head/config.json").read_text())
    change(config)
    (folder / "head/config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message) as error:
        about(folder)
    assert str(error.value).count("\n") == 2
    with pytest.raises(CheckpointError, match=message), validated_copy(folder):
        pass


def test_a_run_with_other_counts_than_classes_is_not_published(outputs, tmp_path):
    folder = shutil.copytree(outputs["timm"], tmp_path / "out")
    run = json.loads((folder / "run.json").read_text())
    run["data"]["class_counts"] = []
    (folder / "run.json").write_text(json.dumps(run))
    with pytest.raises(CheckpointError, match="0 class_counts for 10 class_names"), validated_copy(folder):
        pass


@pytest.mark.parametrize("text", ["name,test_images\nant,x\n", "name,test_images\nant,3\n"])
def test_a_damaged_table_of_classes_is_refused(text, outputs, tmp_path):
    folder = shutil.copytree(outputs["timm"], tmp_path / "out")
    (folder / "per_class.csv").write_text(text)
    with pytest.raises(CheckpointError, match="per_class.csv (is damaged|has 1 rows, expected 10)"):
        about(folder)


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_a_table_of_an_earlier_version_has_counts_alone(library, outputs, tmp_path):
    folder = shutil.copytree(outputs[library], tmp_path / "out")
    lines = (folder / "per_class.csv").read_text().splitlines()
    (folder / "per_class.csv").write_text("".join(f"{line.rsplit(',', 3)[0]}\n" for line in lines))
    assert {one.test_images for one in about(folder).classes} == {None}
    assert about(folder).classes[0].train_images == about(outputs[library]).classes[0].train_images
