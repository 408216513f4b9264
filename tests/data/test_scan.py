"""Each image is looked at once; one that is broken is a finding."""

import io

import numpy as np
from PIL import Image

from lort_hub.data.scan import find_broken, scan_images
from tests.support.images import NOISE_PNGS, noise_image, split_of


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_size_mode_format_and_print_are_those_of_the_picture():
    image = noise_image(1, (70, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    images = [encoded(image, "PNG"), encoded(image.convert("L"), "JPEG", exif=exif), encoded(image, "GIF")]
    scan = scan_images(split_of(images), num_workers=2)
    assert [one[:4] for one in scan.facts] == [
        (70, 40, "RGB", "PNG"),
        (70, 40, "L", "JPEG"),
        (70, 40, "P", "GIF"),
    ]
    expected = np.asarray(image.convert("L").resize((64, 64), Image.Resampling.BOX))
    assert np.array_equal(scan.prints[0], expected)
    turned = np.rot90(scan.prints[1], 1).astype(int)  # it was stored turned, and is read upright
    assert np.abs(turned - expected).mean() < 10


def test_broken_images_are_findings_with_their_reason():
    images = [NOISE_PNGS[0], b"no picture", NOISE_PNGS[1][:200], None, NOISE_PNGS[2]]
    scan = scan_images(split_of(images))
    broken = find_broken(scan.facts)
    assert list(broken) == [1, 2, 3]
    assert broken[1] == "it is not a picture that Pillow can read"
    assert scan.facts[1][:4] == (0, 0, "", "")
    assert not scan.prints[1].any()
    assert len(scan.facts) == len(scan.prints) == 5


def test_a_picture_too_small_to_compare_has_no_print():
    images = [encoded(noise_image(k, size), "PNG") for k, size in enumerate([(23, 90), (24, 24)])]
    scan = scan_images(split_of(images))
    assert [bool(one.any()) for one in scan.prints] == [False, True]
    assert not find_broken(scan.facts)
