"""Say what to do with files that are not read as a data set, by their type."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

SHEETS = (".xlsx", ".xls", ".ods", ".sqlite", ".sqlite3", ".accdb")
ARRAYS = (
    *(".npy", ".npz", ".mat", ".h5", ".hdf5", ".pkl", ".pickle", ".mdb", ".tfrecord", ".tfrec", ".rec"),
    *("data_batch_1", "test_batch", "batches.meta", "-ubyte", "-ubyte.gz", "_batch.bin", "_1.bin", "_x.bin"),
)
PACKED = (".7z", ".rar", ".zst", ".gz", ".bz2", ".xz", ".lz4", ".001", ".z01")
VIDEOS = (".mp4", ".m4v", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
SCANS = (".dcm", ".dicom", ".nii", ".nii.gz", ".nrrd", ".mha", ".svs", ".ndpi", ".czi", ".nd2")
PAGES = (".pdf", ".doc", ".docx", ".ppt", ".pptx")
WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".onnx", "pytorch_model.bin")
MARKUP = (".xml", ".pbtxt", ".ndjson", "info.labels")
ADVICE = {
    SHEETS: "save the sheet with the labels as CSV",
    SCANS: "write it as images that Pillow opens, such as PNG",
    PACKED: "unpack it",
    VIDEOS: "write its frames as images, train/CLASS/CLIP_0.jpg",
    PAGES: "write its pictures as images, train/CLASS/0.png",
    WEIGHTS: "a model is no data set; give the images that it shall be trained on",
    MARKUP: "export class folders, as CVAT's form ImageNet has them, or write a CSV of files and labels",
    ARRAYS: "write its images as files, train/CLASS/0.png, or its labels as a CSV of files and labels",
}


def advice_on(names: Iterable[str]) -> str:
    """Say what to do with the first file of each kind that is not read, a sentence each.

    Args:
        names: Names of files.

    Example:
        >>> advice_on(["labels.xlsx", "more.xlsx", "0.jpg", "photos.7z"])
        'labels.xlsx is not read: save the sheet with the labels as CSV. photos.7z is not read: unpack it.'
    """
    names = list(names)
    kinds = {name: _kind(name.lower()) for name in names}
    firsts = {
        advice: next((name for name in names if kinds[name] == suffixes), None)
        for suffixes, advice in ADVICE.items()
    }
    return " ".join(f"{name} is not read: {advice}." for advice, name in firsts.items() if name)


def _kind(name: str) -> tuple[str, ...]:
    """The suffixes that a name, without its number among others, ends with: the one that has the longest."""
    name = re.sub(r"[-_.]\d+[-_]of[-_]\d+$", "", name)
    lengths = {of: max((len(one) for one in of if name.endswith(one)), default=0) for of in ADVICE}
    best = max(lengths, key=lengths.__getitem__)
    return best if lengths[best] else ()


LFS_POINTER = "it is a pointer of Git LFS, not the file itself: run `git lfs pull`"


def is_lfs_pointer(file: Path) -> bool:
    """Return whether a file is what Git LFS leaves in the place of one that was not downloaded.

    Example:
        >>> is_lfs_pointer(Path("/nonexistent"))
        False
    """
    try:
        with file.open("rb") as opened:
            return opened.read(40).startswith(b"version https://git-lfs.github.com/")
    except OSError:
        return False
