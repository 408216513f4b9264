"""Folders of pictures in the forms that people bring, with what becomes of them."""

import re

import numpy as np
import pytest

from lort_hub.data.load import load_long_tailed
from lort_hub.errors import DatasetError
from tests.support.images import fill

TRAIN, TEST = {"ant": 6, "bee": 4, "cat": 3}, {"ant": 2, "bee": 2, "cat": 2}
BOTH = {"ant": (6, 2), "bee": (4, 2), "cat": (3, 2)}
TRAIN_ALONE = {"ant": (5, 1), "bee": (3, 1), "cat": (2, 1)}


def both(folder, train="train", test="test"):
    """Fill the class folders of two splits."""
    fill(folder / train, TRAIN)
    fill(folder / test, TEST, start=5000)


class Folders(list):
    """Parameters of a test: how to fill a folder, what is read of it or why it is refused, and options."""

    def case(self, row, outcome, says="", **options):
        """Add a folder.

        Args:
            row: Its id in the list of inputs that were tried.
            outcome: Training and test images of each class, or what the refusal says.
            says: What is said besides.
            options: Of `load_long_tailed`.
        """

        def add(build):
            self.append(pytest.param(build, outcome, says, options, id=f"{row}-{build.__name__}"))
            return build

        return add


def counts_of(data):
    """Training and test images by class."""
    tested = np.bincount(data.test.labels, minlength=data.num_classes)
    return {
        name: (int(k), int(n)) for name, k, n in zip(data.class_names, data.class_counts, tested, strict=True)
    }


def check_folder(folder, build, outcome, says, options):
    """Load a folder as it is built below an empty one, and compare."""
    folder = folder / "photos"
    folder.mkdir()
    folder = build(folder) or folder
    if isinstance(outcome, str):
        with pytest.raises(DatasetError, match=outcome) as error:
            load_long_tailed(str(folder), **options)
        assert len(str(error.value).splitlines()) <= 4
        return
    data = load_long_tailed(str(folder), **options)
    assert counts_of(data) == outcome
    for split in (data.train, data.test):
        for k in range(len(split)):
            assert split.image(k).size == (8, 8)
    notes = " ".join("\n".join(data.notes).split())
    assert " ".join(says.split()) in notes
    assert says or not re.search("not read|without a picture|look the same|byte for byte", notes)
