"""recipes/adapt.py: a model moved to the class mix of a folder of pictures."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lort_hub import LortHead
from lort_hub.backbones.load import load_backbone
from lort_hub.data.load import load_long_tailed
from lort_hub.evaluation.heads import evaluate_fit
from lort_hub.features.extract import extract_features
from lort_hub.heads.class_mix import measure_mix, read_shares
from lort_hub.heads.fit import fit_head
from lort_hub.heads.scorers import Predictions
from lort_hub.heads.training_set import TrainingSet
from lort_hub.hub.card import address_cards
from lort_hub.hub.head_file import write_held_out
from lort_hub.hub.output import save_output
from tests.support.hub_client import Client
from tests.support.hub_server import WRITE, serve
from tests.support.recipes import run


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model of the digits, and pictures of mostly 0 and 1 in folders that are no classes."""
    root = tmp_path_factory.mktemp("adapt")
    backbone, data = load_backbone("test_resnet", pretrained=False, image_size=32), load_long_tailed("digits")
    train, test = (
        extract_features(backbone, part, folder=root / "cache") for part in (data.train, data.test)
    )
    training = TrainingSet.of(train)
    fit = measure_mix(training, fit_head(training, "eb-lda"))
    report = evaluate_fit(fit, test.load(), data.class_counts)
    save_output(root / "out", backbone, data, fit, report)
    test = data.test
    rows = np.flatnonzero((test.labels < 2) | (np.arange(len(test)) % 10 == 0))
    for number, row in enumerate(rows):
        folder = root / "street" / ("monday" if number % 2 else "tuesday/noon")
        folder.mkdir(parents=True, exist_ok=True)
        test.image(row).save(folder / f"{row}.png")
    return root, test.labels[rows]


def adapt(root, *flags):
    return run("adapt.py", *flags, "--num-workers", "0", cache=root / "cache")


def shares_of(folder):
    with (folder / "class_mix.csv").open() as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(row[name]) for name in ("low", "share", "high")] for row in rows]).T


