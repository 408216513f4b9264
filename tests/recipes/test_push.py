"""recipes/push.py as a user runs it, against the loopback Hub."""

import re
import shutil

import pytest
import torch

from lort_hub.backbones.load import load_backbone
from tests.support.fork_server import run_forks
from tests.support.hub_client import Client
from tests.support.hub_server import READ, WRITE, serve
from tests.support.models import timm_folder
from tests.support.recipes import run, start


@pytest.fixture(scope="module")
def hub_and_client(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with serve(tmp_path_factory.mktemp("hub")) as hub:
        yield hub, Client(hub.endpoint, home)


@pytest.fixture
def hub(hub_and_client):
    hub_and_client[0].faults.clear()
    hub_and_client[0].asked.clear()
    return hub_and_client[0]


@pytest.fixture
def push(hub_and_client):
    def push(*flags, **environment):
        return hub_and_client[1].recipe("push.py", *flags, **{"HF_TOKEN": WRITE, **environment})

    return push


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_what_it_says_loads_what_it_pushed(library, outputs, hub, hub_and_client, push):
    code, said = push(outputs[library], "--to", f"me/{library}", "--revision", "v1")
    assert code == 0, said
    commit = hub.repo(f"me/{library}").at("v1").oid
    assert f"to {hub.endpoint}/me/{library}/tree/v1 (commit {commit})" in said
    snippet = said.split(f"(commit {commit})\n")[1]
    assert ("import timm" in snippet) == (library == "timm")
    ask = "\nimport torch, json; net = classify.model\nprint([head.weight.sum().item(), net.num_labels])"
    code, said = hub_and_client[1].run(snippet + ask)
    assert code == 0, said
    weight = load_backbone(str(outputs[library])).weight
    total, classes = map(float, re.search(r"\[(.*), (.*)\]", said.splitlines()[-1]).groups())
    assert (total, classes) == (pytest.approx(weight.sum().item(), abs=1e-4), len(weight))
    assert torch.isfinite(weight).all()


def test_a_head_folder_has_the_snippet_of_a_head(outputs, hub, push):
    code, said = push(outputs["timm"] / "head", "--to", "me/head", "--private")
    assert code == 0, said
    assert 'LortHead.from_pretrained("me/head")' in said
    assert "pipeline" not in said
    assert hub.repo("me/head").private


def test_a_pull_request_is_loaded_by_its_commit(outputs, hub, push):
    assert push(outputs["timm"], "--to", "me/pr")[0] == 0
    code, said = push(outputs["transformers"], "--to", "me/pr", "--create-pr")
    assert code == 0, said
    assert f"{hub.endpoint}/me/pr/discussions/1" in said
    assert f'"me/pr", revision="{hub.repo("me/pr").at("refs/pr/1").oid}")' in said


def test_dry_run_lists_the_files_and_writes_nothing(outputs, hub, push, tmp_path):
    folder = shutil.copytree(outputs["timm"], tmp_path / "out")
    (folder / "notes.txt").write_text("mine")
    code, said = push(folder, "--to", "me/dry", "--dry-run")
    assert code == 0, said
    assert "would go to me/dry, main" in said
    size = (outputs["timm"] / "model.safetensors").stat().st_size
    assert f"{size:,}  model.safetensors" in said
    assert "head/model.safetensors" in said
    assert "notes.txt" not in said
    assert {method for method, _ in hub.asked} == {"GET"}


@pytest.mark.parametrize("recipe", ["retrain.py", "train.py"])
def test_a_recipe_pushes_what_it_made(recipe, hub, hub_and_client, tmp_path):
    repo_id, out = f"me/{recipe.removesuffix('.py')}", tmp_path / "out"
    made = timm_folder(tmp_path / "backbone")
    flags = ["--dataset", "digits", "--output-dir", out, "--push-to-hub", repo_id, "--private"]
    flags += ["--backbone", made, *(["--epochs", "1"] if recipe == "train.py" else ["--method", "ncm"])]
    flags += ["--license", "mit"]
    code, said = hub_and_client[1].recipe(recipe, *flags, HF_TOKEN=WRITE)
    assert code == 0, said
    assert hub.repo(repo_id).private
    assert f"Pushed it to {hub.endpoint}/{repo_id}\n" in said
    snippet = said.split(f"{hub.endpoint}/{repo_id}\n")[1]
    for line in ("timm.create_model", "pipeline(", "LortHead.from_pretrained"):
        assert line in snippet
    files = hub.repo(repo_id).at("main").files
    for card in ("README.md", "head/README.md"):
        text = files[card].data.decode()
        assert f'"{repo_id}"' in text
        assert f'"{repo_id}"' not in (out / card).read_text()
        assert WRITE not in text
        assert "\nlicense: mit\n" in text


def test_no_compute_is_spent_on_what_cannot_be_pushed(hub, hub_and_client, tmp_path):
    flags = ["--dataset", "digits", "--output-dir", tmp_path / "out", "--push-to-hub", "me/x"]
    for recipe in ("retrain.py", "train.py"):
        code, said = hub_and_client[1].recipe(recipe, *flags, HF_TOKEN=READ)
        assert code == 2
        assert said.startswith("error: Your Hub token may not write to 'me/x'")
    code, said = hub_and_client[1].recipe("retrain.py", *flags[:-2], "--private")
    assert (code, said.startswith("error: --private has no effect without --push-to-hub")) == (2, True)
    assert not (tmp_path / "out").exists()
    assert {method for method, _ in hub.asked} == {"GET"}


def test_a_failed_push_after_a_run_loses_nothing(hub, hub_and_client, tmp_path):
    hub.fail_next("POST", "/commit/", 403)
    flags = ["--dataset", "digits", "--backbone", timm_folder(tmp_path / "b"), "--method", "ncm"]
    flags += ["--output-dir", tmp_path / "out", "--push-to-hub", "me/late"]
    code, said = hub_and_client[1].recipe("retrain.py", *flags, HF_TOKEN=WRITE)
    assert code == 1
    assert (tmp_path / "out" / "README.md").exists()
    command = said.splitlines()[-1].partition("with: ")[2].split()
    code, said = hub_and_client[1].recipe("push.py", *command[2:], HF_TOKEN=WRITE)
    assert code == 0, said
    assert len(hub.repo("me/late").log("main")) == 2
    flags[-1] = "me/again"
    code, said = hub_and_client[1].recipe("retrain.py", *flags, "--resume", "--dry-run", HF_TOKEN=WRITE)
    assert code == 0, said
    assert "is finished; it would go to me/again\n" in said
    assert ("models", "me/again") not in hub.repos
    code, said = hub_and_client[1].recipe("retrain.py", *flags, "--resume", HF_TOKEN=WRITE)
    assert code == 0, said
    assert "nothing to do" in said
    assert f"Pushed it to {hub.endpoint}/me/again\n" in said
    assert "--push-to-hub" not in hub.repo("me/again").at("main").files["README.md"].data.decode()


def test_a_head_does_not_replace_a_complete_model(outputs, hub, push):
    assert push(outputs["timm"], "--to", "me/whole")[0] == 0
    before = hub.repo("me/whole").at("main").oid
    code, said = push(outputs["timm"] / "head", "--to", "me/whole")
    assert code == 1
    assert "'me/whole' holds a complete model, which the head alone would replace." in said
    code, planned = push(outputs["timm"] / "head", "--to", "me/whole", "--dry-run")
    assert (code, "which the head alone would replace." in planned) == (1, True)
    assert hub.repo("me/whole").at("main").oid == before


def test_exit_codes(outputs, hub, push, tmp_path):
    code, said = push(outputs["timm"], "--to", "me/codes", HF_TOKEN="")
    assert (code, said.startswith("error: No Hub token")) == (2, True)
    code, said = push(outputs["timm"])
    assert (code, "Give --to namespace/name" in said) == (2, True)
    code, said = push(outputs["timm"], "--to", "me/codes", "--privat")
    assert (code, "Did you mean '--private'" in said) == (2, True)
    code, said = push(tmp_path, "--to", "me/codes")
    assert (code, f"{tmp_path} holds no output" in said) == (1, True)
    hub.fail_next("POST", "/commit/", 403)
    code, said = push(outputs["timm"], "--to", "me/codes", "--private")
    assert code == 1
    command = f"python recipes/push.py {outputs['timm']} --to me/codes --private\n"
    assert said.startswith("error: The Hub forbids you to write to 'me/codes'")
    assert said.endswith(command)
    assert push(*command.split()[2:])[0] == 0


def test_help_and_an_unreachable_hub_in_a_process_of_its_own(outputs):
    helped = run("push.py", "--help")
    assert helped.returncode == 0
    assert "Make the repository, or the Space, private." in helped.stdout
    gone = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": WRITE}
    stopped = start("push.py", outputs["timm"], "--to", "me/name", **gone)
    assert stopped.returncode == 1
    assert "error: Cannot push to 'me/name' on http://127.0.0.1:9 (ConnectError" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    check = "from lort_hub.hub.upload import check_push; check_push('me/name')"
    environment = {"HF_HUB_OFFLINE": "1", "HF_TOKEN": WRITE}
    [offline] = run_forks({"code": check, "argv": ["-c"], "environment": environment})
    assert "ConfigError: HF_HUB_OFFLINE is set" in offline.stderr
