"""The page of a test stands alone, holds names as text and pictures of what it names, and stays small."""

import base64
import io
import re
from collections import Counter
from dataclasses import replace

import datasets
import numpy as np
import pytest
from PIL import Image

from lort_hub.data.dataset import ImageSplit
from lort_hub.evaluation.html import write_page
from lort_hub.evaluation.metrics import evaluate
from lort_hub.evaluation.mistakes import find_mistakes
from lort_hub.evaluation.report import MixScores
from lort_hub.evaluation.report_page import Answers, Facts, render_report
from lort_hub.evaluation.tables import Table
from tests.support.images import noise_image, png, split_of
from tests.support.pages import check_page, plots_of

HOSTILE = (
    "<script>alert(1)</script>",
    '"\' onerror="alert(1)',
    "two\nlines\tand\x00\x1b[31m",
    "\u202eright to left",
    "x" * 300,
    "{{ 7 * 7 }} {% raw %} & &amp; $\\frac{1}{0}$ </style>--><!--",
)
HARMLESS = tuple("abcdef")


def pictures_of(names, encoded=None):
    split = split_of(encoded or [png(np.asarray(noise_image(k, (40, 30)))) for k in range(len(names) * 4)])
    return replace(split, labels=np.arange(len(split)) % len(names), class_names=tuple(names))


def page_of(names, *, head="lort", images="split", counts=True, wrong=0.5, facts=(), **options):
    """A page on random logits, whose seed does not depend on the names."""
    images = pictures_of(names) if images == "split" else images
    labels = np.arange(4 * len(names)) % len(names)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(len(labels), len(names))) + np.eye(len(names))[labels] / wrong
    class_counts = np.geomspace(500, 3, len(names)).astype(int)
    reports = {
        name: evaluate(
            scale * logits, labels, class_counts, weight=np.eye(len(names)), bootstrap=50, scale=2.0
        )
        for name, scale in (("ce", 0.5), (head, 1.0))
    }
    shown = {"class_counts": class_counts.tolist()} if counts else {}
    answers = Answers(head, logits, labels, images)
    return (
        render_report("Test", reports, names, answers=answers, facts=facts, **shown, **options),
        reports,
        answers,
    )


def test_the_page_has_the_numbers_and_the_mistakes_of_the_reports():
    facts = [Facts("Chosen", (("method", "<lort>"),), "lort-hub retrain", Table(("a", "b"), (("c", "1"),)))]
    text, reports, answers = page_of(
        HARMLESS, facts=facts, notes=["Three copies."], subtitle="Of six classes"
    )
    page = check_page(text)
    for report in reports.values():
        assert f"{100 * report.balanced_accuracy:.1f}" in page.text
        low, high = report.interval.few
        assert f"{100 * low:.1f}\u2013{100 * high:.1f}" in page.text
        for scale in (report.as_solved, report.calibrated):
            assert f"{100 * scale.ece:.1f}" in page.text
            assert f"{scale.nll:.3f}" in page.text
    found = find_mistakes(answers.logits, answers.labels)
    assert f"wrong about {found.wrong} of 24 test images" in page.text
    first = found.confident[0]
    alt = f"{HARMLESS[first.label]}, taken for {HARMLESS[first.predicted]}: {first.position}.png"
    assert alt in [image["alt"] for image in page.all("img")]
    assert f"{100 * first.probability:.1f} %" in page.text
    for line in ("Three copies.", "Of six classes", "lort-hub retrain", "method<lort>"):
        assert line in page.text.replace(" <lort>", "<lort>").replace("method <", "method<")
    order = ["Numbers", "The tail", "What went wrong", "Calibration", "Chosen"]
    places = [text.index(f">{title}</h2>") for title in order]
    assert places == sorted(places)


def test_a_picture_is_the_image_that_its_caption_names():
    colors = [(255, 0, 0), (0, 160, 0), (0, 0, 255)] * 4
    encoded = [png(np.full((8, 8, 3), color, dtype=np.uint8)) for color in colors]
    text, *_ = page_of("abc", images=pictures_of("abc", encoded), wrong=9)
    seen = 0
    for image in check_page(text).all("img"):
        named = re.search(r": (\d+)\.png$", image["alt"])
        if named:
            data = base64.b64decode(image["src"].partition(",")[2])
            assert Image.open(io.BytesIO(data)).getpixel((4, 4)) == colors[int(named[1])]
            assert image["alt"].startswith("abc"[int(named[1]) % 3])
            seen += 1
    assert seen > 5


