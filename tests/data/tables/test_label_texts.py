"""Texts that are no name of one class: missing labels, and several labels in one."""

import datasets
import numpy as np
import pytest

from lort_hub.data.load import load_long_tailed
from lort_hub.data.tables.label_texts import check_single, note_doubtful_names
from tests.support.tables import NAMES, TEST, TRAIN, Forms, write_csv, write_pictures

FORMS = Forms()
read, refused = FORMS.read, FORMS.refused
HELD_OUT = {"counts": (10, 6, 4), "tested": (2, 1, 1)}


def labelled(folder, text):
    """A list whose labels are written otherwise."""
    rows = [(name, text(label)) for name, label in write_pictures(folder / "im", TRAIN)]
    write_csv(folder / "labels.csv", rows, header=("image", "label"))
    return folder


# Missing labels


def missing_as(text):
    return lambda label: text if label == "cat" else label


for text in ("nan", "NaN", "<NA>"):
    refused(f"missing-{text}", says=r"Row 19 of split 'train' has no label.*5 of 24 rows")(
        lambda folder, text=text: labelled(folder, missing_as(text))
    )
for text in ("NA", "None", "null"):
    read(
        f"class-{text}",
        names=tuple(sorted(("ant", "bee", text))),
        notes=[f"'{text}' is read as a class, of 5 rows"],
        told_by_pixels=False,
        **({"counts": (4, 10, 6), "tested": (1, 2, 1)} if text[0] == "N" else HELD_OUT),
    )(lambda folder, text=text: labelled(folder, missing_as(text)))
for text in (
    "#N/A",
    "#REF!",
    "#VALUE!",
    "#NAME?",
    "#DIV/0!",
    "-",
    "--",
    "?",
    "nil",
    "N.A.",
    "(blank)",
    ".",
    "TBD",
):
    read(
        f"class-{text}",
        names=tuple(sorted(("ant", "bee", text))),
        notes=[f"'{text}' is read as a class, of 5 rows"],
        told_by_pixels=False,
        **(HELD_OUT if text == "nil" else {"counts": (4, 10, 6), "tested": (1, 2, 1)}),
    )(lambda folder, text=text: labelled(folder, missing_as(text)))
read(
    "class-sign",
    names=("-", "0", "1"),
    notes=["'-' is read as a class, of 5 rows"],
    told_by_pixels=False,
    counts=(4, 10, 6),
    tested=(1, 2, 1),
)(lambda folder: labelled(folder, {"ant": "0", "bee": "1", "cat": "-"}.get))
for text in ("NaN", "NA", "#N/A"):
    refused(f"missing-number-{text}", says=r"Row 19 of split 'train' has no label.*5 of 24 rows")(
        lambda folder, text=text: labelled(
            folder, lambda label: text if label == "cat" else f"{NAMES.index(label)}.0"
        )
    )


@read("missing-in-the-test", names=("0", "1", "2"), notes=["images of 'test' have no labels"], **HELD_OUT)
def a_test_list_without_labels(folder):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        rows = write_pictures(folder / split, labels)
        numbers = [(f"{split}/{n}", NAMES.index(k) if split == "train" else "nan") for n, k in rows]
        write_csv(folder / f"{split}.csv", numbers)
    return folder


# Several labels in one

SEVERAL = {
    "bar-and-class": {"ant": "ant|dog", "bee": "bee", "cat": "ant"},
    "bar-shared": {"ant": "ant|bee", "bee": "ant|cat", "cat": "none of them"},
    "semicolon": {"ant": "ant; bee", "bee": "bee; cat", "cat": "cat; ant"},
    "plus": {"ant": "scab", "bee": "rust", "cat": "scab+rust"},
    "comma": {"ant": "scab", "bee": "rust", "cat": "scab, rust"},
    "numbers": {"ant": "0", "bee": "1", "cat": "0 25"},
}
for form, several in SEVERAL.items():
    refused(form, says="'label' holds several labels a row: .*multi-label data are not read")(
        lambda folder, several=several: labelled(folder, several.get)
    )
refused(
    "hybrid",
    says="Where 'Setter.Poodle' is a class of its own, .* write it without '.': 'Setter x Poodle'",
)(lambda folder: labelled(folder, {"ant": "Poodle", "bee": "Setter", "cat": "Setter+Poodle"}.get))
ONE = {
    "hybrid": {"ant": "Poodle", "bee": "Setter", "cat": "Setter x Poodle"},
    "taxonomy": {"ant": "insects;ants", "bee": "insects;bees", "cat": "mammals;cats"},
    "plus-in-a-name": {"ant": "c", "bee": "c++", "cat": "d"},
    "bar-in-a-name": {"ant": "a|b", "bee": "c", "cat": "d"},
    "long-numbers": {"ant": "1", "bee": "1 000", "cat": "500"},
    "pairs-of-numbers": {"ant": "0 25", "bee": "1 7", "cat": "2 9"},
    "slash-in-a-name": {"ant": "AC/DC", "bee": "New York", "cat": "fox"},
    "dash-in-names": {"ant": "shirt", "bee": "t-shirt", "cat": "tank-top"},
    "slash-in-paths": {"ant": "insects/ants", "bee": "insects/bees", "cat": "mammals/cats"},
    "comma-in-names": {"ant": "bear, black", "bee": "bear, brown", "cat": "fox"},
}
for form, one in ONE.items():
    read(form, names=tuple(sorted(one.values())), **HELD_OUT)(
        lambda folder, one=one: labelled(folder, one.get)
    )
