"""Data sets as they were published or unpacked: doubled folders, sorted by lists, named by a README.md."""

import io
import json
import tarfile

import pytest

from lort_hub.data.load import load_long_tailed
from tests.support.folders import BOTH, TRAIN, TRAIN_ALONE, Folders, both, check_folder, counts_of
from tests.support.images import fill, noise_image
from tests.support.tables import refusal, write_csv, zipped

FOLDERS = Folders()
case = FOLDERS.case


def write(file, lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


@case("doubled-heap", TRAIN_ALONE, "letters_test/letters_test/0.jpg")
def a_doubled_test_folder_without_classes(folder):
    fill(folder / "letters_train" / "letters_train", TRAIN)
    fill(folder, {"letters_test/letters_test": 4}, start=5000)


@case("doubled-heaps", "pictures of 'cars_train' lie in no class folders")
def doubled_folders_of_splits_are_no_classes(folder):
    fill(folder, {"cars_train/cars_train": 6, "cars_test/cars_test": 4})


@case("doubled-numbered", "no list names their classes.*as cat.0.jpg with cat, sort them")
def doubled_folders_beside_a_submission(folder):
    for row, name in enumerate(("cat.0", "cat.1", "dog.0", "dog.1")):
        (folder / "train" / "train").mkdir(parents=True, exist_ok=True)
        noise_image(row, (8, 8)).save(folder / "train" / "train" / f"{name}.jpg")
    fill(folder, {"test1/test1": 4}, start=5000)
    write(folder / "sampleSubmission.csv", ["id,label", "0,0", "1,0"])


@case("images-beside", "'jpg' beside 'segmim' is called as a folder of images")
def a_folder_of_images_is_no_class(folder):
    fill(folder, {"jpg": 6, "segmim": 6})


@case("images-beside-list", "no class. The classes are not in styles.csv either: Row 1 of .* has 3 cells")
def a_list_that_cannot_be_read_is_named(folder):
    fill(folder, {"images": 4, "copy/images": 4})
    write(folder / "styles.csv", ["id,kind", "0,ant", "1,bee,more", "2,ant"])


@case("images-asked", {"jpg": (5, 1), "segmim": (5, 1)}, class_folder="first")
def folders_of_images_may_be_classes(folder):
    a_folder_of_images_is_no_class(folder)


@case("copy-inside", "'flowers' of 'train' holds folders of the names that lie beside it: 'ant', 'bee'")
def a_copy_beside_the_class_folders(folder):
    fill(folder / "flowers", {"ant": 6, "bee": 4, "flowers/ant": 6, "flowers/bee": 4})


@case("numbered-lists", BOTH, "a table beside class folders")
def lists_of_numbers_beside_folders_of_names(folder):
    both(folder / "car_data")
    for split, counts in (("train", TRAIN), ("test", {"ant": 2, "bee": 2, "cat": 2})):
        rows = [(name, k) for k, (name, count) in enumerate(counts.items()) for _ in range(count)]
        paths = sorted((folder / "car_data" / split).rglob("*.jpg"))
        for row, path in enumerate(paths):
            path.rename(path.with_name(f"{split}{row}.jpg"))
        lines = [f"{split}{row}.jpg,{k + 1}" for row, (_, k) in enumerate(rows)]
        write(folder / f"anno_{split}.csv", lines)


@case("images-of-splits", {"image": (3, 3), "text": (3, 3)})
def a_folder_of_images_in_both_splits_is_a_class(folder):
    fill(folder, {f"{split}/{name}": 3 for split in ("train", "test") for name in ("image", "text")})


@case("images-of-formats", {"jpg": (5, 1), "png": (5, 1)})
def two_folders_called_as_images_are_classes(folder):
    fill(folder, {"jpg": 6, "png": 6})


@case("masked-or-not", {"mask": (3, 1), "without": (3, 1)}, class_folder="first")
def masks_may_be_classes(folder):
    fill(
        folder, {f"train/{name}/{inner}": 2 for name in ("mask", "without") for inner in ("images", "extra")}
    )


@pytest.mark.parametrize(("build", "outcome", "says", "options"), FOLDERS)
def test_folders_are_read_right_or_refused(tmp_path, build, outcome, says, options):
    check_folder(tmp_path, build, outcome, says, options)


def test_a_readme_names_the_numbers_of_listed_labels(tmp_path):
    fill(tmp_path / "data", {"train": 8})
    write(
        tmp_path / "data" / "train" / "metadata.jsonl",
        [json.dumps({"file_name": f"{k}.jpg", "label": k % 2}) for k in range(8)],
    )
    names = "{class_label: {names: {'0': cat, '1': dog}}}"
    features = f"[{{name: image, dtype: image}}, {{name: label, dtype: {names}}}]"
    write(tmp_path / "README.md", ["---", f"dataset_info: {{features: {features}}}", "---"])
    assert counts_of(load_long_tailed(str(tmp_path))) == {"cat": (3, 1), "dog": (3, 1)}


def test_a_column_that_may_tell_groups_is_said_where_the_test_is_held_out(tmp_path):
    fill(tmp_path, {"images": 12})
    rows = [(f"{k}.jpg", f"L{k // 3}", "ant" if k % 2 else "bee") for k in range(12)]
    write_csv(tmp_path / "lesions.csv", rows, ("image_id", "lesion_id", "label"))
    said = "Column 'lesion_id' has 4 values in 12 rows"
    assert said in " ".join(load_long_tailed(str(tmp_path)).notes)
    assert said not in " ".join(load_long_tailed(str(tmp_path), group_column="lesion_id").notes)
    rows = [(name, label, label) for name, _, label in rows]
    write_csv(tmp_path / "lesions.csv", rows, ("image_id", "lesion_id", "label"))
    assert "lesion_id" not in " ".join(load_long_tailed(str(tmp_path)).notes)


def test_camera_traps_tell_their_places(tmp_path):
    fill(tmp_path, {"images": 12})
    coco = {
        "images": [{"id": k, "file_name": f"{k}.jpg", "location": k // 4} for k in range(12)],
        "categories": [{"id": 0, "name": "empty"}, {"id": 1, "name": "puma"}],
        "annotations": [{"image_id": k, "category_id": k % 2} for k in range(12)],
    }
    (tmp_path / "traps.json").write_text(json.dumps(coco))
    assert "Column 'location' has 3 values" in " ".join(load_long_tailed(str(tmp_path)).notes)
    assert load_long_tailed(str(tmp_path), group_column="location").train.groups is not None


def test_archives_called_by_wordnet_are_classes(tmp_path):
    for number, name in enumerate(("n01440764", "n02102040")):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            for k in range(5):
                data = io.BytesIO()
                noise_image(100 * number + k, (8, 8)).save(data, "JPEG")
                member = tarfile.TarInfo(f"{name}_{k}.JPEG")
                member.size = len(data.getvalue())
                archive.addfile(member, io.BytesIO(data.getvalue()))
    assert counts_of(load_long_tailed(str(tmp_path))) == {"n01440764": (4, 1), "n02102040": (4, 1)}


def listed(folder):
    """Class folders of numbered pictures, and lists of their training and test images in a sibling folder."""
    fill(folder / "images", {"ant": 6, "bee": 6})
    for name, rows in (("train1", range(4)), ("test1", range(4, 6))):
        write(folder / "labels" / f"{name}.txt", [f"{c}/{k}.jpg" for c in ("ant", "bee") for k in rows])
    return folder / "labels" / "train1.txt"


def test_a_list_given_itself_finds_the_folder_beside_its_own(tmp_path):
    assert counts_of(load_long_tailed(str(listed(tmp_path)))) == {"ant": (4, 2), "bee": (4, 2)}


def test_lists_beside_an_archive_that_is_given_itself(tmp_path):
    train = listed(tmp_path / "data")
    for file in train.parent.iterdir():
        (tmp_path / file.name).write_text(file.read_text())
    archive = zipped(tmp_path / "photos.zip", tmp_path / "data" / "images")
    assert counts_of(load_long_tailed(str(archive or tmp_path / "photos.zip"))) == {
        "ant": (4, 2),
        "bee": (4, 2),
    }


def test_folds_beside_an_archive_are_refused_with_what_can_be_given(tmp_path):
    train = listed(tmp_path / "data")
    home = tmp_path / "home"
    for fold in (1, 2):
        lines = [train.read_text(), (train.parent / "test1.txt").read_text()][:: 1 if fold == 1 else -1]
        for name, text in zip(("train", "test"), lines, strict=True):
            write(home / f"{name}{fold}.txt", text.split())
    zipped(home / "photos.zip", tmp_path / "data" / "images")
    message = refusal(home)
    given = dict(part.split("=", 1) for part in message.split("`") if "=" in part)
    options = {name: value.strip('"') for name, value in given.items()}
    data = load_long_tailed(options["dataset"], image_root=options["image_root"])
    assert counts_of(data) == {"ant": (4, 2), "bee": (4, 2)}


def test_a_list_of_names_alone_says_why_the_folders_tell_no_classes(tmp_path):
    fill(tmp_path / "images", {"a/abbey": 4, "a/alley": 4, "b/bakery": 4})
    write(tmp_path / "train.txt", ["a/abbey/0.jpg", "b/bakery/0.jpg"])
    with pytest.raises(Exception, match="the classes could be 'a', 'b', or 'abbey', 'alley', 'bakery'"):
        load_long_tailed(str(tmp_path / "train.txt"), image_root=tmp_path / "images")


def test_labels_of_test_images_without_folders_are_said(tmp_path):
    fill(tmp_path / "train", TRAIN)
    fill(tmp_path, {"val": 6}, start=5000)
    rows = [f"{name}/{k}.jpg {at}" for at, (name, count) in enumerate(TRAIN.items()) for k in range(count)]
    write(tmp_path / "train.txt", rows)
    write(tmp_path / "val.txt", [f"val/{k}.jpg {k % 3}" for k in range(6)])
    notes = " ".join(load_long_tailed(str(tmp_path)).notes)
    assert "val.txt tells the labels of images that lie in no class folders" in notes
    assert f'`dataset="{tmp_path / "train.txt"}"`' in notes
    data = load_long_tailed(str(tmp_path / "train.txt"))
    assert counts_of(data) == {"0": (6, 2), "1": (4, 2), "2": (3, 2)}
    (tmp_path / "val.txt").unlink()
    assert "published split" not in " ".join(load_long_tailed(str(tmp_path)).notes)


def test_numbers_above_all_rows_are_names(tmp_path):
    (tmp_path / "images").mkdir()
    for k in range(12):
        noise_image(k, (8, 8)).save(tmp_path / "images" / f"{15970 + 7 * k}.jpg")
    numbers = [str(15970 + 7 * k) for k in range(12)]
    write_csv(tmp_path / "labels.csv", [(name, k % 2) for k, name in enumerate(numbers)], ("id", "label"))
    write(tmp_path / "train.txt", numbers[:8])
    write(tmp_path / "test.txt", numbers[8:])
    assert counts_of(load_long_tailed(str(tmp_path))) == {"0": (4, 2), "1": (4, 2)}


def test_a_name_of_an_image_and_its_mask_is_the_image(tmp_path):
    fill(tmp_path, {"images": 8})
    fill(tmp_path / "annotations", {"trimaps": 8}, ".png", start=5000)
    write(tmp_path / "annotations" / "list.txt", [f"{k} {k % 2 + 1}" for k in range(8)])
    data = load_long_tailed(str(tmp_path / "annotations" / "list.txt"), image_root=tmp_path)
    assert all("/images/" in path for split in (data.train, data.test) for path in split.files())


def test_a_list_with_labels_is_read_beside_a_test_list_of_names_alone(tmp_path):
    fill(tmp_path, {"train_images": 12})
    fill(tmp_path, {"test_images": 4}, start=5000)
    write_csv(tmp_path / "train.csv", [(f"{k}.jpg", k % 2) for k in range(12)], ("image_id", "label"))
    write_csv(tmp_path / "test.csv", [(f"{k}.jpg",) for k in range(4)], ("image_id",))
    data = load_long_tailed(str(tmp_path / "train.csv"), image_root=str(tmp_path / "train_images"))
    assert counts_of(data) == {"0": (5, 1), "1": (5, 1)}


def test_the_list_with_labels_is_named_where_two_name_the_images(tmp_path):
    fill(tmp_path, {"images": 8})
    write_csv(tmp_path / "a_boxes.csv", [(f"{k}.jpg", k % 2, 4) for k in range(8)], ("image", "x", "y"))
    write_csv(tmp_path / "b_findings.csv", [(f"{k}.jpg", k % 2) for k in range(8)], ("image", "finding"))
    message = refusal(tmp_path)
    assert "2 lists name the images" in message
    assert "dataset=" not in message
