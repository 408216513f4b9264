"""Name the data sets that need no more than a word, and make the embedded one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import datasets

DIGITS_TEST_PER_CLASS = 50


@dataclass(frozen=True)
class Preset:
    """A data set by a short name.

    Attributes:
        repo_id: Its Hub id; None where there is no copy on the Hub to point at.
        image_column: Column of the images.
        label_column: Column of the labels.
        imbalance: The literature's default.
    """

    repo_id: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    imbalance: str = "none"


PRESETS = {
    "digits": Preset(None, "image", "label", "exp:10"),
    "cifar10": Preset("uoft-cs/cifar10", "img", "label", "exp:100"),
    "cifar100": Preset("uoft-cs/cifar100", "img", "fine_label", "exp:100"),
    "imagenet-lt": Preset(),
    "places-lt": Preset(),
    "inat2018": Preset(),
}


def digits() -> dict[str, datasets.Dataset]:
    """Make scikit-learn's handwritten digits, 8 x 8 grey; the last 50 images of each class are the test set.

    Example:
        >>> {split: len(rows) for split, rows in digits().items()}
        {'train': 1297, 'test': 500}
    """
    import datasets
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = np.round(data.images * (255 / 16)).astype(np.uint8)
    names = [str(digit) for digit in range(10)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    is_test = np.zeros(len(data.target), dtype=bool)
    for digit in range(10):
        is_test[np.flatnonzero(data.target == digit)[-DIGITS_TEST_PER_CLASS:]] = True

    def rows(chosen: NDArray[np.bool_]) -> datasets.Dataset:
        images = [datasets.Image().encode_example(image) for image in pixels[chosen]]
        return datasets.Dataset.from_dict(
            {"image": images, "label": data.target[chosen].tolist()}, features=features
        )

    return {"train": rows(~is_test), "test": rows(is_test)}
