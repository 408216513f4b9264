"""A column of ranks or kinds above the classes, beside the one of the classes: which is meant is asked."""

import pyarrow.parquet as pq
import pytest

from tests.support.tables import NAMES, TRAIN, Forms, cells, texts, write_csv, write_pictures, write_plain

FORMS = Forms()
read, refused = FORMS.read, FORMS.refused
HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}
ABOVE = dict(zip(NAMES, ("insect", "insect", "mammal"), strict=True))
NUMBERS = {name: 40 + k for k, name in enumerate(NAMES)}


def listed(folder, **columns):
    """A list of pictures with columns, each told by the label and the row of a picture."""
    rows = write_pictures(folder / "im", TRAIN)
    rows = [
        (file, *(tell(label, row) for tell in columns.values())) for row, (file, label) in enumerate(rows)
    ]
    write_csv(folder / "labels.csv", rows, header=("file", *columns))
    return folder


def own(label, _):
    return label


def above(label, _):
    return ABOVE[label]


FINER = {
    "class": ("scientificName", "scientific_name", "common_name", "genus", "taxon", "breed", "variety"),
    "species": ("breed", "variety", "disease"),
    "category": ("subcategory",),
}
for coarse, several in FINER.items():
    for finer in several:
        columns = {coarse: above, finer: own}
        refused(
            f"{coarse}-{finer}",
            says=f'could be the label: {coarse}, {finer}.\nChoose one, e.g. `label_column="{finer}"`',
        )(lambda folder, columns=columns: listed(folder, **columns))
        read(f"{coarse}-{finer}", label_column=finer, **HELD_OUT)(
            lambda folder, columns=columns: listed(folder, **columns)
        )

refused("numbers-of-taxa", says="could be the label: class, taxonID")(
    lambda folder: listed(folder, **{"class": above, "taxonID": lambda label, _: NUMBERS[label]})
)
refused("ranks", says="could be the label: class, family, genus")(
    lambda folder: listed(
        folder,
        phylum=lambda label, _: "Chordata" if label == "cat" else "Arthropoda",
        **{"class": above},
        family=own,
        genus=lambda label, row: f"{label} {row % 2}",
    )
)
refused("ranks-with-an-exception", says="could be the label: class, family")(
    lambda folder: listed(
        folder,
        phylum=lambda *_: "Chordata",
        **{"class": lambda label, row: "mammal" if row == 0 else ABOVE[label]},
        family=own,
    )
)


refused("empty-cells", says="could be the label: class, genus")(
    lambda folder: listed(folder, **{"class": above, "genus": lambda label, row: label if row % 2 else ""})
)


@refused("parquet", says="could be the label: class, species_name")
def a_table(folder):
    write_plain(
        folder / "train.parquet", cells(TRAIN), texts(TRAIN), **{"class": [*map(ABOVE.get, texts(TRAIN))]}
    )
    table = pq.read_table(folder / "train.parquet").rename_columns(["image", "species_name", "class"])
    pq.write_table(table, folder / "train.parquet")
    return folder


OTHERS = {
    "class-coarser": {"class": own, "family": above, "order": above},
    "class-same": {"class": own, "scientific_name": lambda label, _: f"{label} {label}"},
    "class-numbers": {"class": own, "model": lambda _, row: row // 2},
    "class-labeler": {"class": own, "label_source": lambda label, row: f"{label}{row % 2}"},
    "species-pets": {"species": own, "name": lambda label, row: f"{label}{row % 3}"},
    "class-patients": {"class": own, "patient_id": lambda label, row: f"p{label}{row % 3}"},
    "class-persons": {"class": own, "user_name": lambda label, row: f"{label}{row % 3}"},
    "class-each": {"class": own, "common_name": lambda label, row: f"{label}{row}"},
    "class-other": {"class": own, "genus": lambda _, row: "ab"[row % 2]},
    "class-no-rank": {"class": own, "order": lambda _, row: row % 2, "family": lambda _, row: "abcd"[row % 4]}
    | {"genus": lambda _, row: "abcdefgh"[row % 8]},
    "label": {"label": own, "breed": lambda label, row: f"{label}{row % 3}"},
    "target": {"target": own, "diagnosis": lambda label, row: f"{label}{row % 3}"},
}
for form, columns in OTHERS.items():
    said = ["Column 'patient_id' has 9 values in 24 rows"] if "patient_id" in columns else []
    read(f"sound-{form}", notes=said, **HELD_OUT)(lambda folder, columns=columns: listed(folder, **columns))


@read("lists-of-one", **HELD_OUT)
def a_table_of_lists(folder):
    names = [[label] for label in texts(TRAIN)]
    write_plain(folder / "train.parquet", cells(TRAIN), texts(TRAIN), category=names)
    table = pq.read_table(folder / "train.parquet").rename_columns(["image", "breed", "category"])
    pq.write_table(table, folder / "train.parquet")
    return folder


@pytest.mark.parametrize("id", FORMS.reads)
def test_labels_are_read(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_finer_columns_are_named(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")
