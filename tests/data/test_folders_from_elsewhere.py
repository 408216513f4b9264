"""Folders as other people name and pack them: splits, copies, thumbnails, parts that are no classes."""

import io
import tarfile

import datasets
import pytest
from PIL import Image

from lort_hub.data.load import load_long_tailed
from tests.support.folders import BOTH, Folders, both, check_folder, counts_of
from tests.support.folders import TRAIN as TRAINED
from tests.support.folders import TRAIN_ALONE as ALONE
from tests.support.images import fill, noise_image
from tests.support.tables import TEST, TRAIN, Forms, cells, texts, write_csv, write_parquet, write_pictures

FORMS, FOLDERS = Forms(), Folders()
read, refused, case = FORMS.read, FORMS.refused, FOLDERS.case


# Names of splits


@case("longer-names", BOTH, "another split  2_val/ant/0.jpg")
def numbered_folders_are_tested_on_the_test_split(folder):
    both(folder, train="1_train", test="3_test")
    fill(folder / "2_val", TRAINED, start=9000)


@case("longer-dev", BOTH, "another split  data_dev/ant/0.jpg")
def dev_is_no_test_where_there_is_one(folder):
    both(folder, train="data_train", test="data_test")
    fill(folder / "data_dev", TRAINED, start=9000)


@case("longer-asked", BOTH, "2_val", test_split="test")
def the_word_of_a_split_finds_its_longer_name(folder):
    numbered_folders_are_tested_on_the_test_split(folder)


@case("camel", BOTH)
def capitals_tell_words_apart(folder):
    both(folder, train="TrainData", test="TestData")


@case("camel-flat", "pictures of 'TrainData' lie in no class folders")
def folders_of_two_splits_are_no_classes(folder):
    for name in ("TrainData", "TestData"):
        fill(folder, {name: 4})


@case("camel-class", {"BulletTrain": (5, 1), "SteamTrain": (3, 1), "Tram": (2, 1)})
def trains_may_be_classes(folder):
    fill(folder, {"BulletTrain": 6, "SteamTrain": 4, "Tram": 3})


@case("trainval", BOTH)
def trainval_is_trained_on(folder):
    both(folder, train="trainval")


@case("trainval-parent", BOTH)
def trainval_holds_both_splits(folder):
    both(folder / "train_val", test="val")


@case("trainval-parent-capitals", BOTH)
def trainval_in_capitals_holds_both_splits(folder):
    both(folder / "TrainVal", train="Train", test="Val")


@case("recycler", {"paper": (5, 1), "recycler": (3, 1), "trash": (2, 1)})
def a_class_called_recycler(folder):
    fill(folder, {"paper": 6, "recycler": 4, "trash": 3})


@case("trainval-all", BOTH, "another split  trainval/ant/0.jpg")
def trainval_is_left_out_beside_train(folder):
    both(folder)
    fill(folder / "trainval", TRAINED)
    fill(folder / "val", {"ant": 1, "bee": 1}, start=9000)


@case("trainval-val", ALONE, "another split  val/ant/0.jpg", train_split="trainval")
def the_validation_images_of_trainval_test_nothing(folder):
    fill(folder / "trainval", TRAINED)
    fill(folder / "val", {"ant": 1, "bee": 1})


@read("trainval-tables")
def a_table_called_trainval_is_trained_on(folder):
    tables(folder)
    (folder / "train.parquet").rename(folder / "trainval.parquet")
    return folder


@read("trainval-tables-all")
def tables_of_train_val_trainval_and_test(folder):
    return tables(folder, val=[0, 1, 2, 2], trainval=[*TRAIN, 0, 1, 2, 2])


@read("trainval-tables-val", counts=(10, 6, 4), tested=(2, 1, 1), notes=["not read: validation"])
def a_validation_table_beside_trainval_tests_nothing(folder):
    tables(folder, val=TRAIN[:2])
    (folder / "test.parquet").unlink()
    (folder / "train.parquet").rename(folder / "trainval.parquet")
    return folder