BLANK = {"ant": "lion", "bee": "sea", "cat": "sea lion"}
read(
    "blank-between-classes",
    names=("lion", "sea", "sea lion"),
    notes=["'sea lion' is read as a class beside 'sea' and 'lion', of 5 rows"],
    **HELD_OUT,
)(lambda folder: labelled(folder, BLANK.get))

for mark in ("/", " / ", "_", "-", " & ", " and "):
    both = f"lion{mark}sea"
    read(
        f"between-classes-{mark}",
        names=("lion", both, "sea"),
        counts=(10, 4, 6),
        tested=(2, 1, 1),
        notes=[f"'{both}' is read as a class beside 'lion' and 'sea', of 5 rows"],
        told_by_pixels=False,
    )(lambda folder, both=both: labelled(folder, {"ant": "lion", "bee": "sea", "cat": both}.get))


@pytest.mark.parametrize(("mark", "count"), [(",", "2 of 2"), ("/", "2 of 2"), ("+", "2 of 2")])
def test_names_that_begin_with_another_class_are_noted(mark, count, tmp_path):
    names = iter(["a", "b", f"a{mark}x", f"b{mark}y"] * 6)
    data = load_long_tailed(str(labelled(tmp_path, lambda _: next(names))))
    assert data.class_names == ("a", f"a{mark}x", "b", f"b{mark}y")
    begun = f"{count} classes with a '{mark}' begin with another class, as 'a{mark}x' with 'a'"
    assert begun in "\n".join(data.notes)


@pytest.mark.parametrize("id", FORMS.reads)
def test_labels_are_read(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")


@pytest.mark.parametrize("id", FORMS.refusals)
def test_labels_are_refused_with_the_reason(id, tmp_path):
    FORMS.check_refused(id, tmp_path / "in")


@pytest.mark.parametrize(
    ("labels", "sign"),
    [
        ([0, 1, 2, -100, -100], "-100"),
        ([0, 1, 2, 3, -1], "-1"),
        ([0, 1, 255], "255"),
        ([0.0, 1.0, 999.0], "999"),
        ([-2, -1, 0], ""),
        ([0, 255], ""),
        ([*range(256)], ""),
        ([0, 200, 255], ""),
    ],
)
def test_numbers_that_stand_for_no_label_are_noted(labels, sign):
    rows = datasets.Dataset.from_dict({"label": labels})
    notes = note_doubtful_names(rows, "label")
    assert [note.split(" is ")[0] for note in notes] == [f"'{sign}'"] * bool(sign)
    assert all(f"of {labels.count(float(sign))} rows" in note for note in notes)


def test_numbers_of_pixels_have_that_note_too():
    rows = datasets.Dataset.from_dict({"label": np.array([0, 1, 2, 255], np.uint8)})
    assert note_doubtful_names(rows, "label")[0].startswith("'255' is read as a class")


@pytest.mark.parametrize("word", ["unlabeled", "Unknown", "no label"])
def test_words_that_stand_for_no_label_are_noted(word):
    (note,) = note_doubtful_names(datasets.Dataset.from_dict({"label": ["ant", word, "bee", word]}), "label")
    assert note.startswith(f"'{word}' is read as a class, of 2 rows")


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["ant, bee", "bee, cat", "ant, cat"], 2),
        (["bear, black", "bear, brown", "cat, black"], 0),
        (["tench, Tinca tinca", "goldfish, Carassius auratus"], 0),
    ],
)
def test_lists_of_labels_without_any_alone_are_noted(names, count):
    notes = note_doubtful_names(datasets.Dataset.from_dict({"tags": names}), "tags")
    assert [note.split(" classes with a comma")[0] for note in notes] == [str(count)] * bool(count)


@pytest.mark.parametrize("flags", [[1, 0, 1, 0], ["true", "false", "true", "false"], [1.0, 0.0, 1.0, 0.0]])
def test_labels_that_a_column_calls_wrong_are_counted(flags):
    columns = {"LabelName": ["ant", "bee"] * 2, "Confidence": flags, "verified": [1] * 4}
    (note,) = note_doubtful_names(datasets.Dataset.from_dict(columns), "LabelName")
    assert note.startswith("Column 'Confidence' says 0 or no in 2 of 4 rows")


TAGS = [
    "clear primary",
    "clear primary water",
    "primary water",
    "clear water",
    "water primary road",
    "clear road",
]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["scab", "frog_eye_spot", "scab frog_eye_spot"],
            "'scab frog_eye_spot' is read as a class beside 'scab'",
        ),
        ([*TAGS, "road clear", "primary road"], "8 classes are made of 4 words, such as 'clear primary'"),
        (["red circle", "red square", "blue circle", "blue square", "blue star", "red star"], ""),
        (["black bear", "polar bear", "great white", "white tern", "little blue heron"], ""),
    ],
)
def test_tags_with_blanks_are_noted(names, said):
    notes = note_doubtful_names(datasets.Dataset.from_dict({"tags": names}), "tags")
    assert len(notes) == bool(said)
    assert all(note.startswith(said) for note in notes)


@pytest.mark.parametrize(
    "names",
    [
        ["bus", "stop", "bus stop", "car", "park", "car park", "train", "station", "train station"],
        ["red", "green", "blue", "red green", "green blue", "red blue"],
        ["black", "bear", "black bear", "sun bear", "polar bear", "brown bear"],
    ],
)
def test_names_of_two_classes_are_classes_with_a_note(names):
    check_single(names, "label")
    notes = note_doubtful_names(datasets.Dataset.from_dict({"label": names}), "label")
    assert f"'{names[2] if ' ' in names[2] else names[3]}' is read as a class beside" in notes[0]
