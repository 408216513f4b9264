"""What the page shows of a picture: probabilities, and what is known of each class."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lort_hub.classifiers import page
from lort_hub.classifiers.page import About, ClassFacts, classify
from lort_hub.data import decoding
from tests.support.images import noise_image

CLASSES = (
    ClassFacts("cat", 1200, 50, "dog", 3),
    ClassFacts("dog", 5, 4, None, 0),
    ClassFacts("<b>bee", None),
)


def shown(*logits):
    return classify(About("pets", "", CLASSES), lambda _: torch.tensor(logits), noise_image(1))


def test_probabilities_are_in_descending_order_and_ties_in_that_of_the_classes():
    bars, _ = shown(0.0, 1.0, 0.0)
    e = torch.e
    assert list(bars) == ["dog", "cat", "<b>bee"]
    assert list(bars.values()) == pytest.approx([e / (2 + e), 1 / (2 + e), 1 / (2 + e)])
    assert classify(About("pets", "", CLASSES), lambda _: torch.zeros(3), None) == ({}, "")


def test_each_class_has_its_counts_and_what_it_is_taken_for_and_names_are_text():
    _, table = shown(3.0, 2.0, 1.0)
    rows = [re.findall("<td>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", table)]
    assert rows == [
        [],
        ["cat", "1,200", "dog (3 of 50)"],
        ["dog", "5", "none was wrong"],
        ["&lt;b&gt;bee", "not known", "not known"],
    ]


def test_the_five_likeliest_of_many_classes_are_shown():
    classes = tuple(ClassFacts(str(k)) for k in range(9))
    bars, table = classify(About("", "", classes), lambda _: torch.arange(9.0), noise_image(1))
    assert list(bars) == ["8", "7", "6", "5", "4"]
    assert table.count("<tr>") == 6


def test_it_imports_nothing_of_lort_hub():
    assert not re.search(r"(?m)^\s*(from|import) lort_hub", Path(page.__file__).read_text())


@pytest.mark.parametrize(
    ("mode", "dtype", "white"), [("I;16", np.uint16, 65535), ("I", np.int32, 65535), ("F", np.float32, 1)]
)
def test_greys_of_many_bits_are_those_of_the_training(mode, dtype, white):
    picture = Image.fromarray((white * np.linspace(0, 1, 64).reshape(8, 8)).astype(dtype))
    assert picture.mode == mode
    assert np.array_equal(page.to_rgb(picture), decoding.to_rgb(picture))
    assert np.asarray(page.to_rgb(picture)).max() == 255
    assert page.to_rgb(noise_image(1)) == noise_image(1)
