"""Describe how a classifier prepares an image, for programs that have neither timm nor transformers."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from PIL import Image

from lort_hub.backbones.backbone import Backbone

RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
"""Pillow's number of each interpolation, as preprocessor_config.json has it."""

CROP_OFFSET = {
    "timm": "(side - crop) / 2, rounded, halves to the even number",
    "transformers": "(side - crop) / 2, rounded down",
}
"""First row and column of the centre crop; where they differ, the crops are a pixel apart."""


def processor_config(backbone: Backbone) -> dict[str, Any]:
    """Write a classifier's preparation as transformers does in preprocessor_config.json.

    The images are 8-bit RGB. They are resized, cropped about their centre, multiplied by the rescale factor
    and normalised, in this order.

    Args:
        backbone: The classifier.

    Example:
        >>> from lort_hub.backbones.load import load_backbone
        >>> config = processor_config(load_backbone("test_resnet", pretrained=False, image_size=128))
        >>> config["size"], config["crop_size"], config["resample"]
        ({'shortest_edge': 134}, {'height': 128, 'width': 128}, 2)
    """
    if backbone.library == "transformers":
        config: dict[str, Any] = json.loads(backbone.processor.to_json_string())
        return config
    data = backbone.preprocessing
    height, width = data["input_size"][1:]
    resized = [math.floor(side / data["crop_pct"]) for side in (height, width)]
    keeps_ratio = data["crop_mode"] != "squash"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": min(resized)}
        if keeps_ratio
        else dict(zip(("height", "width"), resized, strict=True)),
        "resample": RESAMPLE.get(data["interpolation"], RESAMPLE["bilinear"]),
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(data["mean"]),
        "image_std": list(data["std"]),
    }


def inexact(backbone: Backbone) -> str | None:
    """Say what of a classifier's preparation `processor_config` cannot express; None where it says all.

    Args:
        backbone: The classifier.

    Example:
        >>> from lort_hub.backbones.load import load_backbone
        >>> inexact(load_backbone("test_resnet", pretrained=False)) is None
        True
    """
    if backbone.library == "transformers":
        return None
    height, width = backbone.preprocessing["input_size"][1:]
    if backbone.preprocessing["crop_mode"] == "border":
        return "timm scales the longer side and fills the border with the mean colour (crop mode 'border')"
    if height != width and backbone.preprocessing["crop_mode"] == "center":
        return f"timm scales to cover {height} x {width} pixels, which is no square"
    return None


def describe_preparation(backbone: Backbone) -> dict[str, Any]:
    """Describe the input of a classifier and every step from a picture to it, as JSON.

    Args:
        backbone: The classifier.

    Example:
        >>> from lort_hub.backbones.load import load_backbone
        >>> about = describe_preparation(load_backbone("test_resnet", pretrained=False, image_size=128))
        >>> about["input_size"], about["resize"], about["center_crop"], about["interpolation"]
        ([3, 128, 128], {'shortest_edge': 134}, {'height': 128, 'width': 128}, 'bilinear')
    """
    config = processor_config(backbone)
    size, crop = _resizing(config)
    names = {number: name for name, number in RESAMPLE.items()}
    rescale = config["rescale_factor"] if config.get("do_rescale") else 1.0
    normalises = config.get("do_normalize")
    steps = {
        "input_size": [3, backbone.image_size, _width(backbone)],
        "layout": "NCHW",
        "channels": "BGR" if config.get("do_flip_channel_order") else "RGB",
        "upright": "turn the picture as its EXIF orientation says",
        "resize": size,
        "interpolation": names.get(config.get("resample", 2), "bilinear"),
        "antialias": True,
        "center_crop": crop,
        "crop_offset": CROP_OFFSET[backbone.library],
        "rescale_factor": rescale,
        "mean": config["image_mean"] if normalises else [0.0] * 3,
        "std": config["image_std"] if normalises else [1.0] * 3,
    }
    if reason := inexact(backbone) or _other_pixels(backbone, steps):
        steps["inexact"] = reason
    return {**steps, "of_the_library": backbone.preprocessing}


def _resizing(config: dict[str, Any]) -> tuple[dict[str, int], dict[str, int] | None]:
    """Size and crop of a preparation; where transformers has a `crop_pct`, it crops while it resizes."""
    size, crop = config["size"] or {}, config.get("crop_size") if config.get("do_center_crop") else None
    edge = size.get("shortest_edge")
    if not (config.get("crop_pct") and edge):
        return size, crop
    square = {"height": edge, "width": edge}
    if edge >= 384 and not crop:
        return square, None
    return {"shortest_edge": int(edge / config["crop_pct"])}, crop or square


def _other_pixels(backbone: Backbone, steps: dict[str, Any]) -> str | None:
    """What to say where a processor of transformers makes other pixels than the steps do."""
    if backbone.library != "transformers":
        return None
    image = Image.merge("RGB", [Image.effect_noise((300, 200), 64) for _ in "RGB"])
    if not {"shortest_edge", "height"} & steps["resize"].keys():
        return f"{type(backbone.processor).__name__} of transformers has a size of its own kind"
    expected, pixels = backbone.transform(image).numpy(), _follow(steps, image)
    levels = 3 * steps["rescale_factor"] / min(steps["std"])  # it scales with other arithmetic than Pillow
    if pixels.shape == expected.shape and np.abs(pixels - expected).mean() <= levels:
        return None
    return f"{type(backbone.processor).__name__} of transformers prepares pictures in another way"


def _follow(steps: dict[str, Any], image: Image.Image) -> np.ndarray[Any, Any]:
    """Pixels (3, H, W) of a picture by the steps alone."""
    width, height = image.size
    size, crop = steps["resize"], steps["center_crop"]
    short, side = size.get("shortest_edge", 0), min(width, height)
    width, height = size.get("width", short * width // side), size.get("height", short * height // side)
    image = image.resize((width, height), Image.Resampling[steps["interpolation"].upper()])
    if crop:
        left, top = (width - crop["width"]) // 2, (height - crop["height"]) // 2
        image = image.crop((left, top, left + crop["width"], top + crop["height"]))
    pixels = np.asarray(image, np.float32)[:, :, :: -1 if steps["channels"] == "BGR" else 1]
    pixels = (pixels * np.float32(steps["rescale_factor"]) - np.float32(steps["mean"])) / np.float32(
        steps["std"]
    )
    channels_first: np.ndarray[Any, Any] = pixels.transpose(2, 0, 1)
    return channels_first


def _width(backbone: Backbone) -> int:
    return int(backbone.transform(Image.new("RGB", (64, 64))).shape[-1])
