"""Publishing over the wire to the loopback Hub, through both of huggingface_hub's ways to upload."""

import json
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file

from lort_hub.backbones.load import load_backbone
from lort_hub.data.load import load_long_tailed
from tests.support.files import flip
from tests.support.hub_client import Client
from tests.support.hub_server import FINE, READ, WRITE, serve
from tests.support.recipes import WITHOUT_LORT_HUB

PUSH = """
import json, sys
from lort_hub import LortHubError, push_to_hub
folder, repo_id, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
try:
    published = push_to_hub(folder, repo_id, **options)
    print("published", published.url, published.commit)
except LortHubError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
CHECK = """
import json, sys
from lort_hub import LortHubError
from lort_hub.hub.upload import check_push
try:
    check_push(sys.argv[1], **json.loads(sys.argv[2]))
except LortHubError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
PLAIN = """
import json, sys
import timm, torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline
image, found = Image.open(sys.argv[1]).convert("RGB"), {}
for repo_id in sys.argv[2:]:
    model = AutoModelForImageClassification.from_pretrained(repo_id).eval()
    pixels = AutoImageProcessor.from_pretrained(repo_id)(image, return_tensors="pt")
    with torch.inference_mode():
        found[repo_id] = {"transformers": model(**pixels).logits[0].tolist()}
    found[repo_id]["pipeline"] = pipeline("image-classification", repo_id)(image, top_k=1)[0]["label"]
    if repo_id == "me/timm":
        model = timm.create_model(f"hf-hub:{repo_id}", pretrained=True).eval()
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
        with torch.inference_mode():
            found[repo_id]["timm"] = model(transform(image)[None])[0].tolist()
print(json.dumps(found))
"""


class Place:
    """A Hub and its users; `push` gives the exit code and what was said."""

    def __init__(self, hub, client):
        self.hub, self.client, self.number = hub, client, 0

    def push(self, folder, repo_id, token=WRITE, **options):
        return self.client.run(PUSH, folder, repo_id, json.dumps(options), HF_TOKEN=token)

    def new(self):
        self.number += 1
        return f"me/new{self.number}"

    def titles(self, repo_id, revision="main"):
        return [commit.title.split(" with ")[0] for commit in self.hub.repo(repo_id).log(revision)]

    def commits_asked(self, repo_id):
        return [path for method, path in self.hub.asked if f"/{repo_id}/commit/" in path and method == "POST"]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """With LFS and Xet off, and with Xet on where no file asks for it."""
    root = tmp_path_factory.mktemp("hub")
    homes = [tmp_path_factory.mktemp(name) for name in ("lfs", "regular")]
    with serve(root, lfs=True) as lfs, serve(root) as regular:
        first = Client(lfs.endpoint, homes[0], HF_HUB_DISABLE_XET="1")
        second = Client(regular.endpoint, homes[1])
        yield {"lfs": Place(lfs, first), "regular": Place(regular, second)}


@pytest.fixture(params=["lfs", "regular"])
def place(request, places):
    place = places[request.param]
    place.hub.faults.clear()
    place.hub.stored.clear()
    return place


@pytest.fixture
def lfs(places):
    places["lfs"].hub.faults.clear()
    places["lfs"].hub.stored.clear()
    return places["lfs"]


def published_files(folder):
    """All files of an output but its page, whose pictures may be private."""
    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    del files["report.html"]
    return files


@pytest.mark.parametrize("mode", ["lfs", "regular"])
def test_what_is_pushed_loads_in_plain_libraries_without_lort_hub(mode, places, outputs, tmp_path):
    place = places[mode]
    for name, folder in outputs.items():
        code, said = place.push(folder, f"me/{name}")
        assert code == 0, said
        commit = place.hub.repo(f"me/{name}").at("main")
        assert f"published {place.hub.endpoint}/me/{name} {commit.oid}" in said
        assert place.titles(f"me/{name}") == ["Push model", "initial commit"]
        assert {path for path, file in commit.files.items() if file.lfs} == (
            {path for path in published_files(folder) if path.endswith((".safetensors", ".png"))}
            if mode == "lfs"
            else set()
        )
    image = load_long_tailed("digits").test.image(0)
    image.save(tmp_path / "0.png")
    plain = place.client.fork(WITHOUT_LORT_HUB + PLAIN, tmp_path / "0.png", "me/timm", "me/transformers")
    assert plain.returncode == 0, plain.stderr
    found = json.loads(plain.stdout.splitlines()[-1])
    for name, folder in outputs.items():
        ours = load_backbone(str(folder))
        with torch.inference_mode():
            logits = ours.logits(ours.transform(image)[None])[0]
        for library in {"transformers", name}:
            assert (torch.tensor(found[f"me/{name}"][library]) - logits).abs().max() < 1e-4
        assert found[f"me/{name}"]["pipeline"] == ours.class_names[logits.argmax()]


