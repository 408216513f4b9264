"""recipes/evaluate.py: other people's classifiers, against plain timm, transformers and scikit-learn."""

import csv
import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.stats import binomtest
from sklearn import metrics as sklearn_metrics

from lort_hub.classifiers.record import EvaluationRecord
from tests.support.images import fill, noise_image
from tests.support.models import as_if_trained
from tests.support.recipes import run, run_together

CLASSES = ["<b>bold & 'quoted'", "Bee_hive", 'cat|,"x', "dog"]
TRAIN = dict(zip(CLASSES, (25, 21, 6, 3), strict=True))
NAMES = {"timm": ["dog", "wolf", "bee hive", *CLASSES[::2]], "transformers": [*CLASSES, "owl"]}
TEXTS = ("name", "class", "predicted", "confused_with", "worst_class")
"""Columns of class names."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Pictures in class folders of hostile names, and classifiers of two libraries in other class orders."""
    import timm
    from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

    root = tmp_path_factory.mktemp("evaluate")
    fill(root / "photos/train", TRAIN)
    for label, name in enumerate(CLASSES):
        (root / "photos/test" / name).mkdir(parents=True)
        for k in range(12):
            noise_image(7 * (100 * label + k) + label, (40, 36)).save(root / f"photos/test/{name}/{k}.png")
    torch.manual_seed(0)
    sizes = dict.fromkeys(("input_size", "test_input_size"), (3, 32, 32))
    model = as_if_trained(timm.create_model("test_resnet", num_classes=5, pretrained_cfg_overlay=sizes))
    names = {"label_names": NAMES["timm"]}
    timm.models.save_for_hf(model, str(root / "timm"), model_config=names, safe_serialization=True)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    config.id2label = dict(enumerate(NAMES["transformers"]))
    model = as_if_trained(ResNetForImageClassification(config))
    model.save_pretrained(root / "transformers")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(root / "transformers")
    for library, layer in (("timm", "fc"), ("transformers", "classifier.1")):
        logits = torch.from_numpy(plain_logits(root, library)).float()
        tensors = load_file(root / library / "model.safetensors")
        weight, bias = tensors[f"{layer}.weight"], tensors[f"{layer}.bias"]
        scale = 1 / logits.std(dim=0)  # so that the answers differ
        tensors[f"{layer}.weight"] = weight * scale[:, None]
        tensors[f"{layer}.bias"] = (bias - logits.mean(dim=0)) * scale
        save_file(tensors, root / library / "model.safetensors", metadata={"format": "pt"})
    order = [3, 0, 4, 1, 2]
    shutil.copytree(root / "timm", root / "permuted")
    tensors = load_file(root / "timm/model.safetensors")
    tensors |= {name: tensors[name][order].contiguous() for name in ("fc.weight", "fc.bias")}
    save_file(tensors, root / "permuted/model.safetensors", metadata={"format": "pt"})
    rename(root / "permuted", [NAMES["timm"][k] for k in order])
    return root


def rename(folder, names):
    """Name the outputs of a timm model; None for none."""
    config = json.loads((folder / "config.json").read_text())
    del config["label_names"]
    config |= {"label_names": names} if names else {}
    (folder / "config.json").write_text(json.dumps(config))


def pictures(root):
    return [(root / f"photos/test/{name}/{k}.png", name) for name in CLASSES for k in range(12)]


def plain_logits(root, library):
    """Logits (N, outputs) of the test images by the library alone."""
    images = [Image.open(file).convert("RGB") for file, _ in pictures(root)]
    if library == "timm":
        import timm

        model = timm.create_model(f"local-dir:{root / 'timm'}", pretrained=True).eval()
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
        with torch.inference_mode():
            return model(torch.stack([transform(image) for image in images])).double().numpy()
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(root / "transformers").eval()
    processor = AutoImageProcessor.from_pretrained(root / "transformers")
    with torch.inference_mode():
        return model(**processor(images, return_tensors="pt")).logits.double().numpy()


