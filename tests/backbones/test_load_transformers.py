"""Models in the forms that people bring: each loads, or is refused with what to use instead."""

import json

import numpy as np
import pytest
import timm
import torch
import transformers as hf
from PIL import Image

from lort_hub.backbones.load import hub_name, load_backbone
from lort_hub.backbones.save import check_saved, save_model
from lort_hub.errors import BackboneError, CheckpointError
from tests.support.images import noise_image

VIT = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
VIT |= {"patch_size": 8, "image_size": 32}
SQUARE = {"height": 32, "width": 32}
NAMES = ["ant", "bee", "cat"]


def vit(**config):
    return hf.ViTForImageClassification(hf.ViTConfig(**VIT, num_labels=3, **config))


def saved(folder, model, processor=None, **config):
    """A model's folder, with some of its config.json changed afterwards."""
    model.save_pretrained(folder)
    (processor or hf.ViTImageProcessor(size=SQUARE)).save_pretrained(folder)
    about = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(about))
    return str(folder)


def refuses(message, spec, **options):
    with pytest.raises(BackboneError, match=f"(?s){message}") as error:
        load_backbone(str(spec), **options)
    assert len(str(error.value).splitlines()) <= 3
    assert " --" not in str(error.value)


def written(folder, backbone):
    """What pipeline says of two pictures, with the model that was written."""
    torch.manual_seed(0)
    weight, bias = torch.randn(3, backbone.num_features), torch.randn(3)
    folder.mkdir()
    save_model(backbone, weight, bias, NAMES, folder)
    images = [noise_image(1), noise_image(2)]
    check_saved(folder, backbone, weight, bias, images)
    return hf.pipeline("image-classification", str(folder), top_k=None)(images)


def test_scores_of_pipeline_sum_to_one_whatever_the_model_was_made_for(tmp_path):  # m02, m02b
    forms = {
        "multi": saved(tmp_path / "a", vit(problem_type="multi_label_classification")),
        "regression": saved(tmp_path / "b", vit(problem_type="regression")),
        "timm": "test_resnet",
    }
    for name, spec in forms.items():
        backbone = load_backbone(spec, pretrained=name != "timm")
        for scores in written(tmp_path / name, backbone):
            assert sum(one["score"] for one in scores) == pytest.approx(1, abs=1e-5), name
            assert {one["label"] for one in scores} == set(NAMES)


