"""Images as pixels: decoded and transformed, the same whichever process, worker or batch they are made in."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from PIL import Image as pillow
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lort_hub.data.dataset import BadImageError, Encoded, ImageSplit, LongTailedData
from lort_hub.data.transforms import EVAL_VIEW, Transform, in_two

if TYPE_CHECKING:
    from accelerate import Accelerator

Key = tuple[str, int]
Sample = tuple[int, Tensor | BadImageError]
Collated = tuple[list[int], Tensor | None, list[tuple[int, BadImageError]]]
Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Pixels(Dataset[Sample]):
    """Decoded and transformed images, indexed by (view, position in the split).

    A random view of an image depends on the names of the view and the image alone: not on the process, the
    worker or the batch it is made in.

    Attributes:
        split: The images.
        transform: Makes the view "eval".
        augment: Makes every other view.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> from lort_hub.backbones.load import load_backbone
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

    def __getitem__(self, key: Key) -> Sample:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[Sample]:
        """What a DataLoader calls for a whole batch."""
        encoded = self.split.encoded([row for _, row in keys])
        return [self._make(view, row, image) for (view, row), image in zip(keys, encoded, strict=True)]

    def _make(self, view: str, row: int, encoded: Encoded) -> Sample:
        try:
            image = self.split.decode(row, encoded)
        except BadImageError as error:
            return row, error  # returned, not raised: a DataLoader worker would bury it in its traceback
        if view == EVAL_VIEW:
            return row, self.transform(image)
        state = int.from_bytes(hashlib.sha256(f"{view} {self.split.rows[row]}".encode()).digest()[:4], "big")
        with seeded(state):
            return row, self.augment(image)

    def batches(
        self, view: str, rows: Iterable[list[int]], num_workers: int = 0
    ) -> Generator[Collated, None, None]:
        """Batches of one view, made while the caller is at work on those before.

        What Pillow does alone is shared by threads: they run at once, and there is nothing to start or
        to copy. Random views draw from generators that a process has one of, and transformers' processors
        compute with torch, which has threads of its own: worker processes make those.

        Args:
            view: Which view.
            rows: Positions in the split of each batch.
            num_workers: Threads or processes; 0 to do all of it in between, in the caller's thread.

        Yields:
            As `collate` returns them.
        """
        transform = self.transform if view == EVAL_VIEW else self.augment
        first, finish = in_two(transform) or (transform, None)
        pixels = replace(self, transform=first, augment=first)
        keys = [[(view, row) for row in batch] for batch in rows]
        made: Iterable[Collated]
        if num_workers and (view != EVAL_VIEW or finish is None):
            own = torch.Generator()  # or the workers' seed would be drawn from the caller's
            made = DataLoader(
                pixels, batch_sampler=keys, num_workers=num_workers, collate_fn=collate, generator=own
            )
        else:
            made = map(collate, in_threads(pixels.__getitems__, keys, num_workers))
        for found, images, errors in made:
            yield found, finish(images) if finish and images is not None else images, errors


def in_threads(make: Callable[[Item], Made], items: Iterable[Item], number: int) -> Iterator[Made]:
    """Make something of each item, in order and a few items ahead of the caller.

    Args:
        make: Called in the threads; draws nothing at random.
        items: What to call it with.
        number: Threads; 0 to call it in the caller's, when the next result is asked for.

    Example:
        >>> list(in_threads(len, ["a", "bc"], 2))
        [1, 2]
    """
    if not number:
        yield from map(make, items)
        return
    pillow.init()  # two threads that find a format unknown would race for Pillow's plugins, and one lose
    pool, ahead = ThreadPoolExecutor(number), deque[Future[Made]]()
    try:
        for item in items:
            ahead.append(pool.submit(make, item))
            if len(ahead) > 2 * number:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's CPU generators for a block, and put them back after it.

    Example:
        >>> with seeded(3):
        ...     first = torch.rand(1)
        >>> with seeded(3):
        ...     bool(first == torch.rand(1))
        True
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (what timm's augmentations draw from)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def collate(samples: list[Sample]) -> Collated:
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


def intact(images: Tensor | None, errors: list[tuple[int, BadImageError]]) -> Tensor:
    """The images of a batch all of whose images must be there.

    Args:
        images: As `collate` returns them.
        errors: As `collate` returns them.

    Raises:
        BadImageError: One cannot be decoded.

    Example:
        >>> intact(torch.zeros(1, 3, 8, 8), []).shape
        torch.Size([1, 3, 8, 8])
    """
    for _, error in errors:
        raise error
    assert images is not None  # a batch has images or errors
    return images


def check_images(
    data: LongTailedData,
    accelerator: Accelerator,
    *,
    on_bad_image: Literal["error", "skip"] = "error",
    num_workers: int = 0,
) -> LongTailedData:
    """Decode every image once, before hours of training end at one that cannot be; every process calls this.

    Args:
        data: The data set.
        accelerator: The processes, which share the work.
        on_bad_image: Stop, or leave such images out and record them.
        num_workers: Decoding threads.

    Returns:
        The data, without such images.

    Raises:
        BadImageError: An image cannot be decoded.
        DatasetError: A class has no training image left, or there is no test image left.

    Example:
        >>> from accelerate import Accelerator
        >>> from lort_hub.data.load import load_long_tailed
        >>> data = load_long_tailed("digits")
        >>> len(check_images(data, Accelerator(cpu=True)).train) == len(data.train)
        True
    """
    from accelerate.utils import gather_object

    bad: list[list[tuple[int, BadImageError]]] = []
    for split in (data.train, data.test):
        mine = range(len(split))[accelerator.process_index :: accelerator.num_processes]
        keys = [[(EVAL_VIEW, row) for row in mine[start : start + 64]] for start in range(0, len(mine), 64)]
        batches = in_threads(Pixels(split, _size, _size).__getitems__, keys, num_workers)
        found = [pair for samples in batches for pair in collate(samples)[2]]
        bad.append(sorted(gather_object(found), key=itemgetter(0)))
    if on_bad_image == "error":
        for _, error in bad[0] + bad[1]:
            raise error
    return data.leave_out(*([row for row, _ in found] for found in bad))


def _size(image: pillow.Image) -> Tensor:
    return torch.tensor(image.size)
