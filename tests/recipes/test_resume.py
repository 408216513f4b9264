"""Runs that were killed, or could not write their output, go on and end as if they had been left alone."""

import json
import shlex
import shutil

import pytest
from safetensors.torch import load_file

from tests.support.comparisons import rows_of, without_seconds
from tests.support.models import timm_folder
from tests.support.recipes import SMALL, serve


def flags_for(photos, out, *more):
    common = ("--dataset", str(photos), "--epochs", "3", "--batch-size", "8", "--bootstrap", "0")
    return [*SMALL, *common, "--output-dir", out, *more]


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


# Before the first checkpoint counts, while others are written, and when the output is there.
SHARES = (0.32, 0.5, 0.62, 0.87, 0.96)


@pytest.mark.parametrize("shares", [SHARES, pytest.param(None, marks=pytest.mark.slow)], ids=["some", "all"])
def test_killed_at_any_file_operation_it_goes_on_to_the_same_weights(photos, tmp_path, shares):
    alone = serve([{"flags": flags_for(photos, "alone")}], tmp_path)[0]
    assert alone["code"] == 0, alone
    every = range(1, alone["seen"] + 1)
    points = [round(share * alone["seen"]) for share in shares] if shares else every
    plan = []
    for point in points:
        plan.append({"flags": flags_for(photos, f"k{point}"), "kill_at": point})
        plan.append({"flags": flags_for(photos, f"k{point}", "--resume")})
    results = serve(plan, tmp_path)
    for point, killed, resumed in zip(points, results[::2], results[1::2], strict=True):
        assert killed["code"] == -9, (point, killed)
        assert resumed["code"] == 0, (point, resumed)
        assert weights(tmp_path / f"k{point}") == weights(tmp_path / "alone"), point
        assert not (tmp_path / f"k{point}-training").exists()
        log = [json.loads(line) for line in (tmp_path / f"k{point}" / "log.jsonl").read_text().splitlines()]
        epochs = [row for row in log if row["name"] == "epoch"]
        assert [row["epoch"] for row in epochs] == [1, 2, 3], point
        assert all({"lr", "loss", "images_per_second"} <= row.keys() for row in epochs), point
        assert [row["method"] for row in log if row["name"] == "result"] == ["stage 1"], point
        assert log == sorted(log, key=lambda row: row["time"]), point
    assert sum("going on from" in resumed["said"] for resumed in results[1::2]) > len(points) // 2


