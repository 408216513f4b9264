import json
import multiprocessing
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from lort_hub.errors import CheckpointError
from lort_hub.training.checkpoints import (
    best_epoch,
    load_epoch,
    remove_finished,
    resume_from,
    save_epoch,
    start_checkpoints,
    training_folder,
)


def trained_with_dropout(accelerator):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2))
    return accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


def epoch_of(model, optimizer):
    for _ in range(3):
        model(torch.randn(5, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_random_states_and_momentum_are_part_of_a_checkpoint(tmp_path):
    accelerator = Accelerator(cpu=True)
    model, optimizer = trained_with_dropout(accelerator)
    epoch_of(model, optimizer)
    save_epoch(accelerator, tmp_path, arguments={"lr": 0.1}, history=[{"epoch": 1}])
    epoch_of(model, optimizer)
    accelerator = Accelerator(cpu=True)
    again, optimizer = trained_with_dropout(accelerator)
    _, history = resume_from(accelerator, tmp_path, arguments={"lr": 0.1})
    epoch_of(again, optimizer)
    assert history == [{"epoch": 1}]
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert one.equal(other)


@pytest.mark.parametrize("victim", ["random_states_0.pkl", "optimizer.bin", "MANIFEST.json"])
def test_a_checkpoint_that_lacks_anything_is_passed_over(tmp_path, victim, capsys):
    accelerator = Accelerator(cpu=True)
    trained_with_dropout(accelerator)
    for epochs in (1, 2, 3):
        save_epoch(accelerator, tmp_path, arguments={}, history=[{"epoch": k} for k in range(epochs)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch_0002", "epoch_0003"]
    (tmp_path / "epoch_0003" / victim).unlink()
    checkpoint, history = resume_from(accelerator, tmp_path, arguments={})
    assert (checkpoint.name, len(history)) == ("epoch_0002", 2)
    assert "epoch_0003 is damaged" in capsys.readouterr().out


def test_another_number_of_processes_is_refused(tmp_path):
    accelerator = Accelerator(cpu=True)
    trained_with_dropout(accelerator)
    checkpoint = save_epoch(accelerator, tmp_path, arguments={}, history=[{"epoch": 1}])
    manifest = json.loads((checkpoint / "MANIFEST.json").read_text())
    for process in range(2):
        manifest["files"][f"random_states_{process}.pkl"] = manifest["files"]["random_states_0.pkl"]
    content = (checkpoint / "random_states_0.pkl").read_bytes()
    (checkpoint / "random_states_1.pkl").write_bytes(content)
    (checkpoint / "MANIFEST.json").write_text(json.dumps({**manifest, "processes": 2}))
    with pytest.raises(CheckpointError, match="of 2 processes, got 1"):
        resume_from(accelerator, tmp_path, arguments={})


def scored(*scores):
    return [{"epoch": k + 1, "held_out_balanced_accuracy": score} for k, score in enumerate(scores)]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20))
def test_the_best_epoch_is_the_first_that_nothing_beats(scores):
    best = best_epoch(scored(*scores))
    assert all(score < scores[best - 1] for score in scores[: best - 1])
    assert all(score <= scores[best - 1] for score in scores[best - 1 :])


def test_without_held_out_images_the_last_epoch_is_the_best():
    assert best_epoch([{"epoch": k} for k in range(1, 4)]) == 3


def test_the_best_epoch_stays_until_there_is_a_better_one(tmp_path):
    accelerator = Accelerator(cpu=True)
    model, _ = trained_with_dropout(accelerator)
    scores, kept, weights = (0.3, 0.5, 0.4, 0.5, 0.2, 0.6, 0.1, 0.1), [], {}
    for epoch in range(1, 9):
        torch.nn.init.normal_(model[0].weight)
        weights[epoch] = model[0].weight.detach().clone()
        save_epoch(accelerator, tmp_path, arguments={}, history=scored(*scores[:epoch]))
        kept.append([int(path.name[-4:]) for path in sorted(tmp_path.iterdir())])
    assert kept == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5], [5, 6], [6, 7], [6, 7, 8]]
    load_epoch(accelerator, tmp_path, 6)
    assert model[0].weight.equal(weights[6])
    torch.nn.init.zeros_(model[0].weight)
    checkpoint, history = resume_from(accelerator, tmp_path, arguments={})
    assert (checkpoint.name, history) == ("epoch_0008", scored(*scores))
    assert model[0].weight.equal(weights[8])


