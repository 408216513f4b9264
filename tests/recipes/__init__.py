"""Recipes as subprocesses, and small models with weights to run them on."""

import os
import subprocess
import sys

import torch

from tests.conftest import ROOT

SMALL = ("--backbone", "test_resnet", "--no-pretrained", "--image-size", "32", "--num-workers", "0")


def run(recipe, *flags, launcher=(sys.executable,), cache=None, **environment):
    environment = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    if cache:
        environment["LORT_HUB_CACHE"] = str(cache)
    command = [*launcher, ROOT / "recipes" / recipe, *(str(flag) for flag in flags)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def retrain(*flags, **options):
    return run("retrain.py", *flags, **options)


def train(*flags, **options):
    return run("train.py", *flags, **options)


def timm_folder(folder):
    """A small timm model with weights, so that several runs share one backbone."""
    import timm

    torch.manual_seed(1)
    model = timm.create_model("test_resnet", num_classes=5)
    timm.models.save_for_hf(model, str(folder), safe_serialization=True)
    return folder


def transformers_folder(folder):
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(1)
    config = ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    config.image_size, config.patch_size, config.num_labels = 32, 8, 5
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
