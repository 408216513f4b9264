"""The launcher: its flags, and two nodes of it in network namespaces."""

import itertools
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from lort_hub.commands.launch import Launch, take_launch
from lort_hub.errors import ConfigError
from tests.support import ROOT
from tests.support.recipes import SMALL

MAIN = "from lort_hub.commands.main import main; main()"
SUBNETS = (f"10.{os.getpid() % 200 + 20}.{number}" for number in itertools.count())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num-machines", "2"], "needs --main-process-ip, the address of machine 0"),
        (["--num_machines=2", "--main_process_ip=h", "--machine_rank=2"], "expected 0 to 1"),
        (["--machine-rank", "1"], "expected 0 to 0"),
        (["--num-machines", "2", "--main-process-ip", "h", "--num-processes", "3"], "no multiple"),
        (["--num-machines", "0"], "--num-machines is '0', expected a number from 1"),
        (["--main-process-port", "x"], "--main-process-port is 'x', expected a number from 0"),
        (["--seed", "1", "--machine-rank"], "--machine-rank is '', expected a number from 0"),
    ],
)
def test_flags_that_do_not_fit_are_refused(words, message):
    with pytest.raises(ConfigError, match=message) as refused:
        take_launch(words)
    assert len(str(refused.value).splitlines()) <= 3


def test_the_launcher_takes_its_flags_alone():
    words = ["--seed", "1", "--num-processes=4", "--num_machines", "2", "--main-process-ip", "h", "--json"]
    assert take_launch(words) == (Launch(4, 2, 0, "h"), ["--seed", "1", "--json"])
    assert take_launch([]) == (Launch(), [])


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, timeout=20)


@pytest.fixture
def nodes():
    """Two network namespaces that are connected, by (name, address, interface)."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and ip")
    subnet = next(SUBNETS)
    names = [f"lort{os.getpid()}{end}" for end in "ab"]
    pairs = [(name, f"{subnet}.{number}", f"v{name}") for number, name in enumerate(names, start=1)]
    with ExitStack() as stack:
        for name in names:
            if ip("netns", "add", name).returncode:
                pytest.skip("network namespaces are not permitted here")
            stack.callback(ip, "netns", "del", name)
        link = ["link", "add", pairs[0][2], "netns", names[0], "type", "veth"]
        if ip(*link, "peer", "name", pairs[1][2], "netns", names[1]).returncode:
            pytest.skip("virtual links are not permitted here")
        for name, address, interface in pairs:
            ip("-n", name, "address", "add", f"{address}/24", "dev", interface)
            ip("-n", name, "link", "set", interface, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield pairs


def start(nodes, rank, folder, *words):
    """Start a command on one of the nodes, in a folder and with a cache of its own."""
    name, _, interface = nodes[rank]
    folder.mkdir()
    meeting = ["--machine-rank", str(rank), "--main-process-ip", nodes[0][1]]
    command = ["ip", "netns", "exec", name, sys.executable, "-c", MAIN, *(str(word) for word in words)]
    own = {"LORT_HUB_CACHE": str(folder / "cache"), "GLOO_SOCKET_IFNAME": interface}
    own |= {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    with (folder / "said").open("w") as said:
        return subprocess.Popen(
            [*command, "--num-machines", "2", "--num-processes", "2", *meeting],
            stdout=said,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **own},
        )


def kill_node(name):
    for process in ip("netns", "pids", name).stdout.split():
        os.kill(int(process), 9)


def wait_for(text, file, seconds=100):
    end = time.monotonic() + seconds
    while text not in file.read_text():
        assert time.monotonic() < end, file.read_text()
        time.sleep(0.1)


def test_nodes_train_together_and_notice_who_is_killed(nodes, photos, tmp_path):
    """The second starts late, and is killed in the midst of an epoch."""
    flags = ("train", *SMALL, "--dataset", photos, "--batch-size", "4", "--bootstrap", "0", "--epochs", "40")
    first, second = tmp_path / "first", tmp_path / "second"
    running = [start(nodes, 0, first, *flags)]
    time.sleep(1)
    running.append(start(nodes, 1, second, *flags))
    try:
        wait_for("epoch 2, loss", first / "said")
        kill_node(nodes[1][0])
        killed = time.monotonic()
        assert running[0].wait(60) == 1
        assert time.monotonic() - killed < 20
        said = (first / "said").read_text()
        assert said.count("error: Another process of this run has ended: ") == 1
        assert said.endswith("run the same command again: what was finished is kept. Add --resume to it.\n")
        assert "Traceback" not in said
        assert running[1].wait(20) == -9
        assert (first / "out-training").is_dir()
        assert not (first / "out").exists()
        assert not (second / "out-training").exists()
    finally:
        for name, *_ in nodes:
            kill_node(name)
