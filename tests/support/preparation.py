"""Preparation of a picture by its description alone, with Pillow and numpy."""

import numpy as np
from PIL import Image


def prepared(image, about):
    """Pixels of a picture by the file's own description alone, with Pillow and numpy."""
    width, height = image.size
    if "shortest_edge" in about["resize"]:
        short = about["resize"]["shortest_edge"]
        width, height = (
            (short, int(short * height / width)) if width < height else (int(short * width / height), short)
        )
    else:
        width, height = about["resize"]["width"], about["resize"]["height"]
    image = image.resize((width, height), Image.Resampling[about["interpolation"].upper()])
    if crop := about["center_crop"]:
        whole = int if "rounded down" in about["crop_offset"] else round
        left, top = whole((width - crop["width"]) / 2), whole((height - crop["height"]) / 2)
        image = image.crop((left, top, left + crop["width"], top + crop["height"]))
    pixels = np.asarray(image, np.float32) * about["rescale_factor"]
    pixels = (pixels - np.float32(about["mean"])) / np.float32(about["std"])
    return pixels.transpose(2, 0, 1)[None].astype(np.float32)
