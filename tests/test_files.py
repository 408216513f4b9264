import errno
import hashlib
import itertools
import multiprocessing
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import lort_hub.commands.runtime
from lort_hub.backbones.load import load_backbone
from lort_hub.backbones.save import save_model
from lort_hub.commands.output_dir import check_output_dir
from lort_hub.errors import CheckpointError
from lort_hub.features.store import FeatureStore
from lort_hub.files import atomic_folder, cache_folder, cache_path, sha256
from tests.support.files import content_of, fill

FORK = multiprocessing.get_context("fork")
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

OLD = {"run.json": "{}", "a.txt": "old a", "sub/b.txt": "old b"}
NEW = {"run.json": "{}", "a.txt": "new a", "sub/c.txt": "new c", "sub/deep/d.txt": "new d"}
FILE_OPERATIONS = {"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "shutil.rmtree"}


def publish(folder, content, **options):
    with atomic_folder(folder, **options) as staged:
        fill(staged, content)


def exit_code(work):
    """Exit code of `work` in a process of its own; 3 for a CheckpointError, 4 for what nobody caught."""
    child, code = os.fork(), 4
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        work()
        code = 0
    except CheckpointError:
        code = 3
    except SystemExit as stop:
        code = stop.code
    finally:
        os._exit(code)


def killed_before(operation, work):
    """Whether `work`, in a process that is killed before its n-th file operation, came that far."""
    left = itertools.count(operation, -1)

    def count(event, _):
        if event in FILE_OPERATIONS and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return {0: False, -signal.SIGKILL: True}[exit_code(lambda: (sys.addaudithook(count), work()))]


@pytest.mark.parametrize("old", [OLD, None], ids=["overwrite", "fresh"])
def test_killed_at_any_file_operation_the_folder_is_whole(tmp_path, old):
    seen = []
    for operation in itertools.count():
        folder = tmp_path / str(operation) / "out"
        if old:
            fill(folder, old)
        killed = killed_before(operation, lambda folder=folder: publish(folder, NEW, overwrite=bool(old)))
        check_output_dir(folder, overwrite=True)
        found = content_of(folder) if folder.exists() else None
        assert found in (old, NEW), operation
        seen.append(found)
        if found == NEW:
            shutil.rmtree(folder)  # by the user's own hand: no half-deleted old folder may come back
            check_output_dir(folder, overwrite=True)
            assert not folder.exists() or content_of(folder) == old
        publish(folder, {"run.json": "after the crash"}, overwrite=True)
        assert content_of(folder) == {"run.json": "after the crash"}
        assert not list(folder.parent.glob("*.replaced"))
        if not killed:
            assert [path.name for path in folder.parent.iterdir()] == ["out"]
            break
    assert seen == sorted(seen, key=lambda found: found == NEW)  # old until it is new, never back
    assert min(seen.count(old), seen.count(NEW)) >= 2


@pytest.mark.parametrize("overwrite", [False, True])
def test_of_two_processes_one_wins_and_its_content_is_whole(tmp_path, overwrite):
    for attempt in range(6):
        folder, together = tmp_path / str(attempt) / "out", FORK.Barrier(2)
        folder.parent.mkdir()
        if overwrite:
            fill(folder, OLD)
        contents = [{name: f"{text} of {k}" for name, text in NEW.items()} for k in range(2)]

        def write(k, folder=folder, together=together, contents=contents):
            with atomic_folder(folder, overwrite=overwrite) as staged:
                fill(staged, contents[k])
                together.wait(30)

        children = [FORK.Process(target=lambda k=k: os._exit(exit_code(lambda: write(k)))) for k in range(2)]
        for call in (FORK.Process.start, FORK.Process.join):
            list(map(call, children))
        codes = [child.exitcode for child in children]
        assert codes in ([[0, 3], [3, 0], [0, 0]] if overwrite else [[0, 3], [3, 0]])
        assert content_of(folder) in [contents[k] for k in range(2) if codes[k] == 0]
        assert [path.name for path in folder.parent.iterdir() if ".tmp" in path.name] == []


@pytest.mark.parametrize("before", [OLD, {}], ids=["overwrite", "fresh"])
def test_an_error_inside_leaves_nothing(tmp_path, before):
    fill(tmp_path / "out", before)
    with pytest.raises(TypeError):
        publish(tmp_path / "out", {**NEW, "last": 1}, overwrite=bool(before))
    assert content_of(tmp_path) == {f"out/{name}": text for name, text in before.items()}


def test_files_are_for_those_for_whom_the_folder_is(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_folder(tmp_path / "out") as staged:
            save_file({"weight": torch.zeros(2)}, staged / "model.safetensors")
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "out", tmp_path / "out/model.safetensors")]
    assert [f"{mode:o}" for mode in modes] == ["750", "640"]


