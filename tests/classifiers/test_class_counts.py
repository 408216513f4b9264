"""Where training counts are from, and files of them that cannot be right."""

import pytest

from lort_hub.classifiers.class_counts import count_training, read_counts, recorded_counts
from lort_hub.classifiers.class_names import OutputName, map_classes
from lort_hub.classifiers.mapped import Classifier
from lort_hub.data.labelled import load_labelled
from lort_hub.errors import ConfigError

DIGITS = [str(digit) for digit in range(10)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class,count\nant,3\n", "has no row for bee"),
        (
            "class,count\nant,3\nbee,2\nbees,1\n",
            "names the class 'bees', which the data set has not. Did you",
        ),
        ("class,count\nant,3\nbee,2\nant,3\n", "names the class 'ant' twice"),
        ("class,count\nant,3\nbee,-2\n", "the count of 'bee' is '-2', expected a whole number from 0"),
        ("class,count\nant,3\nbee,2.5\n", "the count of 'bee' is '2.5'"),
        ("class,count\nant,3\nbee,\n", "the count of 'bee' is ''"),
        ("class,count\nant,3\nbee\n", "the count of 'bee' is ''"),
        ("class,count\nant,nan\nbee,1\n", "the count of 'ant' is 'nan'"),
        ("class,images\nant,3\nbee,2\n", "has the columns class, images"),
        ("", "has the columns none"),
        ("class,count\nant,²\nbee,1\n", "the count of 'ant' is '²'"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused(tmp_path, text, says):
    (tmp_path / "counts.csv").write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_counts(tmp_path / "counts.csv", ["ant", "bee"])


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"Cannot read '.*\n*Expected a CSV"):
        read_counts(tmp_path / "counts.csv", ["ant"])
    (tmp_path / "counts.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"Cannot read '.*\n*Expected a CSV"):
        read_counts(tmp_path / "counts.csv", ["ant"])


def test_names_with_commas_and_a_byte_order_mark_are_read(tmp_path):
    (tmp_path / "counts.csv").write_text('\ufeffclass,count\n"a,""b",0\nbee, 12 \n', encoding="utf-8")
    assert read_counts(tmp_path / "counts.csv", ["bee", 'a,"b']).tolist() == [12, 0]


def classifier(name, record):
    classes = map_classes(DIGITS, [OutputName(digit) for digit in DIGITS], name)
    return Classifier(name, None, record, classes)


def test_a_file_goes_before_the_data_and_these_before_a_record(tmp_path):
    record = {"class_names": DIGITS, "class_counts": list(range(9, -1, -1))}
    models = [classifier("other", {}), classifier("ours", record)]
    alone, both = load_labelled("digits", train_split="none"), load_labelled("digits", imbalance="exp:10")
    by_record = count_training(alone, models)
    assert by_record.counts.tolist() == list(range(9, -1, -1))
    assert (by_record.source, by_record.notes) == ("the record of ours", ())
    by_data = count_training(both, models)
    assert by_data.counts.tolist() == both.class_counts.tolist()
    assert by_data.source == "the training split 'train' of the data"
    [note] = by_data.notes
    assert "ours was trained on 45 images of these classes, its record says, 9 to 0 each" in note
    file = tmp_path / "counts.csv"
    file.write_text("name,train_images\n" + "".join(f"{digit},7\n" for digit in DIGITS))
    assert count_training(both, models, file).counts.tolist() == [7] * 10
    assert count_training(both, models, file).source == str(file)
    nothing = count_training(alone, models[:1])
    assert nothing.counts is None
    assert "no many-, medium- and few-shot classes" in nothing.notes[0]


def test_the_counts_of_a_record_are_those_of_the_outputs():
    classes = map_classes(["Bee", "cat"], [OutputName("ant"), OutputName("bee")], "m")
    record = {"class_names": ["ant", "bee"], "class_counts": [3, 2]}
    assert recorded_counts(Classifier("m", None, record, classes)).tolist() == [2, 0]
    assert recorded_counts(Classifier("m", None, {"class_names": ["ant", "bee"]}, classes)) is None
