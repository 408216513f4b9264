"""Tables in files, splits and configurations, as people save them: read right, or refused with the reason."""

import functools
import json
import tarfile

import datasets
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from lort_hub.data.load import load_long_tailed
from tests.support.tables import (
    NAMES,
    TEST,
    TRAIN,
    Forms,
    both,
    cells,
    encoded,
    texts,
    write_parquet,
    write_pictures,
    write_plain,
)

HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}
FORMS = Forms()  # ids: rows of the list of inputs that were tried
read, refused = FORMS.read, FORMS.refused


@read("p02")
def saved_dict(folder):
    both(folder / "tables", write_parquet)
    parts = {name: str(folder / "tables" / f"{name}.parquet") for name in ("train", "test")}
    datasets.DatasetDict({k: datasets.Dataset.from_parquet(v) for k, v in parts.items()}).save_to_disk(
        folder / "saved"
    )
    return folder / "saved"


@read("p02b", counts=(10, 6, 4), tested=(2, 1, 1))
def saved_split(folder):
    write_parquet(folder / "t.parquet", TRAIN)
    datasets.Dataset.from_parquet(str(folder / "t.parquet")).save_to_disk(folder / "saved")
    return folder / "saved"


CONFIGS = """---
configs:
- config_name: small
  data_files:
  - {split: train, path: small/train-*}
  - {split: test, path: small/test-*}
- config_name: large
  data_dir: large
---
"""


def two_configurations(folder):
    both(folder / "small", lambda file, labels: write_parquet(file.with_stem(f"{file.stem}-0"), labels))
    both(folder / "large", lambda file, labels: write_parquet(file, labels[1:]))
    (folder / "README.md").write_text(CONFIGS)
    return folder


refused("p08", says="2 configurations: small, large.*:small")(two_configurations)
read("p08-small")(lambda folder: f"{two_configurations(folder)}:small")
read("p08-large", counts=(11, 7, 5), tested=(2, 3, 3))(lambda folder: f"{two_configurations(folder)}:large")
refused("p08-typo", says="No configuration 'smal'.*Did you mean 'small'")(
    lambda folder: f"{two_configurations(folder)}:smal"
)


@refused("p08-branch", says="2 configurations: large, small")
def the_layout_of_a_parquet_branch(folder):
    for name in ("small", "large"):
        for split, labels in (("train", TRAIN), ("test", TEST)):
            write_parquet(folder / name / split / "0000.parquet", labels)
    return folder


read("p08-branch-small")(lambda folder: f"{the_layout_of_a_parquet_branch(folder)}:small")


def sets(folder, names):
    """A table of two splits for each of several sets, or of training alone."""
    for at, name in enumerate(names):
        for split, labels in (("train", TRAIN[at:]), ("test", TEST[at:])):
            if split in name or "{}" in name:
                write_parquet(folder / f"{name.format(split)}.parquet", labels)
    return folder


SETS = {
    ("photos/{}-00000-of-00001", "sketches/{}-00000-of-00001"): "photos, sketches",
    ("photos_{}", "sketches_{}"): "photos, sketches",
    ("{}/photos", "{}/sketches"): "photos, sketches",
    ("{}_28", "{}_64"): "28, 64",
    ("{}", "{}_small"): "default, small",
    ("fold1/{}", "fold2/{}"): "fold1, fold2",
}

for at, (names, found) in enumerate(SETS.items()):
    build = functools.partial(sets, names=names)
    read(f"sets-{at}-named")(
        lambda folder, build=build, found=found: f"{build(folder)}:{found.split(',')[0]}"
    )


@pytest.mark.parametrize("names", SETS)
def test_tables_of_several_sets_are_read_as_one_which_is_said(tmp_path, names):
    data = load_long_tailed(str(sets(tmp_path, names)))
    assert len(data.train) == 2 * len(TRAIN) - 1
    assert len(data.test) == 2 * len(TEST) - 1
    says = f"The tables of {SETS[names]} are read as one set"
    assert sum(note.startswith(says) for note in data.notes) == 1


@read("sets-in-a-row", counts=(23, 14, 10), tested=(5, 6, 6))
def tables_numbered_in_a_row_are_of_one_set(folder):
    return sets(folder, ("part1/{}", "part2/{}"))


@read("sets-of-training", counts=(19, 12, 8), tested=(4, 2, 2), notes=["split 'train': photos_train.parquet"])
def training_tables_of_two_names_are_noted(folder):
    return sets(folder, ("photos_train", "sketches_train"))


@read("p08-names-in-the-card")
def class_names_that_only_the_card_tells(folder):
    both(folder, lambda file, labels: write_plain(file, cells(labels), labels))
    names = "".join(f"\n          '{k}': {name}" for k, name in enumerate(NAMES))
    (folder / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - {name: image, dtype: image}\n  - name: label\n    dtype:\n"
        f"      class_label:\n        names:{names}\n---\n"
    )
    return folder


@refused("p09", says="loading script, old.py.*@refs/convert/parquet")
def a_loading_script(folder):
    write_pictures(folder / "old" / "train", TRAIN, "{label}/{row}.png")
    (folder / "old" / "old.py").write_text("")
    return folder / "old"


