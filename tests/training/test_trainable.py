import sys
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import Dinov2Config, Dinov2ForImageClassification

from lort_hub.backbones.backbone import logits_of
from lort_hub.backbones.load import load_backbone
from lort_hub.backbones.save import check_saveable
from lort_hub.errors import BackboneError, ConfigError
from lort_hub.training.trainable import check_trainable, merge_lora, select_trainable, train_mode
from tests.support.models import transformers_folder

# What peft asks transformers for is deprecated there.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

RANK = 3
NETS = ("test_resnet", "test_vit", "transformers")
TUNES = ("full", "head", "bias", "lora")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return transformers_folder(tmp_path_factory.mktemp("backbone") / "vit")


def new(name, folder=None):
    """A backbone of three classes, and a batch for it."""
    torch.manual_seed(0)
    own = name == "transformers"
    backbone = load_backbone(str(folder) if own else name, pretrained=own, image_size=32)
    backbone = backbone.with_new_classifier(["a", "b", "c"])
    for weight in backbone.model.parameters():  # zeros at the start would keep others from a gradient
        weight.add_(torch.randn_like(weight), alpha=0.05)
    return backbone, torch.randn(4, 3, 32, 32)


def updated(backbone):
    """The layers low-rank updates are for: linear ones, else convolutions, the classifier apart."""
    inner = {k: m for k, m in backbone.model.named_modules() if k != backbone.classifier_name}
    linear = {k: m for k, m in inner.items() if isinstance(m, nn.Linear)}
    return linear or {k: m for k, m in inner.items() if isinstance(m, nn.Conv2d)}


