"""Tables of images in the forms that people bring: each is read right, or refused with the reason."""

import json
import tarfile

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.tables import (
    NAMES,
    TEST,
    TRAIN,
    Forms,
    cells,
    encoded,
    write_parquet,
    write_pictures,
    write_plain,
)

FORMS = Forms()
read, refused = FORMS.read, FORMS.refused


def both(folder, write):
    """Write train.parquet and test.parquet."""
    for split, labels in (("train", TRAIN), ("test", TEST)):
        write(folder / f"{split}.parquet", labels)
    return folder


def texts(labels):
    return [NAMES[label] for label in labels]


@read("p01", notes=["differ in order"])
def other_order(folder):
    write_parquet(folder / "train.parquet", TRAIN)
    write_parquet(folder / "test.parquet", TEST, names=["cat", "ant", "bee"])
    return folder


@read("p01-shards", notes=[])
def other_order_in_a_shard(folder):
    write_parquet(folder / "train-00000-of-00002.parquet", TRAIN[:10])
    write_parquet(folder / "train-00001-of-00002.parquet", TRAIN[10:], names=["bee", "cat", "ant"])
    write_parquet(folder / "test-00000-of-00001.parquet", TEST)
    return folder


@read("p01-extra-names", notes=["read by name"])
def names_that_no_test_row_uses(folder):
    write_parquet(folder / "train.parquet", TRAIN)
    write_parquet(folder / "test.parquet", TEST, names=["dog", *NAMES, "eel"])
    return folder


@read("p01-fewer-names", tested=(3, 3, 0), notes=["read by name"])
def names_without_one(folder):
    write_parquet(folder / "train.parquet", TRAIN)
    write_parquet(folder / "test.parquet", TEST[:6], names=["bee", "ant"])
    return folder


@read("p01-texts")
def names_in_one_file_and_texts_in_the_other(folder):
    write_parquet(folder / "train.parquet", TRAIN)
    write_plain(folder / "test.parquet", cells(TEST), texts(TEST))
    return folder


@refused("p01-numbers", says="nothing in common.*ant, bee, cat.*0, 1, 2")
def names_in_one_file_and_numbers_in_the_other(folder):
    write_parquet(folder / "train.parquet", TRAIN)
    write_plain(folder / "test.parquet", cells(TEST), TEST)
    return folder


@refused("p01-more-names", says="test images but no training image: 'dog'")
def a_test_name_that_training_lacks(folder):
    write_parquet(folder / "train.parquet", TRAIN)
    write_plain(folder / "test.parquet", cells(TEST), [*texts(TEST[:8]), "dog"])
    return folder


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


@read("p03")
def structs(folder):
    return both(folder, lambda file, labels: write_plain(file, cells(labels), texts(labels)))


@read("p03b")
def bytes_alone(folder):
    images = lambda labels: [cell["bytes"] for cell in cells(labels)]  # noqa: E731
    return both(folder, lambda file, labels: write_plain(file, images(labels), texts(labels)))


@read("p03c")
def large_bytes(folder):
    def write(file, labels):
        images = pa.array([cell["bytes"] for cell in cells(labels)], pa.large_binary())
        write_plain(file, images, pa.array(texts(labels), pa.large_string()))

    return both(folder, write)


@read("p03-views")
def views(folder):
    def write(file, labels):
        images = pa.array([cell["bytes"] for cell in cells(labels)], pa.binary_view())
        write_plain(file, images, pa.array(texts(labels), pa.string_view()))

    return both(folder, write)


@read("p03-two")
def a_checksum_beside_the_image(folder):
    def write(file, labels):
        digests = [bytes([row, 7]) for row in range(len(labels))]
        write_plain(file, [cell["bytes"] for cell in cells(labels)], texts(labels), md5=digests)

    return both(folder, write)


@read("p04")
def categories(folder):
    return both(
        folder,
        lambda file, labels: write_plain(file, cells(labels), pa.array(texts(labels)).dictionary_encode()),
    )


@read("p05", names=("0", "1", "2"))
def floats(folder):
    def write(file, labels):
        write_plain(file, cells(labels), [float(label) for label in labels])

    return both(folder, write)


@read("p06", names=("0", "1", "2"))
def lists_of_one(folder):
    def write(file, labels):
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"image": cells(labels), "labels": [[k] for k in labels]}), file)

    return both(folder, write)


@refused("p06-several", says="several labels a row: row 0 .*multi-label")
def lists_of_several(folder):
    return both(
        folder, lambda file, labels: write_plain(file, cells(labels), [[label, 0] for label in labels])
    )


@refused("p06-text", says="several labels a row: 'ant\\|bee'.*multi-label")
def texts_of_several(folder):
    return both(
        folder,
        lambda file, labels: write_plain(file, cells(labels), [*texts(labels[:-1]), "ant|bee"]),
    )


def write_flags(file, labels, several=False):
    columns = {
        name: [int(label == k or (several and k == 2)) for label in labels] for k, name in enumerate(NAMES)
    }
    table = pa.table({"image": cells(labels), **columns})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)


@refused("p07", says="3 one-hot columns: ant, bee, cat.*idxmax")
def one_hot(folder):
    return both(folder, write_flags)


@refused("p07-multi", says="several labels an image.*multi-label")
def multi_hot(folder):
    return both(folder, lambda file, labels: write_flags(file, labels, several=True))


@read("p07-flags")
def a_label_beside_flags(folder):
    return both(
        folder,
        lambda file, labels: write_plain(
            file, cells(labels), texts(labels), blurred=[0, 1] * (len(labels) // 2) + [0] * (len(labels) % 2),
            night=[1] * len(labels),
        ),
    )  # fmt: skip


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


@refused("p16", says="'image' holds lists of images; write one image a row")
def lists_of_images(folder):
    return both(
        folder,
        lambda file, labels: write_plain(
            file, [[c["bytes"], c["bytes"]] for c in cells(labels)], texts(labels)
        ),
    )


@refused("p17", says="'image' holds pixels as numbers.*PNG")
def pixel_arrays(folder):
    return both(
        folder,
        lambda file, labels: write_plain(
            file, [[[label] * 4] * 4 for label in labels], pa.array(texts(labels))
        ),
    )


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


@refused("p25", says="Row 2 of split 'train' has no label in column 'label' .1 of 24 rows")
def an_empty_label(folder):
    write_plain(folder / "train.parquet", cells(TRAIN), [*texts(TRAIN[:2]), None, *texts(TRAIN[3:])])
    return folder


@refused("p28-caption", says="24 rows, 'caption' has 24 different values.*`label_column`")
def a_caption_is_no_label(folder):
    captions = [f"a photo of {row}" for row in range(24)]
    write_plain(folder / "train.parquet", cells(TRAIN), captions)
    table = pq.read_table(folder / "train.parquet").rename_columns(["image", "caption"])
    pq.write_table(table, folder / "train.parquet")
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


@pytest.mark.parametrize("id", FORMS.reads)
def test_table_is_read(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_table_is_refused_with_the_reason(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")
