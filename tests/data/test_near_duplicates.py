"""The same picture in another file is found, and a distinct picture of the same make is not."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps

from lort_hub.data.near_duplicates import compare, count_images, find_near_duplicates
from tests.support.images import noise_image


def picture(seed, size=(160, 120)):
    """Smooth blobs about the middle, as distinct pictures of one kind have."""
    blobs = (
        noise_image(seed, (40, 30))
        .filter(ImageFilter.GaussianBlur(1.5))
        .resize(size, Image.Resampling.BICUBIC)
    )
    middle = Image.radial_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, "white"), ImageOps.autocontrast(blobs), middle)


def grey(image):
    return np.asarray(image.convert("L").resize((64, 64), Image.Resampling.BOX))


def as_jpeg(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


WAYS = {
    "encoded": lambda image: as_jpeg(image, 60),
    "resized": lambda image: image.resize((128, 96)),
    "mirrored": lambda image: ImageOps.mirror(image),
    "cropped": lambda image: image.crop((4, 3, 156, 117)),
    "cut at two sides": lambda image: image.crop((0, 0, 152, 114)),
    "darker": lambda image: image.point(lambda value: value // 2 + 30),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_changed_picture_is_found_among_others_of_its_kind(way):
    pictures = [picture(seed) for seed in range(20)]
    prints = np.stack([grey(image) for image in [*pictures, WAYS[way](pictures[7])]])
    [pair] = find_near_duplicates(prints)
    assert (pair.first, pair.second, pair.mirrored) == (7, 20, way == "mirrored")


def test_distinct_pictures_blank_ones_and_copies_are_no_near_duplicates():
    prints = np.stack([grey(picture(seed)) for seed in range(20)])
    assert find_near_duplicates(prints) == []
    assert find_near_duplicates(np.full((5, 64, 64), 200, np.uint8)) == []
    assert find_near_duplicates(prints[:0]) == find_near_duplicates(prints[:1]) == []
    twice = prints[[0, 1, 0]]
    [pair] = find_near_duplicates(twice)
    assert pair[:2] == (0, 2)
    assert find_near_duplicates(twice, np.array([0, 1, 0])) == []


@given(st.integers(0, 1000), st.floats(0.4, 1.0), st.integers(0, 60))
def test_brightness_and_contrast_do_not_matter(seed, contrast, brightness):
    print_ = grey(picture(seed))[None]
    changed = (contrast * print_ + brightness).clip(0, 255).astype(np.uint8)
    if (contrast * print_ + brightness).max() <= 255:
        assert compare(print_, changed)[0] > 0.95


def test_images_of_several_pairs_are_counted_once():
    prints = np.stack([grey(picture(3)), grey(as_jpeg(picture(3), 50)), grey(as_jpeg(picture(3), 70))])
    pairs = find_near_duplicates(prints)
    assert (len(pairs), count_images(pairs)) == (3, 3)
