import json
from dataclasses import asdict, fields

import pytest

from lort_hub.commands.training_arguments import TrainingArguments, refit_arguments
from lort_hub.errors import ConfigError
from lort_hub.records import WITHOUT_EFFECT

FREE = (*WITHOUT_EFFECT, "refit", "bootstrap", "license")
SETTLED = [field.name for field in fields(TrainingArguments) if field.name not in FREE]
NAMES = ("epochs", "opt", "lr", "weight_decay", "warmup_epochs", "layer_decay")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"pretrained": False}, (200, "momentum", 0.01, 5e-3, 0, None)),
        ({"pretrained": False, "tune": "head"}, (200, "momentum", 0.01, 5e-3, 0, None)),
        ({}, (20, "adamw", 1e-4, 0.05, 1, None)),
        ({"tune": "lora"}, (20, "adamw", 1e-3, 0.05, 1, None)),
        ({"tune": "bias", "weight_decay": 0.0, "warmup_epochs": 0}, (20, "adamw", 1e-3, 0.0, 0, None)),
        ({"layer_decay": 1.0, "lr": 0.0, "opt": "lamb"}, (20, "lamb", 0.0, 0.05, 1, 1.0)),
    ],
)
def test_defaults_are_those_of_the_kind_of_training_and_yield_to_what_is_given(given, wanted):
    arguments = TrainingArguments(**given)
    assert tuple(getattr(arguments, name) for name in NAMES) == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": -1.0}, "--lr is -1.0, expected at least 0"),
        ({"lr": float("nan")}, "--lr is nan"),
        ({"epochs": 0}, "--epochs is 0, expected at least 1"),
        ({"gradient_accumulation_steps": 0}, "--gradient-accumulation-steps is 0"),
        ({"ema_decay": 1.01}, "--ema-decay is 1.01, expected 0 to 1"),
        ({"holdout": 0.95}, "--holdout is 0.95, expected 0 to 0.9"),
        ({"lora_rank": 0}, "--lora-rank is 0"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"patience": 2, "holdout": 0.0}, "--patience compares(.|\n)*--holdout above 0"),
        ({"opt": "adamv"}, "no optimiser 'adamv'. Did you mean 'adam'"),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        TrainingArguments(**given)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_one_image_cannot_be_mixed(name):
    with pytest.raises(ConfigError, match=f"--{name}(.|\n)*--batch-size"):
        TrainingArguments(**{name: 0.2, "batch_size": 1})


def rows(scores):
    return [{"held_out_balanced_accuracy": score} for score in scores]


def finished(folder, scores, **arguments):
    """What a run leaves of its arguments and epochs."""
    folder.mkdir()
    record = json.loads(json.dumps(asdict(TrainingArguments(**arguments)), default=str))
    (folder / "run.json").write_text(json.dumps({"arguments": record}))
    (folder / "metrics.json").write_text(json.dumps({"history": rows(scores)}))
    return folder


def unlike_default():
    """Every argument that a run settles, none at its default."""
    given = {"tune": "full", "subset": "shuffle", "on_bad_image": "skip", "opt": "lamb", "clip_grad": 2.0}
    given |= {"imbalance": "exp:7", "auto_augment": "rand-m3", "image_size": 48, "layer_decay": 0.5}
    given |= {f"{kind}_{part}": "x" for kind, part in (("image", "column"), ("label", "column"))}
    given |= {"train_split": "a", "test_split": "b", "backbone": "b", "dataset": "d", "holdout": 0.3}
    given |= {"image_root": "r", "class_folder": "last", "on_duplicate": "drop"}
    given |= {"group_column": "g", "group_pattern": "(g)", "group_file": "g.csv"}
    given |= {"label_smoothing": 0.2, "ema_decay": 0.9, "mixed_precision": "bf16"}
    given |= {"loss": "balanced-softmax"}
    for name in set(SETTLED) - set(given):
        default = getattr(TrainingArguments(), name)
        given[name] = not default if isinstance(default, bool) else default + 1
    return given


@pytest.mark.parametrize(("patience", "epochs"), [(0, 4), (2, 2)])
def test_a_refit_takes_over_every_setting_and_the_epochs_that_were_of_use(tmp_path, patience, epochs):
    given = unlike_default() | {"patience": patience}
    folder = finished(tmp_path / "run", (0.2, 0.5, 0.4, 0.5), **given)
    now = TrainingArguments(refit=folder, output_dir=tmp_path / "out", num_workers=7, bootstrap=3)
    arguments, trained = refit_arguments(now, folder)
    assert trained == epochs
    kept = {"holdout": 0.0, "patience": 0, "refit": folder, "output_dir": tmp_path / "out"}
    kept |= {"num_workers": 7, "bootstrap": 3}
    assert asdict(arguments) == asdict(TrainingArguments(**given)) | kept


def test_a_refit_computes_in_the_precision_of_its_run(tmp_path):
    folder = finished(tmp_path / "run", (0.2,), mixed_precision="bf16")
    assert refit_arguments(TrainingArguments(), folder)[0].mixed_precision == "bf16"


@pytest.mark.parametrize("name", SETTLED)
def test_a_refit_refuses_what_its_run_has_settled(tmp_path, name):
    folder = finished(tmp_path / "run", (0.2,))
    now = TrainingArguments()
    now.given = frozenset({name})
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')}.* beside --refit"):
        refit_arguments(now, folder)


def test_a_refit_needs_a_run_that_held_something_out(tmp_path):
    with pytest.raises(ConfigError, match="held nothing out"):
        refit_arguments(TrainingArguments(), finished(tmp_path / "whole", (), holdout=0.0))
    with pytest.raises(ConfigError, match="not the output folder of a finished train.py"):
        refit_arguments(TrainingArguments(), tmp_path / "none")
    other = finished(tmp_path / "retrained", ())
    (other / "metrics.json").write_text(json.dumps({"test": {}}))
    with pytest.raises(ConfigError, match="not the output folder of a finished train.py"):
        refit_arguments(TrainingArguments(), other)


def test_a_refit_of_a_record_that_lacks_a_setting_is_refused(tmp_path):
    folder = finished(tmp_path / "run", (0.2,), pretrained=False)
    record = json.loads((folder / "run.json").read_text())
    for name in ("opt", "patience", "warmup_epochs"):  # as before there was a choice of them
        del record["arguments"][name]
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="--refit"):
        refit_arguments(TrainingArguments(), folder)


def test_a_refit_has_as_many_processes_as_its_run(tmp_path, monkeypatch):
    folder = finished(tmp_path / "run", (0.2,))
    record = json.loads((folder / "run.json").read_text())
    record["arguments"]["processes"] = 2
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="was trained by 2 processes.*got 1.\n.*--num-processes 2"):
        refit_arguments(TrainingArguments(), folder)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert refit_arguments(TrainingArguments(), folder)[1]
