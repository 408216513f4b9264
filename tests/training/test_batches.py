from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torchvision.transforms import functional as vision

from lort_hub.backbones.load import load_backbone
from lort_hub.data.dataset import ImageSplit
from lort_hub.data.image_loader import ImageViews
from lort_hub.data.load import load_long_tailed
from lort_hub.errors import ConfigError
from lort_hub.training.batches import Batches, crop_and_flip, cut_out


@pytest.fixture(scope="module")
def digits():
    return load_long_tailed("digits").train.take(np.arange(50))


def backbone(side=32):
    return load_backbone("test_resnet", pretrained=False, image_size=side)


@given(st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_crop_and_flip_equals_torchvision(seed):
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=random)
    shift, flip = torch.randint(0, 5, (2, 6), generator=random), torch.rand(6, generator=random) < 0.5
    got = crop_and_flip(images, shift, flip, 2)
    for k in range(6):
        want = vision.crop(vision.pad(images[k], 2), int(shift[0, k]), int(shift[1, k]), 8, 8)
        assert got[k].equal(vision.hflip(want) if flip[k] else want)


def test_in_memory_images_are_crops_of_what_the_backbone_sees(digits):
    net = load_backbone("resnet32_cifar", pretrained=False)  # its crop is the whole image
    batch = next(Batches(digits, net, batch_size=50).epoch(0))
    plain = torch.stack([net.transform(digits.image(k)) for k in range(50)])
    black = -net.preprocessing["mean"][0] / net.preprocessing["std"][0]
    padded = torch.nn.functional.pad(plain[:, :1] - black, (4, 4, 4, 4)) + black
    for image, label in zip(batch.pixels[:10, :1], batch.labels[:10], strict=True):
        crops = padded[torch.from_numpy(digits.labels) == label].unfold(2, 32, 1).unfold(3, 32, 1)
        crops = crops.reshape(-1, 1, 32, 32)
        distance = torch.cat([crops, crops.flip(3)]).sub(image).abs().amax(dim=(1, 2, 3))
        assert distance.min() < 1e-5


@pytest.mark.parametrize("side", [32, 72])  # kept in memory, and decoded by workers
def test_every_epoch_sees_every_image_once_in_another_order(digits, side):
    net = backbone(side)
    batches = Batches(digits, net, batch_size=16, seed=5)
    seen = [torch.cat([batch.labels for batch in batches.epoch(epoch)]) for epoch in (0, 1, 0)]
    assert len(batches) == 4
    for labels in seen:
        assert np.bincount(labels).tolist() == np.bincount(digits.labels).tolist()
    assert seen[0].equal(seen[2])
    assert not seen[0].equal(seen[1])
    first, other, again = (next(batches.epoch(epoch)).pixels for epoch in (0, 1, 0))
    assert first.equal(again)
    assert not first.equal(other)


@pytest.mark.parametrize("side", [32, 72])
def test_processes_share_the_batches_of_one(digits, side):
    net = backbone(side)
    alone = list(Batches(digits, net, batch_size=24, seed=1).epoch(3))
    dealt = [
        list(Batches(digits, net, batch_size=8, seed=1, process=p, processes=3, num_workers=p).epoch(3))
        for p in range(3)
    ]
    assert [len(batch.labels) for batch in alone] == [24, 24, 2][: len(alone)]
    for whole, *parts in zip(alone, *dealt, strict=False):
        for p, part in enumerate(parts):
            assert part.pixels.equal(whole.pixels[p::3])
            assert part.labels.equal(whole.labels[p::3])
        # The average over processes of share times the local mean is the mean over the whole batch.
        mean = sum(part.share * part.labels.double().mean() for part in parts) / 3
        assert mean.item() == pytest.approx(whole.labels.double().mean().item())


def test_a_rest_too_small_for_batch_statistics_is_left_out(digits):
    net = backbone()
    assert [len(b.labels) for b in Batches(digits, net, batch_size=7).epoch(0)] == [7] * 7
    assert [len(b.labels) for b in Batches(digits.take(np.arange(1)), net, batch_size=7).epoch(0)] == [1]


SPLITS = [(1, 4), (2, 2), (4, 1)]  # processes, parts that each accumulates


