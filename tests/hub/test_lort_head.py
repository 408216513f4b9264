"""The published head: from a folder, from the Hub, and back on the backbone it was made on."""

import json

import pytest
import timm
import torch
from huggingface_hub import ModelCard, constants
from PIL import Image
from safetensors.torch import save_file

from lort_hub.backbones.load import load_backbone
from lort_hub.errors import CheckpointError, HubUnavailableError
from lort_hub.hub.card import render_head_card
from lort_hub.hub.head_file import HeadConfig
from lort_hub.hub.lort_head import LortHead
from tests.support.hub_server import WRITE
from tests.support.models import timm_folder, transformers_folder


def fetched(hub):
    """Commit and path of every file the Hub was asked for."""
    paths = [path.split("/resolve/")[1] for method, path in hub.asked if "/resolve/" in path]
    return {tuple(path.split("/", 1)) for path in paths}


def pixels(size=32):
    return torch.rand(3, 3, size, size)


def test_a_head_s_repository_is_small_whole_and_of_one_commit(hub):
    head = LortHead.from_pretrained("me/head")
    assert fetched(hub) == {
        (hub.repo("me/head").at("main").oid, f) for f in ("config.json", "model.safetensors")
    }
    folder = hub.root / "models" / "me" / "head"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert head.weight.shape == (10, 96)
    assert head.config["backbone"]["revision"] == hub.repo("org/backbone").at("main").oid
    told = {"backbone", "head", "baseline", "class_names", "class_counts", "data", "results", "lort_hub"}
    assert set(head.config) == told
    assert (head.config["head"]["gamma"], len(head.config["class_counts"])) == (0.5, 10)


def test_of_a_complete_model_only_the_head_is_fetched(hub):
    head = LortHead.from_pretrained("me/full")
    assert {path for _, path in fetched(hub)} == {"config.json", "head/config.json", "head/model.safetensors"}
    alone = LortHead.from_pretrained("me/head")
    assert torch.equal(head.weight, alone.weight)
    assert head.config == alone.config
    local = LortHead.from_pretrained(hub.root / "models" / "me" / "full")
    assert torch.equal(local.weight, alone.weight)


def test_config_and_weights_are_of_one_commit_though_somebody_pushes_between(hub):
    folder, other = hub.root / "models" / "me" / "head", torch.zeros(10, 96)

    def push():
        save_file({"weight": other, "bias": torch.zeros(10)}, folder / "model.safetensors")

    before = hub.repo("me/head").at("main").oid
    hub.fail_next("GET", "/me/head/resolve/.*/config.json", action=push)
    head = LortHead.from_pretrained("me/head")
    assert {commit for commit, _ in fetched(hub)} == {before}
    assert not torch.equal(head.weight, other)
    assert torch.equal(LortHead.from_pretrained("me/head").weight, other)
    for old in (
        LortHead.from_pretrained(f"me/head@{before}"),
        LortHead.from_pretrained("me/head", revision=before),
    ):
        assert torch.equal(old.weight, head.weight)


def test_what_was_loaded_once_works_offline(hub, monkeypatch):
    for name in ("me/head", "me/full"):
        LortHead.from_pretrained(name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    for name in ("me/head", "me/full"):
        assert LortHead.from_pretrained(name).weight.shape == (10, 96)
    assert len(hub.asked) == asked
    with pytest.raises(HubUnavailableError):
        LortHead.from_pretrained("me/other")


def test_what_the_hub_has_not_is_said(hub):
    with pytest.raises(CheckpointError, match="No model 'me/nothing'"):
        LortHead.from_pretrained("me/nothing")
    with pytest.raises(CheckpointError, match="no revision 'v9'"):
        LortHead.from_pretrained("me/head@v9")
    with pytest.raises(CheckpointError, match=r"'org/backbone' is not a LORT head.*nor a head/"):
        LortHead.from_pretrained("org/backbone")
    assert not [path for _, path in fetched(hub) if path.endswith((".safetensors", ".bin"))]


def test_a_private_head_needs_a_token(hub, tmp_path):
    hub.repo("me/head").private = True
    with pytest.raises(CheckpointError, match="private and you are not logged in"):
        LortHead.from_pretrained("me/head")
    assert LortHead.from_pretrained("me/head", token=WRITE, cache_dir=tmp_path / "mine").weight.shape == (
        10,
        96,
    )
    assert (tmp_path / "mine" / "models--me--head").is_dir()


def test_a_pickle_is_never_read_nor_fetched(hub):
    folder = hub.root / "models" / "me" / "head"
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="'me/head' is not a LORT head: model.safetensors"):
        LortHead.from_pretrained("me/head")
    assert not [path for _, path in fetched(hub) if path.endswith(".bin")]