def evaluate(root, *flags, processes=1):
    """Run the recipe on the pictures; the first process."""
    words = ("evaluate.py", *flags, "--dataset", root / "photos", "--num-workers", "0", "--bootstrap", "50")
    start = run if processes == 1 else partial(run_together, processes)
    done = start(*words, cache=root / "cache")
    done = [done] if processes == 1 else done
    assert [one.returncode for one in done] == [0] * processes, done[0].stderr
    return done[0]


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


MODELS = ("timm", "transformers", "permuted")


@pytest.fixture(scope="module")
def together(root):
    """Classifiers side by side: the output folder, its record, and what was said."""
    flags = (*(root / name for name in MODELS), "--output-dir", root / "out", "--groups", "5", "20", "--json")
    said = evaluate(root, *flags)
    return root / "out", EvaluationRecord.read(root / "out/metrics.json"), said


def expected_answers(root, library):
    """Names of the true classes and of the answers, in the words of the data."""
    own = {"bee hive": "Bee_hive"}
    logits = plain_logits(root, library)
    answers = [own.get(name, name) for name in np.array(NAMES[library], dtype=object)[logits.argmax(axis=1)]]
    return [name for _, name in pictures(root)], answers, logits


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_the_numbers_are_those_of_scikit_learn_on_plain_outputs(root, together, library):
    folder, record, _ = together
    report = record.models[str(root / library)].test
    truth, answers, logits = expected_answers(root, library)
    assert len(set(answers)) > 2
    assert report.n == len(truth) == 48
    assert report.accuracy == pytest.approx(sklearn_metrics.accuracy_score(truth, answers), abs=1e-12)
    recall = sklearn_metrics.recall_score(truth, answers, labels=CLASSES, average=None, zero_division=0)
    assert report.per_class_accuracy == pytest.approx(recall, abs=1e-12)
    assert report.balanced_accuracy == pytest.approx(recall.mean(), abs=1e-12)
    assert (report.many, report.medium, report.few) == pytest.approx(
        (recall[:2].mean(), recall[2], recall[3]), abs=1e-12
    )
    f1 = sklearn_metrics.f1_score(truth, answers, labels=CLASSES, average="macro", zero_division=0)
    assert report.macro_f1 == pytest.approx(f1, abs=1e-12)
    words = {"Bee_hive": "bee hive"} if library == "timm" else {}
    columns = [NAMES[library].index(words.get(name, name)) for name in truth]
    probabilities = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    nll = sklearn_metrics.log_loss(columns, probabilities, labels=range(5))
    assert report.nll == pytest.approx(nll, rel=1e-4)
    places = [*CLASSES, *sorted(set(answers) - set(CLASSES))]
    matrix = sklearn_metrics.confusion_matrix(truth, answers, labels=places)
    found = np.zeros_like(matrix)
    for row in rows_of(folder / "confusions.csv"):
        if row["model"] == str(root / library):
            assert row["of"] == "12"
            found[places.index(row["class"]), places.index(row["predicted"])] = row["images"]
    assert (found == matrix - np.diag(np.diag(matrix))).all()


def test_the_mismatches_are_said_and_recorded(root, together):
    folder, record, said = together[0], together[1], together[2].stderr
    assert f"{root / 'timm'}: Classes spelt otherwise in the model: 'Bee_hive' is 'bee hive'." in said
    assert "Classes of the model that the data do not have: 1; an answer of them counts as wrong" in said
    assert record.models[str(root / "timm")].renamed_classes == {"Bee_hive": "bee hive"}
    assert record.models[str(root / "timm")].unused_classes == 1
    assert (record.class_counts, record.class_names) == ((25, 21, 6, 3), tuple(CLASSES))
    assert record.counts_from == "the training split 'train' of the data"
    assert [row["group"] for row in rows_of(folder / "per_class.csv")] == ["many", "many", "medium", "few"]
    text = (folder / "results.md").read_text()
    assert "<b>" not in text
    page = (folder / "report.html").read_text()
    assert "<b>bold" not in page
    assert "3 models on photos</h1>" in page
    assert f"Compared with {root / 'timm'}" in page
    assert "&lt;b&gt;bold &amp; &#39;quoted&#39;" in page
    assert "of these models on other test images; not of other draws of the training images." in page
    assert "taken for wolf" in page  # an answer of a class that the data do not have
    assert "NaN" not in text + (folder / "metrics.json").read_text() + said
    assert {path.name for path in (folder / "plots").iterdir()} == {
        "logits_magnitude.png", "per_class_accuracy.png", "reliability.png",
    }  # fmt: skip


