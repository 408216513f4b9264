"""A Space on the loopback Hub: its one commit, and its program where lort_hub cannot be imported."""

import json
import shutil
from importlib.metadata import version

import pytest
import yaml

from lort_hub.classifiers.space import GRADIO
from tests.support import ROOT
from tests.support.hub_client import Client
from tests.support.hub_server import READ, WRITE, serve
from tests.support.recipes import WITHOUT_LORT_HUB

FILES = {".gitattributes", "README.md", "about.json", "app.py", "page.py", "requirements.txt"}
LIBRARIES = ("timm", "transformers")


@pytest.fixture(scope="module")
def hub_and_client(tmp_path_factory, outputs):
    """A Hub with the complete models me/timm and me/transformers and the head me/head."""
    with serve(tmp_path_factory.mktemp("hub")) as hub:
        client = Client(hub.endpoint, tmp_path_factory.mktemp("home"), HF_TOKEN=WRITE)
        for source, name in [
            *((outputs[name], name) for name in LIBRARIES),
            (outputs["timm"] / "head", "head"),
        ]:
            code, said = client.recipe("push.py", source, "--to", f"me/{name}")
            assert code == 0, said
        yield hub, client


def space(hub, name):
    return hub.repo(name, "spaces")


RUN_APP = """
import json, sys
sys.path.insert(0, ".")
import app
from PIL import Image
from page import classify
image = Image.open(sys.argv[1])
bars, table = classify(app.about, app.logits, image)
import torch
with torch.inference_mode():
    if sys.argv[3] == "timm":
        import timm
        model = timm.create_model(f"hf-hub:{sys.argv[2]}", pretrained=True).eval()
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
        plain = model(transform(image.convert("RGB"))[None])[0].softmax(0).tolist()
        plain = dict(zip(model.pretrained_cfg["label_names"], plain))
    else:
        from transformers import pipeline
        plain = pipeline("image-classification", sys.argv[2])(image.convert("RGB"), top_k=10)
        plain = {row["label"]: row["score"] for row in plain}
print(json.dumps({"bars": bars, "plain": plain, "table": table}))
"""


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_program_of_the_commit_answers_as_plain_timm_or_transformers(
    library, hub_and_client, outputs, tmp_path
):
    hub, client = hub_and_client
    code, said = client.recipe("push.py", f"me/{library}", "--space", f"me/{library}-demo")
    assert code == 0, said
    repo = space(hub, f"me/{library}-demo")
    assert f"to {hub.endpoint}/spaces/me/{library}-demo (commit {repo.at('main').oid})" in said
    assert [commit.title[:17] for commit in repo.log()] == ["Push page with lo", "initial commit"]
    files = repo.at("main").files
    assert set(files) == FILES
    for name, file in files.items():
        (tmp_path / name).write_bytes(file.data)
        assert WRITE.encode() not in file.data
    assert len(files["app.py"].data.splitlines()) < 15
    picture = ROOT / "docs"
    from tests.support.images import noise_image

    picture = tmp_path / "picture.png"
    noise_image(5, size=(200, 300)).save(picture)
    code = f"import os; os.chdir({str(tmp_path)!r})\n{WITHOUT_LORT_HUB}{RUN_APP}"
    exit_code, said = client.run(code, picture, f"me/{library}", library)
    assert exit_code == 0, said
    shown = json.loads(said.splitlines()[-1])
    best = sorted(shown["plain"], key=lambda name: -shown["plain"][name])[:5]
    assert list(shown["bars"]) == best
    assert list(shown["bars"].values()) == pytest.approx([shown["plain"][name] for name in best], rel=1e-5)
    counts = json.loads((outputs[library] / "run.json").read_text())["data"]["class_counts"]
    assert f"<td>{best[0]}</td><td>{counts[int(best[0])]}</td>" in shown["table"]


def test_the_card_tells_the_hub_how_to_run_it(hub_and_client):
    hub, client = hub_and_client
    assert client.recipe("push.py", "me/timm", "--space", "me/card", "--private")[0] == 0
    assert space(hub, "me/card").private
    files = space(hub, "me/card").at("main").files
    card = files["README.md"].data.decode()
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert (metadata["sdk"], metadata["sdk_version"], metadata["app_file"]) == ("gradio", GRADIO, "app.py")
    assert (metadata["title"], metadata["models"]) == ("timm", ["me/timm"])
    assert "Balanced accuracy" in card
    commit = hub.repo("me/timm").at("main").oid
    assert f'load_logits("me/timm", revision="{commit}")' in files["app.py"].data.decode()
    needed = dict(line.split("==") for line in files["requirements.txt"].data.decode().splitlines())
    assert set(needed) == {"timm", "torch", "torchvision"}
    assert needed["timm"] == version("timm")


