"""Stage 1, and what stage 2 makes of its record."""

import copy
import csv
import json
import shutil

import datasets
import numpy as np
import pytest
import torch
import transformers as hf
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file
from timm.data import Mixup

from lort_hub.backbones.load import load_backbone
from lort_hub.backbones.predict import predict
from lort_hub.data.holdout import hold_out
from lort_hub.data.load import load_long_tailed
from lort_hub.hub.head_file import read_head
from lort_hub.training.batches import Batches
from tests.support.fork_server import run_forks
from tests.support.images import noise_image
from tests.support.models import timm_folder, transformers_folder
from tests.support.recipes import SMALL, retrain, run_plain, run_together, serve, start, train, train_all

DIGITS = (*SMALL, "--dataset", "digits")
VIT = ("--backbone", "test_vit", "--no-pretrained", "--image-size", "32", "--num-workers", "0")
QUICK = ("--batch-size", "8", "--bootstrap", "0")

PLAIN = """
import json, sys
import timm, torch
from PIL import Image
model = timm.create_model(f"local-dir:{sys.argv[1]}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
with torch.inference_mode():
    images = [Image.open(file).convert("RGB") for file in json.loads(sys.argv[2])]
    print(json.dumps(model(torch.stack([transform(image) for image in images])).argmax(dim=1).tolist()))
"""