def test_folders_are_written_where_modes_cannot_be_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        os, "chmod", lambda *_, **__: (_ for _ in ()).throw(PermissionError(errno.EPERM, "no"))
    )
    with atomic_folder(tmp_path / "out") as staged:
        (staged / "run.json").write_text("{}")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run.json"]


def test_a_cache_without_a_name_is_the_usual_one(monkeypatch):
    monkeypatch.setenv("LORT_HUB_CACHE", "")
    assert cache_path("features") == Path("~/.cache/lort_hub/features").expanduser()


@pytest.mark.parametrize("place", ["file/cache", "/proc/nowhere"])
def test_a_cache_that_cannot_be_made_names_the_variable(tmp_path, monkeypatch, place):  # x8, x9, x9b
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LORT_HUB_CACHE", str(tmp_path / place))
    with pytest.raises(CheckpointError, match=f"Cannot write .*{place}(.|\n)*LORT_HUB_CACHE"):
        cache_folder("features")


@pytest.mark.parametrize("folder", ["/proc/out", "/proc/one/two/out"])
def test_a_folder_where_none_can_be_made_is_refused_before_any_compute(folder):
    with pytest.raises(CheckpointError, match="cannot be made: .* in /proc.\nName another folder"):
        check_output_dir(Path(folder), overwrite=False)


def test_leftover_of_a_process_of_the_same_number_is_no_obstacle(tmp_path):
    fill(tmp_path / f".out.{os.getpid()}.tmp", OLD)
    publish(tmp_path / "out", NEW)
    assert content_of(tmp_path) == {f"out/{name}": text for name, text in NEW.items()}


@pytest.mark.parametrize("overwrite", [False, True])
def test_symbolic_link_is_followed(tmp_path, overwrite):
    target, link = tmp_path / "disk" / "target", tmp_path / "link"
    target.mkdir(parents=True)
    fill(target, OLD if overwrite else {})
    link.symlink_to(target)
    check_output_dir(link, overwrite=overwrite)
    publish(link, NEW, overwrite=overwrite)
    assert link.is_symlink()
    assert content_of(target) == NEW
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def full_disk(kind, folder):
    """Write where there is no room: on /dev/full, or beyond a file size limit, both by the real kernel."""
    if kind == "device":
        with atomic_folder(folder) as staged:
            (staged / "metrics.json").symlink_to("/dev/full")
            (staged / "metrics.json").write_text("{}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    if kind == "features":
        store = FeatureStore.create(folder, {}, num_samples=2)
        store.save_part("eval", 0, torch.zeros(2, 9000), torch.zeros(2), torch.zeros(2), skipped=[])
    backbone = load_backbone("test_resnet", pretrained=False)
    with atomic_folder(folder) as staged:
        head = torch.randn(3, backbone.num_features), torch.randn(3)
        save_model(backbone, *head, ["ant", "bee", "cat"], staged)


@pytest.mark.parametrize("kind", ["device", "features", "model"])
def test_full_disk_is_one_message_and_leaves_nothing(tmp_path, kind):
    def work():
        with (tmp_path / "stderr").open("w") as sys.stderr:
            lort_hub.commands.runtime.run(lambda: full_disk(kind, tmp_path / "out"))

    assert exit_code(work) == 1
    message = (tmp_path / "stderr").read_text().splitlines()
    assert message[0].startswith("error: Cannot write ")
    assert len(message) == 2
    left = {path.name for path in tmp_path.rglob("*") if not path.is_dir()}
    assert left == ({"stderr", "store.json"} if kind == "features" else {"stderr"})


@given(st.binary(max_size=64), st.integers(0, 3))
@settings(max_examples=20)
def test_sha256_is_of_the_whole_file(tmp_path_factory, content, times):
    file = tmp_path_factory.mktemp("file") / "content"
    file.write_bytes(content + bytes(times << 19))
    assert sha256(file) == hashlib.sha256(content + bytes(times << 19)).hexdigest()
