"""What is said of the preparation of pictures, against the libraries' own."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import timm
import transformers
from PIL import Image

from lort_hub.backbones.load import load_backbone
from lort_hub.backbones.load_transformers import _process
from lort_hub.classifiers.preparation import describe_preparation, inexact, processor_config
from tests.support.images import noise_image
from tests.support.preparation import prepared

SIZES = ((150, 101), (64, 64), (67, 300), (71, 70), (400, 33))


def model_folder(folder, **data):
    """A timm model with another preparation."""
    side = {"input_size": (3, 64, 64), "test_input_size": (3, 64, 64)}
    model = timm.create_model("test_resnet", num_classes=5, pretrained_cfg_overlay={**side, **data})
    timm.models.save_for_hf(model, str(folder), safe_serialization=True)
    return str(folder)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("mode", "share"),
    [("center", 1.0), ("center", 0.95), ("center", 0.875), ("squash", 1.0), ("squash", 0.9)],
)
def test_the_description_is_enough_to_make_the_pixels(mode, share, interpolation, tmp_path):
    data = {"crop_mode": mode, "crop_pct": share, "interpolation": interpolation, "mean": (0.1, 0.2, 0.3)}
    backbone = load_backbone(model_folder(tmp_path / "model", **data))
    about = describe_preparation(backbone)
    assert "inexact" not in about
    for size in SIZES:
        image = noise_image(3, size=size)
        pixels = backbone.transform(image).numpy()
        assert np.abs(prepared(image, about)[0] - pixels).max() <= 1e-6, size


def test_transformers_makes_the_same_pixels_of_the_config(tmp_path):
    from transformers import CLIPImageProcessor

    data = {"crop_mode": "center", "crop_pct": 0.889, "interpolation": "bicubic"}
    backbone = load_backbone(model_folder(tmp_path / "model", **data))
    config = processor_config(backbone)
    assert config["size"] == {"shortest_edge": 71}
    assert config.pop("image_processor_type") == "CLIPImageProcessor"
    image = noise_image(3, size=(90, 90))
    ours = CLIPImageProcessor(**config)(image, return_tensors="np")["pixel_values"][0]
    pixels = backbone.transform(image).numpy()
    assert about_a_level(ours[:, 1:, 1:], pixels[:, :-1, :-1])  # 3.5 is rounded to 4 by timm, and down by it
    assert not about_a_level(ours, pixels)


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("ViT", {"size": {"height": 64, "width": 64}}, {"resize": {"height": 64, "width": 64}}),
        (
            "ConvNext",
            {"size": {"shortest_edge": 64}, "crop_pct": 0.875},
            {"resize": {"shortest_edge": 73}, "center_crop": {"height": 64, "width": 64}},
        ),
        (
            "ViT",
            {
                "size": {"shortest_edge": 232},
                "do_center_crop": True,
                "crop_size": {"height": 224, "width": 224},
            },
            {"resize": {"shortest_edge": 232}},
        ),
        ("ConvNext", {"size": {"shortest_edge": 384}}, {"resize": {"height": 384, "width": 384}}),
        (
            "MobileViT",
            {"size": {"shortest_edge": 73}, "crop_size": {"height": 64, "width": 64}},
            {"channels": "BGR", "mean": [0.0] * 3},
        ),
        (
            "PoolFormer",
            {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
            {"resize": {"shortest_edge": 71}},
        ),
    ],
)
def test_the_description_is_enough_for_the_processors_of_transformers(kind, options, expected):
    backbone = of_transformers(kind, options)
    about = describe_preparation(backbone)
    assert {name: about[name] for name in expected} == expected
    assert "inexact" not in about
    image = noise_image(3, size=(96, 72))
    flipped = about["channels"] == "BGR"
    pixels = prepared(Image.merge("RGB", image.split()[::-1]) if flipped else image, about)[0]
    assert np.abs(pixels - backbone.transform(image).numpy()).mean() <= 3 / 255 / min(about["std"])


def test_a_preparation_that_no_description_holds_for_is_said():
    poolformer = of_transformers("PoolFormer", {"size": {"shortest_edge": 384}, "crop_pct": 0.9})
    poolformer = replace(
        poolformer,
        transform=lambda image: poolformer.processor(image.rotate(90), return_tensors="pt")["pixel_values"][
            0
        ],
    )
    assert "PoolFormerImageProcessor of transformers prepares" in describe_preparation(poolformer)["inexact"]


def of_transformers(kind, options):
    """A backbone with an image processor of transformers."""
    processor = getattr(transformers, f"{kind}ImageProcessor")(**options)
    transform = partial(_process, processor)
    side = transform(noise_image(3, size=(90, 72))).shape[-1]
    backbone = load_backbone("test_resnet", pretrained=False)
    made = {"library": "transformers", "processor": processor, "transform": transform, "image_size": side}
    return replace(backbone, **made, preprocessing={})


def about_a_level(ours, theirs):
    return np.abs(ours - theirs).max() <= 1.01 / 255 / 0.5


def test_what_the_config_cannot_say_is_said(tmp_path):
    border = load_backbone(model_folder(tmp_path / "border", crop_mode="border"))
    assert "fills the border with the mean colour" in inexact(border)
    assert describe_preparation(border)["inexact"] == inexact(border)
