"""recipes/demo.py: what it loads, what it answers, and its page where gradio and Chromium are installed."""

import json
import shutil
import socket
import subprocess
import sys
from functools import partial

import pytest
import timm
import torch
from PIL import Image

from lort_hub.backbones.load import load_backbone
from lort_hub.classifiers.about import about_classifier, describe
from lort_hub.classifiers.load import find_classifier, image_logits, load_classifier
from lort_hub.classifiers.page import classify
from lort_hub.data.load import load_long_tailed
from lort_hub.errors import CheckpointError, LortHubError
from tests.support import ROOT
from tests.support.chromium import find_chromium, open_page
from tests.support.hub_client import Client
from tests.support.hub_server import WRITE, serve
from tests.support.images import noise_image
from tests.support.models import timm_folder

# As a user starts it, with every address it binds or connects to on record.
WATCHED = """
import runpy, sys
def watch(event, args):
    if event in ("socket.bind", "socket.connect") and isinstance(args[1], tuple):
        print(event, args[1][0], file=sys.stderr, flush=True)
sys.addaudithook(watch)
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def answer(source, image):
    """Probabilities of the likeliest classes, as the page shows them."""
    backbone, record = load_classifier(str(source))
    return classify(
        about_classifier("", find_classifier(str(source)), backbone, record),
        partial(image_logits, backbone),
        image,
    )[0]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with serve(tmp_path_factory.mktemp("hub")) as hub:
        yield Client(hub.endpoint, home)


@pytest.fixture
def head(outputs, tmp_path):
    """A copy of a head alone, and its config."""
    shutil.copytree(outputs["timm"] / "head", tmp_path / "head")
    return tmp_path / "head", json.loads((tmp_path / "head/config.json").read_text())


def test_it_answers_as_plain_timm(outputs):
    model = timm.create_model(f"local-dir:{outputs['timm']}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    image = noise_image(3, size=(300, 200))
    with torch.inference_mode():
        expected = model(transform(image)[None])[0].softmax(0)
    shown = answer(outputs["timm"], image)
    best = sorted(range(10), key=lambda k: -expected[k])[:5]
    assert list(shown) == [model.pretrained_cfg["label_names"][k] for k in best]
    assert list(shown.values()) == [expected[k].item() for k in best]


def test_it_answers_as_transformers_pipeline(outputs):
    from transformers import pipeline

    image = noise_image(3, size=(300, 200))
    expected = pipeline("image-classification", str(outputs["transformers"]))(image, top_k=5)
    shown = answer(outputs["transformers"], image)
    assert list(shown) == [row["label"] for row in expected]
    assert list(shown.values()) == pytest.approx([row["score"] for row in expected], rel=1e-5)


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_a_head_alone_answers_as_the_complete_model(library, outputs):
    image = noise_image(1, size=(70, 90))
    assert answer(outputs[library] / "head", image) == answer(outputs[library], image)
    records = [load_classifier(str(outputs[library] / part))[1] for part in (".", "head")]
    assert records[0] == records[1]


def test_a_head_keeps_the_image_size_it_was_made_at(head):
    folder, config = head
    config["backbone"]["preprocessing"]["input_size"] = [3, 96, 96]
    (folder / "config.json").write_text(json.dumps(config))
    pixels = load_classifier(str(folder))[0].transform(noise_image(1))
    backbone = load_backbone(config["backbone"]["source"], image_size=96)
    assert torch.equal(pixels, backbone.transform(noise_image(1)))


def test_a_head_made_on_images_prepared_otherwise_is_refused(head):
    folder, config = head
    config["backbone"]["preprocessing"]["crop_pct"] = 0.5
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="prepared in another way; give its complete model"):
        load_classifier(str(folder))


def test_an_image_of_any_mode_is_read_as_a_data_set_reads_it(outputs, tmp_path):
    image, folder = noise_image(2), tmp_path / "data" / "train" / "one"
    folder.mkdir(parents=True)
    sixteen_bits = Image.new("I;16", image.size)
    sixteen_bits.putdata([256 * value + 99 for value in image.convert("L").tobytes()])
    sixteen_bits.save(folder / "I.png")
    for mode in ("L", "LA", "P", "RGBA"):
        image.convert(mode).save(folder / f"{mode}.png")
    image.convert("CMYK").save(folder / "CMYK.jpg")
    shutil.copytree(folder, folder.parents[1] / "test" / "one")
    shutil.copytree(folder, folder.with_name("two"))
    shutil.copytree(folder, folder.parents[1] / "test" / "two")
    backbone, split = load_classifier(str(outputs["timm"]))[0], load_long_tailed(str(tmp_path / "data")).train
    paths = sorted(folder.iterdir())
    assert len({tuple(image_logits(backbone, Image.open(path)).tolist()) for path in paths}) > 1
    for k, path in enumerate(paths):
        assert torch.equal(
            image_logits(backbone, Image.open(path)), image_logits(backbone, split.image(k))
        ), path


def test_the_page_says_which_model_and_how_good(outputs):
    backbone, record = load_classifier(str(outputs["timm"]))
    test = json.loads((outputs["timm"] / "metrics.json").read_text())["test"]
    text = describe(backbone, record)
    assert "Backbone `test_resnet`, method `ncm`, data set `digits`, 10 classes." in text
    assert f"Balanced accuracy {100 * test['balanced_accuracy']:.1f} % (n = 500 test images)." in text
    assert "Over-smoothed" not in text
    record["head"]["delta"], record["results"]["ncm"]["ece"] = 0.98, 0.637
    assert record["head"]["scale"] != 1  # a calibrated head is not flat, whatever its labels were
    assert describe(backbone, record).endswith("Expected calibration error 63.7 %.")
    record["head"]["scale"] = 1.0
    assert "63.7 %. Over-smoothed labels ask for small logits" in describe(backbone, record)
    assert describe(backbone, {}).startswith("10 classes; there is no record")
    moved = {"head": {"mix": {"name": "9 unlabelled images"}}}
    assert describe(backbone, moved).startswith("10 classes, moved to the class mix of 9 unlabelled images;")


def test_what_cannot_be_shown_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="does not name its classes"):
        load_classifier(str(timm_folder(tmp_path / "nameless")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(LortHubError, match=r"No config\.json in"):
        load_classifier(str(tmp_path / "empty"))
    with pytest.raises(CheckpointError, match="No folder '.*missing'"):
        load_classifier(str(tmp_path / "missing"))


def test_from_the_hub(outputs, client):
    for library, output in outputs.items():
        for source in (output, output / "head"):
            assert (
                client.recipe("push.py", source, "--to", f"me/{library}-{source.name}", HF_TOKEN=WRITE)[0]
                == 0
            )
    code = """
