"""Pictures of several frames: the first is read, which is said."""

import pytest

from lort_hub.data.load import load_long_tailed
from tests.support.images import noise_image


def stacks(folder, suffix, frames, **options):
    """Class folders of pictures with some frames, no two of them the same."""
    for label, name in enumerate(("ant", "bee")):
        (folder / name).mkdir()
        for k in range(5):
            first, *rest = [noise_image(100 * label + 10 * k + at, (20, 16)) for at in range(frames)]
            first.save(folder / name / f"{k}{suffix}", append_images=rest, **options)
    return load_long_tailed(str(folder))


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".webp", ".png"])
def test_stacks_and_animations_are_noted(tmp_path, suffix):
    data = stacks(tmp_path, suffix, 3, save_all=True)
    (note,) = (note for note in data.notes if "frames" in note)
    assert note.startswith("8 of 8 sampled images of 'train' hold several frames or pages, such as ")
    assert data.class_counts.tolist() == [4, 4]


@pytest.mark.parametrize(("suffix", "frames"), [(".tif", 1), (".jpg", 1), (".mpo", 2)])
def test_pictures_of_one_frame_and_previews_are_not_noted(tmp_path, suffix, frames):
    data = stacks(tmp_path, suffix, frames, **({"save_all": True} if frames > 1 else {}))
    assert not any("frames" in note for note in data.notes)


def test_a_damaged_picture_is_left_to_those_that_decode(tmp_path):
    stacks(tmp_path, ".tif", 2, save_all=True)
    (tmp_path / "ant" / "0.tif").write_bytes(b"II*\0damaged")
    notes = load_long_tailed(str(tmp_path)).notes
    assert any("7 of 8 sampled images" in note or "8 of 8 sampled images" in note for note in notes)