@read("p13", names=("0", "1", "2"))
def webdataset(folder):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        folder.mkdir(exist_ok=True)
        with tarfile.open(folder / f"{split}-000000.tar", "w") as archive:
            for row, label in enumerate(labels):
                for suffix, data in (("png", encoded(label, row, len(labels))), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{row:06d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, pa.BufferReader(data))
    return folder


@read("p13-json", names=tuple(NAMES), label_column="json.label")
def webdataset_with_json(folder):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        folder.mkdir(exist_ok=True)
        with tarfile.open(folder / f"{split}.tar", "w") as archive:
            for row, label in enumerate(labels):
                about = json.dumps({"label": NAMES[label], "width": 12}).encode()
                for suffix, data in (("png", encoded(label, row, len(labels))), ("json", about)):
                    member = tarfile.TarInfo(f"{row:06d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, pa.BufferReader(data))
    return folder


@read("p14", notes=["9 images of 'test' have no labels"])
def null_test_labels(folder):
    write_plain(folder / "train.parquet", cells(TRAIN), texts(TRAIN))
    write_plain(folder / "validation.parquet", cells(TEST), texts(TEST))
    write_plain(folder / "test.parquet", cells(TEST), pa.array([None] * 9, pa.string()))
    return folder


@read("p14-minus-one", counts=(10, 6, 4), tested=(2, 1, 1), notes=["9 images of 'test' have no labels"])
def labels_of_minus_one(folder):
    write_parquet(folder / "train.parquet", TRAIN)
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    rows = datasets.Dataset.from_dict({"image": cells(TEST), "label": [-1] * 9}, features=kinds)
    rows.to_parquet(folder / "test.parquet")
    return folder


@read("p18", notes=[])
def train_and_dev(folder):
    write_plain(folder / "train.parquet", cells(TRAIN), texts(TRAIN))
    write_plain(folder / "dev.parquet", cells(TEST), texts(TEST))
    return folder


@read("p24-column", notes=["Column 'part' tells the splits: train, test"])
def a_column_of_splits(folder):
    part = ["train"] * len(TRAIN) + ["test"] * len(TEST)
    write_plain(folder / "all.parquet", cells(TRAIN) + cells(TEST), texts(TRAIN + TEST), part=part)
    return folder


@refused("p29-damaged", says="Cannot read .*train.parquet")
def a_damaged_table(folder):
    write_parquet(folder / "train.parquet", TRAIN)
    data = (folder / "train.parquet").read_bytes()
    (folder / "train.parquet").write_bytes(data[: len(data) // 2])
    return folder


@read("d03-table", "f10-table")
def brackets_and_colons(folder):
    write = lambda file, labels: write_plain(file, cells(labels), texts(labels))  # noqa: E731
    return both(folder / "a::b [photos] #1 100%", write)


@read("x1-parquet")
def a_parquet_file(folder):
    write_parquet(folder / "other.parquet", TEST)
    return both(folder, write_parquet) / "train.parquet"


@read("p31-paths")
def structs_of_paths_beside_the_table(folder):
    def write(file, labels):
        rows = write_pictures(file.parent / "imgs", labels, f"{file.stem}{{row}}.png")
        images = [{"bytes": None, "path": f"imgs/{name}"} for name, _ in rows]
        write_plain(
            file, pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])), texts(labels)
        )

    return both(folder, write)


@read("p31-texts")
def texts_of_paths_beside_the_table(folder):
    def write(file, labels):
        rows = write_pictures(file.parent / "imgs", labels, f"{file.stem}{{row}}.png")
        write_plain(file, [f"imgs/{name}" for name, _ in rows], texts(labels))

    return both(folder, write)


def write_arrow(folder, write, suffix=".arrow"):
    """The two tables in another format, by a function of a table and its file."""
    both(folder / "parquet", write_parquet)
    (folder / "other").mkdir()
    for split in ("train", "test"):
        rows = datasets.Dataset.from_parquet(str(folder / "parquet" / f"{split}.parquet"))
        write(rows.data.table.combine_chunks(), str(folder / "other" / f"{split}{suffix}"))
    return folder / "other"


def write_stream(table, file):
    with pa.OSFile(file, "wb") as opened, pa.ipc.new_stream(opened, table.schema) as writer:
        writer.write_table(table)


def write_ipc_file(table, file):
    with pa.OSFile(file, "wb") as opened, pa.ipc.new_file(opened, table.schema) as writer:
        writer.write_table(table)


read("p35-arrow-stream")(lambda folder: write_arrow(folder, write_stream))
read("p35-arrow-file")(lambda folder: write_arrow(folder, write_ipc_file))
read("p35-arrow-by-name")(lambda folder: write_arrow(folder, write_stream) / "train.arrow")
read("p35-feather")(lambda folder: write_arrow(folder, pa.feather.write_feather, ".feather"))


@refused("p35-damaged", says="Cannot read .*train.arrow")
def a_damaged_arrow_file(folder):
    other = write_arrow(folder, write_stream)
    (other / "train.arrow").write_bytes(b"nothing that Arrow writes")
    return other


@read("f10-saved")
def saved_in_a_folder_with_colons(folder):
    saved = saved_dict(folder)
    (folder / "a::b [c]").mkdir()
    return saved.rename(folder / "a::b [c]" / "saved")


@read("f10-webdataset", names=("0", "1", "2"))
def webdataset_in_a_folder_with_colons(folder):
    webdataset(folder)
    (folder / "a::b [c]*").mkdir()
    for shard in folder.glob("*.tar"):
        shard.rename(folder / "a::b [c]*" / shard.name)
    return folder / "a::b [c]*"


@refused("p36-lfs", says="Cannot read .*: it is a pointer of Git LFS.*git lfs pull")
def a_pointer_of_git_lfs(folder):
    folder.mkdir()
    (folder / "train.parquet").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    )
    return folder