def lists(folder, *splits):
    """Lists of the images of class folders: half to train on, a quarter each for val and test."""
    rows = [file for file, _ in write_pictures(folder, [0] * 8 + [1] * 8 + [2] * 8, "{label}/{row}.png")]
    of = {"train": {0, 1}, "val": {2}, "trainval": {0, 1, 2}, "test": {3}}
    for split in splits:
        chosen = [file for k, file in enumerate(rows) if k % 4 in of[split]]
        (folder / f"{split}.txt").write_text("\n".join(chosen))
    return folder


@read("trainval-lists", counts=(6, 6, 6), tested=(2, 2, 2), notes=["splits of trainval.txt, test.txt: train"])
def lists_of_trainval_and_test(folder):
    return lists(folder, "trainval", "test")


@read(
    "trainval-lists-all",
    counts=(4, 4, 4),
    tested=(2, 2, 2),
    notes=["Class folders in the splits of train.txt"],
)
def lists_of_train_val_trainval_and_test(folder):
    return lists(folder, "train", "val", "trainval", "test")


@read(
    "trainval-lists-val",
    counts=(6, 6, 6),
    tested=(2, 2, 2),
    notes=["splits of trainval.txt, test.txt: train"],
)
def lists_of_trainval_val_and_test(folder):
    return lists(folder, "val", "trainval", "test")


@read("trainval-file", counts=(10, 6, 4), tested=(2, 1, 1))
def a_list_called_trainval_that_the_user_gives(folder):
    rows = write_pictures(folder / "pictures", TRAIN)
    write_csv(folder / "trainval.csv", rows)
    write_csv(folder / "val.csv", rows[:3])
    return folder / "trainval.csv"


@case("trainval-numbered", "'trainval2', 'val2' hold the same folders: 'ant', 'bee', 'cat'")
def the_validation_images_of_a_numbered_trainval_are_no_test(folder):
    both(folder, train="trainval2", test="val2")


@case("trainval-capitals", "'TrainVal2007', 'Val2007' hold the same folders: 'ant', 'bee', 'cat'")
def the_validation_images_of_trainval_in_capitals_are_no_test(folder):
    both(folder, train="TrainVal2007", test="Val2007")


def sides(folder, *names):
    """Folders of two folders each."""
    for number, name in enumerate(names):
        fill(folder / name, {"left": 3, "right": 3}, start=1000 * number)


@case("camel-asked", "'TrainSet', 'Bus', 'TestRig' hold the same folders", class_folder="first")
def trains_and_tests_in_capitals_beside_a_bus_are_refused(folder):
    sides(folder, "TrainSet", "TestRig", "Bus")


@case("camel-first", {"TestTube": (5, 1), "TrainStation": (5, 1)}, class_folder="first")
def capitals_tell_no_splits_where_the_first_folder_is_the_class(folder):
    sides(folder, "TrainStation", "TestTube")


NAMED = ("DevBoard", "TestTube", "TrainStation")


@case("camel-heaps", "called as splits, and could be classes.\nWhere they are the classes: `class_folder")
def folders_that_could_be_splits_or_classes_are_refused_with_both(folder):
    fill(folder, dict.fromkeys(NAMED, 4))


@case("camel-heaps-first", dict.fromkeys(NAMED, (3, 1)), class_folder="first")
def folders_that_the_user_calls_classes_are(folder):
    fill(folder, dict.fromkeys(NAMED, 4))


# Folders that are no classes


@case("rgb-numbers", dict.fromkeys(("rgb_1", "rgb_2", "rgb_3"), (3, 1)))
def numbered_rgb_folders_are_classes(folder):
    fill(folder, dict.fromkeys(("rgb_1", "rgb_2", "rgb_3"), 4))


@case("voc", "lie in one class folder|lie in no class folders")
def segmentations_are_no_class(folder):
    fill(folder / "VOC2007", {"JPEGImages": 6, "SegmentationClass": 3, "SegmentationObject": 3})


@case("rgb", "lie in one class folder|lie in no class folders")
def ground_truth_is_no_class(folder):
    fill(folder, {"rgb": 6, "gtFine": 6})


@case("unlabeled", "lie in one class folder|lie in no class folders")
def the_unlabeled_are_no_class(folder):
    fill(folder, {"labeled": 6, "unlabeled": 6})


