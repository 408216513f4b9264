from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.optim import create_optimizer_v2
from torch import nn

from lort_hub.backbones.load import load_backbone
from lort_hub.cifar_resnets import NAMES
from tests.support.models import as_if_trained


class HeBlock(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        inputs = channels // stride
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride == 2:
            zeros = torch.zeros_like(x[:, ::2, ::2, ::2])
            x = torch.cat([zeros, x[:, :, ::2, ::2], zeros], dim=1)
        return F.relu(x + y)


class HeResNet32(nn.Module):
    def __init__(self, num_classes, width=16):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        strides = {width: (1, 1, 1, 1, 1), 2 * width: (2, 1, 1, 1, 1), 4 * width: (2, 1, 1, 1, 1)}
        self.blocks = nn.Sequential(*(HeBlock(c, s) for c, ss in strides.items() for s in ss))
        self.fc = nn.Linear(4 * width, num_classes)

    def forward(self, x):
        return self.fc(self.blocks(F.relu(self.bn(self.conv(x)))).mean((2, 3)))


def torchvision_resnet34(num_classes):
    model = torchvision.models.resnet34(num_classes=num_classes)
    model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    model.maxpool = nn.Identity()
    return model


REFERENCES = dict(zip(NAMES, (HeResNet32, partial(HeResNet32, width=32), torchvision_resnet34), strict=True))


def number_of_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def in_order_of_execution(model, pixels):
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))]
    order = []
    hooks = [m.register_forward_hook(lambda module, *_: order.append(module)) for m in layers]
    with torch.no_grad():
        model(pixels)
    for hook in hooks:
        hook.remove()
    assert len(order) == len(layers)
    return order


@pytest.mark.parametrize("num_classes", [10, 100])
@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_as_many_as_the_reference_s(name, num_classes):
    model = timm.create_model(name, num_classes=num_classes)
    assert number_of_parameters(model) == number_of_parameters(REFERENCES[name](num_classes))


def test_parameters_are_as_many_as_published():
    # He et al., table 6: 0.46 M. Three stages of ten convolutions, of which two halve the resolution.
    stage = {c: 9 * c * c * 10 for c in (16, 32, 64)}
    convolutions = 27 * 16 + stage[16] + stage[32] - 9 * 32 * 16 + stage[64] - 9 * 64 * 32
    norms = 2 * (16 + 10 * (16 + 32 + 64))
    assert convolutions + norms + 650 == 464_154
    assert number_of_parameters(timm.create_model("resnet32_cifar", num_classes=10)) == 464_154
    assert timm.create_model("resnet32_cifar").num_classes == 100


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_the_reference_s(name, training):
    ours, reference = as_if_trained(timm.create_model(name, num_classes=7)), REFERENCES[name](7).eval()
    pixels = torch.randn(3, 3, 32, 32)
    pairs = zip(in_order_of_execution(ours, pixels), in_order_of_execution(reference, pixels), strict=True)
    for mine, theirs in pairs:
        theirs.load_state_dict(mine.state_dict())
    with torch.no_grad():
        got, expected = ours.train(training)(pixels), reference.train(training)(pixels)
    assert expected.std() > 0.01
    torch.testing.assert_close(got, expected, atol=1e-5 * expected.abs().max().item(), rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_initialisation_is_he_s_without_zeroed_branches(name):
    for module in timm.create_model(name).modules():
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 9000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("name", "channels", "sides"),
    [
        ("resnet32_cifar", [16, 32, 64], [32, 16, 8]),
        ("resnet32x2_cifar", [32, 64, 128], [32, 16, 8]),
        ("resnet34_cifar", [64, 128, 256, 512], [32, 16, 8, 4]),
    ],
)
def test_feature_maps_are_as_described(name, channels, sides):
    model = timm.create_model(name, features_only=True).eval()
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        maps = model(pixels)
    shapes = [(1, c, s, s) for c, s in zip(channels, sides, strict=True)]
    assert [tuple(x.shape) for x in maps] == shapes
    assert model.feature_info.channels() == channels
    assert model.feature_info.reduction() == [32 // side for side in sides]
    complete = timm.create_model(name).eval()
    renamed = dict(zip(complete.state_dict(), model.state_dict().values(), strict=False))
    assert complete.load_state_dict(renamed, strict=False).missing_keys == ["head.fc.weight", "head.fc.bias"]
    with torch.no_grad():
        torch.testing.assert_close(complete.forward_features(pixels), maps[-1])
        inner = complete.forward_intermediates(pixels, indices=len(shapes), intermediates_only=True)
    assert [tuple(x.shape) for x in inner] == shapes


@pytest.mark.parametrize("name", NAMES)
def test_classifier_can_be_replaced(name):
    model = timm.create_model(name).eval()
    pixels = torch.randn(2, 3, 32, 32)
    model.reset_classifier(7)
    assert model.get_classifier().out_features == 7
    with torch.no_grad():
        logits, features = model(pixels), model.forward_head(model.forward_features(pixels), pre_logits=True)
        torch.testing.assert_close(model.get_classifier()(features), logits)
        model.reset_classifier(0)
        torch.testing.assert_close(model(pixels), features)
    assert features.shape == (2, model.head_hidden_size) == (2, model.num_features)


@pytest.mark.parametrize("name", NAMES)
def test_layer_decay_slows_every_layer_below_the_head(name):
    model = timm.create_model(name)
    groups = create_optimizer_v2(model, "sgd", lr=0.1, layer_decay=0.75).param_groups
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert len(scale) == len(list(model.parameters()))
    scales = [scale[id(p)] for p in (model.head.fc.weight, *model.stages[-1].parameters())]
    assert scales[0] == 1.0
    assert scale[id(model.stem.conv.weight)] < min(scales)


@pytest.mark.parametrize("name", NAMES)
def test_saved_nets_come_back_identical(name, tmp_path):
    model = as_if_trained(timm.create_model(name, num_classes=5))
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    backbone = load_backbone(f"local-dir:{tmp_path}")
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(pixels), model(pixels))
        assert torch.equal(backbone.logits(pixels), model(pixels))
    assert (backbone.image_size, backbone.num_features) == (32, model.num_features)


@pytest.mark.parametrize("name", NAMES)
def test_timm_knows_the_nets_and_their_preprocessing(name):
    assert timm.is_model(name)
    assert name in timm.list_models("resnet*_cifar")
    data = timm.data.resolve_model_data_config(timm.create_model(name))
    expected = {
        "input_size": (3, 32, 32), "mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010),
        "crop_pct": 1.0, "interpolation": "bicubic", "crop_mode": "center",
    }  # fmt: skip
    assert data == expected