def test_two_stages_on_digits(tmp_path):
    first = start("train.py", *DIGITS, "--epochs", "8", "--output-dir", tmp_path / "stage1")
    assert first.returncode == 0, first.stderr
    assert "epoch 8, loss" in first.stdout
    metrics, record = (
        json.loads((tmp_path / "stage1" / name).read_text()) for name in ("metrics.json", "run.json")
    )

    data = load_long_tailed("digits")
    files = []
    for k in range(len(data.test)):
        files.append(str(tmp_path / f"{k}.png"))
        data.test.image(k).save(files[-1])
    plain = run_plain(PLAIN, tmp_path / "stage1", json.dumps(files), cwd=tmp_path)
    assert plain.returncode == 0, plain.stderr
    accuracy = np.mean(np.array(json.loads(plain.stdout)) == data.test.labels)
    assert accuracy == pytest.approx(metrics["test"]["accuracy"], abs=1e-9)

    seen = record["backbone"]["trained_on"]["rows"]
    held_out = sorted(set(data.train.rows) - set(seen))
    held_labels = data.train.labels[np.isin(data.train.rows, held_out)]
    assert np.bincount(held_labels).tolist() == [max(1, n // 10) for n in data.class_counts]
    second = retrain(
        "--backbone", tmp_path / "stage1", "--dataset", "digits", "--output-dir", tmp_path / "head"
    )
    assert second.returncode == 0, second.stderr
    assert f"the {len(held_out)} images held out of the backbone's training" in second.stdout
    head = json.loads((tmp_path / "head" / "metrics.json").read_text())
    assert head["baseline"]["accuracy"] == metrics["test"]["accuracy"]
    assert head["test"]["balanced_accuracy"] > metrics["test"]["balanced_accuracy"]
    # The record travels with the weights, and knows the images in another subset too.
    again = json.loads((tmp_path / "head" / "run.json").read_text())["backbone"]["trained_on"]
    assert again == record["backbone"]["trained_on"]
    flags = ("--dataset", "digits", "--imbalance", "exp:20", "--output-dir", tmp_path / "other")
    other = retrain("--backbone", tmp_path / "head", *flags)
    fewer = load_long_tailed("digits", imbalance="exp:20").train
    unseen = len(set(fewer.rows) - set(seen))
    assert f"the {unseen} images held out of the backbone's training" in other.stdout, other.stderr


PLAIN_CIFAR = """
import json, sys
import lort_hub.cifar_resnets  # as its card says
import timm, torch
from PIL import Image
model = timm.create_model(f"local-dir:{sys.argv[1]}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
with torch.inference_mode():
    images = [Image.open(file).convert("RGB") for file in json.loads(sys.argv[2])]
    said = model(torch.stack([transform(image) for image in images]))
ours = sorted(name for name in sys.modules if name.startswith("lort_hub."))
print(json.dumps([said.tolist(), list(model.pretrained_cfg["label_names"]), ours]))
"""


def test_a_cifar_net_of_ten_classes_is_saved_and_loaded_by_timm_with_its_architecture_alone(tmp_path):
    flags = ("--backbone", "resnet32_cifar", "--no-pretrained", "--dataset", "digits", "--epochs", "1")
    said = train_all(tmp_path, (*flags, "--num-workers", "0", "--output-dir", "out"))[0]
    assert said.index("save check: ") < said.index("images: ")
    test = load_long_tailed("digits").test
    files = [str(tmp_path / f"{k}.png") for k in range(len(test))]
    for k, file in enumerate(files):
        test.image(k).save(file)
    argv = ["-c", tmp_path / "out", json.dumps(files)]
    [plain] = run_forks({"code": PLAIN_CIFAR, "argv": argv, "environment": {}})
    assert plain.returncode == 0, plain.stderr
    logits, names, ours = json.loads(plain.stdout)
    assert names == [str(digit) for digit in range(10)]
    assert ours == ["lort_hub.cifar_resnets", "lort_hub.lazy"]
    loss = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.from_numpy(test.labels)).item()
    assert metrics_of(tmp_path / "out")["test"]["nll"] == pytest.approx(loss, abs=2e-5)


def test_class_names_of_any_characters_are_saved(tmp_path):
    names = ["a|b <i>\n# x", "", "日本 🐝 $x_{$"]
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    for split, labels in {"train": [0, 0, 0, 0, 1, 1, 1, 2, 2], "test": [0, 1, 2]}.items():
        columns = {"image": [noise_image(label) for label in labels], "label": labels}
        (tmp_path / "data").mkdir(exist_ok=True)
        rows = datasets.Dataset.from_dict(columns, features=kinds)
        rows.to_parquet(tmp_path / "data" / f"{split}.parquet")
    flags = ("--dataset", "data", "--epochs", "1", "--num-workers", "0", *QUICK)
    own = ("--backbone", transformers_folder(tmp_path / "vit"))
    train_all(
        tmp_path, (*SMALL, *flags, "--output-dir", "timm"), (*own, *flags, "--output-dir", "transformers")
    )
    for library in ("timm", "transformers"):
        assert load_backbone(str(tmp_path / library)).class_names == tuple(names)
        assert read_head(tmp_path / library / "head", "head")[2]["class_names"] == names
        with (tmp_path / library / "per_class.csv").open(newline="") as file:
            assert [row["name"] for row in csv.DictReader(file)] == names


def test_the_same_seed_trains_the_same_weights(tmp_path):
    train_all(tmp_path, *((*DIGITS, "--epochs", "1", "--output-dir", name) for name in ("a", "b")))
    one, other = (tmp_path / name / "model.safetensors" for name in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()


def test_without_holdout_the_choice_is_called_rosy(photos, tmp_path):
    flags = ("--dataset", photos, "--num-workers", "0")
    finished = train(
        "--backbone", transformers_folder(tmp_path / "vit"), *flags, "--epochs", "1", "--holdout", "0",
        "--output-dir", tmp_path / "stage1",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    second = retrain("--backbone", tmp_path / "stage1", *flags, "--output-dir", tmp_path / "head")
    assert second.returncode == 0, second.stderr
    assert "on images the backbone was trained on" in second.stdout


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    flags = ("--dataset", "digits", "--num-workers", "0", "--lr", "1e30", "--output-dir", "out")
    flags = ["--backbone", str(timm_folder(tmp_path / "b")), *flags]
    finished = serve([{"flags": flags}], tmp_path)[0]
    assert finished["code"] == 1
    assert "The loss is nan in epoch 1, step 2" in finished["said"]
    assert not (tmp_path / "out").exists()


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def losses(folder):
    return [row["loss"] for row in metrics_of(folder)["history"]]


TUNES = {"timm": ("full", "lora"), "transformers": ("head", "bias", "lora")}

TUNED = """
import json, sys
sys.modules["peft"] = None  # any import of it fails
import timm, torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification
images = [Image.open(file).convert("RGB") for file in json.loads(sys.argv[1])]
logits = {}
with torch.inference_mode():
    for folder, library in json.loads(sys.argv[2]).items():
        if library == "timm":
            model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
            transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
            logits[folder] = model(torch.stack([transform(image) for image in images])).tolist()
        else:
            model = AutoModelForImageClassification.from_pretrained(folder).eval()
            processor = AutoImageProcessor.from_pretrained(folder)
            logits[folder] = model(**processor(images, return_tensors="pt")).logits.tolist()
print(json.dumps(logits))
"""


def test_plain_libraries_load_what_each_tuning_wrote_and_give_our_numbers(photos, tmp_path):
    folders = {"timm": timm_folder(tmp_path / "timm"), "transformers": transformers_folder(tmp_path / "vit")}
    more = ("--epochs", "2", "--lr", "0.01", "--warmup-epochs", "0", "--image-size", "32", *QUICK)
    runs, libraries = [], {}
    for library, folder in folders.items():
        for tune in TUNES[library]:
            libraries[f"{library}-{tune}"] = library
            flags = ("--backbone", folder, "--dataset", photos, "--num-workers", "0", "--tune", tune)
            average = ("--ema-decay", "0.5") if tune in ("full", "lora") else ()
            runs.append((*flags, *more, *average, "--output-dir", f"{library}-{tune}"))
    train_all(tmp_path, *runs)

    test = load_long_tailed(str(photos)).test
    files = [test.images[k]["image"]["path"] for k in range(len(test))]
    plain = run_plain(TUNED, json.dumps(files), json.dumps(libraries), cwd=tmp_path)
    assert plain.returncode == 0, plain.stderr
    for name, logits in json.loads(plain.stdout.splitlines()[-1]).items():
        said, labels = torch.tensor(logits), torch.from_numpy(test.labels)
        measured = metrics_of(tmp_path / name)["test"]
        loss = torch.nn.functional.cross_entropy(said, labels).item()
        assert measured["nll"] == pytest.approx(loss, abs=2e-5), name
        assert measured["accuracy"] == (said.argmax(dim=1) == labels).double().mean().item(), name

    for library, folder in folders.items():
        before = load_file(folder / "model.safetensors")
        head = {"timm": "fc.", "transformers": "classifier."}[library]
        for tune in TUNES[library]:
            after = load_file(tmp_path / f"{library}-{tune}" / "model.safetensors")
            assert after.keys() == before.keys()
            inner = [k for k in before if not k.startswith(head)]
            changed = {k for k in inner if not after[k].equal(before[k])}
            matrices = {k for k in inner if k.endswith("weight") and before[k].ndim > 1}
            if library == "transformers":
                matrices = {k for k in matrices if "patch_embeddings" not in k}
            biases = {k for k in inner if k.endswith("bias")}
            allowed = {"full": set(inner), "head": set(), "bias": biases, "lora": matrices}[tune]
            assert changed <= allowed, tune
            assert changed or tune == "head", tune


def train_by_hand(folder, batches, *, smoothing, clip, decay, mix=None, prior=1.0):
    """What `test_the_recipe_is_this_loop` compares: SGD with momentum over three epochs, written out."""
    model = load_backbone(str(folder)).model.requires_grad_(True)
    average = copy.deepcopy(model.state_dict())
    shrunk = [weight for name, weight in model.named_parameters() if decays(name, weight)]
    other = [weight for name, weight in model.named_parameters() if not decays(name, weight)]
    groups = [{"params": shrunk, "weight_decay": 0.02}, {"params": other, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9)
    step, said = 0, []
    np.random.seed(0)  # noqa: NPY002
    for epoch, lr in enumerate((0.025, 0.05 * 0.75, 0.05 * 0.25)):  # warm-up, then a cosine of three
        for group in optimizer.param_groups:
            group["lr"] = lr
        total = 0.0
        for batch in batches.epoch(epoch):
            pixels, targets = batch.pixels, torch.nn.functional.one_hot(batch.labels, 3).float()
            if mix:
                pixels, targets = mix(pixels[: len(pixels) // 2 * 2], batch.labels[: len(pixels) // 2 * 2])
            targets = targets * (1 - smoothing) + smoothing / 3
            odds = prior * model(pixels).exp()
            loss = -(targets * (odds / odds.sum(dim=1, keepdim=True)).log()).sum(dim=1).mean()
            loss.backward()
            norm = torch.sqrt(sum(weight.grad.square().sum() for weight in model.parameters()))
            for weight in model.parameters():
                weight.grad.mul_(min(1.0, clip / norm.item()))
            optimizer.step()
            optimizer.zero_grad()
            step, total = step + 1, total + loss.item()
            kept = min(decay, 1 - step ** (-2 / 3))
            average = {k: kept * average[k] + (1 - kept) * new for k, new in model.state_dict().items()}
        said.append(total / len(batches))
    return average, said


def decays(name, weight):
    return weight.ndim > 1 and not name.endswith(("pos_embed", "cls_token"))


@pytest.mark.parametrize(
    ("mixes", "loss"), [(False, "ce"), (True, "ce"), (True, "balanced-softmax"), (False, "logit-adjust")]
)
def test_the_recipe_is_this_loop(photos, tmp_path, mixes, loss):
    flags = (*VIT, "--dataset", photos, "--epochs", "3", "--warmup-epochs", "1", *QUICK)
    more = ["--lr", "0.05", "--weight-decay", "0.02", "--label-smoothing", "0.1", "--clip-grad", "0.5"]
    more += ["--loss", loss, "--ema-decay", "0.6", *(["--mixup", "0.4", "--cutmix", "1"] if mixes else [])]
    cutout = 9 if loss == "logit-adjust" else 0
    more += ["--cutout", str(cutout)]
    start = ("--lr", "0", "--weight-decay", "0", "--output-dir", "start")
    train_all(tmp_path, (*flags, *start), (*flags, *more, "--output-dir", "end"))

    backbone, data = load_backbone(str(tmp_path / "start")), load_long_tailed(str(photos))
    kept, _ = hold_out(data.train, 0.1)
    mix = Mixup(0.4, 1.0, label_smoothing=0.0, num_classes=3) if mixes else None
    options = {"smoothing": 0.1, "clip": 0.5, "decay": 0.6, "mix": mix}
    if loss != "ce":
        options["prior"] = torch.bincount(torch.from_numpy(kept.labels)) / len(kept)
        assert options["prior"].max() > 1.5 * options["prior"].min()
    batches = Batches(kept, backbone, batch_size=8, cutout=cutout)
    average, said = train_by_hand(tmp_path / "start", batches, **options)
    assert losses(tmp_path / "end") == pytest.approx(said, abs=1e-5)
    start, end = (load_file(tmp_path / name / "model.safetensors") for name in ("start", "end"))
    assert end.keys() == average.keys()
    for name in end:
        torch.testing.assert_close(end[name], average[name], rtol=0, atol=1e-5)
    assert (end["head.weight"] - start["head.weight"]).abs().max() > 1e-3


def test_a_head_of_balanced_softmax_is_of_balanced_classes_and_stage_2_starts_from_the_training_mix(tmp_path):
    flags = (*DIGITS, "--loss", "balanced-softmax", "--epochs", "2", "--bootstrap", "0")
    train_all(tmp_path, (*flags, "--output-dir", "stage1"))
    run = json.loads((tmp_path / "stage1" / "run.json").read_text())
    assert (run["head"]["method"], run["head"]["settings"], run["head"]["tau"]) == (
        "stage 1",
        {"tau": 1.0},
        1.0,
    )
    data = load_long_tailed("digits")
    kept = data.train.labels[np.isin(data.train.rows, run["backbone"]["trained_on"]["rows"])]
    log_prior = np.log(np.bincount(kept) / len(kept))
    assert run["backbone"]["trained_on"]["loss"] == "balanced-softmax"
    assert run["backbone"]["trained_on"]["logit_offset"] == pytest.approx(log_prior, abs=1e-6)
    card = (tmp_path / "stage1" / "README.md").read_text()
    assert "2 epochs of SGD with momentum 0.9 on balanced softmax" in card
    assert "expects every class to be equally likely" in card
    assert "favours their frequent classes" not in card

    second = retrain(
        *("--backbone", tmp_path / "stage1", "--dataset", "digits", "--method", "logit-adjust"),
        *("--no-calibrate", "--bootstrap", "0", "--output-dir", tmp_path / "head"),
        cache=tmp_path,
    )
    assert second.returncode == 0, second.stderr
    again = json.loads((tmp_path / "head" / "run.json").read_text())
    own, moved = (read_head(tmp_path / name / "head", "")[:2] for name in ("stage1", "head"))
    adjusted = log_prior - again["head"]["settings"]["tau"] * np.log(data.class_counts / len(data.train))
    torch.testing.assert_close(moved[0], own[0])
    torch.testing.assert_close(moved[1] - own[1], torch.tensor(adjusted).float(), atol=1e-5, rtol=0)
    assert (
        metrics_of(tmp_path / "head")["baseline"]["accuracy"]
        == metrics_of(tmp_path / "stage1")["test"]["accuracy"]
    )
    assert again["baseline"]["mix"] == "balanced"
    assert "logit_offset" not in again["backbone"]["trained_on"]  # its classifier is another one now
    assert again["backbone"]["trained_on"]["loss"] == "balanced-softmax"
    retrained = (tmp_path / "head" / "README.md").read_text()
    assert "the head the backbone came with, trained for classes equally likely" in retrained
    assert "a head of plain cross-entropy may be right more often" in retrained


def test_accumulated_batches_train_the_weights_of_whole_ones(tmp_path):
    """But for the order of their sums: seen are 1.2e-7, an ulp of a weight near 1, after 28 steps."""
    more = ("--dataset", "digits", "--epochs", "2", "--bootstrap", "0")
    train_all(
        tmp_path,
        (*VIT, *more, "--batch-size", "32", "--output-dir", "whole"),
        (*VIT, *more, "--batch-size", "8", "--gradient-accumulation-steps", "4", "--output-dir", "parts"),
    )
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=0, atol=1e-6)
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), abs=1e-5)
    assert losses(tmp_path / "whole")[1] < losses(tmp_path / "whole")[0] - 0.01


def test_two_processes_train_as_one(photos, tmp_path):
    """15 images, a step an epoch: 4 and 4 in one process, 4 and 3 in the other."""
    flags = (*VIT, "--dataset", photos, "--epochs", "20", "--bootstrap", "0", "--loss", "balanced-softmax")
    train_all(tmp_path, (*flags, "--batch-size", "16", "--output-dir", "one"))
    parts = ("--batch-size", "4", "--gradient-accumulation-steps", "2", "--output-dir", tmp_path / "two")
    two = run_together(2, "train.py", *flags, *parts)
    assert [done.returncode for done in two] == [0, 0], two
    assert "".join(done.stdout for done in two).count("epoch 20, loss") == 1
    one, two = (metrics_of(tmp_path / name) for name in ("one", "two"))
    assert len(one["history"]) == 20
    for first, second in zip(one["history"], two["history"], strict=True):
        assert second["loss"] == pytest.approx(first["loss"], abs=1e-4)
        assert second["held_out_balanced_accuracy"] == first["held_out_balanced_accuracy"]
    assert two["test"]["accuracy"] == one["test"]["accuracy"]
    assert two["test"]["nll"] == pytest.approx(one["test"]["nll"], abs=1e-4)
    assert one["history"][-1]["loss"] < one["history"][0]["loss"] / 2


def test_two_processes_train_a_model_with_a_weight_that_no_logit_depends_on(photos, tmp_path):
    config = hf.Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28)
    hf.Dinov2ForImageClassification(config).save_pretrained(tmp_path / "dino")
    hf.ViTImageProcessor(size={"height": 28, "width": 28}).save_pretrained(tmp_path / "dino")
    flags = ("--backbone", tmp_path / "dino", "--dataset", photos, "--epochs", "3", *QUICK)
    two = run_together(2, "train.py", *flags, "--num-workers", "0", "--output-dir", tmp_path / "out")
    assert [done.returncode for done in two] == [0, 0], two
    assert json.loads((tmp_path / "out/run.json").read_text())["arguments"]["processes"] == 2
    assert "in each of 2 processes" in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize("average", [(), ("--ema-decay", "0.9")])
def test_two_processes_measure_the_model_that_they_publish(photos, tmp_path, average):
    """Each has batch statistics of its own; those of the first are published."""
    flags = ("--dataset", photos, "--epochs", "3", "--lr", "0.1", *QUICK, *average)
    two = run_together(2, "train.py", *SMALL, *flags, "--output-dir", tmp_path / "out")
    assert [done.returncode for done in two] == [0, 0], two
    backbone, data = load_backbone(str(tmp_path / "out")), load_long_tailed(str(photos))
    logits, labels = predict(backbone.model, backbone, data.test, Accelerator(cpu=True), batch_size=12)
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)).item()
    assert metrics_of(tmp_path / "out")["test"]["nll"] == pytest.approx(loss, abs=1e-5)


