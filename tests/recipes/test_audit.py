"""The audit of a folder in which everything that it looks for is planted."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from lort_hub.audit.record import AuditRecord
from tests.support.images import noise_image
from tests.support.pages import check_page
from tests.support.recipes import run

NASTY = "<b>bold & 'quoted'"
SMALL = ("--backbone", "test_resnet", "--no-pretrained", "--image-size", "32", "--num-workers", "2")


def picture(seed):
    """A picture of blobs, of which no two are alike."""
    return noise_image(seed, (15, 12)).resize((120, 96), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Classes of 12, 8 and 1 training images, with a planted one of each kind of trouble."""
    folder = tmp_path_factory.mktemp("photos")
    for split, counts in {"train": (12, 8, 1), "test": (4, 4, 1)}.items():
        for label, (name, count) in enumerate(zip((NASTY, "bee", "cat"), counts, strict=True)):
            (folder / split / name).mkdir(parents=True)
            for k in range(count):
                picture(3 * label + 7 * (k + 50 * (split == "test"))).save(folder / split / name / f"{k}.png")
    train, test = folder / "train", folder / "test"
    shutil.copy(train / "bee/0.png", test / "bee/copy.png")
    shutil.copy(train / "bee/1.png", train / NASTY / "wrong.png")
    Image.open(train / NASTY / "2.png").convert("RGB").save(test / NASTY / "again.jpg", quality=60)
    (train / "bee/broken.png").write_bytes((train / "bee/2.png").read_bytes()[:900])
    (test / "cat/none.jpg").write_bytes(b"\x00" * 99)
    return folder


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    done = run("audit.py", photos, *SMALL, "--output-dir", folder / "out", cache=folder / "cache")
    assert done.returncode == 0, done.stderr
    return done.stdout, folder / "out"


def rows(folder, name):
    with (folder / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_was_planted_is_found(finished):
    said, out = finished
    broken = {row["file"]: row["why"] for row in rows(out, "broken_images")}
    assert set(broken) == {"train/bee/broken.png", "test/cat/none.jpg"}
    copies = rows(out, "duplicates")
    assert {(row["used_for"], row["file"]) for row in copies} == {
        ("training", "train/bee/0.png"),
        ("test", "test/bee/copy.png"),
        ("training", "train/bee/1.png"),
        ("training", f"train/{NASTY}/wrong.png"),
    }
    assert len({row["sha256"] for row in copies}) == 2
    [near] = rows(out, "near_duplicates")
    assert (near["file"], near["other_file"]) == (f"train/{NASTY}/2.png", f"test/{NASTY}/again.jpg")
    assert "Images that cannot be decoded: 2 of 35 (broken_images.csv)." in said
    assert "--on-bad-image skip" in said
    assert "Test images that are training images too, byte for byte: 1 " in said
    assert "Images with a copy that has another label: 2." in said
    assert "Classes with one training image, which cannot be held out: 1 ('cat')." in said


def test_the_record_reads_back_and_counts(finished):
    _, out = finished
    record = AuditRecord.read(out / "audit.json")
    assert record.to_json() == json.loads((out / "audit.json").read_text())
    assert (record.training, record.test, record.broken) == (23, 12, 2)
    assert [(one.class_, one.training) for one in record.classes] == [(NASTY, 13), ("bee", 9), ("cat", 1)]
    assert record.imbalance_ratio == 13
    assert record.copies.to_json() == {
        "images": 4,
        "within_training": 2,
        "within_test": 0,
        "across": 1,
        "other_class": 2,
    }
    assert (record.near_duplicates.across, record.near_pairs) == (1, 1)
    assert record.formats == {"PNG": sum(record.formats.values()) - 1, "JPEG": 1}
    assert record.widths.least == record.widths.most == 120
    assert record.labels.backbone


def test_the_page_stands_alone_and_names_are_text(finished):
    _, out = finished
    text = (out / "audit.html").read_text()
    assert "<b>" not in text
    assert "&lt;b&gt;bold &amp; &#39;quoted&#39;" in text
    assert len(check_page(text).all("img")) >= 7
    assert len(text) < 5e6


def test_a_page_of_many_findings_stays_small(tmp_path):
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for k in range(60):
                file = tmp_path / "photos" / split / name / f"{k}.png"
                pixels = np.random.default_rng(k).integers(0, 256, (96, 96, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(file)
    done = run("audit.py", tmp_path / "photos", "--output-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "labels: not judged; give --backbone" in done.stdout
    assert (tmp_path / "out/audit.html").stat().st_size < 5e6
    assert len(rows(tmp_path / "out", "duplicates")) == 240


def test_data_held_out_by_lort_hub_and_an_output_folder_that_is_full(photos, finished, tmp_path):
    _, out = finished
    refused = run("audit.py", photos, "--output-dir", out)
    assert refused.returncode == 1
    assert "--overwrite" in refused.stderr
    again = shutil.copytree(out, tmp_path / "again")
    (again / "notes.txt").touch()
    assert run("audit.py", photos, "--output-dir", again, "--overwrite").returncode == 0
    assert not (again / "notes.txt").exists()
    inside = shutil.copytree(photos, again / "photos")
    refused = run("audit.py", inside, "--output-dir", again, "--overwrite")
    assert (refused.returncode, "--dataset" in refused.stderr, inside.exists()) == (1, True, True)
    shutil.copytree(photos / "train", tmp_path / "photos")
    done = run("audit.py", "--dataset", tmp_path / "photos", "--output-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    record = AuditRecord.read(tmp_path / "out/audit.json")
    assert record.training + record.test == 23
    assert "held out by lort_hub" in record.plan[0]


def test_a_list_of_groups_in_the_output_folder_is_not_replaced(photos, finished, tmp_path):
    _, out = finished
    again = shutil.copytree(out, tmp_path / "again")
    (again / "groups.csv").write_text("file,group\nx,y\n")
    flags = ("--output-dir", again, "--overwrite", "--group-file", again / "groups.csv")
    refused = run("audit.py", photos, *flags)
    assert (refused.returncode, "--group-file" in refused.stderr) == (1, True)
    assert (again / "groups.csv").exists()


def test_a_name_that_a_spreadsheet_would_run_is_harmless_in_the_lists(tmp_path):
    for name in ("=1+1", "ant"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for k in range(4):
            picture(k + 10 * len(name)).save(folder / f"{k}.png")
        picture(99).save(folder / "same.png")
    flags = ("--output-dir", tmp_path / "out", "--num-workers", "0")
    done = run("audit.py", tmp_path / "photos", *flags, cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    named = {(row["file"], row["class_name"]) for row in rows(tmp_path / "out", "duplicates")}
    assert named == {("./=1+1/same.png", "'=1+1"), ("ant/same.png", "ant")}
