"""The main job as a user runs it: a subprocess, and its output in a process that cannot import lort_hub."""

import csv
import json
import shutil
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lort_hub import LortHead
from lort_hub.data.load import load_long_tailed
from tests.support.models import timm_folder, transformers_folder
from tests.support.pages import check_page
from tests.support.recipes import SMALL, retrain, run, run_plain, run_together, serve, start

PLAIN = """
import json, sys
import torch
from PIL import Image
from safetensors.torch import load_file
folder, image_files, library = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
images = [Image.open(file).convert("RGB") for file in image_files]
logits = {}
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline
if library == "timm":
    import timm
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    with torch.inference_mode():
        pixels = torch.stack([transform(image) for image in images])
        logits["timm"] = torch.cat([model(part) for part in pixels.split(50)]).tolist()
model = AutoModelForImageClassification.from_pretrained(folder).eval()
processor = AutoImageProcessor.from_pretrained(folder)
parts = [images[k : k + 50] for k in range(0, len(images), 50)]
with torch.inference_mode():
    pixels = [processor(part, return_tensors="pt") for part in parts]
    logits["transformers"] = torch.cat([model(**part).logits for part in pixels]).tolist()
classify = pipeline("image-classification", folder)
names = [found[0]["label"] for found in classify(images, top_k=1, batch_size=50)]
print(json.dumps({"logits": logits, "pipeline": names}))
"""


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_plain_libraries_load_the_output_and_give_our_numbers(library, tmp_path):
    make = timm_folder if library == "timm" else transformers_folder
    backbone = make(tmp_path / "backbone")
    out = tmp_path / "out"
    flags = ("--backbone", backbone, "--dataset", "digits", "--output-dir", out)
    finished = (start if library == "timm" else run)("retrain.py", *flags, cache=tmp_path / "cache")
    assert finished.returncode == 0, finished.stderr
    assert "| lort " in finished.stdout
    assert "| ce " in finished.stdout

    test = load_long_tailed("digits").test
    files = []
    for k in range(len(test)):
        files.append(str(tmp_path / f"{k}.png"))
        test.image(k).save(files[-1])
    plain = run_plain(PLAIN, out, json.dumps(files), library, cwd=tmp_path)
    assert plain.returncode == 0, plain.stderr
    said = json.loads(plain.stdout.splitlines()[-1])

    metrics = json.loads((out / "metrics.json").read_text())
    head = LortHead.from_pretrained(str(out / "head"))
    from lort_hub.backbones.load import load_backbone

    loaded = load_backbone(str(backbone))
    with torch.inference_mode():
        pixels = torch.stack([loaded.transform(test.image(k)) for k in range(len(test))])
        ours = head(loaded.features(pixels))
    for logits in said["logits"].values():
        assert (torch.tensor(logits) - ours).abs().max() < 1e-4
        accuracy = np.mean(np.argmax(logits, axis=1) == test.labels)
        assert accuracy == pytest.approx(metrics["test"]["accuracy"], abs=1e-9)
    right = np.mean(
        [test.class_names[y] == name for y, name in zip(test.labels, said["pipeline"], strict=True)]
    )
    assert right == pytest.approx(metrics["test"]["accuracy"], abs=1e-9)
    check_report(out, metrics)


def check_report(out, metrics):
    """The page has the numbers of metrics.json, and pictures of the mistakes of the exported head."""
    page = check_page((out / "report.html").read_text())
    heads = {"ce": metrics["baseline"], **metrics["others"], "stack": metrics["test"]}
    for report in heads.values():
        rates = [
            report[name] for name in ("balanced_accuracy", "medium", "few", "ece", "accuracy", "macro_f1")
        ]
        rates += [end for name in ("balanced_accuracy", "few") for end in report["interval"][name]]
        for number in (f"{report['nll']:.3f}", *(f"{100 * rate:.1f}" for rate in rates)):
            assert number in page.text
    assert "decides for" in page.text
    assert "probabilities hold for" not in page.text
    wrong = round((1 - metrics["test"]["accuracy"]) * metrics["test"]["n"])
    assert f"stack is wrong about {wrong} of {metrics['test']['n']} test images" in page.text
    assert sum(": row " in image["alt"] for image in page.all("img")) >= min(wrong, 24)
    run = json.loads((out / "run.json").read_text())
    for fact in (metrics["selection"]["why"], run["environment"]["command"], run["data"]["fingerprint"]):
        assert " ".join(fact.split()) in page.text