NAMES = {"class_names": ["a", "b", "c"]}
GOOD = {"weight": torch.zeros(3, 4), "bias": torch.zeros(3)}


@pytest.mark.parametrize(
    ("tensors", "config", "said"),
    [
        ({"weight": torch.zeros(3, 4)}, NAMES, "it holds weight (3, 4); expected exactly"),
        ({**GOOD, "scale": torch.ones(1)}, NAMES, "it holds bias (3,), scale (1,), weight (3, 4); expected"),
        ({**GOOD, "bias": torch.zeros(2)}, NAMES, "it holds bias (2,), weight (3, 4); expected"),
        ({**GOOD, "weight": torch.zeros(3)}, NAMES, "it holds bias (3,), weight (3,); expected"),
        ({}, NAMES, "it holds no tensors; expected"),
        (GOOD, {"class_names": ["a", "b"]}, "names 2 classes, expected 3"),
        (GOOD, {}, "no config.json with class_names"),
        (GOOD, [1], "no config.json with class_names"),
        (GOOD, {"class_names": 3}, "no config.json with class_names"),
    ],
)
def test_anything_but_one_weight_one_bias_and_their_names_is_refused(tmp_path, tensors, config, said):
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="is not a LORT head") as error:
        LortHead.from_pretrained(tmp_path)
    assert said in str(error.value)
    assert str(error.value).count("\n") < 3


def test_damaged_files_are_refused(hub):
    folder = hub.root / "models" / "me" / "head"
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match="is not a LORT head"):
        LortHead.from_pretrained(folder)
    (folder / "model.safetensors").write_bytes(whole)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="is not a LORT head"):
        LortHead.from_pretrained(folder)


def test_attached_head_is_the_complete_model(hub):
    attached = LortHead.from_pretrained("me/head").attach()
    complete = timm.create_model(f"local-dir:{hub.root}/models/me/full", pretrained=True).eval()
    x = pixels()
    with torch.inference_mode():
        assert torch.equal(attached(x), complete(x))
    assert not any(module.training for module in attached.modules())
    data = [json.dumps(timm.data.resolve_model_data_config(model)) for model in (attached, complete)]
    assert data[0] == data[1]
    assert json.loads(data[0])["input_size"] == [3, 32, 32]
    assert attached.pretrained_cfg["label_names"] == complete.pretrained_cfg["label_names"]


def test_the_recorded_revision_is_attached_whatever_main_is_now(hub):
    head, folder = LortHead.from_pretrained("me/head"), hub.root / "models" / "org" / "backbone"
    recorded = hub.repo("org/backbone").at("main").oid
    torch.manual_seed(2)
    other = timm.create_model("test_resnet", num_classes=5)
    timm.models.save_for_hf(other, str(folder), safe_serialization=True)
    assert hub.repo("org/backbone").at("main").oid != recorded
    head.attach()
    with pytest.raises(CheckpointError, match="another backbone") as error:
        head.attach(backbone="org/backbone")
    ours, theirs = head.config["backbone"]["sha256"][:12], load_backbone(str(folder)).fingerprint()[:12]
    assert f"made on 'org/backbone' (96 features, sha256 {ours})" in str(error.value)
    assert f"'org/backbone' is another backbone (96 features, sha256 {theirs})" in str(error.value)
    assert str(error.value).count("\n") == 2