def test_the_paired_tests_are_those_of_the_answers(root, together):
    truth, first, _ = expected_answers(root, "timm")
    _, second, _ = expected_answers(root, "transformers")
    gains = np.array([int(b == t) - int(a == t) for t, a, b in zip(truth, first, second, strict=True)])
    _, found, same = (together[1].models[str(root / name)].difference for name in MODELS)
    assert found.difference == pytest.approx(gains.mean(), abs=1e-12)
    differing = np.abs(gains).sum()  # of one size of class: the sign test, corrected by Holm of two
    p = binomtest(int((differing + gains.sum()) // 2), int(differing)).pvalue
    assert found.p == pytest.approx(min(1, 2 * p), abs=5 * 2 * np.sqrt(p / 10_000))
    counts = np.stack([(gains.reshape(4, 12) == gain).sum(axis=1) for gain in (-1, 0, 1)], axis=1)
    even = (counts + counts[:, ::-1]).sum(axis=0) / 96
    sums = np.ones(1)  # chances of each sum of gains: 12 draws of each class, two images added to it
    for chances in (counts + 2 * even) / 14:
        for _ in range(12):
            sums = np.convolve(sums, chances)
    ends = [np.searchsorted(sums.cumsum(), tail) / 48 - 1 + gains.mean() / 7 for tail in (0.025, 0.975)]
    if p > 0.05:
        ends = [min(ends[0], 0), max(ends[1], 0)]
    assert found.interval == pytest.approx(ends, abs=1.01 / 48)
    assert (same.difference, same.interval, same.p) == (0, (0, 0), 1)


def test_json_is_all_that_standard_output_gets(root, together):
    folder, record, said = together
    result = json.loads(said.stdout)
    assert (result["dataset"], result["n"]) == ("photos", 48)
    assert [one["model"] for one in result["models"]] == [str(root / name) for name in MODELS]
    for one in result["models"]:
        assert one["accuracy"] == record.models[one["model"]].test.accuracy
    assert f"Wrote {folder}" in said.stderr


def test_a_model_in_another_class_order_has_the_same_numbers(root, together):
    first, _, again = (together[1].models[str(root / name)].test for name in MODELS)
    assert again.per_class_accuracy == first.per_class_accuracy
    assert again.interval == first.interval
    assert again.nll == pytest.approx(first.nll, rel=1e-6)
    assert again.ece == pytest.approx(first.ece, rel=1e-6)


def test_two_processes_are_as_good_as_one(root, together, tmp_path):
    flags = (*(root / name for name in MODELS), "--output-dir", tmp_path / "out", "--groups", "5", "20")
    shutil.rmtree(root / "cache")
    evaluate(root, *flags, processes=2)
    one, two = ((folder / "metrics.json").read_text() for folder in (together[0], tmp_path / "out"))
    assert one == two


def test_classes_that_the_model_lacks_count_as_wrong(root, tmp_path):
    shutil.copytree(root / "timm", tmp_path / "model")
    rename(tmp_path / "model", ["doge", *NAMES["timm"][1:]])
    (tmp_path / "counts.csv").write_text(
        "class,count\n" + "".join('"{}",{}\n'.format(name.replace('"', '""'), 7) for name in CLASSES)
    )
    flags = ("--train-counts", tmp_path / "counts.csv", "--output-dir", tmp_path / "out")
    said = evaluate(root, tmp_path / "model", *flags).stdout
    assert (
        "does not have: 1; their images count as wrong, in the ECE too, and the NLL leaves them out" in said
    )
    assert "'dog' (did you mean 'doge'?)" in said
    record = EvaluationRecord.read(tmp_path / "out/metrics.json")
    one = record.models[str(tmp_path / "model")]
    truth, answers, logits = expected_answers(root, "timm")
    right = [a == t and t != "dog" for a, t in zip(answers, truth, strict=True)]
    assert (one.missing_classes, one.missing_images) == (("dog",), 12)
    assert one.test.accuracy == pytest.approx(np.mean(right), abs=1e-12)
    assert one.test.per_class_accuracy[3] == 0.0
    assert (one.test.logits_magnitude.per_class[3], one.test.weight_norm.per_class[3]) == (None, None)
    log_likelihood = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    columns = [NAMES["timm"].index({"Bee_hive": "bee hive"}.get(name, name)) for name in truth[:36]]
    assert one.test.nll == pytest.approx(-log_likelihood[np.arange(36), columns].mean(), rel=1e-4)
    assert (record.counts_from, record.class_counts) == (str(tmp_path / "counts.csv"), (7, 7, 7, 7))


def test_class_names_like_formulas_are_harmless_in_the_tables_alone(root, tmp_path):
    for name in CLASSES:
        place = tmp_path / "photos" / name.replace("dog", "=dog")
        shutil.copytree(root / "photos/test" / name, place)
    model = shutil.copytree(root / "timm", tmp_path / "model")
    rename(model, [name.replace("dog", "=dog") for name in NAMES["timm"]])
    words = ("--dataset", tmp_path / "photos", "--train-split", "none", "--num-workers", "0", "--json")
    done = run("evaluate.py", model, *words, "--output-dir", tmp_path / "out", "--bootstrap", "0")
    assert done.returncode == 0, done.stderr
    names = {row["name"] for row in rows_of(tmp_path / "out/per_class.csv")}
    assert "'=dog" in names
    tables = [row for path in (tmp_path / "out").glob("*.csv") for row in rows_of(path)]
    texts = [cell for row in tables for name, cell in row.items() if name in TEXTS]
    assert {"'=dog"} == {text for text in texts if "=dog" in text}
    assert "=dog" in EvaluationRecord.read(tmp_path / "out/metrics.json").class_names


def test_images_without_training_counts_have_no_groups(root, tmp_path):
    shutil.copytree(root / "photos/test", tmp_path / "photos")
    (tmp_path / "photos/dog/broken.png").write_bytes(b"\x89PNG no picture")
    flags = ("--dataset", tmp_path / "photos", "--train-split", "none", "--num-workers", "0")
    stopped = run("evaluate.py", root / "timm", *flags, "--output-dir", tmp_path / "out", cache=tmp_path)
    assert stopped.returncode == 1
    assert "--on-bad-image skip" in stopped.stderr
    assert not (tmp_path / "out").exists()
    flags += ("--on-bad-image", "skip", "--output-dir", tmp_path / "out")
    done = run("evaluate.py", root / "timm", *flags, cache=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 49 test images cannot be decoded: skipped" in done.stdout
    assert "give --train-counts" in done.stdout
    assert "No groups: the training counts are not known." in done.stdout
    report = EvaluationRecord.read(tmp_path / "out/metrics.json").models[str(root / "timm")].test
    assert (report.n, report.many, report.medium, report.few) == (48, None, None, None)
    assert "nan" not in done.stdout.lower().replace(str(tmp_path), "")
    assert sorted(path.name for path in (tmp_path / "out/plots").iterdir()) == [
        "per_class_accuracy.png",
        "reliability.png",
    ]


def test_what_cannot_be_evaluated_is_refused_before_any_compute(root, tmp_path):
    shutil.copytree(root / "timm", tmp_path / "model")
    flags = ("--dataset", root / "photos", "--output-dir", tmp_path / "out")

    def refused(*words):
        done = run("evaluate.py", *words, *flags, cache=tmp_path / "cache")
        assert done.returncode in (1, 2)
        assert len(done.stderr.split("error: ")[1].splitlines()) <= 3
        assert not (tmp_path / "out").exists()
        return done.stderr

    rename(tmp_path / "model", None)
    assert "does not name its 5 classes" in refused(tmp_path / "model")
    (tmp_path / "names.txt").write_text("v\nw\nx\ny\nz")
    said = refused(root / "timm", tmp_path / "model", "--class-names", tmp_path / "names.txt")
    assert "has none of the classes of the test images.\nIt has 'v', 'w'" in said
    assert "is named twice" in refused(root / "timm", root / "timm")
    assert "--update-card writes into README.md of a model's folder" in refused("org/name", "--update-card")
    assert "Unknown backbone 'resnet5O'. Did you mean 'resnet50'" in refused("resnet5O")
    assert not (tmp_path / "cache").exists()


def test_a_model_is_never_replaced_by_its_evaluation(outputs, tmp_path):
    shutil.copytree(outputs["timm"], tmp_path / "digits")
    flags = ("--dataset", "digits", "--output-dir", tmp_path / "digits", "--overwrite")
    done = run("evaluate.py", tmp_path / "digits", *flags)
    assert done.returncode == 1
    assert "which --overwrite would replace" in done.stderr
    assert (tmp_path / "digits/model.safetensors").exists()
    counts = tmp_path / "digits/per_class.csv"
    done = run("evaluate.py", outputs["timm"], *flags, "--train-counts", counts)
    assert (done.returncode, "--train-counts" in done.stderr, counts.exists()) == (1, True, True)


def test_our_own_model_has_its_own_numbers_and_they_go_into_its_card(outputs, tmp_path):
    shutil.copytree(outputs["timm"], tmp_path / "digits")
    shutil.copytree(outputs["timm"] / "head", tmp_path / "other")
    card = tmp_path / "digits/README.md"
    text = card.read_text()
    flags = ("--dataset", "digits", "--num-workers", "0", "--bootstrap", "0", "--overwrite", "--update-card")
    flags += ("--output-dir", tmp_path / "out")
    done = run("evaluate.py", tmp_path / "digits", *flags, cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    assert "README.md: replaced the results on digits (exp:10)" in done.stdout
    report = EvaluationRecord.read(tmp_path / "out/metrics.json").models[str(tmp_path / "digits")].test
    from huggingface_hub import ModelCard

    values = {one.metric_name: one.metric_value for one in ModelCard.load(card).data.eval_results}
    assert values["balanced accuracy"] == round(report.balanced_accuracy, 6)
    assert card.read_text().split("---\n", 2)[2] == text.split("---\n", 2)[2]
    written = card.read_bytes()
    done = run("evaluate.py", tmp_path / "digits", *flags, cache=tmp_path / "cache")
    assert "are there already" in done.stdout
    assert card.read_bytes() == written


def test_images_that_a_model_was_trained_on_are_counted(outputs, tmp_path):
    flags = (
        "--dataset",
        "digits",
        "--num-workers",
        "0",
        "--bootstrap",
        "0",
        "--output-dir",
        tmp_path / "out",
    )
    flags += ("--train-split", "none", "--test-split", "train")
    done = run("evaluate.py", outputs["timm"], *flags, cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    assert (
        "523 of 1,297 test images are of those that it was trained on; its numbers are too rosy"
        in done.stdout
    )
    record = EvaluationRecord.read(tmp_path / "out/metrics.json")
    assert record.counts_from == f"the record of {outputs['timm']}"