def test_the_output_folder_is_what_design_says(photos, tmp_path):
    out = tmp_path / "out"
    finished = retrain("--backbone", timm_folder(tmp_path / "b"), "--dataset", photos, "--output-dir", out)
    assert finished.returncode == 0, finished.stderr
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == sorted(
        ["README.md", "config.json", "log.jsonl", "metrics.json", "model.safetensors", "per_class.csv"]
        + ["report.html", "run.json"]
        + ["head/README.md", "head/config.json", "head/held_out.safetensors", "head/model.safetensors"]
        + [f"plots/{name}.png" for name in ("logits_magnitude", "per_class_accuracy", "reliability")]
    )
    metrics, record = (json.loads((out / name).read_text()) for name in ("metrics.json", "run.json"))
    assert set(metrics) == {"test", "baseline", "others", "selection", "timing"}
    assert list(metrics["others"]) == ["lort"]
    wanted = {"accuracy", "balanced_accuracy", "many", "medium", "few", "worst_class", "macro_f1", "nll"}
    assert wanted | {"ece", "logits_magnitude", "regularized_std", "weight_norm", "n"} <= set(metrics["test"])
    assert metrics["test"]["many"] is None
    assert metrics["test"]["n"] == 12
    assert record["data"]["class_counts"] == [9, 6, 3]
    assert len(record["data"]["train_rows"]) == 18
    assert json.loads((out / "config.json").read_text())["label_names"] == ["ant", "bee", "cat"]
    assert not list(tmp_path.glob(".*"))  # nothing staged is left


