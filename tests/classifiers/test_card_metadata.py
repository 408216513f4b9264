"""A model card after its results were written into it: the numbers are there, and all else is as it was."""

import difflib

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from lort_hub.classifiers.card_metadata import Metric, update_card, with_results
from lort_hub.errors import CheckpointError

CATS = {"name": "Cats: no. 1", "type": "cats", "split": "test"}
NUMBERS = [Metric("accuracy", "accuracy", 0.5), Metric("accuracy", "few-shot accuracy (n=30)", 1e-06)]
KNOWN = ("accuracy", "few-shot accuracy", "many-shot accuracy")
ENTRY = {
    "task": {"type": "image-classification"},
    "dataset": CATS,
    "metrics": [{"type": one.type, "value": one.value, "name": one.name} for one in NUMBERS],
}
DOGS = {
    "task": {"type": "image-classification"},
    "dataset": {"type": "dogs", "name": "Dogs"},
    "metrics": [{"type": "f1", "value": 0.1}],
}


def written(text, numbers=NUMBERS, dataset=CATS):
    return with_results(text, dataset, numbers, KNOWN, model="m", source="README.md")


def metadata(text):
    return ModelCard(text, ignore_metadata_errors=True).data.to_dict() if text else {}


def lines_gone(before, after):
    """Lines that the second text does not have in its place, by the standard library's diff."""
    changes = difflib.ndiff(before.splitlines(keepends=True), after.splitlines(keepends=True))
    return [line[2:] for line in changes if line.startswith("- ")]


BLOCK = """\
---
# what we are
license:   'mit'   # ours
tags: [cats,    "long-tailed"]
thresholds: {low: 0x10, when: 2026-01-02, octal: 010, yes: no}
text: >-
  folded
  text
%s
---

# Cats
---
model-index: this is text
"""
RESULTS = """\
model-index:
  - name: "Mine"   # by me
    # my results
    results:
      - task: {type: image-classification}
        dataset:
          type: dogs
          name: Dogs
        metrics:
          - type: f1   # of dogs
            value: 0.1
      # cats follow
      - task:
          type: image-classification   # a task
        dataset: {type: cats,   split: test, name: 'My cats'}
        metrics:
          # top 5 is mine
          - type: top5
            value: 0.90
          - type: accuracy
            value: 0.10   # measured in May
            name: accuracy
          - name: few-shot accuracy (n=7)
            type: accuracy
            value: .2
          - {type: accuracy, value: 3, name: many-shot accuracy (n=1)}
# the end
base_model: x/y   # base"""


def test_numbers_are_replaced_in_their_places_and_comments_stay():
    before = BLOCK % RESULTS
    after, done = written(before)
    assert done == "replaced the results on Cats: no. 1"
    assert lines_gone(before, after) == [
        "            value: 0.10   # measured in May\n",
        "          - name: few-shot accuracy (n=7)\n",
        "            value: .2\n",
        "          - {type: accuracy, value: 3, name: many-shot accuracy (n=1)}\n",
    ]
    assert "            value: 0.5   # measured in May\n" in after
    assert (
        "          - name: few-shot accuracy (n=30)\n            type: accuracy\n            value: 1.0e-06\n"
        in after
    )
    dogs, cats = yaml.safe_load(after.split("---\n")[1])["model-index"][0]["results"]
    assert dogs == DOGS
    assert cats["dataset"]["name"] == "My cats"
    assert cats["metrics"][0] == {"type": "top5", "value": 0.9}


@pytest.mark.parametrize(
    "rest",
    [
        "model-index: []",
        "model-index:",
        "model-index: null   # nothing yet",
        "model-index:\n- name: Mine\n  results: []",
        "model-index:\n- name: Mine\n  results:   # none\nbase_model: x/y",
        "model-index: [{name: Mine, results: [{task: {type: image-classification}, dataset: {type: dogs, "
        "name: Dogs}, metrics: [{type: f1, value: 0.1}]}]}]",
        "model-index:\n- results:\n  - task:\n      type: image-classification\n    dataset:\n"
        "      type: dogs\n      name: Dogs\n    metrics:\n    - type: f1\n      value: 0.1 # one\n\n"
        "  # mine\n  name: Mine\nbase_model: x/y",
        "base_model: x/y\n# the end",
        "description: |+\n  kept\n\n  lines\n\n",
    ],
)
def test_results_are_added_to_any_layout(rest):
    before = BLOCK % rest
    after, done = written(before)
    assert done == "added the results on Cats: no. 1"
    old, new = (yaml.safe_load(text.split("---\n")[1]) for text in (before, after))
    assert new["model-index"][0]["results"][-1] == ENTRY
    assert [entry["dataset"] for entry in new["model-index"][0]["results"][:-1]] in ([], [DOGS["dataset"]])
    assert {**new, "model-index": 0} == {**old, "model-index": 0}
    assert all("model-index" in line or "results:" in line for line in lines_gone(before, after))
    assert len(lines_gone(before, after)) <= 1
    assert metadata(after)["model-index"]
    assert written(after) == (after, "the results on Cats: no. 1 are there already")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("text", ["", "# Cats\n", "\n# Cats", "text\n---\nmore\n---\n", "--- no block\n"])