@pytest.mark.parametrize("estimator", ["em", "bbse"])
def test_the_head_is_moved_to_the_mix_of_the_pictures(folders, estimator):
    (root, labels), out = folders, folders[0] / estimator
    (root / "street" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (root / "street" / "notes.txt").write_text("no picture")
    flags = ("--images", root / "street", "--estimator", estimator, "--strength", "0.3")
    flags += ("--output-dir", out)
    finished = adapt(root, root / "out", *flags)
    assert finished.returncode == 0, finished.stderr
    assert f"Not read in {root / 'street'}: 1 .txt (no image)." in finished.stdout
    assert "1 of " in finished.stdout
    assert "cannot be decoded and are skipped" in finished.stdout
    low, shares, high = shares_of(out)
    assert shares.sum() == pytest.approx(1, abs=1e-6)
    assert (low <= high).all()
    truth = np.bincount(labels, minlength=10) / len(labels)
    assert np.abs(shares - truth).sum() < 0.35 < np.abs(0.1 - truth).sum()
    before, after = LortHead.from_pretrained(root / "out"), LortHead.from_pretrained(out)
    shift = (after.bias - before.bias).detach().numpy() - np.log(np.maximum(shares, 1e-6))
    assert after.weight.equal(before.weight)
    assert shift == pytest.approx(np.full(10, shift.mean()), abs=1e-3)
    pixels = torch.rand(2, 3, 32, 32)
    model = load_backbone(str(out))
    assert torch.allclose(model.logits(pixels), after(model.features(pixels)), atol=1e-4)
    card = (out / "README.md").read_text()
    assert f"class mix of {len(labels)} unlabelled images of `street`" in card
    assert f"{100 * shares.max():.1f} [" in card
    assert "1 more images could not be decoded" in card
    assert "label shift" in card
    again = adapt(root, out, *flags[:-1], root / f"{estimator}-again")
    assert again.returncode == 0, again.stderr
    assert shares_of(root / f"{estimator}-again") == pytest.approx(np.stack([low, shares, high]), abs=1e-3)


def test_a_head_whose_class_mix_nobody_knows_is_refused(folders, tmp_path):
    root, _ = folders
    shutil.copytree(root / "out", tmp_path / "raw")
    config = json.loads((tmp_path / "raw/head/config.json").read_text())
    config["head"]["scale"] = 1.0
    del config["head"]["mix"]
    (tmp_path / "raw/head/config.json").write_text(json.dumps(config))
    refused = adapt(root, tmp_path / "raw", "--images", root / "street", "--output-dir", tmp_path / "no")
    assert refused.returncode == 1
    assert "does not say which class mix" in refused.stderr
    assert "Re-train the head calibrated, as `retrain` does" in refused.stderr
    assert "=True" not in refused.stderr
    (root / "out" / "head" / "held_out.safetensors").rename(tmp_path / "away")
    flags = ("--images", root / "street", "--estimator", "bbse", "--output-dir", tmp_path / "no")
    refused = adapt(root, root / "out", *flags)
    (tmp_path / "away").rename(root / "out" / "head" / "held_out.safetensors")
    assert "has no held_out.safetensors" in refused.stderr
    shutil.copytree(root / "out", tmp_path / "single")
    none = torch.zeros(0, dtype=torch.long)
    write_held_out(tmp_path / "single" / "head", Predictions(none, none))
    refused = adapt(root, tmp_path / "single", *flags)
    assert "was held out, as no class had two" in refused.stderr
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("what", ["classifier", "features"])
def test_a_model_with_other_weights_than_those_of_its_record_is_refused(folders, what, tmp_path):
    root, _ = folders
    model = shutil.copytree(root / "out", tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    for name in tensors:
        if name.startswith("fc.") == (what == "classifier") and tensors[name].is_floating_point():
            tensors[name] = tensors[name] + 0.01
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    refused = adapt(root, model, "--images", root / "street", "--output-dir", tmp_path / "no")
    assert refused.returncode == 1
    assert f"The {what} in model.safetensors of '{model}' are not those that head/ was" in refused.stderr
    assert not (tmp_path / "no").exists()


def test_a_copy_in_half_precision_is_adapted(folders, tmp_path):
    root, _ = folders
    model = shutil.copytree(root / "out", tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    halves = {name: one.half() if one.is_floating_point() else one for name, one in tensors.items()}
    save_file(halves, model / "model.safetensors", metadata={"format": "pt"})
    assert adapt(root, model, "--images", root / "street", "--output-dir", tmp_path / "out").returncode == 0


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("backbone", None, "BackboneRecord is None, expected a JSON object"),
        ("data", {}, "DataSource lacks"),
        ("class_counts", None, "class_counts is None, expected a JSON list"),
    ],
)
def test_a_record_that_lacks_what_an_adaptation_needs_is_refused(folders, name, value, says, tmp_path):
    root, _ = folders
    model = shutil.copytree(root / "out", tmp_path / "model")
    config = json.loads((model / "head/config.json").read_text())
    (model / "head/config.json").write_text(json.dumps({**config, name: value}))
    refused = adapt(root, model, "--images", root / "street", "--output-dir", tmp_path / "no")
    assert refused.returncode == 1
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr


def test_one_record_tells_how_it_was_adapted(folders, tmp_path):
    root, labels = folders
    flags = ("--images", root / "street", "--strength", "5", "--output-dir", tmp_path / "out")
    assert adapt(root, root / "out", *flags).returncode == 0
    record = json.loads((tmp_path / "out" / "adapted.json").read_text())
    assert (record["samples"], record["estimator"], record["strength"]) == (len(labels), "bbse", 5.0)
    assert record["command"].startswith("python recipes/adapt.py")
    assert "results" not in json.loads((tmp_path / "out" / "head" / "config.json").read_text())


def test_class_names_like_formulas_are_harmless_in_the_table_alone(folders, tmp_path):
    root, _ = folders
    names = ["=0", "'=1", "-2", '@3,"three"', *"456789"]
    model = shutil.copytree(root / "out", tmp_path / "model")
    config = json.loads(
        (model / "config.json").read_text()
    )  # by hand, so that the head's record has other names
    (model / "config.json").write_text(json.dumps(config | {"label_names": names}))
    done = adapt(root, model, "--images", root / "street", "--output-dir", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    mix = json.loads(done.stdout)["class_mix"]
    assert (
        [row["class"] for row in mix]
        == names
        == LortHead.from_pretrained(tmp_path / "out").config["class_names"]
    )
    table = tmp_path / "out/class_mix.csv"
    with table.open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)][:3] == ["'=0", "''=1", "'-2"]
    assert read_shares(table, names) == [row["share"] for row in mix]
    address_cards(tmp_path / "out", "me/street")  # renders the card from the table, and finds it unedited
    assert "me/street" in (tmp_path / "out/README.md").read_text()