def test_a_head_alone_is_pushed_and_loaded(place, outputs):
    repo_id = place.new()
    code, said = place.push(outputs["timm"] / "head", repo_id)
    assert code == 0, said
    assert place.titles(repo_id) == ["Push head", "initial commit"]
    code, said = place.client.run(
        "import sys; from lort_hub import LortHead; head = LortHead.from_pretrained(sys.argv[1])\n"
        "print(head.weight.double().sum().item())",
        repo_id,
    )
    tensors = load_file(outputs["timm"] / "head" / "model.safetensors")
    assert float(said.splitlines()[-1]) == pytest.approx(tensors["weight"].double().sum().item())


def test_only_files_of_an_output_are_pushed_and_none_holds_the_token(place, outputs, tmp_path):
    folder = shutil.copytree(outputs["timm"], tmp_path / "out")
    belongs = set(published_files(folder))
    planted = [".env", "pytorch_model.bin", "optimizer.pkl", "notes.txt", "plots/.cache.png"]
    planted += ["epoch_0001/model.safetensors", "head/head.pkl", ".git/config"]
    for name in planted:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(WRITE)
    repo_id = place.new()
    verbose = "import logging, huggingface_hub; logging.basicConfig(level=10)\n"
    verbose += "huggingface_hub.logging.set_verbosity_debug()\n"
    code, said = place.client.run(verbose + PUSH, folder, repo_id, "{}", HF_TOKEN=WRITE)
    assert code == 0, said
    files = place.hub.repo(repo_id).at("main").files
    assert set(files) == belongs | {".gitattributes"}
    cards = {"README.md", "head/README.md"}  # which are told where they are pushed to
    assert {name: file.data for name, file in files.items() if name in belongs - cards} == {
        name: path.read_bytes() for name, path in published_files(folder).items() if name in belongs - cards
    }
    assert all(f'"{repo_id}"' in files[card].data.decode() for card in cards)
    assert WRITE not in said
    assert not [name for name, file in files.items() if WRITE.encode() in file.data]


