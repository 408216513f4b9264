"""Numbers of ONNX files on a data set, and the layout of transformers.js."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lort_hub.backbones.load import load_backbone
from lort_hub.classifiers.onnx_file import OnnxClassifier
from lort_hub.classifiers.onnx_folder import find_outputs, measure_files, write_configs
from lort_hub.data.load import load_long_tailed
from lort_hub.errors import DatasetError

NAMES = ("nine", *map(str, range(9, -1, -1)))
"""Classes of a model that has one more than the digits, in another order."""


class AlwaysThe:
    """In the place of onnxruntime's session: every picture is of one class."""

    def __init__(self, output):
        self.output = output

    def run(self, names, inputs):
        assert names == ["logits"]
        assert len(inputs["pixel_values"]) == 1  # one image at a time
        return [np.eye(len(NAMES), dtype=np.float32)[[self.output]]]


@pytest.fixture(scope="module")
def model():
    backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
    return replace(backbone, class_names=NAMES)


def test_classes_are_matched_by_name(model):
    data = load_long_tailed("digits", imbalance="exp:10")
    files = {"threes": OnnxClassifier(AlwaysThe(NAMES.index("3"))), "nine": OnnxClassifier(AlwaysThe(0))}
    reports = measure_files(files, model, data)
    threes = (data.test.labels == 3).mean()
    assert reports["threes"].accuracy == pytest.approx(threes)
    assert reports["nine"].accuracy == 0
    counts = data.class_counts
    assert reports["threes"].groups["many"].classes == (counts > 100).sum()
    assert reports["threes"].groups["few"].classes == (counts < 20).sum() + 1  # and "nine", with no image
    known = measure_files(files, model, data, class_counts=[500] * 11)
    assert known["threes"].groups["many"].classes == 11


def test_a_class_that_the_model_lacks_is_named(model):
    renamed = replace(model, class_names=("one", *NAMES[1:-2], "two", "three"))
    with pytest.raises(DatasetError, match="The model has no class '0' nor 1 more of 'digits'"):
        measure_files({}, renamed, load_long_tailed("digits"))


def test_classes_are_found_as_evaluate_finds_them(model):
    data = load_long_tailed("digits")
    names = ("Nine", "eight", *NAMES[3:], "other")
    named = replace(data, class_names=(*map(str, range(8)), "Eight", "nine"))
    assert find_outputs(replace(model, class_names=names), named).tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    twice = replace(model, class_names=("3", *NAMES[1:]))
    with pytest.raises(DatasetError, match="Class '3' of the data could be 2 outputs of 'test_resnet'"):
        find_outputs(twice, data)


def test_the_config_of_a_timm_model_names_its_classes(model, tmp_path):
    write_configs(tmp_path, model)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["id2label"] == {str(k): name for k, name in enumerate(NAMES)}
    assert config["label2id"]["nine"] == 0
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["crop_size"]["height"] == 32
