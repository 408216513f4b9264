"""What a data set is called by: names, Hub ids, addresses, folders and files, and slips of the keyboard."""

from functools import partial

import pytest

from lort_hub.classifiers.model_cards import card_of
from lort_hub.data.labelled import load_labelled
from lort_hub.data.load import load_long_tailed
from lort_hub.data.spec import parse_spec
from lort_hub.data.unlabelled import load_unlabelled
from lort_hub.errors import DatasetError
from tests.support.images import fill


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "base").mkdir(parents=True)
    (tmp_path / "note.docx").write_text("")
    (tmp_path / "ant.jpg").write_text("")
    return tmp_path


ANSWERS = {
    "x3-empty": ("", "The name of the data set is empty"),
    "x3": ("in/basee", r"No folder 'in/basee' .*Did you mean 'base'\?\nFor a .*hf://datasets/in/"),
    "x3-deep": ("in/base/more/photos", r"No folder 'in/base/more/photos'.*\nThere is no '.*/in/base/more'"),
    "x3-dot": ("./inn", "No folder './inn' .*Did you mean 'in'"),
    "x3-word": ("inn", "Unknown data set 'inn'. Did you mean 'in'"),
    "x3-preset": ("cifar1000", "Did you mean 'cifar100'"),
    "x6": ("./train.csv", r"No file './train.csv'"),
    "x6-home": ("~/nowhere/photos.zip", "No file '~/nowhere/photos.zip'"),
    "x6-picture": ("ant.jpg", "a single image"),
    "x6-other": ("note.docx", "is not read as a data set.*\nExpected a folder"),
    "x5-other": ("https://www.kaggle.com/datasets/a/b", "is a web address, which is not downloaded"),
    "x5-deep": ("https://huggingface.co/datasets/org/name/tree/main/data", "no address of a data set"),
    "lists": ("imagenet-lt", "no official copy.*\n.*image_root"),
}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("spec", "message"), ANSWERS.values(), ids=ANSWERS)
def test_what_it_looks_like_is_answered(spec, message):
    with pytest.raises(DatasetError, match=message):
        load_long_tailed(spec)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("spec", "repo_id", "configuration", "revision"),
    [
        ("org/name", "org/name", None, None),
        ("org/name@refs/convert/parquet", "org/name", None, "refs/convert/parquet"),
        ("org/name:small", "org/name", "small", None),
        ("org/name:small@v1", "org/name", "small", "v1"),
        ("datasets/org/name", "org/name", None, None),
        ("hf://datasets/org/name@main", "org/name", None, "main"),
        ("https://huggingface.co/datasets/org/name", "org/name", None, None),
        ("https://huggingface.co/datasets/org/name/", "org/name", None, None),
        ("huggingface.co/datasets/org/name/tree/v1", "org/name", None, "v1"),
        ("https://hf.co/datasets/org/name/viewer/small/train?row=3", "org/name", "small", None),
        ("cifar100", "uoft-cs/cifar100", None, None),
        ("in/xyzzy", "in/xyzzy", None, None),
    ],
)
def test_names_of_hub_data_sets(spec, repo_id, configuration, revision):
    found = parse_spec(spec)
    assert (found.repo_id, found.configuration, found.revision) == (repo_id, configuration, revision)
    assert found.name == repo_id.split("/")[1]


def test_address_of_a_local_file_is_its_path(here):
    assert parse_spec(f"file://{here}/in").source == str(here / "in")


def test_folder_wins_over_every_other_reading(here):
    for name in ("cifar100", "a:b", "datasets/org/name"):
        (here / name).mkdir(parents=True)
        assert parse_spec(name).source == str(here / name)
    assert parse_spec("in:small").configuration == "small"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("photos.tar.gz", "photos"),
        ("photos.v2.ZIP", "photos.v2"),
        ("in/L.CSV", "in"),
        ("in/list.lst", "in"),
        ("in/train.Parquet", "in"),
        ("ant.jpg", "ant"),
    ],
)
def test_files_are_named_by_themselves_or_their_folder(here, file, name):
    (here / file).touch()
    assert parse_spec(file).name == name


def test_a_folder_called_as_a_preset_has_no_imbalance_of_its_own(here):
    fill(here / "digits", {"ant": 12, "bee": 8})
    assert load_long_tailed("digits").source["imbalance"] == "none"


def test_home_and_addresses_of_files_are_read_everywhere(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    fill(here / "photos", {"ant": 6, "bee": 4})
    pictures = sorted(path.relative_to(here / "photos") for path in (here / "photos").rglob("*.jpg"))
    (here / "names.txt").write_text("".join(f"{path}\n" for path in pictures))
    rows = "".join(f"{path},{path.parent},{path.stem}\n" for path in pictures)
    (here / "lists").mkdir()
    (here / "lists/train.csv").write_text(f"file,label,group\n{rows}")
    for home in ("~", f"file://{here}"):
        assert len(load_unlabelled(f"{home}/names.txt", image_root=f"{home}/photos")) == 10
        for load in (load_long_tailed, partial(load_labelled, train_split="none")):
            data = load(f"{home}/lists/train.csv", image_root=f"{home}/photos")
            assert len(set(data.test.files())) in (2, 10)
        grouped = load_long_tailed(f"{home}/photos", group_file=f"{home}/lists/train.csv")
        assert grouped.source["groups"]
    assert card_of("local-dir:~/photos") == here / "photos/README.md"
