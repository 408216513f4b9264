import json
import os
import pickle

import pytest
import timm
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import load, load_file, save_file

from lort_hub.backbones.load import load_backbone
from lort_hub.errors import BackboneError
from tests.support.fork_server import run_forks
from tests.support.models import as_if_trained

TIMM = [
    "test_resnet:64", "test_efficientnet:64", "test_convnext:64", "test_vit:32", "test_vit3:32", "dla46_c:64",
    "test_mambaout:64", "test_byobnet:64", "test_nfnet:64", "mobilenetv3_small_050:64", "repvgg_a0:64",
    "regnetx_002:64", "swin_tiny_patch4_window7_224:56", "mixer_s32_224:64", "gmlp_ti16_224:32", "dpn48b:64",
    "deit_tiny_patch16_224:32", "ghostnet_050:64", "densenet121:64", "poolformer_s12:64", "resnet32_cifar:32",
]  # fmt: skip
SIDE, EDGE, HEADS = {"height": 32, "width": 32}, {"shortest_edge": 32}, {"num_attention_heads": 2}
VIT = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 32, "patch_size": 8, **HEADS}
SWIN = {"patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
MOBILE = {"hidden_sizes": [16, 16, 16], "neck_hidden_sizes": [8, 8, 8, 8, 16, 16, 32], **HEADS}
STAGES = {"hidden_sizes": [8, 16, 16, 24], "depths": [1, 1, 1, 1], "embedding_size": 8}
LEVIT = {"hidden_sizes": [8, 16, 24], "num_attention_heads": [2] * 3, "depths": [1] * 3, "key_dim": [4] * 3}
SQUARE, SHORTEST = hf.ViTImageProcessor(size=SIDE), hf.ConvNextImageProcessor(size=EDGE)
TRANSFORMERS = {
    "ViT": (VIT, SQUARE), "DeiT": (VIT, SQUARE), "Levit": (LEVIT, SQUARE), "Swin": (SWIN, SQUARE),
    "ResNet": (STAGES, SHORTEST), "ConvNext": (STAGES, SHORTEST),
    "Dinov2": (VIT, hf.BitImageProcessor(size=EDGE, crop_size=SIDE)),
    "MobileViT": (MOBILE, hf.MobileViTImageProcessor(size=EDGE, crop_size=SIDE)),
}  # fmt: skip
RESIZABLE = ("ResNet", "ConvNext", "Dinov2", "Swin", "MobileViT")
VARIANTS = [("ViT", 32, {"dtype": torch.float16}), ("ConvNext", 32, {"dtype": torch.bfloat16})]
VARIANTS += [(family, 32, {}) for family in TRANSFORMERS] + [(family, 96, {}) for family in RESIZABLE]
NAMES = ["ant", "bee", "cat", "dog", "eel"]


def timm_folder(folder, name="test_resnet", names=None, num_classes=5):
    model = as_if_trained(timm.create_model(name, num_classes=num_classes))
    timm.models.save_for_hf(model, folder, model_config={"label_names": names}, safe_serialization=True)
    return str(folder)


def transformers_folder(folder, family="ResNet", head="", dtype=None, shards="1GB", names=None):
    config, processor = TRANSFORMERS[family]
    config = getattr(hf, f"{family}Config")(image_size=32, num_labels=5, **config)
    if names:
        config.id2label, config.label2id = dict(enumerate(names)), {name: k for k, name in enumerate(names)}
    model = as_if_trained(getattr(hf, f"{family}ForImageClassification{head}")(config)).to(dtype)
    model.save_pretrained(folder, max_shard_size=shards)
    processor.save_pretrained(folder)
    return str(folder)


both_libraries = pytest.mark.parametrize("build", [timm_folder, transformers_folder])


def refuses(message, spec, **options):
    with pytest.raises(BackboneError, match=f"(?s){message}"):
        load_backbone(spec, **options)


@torch.inference_mode()
def check(backbone, size):
    captured, pixels = [], torch.randn(3, 3, size, size)
    hook = backbone.classifier.register_forward_hook(lambda _, inputs, __: captured.append(inputs[0]))
    output = backbone.model(pixels)
    hook.remove()
    logits = output if isinstance(output, torch.Tensor) else output.logits
    features, own = backbone.features(pixels), dict(backbone.classifier.named_parameters())
    assert (*features.shape, backbone.image_size) == (3, backbone.num_features, size)
    assert features.std(0).max() > 1e-4 * features.abs().max()
    assert not any(module.training for module in backbone.model.modules())
    assert {(p.requires_grad, p.dtype) for p in backbone.model.parameters()} == {(False, torch.float32)}
    image, centre = Image.new("RGB", (70, 90), (200, 30, 90)), (slice(None), size // 2, size // 2)
    plain, augmented = backbone.transform(image), backbone.augment(image)
    assert plain.shape == augmented.shape == (3, size, size)
    torch.testing.assert_close(augmented[centre], plain[centre])  # the borders of small images may be black

    weight, bias = torch.randn(7, backbone.num_features), torch.randn(7)
    changed = backbone.with_classifier(weight, bias, "abcdefg")
    assert changed.fingerprint() == backbone.fingerprint()
    assert torch.equal(backbone.logits(pixels), logits)
    rebuilt = features @ own["weight"].flatten(1).T + own["bias"], features @ weight.T + bias
    outputs = captured[0].flatten(1), logits, changed.logits(pixels)
    for got, expected in zip((features, *rebuilt), outputs, strict=True):
        assert (got - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", TIMM)
def test_features_of_timm_are_the_classifier_s_input(name):
    name, size = name.split(":")
    backbone = load_backbone(name, pretrained=False, image_size=int(size))
    assert (backbone.library, backbone.class_names, backbone.revision) == ("timm", None, None)
    as_if_trained(backbone.model)
    check(backbone, int(size))


@pytest.mark.parametrize(("family", "size", "options"), VARIANTS)
def test_features_of_transformers_are_the_classifier_s_input(family, size, options, tmp_path):
    image_size = None if size == 32 else size
    backbone = load_backbone(transformers_folder(tmp_path, family, **options), image_size=image_size)
    assert (backbone.library, backbone.class_names) == ("transformers", None)
    check(backbone, size)


@pytest.mark.parametrize("name", ["test_vit:50", "test_convnext:7", "test_resnet:-1", "ViT:64", "Swin:2"])
def test_impossible_sizes_are_refused(name, tmp_path):
    name, size = name.split(":")
    spec = transformers_folder(tmp_path, name) if name in TRANSFORMERS else name
    refuses(rf"{size}, {size}\)", spec, pretrained=False, image_size=int(size))


def test_classifiers_that_are_not_one_linear_layer_are_refused(tmp_path):
    distilled = "deit_tiny_distilled_patch16_224"
    refuses("expected one linear.*sibling deit_tiny_patch16_224", distilled, pretrained=False)
    for name in ("levit_128s", "repvit_m1"):
        refuses("expected one linear.*\nUse another family, e.g. resnet50", name, pretrained=False)
    refuses(
        "differs from the model's logits", timm_folder(tmp_path, "efficientvit_m0")
    )  # a norm after the features


@pytest.mark.parametrize(("family", "plain_names"), [("DeiT", None), ("Levit", tuple(NAMES))])
def test_two_heads_of_transformers_are_refused(family, plain_names, tmp_path):
    folder = transformers_folder(tmp_path, family, "WithTeacher", names=NAMES)
    refuses("not end in one linear.*use plain ...ForImageClassification", folder)
    # Under the plain architecture's name it is the features, and the first head where it is called alike.
    plain = {"architectures": [f"{family}ForImageClassification"]}
    config = json.loads((tmp_path / "config.json").read_text()) | plain
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_backbone(folder).class_names == plain_names


def test_specs_of_folders(tmp_path):
    native, other = timm_folder(tmp_path / "a"), transformers_folder(tmp_path / "b")
    for spec in (native, f"local-dir:{native}", other, f"local-dir:{other}", f"transformers:{other}"):
        backbone = load_backbone(spec)
        expected = (native, "timm") if native in spec else (other, "transformers")
        assert (backbone.spec, backbone.source, backbone.library) == (spec, *expected)
    refuses("model_type", f"transformers:{native}")


def test_specs_that_are_no_model_are_refused(tmp_path):
    refuses("Did you mean 'resnet50'", "resnet5O")
    refuses("Did you mean 'resnet50.a1_in1k'", "resnet50.a1_in1")
    refuses("no weights on the Hub.*`pretrained=False`", "resnet32_cifar")
    refuses("No folder '/no/such/folder'", "local-dir:/no/such/folder")
    refuses("No folder '/no/such/folder'", "/no/such/folder")
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    refuses("No config.json in .*\nFound: model.safetensors", str(tmp_path))
    for content, message in [
        (b"{", "is not JSON"), (b"\xff\xfe\x00", "is not JSON"), (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"), (b"{}", "lacks timm's 'architecture' .* 'model_type'"),
        (b'{"architecture": "x"}', "timm cannot build"),
        (b'{"model_type": "x"}', "no preprocessor_config.json"),
    ]:  # fmt: skip
        (tmp_path / "config.json").write_bytes(content)
        refuses(message, str(tmp_path))


@both_libraries
@pytest.mark.parametrize("stray", [False, True])
def test_pickles_are_never_read(stray, build, tmp_path):
    folder, marker = build(tmp_path / "model"), tmp_path / "marker"
    safe, pickled = tmp_path / "model/model.safetensors", tmp_path / "model/pytorch_model.bin"
    torch.save(load_file(safe), pickled)
    safe.rename(safe.with_name("model_ema.safetensors" if stray else "weights"))
    refuses("No model.safetensors.*pytorch_model.bin", folder)  # though reading it would succeed
    evil = type("Evil", (), {"__reduce__": lambda _: (os.mkdir, (str(marker),))})
    pickled.write_bytes(pickle.dumps(evil()))
    refuses("No model.safetensors.*pytorch_model.bin", folder)
    assert not marker.exists()
    pickle.loads(pickled.read_bytes())
    assert marker.exists()


def test_code_in_a_model_s_folder_is_never_run(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # the user says yes to whatever transformers asks
    folder, marker = transformers_folder(tmp_path), tmp_path / "marker"
    auto_map = {"AutoConfig": "x.C", "AutoModelForImageClassification": "x.M", "AutoImageProcessor": "x.P"}
    (tmp_path / "x.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    for file in ("config.json", "preprocessor_config.json"):
        (tmp_path / file).write_text(json.dumps({"model_type": "x", "auto_map": auto_map}))
        refuses("transformers cannot load", folder)
        refuses("transformers cannot load", folder, pretrained=False)
    assert not marker.exists()


@both_libraries
def test_damaged_and_incomplete_weights_are_refused(build, tmp_path):
    folder, file = build(tmp_path), tmp_path / "model.safetensors"
    complete = file.read_bytes()
    for content in (complete[:-100], complete[:50], b"", b"<html>" * 100):
        file.write_bytes(content)
        refuses("timm cannot build|transformers cannot load", folder)
    tensors = load(complete)  # unlike load_file does not map the file, which is about to change
    running = next(name for name in tensors if name.endswith("running_var"))
    for missing in (running, next(name for name in tensors if tensors[name].ndim == 4)):
        save_file({k: v for k, v in tensors.items() if k != missing}, file, {"format": "pt"})
        refuses(missing, folder)


@both_libraries
def test_names_are_those_of_trained_outputs(build, tmp_path):
    folder = build(tmp_path / "named", names=NAMES)
    assert load_backbone(folder).class_names == tuple(NAMES)
    assert load_backbone(folder, pretrained=False).class_names is None
    assert load_backbone(build(tmp_path / "unnamed")).class_names is None
    folder = timm_folder(tmp_path / "indices", names={k: NAMES[k] for k in (3, 1, 0, 2, 4)})
    assert load_backbone(folder).class_names == tuple(NAMES)
    assert load_backbone(timm_folder(tmp_path / "short", names=NAMES[1:])).class_names is None


def test_shards_and_models_without_head_load(tmp_path):
    check(load_backbone(transformers_folder(tmp_path / "a", "Swin", shards="20KB")), 32)
    assert len(list((tmp_path / "a").glob("*.safetensors"))) == 2
    check(headless := load_backbone(timm_folder(tmp_path / "b", names=NAMES, num_classes=0)), 160)
    folder, file = transformers_folder(tmp_path / "c", names=NAMES), tmp_path / "c/model.safetensors"
    tensors = {k: v for k, v in load(file.read_bytes()).items() if "classifier" not in k}
    save_file(tensors, file, {"format": "pt"})
    check(beheaded := load_backbone(folder), 32)
    assert headless.class_names is beheaded.class_names is None


OFFLINE = """
import json, lort_hub, sys, time
for spec in sys.argv[1:]:
    start = time.monotonic()
    try:
        lort_hub.load_backbone(spec)
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error), time.monotonic() - start]))
"""


@pytest.mark.parametrize("reason", ["Cannot reach http://127.0.0.1:9 ", "Could not download"])
def test_without_the_hub(reason):
    switch = {"HF_HUB_OFFLINE": "0" if "reach" in reason else "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    specs = ["resnet50", "timm/unknown-name@rev", "transformers:org/name", "/no/such/folder"]
    done = run_forks({"code": OFFLINE, "argv": ["-c", *specs], "environment": switch})[0]
    *unavailable, (error, _, _) = map(json.loads, done.stdout.splitlines())
    names = ("resnet50", "timm/unknown-name", "org/name")
    for (kind, message, seconds), name in zip(unavailable, names, strict=True):
        assert (kind, seconds < 20) == ("HubUnavailableError", True)
        assert all(part in message for part in (reason, name, "local-dir:"))
    assert error == "BackboneError"


def test_a_name_of_quickgelu_gets_that_activation_though_the_weights_are_kept_under_another(
    tmp_path, monkeypatch
):
    kept = timm.create_model("test_vit", pretrained=False)
    timm.models.save_for_hf(kept, str(tmp_path), safe_serialization=True)

    def quickgelu(pretrained_cfg, **options):  # noqa: ARG001  test_vit has its own
        return timm.create_model("test_vit.r160_in1k", act_layer="quick_gelu", **options)

    monkeypatch.setitem(timm.models._registry._model_entrypoints, "test_vit_quickgelu", quickgelu)
    known = timm.get_pretrained_cfg("test_vit.r160_in1k")
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda _: known)
    monkeypatch.setattr("lort_hub.backbones.load.download_model", lambda *_, **__: (tmp_path, "c0ffee"))
    quick, plain = load_backbone("test_vit_quickgelu.openai"), load_backbone("test_vit.r160_in1k")
    assert quick.fingerprint() == plain.fingerprint()
    assert quick.structure() != plain.structure()
    assert "QuickGELU" in str(quick.model)
    assert quick.revision == "c0ffee"
    assert str(tmp_path) not in json.dumps(quick.model.pretrained_cfg)