def test_a_refit_is_the_run_again_with_nothing_held_out(photos, tmp_path):
    flags = (*SMALL, "--dataset", photos, "--epochs", "4", "--seed", "2", "--clip-grad", "1", *QUICK)
    whole = (*flags, "--holdout", "0", "--output-dir", "whole")
    train_all(tmp_path, (*flags, "--patience", "4", "--output-dir", "run"), whole)
    # The same run, had its second epoch been the best, and had it not asked which is.
    for name, scores, patience in (("second", (0.1, 0.2, 0.1, 0.2), 4), ("last", (0.1, 0.2, 0.1, 0.2), 0)):
        shutil.copytree(tmp_path / "run", tmp_path / name)
        metrics, record = metrics_of(tmp_path / name), json.loads((tmp_path / name / "run.json").read_text())
        for row, score in zip(metrics["history"], scores, strict=True):
            row["held_out_balanced_accuracy"] = score
        record["arguments"]["patience"] = patience
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
        (tmp_path / name / "run.json").write_text(json.dumps(record))
    said = train_all(
        tmp_path,
        *(
            ("--refit", name, "--num-workers", "0", "--output-dir", f"refit-{name}")
            for name in ("second", "last")
        ),
    )
    for name, text in zip(("second", "last"), said, strict=True):
        assert "; 0% held out" in text
        assert "held_out" not in text
        record = json.loads((tmp_path / f"refit-{name}" / "run.json").read_text())
        assert record["backbone"]["trained_on"]["rows"] == list(range(18))
        assert record["arguments"]["refit"] == name
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "refit-last")]
    assert weights[0] == weights[1]
    assert losses(tmp_path / "refit-last") == losses(tmp_path / "whole")
    assert losses(tmp_path / "refit-second") == losses(tmp_path / "whole")[:2]

    refused = {
        ("--refit", "run", "--seed", "3"): "--seed beside --refit",
        ("--refit", "run", "--lr", "0.3", "--tune", "lora"): "--lr, --tune beside --refit",
        ("--refit", "refit-last"): "held nothing out",
        ("--refit", str(photos)): "not the output folder of a finished train.py",
    }
    results = serve([{"flags": [*given, "--output-dir", "no"]} for given in refused], tmp_path)
    for (given, message), result in zip(refused.items(), results, strict=True):
        assert (result["code"], message in result["said"]) == (2, True), (given, result["said"])