def damage(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_interrupted_runs(photos, tmp_path):
    alone = serve([{"flags": flags_for(photos, "alone")}], tmp_path)[0]
    # Killed with the last checkpoint in place: all that follows is the deletion of all three.
    late = alone["seen"] - 3
    serve([{"flags": flags_for(photos, "a"), "kill_at": late}], tmp_path)
    folder = tmp_path / "a-training"
    assert sorted(path.name for path in folder.glob("epoch_*"))[-1] == "epoch_0003"

    beside, other_lr, other_loss, unknown = serve(
        [
            {"flags": flags_for(photos, "a")},
            {"flags": flags_for(photos, "a", "--resume", "--lr", "0.5")},
            {"flags": flags_for(photos, "a", "--resume", "--loss", "balanced-softmax")},
            {"flags": flags_for(photos, "a", "--resume", "--seed", "3", "--weight-decay", "0")},
        ],
        tmp_path,
    )
    assert beside["code"] == 1
    assert "--resume to go on" in beside["said"]
    assert other_lr["code"] == 1
    assert "lr 0.01 -> 0.5" in other_lr["said"]
    assert other_loss["code"] == 1
    assert "loss ce -> balanced-softmax" in other_loss["said"]
    assert "seed 0 -> 3, weight_decay 0.005 -> 0.0" in unknown["said"]

    more = shutil.copytree(photos, tmp_path / "more")
    first = next((more / "train").rglob("*.*"))
    shutil.copy(first, first.with_name(f"0{first.name}"))
    kept = shutil.copytree(folder, tmp_path / "kept")
    shutil.move(photos, tmp_path / "away")
    shutil.move(more, photos)
    try:
        other = serve([{"flags": flags_for(photos, "a", "--resume")}], tmp_path)[0]
    finally:
        shutil.rmtree(photos)
        shutil.move(tmp_path / "away", photos)
    assert (other["code"], "of a run on other training images" in other["said"]) == (1, True), other
    assert sorted(path.name for path in kept.iterdir()) == sorted(path.name for path in folder.iterdir())

    damage(folder / "epoch_0003" / "model.safetensors")
    resumed = serve([{"flags": flags_for(photos, "a", "--resume")}], tmp_path)[0]
    assert resumed["code"] == 0, resumed
    assert "epoch_0003 is damaged" in resumed["said"]
    assert weights(tmp_path / "a") == weights(tmp_path / "alone")


def test_a_full_disk_leaves_the_last_checkpoint(photos, tmp_path):
    alone = serve([{"flags": flags_for(photos, "alone")}], tmp_path)[0]
    half = alone["seen"] // 2
    full = serve([{"flags": flags_for(photos, "b"), "full_at": half}], tmp_path)[0]
    assert full["code"] == 1, full
    assert "Cannot write the checkpoint" in full["said"]
    assert "--resume" in full["said"]
    resumed = serve([{"flags": flags_for(photos, "b", "--resume")}], tmp_path)[0]
    assert resumed["code"] == 0, resumed
    assert "going on from" in resumed["said"]
    assert weights(tmp_path / "b") == weights(tmp_path / "alone")


KEPT = "Nothing is lost: the trained weights are in out-training. To go on from there:"


def resuming(flags, recipe="train.py"):
    """The command that goes on from what a run has kept."""
    return shlex.join(["python", f"recipes/{recipe}", *map(str, flags), "--resume"])


@pytest.fixture(scope="module")
def alone(photos, tmp_path_factory):
    """The weights of a run of train.py that was left alone."""
    folder = tmp_path_factory.mktemp("alone")
    finished = serve([{"flags": flags_for(photos, "out")}], folder)[0]
    assert finished["code"] == 0, finished
    return weights(folder / "out")


def test_trained_weights_outlive_a_disk_that_is_full_at_the_end(photos, alone, tmp_path):
    full, resumed = serve(
        [
            {"flags": flags_for(photos, "out"), "at_output": "full disk"},
            {"flags": flags_for(photos, "out", "--resume")},
        ],
        tmp_path,
    )
    assert (full["code"], resumed["code"]) == (1, 0), (full, resumed)
    message = full["said"].partition("error: ")[2].splitlines()
    assert message[0].startswith(f"Cannot write {tmp_path / 'out'}: ")
    assert message[-2:] == [KEPT, resuming(flags_for(photos, "out"))]
    assert "Traceback" not in full["said"]
    assert "going on from out-training/epoch_0003" in resumed["said"]
    assert "loss" not in resumed["said"]
    assert weights(tmp_path / "out") == alone
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_trained_weights_outlive_another_process_that_fills_the_folder(photos, alone, tmp_path):
    filled, refused = serve(
        [
            {"flags": flags_for(photos, "out"), "at_output": "filled"},
            {"flags": flags_for(photos, "out", "--resume")},
        ],
        tmp_path,
    )
    assert (filled["code"], refused["code"]) == (1, 1)
    assert "out was filled by another process meanwhile; it is left as it is." in filled["said"]
    assert filled["said"].splitlines()[-2:] == [KEPT, resuming(flags_for(photos, "out"))]
    assert "out is not empty" in refused["said"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["theirs.txt"]
    (tmp_path / "out").rename(tmp_path / "theirs")
    resumed = serve([{"flags": flags_for(photos, "out", "--resume")}], tmp_path)[0]
    assert resumed["code"] == 0, resumed
    assert "loss" not in resumed["said"]
    assert weights(tmp_path / "out") == alone


def test_a_run_that_was_to_replace_another_goes_on_to_do_so(photos, tmp_path):
    first, full, without, resumed, finished = serve(
        [
            {"flags": flags_for(photos, "out", "--holdout", "0")},
            {"flags": flags_for(photos, "out", "--holdout", "0", "--overwrite"), "at_output": "full disk"},
            {"flags": flags_for(photos, "out", "--holdout", "0", "--resume")},
            {"flags": flags_for(photos, "out", "--holdout", "0", "--overwrite", "--resume")},
            {"flags": flags_for(photos, "out", "--holdout", "0", "--resume")},
        ],
        tmp_path,
    )
    assert (first["code"], full["code"], without["code"]) == (0, 1, 1), without
    replacing = flags_for(photos, "out", "--holdout", "0", "--overwrite")
    assert full["said"].splitlines()[-2:] == [KEPT, resuming(replacing)]
    # The old output is of the same arguments: taken for this run's, it would cost this one its checkpoints.
    assert "out-training holds an interrupted run that was to replace out" in without["said"]
    assert resumed["code"] == 0, resumed
    assert "going on from out-training/epoch_0003" in resumed["said"]
    assert "loss" not in resumed["said"]
    assert (finished["code"], "nothing to do" in finished["said"]) == (0, True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("trouble", "method"), [("full disk", "auto"), ("filled", "crt")])
def test_a_fitted_head_outlives_an_output_that_cannot_be_written(photos, tmp_path, trouble, method):
    flags = ["--backbone", str(timm_folder(tmp_path / "b")), "--dataset", str(photos), "--num-workers", "0"]
    flags += ["--method", method, "--bootstrap", "0", "--seed", "7", "--output-dir"]
    alone, stopped = serve(
        [
            {"flags": [*flags, "alone"], "recipe": "retrain.py"},
            {"flags": [*flags, "out"], "recipe": "retrain.py", "at_output": trouble},
        ],
        tmp_path,
    )
    assert (alone["code"], stopped["code"]) == (0, 1), stopped
    kept = "Nothing is lost: features and heads are in the cache. To go on from there:"
    assert stopped["said"].splitlines()[-2:] == [kept, resuming([*flags, "out"], "retrain.py")]
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    resumed = serve([{"flags": [*flags, "out", "--resume"], "recipe": "retrain.py"}], tmp_path)[0]
    assert resumed["code"] == 0, resumed
    assert "the head is in the cache, from a run with the same features and settings" in resumed["said"]
    assert weights(tmp_path / "out") == weights(tmp_path / "alone")
    same = []
    for name in ("out", "alone"):
        metrics, run = (
            json.loads((tmp_path / name / f"{file}.json").read_text()) for file in ("metrics", "run")
        )
        same.append([metrics["test"], metrics["baseline"], metrics["selection"], run["head"]])
    assert same[0] == same[1]


@pytest.mark.parametrize("recipe", ["compare.py", "sweep.py"])
def test_results_outlive_an_output_that_cannot_be_written(photos, tmp_path, recipe):
    chosen = {"compare.py": ["--methods", "ce", "lort"], "sweep.py": ["--studies", "delta", "path"]}[recipe]
    flags = [*SMALL, "--dataset", str(photos), *chosen, "--output-dir"]
    plan = [{"flags": [*flags, "out"], "at_output": "filled"}, {"flags": [*flags, "alone"]}]
    stopped, alone = serve([{**step, "recipe": recipe} for step in plan], tmp_path)
    assert (stopped["code"], alone["code"]) == (1, 0), stopped
    kept = "Nothing is lost: the results are in out-unfinished. To go on from there:"
    assert stopped["said"].splitlines()[-2:] == [kept, resuming([*flags, "out"], recipe)]
    shutil.rmtree(tmp_path / "out")
    resumed = serve([{"flags": [*flags, "out", "--resume"], "recipe": recipe}], tmp_path)[0]
    assert resumed["code"] == 0, resumed
    assert resumed["said"].count("done before the interruption") == {"compare.py": 1, "sweep.py": 2}[recipe]
    rows = [without_seconds(rows_of(tmp_path / name)) for name in ("out", "alone")]
    assert rows[0] == rows[1]
    assert not (tmp_path / "out-unfinished").exists()


@pytest.mark.parametrize("recipe", ["train.py", "retrain.py"])
def test_a_disk_that_is_full_from_the_start_ends_a_run_before_any_image_is_decoded(tmp_path, recipe):
    flags = [*SMALL, "--dataset", "digits", "--output-dir", "out"]
    stopped = serve([{"flags": flags, "recipe": recipe, "full_at": 0}], tmp_path)[0]
    assert stopped["code"] == 1, stopped
    assert f"error: Cannot write the model beside {tmp_path / 'out'}: " in stopped["said"]
    assert not {"images:", "features:"} & set(stopped["said"].split())
    assert not list(tmp_path.iterdir())


def test_a_pre_trained_backbone_resumes_too(photos, tmp_path):
    backbone = timm_folder(tmp_path / "backbone")
    flags = ["--backbone", str(backbone), "--dataset", str(photos), "--epochs", "2", "--num-workers", "0"]
    flags += ["--batch-size", "8", "--bootstrap", "0"]
    alone = serve([{"flags": [*flags, "--output-dir", "alone"]}], tmp_path)[0]
    assert alone["code"] == 0, alone
    killed, resumed = serve(
        [
            {"flags": [*flags, "--output-dir", "k"], "kill_at": alone["seen"] // 2 + 2},
            {"flags": [*flags, "--output-dir", "k", "--resume"]},
        ],
        tmp_path,
    )
    assert (killed["code"], resumed["code"]) == (-9, 0)
    assert weights(tmp_path / "k") == weights(tmp_path / "alone")


def test_averages_mixtures_low_rank_updates_and_accumulation_resume_too(photos, tmp_path):
    flags = ["--backbone", "test_vit", "--no-pretrained", "--image-size", "32", "--num-workers", "0"]
    flags += ["--dataset", str(photos), "--epochs", "3", "--batch-size", "4", "--bootstrap", "0"]
    flags += ["--tune", "lora", "--ema-decay", "0.7", "--mixup", "0.4", "--cutmix", "1", "--patience", "3"]
    flags += ["--auto-augment", "rand-m9-mstd0.5-inc1", "--gradient-accumulation-steps", "2"]
    alone, again = serve([{"flags": [*flags, "--output-dir", name]} for name in ("alone", "again")], tmp_path)
    assert (alone["code"], again["code"]) == (0, 0), alone["said"]
    assert weights(tmp_path / "again") == weights(tmp_path / "alone")
    points = [round(alone["seen"] * share) for share in (0.4, 0.75)]
    plan = []
    for point in points:
        plan.append({"flags": [*flags, "--output-dir", f"k{point}"], "kill_at": point})
        plan.append({"flags": [*flags, "--output-dir", f"k{point}", "--resume"]})
    results = serve(plan, tmp_path)
    for point, killed, resumed in zip(points, results[::2], results[1::2], strict=True):
        assert killed["code"] == -9
        assert resumed["code"] == 0, resumed["said"]
        assert "going on from" in resumed["said"]
        assert weights(tmp_path / f"k{point}") == weights(tmp_path / "alone"), point


def test_patience_ends_the_training_and_publishes_the_best_epoch(photos, tmp_path):
    # So small a step changes weights and no prediction: the first epoch is the best for ever.
    flags = ["--backbone", "test_vit", "--no-pretrained", "--image-size", "32", "--num-workers", "0"]
    flags += ["--dataset", str(photos), "--epochs", "9", "--batch-size", "8", "--lr", "1e-7"]
    flags += ["--patience", "3", "--holdout", "0.34", "--seed", "3", "--bootstrap", "0", "--output-dir"]
    alone = serve([{"flags": [*flags, "alone"]}], tmp_path)[0]
    assert alone["code"] == 0, alone
    history = json.loads((tmp_path / "alone" / "metrics.json").read_text())["history"]
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert len({row["held_out_balanced_accuracy"] for row in history}) == 1
    assert "epoch 1 is published, the best of 4" in (tmp_path / "alone" / "README.md").read_text()

    # Killed while it reads the best epoch back, which must be there then; nothing is trained again.
    killed = serve([{"flags": [*flags, "k"], "kill_at": alone["seen"] - 6}], tmp_path)[0]
    assert killed["code"] == -9
    checkpoints = {path.name: path for path in (tmp_path / "k-training").glob("epoch_*")}
    assert sorted(checkpoints) == ["epoch_0001", "epoch_0003", "epoch_0004"]
    wanted, last = (load_file(checkpoints[f"epoch_000{k}"] / "model.safetensors") for k in (1, 4))
    resumed = serve([{"flags": [*flags, "k", "--resume"]}], tmp_path)[0]
    assert resumed["code"] == 0, resumed
    assert "going on from k-training/epoch_0004" in resumed["said"]
    assert "loss" not in resumed["said"]
    published = load_file(tmp_path / "k" / "model.safetensors")
    assert published.keys() == wanted.keys()
    for name in wanted:
        assert published[name].equal(wanted[name])
    assert not published["head.weight"].equal(last["head.weight"])
    assert weights(tmp_path / "k") == weights(tmp_path / "alone")