@pytest.mark.parametrize(
    "fault",
    [
        {"method": "POST", "path": "/commit/", "status": 503},
        {"method": "POST", "path": "/commit/", "drop": "before"},
        {"method": "POST", "path": "/commit/", "drop": "after"},
        {"method": "POST", "path": "/commit/", "status": 429, "headers": {"Retry-After": "0"}},
        {"method": "POST", "path": "/preupload/", "status": 429, "headers": {"Retry-After": "0"}},
        {"method": "POST", "path": "/repos/create", "drop": "after"},
        {"method": "POST", "path": "/validate-yaml", "status": 502},
        {"method": "GET", "path": "/api/models/", "status": 500},
        {"method": "PUT", "path": "/lfs/", "drop": "before"},
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
def test_trouble_that_passes_ends_in_exactly_one_commit(place, outputs, fault):
    repo_id = place.new()
    place.hub.fail_next(**fault)
    code, said = place.push(outputs["timm"], repo_id)
    assert code == 0, said
    assert place.titles(repo_id) == ["Push model", "initial commit"]
    assert place.hub.repo(repo_id).at("main").oid in said
    assert place.hub.faults[0].times == 0 or (fault["method"] == "PUT" and place.hub.lfs is False)


def test_it_waits_as_long_as_the_hub_asks(lfs, outputs):
    asked = []
    wait = {"headers": {"Retry-After": "2"}, "action": lambda: asked.append(time.monotonic())}
    lfs.hub.fail_next("POST", "/commit/", 429, **wait)
    lfs.hub.fail_next("POST", "/commit/", action=wait["action"])
    code, said = lfs.push(outputs["timm"], lfs.new())
    assert code == 0, said
    assert 2 <= asked[1] - asked[0] < 20


def test_trouble_that_stays_is_one_message(lfs, outputs):
    repo_id = lfs.new()
    lfs.hub.fail_next("POST", "/commit/", 503, times=99)
    code, said = lfs.push(outputs["timm"], repo_id, revision="try")
    assert code == 1
    assert "HubUnavailableError" in said
    assert len(lfs.commits_asked(repo_id)) == 3
    assert lfs.titles(repo_id, "try") == ["initial commit"]


def test_somebody_else_s_commit_is_never_overwritten(place, outputs):
    repo_id, theirs = place.new(), []

    def somebody():
        repo = place.hub.repo(repo_id)
        theirs.append(
            repo.add(
                "main", "theirs", {**repo.at("main").files, "note": repo.at("main").files[".gitattributes"]}
            )
        )

    place.hub.fail_next("POST", "/commit/", action=somebody)
    code, said = place.push(outputs["timm"], repo_id)
    assert code == 1
    assert f"RevisionConflictError: Somebody else pushed {theirs[0]}" in said
    assert place.titles(repo_id) == ["theirs", "initial commit"]
    assert len(place.commits_asked(repo_id)) == 2
    code, said = place.push(outputs["timm"], repo_id)  # on top of it, when told to
    assert code == 0, said
    assert place.titles(repo_id) == ["Push model", "theirs", "initial commit"]


@pytest.mark.parametrize(
    ("status", "headers", "says"),
    [
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"},
         "ConfigError: The Hub does not accept your token"),
        (401, {}, "ConfigError: The Hub does not accept your token"),
        (403, {"X-Error-Message": f"{WRITE} may not"}, "PublishError: The Hub forbids you to write"),
        (404, {"X-Error-Code": "RepoNotFound"}, "PublishError: The Hub no longer has the repository"),
        (404, {"X-Error-Code": "RevisionNotFound"}, "PublishError: The Hub no longer has the branch"),
        (400, {"X-Error-Message": "too large"}, "too large"),
    ],
)  # fmt: skip
def test_a_refusal_is_not_repeated(place, outputs, status, headers, says):
    repo_id = place.new()
    place.hub.fail_next("POST", "/commit/", status, times=9, headers=headers)
    code, said = place.push(outputs["timm"], repo_id)
    assert code == 1
    assert says in said
    assert len(said.split("Error: ", 1)[1].strip().splitlines()) <= 2
    assert len(place.commits_asked(repo_id)) == 1
    assert WRITE not in said


def test_a_refused_file_is_not_repeated(lfs, outputs):
    lfs.hub.asked.clear()
    lfs.hub.fail_next("PUT", "/lfs/", 403, times=99)
    code, said = lfs.push(outputs["timm"], lfs.new())
    assert code == 1
    assert "PublishError: The Hub forbids you to write" in said
    sent = [path for method, path in lfs.hub.asked if method == "PUT"]
    assert len(sent) == len(set(sent)) > 0


def test_a_card_that_the_hub_does_not_take_is_said(lfs, outputs, tmp_path):
    folder = shutil.copytree(outputs["timm"], tmp_path / "out")
    (folder / "README.md").write_text("---\ntags: [\n---\n")
    code, said = lfs.push(folder, lfs.new())
    assert code == 1
    assert "PublishError: The Hub does not accept this output: Invalid metadata in README.md" in said


@pytest.mark.parametrize(
    ("repo_id", "options", "token", "says"),
    [
        ("name", {}, WRITE, "expected namespace/name"),
        ("me/na me", {}, WRITE, "is not a Hub repository id"),
        ("me/name", {}, "", "No Hub token"),
        ("me/name", {}, "hf_unknownunknownunknown", "does not accept your token"),
        ("me/name", {}, READ, "its role is read"),
        ("me/name", {}, FINE, "its role is fineGrained"),
        ("me/allowed", {}, FINE, None),
        ("lab/name", {}, WRITE, None),
        ("museum/name", {}, WRITE, "You (me) may not write to 'museum', only to me, lab"),
        ("lob/name", {}, WRITE, "Did you mean 'lab'?"),
        ("me/name", {"create_pr": True}, WRITE, "No model 'me/name' to open a pull request on"),
        ("org/public", {"create_pr": True}, READ, None),
        ("org/public", {}, WRITE, "You (me) may not write to 'org', only to me, lab"),
        ("org/shared", {}, WRITE, None),
        ("org/shared", {}, READ, "its role is read"),
        ("lab/public", {}, FINE, "its role is fineGrained"),
        ("lab/public", {"private": True}, WRITE, "exists and is public"),
        ("me/name", {"create_pr": True, "revision": "x"}, WRITE, "not both"),
        ("me/name", {"license": "mit"}, WRITE, None),
        ("me/name", {"license": "my own: [x"}, WRITE, "does not take the license 'my own: [x'"),
    ],
)
def test_a_push_that_cannot_succeed_is_refused_before_any_compute(lfs, repo_id, options, token, says):
    for name in ("org/public", "org/shared", "lab/public"):
        (lfs.hub.root / "models" / name).mkdir(parents=True, exist_ok=True)
        (lfs.hub.root / "models" / name / "config.json").write_text("{}")
    lfs.hub.asked.clear()
    code, said = lfs.client.run(CHECK, repo_id, json.dumps(options), HF_TOKEN=token)
    assert (code, said) == (0, "") if says is None else (code == 1 and "ConfigError" in said and says in said)
    assert "hf_unknown" not in said
    changing = {path for method, path in lfs.hub.asked if method != "GET"}
    assert changing <= {"/api/validate-yaml"}


def test_a_hub_that_does_not_answer_is_said_before_any_compute(lfs):
    lfs.hub.fail_next("", "", drop="before", times=99)
    code, said = lfs.client.run(CHECK, "me/name", "{}", HF_TOKEN=WRITE)
    assert code == 1
    assert said.startswith(f"HubUnavailableError: Cannot push to 'me/name' on {lfs.hub.endpoint} (Remote")


def test_an_output_that_is_not_whole_is_never_pushed(lfs, outputs, tmp_path):
    folder = shutil.copytree(outputs["timm"], tmp_path / "out")
    flip(folder / "model.safetensors")
    lfs.hub.asked.clear()
    code, said = lfs.push(folder, lfs.new())
    assert code == 1
    assert "CheckpointError" in said
    assert {method for method, _ in lfs.hub.asked} == {"GET"}


def test_a_folder_that_is_replaced_while_it_is_read_is_refused(lfs, outputs, tmp_path):
    folder = shutil.copytree(outputs["timm"], tmp_path / "out")
    shutil.copytree(outputs["transformers"], tmp_path / "next")
    swap = """
import os, sys
def hook(event, arguments, seen=[]):
    if event == "shutil.copyfile" and not seen:
        seen.append(event)
        os.rename(sys.argv[1], sys.argv[1] + ".old")
        os.rename(os.path.dirname(sys.argv[1]) + "/next", sys.argv[1])
sys.addaudithook(hook)
"""
    code, said = lfs.client.run(swap + PUSH, folder, lfs.new(), "{}", HF_TOKEN=WRITE)
    assert code == 1
    assert "was written while it was read" in said


def test_the_next_push_replaces_the_last_and_an_equal_one_is_none(place, outputs):
    repo_id = place.new()
    for folder in (outputs["timm"], outputs["transformers"], outputs["transformers"]):
        code, said = place.push(folder, repo_id)
        assert code == 0, said
    assert place.titles(repo_id) == ["Push model", "Push model", "initial commit"]
    files = set(place.hub.repo(repo_id).at("main").files)
    assert files == {".gitattributes", *published_files(outputs["transformers"])}


def test_branches_and_pull_requests_leave_main_alone(place, outputs):
    repo_id = place.new()
    code, said = place.push(outputs["timm"], repo_id, revision="v2")
    assert code == 0, said
    assert f"published {place.hub.endpoint}/{repo_id}/tree/v2 " in said
    code, said = place.push(outputs["timm"], repo_id, create_pr=True)
    assert code == 0, said
    assert f"published {place.hub.endpoint}/{repo_id}/discussions/1 " in said
    assert place.hub.repo(repo_id).pulls[1]["status"] == "open"
    assert place.titles(repo_id) == ["initial commit"]
    for branch in ("v2", "refs/pr/1"):
        assert place.titles(repo_id, branch) == ["Push model", "initial commit"]


def test_one_pull_request_however_often_its_commit_is_tried(place, outputs):
    repo_id = place.new()
    assert place.push(outputs["timm"], repo_id, private=True)[0] == 0
    assert place.hub.repo(repo_id).private
    place.hub.fail_next("POST", "/commit/", drop="after")
    code, said = place.push(outputs["transformers"], repo_id, create_pr=True)
    assert code == 0, said
    assert list(place.hub.repo(repo_id).pulls) == [1]
    assert place.titles(repo_id, "refs/pr/1") == ["Push model", "Push model", "initial commit"]
    assert place.titles(repo_id) == ["Push model", "initial commit"]
