"""Tables and archives in shards, not all of which are there."""

import io
import shutil
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lort_hub.data.request import Request
from lort_hub.data.shards import files_by_split, note_shards
from lort_hub.data.tables.configurations import Configuration
from tests.support.tables import NAMES, TEST, TRAIN, Forms, encoded, write_parquet

FORMS = Forms()
read, refused = FORMS.read, FORMS.refused
HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}


def shards(folder, split="train", total=3, lost=(1,), labels=TRAIN):
    """Every class is in each shard; of those that are lost, no file is written."""
    write_parquet(folder / "whole.parquet", labels)
    rows = pq.read_table(folder / "whole.parquet")
    (folder / "whole.parquet").unlink()
    for number in set(range(total)) - set(lost):
        chosen = rows.take(list(range(number, len(labels), total)))
        pq.write_table(chosen, folder / f"{split}-{number:05}-of-{total:05}.parquet")
    return folder


refused("middle", says=r"'train' of .*2 of 3 shards are here, and there is no train-00001-of-00003.parquet")(
    shards
)


@refused("last", says="1 of 2 shards are here, and there is no train-00001-of-00002.parquet.*Download")
def the_last_one_was_not_downloaded(folder):
    shards(folder / "data", total=2)
    (folder / "data/train-00001-of-00002.parquet.incomplete").write_bytes(b"")
    return folder


@refused("copy", says="2 of 3 shards .* no train-00001-of-00003.parquet")
def a_copy_is_no_other_shard(folder):
    shards(folder)
    first = folder / "train-00000-of-00003.parquet"
    shutil.copy(first, folder / "train-00000-of-00003 (1).parquet")
    return folder


@read("copy-alone", **HELD_OUT)
def a_shard_may_be_there_as_a_copy_alone(folder):
    shards(folder, lost=())
    file = folder / "train-00001-of-00003.parquet"
    file.rename(folder / "train-00001-of-00003 (1).parquet")
    return folder


@read("folders", **HELD_OUT)
def one_set_may_lie_in_several_folders(folder):
    shards(folder / "disk1", total=2, lost=[1])
    shards(folder / "disk2", total=2, lost=[0])
    return folder


@refused("folders-lost", says="2 of 3 shards .* no train-00001-of-00003.parquet")
def in_several_folders_one_is_missing(folder):
    shards(folder / "disk1", lost=[1, 2])
    shards(folder / "disk2", lost=[0, 1])
    return folder


@read("from-one", **HELD_OUT)
def shards_may_be_counted_from_one(folder):
    shards(folder, total=2, lost=())
    (folder / "train-00000-of-00002.parquet").rename(folder / "train-00002-of-00002.parquet")
    return folder


@refused(
    "test",
    says="Split 'test' of .*1 of 3 shards are here, and there is no test-00001-of-00003.parquet, test-",
)
def a_test_split_without_its_last_shards(folder):
    shards(folder, total=1, lost=())
    return shards(folder, "test", lost=[1, 2], labels=TEST)


@read(
    "unused", notes=["'validation' is read from 1 of 4 shards, without validation-00001-of-00004.parquet, "]
)
def a_split_that_is_not_used_may_lack_shards(folder):
    shards(folder, total=1, lost=())
    shards(folder, "test", total=1, lost=(), labels=TEST)
    return shards(folder, "validation", 4, [1, 2, 3], TRAIN)


@read("listed", counts=(4, 3, 1), tested=(3, 3, 3))
def readme_may_list_some_of_the_shards(folder):
    shards(folder, lost=[1, 2])
    write_parquet(folder / "test.parquet", TEST)
    files = [("train", "train-00000-of-00003.parquet"), ("test", "test.parquet")]
    card = "".join(f"  - split: {split}\n    path: {path}\n" for split, path in files)
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{card}---\n")
    return folder


@refused("pattern", says="1 of 3 shards are here, and there is no train-00001-of-00003.parquet, train-00002")
def a_pattern_of_readme_is_of_all_shards(folder):
    readme_may_list_some_of_the_shards(folder)
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card.replace("train-00000-of-00003.parquet", "train-*"))
    return folder


@read(
    "given", counts=(4, 3, 1), tested=(3, 3, 3), notes=["'train' is read from 1 of 3 shards, without train-"]
)
def a_shard_that_is_given_is_read(folder):
    shards(folder, lost=[1, 2])
    write_parquet(folder / "test.parquet", TEST)
    return folder / "train-00000-of-00003.parquet"


@refused("archives", says="1 of 2 shards are here, and there is no train-000001-of-000002.tar")
def an_archive_of_a_webdataset_is_missing(folder):
    with tarfile.open(folder / "train-000000-of-000002.tar", "w") as archive:
        for row, label in enumerate(TRAIN):
            for end, content in (("png", encoded(label, row, 24)), ("txt", NAMES[label].encode())):
                member = tarfile.TarInfo(f"{row:05}.{end}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return folder


@read(
    "given-archive",
    **HELD_OUT,
    notes=["'train' is read from 1 of 2 shards, without train-000001-of-000002.tar"],
)
def an_archive_that_is_given_is_read(folder):
    return an_archive_of_a_webdataset_is_missing(folder) / "train-000000-of-000002.tar"


@pytest.mark.parametrize("id", FORMS.reads)
def test_shards_are_read(id, tmp_path):
    FORMS.check_read(id, tmp_path)


@pytest.mark.parametrize("id", FORMS.refusals)
def test_what_is_incomplete_is_refused(id, tmp_path):
    FORMS.check_refused(id, tmp_path)


@pytest.mark.parametrize(
    ("name", "notes"),
    [("train-00000-of-00002-4ffe1d5c5c9f6a5d", 1), ("train_0_of_2 (1)", 1), ("rated-3-of-5-stars", 0)],
)
def test_a_shard_is_told_by_the_end_of_its_name(name, notes):
    assert len(note_shards("train", [Path(f"{name}.parquet")])) == notes


def test_what_the_hub_itself_lacks_is_noted(tmp_path):
    files = sorted(shards(tmp_path, total=2).iterdir())
    splits, notes = files_by_split(files, tmp_path, Configuration("default"), Request("org/photos"))
    assert splits == {"train": files}
    assert notes == ["Split 'train' is read from 1 of 2 shards, without train-00001-of-00002.parquet."]