@pytest.mark.parametrize("place", ["classes", "head", "file", "texts"])
def test_hostile_names_are_text_wherever_they_stand(place, tmp_path):
    def page(names):
        options = {"names": HARMLESS}
        if place == "classes":
            options = {"names": names}
        elif place == "head":
            options |= {"head": "".join(names)[:250]}
        elif place == "file":
            split = pictures_of(HARMLESS)
            rows = [{**row, "path": names[k % 6]} for k, row in enumerate(split.images["image"])]
            images = datasets.Dataset.from_dict({"image": rows}, features=split.images.features)
            options |= {"images": replace(split, images=images)}
        else:
            table = Table(names[:2], (names[2:4],))
            facts = [Facts(names[0], ((names[1], names[2]),), names[5], table)]
            options |= {"facts": facts, "notes": names, "subtitle": names[3]}
        text, *_ = page_of(**options)
        write_page(tmp_path / "report.html", text)
        return check_page((tmp_path / "report.html").read_text(encoding="utf-8"))

    hostile, harmless = page(HOSTILE), page(HARMLESS)
    assert Counter(tag for tag, _ in hostile.elements) == Counter(tag for tag, _ in harmless.elements)
    attributes = [Counter(name for _, one in found.elements for name in one) for found in (hostile, harmless)]
    assert attributes[0] == attributes[1]
    drawn = [[element.tag for element in svg.iter()] for svg in plots_of(hostile)]
    assert len(drawn) == 2
    assert not any("script" in tag for tags in drawn for tag in tags)
    said = hostile.text + " ".join(image["alt"] for image in hostile.all("img"))
    assert place == "file" or "<script>alert(1)</script>" in said


def test_a_missing_and_a_broken_picture_are_placeholders(tmp_path):
    whole = pictures_of("ab")
    rows = list(whole.images["image"])
    rows = [{"bytes": None, "path": str(tmp_path / f"gone{k}.png")} for k in range(4)] + rows[4:6]
    rows += [{"bytes": b"\xff\xd8 no jpeg", "path": "torn.jpg"}, None]
    images = datasets.Dataset.from_dict({"image": rows}, features=whole.images.features)
    text, _, answers = page_of("ab", images=replace(whole, images=images), wrong=99)
    wrong = {one.position for one in find_mistakes(answers.logits, answers.labels).confident}
    page = check_page(text)
    assert wrong & {0, 1, 2, 3}
    assert "no picture: no such file" in page.text
    thumbnails = {one["alt"].rpartition(": ")[2] for one in page.all("img")[1:-1]}
    assert thumbnails == {f"{k}.png" for k in wrong & {4, 5}}


def test_nothing_wrong_no_counts_no_pictures_and_no_answers():
    perfect, *_ = page_of("ab", wrong=0.01)
    assert "Nothing: all 8 test images are right." in check_page(perfect).text
    bare, reports, _ = page_of("ab", counts=False, images=None)
    page = check_page(bare)
    assert page.text.count("n/a") == 3 * len(reports)
    assert "there are no groups" in page.text
    assert len(page.all("img")) == 2
    alone = check_page(render_report("Test", {"net": next(iter(reports.values()))}, "ab", kind="model"))
    assert "What went wrong" not in alone.text
    assert "modelbalanced accuracymany" in alone.text


def test_one_test_image_classes_without_one_and_classes_never_seen():
    names, counts = ("ant", "bee", "cat"), [200, 0, 5]
    logits, labels = np.array([[0.0, 1.0, 0.0]]), np.array([2])
    report = evaluate(logits, labels, counts)
    answers = Answers("one", logits, labels, pictures_of(names).take(np.array([2])))
    page = check_page(render_report("Test", {"one": report}, names, class_counts=counts, answers=answers))
    assert "no test image, of which nothing" in page.text.replace("without a", "no")
    assert "wrong about 1 of 1 test images" in page.text
    assert [one["alt"] for one in page.all("img")].count("cat, taken for bee: 2.png") == 3


def test_a_head_that_was_moved_shows_its_numbers_for_that_mix():
    _, reports, _ = page_of("ab")
    moved = replace(reports["lort"], mix=MixScores("street.csv", 0.875, 0.25, 0.0625))
    moved = replace(moved, as_solved=moved.at_its_scale, calibrated=moved.at_its_scale)
    page = check_page(render_report("Test", {"ce": replace(moved), "lort": moved}, "ab", class_counts=[9, 1]))
    assert "street.csv87.5" in page.text.replace(" ", "")
    assert "lort, before it was moved" in page.text
    assert "ce, before it was moved" not in page.text


def test_the_page_of_8142_classes_and_huge_pictures_is_small(tmp_path):
    classes = 8142
    rng = np.random.default_rng(0)
    names = [f"{'species ' * 6}{k}" for k in range(classes)]
    labels = rng.integers(0, classes, 600)
    logits = rng.normal(size=(600, classes)).astype(np.float32)
    counts = np.sort(rng.zipf(1.5, classes).clip(1, 1000))[::-1]
    noise_image(0, (1500, 1000)).save(tmp_path / "huge.jpg")
    rows = [str(tmp_path / "huge.jpg")] * 600
    features = datasets.Features({"image": datasets.Image(decode=False)})
    images = datasets.Dataset.from_dict({"image": rows}, features=features)
    split = ImageSplit(images, labels, np.arange(600), "image", "test", tuple(names))
    accuracy = rng.random(classes).tolist()
    report = replace(
        evaluate(np.eye(2), np.arange(2), [9, 1]), per_class_accuracy=(*accuracy[:-9], *[None] * 9)
    )
    text = render_report(
        "Many",
        {"ce": report, "lort": report, "stack": report},
        names,
        class_counts=counts.tolist(),
        answers=Answers("stack", logits, labels, split),
    )
    assert len(text.encode()) < 5e6
    for image in check_page(text).all("img")[1:-1]:
        data = base64.b64decode(image["src"].partition(",")[2])
        assert max(Image.open(io.BytesIO(data)).size) == 96
