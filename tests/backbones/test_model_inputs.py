"""Folders of models as people bring them: each loads with its features, or is refused with what to use."""

import json

import pytest
import timm
import torch
import transformers as hf

from lort_hub.backbones.load import load_backbone
from lort_hub.errors import BackboneError

VIT = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
VIT |= {"patch_size": 8, "image_size": 32}
SQUARE = hf.ViTImageProcessor(size={"height": 32, "width": 32})
EDGE = hf.BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
CONVNEXT = hf.ConvNextImageProcessor(size={"shortest_edge": 32})
STAGES = {"hidden_sizes": [8] * 4, "depths": [1] * 4}


def vit(**config):
    return hf.ViTForImageClassification(hf.ViTConfig(**VIT, num_labels=3, **config))


def saved(folder, model, processor=SQUARE):
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def change(folder, file, **values):
    """Change some of a JSON file; a value of None takes it out."""
    content = json.loads((folder / file).read_text()) | values
    (folder / file).write_text(
        json.dumps({key: value for key, value in content.items() if value is not None})
    )
    return folder


def of_timm(folder, **options):
    torch.manual_seed(1)
    model = timm.create_model("test_resnet", num_classes=3, **options)
    timm.models.save_for_hf(model, str(folder), safe_serialization=True)
    return folder


def of_trainer(folder):
    """What transformers' Trainer leaves beside a model."""
    saved(folder, vit())
    torch.save({}, folder / "training_args.bin")
    torch.save({}, folder / "optimizer.pt")
    (folder / "trainer_state.json").write_text("{}")
    (folder / "checkpoint-1").mkdir()
    return folder


def without_processor(folder):
    vit().save_pretrained(folder)
    return folder


def adapter_alone(folder):
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "org/vit"}')
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def clip(folder):
    vision, text = dict(VIT), {**{k: VIT[k] for k in list(VIT)[:4]}, "vocab_size": 50}
    config = hf.CLIPConfig(vision_config=vision, text_config=text, projection_dim=8)
    return saved(
        folder, hf.CLIPModel(config), hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    )


def family(name, processor=SQUARE, **config):
    """A small classifier of a family."""

    def build(folder):
        kind = getattr(hf, f"{name}Config")(num_labels=3, **config)
        return saved(folder, getattr(hf, f"{name}ForImageClassification")(kind), processor)

    return build


OLD = {"feature_extractor_type": "ViTFeatureExtractor", "image_processor_type": None, "size": 32}
TWICE = {"id2label": {"0": "ant", "1": "ant", "2": "bee"}, "label2id": {"ant": 1, "bee": 2}}
LOADS = {  # ids: rows of the list of inputs that were tried
    "m01": (of_timm, "timm", 96),
    "m03": (lambda folder: saved(folder, vit().bfloat16()), "transformers", 16),
    "m05": (
        lambda folder: change(saved(folder, vit()), "preprocessor_config.json", **OLD),
        "transformers",
        16,
    ),
    "m06": (of_trainer, "transformers", 16),
    "m07": (lambda folder: saved(folder, hf.ViTModel(hf.ViTConfig(**VIT))), "transformers", 16),
    "m07b": (clip, "transformers", 16),
    "m10": (lambda folder: change(saved(folder, vit()), "config.json", **TWICE), "transformers", 16),
    "hfsweep-beit": (family("Beit", **VIT), "transformers", 16),
    "hfsweep-data2vec": (family("Data2VecVision", **VIT), "transformers", 16),
    "hfsweep-vitmsn": (family("ViTMSN", **VIT), "transformers", 16),
    "hfsweep-ijepa": (family("IJepa", **VIT), "transformers", 16),
    "hfsweep-dinov2": (family("Dinov2", EDGE, **VIT), "transformers", 32),  # the class token, and the mean
    "hfsweep-convnextv2": (family("ConvNextV2", CONVNEXT, **STAGES), "transformers", 8),
    "hfsweep-focalnet": (family("FocalNet", embed_dim=8, depths=[1, 1], image_size=32), "transformers", 16),
    "hfsweep-regnet": (family("RegNet", CONVNEXT, embedding_size=8, **STAGES), "transformers", 8),
    "hfsweep-mobilenetv2": (family("MobileNetV2", EDGE, image_size=32), "transformers", 1280),
}
REFUSALS = {
    "m04": (without_processor, "has no preprocessor_config.json, .*from_pretrained"),
    "m08": (adapter_alone, "No config.json"),
    "m09": (lambda folder: of_timm(folder, in_chans=1), "channel"),
    "m11": (
        lambda folder: change(saved(folder, vit()), "preprocessor_config.json", do_resize=False),
        "do_resize is false.*Set it to true in preprocessor_config.json",
    ),
}


@pytest.mark.parametrize("row", LOADS)
def test_model_loads_with_its_features(row, tmp_path):
    build, library, width = LOADS[row]
    backbone = load_backbone(str(build(tmp_path / "model")))
    assert (backbone.library, backbone.num_features) == (library, width)
    pixels = torch.randn(2, 3, backbone.image_size, backbone.image_size)
    features = backbone.features(pixels)
    assert features.shape == (2, width)
    assert features.isfinite().all()
    assert {parameter.dtype for parameter in backbone.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("row", REFUSALS)
def test_model_is_refused_with_the_reason(row, tmp_path):
    build, reason = REFUSALS[row]
    with pytest.raises(BackboneError, match=f"(?s){reason}") as error:
        load_backbone(str(build(tmp_path / "model")))
    assert len(str(error.value).splitlines()) <= 3
