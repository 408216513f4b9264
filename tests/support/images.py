"""Small images of known pixels, and splits of them."""

import io

import datasets
import numpy as np
from PIL import Image

from lort_hub.data.dataset import ImageSplit


def png(pixels):
    """PNG bytes of an array (H, W[, 3])."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def noise_image(seed, size=(48, 40), mode="RGB"):
    """An image of random pixels about a mean that depends on the seed."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(40 + 25 * (seed % 7), 30, size=(size[1], size[0], 3)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def fill(folder, counts, suffix=".jpg", start=0):
    """Fill class folders with pictures of 8 x 8 pixels, no two of them the same unless they start alike."""
    kinds = {".avif": "AVIF", ".png": "PNG", ".tif": "TIFF", ".webp": "WEBP"}
    for label, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            picture = noise_image(start + 100 * label + k, (8, 8))
            picture.save(folder / name / f"{k}{suffix}", kinds.get(suffix.lower(), "JPEG"))


def split_of(encoded):
    images = datasets.Dataset.from_dict(
        {"image": [{"bytes": data, "path": f"{k}.png"} for k, data in enumerate(encoded)]},
        features=datasets.Features({"image": datasets.Image(decode=False)}),
    )
    rows = np.arange(len(encoded))
    return ImageSplit(images, rows % 2, rows, "image", "train", ("ant", "bee"))


NOISE_PNGS = [png(np.asarray(noise_image(k, (20, 16)))) for k in range(10)]
