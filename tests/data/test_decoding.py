"""Pictures of every format and pixel type: decoded by one rule, or a bad image with the reason."""

import io
import random
import struct
import sys
import zlib
from contextlib import suppress

import datasets
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from lort_hub.data.dataset import BadImageError, ImageSplit, brightness_note
from lort_hub.data.decoding import decode, register_heif, to_rgb
from tests.support.images import NOISE_PNGS, noise_image, split_of

RAMP = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)


def encode(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def cell(data, path=None):
    return {"bytes": data, "path": path}


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N"])
def test_16_bits_are_the_same_greys_in_every_byte_order(mode):  # i01, i01b
    little = mode in ("I;16", "I;16L") or (mode == "I;16N" and sys.byteorder == "little")
    image = Image.frombytes(mode, (8, 8), RAMP.astype("<u2" if little else ">u2").tobytes())
    np.testing.assert_array_equal(np.asarray(to_rgb(image))[..., 0], RAMP // 256)


@pytest.mark.parametrize("order", "<>")
def test_16_bit_tiff_of_either_order_is_read(order):  # i01: what ImageJ saves
    pixels = RAMP.astype(f"{order}u2").tobytes()
    entries = [
        (256, 4, 8),
        (257, 4, 8),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 134),
        (278, 4, 8),
        (279, 4, 128),
    ]
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(entries))
    for tag, kind, value in entries:
        value = struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
        head += struct.pack(f"{order}HHI", tag, kind, 1) + value
    image = decode(cell(head.ljust(134, b"\0") + pixels))
    np.testing.assert_array_equal(np.asarray(image)[..., 1], RAMP // 256)


def test_whole_numbers_of_32_bits_are_read_as_16():
    np.testing.assert_array_equal(
        np.asarray(to_rgb(Image.fromarray(RAMP.astype(np.int32))))[..., 0], RAMP // 256
    )


def test_floats_from_0_to_1_are_black_to_white():  # i02
    image = decode(cell(encode(Image.fromarray((RAMP / 65535).astype(np.float32)), "TIFF")))
    np.testing.assert_allclose(np.asarray(image)[..., 2], RAMP / 257, atol=0.51)


FLOATS = RAMP.astype(np.float32)
OUTSIDE = {
    "0 to 65535": FLOATS,
    "-0.5 to 0.5": FLOATS / 65535 - 0.5,
    "over 65535": RAMP.astype(np.int32) * 2,
    "below 0": RAMP.astype(np.int32) - 1,
    "not a number": FLOATS * np.nan,
}


@pytest.mark.parametrize("values", OUTSIDE.values(), ids=OUTSIDE)
def test_other_ranges_are_refused_by_the_rule(values):  # i02: 0..4000, -1000..1000
    split = split_of([encode(Image.fromarray(values), "TIFF")])
    with pytest.raises(
        BadImageError, match=r"its pixels are .* expected 0 \(black\) to (1|65535) \(white\). Scale all"
    ):
        split.image(0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "PA", "1", "CMYK", "YCbCr", "HSV"])
def test_other_modes_are_converted(mode):  # i05, i06, i04
    assert to_rgb(noise_image(1, (8, 8)).convert("RGB" if mode == "PA" else mode)).mode == "RGB"


