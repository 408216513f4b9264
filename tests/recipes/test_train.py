"""Stage 1, and what stage 2 makes of its record."""

import json
import subprocess
import sys

import numpy as np
import pytest

from lort_hub.data import load_long_tailed
from tests.recipes import SMALL, retrain, timm_folder, train, transformers_folder

DIGITS = (*SMALL, "--dataset", "digits")

PLAIN = """
import json, sys
sys.modules["lort_hub"] = None
import timm, torch
from PIL import Image
model = timm.create_model(f"local-dir:{sys.argv[1]}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
with torch.inference_mode():
    images = [Image.open(file).convert("RGB") for file in json.loads(sys.argv[2])]
    print(json.dumps(model(torch.stack([transform(image) for image in images])).argmax(dim=1).tolist()))
"""


def test_two_stages_on_digits(tmp_path):
    first = train(*DIGITS, "--epochs", "8", "--output-dir", tmp_path / "stage1")
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
    command = [sys.executable, "-c", PLAIN, str(tmp_path / "stage1"), json.dumps(files)]
    plain = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
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


def test_the_same_seed_trains_the_same_weights(tmp_path):
    weights = []
    for name in ("a", "b"):
        finished = train(*DIGITS, "--epochs", "1", "--output-dir", tmp_path / name)
        assert finished.returncode == 0, finished.stderr
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


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
    flags = ("--dataset", "digits", "--num-workers", "0", "--lr", "1e30", "--output-dir", tmp_path / "out")
    finished = train("--backbone", timm_folder(tmp_path / "b"), *flags)
    assert finished.returncode == 1
    assert "The loss is nan in epoch 1, step 2" in finished.stderr
    assert not (tmp_path / "out").exists()


def test_arguments_out_of_range_exit_2(tmp_path):
    finished = train(*DIGITS, "--holdout", "1.5", "--output-dir", tmp_path / "out")
    assert finished.returncode == 2
    assert "0 <= holdout < 1" in finished.stderr
