"""Seconds to list an image folder: lort_hub's reader, torchvision's ImageFolder and datasets' imagefolder.

    python benchmarks/image_folder.py --files 200000

The folder holds tiny pictures, a tenth of them for testing. Every reader starts in a process of its own, with
its libraries imported, an empty cache of its own and the folder in the system's cache.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

READERS = {
    "lort_hub": """
from pathlib import Path
from lort_hub.data.image_folder.read import read_image_folder
def read(folder):
    reading = read_image_folder(Path(folder))
    return len(reading.train), len(reading.test)
""",
    "torchvision ImageFolder": """
from torchvision.datasets import ImageFolder
def read(folder):
    return tuple(len(ImageFolder(f"{folder}/{split}")) for split in ("train", "test"))
""",
    "datasets imagefolder": """
import datasets
datasets.disable_progress_bars()
def read(folder):
    splits = datasets.load_dataset("imagefolder", data_dir=folder)
    return tuple(len(splits[split]) for split in ("train", "test"))
""",
}
TIMED = """
import datasets, sys, time
read(sys.argv[1] + "/warm")
start = time.perf_counter()
sizes = read(sys.argv[1] + "/photos")
print(time.perf_counter() - start, *sizes)
"""


def fill(folder: Path, files: int, classes: int) -> None:
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "JPEG")
    for split, share in (("train", 0.9), ("test", 0.1)):
        for label in range(classes):
            (folder / split / f"class_{label}").mkdir(parents=True)
        for k in range(round(files * share)):
            (folder / split / f"class_{k % classes}" / f"picture_{k}.jpg").write_bytes(buffer.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        fill(Path(place, "photos"), args.files, args.classes)
        fill(Path(place, "warm"), 20, 2)
        seconds: dict[str, list[float]] = {name: [] for name in READERS}
        for repeat in range(args.repeats):
            for name, code in READERS.items():
                environment = {**os.environ, "HF_HOME": f"{place}/cache{repeat}", "HF_HUB_OFFLINE": "1"}
                command = [sys.executable, "-c", code + TIMED, place]
                said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                taken, train, test = said.stdout.split()[-3:]
                assert int(train) + int(test) == args.files, said.stdout
                seconds[name].append(float(taken))
    own = min(seconds["lort_hub"])
    print(f"{args.files:,} files, {args.classes:,} classes, best of {args.repeats}\n")
    print("| reader | seconds | of lort_hub's |\n| --- | --- | --- |")
    for name, taken in seconds.items():
        print(f"| {name} | {min(taken):.2f} | {min(taken) / own:.1f} |")


if __name__ == "__main__":
    main()
