"""recipes/predict.py: predictions as timm and pipeline make them, files, resuming, sorting."""

import csv
import io
import json
import math
import os
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image

from lort_hub.classifiers.prediction_parts import PredictionParts
from lort_hub.errors import CheckpointError
from tests.support.fork_server import run_forks
from tests.support.images import noise_image
from tests.support.recipes import job, run, run_together

BROKEN = {"1.png": "image file is truncated", "3.png": "not a picture", "5.png": "not a picture"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """150 pictures in folders of folders, of which one is cut short, one empty and one no picture."""
    folder = tmp_path_factory.mktemp("photos") / "unsorted"
    for k in range(150):
        inner = folder / ("a" if k % 2 else "b/c d")
        inner.mkdir(parents=True, exist_ok=True)
        noise_image(k, size=(40 + k % 9, 50)).save(inner / f"{k}.png")
    data = (folder / "a/1.png").read_bytes()
    (folder / "a/1.png").write_bytes(data[: len(data) // 2])
    (folder / "a/3.png").write_bytes(b"")
    (folder / "a/5.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def predicted(outputs, photos, tmp_path_factory):
    """The file of one undisturbed run."""
    output = tmp_path_factory.mktemp("predicted") / "predictions.csv"
    assert predict(outputs["timm"], photos, "--output", output).returncode == 0
    return output


def predict(*words, **options):
    return run("predict.py", *words, "--num-workers", "0", **options)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def predictions_of(row):
    """Classes and probabilities of a row of a CSV."""
    ranks = range(1, 1 + sum(name.startswith("class_") for name in row))
    return [row[f"class_{k}"] for k in ranks], [float(row[f"probability_{k}"]) for k in ranks]


def test_it_predicts_as_plain_timm(outputs, photos, predicted):
    model = timm.create_model(f"local-dir:{outputs['timm']}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    rows = rows_of(predicted)
    assert sorted(row["file"] for row in rows) == sorted(map(str, photos.rglob("*.png")))
    good = [row for row in rows if not row["error"]]
    assert len(good) == 147
    for row in good[::10]:
        with torch.inference_mode():
            expected = model(transform(Image.open(row["file"]).convert("RGB"))[None])[0].softmax(0)
        top = expected.argsort(descending=True)[:5]
        classes, probabilities = predictions_of(row)
        assert classes == [model.pretrained_cfg["label_names"][k] for k in top]
        assert probabilities == pytest.approx(expected[top].tolist(), rel=1e-5)


def test_it_predicts_as_transformers_pipeline(outputs, photos, tmp_path):
    from transformers import pipeline

    words = ("--output", tmp_path / "p.csv", "--top-k", 3)
    assert predict(outputs["transformers"], photos / "b", photos / "a/7.png", *words).returncode == 0
    rows = rows_of(tmp_path / "p.csv")
    assert len(rows) == 76
    classify = pipeline("image-classification", str(outputs["transformers"]))
    for row in rows[::15]:
        expected = classify(row["file"], top_k=3)
        classes, probabilities = predictions_of(row)
        assert classes == [one["label"] for one in expected]
        assert probabilities == pytest.approx([one["score"] for one in expected], rel=1e-4)


def test_a_broken_image_is_a_row_with_the_reason(predicted):
    broken = {Path(row["file"]).name: row for row in rows_of(predicted) if row["error"]}
    assert broken.keys() == BROKEN.keys()
    for name, row in broken.items():
        assert BROKEN[name] in row["error"]
        assert {row[f"{kind}_{k}"] for kind in ("class", "probability") for k in range(1, 6)} == {""}


def test_the_three_formats_say_the_same(outputs, photos, predicted, tmp_path):
    for suffix in ("jsonl", "parquet"):
        done = predict(outputs["timm"], photos, "--output", tmp_path / f"p.{suffix}")
        assert done.returncode == 0, done.said
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    table = pq.read_table(tmp_path / "p.parquet").to_pylist()
    rows = rows_of(predicted)
    assert len(rows) == len(lines) == len(table) == 150
    for row, line, record in zip(rows, lines, table, strict=True):
        assert list(row) == list(line) == list(record)
        assert row == {name: "" if value is None else str(value) for name, value in line.items()}
        for name, value in line.items():
            close = isinstance(value, float) and math.isclose(value, record[name], rel_tol=1e-5)
            assert close or value == record[name]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_where_every_image_is_broken_it_fails_and_says_so(outputs, tmp_path, suffix):
    (tmp_path / "broken").mkdir()
    for name in "ab":
        (tmp_path / f"broken/{name}.png").write_bytes(b"no picture")
    place = ("--output", tmp_path / f"p.{suffix}", "--sort-into", tmp_path / "sorted", "--json")
    for resume in ((), ("--resume",)):
        done = predict(outputs["timm"], tmp_path / "broken", *place, *resume)
        assert (done.returncode, done.stdout) == (1, "")
        assert "error: No image of 2 can be decoded: the column error of " in done.stderr
        assert (tmp_path / "sorted").is_dir()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", f"p.{suffix}", "sorted"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_two_processes_write_the_same_file(suffix, outputs, photos, tmp_path):
    one, two = tmp_path / f"one.{suffix}", tmp_path / f"two.{suffix}"
    assert predict(outputs["timm"], photos, "--output", one).returncode == 0
    done = run_together(2, "predict.py", outputs["timm"], photos, "--output", two, "--num-workers", 0)
    assert [each.returncode for each in done] == [0, 0], done
    assert one.read_bytes() == two.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [one.name, two.name]


def test_killed_anywhere_it_goes_on_to_the_same_file(outputs, photos, predicted, tmp_path):
    def words(k):
        place = ("--output", tmp_path / f"{k}/p.csv", "--sort-into", tmp_path / f"{k}/sorted")
        return (outputs["timm"], photos, *place, "--num-workers", "0")

    whole = run("predict.py", *words("whole"))
    assert whole.returncode == 0
    sorted_files = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.png")}
    assert len(sorted_files) == 147
    assert whole.seen > 15
    for k in range(1, whole.seen + 1, 3):
        [killed] = run_forks({**job("predict.py", *words(k)), "kill_at": k})
        assert killed.returncode == -9
        output = tmp_path / f"{k}/p.csv"
        assert not output.exists() or output.read_bytes() == predicted.read_bytes()
        resumed = run("predict.py", *words(k), "--resume")
        assert resumed.returncode == 0, (k, resumed.said)
        assert output.read_bytes() == predicted.read_bytes()
        assert sorted(path.name for path in output.parent.iterdir()) == ["p.csv", "sorted"]
        assert {path.relative_to(tmp_path / str(k)) for path in output.parent.rglob("*.png")} == sorted_files


def test_names_of_every_kind_are_kept(outputs, tmp_path):
    names = [b"=1+1.png", "日本 é.png".encode(), b"caf\xe9.png", b"two\nlines.png", b'-x,"y".png']
    photos = tmp_path / "photos"
    photos.mkdir()
    for k, name in enumerate(names):
        data = png_of(k)
        with open(os.path.join(os.fsencode(photos), name), "wb") as file:  # noqa: PTH118, PTH123
            file.write(data)
    words = ("--output", "p.csv", "--sort-into", tmp_path / "sorted")
    finished = predict(outputs["timm"], ".", *words[:1], tmp_path / "p.csv", *words[2:], cwd=photos)
    assert finished.returncode == 0, finished.said
    assert sorted(row["file"] for row in rows_of(tmp_path / "p.csv")) == sorted(
        ["./=1+1.png", "日本 é.png", "café.png", "two\nlines.png", './-x,"y".png']
    )
    assert {path.read_bytes() for path in (tmp_path / "sorted").rglob("*.png")} == set(map(png_of, range(5)))


def png_of(seed):
    buffer = io.BytesIO()
    noise_image(seed).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_table_has_rows_and_one_class_enough(outputs, tmp_path):
    cells = [{"bytes": png_of(k), "path": None if k else "x.png"} for k in range(3)]
    cells[2]["bytes"] = b"no picture"
    features = datasets.Features({"picture": datasets.Image(decode=False)})
    datasets.Dataset.from_dict({"picture": cells}, features).to_parquet(tmp_path / "t.parquet")
    words = ("--output", tmp_path / "p.csv", "--top-k", "1", "--sort-into", tmp_path / "sorted")
    finished = predict(outputs["timm"], tmp_path / "t.parquet", *words, "--min-confidence", "1")
    assert finished.returncode == 0, finished.said
    rows = rows_of(tmp_path / "p.csv")
    assert list(rows[0]) == ["row", "file", "class_1", "probability_1", "error"]
    assert [(row["row"], row["file"]) for row in rows] == [("0", "x.png"), ("1", ""), ("2", "")]
    unsure = tmp_path / "sorted/unsure"
    assert list((tmp_path / "sorted").iterdir()) == [unsure]
    assert {path.name: path.read_bytes() for path in unsure.iterdir()} == {
        "x.png": png_of(0),
        "000001.png": png_of(1),
    }


def test_json_is_all_there_is_on_stdout(outputs, photos, tmp_path):
    words = (outputs["timm"], photos, "--output", tmp_path / "p.csv", "--json")
    summary = json.loads(predict(*words).stdout)
    assert summary["output"] == str(tmp_path / "p.csv")
    assert (summary["images"], summary["errors"]) == (150, 3)
    rows = [row["class_1"] for row in rows_of(tmp_path / "p.csv") if row["class_1"]]
    assert summary["classes"] == {name: rows.count(name) for name in set(rows)}
    before = (tmp_path / "p.csv").stat()
    late = predict(*words, "--resume", "--sort-into", tmp_path / "sorted")
    assert (late.returncode, late.stdout) == (2, "")
    assert "is finished; to sort its images, give --overwrite." in late.stderr
    assert json.loads(predict(*words, "--resume").stdout)["images"] is None
    assert (tmp_path / "p.csv").stat() == before


def test_what_is_wrong_is_said_before_anything_is_read(outputs, photos, predicted, tmp_path):
    def says(*words):
        finished = predict(outputs["timm"], photos, *words)
        assert finished.returncode in (1, 2)
        assert list(tmp_path.iterdir()) == []
        return finished.stderr

    new = ("--output", tmp_path / "p.csv")
    assert "is there already.\nPass --overwrite to replace it" in says("--output", predicted)
    assert "Expected a file that ends in .csv, .jsonl, .parquet." in says("--output", tmp_path / "p.txt")
    assert "--min-confidence has no effect without --sort-into" in says(*new, "--min-confidence", "0.5")
    assert "--min-confidence is 50.0, expected 0 to 1" in says(
        *new, "--min-confidence", "50", "--sort-into", tmp_path / "s"
    )
    assert "--top-k is 0, expected at least 1." in says(*new, "--top-k", "0")
    assert "whose images would then be there twice.\nName a folder outside of it with --sort-into" in says(
        *new, "--sort-into", photos / "sorted"
    )
    nothing = predict(outputs["timm"], photos / "a", tmp_path / "gone.jpg", *new)
    assert nothing.returncode == 1
    assert "No file '" in nothing.stderr
    assert "each is a picture or a folder of pictures" in nothing.stderr


def test_overwrite_replaces_only_when_the_new_file_is_whole(outputs, photos, predicted, tmp_path):
    output = tmp_path / "p.csv"
    output.write_text("old")
    words = (outputs["timm"], photos, "--output", output, "--num-workers", "0")
    [killed] = run_forks({**job("predict.py", *words, "--overwrite"), "kill_at": 8})
    assert killed.returncode == -9
    assert output.read_text() == "old"
    assert "holds the finished parts of an interrupted run" in run("predict.py", *words).stderr
    assert run("predict.py", *words, "--overwrite", "--resume").returncode == 0
    assert output.read_bytes() == predicted.read_bytes()


def test_predictions_that_are_written_into_the_sorted_folder_are_refused(outputs, photos, tmp_path):
    words = ("--output", tmp_path / "sorted/p.csv", "--sort-into", tmp_path / "sorted")
    refused = predict(outputs["timm"], photos, *words)
    assert refused.returncode == 1
    assert (
        "which must be empty when the images are sorted into it.\nWrite the predictions beside it"
        in refused.stderr
    )
    assert list(tmp_path.iterdir()) == []


def test_images_that_were_not_sorted_after_all_are_not_taken_for_sorted(tmp_path):
    sorted_into, parts = tmp_path / "sorted", PredictionParts(tmp_path / "p.csv", 1)
    parts.start({}, resume=False, overwrite=False)

    def sort(*names):
        with parts.sorting(sorted_into):
            sorted_into.mkdir(exist_ok=True)
            (sorted_into / "theirs.png").touch()
            for name in names:
                raise CheckpointError(f"{name} was filled by another process")

    with pytest.raises(CheckpointError):
        sort("sorted")
    assert not parts.has_sorted(sorted_into)
    sort()
    assert parts.has_sorted(sorted_into)
