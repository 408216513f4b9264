"""Saved models are loaded by plain libraries, and what cannot be saved is known before any compute."""

import json
import random
import resource
import signal

import numpy as np
import pytest
import timm
import torch
from timm.models import generate_default_cfgs, register_model
from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification
from transformers.models.vit import ViTImageProcessor

from lort_hub import cifar_resnets
from lort_hub.backbones.load import load_backbone
from lort_hub.backbones.save import check_saveable, check_saved, save_model
from lort_hub.errors import CheckpointError
from tests.support.images import noise_image


@pytest.fixture(params=["test_resnet", "test_vit", "resnet32_cifar", "transformers"])
def backbone(request, tmp_path):
    if request.param != "transformers":
        return load_backbone(request.param, pretrained=False, image_size=64)
    tiny = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, num_labels=5)
    ViTForImageClassification(tiny).save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    return load_backbone(str(tmp_path / "vit"))


def new_head(backbone, classes=3):
    return torch.randn(classes, backbone.num_features), torch.randn(classes)


NAMES = ["", "bee, wild\n日本 🐝", "c|at \udcff"]
IMAGES = [noise_image(k) for k in range(3)]


@torch.no_grad()
def test_saved_model_is_plain_timm_and_plain_transformers(backbone, tmp_path):
    weight, bias = new_head(backbone)
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    names_before, classifier = backbone.class_names, backbone.classifier
    save_model(backbone, weight, bias, NAMES, tmp_path)
    check_saved(tmp_path, backbone, weight, bias, IMAGES)

    assert (backbone.class_names, backbone.classifier) == (names_before, classifier)
    assert all(torch.equal(before.pop(name), value) for name, value in backbone.model.state_dict().items())
    assert not before
    pixels = torch.stack([backbone.transform(image) for image in IMAGES])
    expected = backbone.features(pixels) @ weight.T + bias
    theirs = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(theirs(pixels).logits, expected, atol=1e-4, rtol=1e-4)
    assert [theirs.config.id2label[k] for k in range(3)] == NAMES
    if backbone.library == "timm":
        assert "num_classes" not in json.loads((tmp_path / "config.json").read_text()).get("model_args", {})
        plain = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
        torch.testing.assert_close(plain(pixels), expected, atol=1e-4, rtol=1e-4)
        assert list(plain.pretrained_cfg["label_names"]) == NAMES
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(plain))
        assert torch.equal(transform(IMAGES[0]), pixels[0])
    assert load_backbone(str(tmp_path)).class_names == tuple(NAMES)


default_cfgs = generate_default_cfgs(
    {"stubborn_cifar.untrained": {"num_classes": 100, "classifier": "head.fc"}}
)


@register_model
def stubborn_cifar(pretrained=False, **kwargs):
    """An entry point that passes a number of classes over config.json's."""
    config = cifar_resnets._config((1, 1, 1), (16, 32, 64))
    return cifar_resnets._create("stubborn_cifar", pretrained, config, **{"num_classes": 100, **kwargs})


def random_states():
    numbers, torchs = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    return str(random.getstate()), numbers[1].tolist(), numbers[2:], torchs.tolist()


def test_a_check_before_any_compute_leaves_everything_as_it_was(backbone, tmp_path):
    here, states = sorted(tmp_path.rglob("*")), random_states()
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    check_saveable(backbone, NAMES, tmp_path / "new" / "out")
    assert random_states() == states
    assert sorted(tmp_path.rglob("*")) == here
    assert all(before[name].equal(tensor) for name, tensor in backbone.model.state_dict().items())


def test_a_model_that_does_not_take_its_number_of_classes_back_is_refused(tmp_path):
    backbone = load_backbone("stubborn_cifar", pretrained=False, image_size=32)
    check_saveable(backbone, [str(k) for k in range(100)], tmp_path / "out")
    with pytest.raises(CheckpointError) as raised:
        check_saveable(backbone, NAMES, tmp_path / "out")
    assert "'stubborn_cifar' cannot be saved with 3 classes and loaded back" in str(raised.value)
    assert "is loaded back with 100 classes, expected 3." in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_for_the_model_is_known_before_any_compute(tmp_path):
    backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(CheckpointError) as raised:
            check_saveable(backbone, NAMES, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert str(raised.value).startswith(f"Cannot write the model beside {tmp_path / 'out'}: ")
    assert "make room or name another place" in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tensor", ["conv1.0.weight", "fc.bias"])
def test_damage_that_safetensors_does_not_see_is_seen(tmp_path, tensor):
    backbone = load_backbone("test_resnet", pretrained=False, image_size=64)
    head = new_head(backbone)
    save_model(backbone, *head, NAMES, tmp_path)
    file = tmp_path / "model.safetensors"
    data = bytearray(file.read_bytes())
    size = int.from_bytes(data[:8], "little")
    start = json.loads(data[8 : 8 + size])[tensor]["data_offsets"][0]
    data[8 + size + start + 3] ^= 0x80  # the first number's sign
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="logits differ from ours"):
        check_saved(tmp_path, backbone, *head, IMAGES)