def test_every_recipe_lists_the_copies_that_it_speaks_of(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(tmp_path / "photos/test/ant/0.png", tmp_path / "photos/train/ant/copy.png")
    flags = [*SMALL, "--dataset", "photos", "--output-dir"]
    more = {"retrain": ["--method", "ce"], "compare": ["--methods", "ncm"], "sweep": ["--studies", "delta"]}
    plan = [{"recipe": f"{name}.py", "flags": [*flags, name, *own]} for name, own in more.items()]
    for name, finished in zip(more, serve(plan, tmp_path), strict=True):
        assert finished["code"] == 0, finished["said"]
        assert "1 of 12 test images are training images too, byte for byte" in finished["said"]
        assert "duplicates.csv in the output folder lists them" in finished["said"]
        with (tmp_path / name / "duplicates.csv").open() as file:
            listed = [(row["used_for"], row["file"], row["class_name"]) for row in csv.DictReader(file)]
        assert sorted(listed) == [
            ("test", "test/ant/0.png", "ant"),
            ("training", "train/ant/copy.png", "ant"),
        ]


def test_a_second_run_extracts_nothing_and_finds_the_same_head(photos, tmp_path):
    backbone = timm_folder(tmp_path / "b")
    heads = []
    for name in ("first", "second"):
        flags = ("--backbone", backbone, "--dataset", photos, "--output-dir", tmp_path / name)
        finished = retrain(*flags, cache=tmp_path / "cache")
        assert finished.returncode == 0, finished.stderr
        heads.append((tmp_path / name / "head" / "model.safetensors").read_bytes())
        stores = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")}
        if name == "first":
            written = stores
    assert stores == written
    assert heads[0] == heads[1]


PARTS = """
import lort_hub.features.store

lort_hub.features.store.PART_SIZE = {}  # so small that each process has some
"""


def test_two_processes_find_the_head_of_one(tmp_path):
    flags = ("--backbone", timm_folder(tmp_path / "b"), "--dataset", "digits", "--num-workers", "0")
    flags = (*flags, "--method", "lort", "--output-dir")
    before = PARTS.format(75)
    one = retrain(*flags, tmp_path / "one", cache=tmp_path / "cache1", before=before)
    assert one.returncode == 0, one.stderr
    options = {"cache": tmp_path / "cache2", "before": before}
    two = run_together(2, "retrain.py", *flags, tmp_path / "two", **options)
    assert [done.returncode for done in two] == [0, 0], two
    assert [done.stdout.count("| lort ") for done in two] == [1, 0]
    assert len(list((tmp_path / "cache2").rglob("eval-*.safetensors"))) == 14  # 3 and 4 parts a process
    heads = [load_file(tmp_path / name / "head" / "model.safetensors") for name in ("one", "two")]
    assert heads[0].keys() == heads[1].keys()
    largest = max(tensor.abs().max() for tensor in heads[0].values())
    for name, tensor in heads[0].items():
        assert (heads[1][name] - tensor).abs().max() <= 1e-5 * largest, name


def test_an_image_that_one_process_cannot_decode_ends_both_with_its_name(photos, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    (folder / "train" / "cat" / "2.png").write_bytes(b"not a picture")
    flags = (*SMALL, "--dataset", folder, "--output-dir", tmp_path / "out")
    options = {"cache": tmp_path / "cache", "before": PARTS.format(4)}
    for stopped in run_together(2, "retrain.py", *flags, **options):
        assert stopped.returncode == 1
        assert "error: Cannot decode row 17 of split 'train'" in stopped.stderr
        assert "leave all such images out with --on-bad-image skip" in stopped.stderr
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_closed_form_is_lort_s_limit_and_no_other_method_s(tmp_path):
    flags = ("--backbone", timm_folder(tmp_path / "b"), "--dataset", "digits", "--num-workers", "0")
    flags = (*flags, "--solver", "closed-form", "--output-dir")
    finished = retrain(*flags, tmp_path / "out", cache=tmp_path / "cache")
    assert finished.returncode == 0, finished.stderr
    assert "leave-one-out in closed form" in finished.stdout
    head = json.loads((tmp_path / "out" / "run.json").read_text())["head"]
    assert head["delta"] == pytest.approx(0.831, abs=1e-3)
    refused = retrain(*flags, tmp_path / "ce", "--method", "ce", cache=tmp_path / "cache")
    assert refused.returncode == 2
    assert refused.stderr.count("error: --solver closed-form is the limit of over-smoothed labels") == 1
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "ce").exists()
    refused = retrain("--method", "ncm", "--gamma", "1", "--dataset", "nowhere", cache=tmp_path / "cache")
    assert "error: 'ncm' has no setting --gamma" in refused.stderr  # and nothing was looked for before


def test_processes_that_do_not_know_each_other_are_refused(photos, tmp_path):
    finished = retrain(*SMALL, "--dataset", photos, "--output-dir", tmp_path / "out", WORLD_SIZE="2")
    assert finished.returncode == 2
    assert "lort-hub retrain --num-processes 2" in finished.stderr
    assert not (tmp_path / "out").exists()


def test_unreachable_hub_is_one_message_within_seconds(tmp_path):
    started = time.monotonic()
    finished = retrain(
        "--backbone", "resnet50", "--output-dir", tmp_path / "out", HF_ENDPOINT="http://127.0.0.1:9"
    )
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    assert "Cannot reach http://127.0.0.1:9" in finished.stderr
    assert "local-dir:FOLDER as the backbone" in finished.stderr
    assert time.monotonic() - started < 60  # imports alone take ten on a busy machine
    assert not list(tmp_path.iterdir())


def test_dry_run_says_the_plan_and_writes_nothing(photos, tmp_path):
    finished = retrain(
        *SMALL, "--dataset", photos, "--output-dir", tmp_path / "out", "--dry-run", cache=tmp_path / "cache"
    )
    assert finished.returncode == 0, finished.stderr
    assert "18 training images of 3 classes (9 to 3 each" in finished.stdout
    assert not list(tmp_path.iterdir())


def test_a_corrupt_image_stops_the_run_or_is_left_out(photos, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    (folder / "train" / "bee" / "3.png").write_bytes(b"not a picture")
    flags = (*SMALL, "--dataset", folder, "--output-dir", tmp_path / "out")
    stopped = retrain(*flags, cache=tmp_path / "cache")
    assert stopped.returncode == 1
    assert "3.png" in stopped.stderr
    assert "class 'bee'" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert not (tmp_path / "out").exists()

    left_out = retrain(*flags, "--on-bad-image", "skip", cache=tmp_path / "cache")
    assert left_out.returncode == 0, left_out.stderr
    assert "class 'bee'" in left_out.stdout
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["data"]["class_counts"] == [9, 5, 3]
    assert record["data"]["left_out"] == [{"split": "train", "row": 12, "class": "bee"}]


def test_a_head_of_the_same_classes_is_the_baseline(photos, tmp_path):
    first = retrain(*SMALL, "--dataset", photos, "--output-dir", tmp_path / "first", "--method", "ce")
    assert first.returncode == 0, first.stderr
    second = retrain(
        "--backbone", tmp_path / "first", "--dataset", photos, "--output-dir", tmp_path / "second"
    )
    assert second.returncode == 0, second.stderr
    ce, again = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("first", "second"))
    assert "| stage 1 " in second.stdout
    assert again["baseline"]["accuracy"] == ce["test"]["accuracy"]
    assert again["baseline"]["nll"] == pytest.approx(ce["test"]["nll"], abs=1e-5)


@pytest.mark.parametrize("method", ["auto", "ncm"])  # settings are chosen, and there is none to choose
def test_test_folders_that_are_mixed_up_are_told_by_the_held_out_training_images(photos, tmp_path, method):
    mixed = tmp_path / "photos"
    shutil.copytree(photos, mixed)
    for name, other in {"ant": "1", "bee": "ant", "cat": "bee", "1": "cat"}.items():
        (mixed / "test" / name).rename(mixed / "test" / other)
    for folder, told in ((photos, False), (mixed, True)):
        out = tmp_path / f"out-{told}"
        flags = ("--dataset", folder, "--method", method, "--bootstrap", "0", "--output-dir", out)
        finished = retrain(*SMALL, *flags)
        assert finished.returncode == 0, finished.stderr
        note = json.loads((out / "metrics.json").read_text()).get("note")
        pages = [(out / name).read_text() for name in ("README.md", "report.html")]
        if told:
            assert " of the held-out training images are recognised, but 0.0 % of the test images" in note
            assert f"\n{note}\n" in finished.stdout
            assert all(note in page for page in pages)
        else:
            assert note is None
            assert not any(
                "of the held-out training images are" in text for text in [finished.stdout, *pages]
            )


def test_resume_and_overwrite(photos, tmp_path):
    flags = (*SMALL, "--dataset", photos, "--output-dir", tmp_path / "out")
    assert retrain(*flags).returncode == 0
    before = (tmp_path / "out" / "run.json").read_bytes()
    refused = retrain(*flags)
    assert refused.returncode == 1
    assert "--overwrite" in refused.stderr
    resumed = retrain(*flags, "--resume")
    assert resumed.returncode == 0
    assert "is finished" in resumed.stdout
    assert (tmp_path / "out" / "run.json").read_bytes() == before
    changed = retrain(*flags, "--resume", "--method", "ce")
    assert changed.returncode == 1
    assert "method" in changed.stderr
    assert retrain(*flags, "--overwrite", "--method", "ce").returncode == 0


def test_parquet_of_jpegs_with_augmented_views_by_sgd(tmp_path):
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    for split, count in (("train", 12), ("test", 6)):
        pictures = [Image.new("RGB", (40, 30), (20 * k, 99, 200 * (k % 2))) for k in range(count)]
        rows = datasets.Dataset.from_dict(
            {"image": pictures, "label": [k % 2 for k in range(count)]}, features=kinds
        )
        (tmp_path / "data").mkdir(exist_ok=True)
        rows.to_parquet(tmp_path / "data" / f"{split}.parquet")
    flags = ("--dataset", tmp_path / "data", "--output-dir", tmp_path / "out", "--views", "2")
    finished = retrain(*SMALL, *flags, "--method", "lort-published", cache=tmp_path / "cache")
    assert finished.returncode == 0, finished.stderr
    assert "20 epochs of SGD" in finished.stdout
    views = {path.name.split("-")[0] for path in Path(tmp_path / "cache").rglob("*.safetensors")}
    assert views == {"eval", "seed0.1", "seed0.2", "result"}  # the baseline is kept beside the features


def test_random_weights_are_seeded_and_ce_obeys_its_flags(photos, tmp_path):
    heads = []
    for name in ("a", "b"):
        flags = ("--dataset", photos, "--output-dir", tmp_path / name, "--method", "ce", "--gamma", "0.5")
        finished = retrain(*SMALL, *flags, "--weight-decay", "0.01", cache=tmp_path / "cache")
        assert finished.returncode == 0, finished.stderr
        heads.append((tmp_path / name / "head" / "model.safetensors").read_bytes())
    assert heads[0] == heads[1]
    head = json.loads((tmp_path / "a" / "run.json").read_text())["head"]
    assert (head["gamma"], head["weight_decay"], head["delta"]) == (0.5, 0.01, 0.0)
    assert json.loads((tmp_path / "a" / "run.json").read_text())["baseline"]["name"] == "ce (default)"
    assert [line.split()[1] for line in finished.stdout.splitlines() if line.startswith("| ")][2:] == [
        "ce",
        "lort",
        "ce",
    ]


def test_a_head_that_is_the_baseline_is_compared_with_no_other_as_one(photos, tmp_path):
    finished = retrain(*SMALL, "--dataset", photos, "--output-dir", tmp_path / "ce", "--method", "ce")
    assert finished.returncode == 0, finished.stderr
    metrics = json.loads((tmp_path / "ce" / "metrics.json").read_text())
    assert (metrics["baseline"], list(metrics["others"])) == (None, ["lort"])
    assert "The baseline is" not in (tmp_path / "ce" / "README.md").read_text()


def test_a_head_is_made_for_a_stated_class_mix(photos, tmp_path):
    base, mix = ["--backbone", timm_folder(tmp_path / "b"), "--dataset", photos], tmp_path / "street.csv"
    base += ["--method", "ncm"]
    mix.write_text("class,share\nant,0.2\nbee,0.8\ncat,0\n")
    assert retrain(*base, "--output-dir", tmp_path / "made").returncode == 0
    finished = retrain(*base, "--test-prior", mix, "--output-dir", tmp_path / "moved")
    assert finished.returncode == 0, finished.stderr
    made, moved = (LortHead.from_pretrained(tmp_path / name) for name in ("made", "moved"))
    shift = (moved.bias - made.bias).detach()
    assert float(shift[1] - shift[0]) == pytest.approx(np.log(4), rel=1e-3)
    assert float(shift[1] - shift[2]) == pytest.approx(np.log(0.8 / 1e-6), rel=1e-3)
    assert moved.config["head"]["mix"]["name"] == "street.csv"
    card = (tmp_path / "moved" / "README.md").read_text()
    assert "class mix `street.csv` (largest shares: bee 80.0 %, ant 20.0 %, cat 0.0 %)" in card
    scores = json.loads((tmp_path / "moved" / "metrics.json").read_text())["test"]["mix"]
    assert f"| {100 * scores['accuracy']:.1f} " in card.split("accuracy at street.csv")[1]
    mix.write_text("class,share\nant,0.2\nbea,0.8\ncat,0\n")
    refused = retrain(*base, "--test-prior", mix, "--output-dir", tmp_path / "no")
    assert refused.returncode == 2
    assert "Did you mean 'bee'?" in refused.stderr
    refused = retrain(*base, "--test-prior", "train", "--no-calibrate", "--output-dir", tmp_path / "no")
    assert (refused.returncode, "--no-calibrate" in refused.stderr) == (2, True)


def test_a_refit_takes_all_choices_from_an_earlier_run(photos, tmp_path):
    """As after `train --refit`, whose backbone has seen every image."""
    plan = [
        {"flags": [*SMALL, "--dataset", photos, "--epochs", "2", "--output-dir", "stage1"]},
        {"flags": ["--refit", "stage1", "--num-workers", "0", "--output-dir", "whole"]},
    ]
    same = ["--dataset", photos, "--num-workers", "0", "--output-dir"]
    plan += [
        {"recipe": "retrain.py", "flags": ["--backbone", "stage1", *same, "head"]},
        {"recipe": "retrain.py", "flags": ["--backbone", "whole", *same, "rosy"]},
        {"recipe": "retrain.py", "flags": ["--backbone", "whole", "--refit", "head", *same, "out"]},
    ]
    moved = ["--backbone", "whole", "--refit", "head", "--test-prior", "train", *same, "moved"]
    plan.append({"recipe": "retrain.py", "flags": moved})
    done = serve(plan, tmp_path)
    assert [step["code"] for step in done] == [0] * len(plan), done
    warned = ["trained on all of these images" in " ".join(step["said"].split()) for step in done[2:]]
    assert warned == [False, True, False, False]
    assert "--refit takes both from a run" in " ".join(done[3]["said"].split())
    head, out = (json.loads((tmp_path / name / "run.json").read_text())["head"] for name in ("head", "out"))
    assert out["settings"] == head["settings"]
    assert out["mix"] == head["mix"]
    held_out = [(tmp_path / name / "head" / "held_out.safetensors").read_bytes() for name in ("head", "out")]
    assert held_out[0] == held_out[1]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["others"].keys() == {"lort"}
    card = " ".join((tmp_path / "out" / "README.md").read_text().split())
    assert "those of an earlier run, which chose them on held-out training images" in card
    assert "No training image was kept out, so stage 2 has" in (tmp_path / "whole" / "README.md").read_text()
    assert "3. Its settings and its calibration" in card
    assert "moved to the class mix `train`" in (tmp_path / "moved" / "README.md").read_text()
    [again] = serve([{"recipe": "retrain.py", "flags": ["--refit", "moved", *same, "no"]}], tmp_path)
    assert again["code"] == 2
    assert "error: --refit moved was moved to the class mix 'train'" in again["said"]


@pytest.mark.parametrize("flags", [[], ["--method", "lort", "--solver", "sgd", "--views", "1"]])
def test_all_rows_of_a_refit_are_of_the_recorded_settings(photos, tmp_path, flags):
    """Scales that are tripled in the record show in the probabilities, and in no decision."""
    same = ["--backbone", timm_folder(tmp_path / "b"), "--dataset", photos, "--output-dir"]
    first, again = tmp_path / "first", tmp_path / "again"
    done = retrain(*same, first, *flags)
    assert done.returncode == 0, done.stderr
    record = json.loads((first / "run.json").read_text())
    for chosen in record["head"]["candidates"].values():
        chosen["scale"] *= 3
    record["head"]["scale"] *= 1 if record["head"]["method"] == "stack" else 3
    (first / "run.json").write_text(json.dumps(record))
    done = retrain(*same, again, "--refit", first)
    assert done.returncode == 0, done.stderr
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (first, again)]
    rows = [{"baseline": one["baseline"], **one["others"], "test": one["test"]} for one in metrics]
    assert rows[0].keys() == rows[1].keys()
    for name, report in rows[0].items():
        assert rows[1][name]["nll"] != pytest.approx(report["nll"], rel=0.01), name
        assert flags == [] or rows[1][name]["accuracy"] == report["accuracy"], name
    assert metrics[1]["selection"] is None
