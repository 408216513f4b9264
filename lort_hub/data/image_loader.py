"""Decode and transform images, with the same result in any process, worker or batch."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as pillow
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lort_hub.data.dataset import BadImageError, ImageSplit, LongTailedData
from lort_hub.data.decoding import Encoded
from lort_hub.data.transforms import EVAL_VIEW, Transform, split_transform

if TYPE_CHECKING:
    from accelerate import Accelerator

ViewKey = tuple[str, int]
"""Name of a view, and position of an image in its split."""
LoadedImage = tuple[int, Tensor | BadImageError]
"""Position of an image in its split, and its pixels (3, H, W) or the error that it cannot be decoded."""
T = TypeVar("T")
R = TypeVar("R")


class ImageBatch(NamedTuple):
    """A batch of decoded images.

    Attributes:
        rows: Positions in the split of the N images that were decoded.
        pixels: Their pixels (N, 3, H, W); None where there is none.
        errors: Positions and errors of the images that cannot be decoded.
    """

    rows: list[int]
    pixels: Tensor | None
    errors: list[tuple[int, BadImageError]]

    def require_all(self) -> Tensor:
        """Return the pixels (N, 3, H, W) if every image of the batch was decoded.

        Raises:
            BadImageError: An image cannot be decoded.

        Example:
            >>> ImageBatch([4], torch.zeros(1, 3, 8, 8), []).require_all().shape
            torch.Size([1, 3, 8, 8])
        """
        for _, error in self.errors:
            raise error
        assert self.pixels is not None  # a batch has images or errors
        return self.pixels


@dataclass(frozen=True)
class ImageViews(Dataset[LoadedImage]):
    """Decoded and transformed images, indexed by (view, position in the split).

    A random view is seeded by the name of the view and the image's row in the original split, so it is the
    same in any process, worker or batch.

    Attributes:
        split: The images.
        transform: Preprocessing of the view "eval".
        augment: Random preprocessing of every other view.
        decoded: The images (N, S, S, 3) that random views start from, where they are in memory already,
            resized as `augment` resizes them. No tensor: workers would get it through shared memory.

    Example:
        >>> from lort_hub.data.load import load_long_tailed
        >>> from lort_hub.backbones.load import load_backbone
        >>> backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
        >>> images = ImageViews(load_long_tailed("digits").test, backbone.transform, backbone.augment)
        >>> images["eval", 3][1].shape, images["seed0.1", 3][1].equal(images["seed0.1", 3][1])
        (torch.Size([3, 32, 32]), True)
    """

    split: ImageSplit
    transform: Transform
    augment: Transform
    decoded: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: ViewKey) -> LoadedImage:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[ViewKey]) -> list[LoadedImage]:
        """Load the images of a whole batch; a DataLoader calls this where it exists."""
        if self.decoded is not None and all(view != EVAL_VIEW for view, _ in keys):
            return [self._load(view, row, self.decoded[row]) for view, row in keys]
        encoded = self.split.encoded([row for _, row in keys])
        return [self._load(view, row, image) for (view, row), image in zip(keys, encoded, strict=True)]

    def _load(self, view: str, row: int, source: Encoded | NDArray[np.uint8] | None) -> LoadedImage:
        try:
            if isinstance(source, np.ndarray):
                image = pillow.fromarray(source)
            else:
                image = self.split.decode(row, source)
        except BadImageError as error:
            return row, error  # returned, not raised: a DataLoader worker would bury it in its traceback
        if view == EVAL_VIEW:
            return row, self.transform(image)
        state = int.from_bytes(hashlib.sha256(f"{view} {self.split.rows[row]}".encode()).digest()[:4], "big")
        with seeded(state):
            return row, self.augment(image)

    def batches(
        self, view: str, rows: Iterable[list[int]], num_workers: int = 0
    ) -> Generator[ImageBatch, None, None]:
        """Load the batches of one view, a few of them ahead of the caller.

        Pillow releases the GIL, so transforms that end in Pillow use threads, which need no start-up and no
        copies. Random views draw from global generators, of which each process has one, and the processors
        of transformers compute with torch, which has threads of its own: both use worker processes.

        Args:
            view: Name of the view.
            rows: Positions in the split of each batch.
            num_workers: Threads or processes; 0 to load each batch in the caller's thread.

        Yields:
            The batches, in the order of `rows`.
        """
        transform = self.transform if view == EVAL_VIEW else self.augment
        image_steps, batch_step = split_transform(transform) or (transform, None)
        images = replace(self, transform=image_steps, augment=image_steps)
        keys = [[(view, row) for row in batch] for batch in rows]
        batches: Iterable[ImageBatch]
        if num_workers and (view != EVAL_VIEW or batch_step is None):
            generator = torch.Generator()  # without it, the workers' seed is drawn from the global generator
            batches = DataLoader(
                images, batch_sampler=keys, num_workers=num_workers, collate_fn=collate, generator=generator
            )
        else:
            batches = map(collate, map_in_threads(images.__getitems__, keys, num_workers))
        for batch in batches:
            if batch_step and batch.pixels is not None:
                yield batch._replace(pixels=batch_step(batch.pixels))
            else:
                yield batch


def map_in_threads(function: Callable[[T], R], items: Iterable[T], num_threads: int) -> Iterator[R]:
    """Apply a function to each item in threads, in order and a few items ahead of the caller.

    Args:
        function: Called in the threads; it must not draw random numbers.
        items: Its arguments.
        num_threads: Threads; 0 to call it in the caller's thread, when the next result is asked for.

    Example:
        >>> list(map_in_threads(len, ["a", "bc"], 2))
        [1, 2]
    """
    if not num_threads:
        yield from map(function, items)
        return
    pillow.init()  # Pillow loads its plugins at the first unknown format: two threads would race for that
    pool, pending = ThreadPoolExecutor(num_threads), deque[Future[R]]()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * num_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU generators of Python, numpy and torch for a block, and restore them after it.

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


def collate(images: list[LoadedImage]) -> ImageBatch:
    """Stack the decoded images of a batch.

    Args:
        images: Items of `ImageViews`.

    Example:
        >>> rows, pixels, errors = collate([(4, torch.zeros(3, 8, 8)), (5, BadImageError("cut short"))])
        >>> rows, pixels.shape, errors
        ([4], torch.Size([1, 3, 8, 8]), [(5, BadImageError('cut short'))])
    """
    good = [(row, image) for row, image in images if isinstance(image, Tensor)]
    bad = [(row, error) for row, error in images if isinstance(error, BadImageError)]
    pixels = torch.stack([image for _, image in good]) if good else None
    return ImageBatch([row for row, _ in good], pixels, bad)


def check_images(
    data: LongTailedData,
    accelerator: Accelerator,
    *,
    on_bad_image: Literal["error", "skip"] = "error",
    num_workers: int = 0,
) -> LongTailedData:
    """Decode every image once, so that no training stops at one that is damaged.

    Every process calls this.

    Args:
        data: The data set.
        accelerator: The processes, which share the work.
        on_bad_image: "error" stops at an image that cannot be decoded, "skip" leaves it out and records it.
        num_workers: Decoding threads.

    Returns:
        The data, without the images left out.

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

    errors: list[list[tuple[int, BadImageError]]] = []
    for split in (data.train, data.test):
        rows = range(len(split))[accelerator.process_index :: accelerator.num_processes]
        keys = [[(EVAL_VIEW, row) for row in rows[start : start + 64]] for start in range(0, len(rows), 64)]
        batches = map_in_threads(ImageViews(split, _size, _size).__getitems__, keys, num_workers)
        own_errors = [pair for images in batches for pair in collate(images).errors]
        errors.append(sorted(gather_object(own_errors), key=itemgetter(0)))
    if on_bad_image == "error":
        for _, error in errors[0] + errors[1]:
            raise error
    return data.leave_out(*([row for row, _ in of_split] for of_split in errors))


def _size(image: pillow.Image) -> Tensor:
    return torch.tensor(image.size)