def test_12_bits_in_16_are_noted_before_compute():  # i03
    dark = [encode(Image.fromarray((RAMP // 16).astype(np.uint16)), "PNG") for _ in range(6)]
    assert "between 0 and 15, of 0 (black) to 255 (white)" in brightness_note(split_of(dark))
    assert brightness_note(split_of([*dark, NOISE_PNGS[3]])) is None
    assert brightness_note(split_of([b"no", b"picture"])) == (
        "None of 2 sampled images of 'train' can be decoded: it is not a picture that Pillow can read."
    )


class Raises:
    """An image whose decoder raises."""

    def __init__(self, error):
        self.error = error

    def __call__(self, *_):
        raise self.error


ERRORS = [RuntimeError("Failed to decode image"), struct.error("unpack"), zlib.error("x"), MemoryError()]
ERRORS += [IndexError("i"), KeyError("k"), AttributeError("a"), OverflowError("o"), ZeroDivisionError("z")]
ERRORS += [EOFError(), NotImplementedError("n"), PermissionError(13, "Permission denied")]
ERRORS += [Image.DecompressionBombError("bomb")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_decoder_raises_is_a_bad_image(monkeypatch, error):  # i14b
    monkeypatch.setattr(datasets.Image, "decode_example", Raises(error))
    with pytest.raises(
        BadImageError, match=r'row 1 of split .train. \(1.png\), class .bee.: .*\n.*`on_bad_image="skip"`'
    ):
        split_of(NOISE_PNGS).image(1)


@pytest.mark.parametrize("number", [5, 23, 24])
def test_the_machine_s_trouble_is_not_the_image_s(monkeypatch, number):
    monkeypatch.setattr(datasets.Image, "decode_example", Raises(OSError(number, "machine")))
    with pytest.raises(OSError, match="machine"):
        split_of(NOISE_PNGS).image(1)


def test_damaged_avif_is_a_bad_image():  # i14b
    data = bytearray(encode(noise_image(1), "AVIF"))
    data[60:] = bytes(len(data) - 60)
    with pytest.raises(BadImageError):
        split_of([bytes(data)]).image(0)


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (None, "the cell is empty"),
        ({"bytes": None, "path": "/nowhere/gone.png"}, r"\(/nowhere/gone.png\).*: no such file"),
        ({"bytes": b"<html>", "path": "a.jpg"}, r"\(a.jpg\).*: it is not a picture"),
        ({"bytes": b"", "path": None}, "it is not a picture"),
    ],
)  # p15, p21b, i11b, i11c
def test_missing_and_empty_images_are_bad_images(one, says):
    images = datasets.Dataset.from_dict(
        {"image": [one, {"bytes": NOISE_PNGS[0], "path": None}]},
        features=datasets.Features({"image": datasets.Image(decode=False)}),
    )
    split = ImageSplit(images, np.arange(2), np.arange(2), "image", "train", ("ant", "bee"))
    with pytest.raises(BadImageError, match=f"row 0 of split 'train'.*{says}"):
        split.image(0)
    assert len(split.fingerprint()) == 64
    with pytest.raises(ValueError, match="the cell is empty"):
        decode({"bytes": None, "path": None})


def test_png_with_much_text_is_said_to_be_whole():  # i10
    about = PngImagePlugin.PngInfo()
    about.add_text("note", "x" * 3_000_000, zip=True)
    with pytest.raises(BadImageError, match="the picture is whole, .* Pillow's limit"):
        split_of([encode(noise_image(1), "PNG", pnginfo=about)]).image(0)


def test_pointer_of_git_lfs_is_called_so(tmp_path):
    pointer = tmp_path / "0.jpg"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(BadImageError, match="a pointer of Git LFS, .*`git lfs pull`"):
        ImageSplit(
            datasets.Dataset.from_dict(
                {"image": [{"bytes": None, "path": str(pointer)}]},
                features=datasets.Features({"image": datasets.Image(decode=False)}),
            ),
            np.arange(1), np.arange(1), "image", "train", ("ant", "bee"),
        ).image(0)  # fmt: skip


def heic():
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(noise_image(3, (64, 64))).save(buffer)
    return buffer.getvalue()


def test_heic_is_read_with_pillow_heif():  # d08
    difference = np.asarray(decode(cell(heic()))).astype(int) - np.asarray(noise_image(3, (64, 64)))
    assert np.abs(difference).mean() < 20


def test_heic_names_the_package_without_it(monkeypatch):  # d08
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    register_heif.cache_clear()
    try:
        with pytest.raises(BadImageError, match=r"pip install '\.\[heic\]'"):
            split_of([b"\0\0\0\x18ftypheic" + bytes(20)]).image(0)
    finally:
        register_heif.cache_clear()


FORMATS = {
    "JPEG": "RGB", "PNG": "RGBA", "GIF": "P", "BMP": "RGB", "WEBP": "RGB", "AVIF": "RGB", "TIFF": "RGB",
    "PPM": "RGB", "TGA": "RGB", "ICO": "RGBA", "ICNS": "RGBA", "JPEG2000": "RGB", "PCX": "RGB", "SGI": "RGB",
    "DDS": "RGB", "MSP": "1", "XBM": "1", "IM": "L", "SPIDER": "F",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMATS)
def test_no_damage_raises_anything_but_a_bad_image(form):
    image = noise_image(5, (64, 64)).convert(FORMATS[form])
    whole = encode(image, form)
    rng = random.Random(form)
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 3, 30))):
            data[int(rng.random() ** 2 * len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        with suppress(BadImageError):
            assert split_of([bytes(data)]).image(0).mode == "RGB"
