from contextlib import nullcontext, suppress

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import ImageOps
from timm.data.auto_augment import rand_augment_transform
from torchvision import transforms
from torchvision.transforms import functional as vision

from lort_hub.backbones.load import load_backbone
from lort_hub.data.image_loader import seeded
from lort_hub.data.transforms import SMALL_SIDE, add_auto_augment, augmentation, split_transform
from lort_hub.errors import ConfigError
from tests.support.images import noise_image

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def config(side):
    return {"input_size": (3, side, side), "mean": MEAN, "std": STD, "interpolation": "bicubic"}


def drawn(augment, seed=0, size=(48, 40)):
    with seeded(seed):
        return augment(noise_image(seed, size))


def normalised(image):
    return vision.normalize(vision.to_tensor(image), MEAN, STD)


@pytest.mark.parametrize("seed", range(8))
def test_small_images_are_resized_padded_by_an_eighth_cropped_and_flipped(seed):
    image = noise_image(seed).resize((32, 32), 3)
    padded = vision.pad(image, 4)
    crops = [padded.crop((x, y, x + 32, y + 32)) for x in range(9) for y in range(9)]
    wanted = [normalised(crop) for image in crops for crop in (image, vision.hflip(image))]
    got = drawn(augmentation(config(32)), seed)
    assert min((got - one).abs().max() for one in wanted) < 1e-6


def test_large_images_are_cropped_at_any_scale():
    """A crop of less than 40 % of a ramp spans less than its range; padding would be black."""
    assert SMALL_SIDE == 64
    ramp = torch.linspace(0.2, 1, 200).expand(3, 200, 200)
    image, spans = vision.to_pil_image(ramp), {}
    for side in (64, 65):
        with seeded(0):
            seen = [augmentation(config(side))(image)[0] * STD[0] + MEAN[0] for _ in range(40)]
        spans[side] = [pixels[side // 2].max() - pixels[side // 2].min() for pixels in seen]
        assert min(pixels.min() for pixels in seen) < 0.1 if side == 64 else 0.15
    assert min(spans[64]) > 0.6
    assert min(spans[65]) < 0.4


@pytest.mark.parametrize("strength", range(1, 11))
def test_rand_augment_of_any_strength_survives_any_draw(strength):
    augment = add_auto_augment(augmentation(config(32)), f"rand-m{strength}-mstd0.5-inc1", 32)
    image, found = noise_image(strength), set()
    for seed in range(200):
        with seeded(seed):
            pixels = augment(image)
        assert pixels.isfinite().all()
        assert pixels.shape == (3, 32, 32)
        found.add(round(pixels.mean().item(), 4))
    assert len(found) > 150


@pytest.mark.parametrize("name", ["rand-m10", "rand-m10-n4", "rand-m9-mstdinf-mmax9"])
def test_what_timm_knows_survives_any_draw(name):
    augment, image = add_auto_augment(augmentation(config(32)), name, 32), noise_image(1)
    for seed in range(300):
        with seeded(seed):
            assert augment(image).isfinite().all()


@pytest.mark.parametrize("name", ["original", "v0", "augmix-m9-mstd0.5", "rand"])
def test_operations_that_could_break_off_a_training_are_refused(name):
    with pytest.raises(ConfigError, match=r'`auto_augment=".*"` is refused'):
        add_auto_augment(augmentation(config(32)), name, 32)


def test_a_strength_that_keeps_no_bits_is_refused_where_pillow_refuses_that():
    try:
        ImageOps.posterize(noise_image(1), 0)  # Pillow 13 refuses it, 12 makes a black image
    except ValueError:
        expected = pytest.raises(ConfigError, match=r'`auto_augment="rand-m1"` is refused')
    else:
        expected = nullcontext()
    with expected:
        add_auto_augment(augmentation(config(32)), "rand-m1", 32)


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        ("autoaugment-cifar10", transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10, fill=[128] * 3)),
        ("autoaugment-imagenet", transforms.AutoAugment(fill=[128] * 3)),
        ("autoaugment-svhn", transforms.AutoAugment(transforms.AutoAugmentPolicy.SVHN, fill=[128] * 3)),
        ("trivialaugment-wide", transforms.TrivialAugmentWide(fill=[128] * 3)),
    ],
)
def test_policies_without_a_strength_are_torchvision_s(name, operations):
    crop, finish = augmentation(config(32)).transforms
    wanted = transforms.Compose([crop, operations, finish])
    augment = add_auto_augment(augmentation(config(32)), name, 32)
    seen = set()
    for seed in range(60):
        pixels = drawn(augment, seed)
        assert pixels.equal(drawn(wanted, seed))
        seen.add(pixels.equal(drawn(augmentation(config(32)), seed)))
    assert False in seen


def test_a_name_like_a_policy_s_is_refused_with_the_name_that_was_meant():
    with pytest.raises(ConfigError, match="Did you mean 'autoaugment-cifar10'"):
        add_auto_augment(augmentation(config(32)), "autoaugment-cifar", 32)


@pytest.mark.parametrize("side", [32, 96])
def test_random_operations_come_between_the_crop_and_the_pixels(side):
    crop, finish = augmentation(config(side)).transforms
    settings = {"translate_const": int(side * 0.45), "img_mean": (124, 116, 104), "interpolation": 2}
    operations = rand_augment_transform("rand-m5-n3-mmax9", settings)
    wanted = transforms.Compose([crop, operations, finish])
    augment = add_auto_augment(augmentation(config(side)), "rand-m5-n3", side)
    for seed in range(30):
        torch.testing.assert_close(drawn(augment, seed), drawn(wanted, seed), rtol=0, atol=1e-6)


@given(st.text(alphabet="randm-w0aug3xisp. ", min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
@example("nonsense")
@example("rand-q3")
@example("rand-w7")
@example("rand-m-5")
@example("augmix-x3")
@example("RAND-m9")
def test_a_name_is_known_or_refused_with_the_names_that_are_known(name):
    augment = augmentation(config(32))
    if name.startswith(("rand", "augmix", "3a", "original", "v0")):
        with suppress(ConfigError):
            drawn(add_auto_augment(augment, name, 32))
    else:
        with pytest.raises(ConfigError, match="rand-m9-mstd0.5-inc1"):
            add_auto_augment(augment, name, 32)


@pytest.mark.parametrize(
    ("name", "side"), [("resnet50", 72), ("resnet32_cifar", 32), ("convnext_tiny", 96), ("test_vit", 80)]
)
@pytest.mark.parametrize("operations", [None, "rand-m9-mstd0.5-inc1"])
def test_a_batch_in_two_steps_is_bit_for_bit_the_images_in_one(name, side, operations):
    backbone = load_backbone(name, pretrained=False, image_size=side)
    backbone = backbone.with_auto_augment(operations) if operations else backbone
    images = [noise_image(k, size) for k, size in enumerate(((90, 70), (40, 120), (200, 99)))]
    for whole in (backbone.transform, backbone.augment):
        first, rest = split_transform(whole)
        with seeded(5):
            wanted = torch.stack([whole(image) for image in images])
        with seeded(5):
            made = torch.stack([first(image) for image in images])
        assert made.dtype == torch.uint8
        assert rest(made).equal(wanted)
        assert rest(made).is_contiguous(memory_format=torch.channels_last)


def test_transforms_that_do_not_end_as_timm_s_are_left_whole():
    assert split_transform(vision.to_tensor) is None
    assert split_transform(transforms.Compose([transforms.ToTensor(), transforms.RandomErasing()])) is None
