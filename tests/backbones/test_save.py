import json

import pytest
import timm
import torch
from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification
from transformers.models.vit import ViTImageProcessor

from lort_hub.backbones.load import load_backbone
from lort_hub.backbones.save import check_saved, save_model
from lort_hub.errors import CheckpointError
from tests.support.images import noise_image

NAMES = ["ant", "bee, wild", "c|at"]
IMAGES = [noise_image(k) for k in range(3)]


@pytest.fixture(params=["test_resnet", "test_vit", "transformers"])
def backbone(request, tmp_path):
    if request.param != "transformers":
        return load_backbone(request.param, pretrained=False, image_size=64)
    tiny = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, num_labels=5)
    ViTForImageClassification(tiny).save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    return load_backbone(str(tmp_path / "vit"))


def new_head(backbone, classes=3):
    return torch.randn(classes, backbone.num_features), torch.randn(classes)


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
