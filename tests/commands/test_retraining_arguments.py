import json
from dataclasses import replace
from pathlib import Path

import pytest

from lort_hub.commands.retraining_arguments import (
    SETTLED,
    RetrainingArguments,
    check_refit,
    refit_arguments,
)
from lort_hub.errors import ConfigError
from lort_hub.records import ChosenSettings, ClassMix, RunRecord

CARDS = Path(__file__).parents[2] / "model_cards"
STAGE1 = CARDS / "cifar100-lt-ir100-resnet32-autoaugment-stage-1"


@pytest.fixture
def finished(tmp_path):
    """Folder of a run that adds heads up, with changes to its record."""
    before = RunRecord.read(CARDS / "cifar100-lt-ir100-resnet32-autoaugment-auto" / "run.json")
    candidates = {name: ChosenSettings({}, 2.0) for name in before.head.settings}

    def write(arguments=(), **changes):
        head = replace(before.head, candidates=candidates)
        run = replace(
            before, head=replace(head, **changes), arguments={**before.arguments, **dict(arguments)}
        )
        (tmp_path / "run.json").write_text(json.dumps(run.to_json()))
        return tmp_path

    return write


def test_a_refit_takes_the_method_the_solver_and_the_views_and_leaves_the_rest(finished):
    folder = finished({"method": "lort", "solver": "sgd", "views": 3}, method="lort")
    now = RetrainingArguments(refit=folder, test_prior="train", bootstrap=7, groups=[5, 50])
    arguments, earlier = refit_arguments(now, folder)
    assert arguments == replace(now, method="lort", solver="sgd", views=3)
    assert earlier.head.candidates["tau-norm"].scale == 2.0
    assert refit_arguments(RetrainingArguments(), finished())[0].method == "auto"


@pytest.mark.parametrize("name", SETTLED)
def test_a_refit_refuses_what_its_run_has_settled(finished, name):
    now = RetrainingArguments()
    now.given = frozenset({name, "output_dir"})
    with pytest.raises(ConfigError, match=f"^--{name.replace('_', '-')} beside --refit"):
        refit_arguments(now, finished())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": None}, "does not record all of its settings"),
        ({"mix": None}, "does not record all of its settings"),
        ({"mix": ClassMix("train", (0.01,) * 100)}, "class mix 'train'.*\n.*--test-prior beside --refit"),
    ],
)
def test_a_refit_of_a_head_that_lacks_something_says_what_to_do(finished, changes, message):
    with pytest.raises(ConfigError, match=message):
        refit_arguments(RetrainingArguments(), finished(**changes))


def test_a_refit_needs_the_folder_of_a_finished_retrain(tmp_path):
    (tmp_path / "run.json").write_text('{"arguments": {}}')
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="not the output folder of a finished retrain.py"):
            refit_arguments(RetrainingArguments(), folder)
    with pytest.raises(ConfigError, match="is of train.py"):
        refit_arguments(RetrainingArguments(), STAGE1)


def test_a_refit_is_for_the_same_classes_and_as_many_features(finished):
    earlier = RunRecord.read(finished() / "run.json")
    names = list(earlier.class_names)
    check_refit(earlier, names, 64)
    for other, message in (
        (["zebra", *names[1:]], f"'zebra' is new, '{names[0]}' is missing"),
        (names[4:], "is missing and 1 more"),
        (names[::-1], "their order differs"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_refit(earlier, other, 64)
    with pytest.raises(ConfigError, match="backbone with 64 features, got one with 512"):
        check_refit(earlier, names, 512)
