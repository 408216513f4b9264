"""Folders and files that are no data set: what they are, and what to do instead."""

import json

import pytest

from tests.support.tables import TEST, TRAIN, Forms, encoded, write_csv, write_pictures

FORMS = Forms()
read, refused = FORMS.read, FORMS.refused
RUN = {"environment": {"versions": {"lort_hub": "1"}}}


def filled(folder, *names):
    """A folder of files that hold nothing to read."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\0" * 99)
    return folder


def output(folder):
    """A folder as retrain writes it, with lists of the images and plots."""
    filled(folder, "model.safetensors", "README.md")
    (folder / "config.json").write_text("{}")
    (folder / "run.json").write_text(json.dumps(RUN))
    (folder / "reliability.png").write_bytes(encoded(0, 1, 2))
    return folder


@refused("output", says=r"is an output folder of lort_hub.*`dataset`; run.json.*lort-hub predict .*in IMAGES")
def an_output_folder(folder):
    output(folder)
    rows = write_pictures(folder.parent / "images", TRAIN)
    paths = [(folder.parent / "images" / name, label) for name, label in rows]
    write_csv(folder / "predictions.csv", paths, header=("file", "class"))
    return folder


@read("output-and-pictures", notes=["Files in 'in' that were not read"])
def class_folders_in_an_output_folder(folder):
    output(folder)
    for split, labels in (("train", TRAIN), ("test", TEST)):
        write_pictures(folder / split, labels, "{label}/{row}.png")
    (folder / "reliability.png").unlink()
    return folder


@refused("model", says='is the folder of a model: it holds model.safetensors, and no image.*"local-dir:.*in"')
def a_model(folder):
    filled(folder, "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "vit"}')
    return folder


FOLDERS = {
    "videos": (("ant/x.mp4", "bee/y.mp4"), "x.mp4 is not read: write its frames as images"),
    "pages": (("ant/x.pdf", "bee/y.pdf"), "x.pdf is not read: write its pictures as images"),
    "text": (("README.md",), r"README.md\.\nExpected train.parquet and test.parquet, an image folder"),
    "cifar": (("cifar-10/data_batch_1",), "data_batch_1 is not read: write its images as files"),
    "mnist": (("raw/t10k-labels-idx1-ubyte",), "t10k-labels-idx1-ubyte is not read: write its images"),
    "parts": (("photos.zip.001",), "photos.zip.001 is not read: unpack it"),
    "array-below": (("data/x.mat",), "x.mat is not read: write its images as files"),
    "weights": (("x.pt",), "x.pt is not read: a model is no data set"),
}
for id, (names, says) in FOLDERS.items():
    refused(id, says=f"holds no data set that can be read: .*{says}")(
        lambda folder, names=names: filled(folder, *names)
    )
FILES = {
    **dict.fromkeys(("x.mat", "x.h5", "x.npz"), "write its images as files, train/CLASS/0.png"),
    **dict.fromkeys(("x.rar", "x.7z"), "unpack it"),
    "x.mp4": "write its frames as images",
    "x.pdf": "write its pictures as images",
    "x.safetensors": "a model is no data set",
}
for name, says in FILES.items():
    refused(name, says=f"{name} is not read: {says}.*\nExpected a folder")(
        lambda folder, name=name: filled(folder, name) / name
    )


@pytest.mark.parametrize("id", FORMS.reads)
def test_data_beside_what_is_none_are_read(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_what_is_no_data_set_is_refused_with_what_to_do(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")
