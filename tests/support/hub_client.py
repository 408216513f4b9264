"""Users of one Hub: forks of a warm process that was started for it, as HF_ENDPOINT is read at import."""

import json
import os
import subprocess
import sys
from pathlib import Path

from huggingface_hub import constants

from tests.support import ROOT

SERVER = """
import json, os, signal, sys, traceback
import lort_hub.data.dataset, lort_hub.hub.output, lort_hub.hub.upload, timm, torch, transformers
torch.set_num_threads(1)
def child(job, said):
    signal.alarm(120)
    os.dup2(said.fileno(), 1)
    os.dup2(said.fileno(), 2)
    sys.stdin = open(os.devnull)
    os.environ.update(job["environment"])
    sys.argv = ["recipe", *job["argv"]]
    code = 0
    try:
        exec(compile(job["code"], "<statements>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else bool(end.code)
        if isinstance(end.code, str):
            print(end.code)
    except BaseException:
        traceback.print_exc()
        code = 3
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    job = json.loads(line)
    with open(job["said"], "w") as said:
        pid = os.fork()
        if pid == 0:
            child(job, said)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Client:
    """Processes that know one Hub and one cache."""

    def __init__(self, endpoint, home, **environment):
        self.said = Path(home) / "said.txt"
        environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), **environment}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, "PYTHONPATH": str(ROOT)},
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def run(self, code, *argv, **environment):
        """Run statements in a fork; its exit code (3 for an exception) and all it said."""
        job = {"code": code, "argv": [str(word) for word in argv], "said": str(self.said)}
        self.process.stdin.write(json.dumps({**job, "environment": environment}) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()), self.said.read_text()

    def recipe(self, name, *flags, **environment):
        path = str(ROOT / "recipes" / name)
        start = f"import runpy, sys; sys.argv[0] = {path!r}; runpy.run_path({path!r}, run_name='__main__')"
        return self.run(start, *flags, **environment)


def point_to(hub, cache, patch):
    """Have huggingface_hub, in this process, know one Hub and one cache alone."""
    patch.setattr(constants, "ENDPOINT", hub.endpoint)
    patch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