def sgd(model, pixels, tune, steps=3):
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=0.1)
    labels = torch.arange(len(pixels)) % 3
    for _ in range(steps):
        train_mode(model, tune)
        nn.functional.cross_entropy(logits_of(model(pixels)), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        model.eval()


@pytest.mark.parametrize("name", NETS)
def test_what_is_trained(name, folder):
    backbone, _ = new(name, folder)
    every = dict(backbone.model.named_parameters())
    head = {f"{backbone.classifier_name}.weight", f"{backbone.classifier_name}.bias"}
    biases = {weight for weight in every if weight.endswith(".bias")}
    for tune, wanted in (("full", set(every)), ("head", head), ("bias", biases | head)):
        model = select_trainable(new(name, folder)[0], tune)
        assert {k for k, weight in model.named_parameters() if weight.requires_grad} == wanted

    layers = updated(backbone).values()
    sizes = [RANK * (m.weight[0].numel() + m.weight.shape[0]) for m in layers]  # A and B of each
    model = select_trainable(backbone, "lora", lora_rank=RANK)
    trained = {k: weight.numel() for k, weight in model.named_parameters() if weight.requires_grad}
    own = {k for k in trained if "lora_" in k}
    assert len(own) == 2 * len(layers)
    assert sum(trained[k] for k in own) == sum(sizes)
    assert {k.removeprefix("base_model.model.") for k in set(trained) - own} == head


@pytest.mark.parametrize("tune", TUNES)
@pytest.mark.parametrize("name", NETS)
def test_training_changes_what_is_trained_and_not_a_bit_of_the_rest(name, tune, folder):
    backbone, pixels = new(name, folder)
    before = {k: tensor.clone() for k, tensor in backbone.model.state_dict().items()}
    head = {f"{backbone.classifier_name}.weight", f"{backbone.classifier_name}.bias"}
    wanted = {
        "full": set(before),
        "head": head,
        "bias": head | {k for k, _ in backbone.model.named_parameters() if k.endswith(".bias")},
        "lora": head | {f"{k}.weight" for k in updated(backbone)},
    }[tune]
    model = select_trainable(backbone, tune, lora_rank=RANK)
    sgd(model, pixels, tune)
    after = merge_lora(model).state_dict()
    assert after.keys() == before.keys()
    assert {k for k in before if not after[k].equal(before[k])} == wanted


@pytest.mark.parametrize("name", [*NETS, "test_efficientnet", "test_byobnet", "test_convnext"])
def test_low_rank_updates_merge_into_the_same_function_that_can_be_saved(name, folder, tmp_path):
    backbone, pixels = new(name, folder)
    with torch.inference_mode():
        plain = backbone.logits(pixels)
    keys = backbone.model.state_dict().keys()
    model = select_trainable(backbone, "lora", lora_rank=RANK).eval()
    with torch.inference_mode():
        assert logits_of(model(pixels)).equal(plain)  # training starts from the backbone itself
    for k, weight in model.named_parameters():
        if "lora_" in k:
            nn.init.normal_(weight.data, std=0.05)
    with torch.inference_mode():
        wanted = logits_of(model(pixels))
        assert (wanted - plain).abs().max() > 1e-3
        after = merge_lora(model)
        assert (logits_of(after(pixels)) - wanted).abs().max() < 1e-5
        assert logits_of(model(pixels)).equal(wanted)  # the model in training is left as it is
    check_saveable(replace(backbone, model=after), ["a", "b", "c"], tmp_path / "out")
    assert after.state_dict().keys() == keys
    assert type(after) is type(new(name, folder)[0].model)


def test_layers_that_alter_their_weight_are_refused():
    with pytest.raises(BackboneError, match="too few plain layers"):
        select_trainable(new("test_nfnet")[0], "lora")


def test_an_update_is_twice_b_times_a():
    backbone, _ = new("test_vit")
    name = next(iter(updated(backbone)))
    before = backbone.model.get_submodule(name).weight.clone()
    model = select_trainable(backbone, "lora", lora_rank=RANK)
    layer = model.get_submodule(f"base_model.model.{name}")
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    nn.init.normal_(b.data)
    wanted = before + 2 * (b @ a)
    torch.testing.assert_close(merge_lora(model).get_submodule(name).weight, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("tune", TUNES)
def test_what_is_frozen_neither_drops_out_nor_takes_batch_statistics(tune):
    model = nn.Sequential(
        nn.Dropout(), nn.BatchNorm2d(3), nn.Sequential(nn.SyncBatchNorm(3), nn.LayerNorm(3))
    )
    for start in (True, False):
        model.train(start)
        train_mode(model, tune)
        dropout, norm, (sync, layer) = model
        assert dropout.training == layer.training == (tune != "head")
        assert norm.training == sync.training == (tune == "full")


def test_lora_without_peft_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[lora\]'"):
        select_trainable(new("test_vit")[0], "lora")


def test_a_net_without_a_layer_to_update_is_refused():
    backbone, _ = new("test_resnet")
    layers = OrderedDict(depthwise=nn.Conv2d(3, 3, 3, groups=3), pool=nn.Flatten(), fc=nn.Linear(3, 2))
    tiny = replace(backbone, model=nn.Sequential(layers), classifier_name="fc")
    with pytest.raises(BackboneError, match="too few plain layers(.|\n)*another `tune`: full, bias or head"):
        select_trainable(tiny, "lora")


def test_batches_of_one_are_refused_where_batch_normalisation_has_one_value_a_channel():
    net = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))
    vit = load_backbone("test_vit", pretrained=False)
    small = replace(vit, image_size=8)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(ConfigError, match="single value(.|\n)*`batch_size`"):
        check_trainable(net, small, "full", batch_size=1, layer_decay=None)
    check_trainable(net, small, "full", batch_size=2, layer_decay=None)
    check_trainable(net, small, "head", batch_size=1, layer_decay=None)  # its statistics stay as they are
    check_trainable(vit.model, vit, "full", batch_size=1, layer_decay=0.9)
    assert all(tensor.equal(before[name]) for name, tensor in net.state_dict().items())


def test_weights_that_the_logits_do_not_depend_on_are_frozen():
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14, num_labels=3
    )
    model = Dinov2ForImageClassification(config)
    plain = load_backbone("test_resnet", pretrained=False, image_size=28)
    backbone = replace(plain, library="transformers", model=model, classifier_name="classifier")
    chosen = select_trainable(backbone, "full")
    frozen = [name for name, weight in chosen.named_parameters() if not weight.requires_grad]
    assert frozen == ["dinov2.embeddings.mask_token"]
    assert all(weight.grad is None for weight in chosen.parameters())
