"""Lists of attributes beside images in `images/CLASS`, of which either may tell the classes."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.tables import TEST, TRAIN, Forms, write_csv, write_pictures

FORMS = Forms()
read, refused = FORMS.read, FORMS.refused
HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}
OF_SEX = {"names": ("f", "m"), "counts": (10, 10), "tested": (2, 2), "told_by_pixels": False}
SAYS = "lie in the folders ant, bee, cat, which no column of it tells: are they the classes"


def sex(k, _):
    return "mf"[k % 2]


def attributes(folder, within="images", file="metadata.csv", is_short=False, **columns):
    """Pictures in class folders below others, and a list of further columns of them."""
    rows = write_pictures(folder, TRAIN, f"{within}/{{label}}/{{row}}.png")
    cells = [
        (name.rpartition("/")[2] if is_short else name, *(of(k, label) for of in columns.values()))
        for k, (name, label) in enumerate(rows)
    ]
    write_csv(folder / file, cells, header=("file_name", *columns))
    return folder


refused("one", says=rf'metadata.csv {SAYS}.*`label_column="sex"`.*take metadata.csv away')(
    lambda folder: attributes(folder, sex=sex)
)
refused("two-wrappers", says=SAYS)(lambda folder: attributes(folder, "data/images", sex=sex))
refused("labels", says=SAYS)(lambda folder: attributes(folder, file="labels.csv", sex=sex))
refused("short", says=SAYS)(lambda folder: attributes(folder, is_short=True, sex=sex))
refused("several", says=r"\(sex, age\)")(lambda folder: attributes(folder, sex=sex, age=lambda k, _: k % 3))
read("named", label_column="sex", **OF_SEX)(lambda folder: attributes(folder, sex=sex))
read("label", **OF_SEX)(lambda folder: attributes(folder, species=sex))
read("list", notes=["The labels are column 'sex' of metadata.csv, and not the folders"], **OF_SEX)(
    lambda folder: attributes(folder, sex=sex) / "metadata.csv"
)
read("agrees", **HELD_OUT)(lambda folder: attributes(folder, kind=lambda _, label: label))
read("likely", notes=["column 'diagnosis' of metadata.csv, and not the folders"], **OF_SEX)(
    lambda folder: attributes(folder, diagnosis=sex)
)
refused("flags", says="say yes or no, and a row has 0 to 2 of them set")(
    lambda folder: attributes(folder, red=lambda k, _: k % 2, big=lambda k, _: k % 3 % 2)
)


@refused("wordnet", says="lie in the folders n01440764, n01443537, which no column of it tells")
def numbers_of_wordnet(folder):
    attributes(folder, sex=sex)
    text = (folder / "metadata.csv").read_text().replace("/bee/", "/ant/")
    for k, name in enumerate(("ant", "cat")):
        number = ("n01440764", "n01443537")[k]
        text = text.replace(f"/{name}/", f"/{number}/")
        (folder / "images" / name).rename(folder / "images" / number)
    for file in (folder / "images/bee").iterdir():
        file.rename(folder / "images/n01440764" / file.name)
    (folder / "images/bee").rmdir()
    (folder / "metadata.csv").write_text(text)
    return folder


@read("list-away", **HELD_OUT)
def the_folders_without_the_list(folder):
    write_pictures(folder, TRAIN, "images/{label}/{row}.png")
    return folder


@refused("parquet", says=f"metadata.parquet {SAYS}")
def a_table_of_attributes(folder):
    rows = write_pictures(folder, TRAIN, "images/{label}/{row}.png")
    cells = {"file_name": [name for name, _ in rows], "sex": [sex(k, "") for k in range(len(rows))]}
    pq.write_table(pa.table(cells), folder / "metadata.parquet")
    return folder


def split_lists(folder, pattern):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        rows = write_pictures(folder, labels, pattern.replace("SPLIT", split))
        cells = [(name, sex(k, label)) for k, (name, label) in enumerate(rows)]
        write_csv(folder / f"{split}.csv", cells, header=("file_name", "sex"))
    return folder


refused("splits", says=SAYS)(lambda folder: split_lists(folder, "images/{label}/SPLIT{row}.png"))
refused("split-folders", says=SAYS)(lambda folder: split_lists(folder, "images/SPLIT/{label}/{row}.png"))


@read(
    "numbered",
    notes=["The labels are column 'kind' of labels.csv, and not the folders of the images, p0, p1, p2"],
    **HELD_OUT,
)
def folders_of_patients(folder):
    rows = []
    for k, (name, label) in enumerate(write_pictures(folder / "in", TRAIN)):
        place = folder / f"images/p{k % 3}" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).rename(place)
        rows.append((place.relative_to(folder), label))
    write_csv(folder / "labels.csv", rows, header=("file", "kind"))
    return folder


@pytest.mark.parametrize("id", FORMS.reads)
def test_list_is_read(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_list_is_refused_with_what_to_do(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")