@case("segmentation-class", {"mask": (5, 1), "segmentation": (3, 1), "test": (2, 1)})
def names_of_masks_may_be_classes(folder):
    fill(folder, {"mask": 6, "segmentation": 4, "test": 3})


@read("folders-of-lists")
def the_folders_of_two_lists_are_their_splits(folder):
    for split, labels, place in (("train", TRAIN, "A"), ("test", TEST, "B")):
        write_csv(
            folder / f"{split}.csv",
            write_pictures(folder, labels, f"{place}/{{row}}.png"),
            ("file", "insect"),
        )
    return folder


# Copies of tables and archives


def tables(folder, **more):
    """Tables of two splits, and of more labels by file name, beside them."""
    for name, labels in {"train": TRAIN, "test": TEST, **more}.items():
        write_parquet(folder / f"{name.replace('__', '/')}.parquet", labels)
    return folder


@refused("copy-name", says="All 24 images of .*/train.parquet' are in .*/data/train.parquet' too")
def a_table_in_two_folders_is_refused(folder):
    return tables(folder, data__train=TRAIN)


@refused("copy-order", says="All 24 images of .*train - Copy.parquet' are in .*/train.parquet' too")
def a_copy_in_another_order_is_refused(folder):
    rows = datasets.Dataset.from_parquet(str(tables(folder) / "train.parquet"))
    rows.select(range(23, -1, -1)).to_parquet(folder / "train - Copy.parquet")
    return folder


@refused("copy-part", says="All 7 images of .*train_small.parquet' are in .*/train.parquet' too")
def a_part_of_a_table_beside_it_is_refused(folder):
    tables(folder)
    rows = datasets.Dataset.from_parquet(str(folder / "train.parquet"))
    rows.select(range(3, 24, 3)).to_parquet(folder / "train_small.parquet")
    return folder


@refused("copy-meant", says="to be there twice have to be put into one file")
def rows_that_are_meant_to_be_there_twice(folder):
    return tables(folder, train_b=TRAIN)


@read(
    "copy-labels",
    counts=(24, 14, 10),
    told_by_pixels=False,
    notes=["train.parquet and train_noisy.parquet hold"],
)
def tables_of_the_same_images_with_other_labels_are_noted(folder):
    rows = datasets.Dataset.from_parquet(str(tables(folder) / "train.parquet"))
    labels, kinds = rows["label"][:], rows.features
    rows = rows.remove_columns("label").add_column("label", labels[1:] + labels[:1])
    rows.cast(kinds).to_parquet(folder / "train_noisy.parquet")
    return folder


@read("copy-link")
def a_link_to_a_table_beside_it_is_read_once(folder):
    tables(folder)
    (folder / "train_latest.parquet").symlink_to(folder / "train.parquet")
    return folder


@read("copy-shards", counts=(13, 8, 5))
def shards_of_a_set_may_hold_equal_images(folder):
    rows = datasets.Dataset.from_parquet(str(tables(folder) / "train.parquet"))
    for number, chosen in enumerate((range(24), [0, 13])):
        rows.select(chosen).to_parquet(folder / f"train-{number:05}-of-00002.parquet")
    (folder / "train.parquet").unlink()
    return folder


@read("copy-numbered", counts=(13, 8, 5))
def small_shards_by_number_may_hold_equal_images(folder):
    shards_of_a_set_may_hold_equal_images(folder)
    for number in range(2):
        (folder / f"train-{number:05}-of-00002.parquet").rename(folder / f"train_{number}.parquet")
    return folder


@read("copy-overlap", counts=(13, 7, 5))
def tables_that_share_one_image_are_read(folder):
    tables(folder)
    rows = datasets.Dataset.from_parquet(str(folder / "train.parquet"))
    rows.select(range(12)).to_parquet(folder / "train_a.parquet")
    rows.select([0, *range(12, 24)]).to_parquet(folder / "train_b.parquet")
    (folder / "train.parquet").unlink()
    return folder


