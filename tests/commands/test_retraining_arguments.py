import json
from dataclasses import replace
from pathlib import Path

import pytest

from lort_hub.commands.retraining_arguments import SETTLED, RetrainingArguments, refit_arguments
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


@pytest.mark.parametrize("mix", ["balanced", "train", "mix.csv"])
def test_no_class_mix_is_taken_that_a_head_without_calibration_would_not_be_moved_to(mix):
    with pytest.raises(ConfigError, match="needs calibrated log-odds to move"):
        RetrainingArguments(method="ce", calibrate=False, test_prior=mix)


@pytest.mark.parametrize("name", SETTLED)
def test_a_refit_refuses_what_its_run_has_settled(finished, name):
    now = RetrainingArguments()
    now.given = frozenset({name, "output_dir"})
    with pytest.raises(ConfigError, match=f"^--{name.replace('_', '-')} beside --refit"):
        refit_arguments(now, finished())


def test_a_refit_of_a_run_with_given_settings_and_a_solver_is_taken(finished):
    given = {"method": "ce", "delta": 0.9, "weight_decay": 0.1, "solver": "closed-form"}
    arguments, _ = refit_arguments(RetrainingArguments(refit=Path("x")), finished(given, method="ce"))
    assert (arguments.method, arguments.solver, arguments.delta) == ("ce", "closed-form", None)


def test_a_refit_of_a_head_made_in_python_is_refused(finished):
    folder = finished()
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**run, "arguments": {}}))
    with pytest.raises(ConfigError, match="was made in Python"):
        refit_arguments(RetrainingArguments(), folder)


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
    for content in ('{"arguments": {}}', '{"arguments": {', ""):
        (tmp_path / "run.json").write_text(content)
        for folder in (tmp_path / "none", tmp_path):
            with pytest.raises(ConfigError, match="not the output folder of a finished retrain.py"):
                refit_arguments(RetrainingArguments(), folder)
    with pytest.raises(ConfigError, match="is of train.py"):
        refit_arguments(RetrainingArguments(), STAGE1)
