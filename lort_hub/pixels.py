"""Images as pixels: decoded and transformed, the same whichever process, worker or batch they are made in."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lort_hub.data import BadImageError, ImageSplit
from lort_hub.store import EVAL_VIEW
from lort_hub.transforms import Transform


@dataclass(frozen=True)
class Pixels(Dataset[tuple[int, Tensor | BadImageError]]):
    """Decoded and transformed images, indexed by (view, position in the split).

    A random view of an image depends on the names of the view and the image alone: not on the process, the
    worker or the batch it is made in.

    Attributes:
        split: The images.
        transform: Makes the view "eval".
        augment: Makes every other view.

    Example:
        >>> from lort_hub.data import load_long_tailed
        >>> from lort_hub.loading import load_backbone
        >>> backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
        >>> pixels = Pixels(load_long_tailed("digits").test, backbone.transform, backbone.augment)
        >>> pixels["eval", 3][1].shape, pixels["seed0.1", 3][1].equal(pixels["seed0.1", 3][1])
        (torch.Size([3, 32, 32]), True)
    """

    split: ImageSplit
    transform: Transform
    augment: Transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: tuple[str, int]) -> tuple[int, Tensor | BadImageError]:
        view, row = key
        try:
            image = self.split.image(row)
        except BadImageError as error:
            return row, error  # returned, not raised: a DataLoader worker would bury it in its traceback
        if view == EVAL_VIEW:
            return row, self.transform(image)
        state = int.from_bytes(hashlib.sha256(f"{view} {self.split.rows[row]}".encode()).digest()[:4], "big")
        random.seed(state)
        torch.manual_seed(state)
        return row, self.augment(image)


def collate(
    samples: list[tuple[int, Tensor | BadImageError]],
) -> tuple[list[int], Tensor | None, list[tuple[int, BadImageError]]]:
    """Stack the images of a batch.

    Args:
        samples: Items of `Pixels`.

    Returns:
        Positions and pixels (N, 3, H, W) of the images, and the positions and errors of those that are none.

    Example:
        >>> rows, pixels, errors = collate([(4, torch.zeros(3, 8, 8)), (5, BadImageError("cut short"))])
        >>> rows, pixels.shape, errors
        ([4], torch.Size([1, 3, 8, 8]), [(5, BadImageError('cut short'))])
    """
    good = [(row, sample) for row, sample in samples if isinstance(sample, Tensor)]
    bad = [(row, sample) for row, sample in samples if isinstance(sample, BadImageError)]
    return [row for row, _ in good], torch.stack([image for _, image in good]) if good else None, bad
