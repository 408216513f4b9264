"""recipes/export.py: ONNX files that say what torch says, in the layout of transformers.js."""

import json

import numpy as np
import pytest
import timm
import torch

import lort_hub
from lort_hub.classifiers.load import load_classifier
from lort_hub.classifiers.onnx_file import OnnxClassifier, check_onnx
from lort_hub.errors import CheckpointError
from tests.support.images import noise_image
from tests.support.preparation import prepared
from tests.support.recipes import run

LIBRARIES = ("timm", "transformers")
WITHOUT_ONNX = "import sys; sys.modules['onnxruntime'] = None"


@pytest.fixture(scope="module")
def exported(outputs, tmp_path_factory):
    """What export writes of a model of each library."""
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    folder = tmp_path_factory.mktemp("exported")
    images = folder / "images"
    images.mkdir()
    for k in range(5):
        noise_image(k, size=(60 + 9 * k, 70)).save(images / f"{k}.png")
    (images / "broken.png").write_bytes(b"no picture")
    for library in LIBRARIES:
        words = (outputs[library], "--output-dir", folder / library, "--images", images, "--quantize")
        words += ("--dataset", "digits", "--num-workers", "0") if library == "timm" else ()
        finished = run("export.py", *words)
        assert finished.returncode == 0, finished.said
    return folder


def session_of(folder, name="model"):
    import onnxruntime

    return onnxruntime.InferenceSession(folder / f"onnx/{name}.onnx", providers=["CPUExecutionProvider"])


def plain_logits(library, folder, images):
    """Pixels and logits of the model that plain timm or transformers loads."""
    with torch.inference_mode():
        if library == "timm":
            model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
            transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
            pixels = torch.stack([transform(image) for image in images])
            return pixels.numpy(), model(pixels).numpy()
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        pixels = AutoImageProcessor.from_pretrained(folder)(images, return_tensors="pt")["pixel_values"]
        model = AutoModelForImageClassification.from_pretrained(folder).eval()
        return pixels.numpy(), model(pixels).logits.numpy()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_file_says_what_the_plain_model_says(library, count, exported, outputs):
    images = [noise_image(20 + k, size=(90, 64 + k)) for k in range(count)]
    pixels, expected = plain_logits(library, outputs[library], images)
    [logits] = session_of(exported / library).run(["logits"], {"pixel_values": pixels})
    assert np.abs(logits - expected).max() <= 1e-5 * max(1, np.abs(expected).max())
    assert expected.std(axis=1).min() > 1e-3  # or any constant would pass


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_file_describes_the_preparation(library, exported, outputs):
    about = session_of(exported / library).get_modelmeta().custom_metadata_map
    image = noise_image(3, size=(150, 101))
    pixels, _ = plain_logits(library, outputs[library], [image])
    described = json.loads(about["preprocessing"])
    ours = prepared(image, described)
    assert list(ours.shape[1:]) == described["input_size"] == list(pixels.shape[1:])
    # transformers resizes with torchvision, which rounds other than Pillow: one of 255 levels
    limit = 1e-6 if library == "timm" else 1.01 / 255 / min(described["std"])
    assert np.abs(ours - pixels).max() <= limit
    assert json.loads(about["class_names"]) == [str(k) for k in range(10)]
    assert json.loads(about["class_mix"])["shares"] == [0.1] * 10
    assert json.loads(about["lort_hub_version"]) == lort_hub.__version__


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_configs_are_those_of_transformers(library, exported, outputs):
    from transformers import AutoConfig, AutoImageProcessor

    config = AutoConfig.from_pretrained(exported / library)
    assert config.id2label == {k: str(k) for k in range(10)}
    assert config.model_type == {"timm": "resnet", "transformers": "vit"}[library]
    image = noise_image(3, size=(150, 101))
    processor = AutoImageProcessor.from_pretrained(exported / library)
    pixels, _ = plain_logits(library, outputs[library], [image])
    ours = processor(image, return_tensors="np")["pixel_values"]
    assert ours.shape == pixels.shape
    if library == "timm":  # whose crop of 64 of 99 x 67 pixels is a pixel further right and down
        ours, pixels = ours[..., 1:, 1:], pixels[..., :-1, :-1]
    assert np.abs(ours - pixels).max() <= 1.01 / 255 / min(processor.image_std)