def test_the_version_of_gradio_is_one_that_the_extra_allows():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11's")
    [allowed] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][
        "demo"
    ]
    lowest, below = (part.strip("gradio><=") for part in allowed.split(","))
    assert tuple(map(int, lowest.split("."))) <= tuple(map(int, GRADIO.split("."))) < (int(below),)


def test_a_folder_is_pushed_first_and_shown_at_that_commit(hub_and_client, outputs):
    hub, client = hub_and_client
    code, said = client.recipe("push.py", outputs["timm"], "--space", "me/both-demo")
    assert (code, "Give --to namespace/name as well, to push it first" in said) == (2, True)
    code, said = client.recipe("push.py", outputs["timm"], "--to", "me/both", "--space", "me/both-demo")
    assert code == 0, said
    app = space(hub, "me/both-demo").at("main").files["app.py"].data.decode()
    assert f'load_logits("me/both", revision="{hub.repo("me/both").at("main").oid}")' in app


def test_a_head_is_refused_before_it_is_pushed_and_a_page_that_failed_can_be_pushed_again(
    hub_and_client, outputs
):
    hub, client = hub_and_client
    hub.asked.clear()
    code, said = client.recipe("push.py", outputs["timm"] / "head", "--to", "me/alone", "--space", "me/no")
    assert (code, "is a head alone" in said) == (2, True)
    assert {method for method, _ in hub.asked} <= {"GET", "HEAD"}
    hub.fail_next("POST", "/api/spaces/.*/commit/", 403)
    code, said = client.recipe("push.py", outputs["timm"], "--to", "me/late", "--space", "me/late-demo")
    assert code == 1
    command = said.splitlines()[-1].partition("Push the page again with: ")[2].split()
    assert command[2:] == [f"me/late@{hub.repo('me/late').at('main').oid}", "--space", "me/late-demo"]
    code, said = client.recipe("push.py", *command[2:])
    assert code == 0, said
    assert set(space(hub, "me/late-demo").at("main").files) == FILES


def test_a_second_push_replaces_the_first_and_a_plan_writes_nothing(hub_and_client):
    hub, client = hub_and_client
    for model in ("me/timm", "me/transformers"):
        assert client.recipe("push.py", model, "--space", "me/again")[0] == 0
    assert [commit.title for commit in space(hub, "me/again").log()][-1] == "initial commit"
    assert len(space(hub, "me/again").log()) == 3
    assert b"transformers==" in space(hub, "me/again").at("main").files["requirements.txt"].data
    hub.asked.clear()
    code, said = client.recipe("push.py", "me/timm", "--space", "me/planned", "--dry-run")
    assert code == 0, said
    assert "page.py" in said
    assert {method for method, _ in hub.asked} <= {"GET", "HEAD"}


@pytest.mark.parametrize(
    ("flags", "token", "exit_code", "message"),
    [
        (["me/unknown", "--space", "me/no"], WRITE, 1, "No model 'me/unknown' on http://127.0.0.1"),
        (["me/head", "--space", "me/no"], WRITE, 2, "'me/head' is a head alone, which needs lort_hub."),
        (["me/timm", "--space", "me/no"], READ, 2, "Your Hub token may not write to 'me/no'"),
        (["me/timm", "--space", "no"], WRITE, 2, "'no' is not a Hub repository id"),
        (["me/timm", "--space", "me/no", "--create-pr"], WRITE, 2, "they need --to namespace/name"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_anything_is_written(
    flags, token, exit_code, message, hub_and_client
):
    hub, client = hub_and_client
    hub.asked.clear()
    code, said = client.recipe("push.py", *flags, HF_TOKEN=token)
    assert (code, message in said) == (exit_code, True), said
    assert "Traceback" not in said
    assert {method for method, _ in hub.asked} <= {"GET", "HEAD"}


def test_a_net_that_needs_lort_hub_is_refused(hub_and_client, outputs, tmp_path):
    hub, client = hub_and_client
    folder = shutil.copytree(outputs["timm"], tmp_path / "out")
    record = json.loads((folder / "head/config.json").read_text())
    record["backbone"]["needs_lort_hub"] = True
    (folder / "head/config.json").write_text(json.dumps(record))
    code, said = client.recipe("push.py", folder, "--to", "me/plan", "--space", "me/no", "--dry-run")
    assert (code, "needs lort_hub to be loaded" in said) == (2, True), said
    assert client.recipe("push.py", folder, "--to", "me/cifar")[0] == 0
    code, said = client.recipe("push.py", "me/cifar", "--space", "me/no")
    assert (code, "'me/cifar' needs lort_hub to be loaded" in said) == (2, True), said
    assert hub.repo("me/cifar")