def test_a_card_without_metadata_gets_them_above_its_text(newline, mark, text):
    before = mark + text.replace("\n", newline)
    after, _ = written(before)
    assert after.endswith(before.removeprefix(mark))
    assert after.startswith(f"{mark}---{newline if newline in before else chr(10)}model-index:")
    header = after.split("---")[1]
    assert yaml.safe_load(header) == {"model-index": [{"name": "m", "results": [ENTRY]}]}
    assert written(after)[0] == after


def test_windows_lines_stay_so():
    before = (BLOCK % RESULTS).replace("\n", "\r\n")
    after, _ = written(before)
    assert after == written(BLOCK % RESULTS)[0].replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("---\nlicense: [mit\n---\n", "it is no YAML"),
        ("---\njust words\n---\n", "it is a str"),
        ("---\n- a\n---\n", "it is a list"),
        ("---\nmodel-index: words\n---\n", "another form"),
        ("---\nmodel-index:\n- words\n---\n", "another form"),
        ("---\nmodel-index:\n- name: Mine\n---\n", "another form"),
        ("---\nlicense: &a mit\nmodel-index: [1]\n---\n", "another form"),
    ],
)
def test_metadata_that_cannot_be_added_to_are_refused(tmp_path, text, says):
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(CheckpointError, match=says) as error:
        update_card(tmp_path / "README.md", CATS, NUMBERS, KNOWN)
    assert len(str(error.value).splitlines()) <= 3
    assert (tmp_path / "README.md").read_text() == text


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8)
VALUES = st.one_of(NAMES, st.integers(), st.booleans(), st.none(), st.lists(NAMES, max_size=3))
OTHERS = st.dictionaries(NAMES.filter(lambda name: name != "model-index"), VALUES, max_size=4)
RATES = st.floats(0, 1).map(lambda rate: round(rate, 6))


@given(OTHERS, st.sampled_from([True, False, None]), st.integers(1, 6), NAMES, RATES, RATES, st.booleans())
def test_any_metadata_keep_their_bytes(others, flow, indent, name, first, second, has_dogs):
    values = {**others, "model-index": [{"name": name, "results": [DOGS]}]} if has_dogs else others
    block = yaml.safe_dump(values, default_flow_style=flow, indent=indent, allow_unicode=True)
    before = f"---\n{block}---\n# {name}\n"
    dataset = {"name": name, "type": name, "split": "test"}
    numbers = [Metric("accuracy", "accuracy", first)]
    after, _ = written(before, numbers, dataset)
    assert after.endswith(f"---\n# {name}\n")
    found = yaml.safe_load(after[4 : after.rindex("---\n# ")])
    index = found.pop("model-index")
    assert found == others
    assert index[0]["results"][-1]["metrics"] == [{"type": "accuracy", "value": first, "name": "accuracy"}]
    again, _ = written(after, [Metric("accuracy", "accuracy", second)], dataset)
    changed = [line for line in difflib.ndiff(after.splitlines(), again.splitlines()) if line[0] in "+-"]
    assert len(changed) == (2 if first != second else 0)
    assert written(again, numbers, dataset)[0] == after


def test_the_file_is_written_whole_with_its_mode_and_made_where_it_is_missing(tmp_path):
    path = tmp_path / "README.md"
    assert update_card(path, CATS, NUMBERS, KNOWN) == "added the results on Cats: no. 1"
    assert ModelCard.load(path).data.to_dict()["model-index"][0]["name"] == tmp_path.name
    path.chmod(0o640)
    update_card(path, CATS, NUMBERS[:1], KNOWN)
    assert path.stat().st_mode & 0o777 == 0o640
    assert [one.name for one in tmp_path.iterdir()] == ["README.md"]
    (tmp_path / "link.md").symlink_to(path)
    update_card(tmp_path / "link.md", CATS, NUMBERS, KNOWN)
    assert (tmp_path / "link.md").is_symlink()
    assert "few-shot" in path.read_text()


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "README.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="is not UTF-8"):
        update_card(tmp_path / "README.md", CATS, NUMBERS, KNOWN)