def test_int8_is_smaller_and_tested_by_group(exported):
    folder = exported / "timm"
    sizes = [(folder / f"onnx/{name}.onnx").stat().st_size for name in ("model", "model_quantized")]
    assert sizes[1] < sizes[0] / 2
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics.keys() == {"float32", "int8"}
    assert all(metrics[name]["n"] == 500 and metrics[name]["few"] is not None for name in metrics)
    record = json.loads((folder / "run.json").read_text())
    assert record["samples"] == 5
    differences = [record[name]["largest"] / record[name]["scale"] for name in ("float32", "int8")]
    assert differences[0] <= 1e-4 < differences[1]
    assert "| int8 " in (folder / "README.md").read_text()
    assert not (exported / "transformers/metrics.json").exists()


def test_another_model_is_found_out(exported, outputs, monkeypatch):
    backbone, _ = load_classifier(str(outputs["timm"]))
    pixels = torch.stack([backbone.transform(noise_image(k)) for k in range(4)])
    path = exported / "timm/onnx/model.onnx"
    assert check_onnx(path, backbone, pixels).largest < 1e-5
    sizes, logits = [], OnnxClassifier.logits
    with monkeypatch.context() as patched:
        patched.setattr(
            OnnxClassifier,
            "logits",
            lambda *words: (sizes.append((len(words[1]), words[2])), logits(*words))[1],
        )
        check_onnx(path, backbone, pixels[:1])
    assert sizes == [(16, 1), (16, 3), (16, 16)]
    backbone.classifier.bias.data[3] += 0.01
    with pytest.raises(CheckpointError, match=r"differ from torch's by 0\.01 .*\nNothing was written"):
        check_onnx(path, backbone, pixels)


def test_what_cannot_be_exported_leaves_nothing(exported, outputs, tmp_path):
    finished = run("export.py", outputs["timm"], "--output-dir", tmp_path / "out", "--opset", "13")
    assert finished.returncode == 2, finished.said
    assert finished.stderr == "error: --opset is 13, expected at least 18, the oldest that torch exports.\n"
    words = ("--output-dir", tmp_path / "out", "--quantize", "--dataset", exported / "images")
    finished = run("export.py", outputs["timm"], *words)
    assert finished.returncode == 1
    assert list(tmp_path.iterdir()) == []
    finished = run("export.py", outputs["timm"], "--output-dir", exported / "timm")
    assert finished.returncode == 1
    assert "is not empty.\nPass --overwrite" in finished.stderr
    finished = run("export.py", outputs["timm"], "--output-dir", outputs["timm"], "--overwrite")
    assert (finished.returncode, "would replace" in finished.stderr) == (1, True)


def test_a_list_with_a_broken_image_is_tested_where_the_flags_say_so(exported, outputs, tmp_path):
    images = exported / "images"
    for split, files in {"train": "012", "test": ("3", "4", "broken")}.items():
        rows = [f"{name}.png,{'37'[k % 2]}\n" for k, name in enumerate(files)]
        (tmp_path / f"{split}.csv").write_text("photo,digit\n" + "".join(rows))
    words = ("--dataset", tmp_path / "train.csv", "--image-root", images, "--num-workers", "0")
    words += ("--image-column", "photo", "--label-column", "digit", "--output-dir", tmp_path / "out")
    finished = run("export.py", outputs["timm"], *words)
    assert finished.returncode == 1
    assert "leave all such images out with --on-bad-image skip" in finished.stderr
    finished = run("export.py", outputs["timm"], *words, "--on-bad-image", "skip")
    assert finished.returncode == 0, finished.said
    assert "left out, not decodable: row 2 of 'test', class '3'" in finished.stdout


def test_test_images_among_the_training_images_are_left_out_where_the_flags_say_so(
    exported, outputs, tmp_path
):
    rows = ["train,0,3", "train,1,7", "train,2,3", "test,2,3"]
    lines = [
        f"{split},{exported / 'images'}/{name}.png,{label}"
        for split, name, label in (row.split(",") for row in rows)
    ]
    (tmp_path / "list.csv").write_text("\n".join(["split,file,label", *lines, ""]))
    words = ("--dataset", tmp_path / "list.csv", "--num-workers", "0", "--output-dir", tmp_path / "out")
    finished = run("export.py", outputs["timm"], *words)
    assert finished.returncode == 1
    assert "or leave them out of the training with --on-duplicate drop.\n" in finished.stderr
    finished = run("export.py", outputs["timm"], *words, "--on-duplicate", "drop")
    assert finished.returncode == 0, finished.said


def test_without_the_extra_it_says_how_to_get_it(outputs, tmp_path):
    finished = run("export.py", outputs["timm"], "--output-dir", tmp_path / "out", before=WITHOUT_ONNX)
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: The export needs onnx")
    assert finished.stderr.endswith("): pip install '.[onnx]' in the clone\n")
