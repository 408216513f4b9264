"""Archives of images in the forms that people bring: read right, or refused with the reason."""

import shutil
import tarfile
import zipfile

import pytest

from lort_hub.data.load import load_long_tailed
from lort_hub.errors import DatasetError
from tests.support.files import flip
from tests.support.images import fill
from tests.support.tables import (
    Forms,
    both,
    class_folders,
    competition,
    write_parquet,
    zipped,
)

FORMS = Forms()  # ids: rows of the list of inputs that were tried
read, refused = FORMS.read, FORMS.refused
HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}


@read("d22", notes=["test.zip, train.zip were unpacked"])
def two_archives(folder):
    class_folders(folder / "raw")
    for split in ("train", "test"):
        zipped(folder / "in" / f"{split}.zip", folder / "raw" / split)
    return folder / "in"


@read("d22b", notes=["photos.zip were unpacked"])
def one_archive(folder):
    class_folders(folder / "raw" / "photos")
    zipped(folder / "in" / "photos.zip", folder / "raw")
    return folder / "in"


read("x1")(lambda folder: one_archive(folder) / "photos.zip")


@read("d22-tar")
def a_tar(folder):
    class_folders(folder / "photos")
    with tarfile.open(folder / "photos.tar.gz", "w:gz") as archive:
        archive.add(folder / "photos", "photos")
    return folder / "photos.tar.gz"


@read("d22-competition", **HELD_OUT)
def archives_beside_a_list(folder):
    competition(folder / "raw")
    for split in ("train", "test"):
        zipped(folder / "in" / f"{split}.zip", folder / "raw" / f"{split}_images")
    shutil.copy(folder / "raw" / "train.csv", folder / "in")
    return folder / "in"


@refused("d22-damaged", says="Cannot unpack .*photos.zip")
def damaged(folder):
    archive = one_archive(folder) / "photos.zip"
    archive.write_bytes(archive.read_bytes()[:-30])
    return archive


@pytest.mark.parametrize("kind", ["zip", "gz", "bz2", "xz"])
def test_archive_of_damaged_data_is_refused(kind, tmp_path):
    class_folders(tmp_path / "photos")
    archive = tmp_path / ("photos.zip" if kind == "zip" else f"photos.tar.{kind}")
    if kind == "zip":
        shutil.make_archive(str(archive.with_suffix("")), "zip", tmp_path / "photos")
    else:
        with tarfile.open(archive, f"w:{kind}") as opened:
            opened.add(tmp_path / "photos", "photos")
    data = bytearray(archive.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(255 - byte for byte in data[middle : middle + 400])
    archive.write_bytes(data)
    with pytest.raises(DatasetError, match=r"Cannot unpack .*\nDownload or pack it again"):
        load_long_tailed(str(archive))


@pytest.mark.parametrize("kind", ["", "gz"])
def test_a_tar_is_refused_whose_members_are_damaged_behind_the_first(kind, tmp_path):
    class_folders(tmp_path / "photos")
    archive = tmp_path / "photos.tar"
    with tarfile.open(archive, f"w:{kind}") as opened:
        opened.add(tmp_path / "photos", "photos")
    archive = archive.rename(tmp_path / f"photos.tar{kind and f'.{kind}'}")
    whole = archive.read_bytes()
    archive.write_bytes(whole + b"\n")  # as gzip, too, ignores
    load_long_tailed(str(archive))
    archive.write_bytes(whole)
    with tarfile.open(archive) as opened:
        header = opened.getmembers()[20].offset
    flip(archive, at=-8 if kind else header + 10)  # the checksum of all, else the name of a member
    with pytest.raises(DatasetError, match=r"Cannot unpack .*\nDownload or pack it again"):
        load_long_tailed(str(archive))


@refused("d22-outside", says="'../evil.txt', which leads out of the archive")
def a_path_that_leads_out(folder):
    archive = one_archive(folder) / "photos.zip"
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("../evil.txt", "")
    return archive


@refused("d22-encrypted", says="Cannot unpack .*password")
def encrypted(folder):
    archive = one_archive(folder) / "photos.zip"
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("another.txt", "so that this archive was not unpacked before")
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    data[data.index(b"PK\x03\x04") + 6] |= 1
    archive.write_bytes(data)
    return archive


@refused("d22-empty", says="'.*photos.zip' is empty: there is nothing to unpack")
def empty(folder):
    folder.mkdir()
    zipfile.ZipFile(folder / "photos.zip", "w").close()
    return folder / "photos.zip"


@refused("d22-other", says="photos.7z is not read: unpack it")
def another_archive(folder):
    folder.mkdir()
    (folder / "photos.7z").write_bytes(b"7z")
    return folder / "photos.7z"


@read("d22-tables")
def an_archive_of_tables(folder):
    zipped(folder / "photos.zip", both(folder / "raw", write_parquet))
    return folder / "photos.zip"


TARS = r"Not unpacked: train/ant.tar, train/bee.tar, train/cat.tar; .* unpack them: one folder for each class"


@refused("tars-of-classes", says=f"holds no data set that can be read: train. {TARS}")
def a_tar_for_each_class(folder):
    class_folders(folder)
    for inner in sorted((folder / "train").iterdir()):
        with tarfile.open(inner.with_suffix(".tar"), "w") as archive:
            archive.add(inner, "")
        shutil.rmtree(inner)
    shutil.rmtree(folder / "test")
    return folder


@refused("tars-beside-a-test-split", says=f"No split 'train' .*found: 'val'. {TARS}")
def a_tar_for_each_class_beside_folders(folder):
    a_tar_for_each_class(folder)
    class_folders(folder / "raw")
    (folder / "raw" / "test").rename(folder / "val")
    shutil.rmtree(folder / "raw")
    return folder


@pytest.mark.parametrize("id", FORMS.reads)
def test_archive_is_read(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_archive_is_refused_with_the_reason(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_lone_class_of_a_split_stays_a_class(wrapped, tmp_path):
    folder = tmp_path / "raw" / ("photos" if wrapped else "")
    fill(folder / "train", {"ant": 6, "bee": 4})
    fill(folder / "test", {"ant": 3}, start=900)
    zipped(tmp_path / "photos.zip", tmp_path / "raw")
    data = load_long_tailed(str(tmp_path / "photos.zip"))
    assert (data.class_counts.tolist(), data.test.labels.tolist()) == ([6, 4], [0, 0, 0])


def test_archive_is_unpacked_once(tmp_path, monkeypatch):
    monkeypatch.setenv("LORT_HUB_CACHE", str(tmp_path / "cache"))
    archive = one_archive(tmp_path) / "photos.zip"
    load_long_tailed(str(archive))
    (unpacked,) = (tmp_path / "cache" / "archives").iterdir()
    (unpacked / "train" / "ant" / "0.png").unlink()
    assert load_long_tailed(str(archive)).class_counts.tolist() == [11, 7, 5]
    assert list((tmp_path / "cache" / "archives").iterdir()) == [unpacked]
    zipped(archive, tmp_path / "in")  # other content
    with pytest.raises(DatasetError):
        load_long_tailed(str(archive))