def test_a_refit_refuses_a_contradiction_that_is_a_default(photos, tmp_path):
    flags = (*SMALL, "--dataset", photos, "--epochs", "1", *QUICK, "--output-dir", "run")
    train_all(tmp_path, flags)
    flags = ["--refit", "run", "--batch-size", "64", "--dry-run"]
    result = serve([{"flags": flags}], tmp_path)[0]
    assert result["code"] == 2, result["said"]
    assert "--batch-size beside --refit" in result["said"]


def test_layer_decay_is_refused_where_layers_are_unknown(photos, tmp_path):
    backbone = transformers_folder(tmp_path / "vit")
    flags = [
        "--backbone",
        str(backbone),
        "--dataset",
        str(photos),
        "--epochs",
        "2",
        "--num-workers",
        "0",
        *QUICK,
    ]
    result = serve([{"flags": [*flags, "--layer-decay", "0.5", "--output-dir", "no"]}], tmp_path)[0]
    assert result["code"] == 2, result["said"]
    assert "--layer-decay needs a timm model" in result["said"]


def test_corrupt_images_stop_the_run_before_training_or_are_left_out(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    for name in ("train/bee/3.png", "test/cat/1.png"):
        (folder / name).unlink()
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        file = (folder / name).with_suffix(".jpg")
        Image.fromarray(noise).save(file)
        file.write_bytes(file.read_bytes()[:900])
    flags = [*SMALL, "--dataset", str(folder), "--epochs", "1", *QUICK]
    skip = [*flags, "--on-bad-image", "skip"]
    stopped, left_out = serve(
        [{"flags": [*flags, "--output-dir", "stopped"]}, {"flags": [*skip, "--output-dir", "out"]}], tmp_path
    )
    assert stopped["code"] == 1
    assert "3.jpg), class 'bee'" in stopped["said"]
    assert "--on-bad-image skip" in stopped["said"]
    assert "epoch 1" not in stopped["said"]
    assert not (tmp_path / "stopped").exists()

    assert left_out["code"] == 0, left_out["said"]
    data = json.loads((tmp_path / "out" / "run.json").read_text())["data"]
    assert [(row["split"], row["class"]) for row in data["left_out"]] == [("train", "bee"), ("test", "cat")]
    for row in data["left_out"]:
        assert "row {row} of '{split}', class '{class}'".format_map(row) in left_out["said"]
    assert data["class_counts"] == [9, 5, 3]
    assert sorted({*range(18)} - {*data["train_rows"]}) == [data["left_out"][0]["row"]]
    with (tmp_path / "out" / "per_class.csv").open() as file:
        assert [int(row["train_images"]) for row in csv.DictReader(file)] == [9, 5, 3]
    assert metrics_of(tmp_path / "out")["test"]["n"] == 11
    card = (tmp_path / "out" / "README.md").read_text()
    assert "left out because they could not be decoded: 2" in card
    assert "11 test images" in card
    assert "3 training images were kept out" in card


def test_bad_flags_exit_2_with_what_would_be_right(photos, tmp_path):
    wrong = {
        ("--opt", "adamv"): "Did you mean 'adam'",
        ("--auto-augment", "nonsense"): "Expected a name such as rand-m9-mstd0.5-inc1",
        ("--auto-augment", "trivialaugment-wild"): "Did you mean 'trivialaugment-wide'",
        ("--cutout", "-3"): "--cutout is -3, expected at least 0",
        ("--cutout", "99"): "99 x 99 pixels, but the images have",
        ("--patience", "3", "--holdout", "0"): "give a --holdout above 0",
        ("--lr", "-1"): "--lr is -1.0, expected at least 0",
        ("--tune", "lroa"): "Did you mean 'lora'",
        ("--mixupp", "0.2"): "Did you mean '--mixup'",
        ("--ema-decay", "2"): "expected 0 to 1",
        ("--holdout", "1.5"): "--holdout is 1.5, expected 0 to 0.9",
    }
    flags = [*SMALL, "--dataset", str(photos), "--output-dir", "out"]
    results = serve([{"flags": [*flags, *given]} for given in wrong], tmp_path)
    for (given, message), result in zip(wrong.items(), results, strict=True):
        assert (result["code"], message in result["said"]) == (2, True), (given, result["said"])
        assert "training images" not in result["said"]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_compiled_model_trains_the_same_weights(photos, tmp_path):
    flags = (*SMALL, "--dataset", photos, "--epochs", "3", "--ema-decay", "0.5", *QUICK)
    train_all(tmp_path, (*flags, "--output-dir", "plain"), (*flags, "--compile", "--output-dir", "compiled"))
    plain, compiled = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "compiled"))
    assert compiled.keys() == plain.keys()
    for name in plain:
        torch.testing.assert_close(compiled[name], plain[name], rtol=1e-4, atol=1e-5)
