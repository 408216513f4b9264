"""Random trees of folders, names, links and file types, against a count of a few lines."""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lort_hub.data.image_folder.names import is_heap
from lort_hub.data.image_folder.read import read_image_folder
from lort_hub.data.image_folder.tree import SYSTEM_FOLDERS
from tests.support.images import noise_image

WORDS = [
    "train",
    "Test",
    "val",
    "dev",
    "test-tube",
    "bullet_train",
    "images",
    "masks",
    "__x__",
    "[a]*?",
    "a::b",
]
WORDS += ["caf\u00e9", "cafe\u0301", " ant", "ant", "ANT", "\U0001f355", "null", "0", "a\nb", "x" * 100]
LETTERS = st.characters(exclude_characters="/\0", exclude_categories=["Cs"])
NAMES = st.one_of(st.sampled_from(WORDS), st.text(LETTERS, min_size=1, max_size=12)).filter(
    lambda name: (
        not name.startswith(".") and name.lower() not in SYSTEM_FOLDERS and len(os.fsencode(name)) < 200
    )
)
PICTURES = {
    ".jpg": "JPEG",
    ".JPG": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".avif": "AVIF",
    "": "PNG",
    ".x": "GIF",
}
OTHERS = {".txt": b"a word", ".xml": b"<a/>", ".npy": b"\x93NUMPY", "": b"", ".py": b"P = 1", ".bmp2": b"BM"}
SPLITS = st.sampled_from(
    [
        None,
        ("train", "test"),
        ("Train", "VAL"),
        ("training", "eval"),
        ("seg_train", "seg_test"),
        ("data/train", "data/dev"),
    ]
)


@st.composite
def classes(draw):
    """Class folders: pictures by type, other files by type, whether all lie in one folder more."""
    names = draw(st.lists(NAMES, min_size=2, max_size=5, unique=True))
    files = st.dictionaries(st.sampled_from([*PICTURES]), st.integers(1, 2), min_size=1, max_size=3)
    others = st.dictionaries(st.sampled_from([*OTHERS]), st.integers(1, 2), max_size=2)
    return {name: (draw(files), draw(others), draw(st.booleans())) for name in ["yak", "zebra", *names]}


def write(folder, plan, start, links):
    """Write class folders; of some, a link stands in the tree and the folder elsewhere."""
    for number, (name, (pictures, others, is_nested)) in enumerate(plan.items()):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if links and number % 2:
            store = links / f"{start}-{number}"
            store.mkdir(parents=True)
            place.symlink_to(store)
        inner = place / "images" if is_nested else place
        inner.mkdir(parents=True, exist_ok=True)
        for suffix, count in pictures.items():
            for k in range(count):
                picture = noise_image(start + 100 * number + k, (4, 4))
                picture.save(inner / f"p{k}{suffix}", PICTURES[suffix])
        for suffix, count in others.items():
            for k in range(count):
                (inner / f"o{k}{suffix}").write_bytes(OTHERS[suffix])


def opens(path):
    try:
        with Image.open(path):
            return True
    except OSError:
        return False


def by_hand(folder):
    """Pictures by class, and all files, as a person would count them."""
    counts, files = Counter(), 0
    for place, _, names in os.walk(folder, followlinks=True):
        files += len(names)
        name = Path(place).relative_to(folder).parts
        counts.update(name[0] for one in names if name and opens(Path(place, one)))
    return dict(counts), files


def counts_of_rows(rows):
    names = rows.features["label"].names
    return dict(Counter(names[label] for label in rows["label"]))


@settings(max_examples=60, deadline=None)
@given(plan=classes(), tested=classes(), splits=SPLITS, is_linked=st.booleans())
def test_counts_are_those_of_a_person_and_every_file_is_accounted_for(plan, tested, splits, is_linked):
    folder = Path(tempfile.mkdtemp())
    try:
        data = folder / "data"
        links = folder / "store" if is_linked else None
        train, test = splits or (".", None)
        if splits is None:
            plan = {name: files for name, files in plan.items() if not is_heap(name)}
        write(data / train, plan, 0, links)
        if test:
            tested = {name: files for name, files in tested.items() if name in plan}
            write(data / test, tested, 50_000, links)
        reading = read_image_folder(data)
        assert reading is not None
        found, expected = [counts_of_rows(reading.train)], [by_hand(data / train)]
        if test:
            found.append(counts_of_rows(reading.test))
            expected.append(by_hand(data / test))
        assert found == [counts for counts, _ in expected]
        left_out = sum(row.files for row in reading.left_out)
        assert len(reading.train) + len(reading.test or []) + left_out == sum(files for _, files in expected)
    finally:
        shutil.rmtree(folder)