import json, sys
from lort_hub.classifiers.about import about_classifier, describe
from lort_hub.classifiers.load import find_classifier, image_logits, load_classifier
from lort_hub.classifiers.page import classify
from lort_hub.classifiers.load import image_logits
from tests.support.images import noise_image
for source in sys.argv[1:]:
    backbone, record = load_classifier(source)
    print(json.dumps([image_logits(backbone, noise_image(1)).tolist(), record["head"]["method"]]))
"""
    names = [f"me/{library}-{part}" for library in outputs for part in (f"out-{library}", "head")]
    exit_code, said = client.run(code, *names)
    assert exit_code == 0, said
    answers = [json.loads(line) for line in said.splitlines() if line.startswith("[")]
    models = [load_classifier(str(outputs[library]))[0] for library in outputs]
    expected = [image_logits(model, noise_image(1)).tolist() for model in models]
    assert answers == [[logits, "ncm"] for logits in expected for _ in range(2)]
    exit_code, said = client.run(code, "me/unknown")
    assert exit_code == 3
    assert "CheckpointError: No model 'me/unknown' on http://127.0.0.1" in said


def test_without_gradio_it_says_how_to_get_it(outputs, client):
    path = str(ROOT / "recipes/demo.py")
    code = f"sys.modules['gradio'] = None; import runpy; runpy.run_path({path!r}, run_name='__main__')"
    exit_code, said = client.run(f"import sys; {code}", outputs["timm"])
    assert exit_code == 2
    assert said.startswith("error: The page needs gradio (")
    assert said.endswith("): pip install '.[demo]' in the clone\n")
    exit_code, said = client.run(f"import sys; {code}", "--help")
    assert (exit_code, "--port" in said) == (0, True)


def test_the_page_over_http(outputs, tmp_path):
    client = pytest.importorskip("gradio_client")
    upright = noise_image(3, size=(300, 200))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.png", exif=exif)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-c", WATCHED, ROOT / "recipes/demo.py", outputs["timm"], "--port", port]
        refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert refused.returncode == 2
        assert f"error: Cannot serve on port {port} of 127.0.0.1; name a free one" in refused.stderr
    with (tmp_path / "said").open("w") as said:
        page = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=said, text=True)
    try:
        assert page.stdout.readline() == f"{outputs['timm']} is on http://127.0.0.1:{port} (Ctrl-C ends it)\n"
        asked = client.Client(f"http://127.0.0.1:{port}", verbose=False, analytics_enabled=False)
        bars, table = asked.predict(client.handle_file(tmp_path / "photo.png"), api_name="/classify")
        with pytest.raises(
            Exception, match=r"This file is no picture that can be read \(not an image\)\. Give"
        ):
            asked.predict(client.handle_file(tmp_path / "broken.jpg"), api_name="/classify")
    finally:
        page.terminate()
        page.communicate()
    expected = answer(outputs["timm"], upright)
    assert [row["label"] for row in bars["confidences"]] == list(expected)
    assert [row["confidence"] for row in bars["confidences"]] == list(expected.values())
    assert "most often taken for" in table
    addresses = [
        line.split() for line in (tmp_path / "said").read_text().splitlines() if line[:7] == "socket."
    ]
    assert ["socket.bind", "127.0.0.1"] in addresses
    assert {address for _, address in addresses} == {"127.0.0.1"}


@pytest.mark.skipif(not find_chromium(), reason="Chromium is not installed")
def test_the_page_in_a_browser(outputs, tmp_path):
    pytest.importorskip("gradio", reason="gradio is not installed")
    noise_image(3, size=(300, 200)).save(tmp_path / "photo.png")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, ROOT / "recipes/demo.py", outputs["timm"], "--port", port]
    served = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert served.stdout.readline().startswith(str(outputs["timm"]))
        address, chooser = f"http://127.0.0.1:{port}", "document.querySelector('input[type=file]') !== null"
        with open_page(address, tmp_path / "profile", width=390) as page:
            page.wait_for(chooser)
            assert "Balanced accuracy" in page.text()
            page.choose_file(tmp_path / "photo.png")
            page.wait_for("document.querySelectorAll('.classes td').length > 0")
            cells = page.evaluate("[...document.querySelectorAll('.classes td')].map(cell => cell.innerText)")
            assert page.evaluate("document.documentElement.scrollWidth") == 390
            page.call("Page.navigate", url=address)
            page.wait_for(f"{chooser} && document.querySelectorAll('.classes td').length == 0")
            page.choose_file(tmp_path / "broken.jpg")
            page.wait_for("document.body.innerText.includes('This file is no picture that can be read')")
    finally:
        served.terminate()
        served.communicate()
    assert cells[::3] == list(answer(outputs["timm"], noise_image(3, size=(300, 200))))
    counts = json.loads((outputs["timm"] / "run.json").read_text())["data"]["class_counts"]
    assert cells[1::3] == [str(counts[int(name)]) for name in cells[::3]]
    assert all(" of 50)" in cell for cell in cells[2::3])