def dealt(split, net, processes, accumulation, size=4, epoch=2):
    """The parts of each process, and of each process the steps as lists of parts."""
    options = {
        "batch_size": size,
        "seed": 1,
        "processes": processes,
        "gradient_accumulation_steps": accumulation,
    }
    steps = []
    for process in range(processes):
        batches = Batches(split, net, process=process, **options)
        steps.append([[]])
        for part in batches.epoch(epoch):
            steps[-1][-1].append(part)
            if part.ends_step:
                steps[-1].append([])
        assert steps[-1].pop() == []  # the epoch ends with a step
        assert len(steps[-1]) == len(batches)
        assert all(len(parts) == accumulation for parts in steps[-1])
    return steps


@pytest.mark.parametrize("name", [None, "rand-m9-mstd0.5-inc1"])  # kept in memory, and decoded by workers
@pytest.mark.parametrize(("processes", "accumulation"), SPLITS)
def test_accumulated_parts_make_up_the_batches_of_one_process(digits, processes, accumulation, name):
    net = backbone().with_auto_augment(name) if name else backbone()
    whole = list(Batches(digits.take(np.arange(43)), net, batch_size=16, seed=1).epoch(2))
    steps = dealt(digits.take(np.arange(43)), net, processes, accumulation)
    assert [len(batch.labels) for batch in whole] == [16, 16, 11]
    for k, batch in enumerate(whole):
        parts = [part for process in steps for part in process[k]]
        images, labels = torch.cat([p.pixels for p in parts]), torch.cat([p.labels for p in parts])
        assert sorted(len(part.labels) for part in parts) == ([4] * 4 if k < 2 else [2, 3, 3, 3])
        # The same images, each once, in another order.
        same = (images[:, None] == batch.pixels[None]).flatten(2).all(dim=2)
        assert same.sum(dim=0).tolist() == same.sum(dim=1).tolist() == [1] * len(batch.labels)
        assert labels.equal(batch.labels[same.int().argmax(dim=1)])
        assert sum(part.share for part in parts) == pytest.approx(processes, abs=1e-12)
        assert batch.share == 1
        assert batch.ends_step


@pytest.mark.parametrize("name", ["rand-m9-mstd0.5-inc1", "autoaugment-cifar10"])
def test_random_operations_are_those_of_single_images(digits, name):
    net = backbone().with_auto_augment(name)
    alone = ImageViews(digits, net.transform, net.augment)
    wanted = torch.stack([alone["seed5.3", row][1] for row in range(50)])
    got = torch.cat([batch.pixels for batch in Batches(digits, net, batch_size=16, seed=5).epoch(2)])
    assert (got[:, None] == wanted[None]).flatten(2).all(dim=2).sum(dim=0).tolist() == [1] * 50


def test_a_square_as_large_as_the_images_is_refused(digits, net):
    Batches(digits, net, batch_size=8, cutout=31)
    with pytest.raises(ConfigError, match="32 x 32 pixels, but the images have 32 x 32"):
        Batches(digits, net, batch_size=8, cutout=32)


@pytest.mark.parametrize("name", [None, "rand-m9-mstd0.5-inc1", "autoaugment-cifar10"])
def test_small_images_are_decoded_once(digits, name, monkeypatch):
    net = backbone().with_auto_augment(name) if name else backbone()
    batches = Batches(digits, net, batch_size=16)
    monkeypatch.setattr(ImageSplit, "decode", lambda *_: pytest.fail("decoded again"))
    assert [len(list(batches.epoch(epoch))) for epoch in (0, 1)] == [4, 4]


def test_the_evaluation_s_view_is_of_the_images_as_they_are(digits):
    net = load_backbone("test_resnet", pretrained=False, image_size=32).with_auto_augment("rand-m3")
    views = Batches(digits, net, batch_size=16).views
    assert views.decoded is not None
    blank = replace(views, decoded=np.zeros_like(views.decoded))
    assert blank["eval", 3][1].equal(net.transform(digits.image(3)))
    assert not blank["seed0.1", 3][1].equal(views["seed0.1", 3][1])


