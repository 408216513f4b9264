import pytest

from lort_hub.data.picture_lists import listed_pictures
from lort_hub.data.unlabelled import load_unlabelled
from lort_hub.errors import DatasetError
from tests.support.tables import picture

NAMES = ["a/0.png", "a/1.png", "b, c/2.png"]


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(0).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".lst"])
@pytest.mark.parametrize("header", ["", "file\n", "path\r\n"])
def test_names_in_lines_are_pictures_to_predict(folder, suffix, header):
    path = folder / f"list{suffix}"
    path.write_text(header + "\n".join([NAMES[2], f'"{NAMES[0]}"', NAMES[2], ""]))
    assert listed_pictures(path) == [str(folder / NAMES[k]) for k in (2, 0, 2)]
    images = load_unlabelled(str(path))
    assert images.files() == [str(folder / NAMES[2]), str(folder / NAMES[0])]
    assert images.notes == (f"1 of 3 names in {path} are of a picture named before: each is read once.",)


def test_names_may_start_from_another_folder(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("elsewhere") / "list.txt"
    path.write_text("0.png\n1.png\n")
    assert len(load_unlabelled(str(path), image_root=folder / "a")) == 2
    with pytest.raises(DatasetError, match="2 of 2 pictures of .* are missing, such as '0.png'") as error:
        load_unlabelled(str(path))
    assert "`image_root`" in str(error.value)


def test_a_table_of_more_columns_is_left_to_those_that_read_tables(folder):
    path = folder / "list.csv"
    path.write_text("label,file\nant,a/0.png\nbee,a/1.png\n")
    assert listed_pictures(path) == []
    assert len(load_unlabelled(str(path))) == 2


def test_folders_of_pictures_have_no_splits_to_name(folder):
    with pytest.raises(DatasetError, match="give one folder of them"):
        load_unlabelled(str(folder), split="test")
