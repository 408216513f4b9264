"""Pictures that people bring, whole and damaged: decoded, or a bad image with the reason."""

import io

import pytest
from PIL import Image, TiffImagePlugin

from lort_hub.data.dataset import BadImageError
from lort_hub.data.decoding import decode
from tests.support.images import noise_image, split_of


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def with_exif(tag, value):
    exif = Image.Exif()
    exif[tag] = value
    return encoded(noise_image(1, (8, 8)), "JPEG", exif=exif.tobytes())


def exif_bytes(content):
    return encoded(noise_image(1, (8, 8)), "JPEG", exif=b"Exif\0\0" + content)


HEADER = b"II*\0\x08\0\0\0"
PICTURES = {  # ids: rows of the list of inputs that were tried
    "i07-wide": (encoded(noise_image(1, (3000, 1)), "PNG"), (3000, 1)),
    "i07-tall": (encoded(noise_image(1, (1, 3000)), "PNG"), (1, 3000)),
    "i07-point": (encoded(noise_image(1, (1, 1)), "PNG"), (1, 1)),
    "i08": (encoded(noise_image(1, (8, 8)), "JPEG", xmp=b"<x:xmpmeta>\xe9\xff</x:xmpmeta>"), (8, 8)),
    "i09": (with_exif(282, TiffImagePlugin.IFDRational(72, 0)), (8, 8)),
    "i09b": (exif_bytes(HEADER[:4] + b"\xff\xff\xff\x0f"), (8, 8)),
    "i09c": (exif_bytes(b"Exif\0\0" + HEADER + b"\0\0\0\0\0\0"), (8, 8)),
    "i11": (encoded(noise_image(1, (8, 8)), "WEBP"), (8, 8)),
    "i06b": (encoded(noise_image(1), "GIF", save_all=True, append_images=[noise_image(2)]), (48, 40)),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow says so, and decodes
@pytest.mark.parametrize("row", PICTURES)
def test_picture_is_decoded(row):
    data, size = PICTURES[row]
    image = decode({"bytes": data, "path": "0.jpg"})
    assert (image.mode, image.size) == ("RGB", size)


def test_half_of_an_avif_is_a_bad_image():  # i14
    data = encoded(noise_image(1), "AVIF")
    with pytest.raises(BadImageError, match="row 0"):
        split_of([data[: len(data) // 2]]).image(0)