def test_an_adapted_model_is_pushed_and_loaded_by_plain_timm(folders, tmp_path):
    root, _ = folders
    out = tmp_path / "out"
    assert adapt(root, root / "out", "--images", root / "street", "--output-dir", out).returncode == 0
    with serve(tmp_path / "hub") as hub:
        client = Client(hub.endpoint, tmp_path / "home")
        code, said = client.recipe("push.py", out, "--to", "me/street", HF_TOKEN=WRITE)
        assert code == 0, said
        pushed = hub.repo("me/street").at("main").files
        assert {"README.md", "class_mix.csv", "adapted.json", "head/held_out.safetensors"} <= set(pushed)
        load = "import sys, timm, torch; sys.modules['lort_hub'] = None\n"
        load += "net = timm.create_model('hf-hub:me/street', pretrained=True)\n"
        code, said = client.run(
            f"{load}torch.save(net.get_classifier().bias.data, {str(tmp_path / 'bias.pt')!r})"
        )
        assert code == 0, said
    assert torch.load(tmp_path / "bias.pt").equal(LortHead.from_pretrained(out).bias.data)


def test_the_model_is_never_replaced_and_an_adapted_one_is(folders, tmp_path):
    root, _ = folders
    model = shutil.copytree(root / "out", tmp_path / "model")
    flags = ("--images", root / "street", "--overwrite", "--output-dir")
    refused = adapt(root, model, *flags, model)
    assert (refused.returncode, "which --overwrite would replace" in refused.stderr) == (1, True)
    assert (model / "metrics.json").exists()
    for strength in ("5", "50"):
        done = adapt(root, model, *flags, tmp_path / "out", "--strength", strength)
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/adapted.json").read_text())["strength"] == 50
    refused = adapt(root, model, *flags, tmp_path / "no", "--strength", "-1")
    assert (refused.returncode, "--strength is -1.0, expected a number" in refused.stderr) == (2, True)


def test_a_scale_that_the_head_lacked_is_on_the_card(folders, tmp_path):
    root, _ = folders
    model = shutil.copytree(root / "out", tmp_path / "model")
    config = json.loads((model / "head/config.json").read_text())
    config["head"]["mix"]["scale"], scale = 1.25, config["head"]["scale"]
    config["backbone"]["needs_lort_hub"] = True
    (model / "head/config.json").write_text(json.dumps(config))
    done = adapt(root, model, "--images", root / "street", "--output-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    before, after = LortHead.from_pretrained(model), LortHead.from_pretrained(tmp_path / "out")
    assert torch.allclose(after.weight.data, 1.25 * before.weight.data)
    assert after.config["head"]["scale"] == 1.25 * scale
    card = (tmp_path / "out/README.md").read_text()
    assert "and its logits\nmultiplied by 1.25, at which its probabilities hold" in card
    assert "import lort_hub.cifar_resnets" in card
    config["head"]["mix"]["scale"] = 1.0 + 1e-6
    (model / "head/config.json").write_text(json.dumps(config))
    plain = adapt(root, model, "--images", root / "street", "--output-dir", tmp_path / "plain")
    assert plain.returncode == 0
    assert "multiplied by" not in (tmp_path / "plain/README.md").read_text()
