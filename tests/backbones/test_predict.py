import numpy as np
import pytest
import torch

from lort_hub.backbones.load import load_backbone
from lort_hub.backbones.predict import evaluation_batches
from lort_hub.data.load import load_long_tailed


@pytest.fixture(scope="module")
def digits():
    return load_long_tailed("digits").train.take(np.arange(50))


def backbone(side=32):
    return load_backbone("test_resnet", pretrained=False, image_size=side)


def test_evaluation_covers_the_split_in_the_backbone_s_own_preprocessing(digits):
    net = backbone()
    rows, pixels = [], []
    for process in range(2):
        for found, images, errors in evaluation_batches(
            digits, net, batch_size=7, process=process, processes=2
        ):
            assert not errors
            rows += found
            pixels.append(images)
    assert sorted(rows) == list(range(50))
    want = torch.stack([net.transform(digits.image(row)) for row in rows])
    assert torch.cat(pixels).equal(want)


@pytest.fixture(scope="module")
def net():
    return backbone()


@pytest.mark.parametrize("processes", [2, 4])
def test_evaluation_with_more_processes_than_images_has_no_empty_batch(digits, net, processes):
    split, rows = digits.take(np.arange(3)), []
    for process in range(processes):
        batches = evaluation_batches(split, net, batch_size=2, process=process, processes=processes)
        for found, images, _ in batches:
            assert len(images) == len(found)
            rows += found
    assert sorted(rows) == [0, 1, 2]
