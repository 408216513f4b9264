"""Classifiers by every name that they have; the page of the demo and the Hub are tested with the recipes."""

import shutil

import pytest
import torch

from lort_hub.backbones.load import load_backbone
from lort_hub.classifiers.load import is_timm_name, load_classifier
from lort_hub.errors import BackboneError, CheckpointError, LortHubError


@pytest.mark.parametrize("library", ["timm", "transformers"])
@pytest.mark.parametrize("prefix", ["", "local-dir:", "transformers:"])
def test_a_folder_with_any_prefix_is_the_same_classifier(outputs, library, prefix):
    if (library, prefix) == ("timm", "transformers:"):
        pytest.skip("timm's own folder")
    folder = outputs[library]
    backbone, record = load_classifier(f"{prefix}{folder}")
    assert record["class_names"] == list(backbone.class_names)
    assert backbone.weight.equal(load_backbone(str(folder)).weight)
    assert backbone.is_classifier


def test_a_head_alone_is_a_classifier_at_the_size_it_was_made_for(outputs):
    head, complete = (load_classifier(str(outputs["timm"] / part))[0] for part in ("head", ""))
    assert head.is_classifier
    assert torch.equal(head.weight, complete.weight)
    with pytest.raises(CheckpointError, match="prepared in another way"):
        load_classifier(str(outputs["timm"] / "head"), image_size=48)


def test_names_of_timm_s_models_are_no_folders(tmp_path, monkeypatch):
    assert is_timm_name("resnet50.a1_in1k")
    assert not any(map(is_timm_name, ("org/name", "hf-hub:org/name", "local-dir:x", "./x", "/x")))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet50").mkdir()
    assert not is_timm_name("resnet50")
    with pytest.raises(BackboneError, match="Unknown backbone 'resnet5O'. Did you mean 'resnet50'"):
        load_classifier("resnet5O")
    with pytest.raises(LortHubError, match="No folder 'nowhere'"):
        load_classifier("local-dir:nowhere")
    (tmp_path / "list.csv").touch()
    with pytest.raises(LortHubError, match=r"'list.csv' is a file \(from `model`\)"):
        load_classifier("list.csv")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./out/digit", "No folder './out/digit' (from `model`). Did you mean 'digits'?"),
        ("~/out/digit", "No folder '~/out/digit' (from `model`). Did you mean 'digits'?"),
        ("out/digit", "Did you mean 'digits'?\nFor a model on the Hub: hf-hub:out/digit."),
        ("nowhere/out/digit", "No folder 'nowhere/out/digit' (from `model`).\nThere is no '"),
        ("out/zebra", "There is no folder 'out/zebra' here. C"),
    ],
)
def test_a_folder_that_is_not_there_is_missed_on_this_machine(name, said, tmp_path, monkeypatch):
    (tmp_path / "out/digits").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LortHubError) as error:
        load_classifier(name)
    assert said in str(error.value)


def test_a_model_of_the_hub_called_as_a_folder_that_is_there_is_not_said_to_be_missing(tmp_path, monkeypatch):
    (tmp_path / "google/vit-base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LortHubError) as error:
        load_classifier("hf-hub:google/vit-base")
    assert "There is no folder" not in str(error.value)


def test_the_hub_s_prefix_is_never_a_folder(outputs, tmp_path, monkeypatch):
    shutil.copytree(outputs["timm"], tmp_path / "me/photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("me/photos", "local-dir:me/photos", "~/me/photos", "local-dir:~/me/photos"):
        assert load_classifier(name)[0].class_names
    asked = []

    def download(repo_id, revision, **_):
        asked.append((repo_id, revision))
        raise CheckpointError("no Hub here")

    monkeypatch.setattr("lort_hub.classifiers.load.download_model", download)
    names = ("hf-hub:me/photos", "transformers:hf-hub:me/photos", "https://huggingface.co/me/photos")
    for name in names:
        with pytest.raises(CheckpointError, match="no Hub here"):
            load_classifier(name)
    assert asked == [("me/photos", None)] * 3