@refused("p36-columns", says="several columns called 'label'")
def two_columns_of_one_name(folder):
    folder.mkdir()
    columns = [pa.array(cells(TRAIN)), pa.array(TRAIN), pa.array(TRAIN)]
    pq.write_table(pa.table(columns, names=["image", "label", "label"]), folder / "train.parquet")
    return folder


@refused("p36-empty", says="Split 'train' of .* holds no row")
def a_table_without_rows(folder):
    write_plain(folder / "train.parquet", pa.array([], pa.binary()), pa.array([], pa.string()))
    return folder


@read(
    "table-of-each-class",
    counts=(3, 3),
    tested=(1, 1),
    names=("left", "right"),
    notes=["ants.parquet, bees.parquet may be of one class each: no column is"],
    told_by_pixels=False,
)
def tables_of_one_class_each(folder):
    for label, name in enumerate(("ants", "bees")):
        write_pixels(folder / f"{name}.parquet", cells([label] * 4), view=["left", "right"] * 2)
    return folder


def write_pixels(file, images, **columns):
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": images, **columns}), file)


def write_half(file, half, column):
    """Every other row of the training table, without a column called as labels are."""
    write_pixels(file, cells(TRAIN)[half::2], **{column: texts(TRAIN[half::2])})


@read("checksums", **HELD_OUT)
def shards_with_checksums(folder):
    sums = ("3f2a9b1c-1bcd-4abc-9def-0123456789ab", "bb2ace1f-abcd-4fed-8abc-ba9876543210")
    for number, own in enumerate(sums):
        write_half(folder / f"part-{number:05}-{own}-c000.snappy.parquet", number, "taxon")
    return folder


@read("checksums-of-the-hub", **HELD_OUT)
def shards_of_older_uploads(folder):
    for number, own in enumerate(("4ab3d1c9e8ff2a1b", "0ce1bd3a77afec42")):
        write_half(folder / f"data/train-{number:05}-of-00002-{own}.parquet", number, "digit")
    return folder


def with_stage(file, half):
    """Every other row of the training table, with class labels of another name."""
    kinds = datasets.Features({"image": datasets.Image(), "stage": datasets.ClassLabel(names=NAMES)})
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = {"image": cells(TRAIN)[half::2], "stage": TRAIN[half::2]}
    datasets.Dataset.from_dict(columns, features=kinds).to_parquet(file)


@read("hospitals", **HELD_OUT)
def tables_of_hospitals_with_class_labels(folder):
    with_stage(folder / "hospital_north.parquet", 0)
    with_stage(folder / "hospital_south.parquet", 1)
    return folder


@read("hive-labelled", **HELD_OUT)
def folders_that_tell_regions_of_class_labels(folder):
    with_stage(folder / "region=north/0.parquet", 0)
    with_stage(folder / "region=south/0.parquet", 1)
    return folder


@read("hive-years", **HELD_OUT)
def folders_that_tell_years(folder):
    for year in (0, 1):
        write_half(folder / f"year=202{year}/0.parquet", year, "taxon")
    return folder


@refused("hive", says=r"folders label=ant, label=bee of .* tell a column that its tables do not have.*pandas")
def folders_that_tell_a_column(folder):
    for label, name in enumerate(("ant", "bee")):
        (folder / f"label={name}").mkdir(parents=True)
        table = pa.table({"image": cells([label] * 4), "view": ["left", "right"] * 2})
        pq.write_table(table, folder / f"label={name}/0.parquet")
    return folder


@read(
    "minus-one",
    counts=(10, 6, 4),
    tested=(2, 1, 1),
    names=("0", "1", "2"),
    notes=["images of 'test' have no labels"],
)
def numbers_of_minus_one(folder):
    write_plain(folder / "train.parquet", cells(TRAIN), TRAIN)
    write_plain(folder / "test.parquet", cells(TEST), [-1] * len(TEST))
    return folder


@refused("p36-same", says="'test' is named as the training split and", train_split="test", test_split="test")
def one_split_for_both(folder):
    return both(folder, write_parquet)


@pytest.mark.parametrize("id", FORMS.reads)
def test_data_set_is_read(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_data_set_is_refused_with_the_reason(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")
