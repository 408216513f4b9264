"""Two nodes that share no files: each works in a folder of its own, with a cache of its own."""

import json
import platform
import shutil

import pytest
from safetensors.torch import load_file

from tests.support.models import timm_folder
from tests.support.recipes import SMALL, retrain, run, run_on_nodes

PARTS = "import lort_hub.features.store; lort_hub.features.store.PART_SIZE = {}"
DIE = """
import {module} as module, os
function, calls = module.{name}, []
def dies(*args, **options):
    calls.append(1)
    if len(calls) == {at}:
        os.kill(os.getpid(), 9)
    return function(*args, **options)
module.{name} = dies
"""
"""Statements after which the process is killed when it calls a function for the nth time."""


@pytest.fixture
def nodes(tmp_path):
    return [tmp_path / "first", tmp_path / "second"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A classifier of digits."""
    folder = tmp_path_factory.mktemp("model")
    flags = ("--backbone", timm_folder(folder / "b"), "--dataset", "digits", "--num-workers", "0")
    made = retrain(*flags, "--method", "ncm", "--bootstrap", "0", cwd=folder, cache=folder / "cache")
    assert made.returncode == 0, made.stderr
    return folder / "out"


def succeeded(finished):
    assert [done.returncode for done in finished] == [0, 0], finished
    return finished


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_they_find_the_head_of_one_and_keep_it_on_the_first(model, nodes, tmp_path):
    flags = ("--backbone", model, "--dataset", "digits", "--num-workers", "0", "--method", "lort")
    flags = (*flags, "--bootstrap", "0", "--output-dir", "out")
    before = PARTS.format(75)
    one = retrain(*flags, cwd=tmp_path, cache=tmp_path / "cache", before=before)
    assert one.returncode == 0, one.stderr
    succeeded(run_on_nodes(nodes, "retrain.py", *flags, before=(before, before)))
    alone, together = (load_file(folder / "out" / "model.safetensors") for folder in (tmp_path, nodes[0]))
    for name, tensor in alone.items():
        assert (together[name] - tensor).abs().max() <= 1e-5 * tensor.abs().max(), name
    parts = [len(list(node.rglob("eval-*.safetensors"))) for node in nodes]
    assert parts == [3 + 7, 4 + 4]  # its share of 7 training parts; all test parts, and its share of them
    assert {name.split("/")[0] for name in files(nodes[1])} == {"cache"}
    again = succeeded(run_on_nodes(nodes, "retrain.py", *flags, "--overwrite", before=(before, before)))
    assert all("the head is in the cache" in done.stdout for done in again)


def test_they_compare_and_evaluate_as_one(photos, model, nodes, tmp_path):
    before = (PARTS.format(4),) * 2
    flags = ("compare.py", *SMALL, "--dataset", photos, "--methods", "ncm", "--output-dir", "table")
    compared = succeeded(run_on_nodes(nodes, *flags, "--seeds", "2", before=before))
    assert ["Wrote table" in done.stdout for done in compared] == [True, False]
    finished = succeeded(run_on_nodes(nodes, *flags, "--seeds", "2", "--resume"))
    assert "table is finished; nothing to do." in finished[0].stdout
    tested = ("evaluate.py", "--models", model, "--dataset", "digits", "--output-dir", "e")
    one = run(*tested, cwd=tmp_path, cache=tmp_path / "cache")
    assert one.returncode == 0, one.stderr
    succeeded(run_on_nodes(nodes, *tested, before=(PARTS.format(75),) * 2))
    alone, together = (json.loads((at / "e" / "metrics.json").read_text()) for at in (tmp_path, nodes[0]))
    nll, expected = (record["models"][str(model)]["test"]["nll"] for record in (together, alone))
    assert nll == pytest.approx(expected, abs=1e-5)  # of other batches, whose float32 sums round otherwise
    assert {name.split("/")[0] for name in files(nodes[1])} == {"cache"}


def test_a_training_goes_on_after_a_node_died_though_it_sees_no_checkpoint(photos, nodes, tmp_path):
    flags = ("train.py", *SMALL, "--dataset", photos, "--epochs", "4", "--batch-size", "4")
    flags = (*flags, "--bootstrap", "0", "--output-dir", "out")
    alone = [tmp_path / "other", tmp_path / "others"]
    succeeded(run_on_nodes(alone, *flags))
    dies = DIE.format(module="torch.nn.functional", name="cross_entropy", at=6)
    first, second = run_on_nodes(nodes, *flags, before=("pass", dies))
    assert (first.returncode, second.returncode) == (1, -9), first
    assert first.stderr.startswith("error: Another process of this run has ended: ")
    assert first.stderr.endswith(
        "run the same command again: what was finished is kept. Add --resume to it.\n"
    )
    assert (nodes[0] / "out-training" / "epoch_0001").is_dir()
    assert files(nodes[1]) == set()
    resumed = succeeded(run_on_nodes(nodes, *flags, "--resume"))
    assert all("going on from out-training/epoch_000" in done.stdout for done in resumed)
    weights = [(folder / "out" / "model.safetensors").read_bytes() for folder in (alone[0], nodes[0])]
    assert weights[0] == weights[1]
    assert files(nodes[1]) == set()
    assert not (nodes[0] / "out-training").exists()


def test_a_prediction_goes_on_after_a_node_died_and_leaves_nothing_on_the_others(model, nodes, tmp_path):
    flags = ("predict.py", model, "digits", "--split", "test", "--num-workers", "0", "--output", "p.csv")
    assert run(*flags, cwd=tmp_path).returncode == 0
    dies = DIE.format(module="lort_hub.files", name="write_atomically", at=3)
    dies += "import lort_hub.classifiers.prediction_parts as parts; parts.write_atomically = dies"
    first, second = run_on_nodes(nodes, *flags, before=("pass", dies))
    assert (first.returncode, second.returncode) == (1, -9), first
    assert "Add --resume to it." in first.stderr
    assert [len(list((node / "p.csv.parts").glob("0*.parquet"))) for node in nodes] == [4, 1]
    succeeded(run_on_nodes(nodes, *flags, "--resume"))
    assert (nodes[0] / "p.csv").read_text() == (tmp_path / "p.csv").read_text()
    assert (files(nodes[0]), files(nodes[1])) == ({"p.csv"}, set())


@pytest.mark.parametrize("recipe", ["retrain.py", "train.py", "predict.py"])
@pytest.mark.parametrize("lacks", ["one image", "all"])
def test_nodes_with_other_images_are_refused_by_name(photos, model, nodes, recipe, lacks):
    for node in nodes:
        shutil.copytree(photos, node / "photos")
    shutil.rmtree(nodes[1] / "photos") if lacks == "all" else (nodes[1] / "photos/train/cat/2.png").unlink()
    flags = (*SMALL, "--dataset", "./photos", "--output-dir", "out")
    if recipe == "predict.py":
        flags = (model, "./photos", "--num-workers", "0")
    for stopped in run_on_nodes(nodes, recipe, *flags):
        assert stopped.returncode == 1
        assert len(stopped.stderr.splitlines()) <= 3
        assert f"node 1 ({platform.node()}): " in stopped.stderr or f" on node 1 ({platform.node()}). " in (
            stopped.stderr.replace("\n", " ")
        )
        expected = "No folder './photos'" if lacks == "all" else "do not "
        assert expected in stopped.stderr
    assert not any((node / "out").exists() for node in nodes)


def test_a_backbone_that_differs_on_a_node_is_refused_by_name(nodes):
    for seed, node in enumerate(nodes):
        node.mkdir()
        timm_folder(node / "b", seed=seed)
    flags = ("--backbone", "./b", "--dataset", "digits", "--num-workers", "0", "--output-dir", "out")
    for stopped in run_on_nodes(nodes, "retrain.py", *flags):
        assert stopped.returncode == 1
        assert "do not extract the same features: backbone on node 0" in stopped.stderr
