"""Compare the speed of lort-hub predict with a bare loop: Pillow, the model's transform, torch, softmax.

OMP_NUM_THREADS=1 nice python benchmarks/predict.py --dataset cifar100 --folder /tmp/pngs

Both read the same PNG files, written once from the training images of the data set, with one thread and no
decoding threads. predict lists, checks, predicts, keeps its parts and writes the CSV. After each part the
bare loop does the images of that part, so that both meet the same load of the machine.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import torch
from accelerate import Accelerator
from PIL import Image

from lort_hub.backbones.backbone import Backbone
from lort_hub.backbones.load import load_backbone
from lort_hub.classifiers.predict import predict_parts, prediction_plan
from lort_hub.classifiers.prediction_parts import PredictionParts
from lort_hub.commands.arguments import flag
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.runtime import reuse_freed_memory
from lort_hub.data.unlabelled import load_unlabelled
from lort_hub.features.distributed import Processes


@dataclass
class Arguments:
    """Flags of this benchmark."""

    backbone: str = flag("test_resnet", "Backbone, with random weights: the time is the same.")
    image_size: int = flag(32, "Side of the square input in pixels.")
    dataset: str = flag("cifar100", "Data set whose training images are written as PNG files.")
    folder: Path = flag(Path("/tmp/pngs"), "Folder of the files; filled if it is not there.")
    batch_size: int = flag(64, "Images in a batch.")


def write_files(args: Arguments) -> None:
    train = load_unlabelled(args.dataset, split="train")
    for row in range(len(train)):
        folder = args.folder / f"{row // 1000:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        train.image(row).save(folder / f"{row:06d}.png")


@torch.inference_mode()
def bare_loop(backbone: Backbone, files: list[str], batch_size: int) -> list[tuple[str, float]]:
    names, answers = backbone.class_names, []
    for start in range(0, len(files), batch_size):
        images = [Image.open(file).convert("RGB") for file in files[start : start + batch_size]]
        pixels = torch.stack([backbone.transform(image) for image in images])
        top = backbone.logits(pixels.to(memory_format=torch.channels_last)).softmax(1).max(1)
        answers += [(names[k], p) for k, p in zip(top.indices.tolist(), top.values.tolist(), strict=True)]
    return answers


@dataclass(frozen=True)
class AlternatingParts(PredictionParts):
    """Parts of a prediction, after each of which the bare loop does the same images."""

    bare: Callable[[range], object] = len
    spent: list[tuple[float, float]] = field(default_factory=list)

    def save(self, part: int, table: pa.Table) -> None:
        super().save(part, table)
        self.spent.append(seconds(lambda: self.bare(self.rows(part))))


def predict(backbone: Backbone, folder: Path, batch_size: int) -> list[tuple[float, float]]:
    """Predict the images of a folder; the seconds of the bare loop on each part."""
    images = load_unlabelled(str(folder))
    files = images.files()
    with TemporaryDirectory() as out:
        parts = AlternatingParts(
            Path(out) / "predictions.csv",
            len(images),
            lambda rows: bare_loop(backbone, files[rows.start : rows.stop], batch_size),
        )
        parts.start(prediction_plan(backbone, images, {}), resume=False, overwrite=False)
        accelerator = Accelerator(cpu=True)
        predict_parts(backbone, images, parts, accelerator, Processes(), batch_size=batch_size)
        parts.put_together(overwrite=False)
    return parts.spent


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Measure CPU time and wall time."""
    before, start = sum(os.times()[:4]), time.perf_counter()
    work()
    return sum(os.times()[:4]) - before, time.perf_counter() - start


def main() -> None:
    args = parse_arguments(Arguments, description=__doc__)
    reuse_freed_memory()
    if not args.folder.exists():
        write_files(args)
    files = [str(path) for path in sorted(args.folder.rglob("*.png"))]
    backbone = load_backbone(args.backbone, pretrained=False, image_size=args.image_size)
    backbone = replace(backbone, class_names=tuple(f"class {k}" for k in range(len(backbone.weight))))
    backbone.model.to(memory_format=torch.channels_last)
    bare_loop(backbone, files[:1000], args.batch_size)  # warms up
    spent = []
    both = seconds(lambda: spent.extend(predict(backbone, args.folder, args.batch_size)))
    bare = [sum(kind) for kind in zip(*spent, strict=True)]
    predicted = [total - other for total, other in zip(both, bare, strict=True)]
    print(f"{len(files):,} images, {args.backbone} at {args.image_size} px\n")
    print("| | CPU, s | wall, s | images/s of wall |\n" + "| --- " * 4 + "|")
    for name, (cpu, wall) in {"bare loop": bare, "predict": predicted}.items():
        print(f"| {name} | {cpu:.1f} | {wall:.1f} | {len(files) / wall:.0f} |")
    cpu, wall = (100 * one / other for one, other in zip(bare, predicted, strict=True))
    print(f"\npredict runs at {wall:.1f} % of the bare loop's speed ({cpu:.1f} % by CPU time)")


if __name__ == "__main__":
    main()