def shard(file, labels):
    """A WebDataset archive."""
    with tarfile.open(file, "w") as archive:
        for row, (label, cell) in enumerate(zip(labels, cells(labels), strict=True)):
            for end, content in (("png", cell["bytes"]), ("cls", b"%d" % label)):
                member = tarfile.TarInfo(f"{row:05}.{end}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


@read("shards", names=("0", "1", "2"))
def shards_of_two_splits(folder):
    shard(folder / "train-0000.tar", TRAIN)
    shard(folder / "test-0000.tar", TEST)
    return folder


@refused("shards-copy", says=r"All 24 images of .*train-0000 \(1\).tar' are in .*/train-0000.tar' too")
def a_copy_of_a_shard_is_refused(folder):
    shard(folder / "train-0000 (1).tar", TRAIN)
    return shards_of_two_splits(folder)


def tarred(folder, *notes, place="{split}/{name}", end="txt"):
    """A .tar of class folders with a note beside each picture."""
    with tarfile.open(folder / "photos.tar", "w") as archive:
        for split, labels in (("train", TRAIN), ("test", TEST)):
            for row, (name, cell) in enumerate(zip(texts(labels), cells(labels), strict=True)):
                for suffix, content in (
                    ("png", cell["bytes"]),
                    (end, notes[row % len(notes)].format(row=row, name=name).encode()),
                ):
                    member = tarfile.TarInfo(
                        f"{place.format(split=split, name=name, number=row % 2)}/{split}{row:05}.{suffix}"
                    )
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return folder / "photos.tar"


@read("tar-captions", notes=["no image  train/ant/train00000.txt"])
def captions_beside_the_pictures_of_class_folders_are_no_labels(folder):
    return tarred(folder, "a photo of number {row}")


@read("tar-classes", notes=["no image"])
def texts_that_say_what_the_folders_say(folder):
    return tarred(folder, "{name}")


@read("tar-boxes", notes=["no image"])
def boxes_beside_the_pictures_of_class_folders(folder):
    return tarred(folder, "<annotation/>", end="xml")


@read("tar-json", told_by_pixels=False, notes=["tells the splits"])
def samples_with_json_in_two_folders(folder):
    return tarred(folder, '{{"breed": "{name}"}}', place="farm{number}", end="json")


@read("tar-hidden", notes=["no image"])
def hidden_files_and_those_beside_the_class_folders_settle_nothing(folder):
    file = tarred(folder, "<annotation/>", end="xml")
    with tarfile.open(file, "a") as archive:
        for name in ("LICENSE", "train/ant/._train00000.png", "train/.DS_Store", "README.json"):
            archive.addfile(tarfile.TarInfo(name))
    return file


@read("tar-shards", names=("ant", "bee"), counts=(7, 7), tested=(1, 3), told_by_pixels=False)
def shards_of_a_set_are_read_alike(folder):
    for number, sites in (("0", ("north",)), ("1", ("north", "south"))):
        with tarfile.open(folder / f"train-{number}.tar", "w") as archive:
            for row, cell in enumerate(cells([int(number)] * 6 + [0] * 3)):
                site = sites[row % len(sites)]
                for end, content in (("png", cell["bytes"]), ("txt", b"ant" if row % 2 else b"bee")):
                    member = tarfile.TarInfo(f"{site}/{number}{row}.{end}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return folder


@read("tar-backup")
def an_archive_beside_tables_is_not_looked_at(folder):
    (folder / "raw").mkdir()
    tarred(folder / "raw", "good", "bad")
    return tables(folder)


@refused(
    "tar-quality", says="class folders, 'ant', 'bee', 'cat', and a text beside each .* 'bad', 'good': both"
)
def texts_that_could_be_the_classes_as_well_are_refused(folder):
    return tarred(folder, "good", "bad")


@read(
    "tar-named",
    names=("bad", "good"),
    counts=(12, 12),
    tested=(4, 5),
    told_by_pixels=False,
    label_column="txt",
    notes=["train/ant/train00007 and 16 more), test"],
)
def texts_that_the_user_names_are_the_labels(folder):
    return tarred(folder, "good", "bad")


@read("tar-parts", notes=["Column '__key__' tells the splits: train (part_0/train00000"])
def texts_in_numbered_parts_are_labels(folder):
    return tarred(folder, "{name}", place="part_{number}")


@refused("tar-names", says="invalid literal for int.*call members that hold the name of a class .txt")
def a_name_in_a_cls_member_is_refused_with_advice(folder):
    return tarred(folder, "{name}", end="cls")


def snapshots(folder, *commits):
    """A folder as the Hub's cache lays it out."""
    folder = folder / "datasets--org--photos"
    (folder / "blobs").mkdir(parents=True)
    tables(folder / "blobs")
    for commit in commits:
        (folder / "snapshots" / commit / "data").mkdir(parents=True)
        for split in ("train", "test"):
            link = folder / "snapshots" / commit / "data" / f"{split}-00000-of-00001.parquet"
            link.symlink_to(folder / "blobs" / f"{split}.parquet")
    for file in (folder / "blobs").iterdir():
        file.rename(file.with_suffix(""))
    for link in folder.rglob("*-of-*"):
        target = link.readlink().with_suffix("")
        link.unlink()
        link.symlink_to(target)
    return folder


@read("hub-main", notes=["Read: snapshots/1b, one of 2, which refs/main names."])
def the_snapshot_of_main_is_read(folder):
    folder = snapshots(folder, "1b", "0a")
    write_parquet(folder / "snapshots" / "0a" / "data" / "train-00001-of-00002.parquet", [0] * 9)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("1b")
    return folder


@read("hub-one")
def the_only_snapshot_is_read(folder):
    return snapshots(folder, "0a")


@refused("hub-two", says="2 snapshots of a data set, '0a', '1b'.*snapshots/0a")
def snapshots_none_of_which_is_known_as_main_are_refused(folder):
    return snapshots(folder, "0a", "1b")


@read("dev-and-val", tested=(4, 3, 3), notes=["Joined as the split 'validation': dev.parquet, val.parquet."])
def tables_called_dev_and_val_are_joined_with_a_note(folder):
    tables(folder, dev=TEST, val=[0])
    (folder / "test.parquet").unlink()
    return folder


@read("dev-and-val-lists", tested=(4, 3, 3), notes=["Joined as the split 'validation': dev.csv, val.csv."])
def lists_called_dev_and_val_are_joined_with_a_note(folder):
    for split, labels in {"train": TRAIN, "dev": TEST, "val": [0]}.items():
        rows = write_pictures(folder / "pictures", labels, split + "{row}.png")
        write_csv(folder / f"{split}.csv", rows)
    return folder


@read("output-table")
def a_table_in_an_output_folder_is_read(folder):
    (folder / "run.json").write_text('{"environment": {"versions": {"lort_hub": "1"}}}')
    return tables(folder)


@read("output-pictures", counts=(10, 6, 4), tested=(2, 1, 1))
def a_list_of_pictures_in_an_output_folder_is_read(folder):
    (folder / "audit.json").write_text('{"environment": {"versions": {"lort_hub": "1"}}}')
    write_csv(folder / "labels.csv", write_pictures(folder, TRAIN))
    return folder


# Thumbnails


def thumbnails(folder, place, size=4):
    """Class folders of pictures, and smaller copies of each at a place below the folder of its class."""
    fill(folder, TRAINED)
    for path in sorted(folder.glob("*/*.jpg")):
        small = folder / place.format(name=path.parent.name, stem=path.stem)
        small.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((size, size)).save(small)


@case("thumbs-inside", ALONE, ".jpg a thumbnail of another picture ant/Thumbs/0.jpg")
def thumbnails_in_class_folders_are_left_out(folder):
    thumbnails(folder, "{name}/Thumbs/{stem}.jpg")


@case("thumbs-names", ALONE, "13 .png a thumbnail of another picture ant/0_thumb.png")
def thumbnails_beside_their_pictures_are_left_out(folder):
    thumbnails(folder, "{name}/{stem}_thumb.png")


@case("thumbs-beside", ALONE, "13 .jpg a thumbnail of another picture thumbnails/ant_0.jpg")
def a_folder_of_thumbnails_is_no_class(folder):
    thumbnails(folder, "thumbnails/{name}_{stem}.jpg")


@case("thumbs-mirrored", ALONE, "13 .jpg a thumbnail of another picture thumbnails/ant/0.jpg")
def class_folders_of_thumbnails_are_no_class(folder):
    thumbnails(folder, "thumbnails/{name}/{stem}.jpg")


@case("thumbs-class", {"index": (5, 1), "thumb": (3, 1), "thumbs": (2, 1)})
def thumbs_may_be_a_class(folder):
    fill(folder, {"index": 6, "thumb": 4, "thumbs": 3})


@case("thumbs-same-size", {"ant": (10, 2), "bee": (7, 1), "cat": (5, 1)})
def pictures_as_large_as_their_namesakes_are_no_thumbnails(folder):
    thumbnails(folder, "{name}/{stem}_thumb.png", size=8)


@case("thumbs-alone", ALONE)
def thumbnails_of_pictures_that_are_not_there_are_read(folder):
    fill(folder, TRAINED)
    for path in sorted(folder.glob("*/*.jpg")):
        path.rename(path.with_name(f"{path.stem}_thumb.jpg"))


def unlike(path, grey, size):
    """A picture of another brightness than the one beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = noise_image(grey, (size, size)).point(lambda value: value // 4 + grey)
    noise.save(path)


# Columns of sets


def listed(folder, column, words):
    """A list with a column of two words, beside that of the labels."""
    rows = [(*row, words[k % 2]) for k, row in enumerate(write_pictures(folder / "pictures", TRAIN))]
    write_csv(folder / "labels.csv", rows, ("file", "label", column))
    return folder


@read(
    "sets",
    counts=(10, 6, 4),
    tested=(2, 1, 1),
    notes=["Column 'Menge' is not read as splits: Lernen, Probe."],
)
def sets_in_unknown_words_are_noted(folder):
    return listed(folder, "Menge", ("Lernen", "Probe"))


@read("sets-numbers", counts=(10, 6, 4), tested=(2, 1, 1))
def numbers_of_folds_are_not_noted(folder):
    return listed(folder, "fold", ("0", "1"))


@read("sets-other", counts=(10, 6, 4), tested=(2, 1, 1))
def other_columns_of_words_are_not_noted(folder):
    return listed(folder, "camera", ("left", "right"))


@case(
    "groups", r"has a group by .*\nExpected one for images such as 'ant/0.jpg'", group_pattern="patient(\\d+)"
)
def a_pattern_that_fits_no_file_names_one(folder):
    fill(folder, TRAINED)


def test_smaller_pictures_of_something_else_are_no_thumbnails(tmp_path):
    for number, name in enumerate(("ant", "bee")):
        for k in range(4):
            unlike(tmp_path / name / f"hand{k}.png", 10 + 4 * k + number, 8)
            unlike(tmp_path / name / f"hand{k}_thumb.png", 150 + 4 * k + number, 6)
    assert counts_of(load_long_tailed(str(tmp_path))) == {"ant": (7, 1), "bee": (7, 1)}


def test_pictures_of_another_shape_are_no_thumbnails(tmp_path):
    for name in ("ant", "bee"):
        fill(tmp_path, {name: 4}, ".png", start=ord(name[0]))
        for path in sorted((tmp_path / name).iterdir()):
            Image.open(path).resize((6, 3)).save(path.with_name(f"{path.stem}_thumb.png"))
    assert counts_of(load_long_tailed(str(tmp_path))) == {"ant": (7, 1), "bee": (7, 1)}


def test_a_folder_called_thumb_beside_a_class_is_one(tmp_path):
    fill(tmp_path, {"index": 4})
    (tmp_path / "thumb").mkdir()
    for path in sorted((tmp_path / "index").iterdir()):
        Image.open(path).resize((4, 4)).save(tmp_path / "thumb" / f"index_{path.name}")
    assert counts_of(load_long_tailed(str(tmp_path))) == {"index": (3, 1), "thumb": (3, 1)}


@pytest.mark.parametrize(("build", "outcome", "says", "options"), FOLDERS)
def test_folders_are_read_right_or_refused(tmp_path, build, outcome, says, options):
    check_folder(tmp_path, build, outcome, says, options)


@pytest.mark.parametrize("id", FORMS.reads)
def test_forms_that_are_read(id, tmp_path):
    FORMS.check_read(id, tmp_path)


@pytest.mark.parametrize("id", FORMS.refusals)
def test_forms_that_are_refused(id, tmp_path):
    FORMS.check_refused(id, tmp_path)
