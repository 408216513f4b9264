"""Isolation: no network but loopback, caches in a temporary folder, one thread."""

import atexit
import os
import shutil
import signal
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path

from tests.support import ROOT

_CACHE = tempfile.mkdtemp(prefix="lort_hub_tests_")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ.update(
    HF_HOME=_CACHE,
    LORT_HUB_CACHE=f"{_CACHE}/lort_hub",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
)
for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
    os.environ.pop(name, None)

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from tests.support.images import noise_image  # noqa: E402
from tests.support.models import timm_folder, transformers_folder  # noqa: E402
from tests.support.outputs import write_digits_output  # noqa: E402
from tests.support.pretend_gpu import pretend_gpu  # noqa: E402

torch.set_num_threads(1)
# A busy machine is no reason to fail.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in its background


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch):
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise OSError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def test_data():
    """The folder of real data and weights, where there is one."""
    folder = Path(os.environ.get("LORT_TEST_DATA", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no test data in {folder}; set LORT_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """An imagefolder of two splits and three classes of 9, 6 and 3 training images."""
    folder = tmp_path_factory.mktemp("photos")
    for start, (split, counts) in enumerate({"train": (9, 6, 3), "test": (4, 4, 4)}.items()):
        for label, (name, count) in enumerate(zip(("ant", "bee", "cat"), counts, strict=True)):
            (folder / split / name).mkdir(parents=True)
            for k in range(count):  # the seed modulo 7 sets the brightness, by which classes differ
                noise_image(7 * (1000 * start + 100 * label + k) + 3 * label).save(
                    folder / split / name / f"{k}.png"
                )
    return folder


@pytest.fixture(scope="session")
def outputs(tmp_path_factory):
    """Output folders of a head for the digits on noise, by the backbone's library; only to be read."""
    folder = tmp_path_factory.mktemp("outputs")
    made = {"timm": timm_folder(folder / "t"), "transformers": transformers_folder(folder / "v")}
    return {name: write_digits_output(folder / f"out-{name}", made[name]) for name in made}


@contextmanager
def _a_device(kind, monkeypatch):
    if kind == "real GPU" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    if kind == "pretended GPU":
        monkeypatch.setattr("lort_hub.features.matrix.free_memory", lambda _: 2**30)
        with pretend_gpu() as device:
            yield device
    else:
        yield torch.device("cuda", 0) if kind == "real GPU" else torch.device("cpu")


@pytest.fixture(params=["pretended GPU", "real GPU"])
def gpu(request, monkeypatch):
    """A GPU: one that only says so, and refuses to mix tensors, and a real one where there is one."""
    with _a_device(request.param, monkeypatch) as device:
        yield device


@pytest.fixture(params=["CPU", "pretended GPU", "real GPU"])
def device(request, monkeypatch):
    """Where to compute: on the CPU, and on each `gpu`."""
    with _a_device(request.param, monkeypatch) as device:
        yield device