def test_a_damaged_best_epoch_is_not_published(tmp_path):
    accelerator = Accelerator(cpu=True)
    trained_with_dropout(accelerator)
    for scores in ((0.5,), (0.5, 0.4), (0.5, 0.4, 0.3)):
        save_epoch(accelerator, tmp_path, arguments={}, history=scored(*scores))
    with (tmp_path / "epoch_0001" / "model.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(CheckpointError, match="epoch_0001, the best epoch(.|\n)*damaged"):
        load_epoch(accelerator, tmp_path, 1)
    with pytest.raises(CheckpointError, match="epoch_0002(.|\n)*damaged"):
        load_epoch(accelerator, tmp_path / "other", 2)


def test_averaged_weights_are_part_of_a_checkpoint(tmp_path):
    accelerator = Accelerator(cpu=True)
    trained_with_dropout(accelerator)
    average = accelerator.prepare_model(torch.nn.Linear(4, 2), evaluation_mode=True)
    wanted = average.weight.detach().clone()
    save_epoch(accelerator, tmp_path, arguments={}, history=scored(0.5))
    torch.nn.init.zeros_(average.weight)
    resume_from(accelerator, tmp_path, arguments={})
    assert average.weight.equal(wanted)


def test_a_half_written_checkpoint_is_cleared_away(tmp_path):
    accelerator = Accelerator(cpu=True)
    trained_with_dropout(accelerator)
    (tmp_path / ".epoch_0001.tmp").mkdir()
    (tmp_path / "epoch_0001").mkdir()  # has no manifest
    (tmp_path / "epoch_0001" / "model.safetensors").write_bytes(b"half")
    assert resume_from(accelerator, tmp_path, arguments={}) == (None, [])
    save_epoch(accelerator, tmp_path, arguments={}, history=scored(0.5))
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_0001"]
    assert resume_from(accelerator, tmp_path, arguments={})[1] == scored(0.5)


def test_checkpoints_lie_beside_the_output():
    assert training_folder(Path("a/b.c")) == Path("a/b.c-training")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_runs_never_write_the_same_checkpoints(tmp_path):
    def start():
        with pytest.raises(CheckpointError, match=r"Another run is writing .*out\.\nWait for its end"):
            start_checkpoints(tmp_path / "out-training", tmp_path / "out")

    start_checkpoints(tmp_path / "out-training", tmp_path / "out")
    process = multiprocessing.get_context("fork").Process(target=start)
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_finished_output_does_not_let_others_delete_what_a_run_is_writing(tmp_path):
    folder, output = tmp_path / "out-training", tmp_path / "out"
    output.mkdir()
    (output / "run.json").write_text("{}")
    start_checkpoints(folder, output)

    def clear():
        with pytest.raises(CheckpointError, match="Another run is writing"):
            remove_finished(folder, output)

    process = multiprocessing.get_context("fork").Process(target=clear)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert folder.is_dir()


def test_other_training_images_are_refused_and_older_checkpoints_are_not(tmp_path):
    accelerator = Accelerator(cpu=True)
    trained_with_dropout(accelerator)
    save_epoch(accelerator, tmp_path, arguments={"lr": 0.1}, history=scored(0.5))
    assert resume_from(accelerator, tmp_path, arguments={"lr": 0.1, "images": "f00"})[1] == scored(0.5)
    save_epoch(accelerator, tmp_path, arguments={"lr": 0.1, "images": "f00"}, history=scored(0.5, 0.6))
    assert resume_from(accelerator, tmp_path, arguments={"lr": 0.1, "images": "f00"})[0]
    with pytest.raises(CheckpointError, match="on other training images: the files are not"):
        resume_from(accelerator, tmp_path, arguments={"lr": 0.1, "images": "bad"})