def test_scores_that_do_not_sum_to_one_are_refused_before_writing(tmp_path):
    backbone = load_backbone(saved(tmp_path / "a", vit()))
    weight, bias = torch.randn(3, 16), torch.randn(3)
    folder = tmp_path / "b"
    folder.mkdir()
    save_model(backbone, weight, bias, NAMES, folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["problem_type"] == "single_label_classification"
    (folder / "config.json").write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
    with pytest.raises(CheckpointError, match=r"pipeline sum to \d\.\d+, expected 1"):
        check_saved(folder, backbone, weight, bias, [noise_image(1)])


def test_timm_s_wrapper_in_transformers_is_a_timm_model(tmp_path):  # m01, m01t
    native = tmp_path / "timm"
    model = timm.create_model("test_resnet", num_classes=3)
    timm.models.save_for_hf(model, str(native), model_config={"label_names": NAMES}, safe_serialization=True)
    config = json.loads((native / "config.json").read_text())
    del config["model_args"]["num_classes"]
    (native / "config.json").write_text(json.dumps(config))
    hf.AutoModelForImageClassification.from_pretrained(native).save_pretrained(tmp_path / "wrapped")
    pixels = torch.randn(2, 3, 160, 160)
    expected = load_backbone(str(native)).features(pixels)
    for spec in (f"{tmp_path}/wrapped", f"transformers:{tmp_path}/wrapped"):
        backbone = load_backbone(spec)
        assert (backbone.library, backbone.class_names) == ("timm", tuple(NAMES))
        torch.testing.assert_close(backbone.features(pixels), expected)


def test_classes_without_names(tmp_path):  # b01
    config = {"hidden_sizes": [8] * 4, "depths": [1] * 4, "num_attention_heads": [1] * 4}
    pvt = hf.PvtForImageClassification(hf.PvtConfig(image_size=32, num_labels=3, **config))
    folder = saved(tmp_path / "a", pvt, id2label=None, label2id=None)
    backbone = load_backbone(folder)
    assert (backbone.class_names, backbone.classifier.out_features) == (None, 3)
    assert len(written(tmp_path / "out", backbone)[0]) == 3
    refuses("names no classes.*\nWrite id2label", saved(tmp_path / "b", vit(), id2label=None, label2id=None))


def test_model_that_answers_with_a_tuple(tmp_path):
    backbone = load_backbone(saved(tmp_path / "a", vit(), return_dict=False))
    assert len(written(tmp_path / "b", backbone)) == 2


def test_part_that_answers_with_a_tuple_or_takes_one_channel(tmp_path):
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    part = {**size, "image_size": 32, "patch_size": 8}

    def clip(**config):
        text = {**size, "vocab_size": 16}
        return hf.CLIPForImageClassification(
            hf.CLIPConfig(text_config=text, vision_config={**part, **config}, num_labels=3)
        )

    backbone = load_backbone(saved(tmp_path / "a", clip(return_dict=False)))
    assert backbone.features(torch.zeros(1, 3, 32, 32)).shape == (1, 32)
    refuses("takes 1 channels, expected 3", saved(tmp_path / "b", clip(num_channels=1)))


def test_processor_without_mean_and_std(tmp_path):
    processor = hf.ViTImageProcessor(size=SQUARE, do_normalize=False, image_mean=None, image_std=None)
    backbone = load_backbone(saved(tmp_path / "a", vit(), processor))
    white = Image.new("RGB", (50, 70), (255, 255, 255))
    assert backbone.transform(white).unique().tolist() == [1.0]
    assert backbone.augment(white).shape == (3, 32, 32)


@pytest.mark.parametrize("processor", [hf.ViTImageProcessor, hf.BitImageProcessor])
def test_processor_without_a_crop_is_refused_and_a_size_adds_it(tmp_path, processor):  # m13r
    model = hf.ResNetForImageClassification(
        hf.ResNetConfig(hidden_sizes=[8, 16, 16, 24], depths=[1] * 4, embedding_size=8, num_labels=3)
    )
    folder = saved(tmp_path / "a", model, processor(size={"shortest_edge": 32}, do_center_crop=False))
    refuses(r"does not crop: .*\(3, 32, 64\).*\nGive `image_size`", folder)
    backbone = load_backbone(folder, image_size=48)
    wide = Image.fromarray(np.tile(np.arange(96, dtype=np.uint8), (48, 1))).convert("RGB")
    pixels = backbone.transform(wide)  # its middle, not all of it squeezed
    assert pixels.shape == (3, 48, 48)
    shown = backbone.transform(wide.crop((24, 0, 72, 48)))
    torch.testing.assert_close(pixels, shown)
    assert len(written(tmp_path / "out", backbone)) == 2
    assert load_backbone(str(tmp_path / "out")).transform(wide).equal(pixels)


def test_refusals_name_what_to_use_instead(tmp_path):  # m07c, m07d, hfsweep, sweep
    clip = saved(tmp_path / "clip", hf.CLIPVisionModel(hf.CLIPVisionConfig(**VIT)))
    refuses("is a CLIPVisionModel .*\nUse a complete .*'clip'.*timm's vit_base_patch16_clip_224.openai", clip)
    mae = saved(tmp_path / "mae", hf.ViTMAEModel(hf.ViTMAEConfig(**VIT)))
    refuses("is a ViTMAEModel .*\nUse a complete .*'vit'.*timm's vit_base_patch16_224.mae", mae)
    bert = hf.BertModel(
        hf.BertConfig(num_hidden_layers=1, hidden_size=16, num_attention_heads=1, vocab_size=9)
    )
    refuses(
        "is a BertModel .*\nUse another backbone, such as timm's resnet50", saved(tmp_path / "bert", bert)
    )
    part = {name: VIT[name] for name in VIT if name != "image_size"}
    text = {name: VIT[name] for name in list(VIT)[:4]} | {"vocab_size": 50, "max_position_embeddings": 8}
    config = hf.Siglip2Config(vision_config={**part, "num_patches": 16}, text_config=text, num_labels=3)
    processor = hf.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    siglip2 = saved(tmp_path / "siglip2", hf.Siglip2ForImageClassification(config), processor)
    refuses("NaFlex.*siglip2-base-patch16-224, or timm's vit_base_patch16_siglip", siglip2)
    for name in {*("repvit_m1", "sequencer2d_s", "crossvit_9_240")}:
        refuses("expected one linear.*\nUse another family", name, pretrained=False)


def test_channels_and_numbers_that_no_other_image_size_would_mend(tmp_path):
    grey = hf.ViTImageProcessor(size=SQUARE, image_mean=[0.5], image_std=[0.5])
    refuses("takes 1 channels, expected 3", saved(tmp_path / "a", vit(num_channels=1), grey))
    model = vit()
    model.vit.layernorm.weight.data[3] = float("nan")
    refuses("features or logits that are not finite.*damaged", saved(tmp_path / "b", model))


def test_files_addresses_and_slips_are_answered_as_such(tmp_path, monkeypatch):  # x5, x6
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "stage1").mkdir(parents=True)
    (tmp_path / "model_best.pth.tar").write_bytes(b"")
    refuses(r"is a file .*never read.*save_pretrained", "./model_best.pth.tar")
    refuses(r"is a file .*never read", "model_best.pth.tar")
    refuses(r"No file './model.safetensors' \(from `backbone`\)", "./model.safetensors")
    refuses("is a web address", "https://download.pytorch.org/models/resnet50.pth")
    refuses("is a data set", "datasets/org/name")
    refuses("No folder 'out/stage'.*Did you mean 'stage1'.*hf-hub:out/stage", "out/stage")
    refuses("No folder './out/stage/deep'.*\nThere is no '.*/out/stage'", "./out/stage/deep")


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("https://huggingface.co/microsoft/resnet-50", "microsoft/resnet-50"),
        ("huggingface.co/timm/resnet50.a1_in1k/tree/main", "timm/resnet50.a1_in1k@main"),
        ("hf://models/org/name", "org/name"),
        ("org/name@v1", "org/name@v1"),
        ("hf-hub:org/name", "hf-hub:org/name"),
        ("resnet50.a1_in1k", "resnet50.a1_in1k"),
        ("https://huggingface.co/datasets/org/name", "https://huggingface.co/datasets/org/name"),
    ],
)
def test_addresses_of_hub_models(spec, name):
    assert hub_name(spec) == name
