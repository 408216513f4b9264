"""Users of one loopback Hub: forks that find its address in HF_ENDPOINT, or this process."""

from huggingface_hub import constants

from tests.support import ROOT
from tests.support.fork_server import run_forks
from tests.support.recipes import RUN_PATH


class Client:
    """Processes that know one Hub and one cache."""

    def __init__(self, endpoint, home, **environment):
        self.home, self.environment = home, {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), **environment}

    def fork(self, code, *argv, program="-c", merged=False, **environment):
        """Run statements in a fork."""
        job = {"code": code, "argv": [program, *argv], "merged": merged}
        return run_forks({**job, "environment": {**self.environment, **environment}})[0]

    def run(self, code, *argv, **options):
        """Run statements in a fork; its exit code (3 for an exception) and all it said."""
        done = self.fork(code, *argv, merged=True, **options)
        return done.returncode, done.said

    def recipe(self, name, *flags, **environment):
        return self.run(RUN_PATH, *flags, program=ROOT / "recipes" / name, **environment)


def point_to(hub, cache, patch):
    """Have huggingface_hub, in this process, know one Hub and one cache alone."""
    patch.setattr(constants, "ENDPOINT", hub.endpoint)
    patch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