def test_a_copy_of_the_backbone_will_do_and_one_of_another_size_will_not(hub, tmp_path):
    head = LortHead.from_pretrained("me/head")
    x = pixels()
    with torch.inference_mode():
        expected = head.attach()(x)
        for copy in ("org/backbone", "me/full", str(hub.root / "models" / "me" / "full")):
            assert torch.equal(head.attach(backbone=copy)(x), expected)
    other = timm.create_model("test_efficientnet", num_classes=5)
    timm.models.save_for_hf(other, str(tmp_path / "other"), safe_serialization=True)
    with pytest.raises(
        CheckpointError, match=rf"96 features.*\n.*is another backbone \({other.num_features} features"
    ):
        head.attach(backbone=str(tmp_path / "other"))


def local_head(backbone, names=("x", "y")):
    record = {
        **{name: getattr(backbone, name) for name in ("source", "revision", "library", "preprocessing")},
        **{"architecture": "net", "sha256": backbone.fingerprint()},
    }
    k = len(names)
    config = {"backbone": json.loads(json.dumps(record)), "class_names": list(names)}
    return LortHead(torch.randn(k, backbone.num_features), torch.randn(k), config)


@pytest.mark.parametrize("folder_of", [timm_folder, transformers_folder])
def test_a_local_backbone_is_found_where_it_was_or_asked_for(tmp_path, folder_of):
    folder = tmp_path / "backbone"
    folder_of(folder)
    backbone = load_backbone(str(folder))
    head = local_head(backbone)
    x = pixels(backbone.image_size)
    with torch.inference_mode():
        expected = head(backbone.features(x))
        output = head.attach()(x)
        logits = output if isinstance(output, torch.Tensor) else output.logits
        assert (logits - expected).abs().max() < 1e-5
    if backbone.library == "transformers":
        assert head.attach().config.id2label == {0: "x", 1: "y"}
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(
        CheckpointError, match=r"neither on the Hub nor a folder here.\n.*backbone='FOLDER'"
    ) as error:
        head.attach()
    assert str(folder) in str(error.value)
    assert head.config["backbone"]["sha256"][:12] in str(error.value)
    head.attach(backbone=str(moved))


def test_weights_that_depend_on_the_image_size_are_loaded_at_the_recorded_one(tmp_path):
    torch.manual_seed(0)
    vit = timm.create_model("test_vit", num_classes=5)
    timm.models.save_for_hf(vit, str(tmp_path / "vit"), safe_serialization=True)
    backbone = load_backbone(str(tmp_path / "vit"), image_size=64)
    assert backbone.fingerprint() != load_backbone(str(tmp_path / "vit")).fingerprint()
    head = local_head(backbone)
    x = pixels(64)
    with torch.inference_mode():
        assert (head.attach()(x) - head(backbone.features(x))).abs().max() < 1e-5


def test_a_head_that_knows_no_backbone_says_so():
    for config in (NAMES, {**NAMES, "backbone": {"source": "org/backbone"}}):
        with pytest.raises(CheckpointError, match="what backbone it was made on: BackboneRecord lacks"):
            LortHead(torch.zeros(3, 4), torch.zeros(3), config).attach()


def test_head_on_another_device_or_precision_round_trips_exactly(tmp_path):
    head = LortHead(torch.randn(3, 4).T.contiguous().T, torch.randn(3), NAMES)
    head.save_pretrained(str(tmp_path / "new" / "folder"))
    loaded = LortHead.from_pretrained(tmp_path / "new" / "folder")
    assert torch.equal(loaded.weight, head.weight)
    assert torch.equal(loaded.bias, head.bias)
    assert loaded.config == head.config


