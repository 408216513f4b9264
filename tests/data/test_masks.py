"""Masks of pictures that lie in the same class folder as the pictures."""

from lort_hub.data.load import load_long_tailed
from tests.support.tables import NAMES, TRAIN, write_pictures


def test_masks_beside_their_pictures_are_left_out_and_counted(tmp_path):
    write_pictures(tmp_path, TRAIN, "{label}/{label} ({row}).png")
    write_pictures(tmp_path, TRAIN, "{label}/{label} ({row})_mask.png")
    write_pictures(tmp_path, TRAIN[:1], "{label}/{label} ({row})_mask_1.png")
    data = load_long_tailed(str(tmp_path))
    assert data.class_counts.tolist() == [10, 6, 4]
    assert len(data.test) == 4
    assert "25" in next(note for note in data.notes if "beside the pictures, as masks are" in note)


def test_pictures_called_masks_that_are_of_no_picture_are_read(tmp_path):
    write_pictures(tmp_path, TRAIN, "{label}/{row}_mask.png")
    data = load_long_tailed(str(tmp_path))
    assert (data.class_names, data.class_counts.tolist()) == (tuple(NAMES), [10, 6, 4])


def test_folders_of_lung_masks_beside_folders_of_images(tmp_path):
    write_pictures(tmp_path / "Train", TRAIN, "{label}/images/{row}.png")
    write_pictures(tmp_path / "Train", TRAIN, "{label}/lung masks/{row}.png")
    data = load_long_tailed(str(tmp_path))
    assert data.class_counts.tolist() == [10, 6, 4]
    assert "24" in next(note for note in data.notes if "beside the pictures, as masks are" in note)
