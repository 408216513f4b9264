import gc
import os
import random
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from torchvision.transforms import functional as vision

from lort_hub.backbones.load import load_backbone
from lort_hub.data.dataset import BadImageError
from lort_hub.data.image_loader import ImageViews, check_images, collate, map_in_threads, seeded
from lort_hub.data.load import load_long_tailed
from lort_hub.errors import DatasetError
from lort_hub.training.batches import Batches

VIEWS = ("eval", "seed0.1", "seed0.2", "seed1.1")


def draws():
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


@pytest.fixture
def pixels(photos):
    backbone = load_backbone("test_vit", pretrained=False, image_size=80)
    backbone = backbone.with_auto_augment("rand-m9-mstd0.5-inc1")
    return ImageViews(load_long_tailed(str(photos)).train, backbone.transform, backbone.augment)


def test_seeded_seeds_three_generators_and_puts_them_back():
    with seeded(3):
        first = draws()
    with seeded(1):
        before = draws()
        with seeded(3):
            assert draws() == first
        with suppress(ZeroDivisionError), seeded(4):
            raise ZeroDivisionError
        after = draws()
    with seeded(1):
        assert (draws(), draws()) == (before, after)
    for one, other in zip(first, before, strict=True):
        assert one != other


@pytest.mark.parametrize("workers", [1, 2])
def test_a_view_is_the_same_in_any_worker_order_and_subset(pixels, workers):
    keys = [(view, row) for view in VIEWS for row in range(len(pixels))]
    alone = {key: pixels[key][1] for key in keys}
    shuffled = [keys[k] for k in np.random.default_rng(0).permutation(len(keys))]
    batches = [shuffled[start : start + 5] for start in range(0, len(keys), 5)]
    loader = DataLoader(pixels, batch_sampler=batches, num_workers=workers, collate_fn=collate)
    for batch, (rows, images, errors) in zip(batches, loader, strict=True):
        assert not errors
        assert rows == [row for _, row in batch]
        for key, image in zip(batch, images, strict=True):
            assert image.equal(alone[key])
    part = ImageViews(pixels.split.take(np.array([5, 11])), pixels.transform, pixels.augment)
    assert part["seed0.2", 1][1].equal(alone["seed0.2", 11])


def test_views_are_the_transform_and_different_augmentations(pixels):
    image = pixels.split.image(2)
    assert pixels["eval", 2][1].equal(pixels.transform(image))
    views = [pixels[view, 2][1] for view in VIEWS]
    for k, view in enumerate(views):
        assert not any(view.equal(other) for other in views[:k])


@pytest.mark.parametrize("view", ["eval", "seed0.1"])  # made in threads, and in processes
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_the_images_one_by_one_in_channels_last(pixels, view, workers):
    rows = [[3, 1, 2], [0], [17, 16], [5, 5]]
    with seeded(0):
        wanted = draws()
    with seeded(0):
        made = list(pixels.batches(view, rows, workers))
        assert draws() == wanted  # no worker's seed is drawn from the caller's generator
    for batch, (found, images, errors) in zip(rows, made, strict=True):
        assert (found, errors) == (batch, [])
        assert images.equal(torch.stack([pixels[view, row][1] for row in batch]))
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_a_transform_of_torch_s_is_left_to_processes_of_one_thread(photos):
    def threads(_):
        return torch.tensor([os.getpid(), torch.get_num_threads()])

    split = load_long_tailed(str(photos)).train
    ((_, found, _),) = ImageViews(split, threads, threads).batches("eval", [[0]], 1)
    assert found[0, 0] != os.getpid()
    assert found[0, 1] == 1


def test_threads_keep_the_order_a_few_items_ahead_and_end_with_the_caller():
    started, before = [], threading.active_count()

    def make(item):
        started.append(item)
        time.sleep(0.01 * (item % 3))
        return item

    assert list(map_in_threads(make, range(20), 3)) == list(range(20))
    started.clear()
    made = map_in_threads(make, range(1000), 2)
    assert next(made) == 0
    made.close()
    assert len(started) <= 5
    assert threading.active_count() == before
    with pytest.raises(ZeroDivisionError):
        list(map_in_threads(lambda item: 1 // (3 - item), range(9), 2))
    assert threading.active_count() == before


def test_making_images_leaves_the_generators_of_the_training_alone(pixels):
    with seeded(0):
        wanted = draws()
    with seeded(0):
        for view in VIEWS:
            pixels[view, 3]
        assert draws() == wanted


def test_the_training_draws_the_same_dropout_for_any_number_of_workers(photos):
    backbone = load_backbone("test_vit", pretrained=False, image_size=80)
    backbone = backbone.with_auto_augment("rand-m9-mstd0.5-inc1")
    split, drawn = load_long_tailed(str(photos)).train, []
    for workers in (0, 2):
        with seeded(0):
            batches = Batches(split, backbone, batch_size=5, num_workers=workers)
            drawn.append([(draws(), batch.pixels.sum().item()) for batch in batches.epoch(0)])
    assert drawn[0] == drawn[1]


@pytest.fixture
def damaged(photos, tmp_path):
    """The photos with three that are none, at rows 4 and 12 of train and 7 of test."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    train, test = load_long_tailed(str(folder)).train, load_long_tailed(str(folder)).test
    for split, row in ((train, 4), (train, 12), (test, 7)):
        Path(split.images[row]["image"]["path"]).write_bytes(b"not a picture")
    return load_long_tailed(str(folder))


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_found_before_training(damaged, workers):
    accelerator = Accelerator(cpu=True)
    with pytest.raises(BadImageError, match="row 4 of split 'train' (.|\n)*class 'ant'"):
        check_images(damaged, accelerator, num_workers=workers)
    data = check_images(damaged, accelerator, on_bad_image="skip", num_workers=workers)
    assert data.source["left_out"] == [
        {"split": "train", "row": 4, "class": "ant"},
        {"split": "train", "row": 12, "class": "bee"},
        {"split": "test", "row": 7, "class": "bee"},
    ]
    assert data.class_counts.tolist() == [8, 5, 3]
    assert np.bincount(data.test.labels).tolist() == [4, 3, 4]
    again = check_images(data, accelerator, num_workers=workers)
    assert again.source["left_out"] == []
    assert again.train is data.train
    assert again.test is data.test


def test_a_class_without_an_image_that_decodes_is_refused(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    for file in (folder / "train" / "cat").iterdir():
        file.write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match="cat"):
        check_images(load_long_tailed(str(folder)), Accelerator(cpu=True), on_bad_image="skip")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_images_cut_short_do_not_stay_open(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    train = load_long_tailed(str(folder)).train
    for row in range(6):
        os.truncate(train.images[row]["image"]["path"], 1000)
    before = sum(1 for _ in Path("/dev/fd").iterdir())
    errors = [ImageViews(train, vision.to_tensor, vision.to_tensor)["eval", row] for row in range(6)]
    after = sum(1 for _ in Path("/dev/fd").iterdir())
    found = [type(error) for _, error in errors]
    del errors
    gc.collect()
    assert found == [BadImageError] * 6
    assert after == before


def test_a_batch_of_bad_images_has_no_pixels():
    errors = [(3, BadImageError("a")), (1, BadImageError("b"))]
    assert collate(errors) == ([], None, errors)
