"""Columns of images and labels in the forms that people bring: read right, or refused with the reason."""

import base64

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from tests.support.tables import (
    NAMES,
    TEST,
    TRAIN,
    Forms,
    both,
    cells,
    texts,
    write_parquet,
    write_plain,
)

FORMS = Forms()  # ids: rows of the list of inputs that were tried
read, refused = FORMS.read, FORMS.refused


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


@refused("p42-addresses", says="'image' holds web addresses, such as https://x.org/0.jpg: download")
def addresses(folder):
    images = lambda labels: [f"https://x.org/{k}.jpg" for k in range(len(labels))]  # noqa: E731
    return both(folder, lambda file, labels: write_plain(file, images(labels), texts(labels)))


@refused("p42-base64", says="'image' holds images as base64 text.*b64decode")
def images_as_text(folder):
    images = lambda labels: [base64.b64encode(cell["bytes"]).decode() for cell in cells(labels)]  # noqa: E731
    return both(folder, lambda file, labels: write_plain(file, images(labels), texts(labels)))


@refused("p42-label-bytes", says="'label' holds binary, expected class labels, numbers or texts")
def labels_of_bytes(folder):
    names = lambda labels: [name.encode() for name in texts(labels)]  # noqa: E731
    return both(folder, lambda file, labels: write_plain(file, cells(labels), names(labels)))


@read("p42-alike", names=("Ant", "ant", "bee"), counts=(7, 7, 7), tested=(1, 1, 1), told_by_pixels=False,
      notes=["look the same: 'Ant', 'ant'"])  # fmt: skip
def labels_that_look_the_same(folder):
    write_plain(folder / "train.parquet", cells(TRAIN), ["ant", "Ant ", "bee"] * 8)
    return folder


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


@pytest.mark.parametrize("id", FORMS.reads)
def test_table_is_read(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_table_is_refused_with_the_reason(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")
