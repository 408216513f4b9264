"""Images without labels: folders at any depth, pictures, several of them, and what is not read."""

import pytest

from lort_hub.data.unlabelled import load_unlabelled
from lort_hub.errors import DatasetError
from tests.support.images import noise_image


@pytest.fixture
def photos(tmp_path):
    for k, name in enumerate(("b/c/0.png", "b/1.JPG", "a/2.png", "3.png", "a/without_extension")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise_image(k, (8, 8)).save(path, "JPEG" if name.endswith("JPG") else "PNG")
    return tmp_path / "photos"


def names(images, photos):
    return [file.removeprefix(f"{photos}/") for file in images.files()]


def test_a_folder_at_any_depth(photos):
    images = load_unlabelled(str(photos))
    assert names(images, photos) == ["3.png", "a/2.png", "a/without_extension", "b/1.JPG", "b/c/0.png"]
    assert images.notes == ()
    assert images.image(0).size == (8, 8)


def test_one_picture_and_several_with_folders_each_once(photos):
    assert names(load_unlabelled(str(photos / "a/without_extension")), photos) == ["a/without_extension"]
    inputs = [str(photos / name) for name in ("b/c", "3.png", "b", "b/1.JPG")]
    images = load_unlabelled(inputs)
    assert names(images, photos) == ["b/c/0.png", "3.png", "b/1.JPG"]
    assert images.notes == ("2 of 5 names in 4 inputs are of a picture named before: each is read once.",)
    assert load_unlabelled(inputs[:2]).notes == ()


def test_what_is_not_read_is_counted(photos):
    for name in ("notes.txt", "b/more.txt", "b/movie.MP4", ".hidden"):
        (photos / name).write_bytes(b"\0\0 no picture")
    assert load_unlabelled(str(photos)).notes == (
        f"Not read in {photos}: 1 .mp4 (no image), 1 other (hidden), 2 .txt (no image).",
    )


def test_a_name_that_is_no_picture_is_refused(photos):
    (photos / "b/notes.txt").write_text("no picture")
    (photos / "empty").mkdir()
    for other, message in {
        "b/notes.txt": r"notes\.txt' holds no picture",
        "empty": r"empty' holds no picture",
        "b/2.png": r"No file '.*/b/2\.png' \(from `images`\)",
    }.items():
        with pytest.raises(DatasetError, match=message):
            load_unlabelled([str(photos / "a"), str(photos / other)])
    with pytest.raises(DatasetError, match=r"No folder '.*photo' \(from `images`\)\. Did you mean 'photos'"):
        load_unlabelled(str(photos.with_name("photo")))


@pytest.mark.parametrize(
    ("name", "advice"), [("", ""), ("b/notes.txt", ""), ("b/a.7z", " a.7z is not read: unpack it.")]
)
def test_a_folder_without_a_picture_is_told_of_pictures_and_not_of_classes(tmp_path, name, advice):
    if name:
        (tmp_path / "b").mkdir()
        (tmp_path / name).write_text("no picture")
    with pytest.raises(DatasetError) as error:
        load_unlabelled(str(tmp_path))
    assert str(error.value) == (
        f"'{tmp_path}' holds no picture.{advice}\n"
        "Expected pictures at any depth, or a table with a column of images."
    )


def test_what_is_wrong_with_a_table_is_still_said(tmp_path):
    (tmp_path / "images.csv").write_text("file,label\nnowhere.jpg,ant\n")
    with pytest.raises(DatasetError, match="'nowhere.jpg', none of which is below"):
        load_unlabelled(str(tmp_path))
