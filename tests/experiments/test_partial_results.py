import multiprocessing
from dataclasses import replace

import numpy as np
import pytest

from lort_hub.backbones.load import load_backbone
from lort_hub.data.load import load_long_tailed
from lort_hub.errors import CheckpointError
from lort_hub.experiments.partial_results import SeedResults, checksums, partial_folder
from tests.support.rows import row_of


def test_seeds_of_other_features_and_damaged_files_are_not_gone_on_with(tmp_path):
    labels = np.arange(3)
    results = SeedResults(["one"], [row_of(few=None)], {"ce": labels == 0}, labels, {})
    results.save(tmp_path / "0-0.npz")
    found = SeedResults.load(tmp_path / "0-0.npz", ["one"])
    assert (found.rows, found.right["ce"].tolist()) == (results.rows, [True, False, False])
    assert SeedResults.load(tmp_path / "0-0.npz", ["other"]) is None
    whole = (tmp_path / "0-0.npz").read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (tmp_path / "1-0.npz").write_bytes(damaged)
        read = SeedResults.load(tmp_path / "1-0.npz", ["one"])
        assert read is None or read.rows == results.rows
    (tmp_path / "1-0.npz").write_bytes(b"")
    assert SeedResults.load(tmp_path / "1-0.npz", ["one"]) is None


def test_seeds_are_made_from_the_groups_of_the_images_as_well():
    """An edit of the file of groups changes the folds, and with them every chosen setting."""
    backbone, data = load_backbone("test_resnet", pretrained=False, image_size=32), load_long_tailed("digits")
    first = checksums(backbone, data)
    assert checksums(backbone, data) == first
    groups = np.arange(len(data.train)) // 2
    other = checksums(backbone, replace(data, train=replace(data.train, groups=groups)))
    assert (other[:3], other[3] == first[3]) == (first[:3], False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_not_taken_for_finished_seeds(tmp_path, overwrite):
    (tmp_path / "out-unfinished").mkdir()
    (tmp_path / "out-unfinished" / "thesis.tex").write_text("mine")
    with pytest.raises(CheckpointError, match="not lort_hub's .thesis.tex"):
        partial_folder(tmp_path / "out", {"overwrite": overwrite, "resume": False})
    assert (tmp_path / "out-unfinished" / "thesis.tex").read_text() == "mine"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_runs_never_write_the_same_seeds(tmp_path):
    def start(resume):
        with pytest.raises(CheckpointError, match=r"Another run is writing .*out\.\nWait for its end"):
            partial_folder(tmp_path / "out", {"overwrite": not resume, "resume": resume})

    partial_folder(tmp_path / "out", {"overwrite": False, "resume": False})
    for resume in (True, False):
        process = multiprocessing.get_context("fork").Process(target=start, args=(resume,))
        process.start()
        process.join()
        assert process.exitcode == 0