@given(st.integers(0, 99), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_cutout_hides_a_square_around_any_pixel(seed, side):
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(5, 3, 6, 8, generator=random) + 1
    got = cut_out(images, torch.rand(2, 5, generator=random), side)
    for image, cut in zip(images, got, strict=True):
        squares = []
        for row in range(6):
            for column in range(8):
                top, left = row - side // 2, column - side // 2
                square = image.clone()
                square[:, max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 0
                squares.append(square)
        assert any(cut.equal(square) for square in squares)


def test_the_square_of_cutout_has_its_centre_at_every_pixel_alike():
    place = torch.cartesian_prod(torch.arange(4) / 4 + 0.1, torch.arange(5) / 5 + 0.1).T
    hidden = cut_out(torch.ones(20, 1, 4, 5), place, 1) == 0
    assert hidden.sum(dim=0).eq(1).all()
    assert hidden.flatten(1).sum(dim=1).eq(1).all()


@pytest.mark.parametrize("name", [None, "rand-m9-mstd0.5-inc1"])
def test_cutout_comes_after_all_else_and_in_another_place_every_time(digits, name):
    net = backbone().with_auto_augment(name) if name else backbone()
    plain, cut, again = (
        [
            torch.cat([b.pixels for b in Batches(digits, net, batch_size=16, cutout=side).epoch(e)])
            for e in (0, 1)
        ]
        for side in (0, 8, 8)
    )
    assert all(a.equal(b) for a, b in zip(cut, again, strict=True))
    for before, after in zip(plain, cut, strict=True):
        changed = before != after
        assert after[changed].eq(0).all()
        places = {tuple(image.any(dim=0).nonzero().amin(dim=0).tolist()) for image in changed if image.any()}
        assert len(places) > 20


def test_processes_share_the_squares_of_one(digits):
    alone = list(Batches(digits, backbone(), batch_size=24, cutout=9).epoch(3))
    for p in range(3):
        parts = Batches(digits, backbone(), batch_size=8, process=p, processes=3, cutout=9).epoch(3)
        assert all(part.pixels.equal(whole.pixels[p::3]) for whole, part in zip(alone, parts, strict=False))


@pytest.fixture(scope="module")
def net():
    return backbone()


@given(rows=st.integers(1, 50), size=st.integers(2, 9), dealing=st.sampled_from([*SPLITS, (3, 1), (2, 3)]))
@settings(max_examples=60, deadline=None)
def test_accumulated_gradients_are_those_of_the_mean_over_the_whole_batch(digits, net, rows, size, dealing):
    """Averaged over processes, as DistributedDataParallel does it, and summed until the step."""
    number = dealing[0] * dealing[1]
    assume(rows >= number)

    def gradient(part):
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 10).double()
        pixels = part.pixels.double().mean(dim=(2, 3))
        torch.nn.functional.cross_entropy(layer(pixels), part.labels).mul(part.share).backward()
        return layer.weight.grad

    split = digits.take(np.arange(rows))
    whole = list(Batches(split, net, batch_size=size * number, seed=1).epoch(2))
    if len(whole) > 1 and len(whole[-1].labels) < 2 * number:
        whole.pop()  # too small for batch statistics in every part
    processes = dealt(split, net, *dealing, size)
    assert all(len(steps) == len(whole) for steps in processes)
    for k, batch in enumerate(whole):
        summed = sum(gradient(part) for steps in processes for part in steps[k]) / dealing[0]
        torch.testing.assert_close(summed, gradient(batch), rtol=0, atol=1e-12)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_batches_of_one_image_a_part_leave_no_image_out(digits, net, accumulation):
    batches = Batches(digits.take(np.arange(8)), net, batch_size=1, gradient_accumulation_steps=accumulation)
    assert sum(len(part.labels) for part in batches.epoch(0)) == 8


def test_fewer_images_than_parts_are_refused(digits, net):
    """Or a part has none, and the mean of no losses is no number."""
    for options in (
        {"gradient_accumulation_steps": 4},
        {"processes": 4},
        {"gradient_accumulation_steps": 2, "processes": 2},
    ):
        with pytest.raises(ConfigError, match="`gradient_accumulation_steps`"):
            list(Batches(digits.take(np.arange(3)), net, batch_size=8, **options).epoch(0))
