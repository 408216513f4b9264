"""The recipe that joins published lists with images, run as a user does."""

import json

import pytest

from lort_hub.data.load import load_long_tailed
from tests.support.images import noise_image
from tests.support.recipes import run, start


@pytest.fixture
def folders(tmp_path):
    """Images of two classes and the lists of a small iNaturalist."""
    for split, count in (("train", 3), ("val", 1)):
        lines = []
        for label in range(2):
            folder = tmp_path / "images" / "train_val2018" / "Aves" / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            for k in range(count - (split == "train") * label):
                noise_image(10 * label + k + 100 * (split == "val"), (8, 8)).save(folder / f"{split}{k}.png")
                lines.append(f"train_val2018/Aves/{label}/{split}{k}.png {label}\n")
        (tmp_path / "lists").mkdir(exist_ok=True)
        (tmp_path / "lists" / f"iNaturalist18_{split}.txt").write_text("".join(lines))
    return ["inat2018", "--images", tmp_path / "images", "--lists", tmp_path / "lists"]


def test_a_prepared_folder_is_what_retrain_reads(folders, tmp_path):
    done = start("prepare.py", *folders, "--any-counts", "--json", "--output-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert {**record, "output_dir": str(tmp_path / "out")} == {**result, "command": record["command"]}
    assert {split: one["images"] for split, one in result["splits"].items()} == {"train": 5, "test": 2}
    assert "Not as published: classes: 2, known 8,142." in result["notes"]
    assert "train: 5 images of 2 classes (iNaturalist18_train.txt)" in done.stderr
    data = load_long_tailed(str(tmp_path / "out"))
    assert (data.class_names, data.class_counts.tolist()) == (("0", "1"), [3, 2])


def test_what_can_be_mended_is_one_message_and_nothing_is_written(folders, tmp_path):
    refused = run("prepare.py", *folders, cwd=tmp_path)
    assert refused.returncode == 1
    assert "train images: 5, known 437,513" in refused.stderr
    assert "--any-counts" in refused.stderr
    assert not (tmp_path / "inat2018").exists()
    (tmp_path / "images" / "train_val2018" / "Aves" / "0" / "train1.png").unlink()
    refused = run("prepare.py", *folders, "--any-counts", cwd=tmp_path)
    assert (refused.returncode, "--allow-missing" in refused.stderr) == (1, True)
    done = run("prepare.py", *folders, "--any-counts", "--allow-missing", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 5 images of iNaturalist18_train.txt are not below" in done.stdout
    assert load_long_tailed(str(tmp_path / "inat2018")).class_counts.tolist() == [2, 2]
    again = run("prepare.py", *folders, "--any-counts", "--allow-missing", cwd=tmp_path)
    assert (again.returncode, "--overwrite" in again.stderr) == (1, True)
    flags = ("--any-counts", "--allow-missing", "--overwrite")
    assert run("prepare.py", *folders, *flags, cwd=tmp_path).returncode == 0


def test_wrong_arguments_are_exit_code_2(folders, tmp_path):
    unknown = run("prepare.py", "imagenet-tl", *folders[1:], cwd=tmp_path)
    assert (unknown.returncode, "Did you mean 'imagenet-lt'" in unknown.stderr) == (2, True)
    inside = run("prepare.py", *folders, "--output-dir", tmp_path, "--overwrite")
    assert (inside.returncode, "which is replaced as a whole" in inside.stderr) == (2, True)
