import json
import os
import shutil

import pytest
from safetensors.torch import load_file, save_file

from lort_hub.classifiers.load import load_classifier
from lort_hub.errors import CheckpointError
from lort_hub.hub.validate import OUTPUT_FILES, validated_copy
from tests.support.files import flip
from tests.support.hub_server import WRITE


def damage(folder, name, change):
    text = (folder / name).read_text()
    assert change[0] in text
    (folder / name).write_text(text.replace(*change, 1))


def not_finite(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["fc.bias"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors")


DAMAGE = {
    "lacks metrics.json": lambda folder: (folder / "metrics.json").unlink(),
    "weights in model.safetensors are not those": lambda folder: flip(folder / "model.safetensors"),
    "head/ is not the classifier": lambda folder: flip(folder / "head" / "model.safetensors"),
    "is not finite": not_finite,
    "is damaged": lambda folder: os.truncate(folder / "model.safetensors", 1000),
    "No config.json": lambda folder: (folder / "config.json").unlink(),
    "must be the same": lambda folder: damage(folder, "config.json", ('"0"', '"zero"')),
    "holds a Hub token": lambda folder: damage(folder, "run.json", ('"seed"', f'"{WRITE}"')),
    "holds no output": lambda folder: [shutil.rmtree(folder), folder.mkdir()],
}  # fmt: skip


@pytest.mark.parametrize("says", DAMAGE)
def test_an_output_that_is_not_whole_is_not_staged(outputs, tmp_path, says):
    folder = shutil.copytree(outputs["timm"], tmp_path / "out")
    damage(folder, "run.json", ('"arguments": {}', '"arguments": {"seed": 0}'))
    DAMAGE[says](folder)
    with pytest.raises(CheckpointError, match=says), validated_copy(folder):
        pass


def test_class_names_that_are_numbers_are_texts(outputs, tmp_path):
    folder = shutil.copytree(outputs["timm"], tmp_path / "out")
    for file, key in {"config": "label_names", "run": "class_names", "head/config": "class_names"}.items():
        path = folder / f"{file}.json"
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {key: [int(name) for name in record[key]]}))
    with validated_copy(folder):
        backbone, head = load_classifier(str(folder))
    assert {*map(type, (*backbone.class_names, *head["class_names"]))} == {str}


def test_no_pattern_of_an_output_takes_a_pickle():
    assert not [
        pattern
        for pattern in OUTPUT_FILES
        if not pattern.endswith((".md", ".json", ".csv", ".png", ".safetensors"))
    ]
