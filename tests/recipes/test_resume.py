"""Stage 1 killed anywhere and started again ends with the weights of a run that was left alone."""

import json

from safetensors.torch import load_file

from tests.support.models import timm_folder
from tests.support.recipes import SMALL, serve


def flags_for(photos, out, *more):
    common = ("--dataset", str(photos), "--epochs", "3", "--batch-size", "8", "--bootstrap", "0")
    return [*SMALL, *common, "--output-dir", out, *more]


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_killed_at_any_file_operation_it_goes_on_to_the_same_weights(photos, tmp_path):
    alone = serve([{"flags": flags_for(photos, "alone")}], tmp_path)[0]
    assert alone["code"] == 0, alone
    points = range(1, alone["seen"] + 1, max(1, alone["seen"] // 9))
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

    beside, other_lr, unknown = serve(
        [
            {"flags": flags_for(photos, "a")},
            {"flags": flags_for(photos, "a", "--resume", "--lr", "0.5")},
            {"flags": flags_for(photos, "a", "--resume", "--seed", "3", "--weight-decay", "0")},
        ],
        tmp_path,
    )
    assert beside["code"] == 1
    assert "--resume to go on" in beside["said"]
    assert other_lr["code"] == 1
    assert "lr 0.01 -> 0.5" in other_lr["said"]
    assert "seed 0 -> 3, weight_decay 0.005 -> 0.0" in unknown["said"]

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