def test_a_pushed_head_comes_back_with_a_card_that_names_its_place(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", WRITE)
    head = LortHead.from_pretrained("me/head")
    published = head.push_to_hub("me/again")
    assert hub.repo("me/again").at("main").oid == published.commit
    files = hub.repo("me/again").at("main").files
    assert set(files) - {".gitattributes"} == {"README.md", "config.json", "model.safetensors"}
    again = LortHead.from_pretrained(f"me/again@{published.commit}")
    assert torch.equal(again.weight, head.weight)
    assert again.config == head.config
    card = files["README.md"].data.decode()
    assert 'LortHead.from_pretrained("me/again")' in card
    run_snippet(card, monkeypatch, tmp_path)


def run_snippet(card, monkeypatch, folder):
    """Run a card's only Python block beside an image, as its reader would."""
    monkeypatch.chdir(folder)
    Image.effect_noise((40, 40), 60).convert("RGB").save("image.jpg")
    (block,) = [part.split("```")[0] for part in card.split("```python\n")[1:]]
    exec(compile(block, "card", "exec"), {})


def test_the_cards_snippets_run_in_their_folders(hub, monkeypatch, capsys):
    full = hub.root / "models" / "me" / "full"
    run_snippet((full / "README.md").read_text(), monkeypatch, full)
    assert "score" in capsys.readouterr().out
    run_snippet((full / "head" / "README.md").read_text(), monkeypatch, full / "head")
    assert capsys.readouterr().out.strip() in LortHead.from_pretrained(full).config["class_names"]


def test_the_license_is_the_base_model_s_and_the_lineage_its_commit(hub):
    for name, library in (("full", "timm"), ("head", "lort_hub")):
        card = ModelCard.load(hub.root / "models" / "me" / name / "README.md")
        card.validate()
        assert (card.data.license, card.data.library_name) == ("mit", library)
        revision = hub.repo("org/backbone").at("main").oid
        assert (card.data.base_model, card.data.base_model_revision) == ("org/backbone", revision)
        assert card.data.base_model_relation == "finetune"
        assert "`mit`." in card.text


@pytest.mark.parametrize("folder_of", [timm_folder, transformers_folder])
def test_the_card_of_a_head_on_a_local_backbone_runs_in_the_output_folder(
    made, monkeypatch, tmp_path, capsys, folder_of
):
    folder_of(tmp_path / "out")
    backbone = load_backbone(str(tmp_path / "out"))
    head, written = local_head(backbone), made / "models" / "me" / "head"
    config = json.loads((written / "config.json").read_text())
    config["backbone"] |= {**head.config["backbone"], "source": "gone"}
    named = {**config, "class_names": head.config["class_names"]}
    LortHead(head.weight, head.bias, named).save_pretrained(tmp_path / "out" / "head")
    card = (tmp_path / "out" / "head" / "README.md").read_text()
    assert str(tmp_path) not in card
    assert "which was not loaded from the Hub." in card
    run_snippet(card, monkeypatch, tmp_path / "out" / "head")
    assert capsys.readouterr().out.strip() in ("x", "y")
    assert 'attach(backbone="..")' not in render_head_card(HeadConfig.from_json(named), "me/head")


def test_head_round_trip_is_exact(tmp_path):
    head = LortHead(torch.randn(3, 4), torch.randn(3), {"class_names": ["a", "b", "c"]})
    head.save_pretrained(tmp_path)
    loaded = LortHead.from_pretrained(str(tmp_path))
    assert torch.equal(loaded.weight, head.weight)
    assert loaded.config == head.config


@pytest.mark.parametrize(
    "tensors", [{"weight": torch.zeros(3, 4)}, {"weight": torch.zeros(3, 4), "bias": torch.zeros(2)}]
)
def test_head_with_missing_or_misshapen_tensors_is_refused(tmp_path, tensors):
    LortHead(torch.zeros(3, 4), torch.zeros(3), {}).save_pretrained(tmp_path)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="expected exactly weight"):
        LortHead.from_pretrained(str(tmp_path))


def test_head_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        LortHead.from_pretrained(str(tmp_path))
