"""Compare the time of extraction with its two parts alone: the forward pass, and decoding the files.

OMP_NUM_THREADS=1 python benchmarks/extraction.py --backbone local-dir:FOLDER --dataset FOLDER --num-workers 1
OMP_NUM_THREADS=1 python benchmarks/extraction.py --families

With one thread for the model and a free core for a decoding thread, the longer of the two parts is a lower
bound of the wall time. On busy cores only CPU times can be compared.
"""

import io
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from lort_hub.backbones.load import load_backbone
from lort_hub.commands.arguments import RunArguments, flag
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.runtime import reuse_freed_memory
from lort_hub.data.load import load_long_tailed
from lort_hub.features.extract import extract_features

FAMILIES = {
    "resnet50": 8,
    "resnet32_cifar": 64,
    "tf_efficientnet_lite0": 16,
    "mobilenetv3_large_100": 16,
    "convnext_tiny": 8,
    "vit_small_patch16_224": 8,
}
"""Backbones by timm's name, with the batch size they are measured with."""


@dataclass
class Arguments(RunArguments):
    """Flags of this benchmark."""

    images: int = flag(1000, "Images to extract, drawn from the training set.")
    repeats: int = flag(5, "Measurements of each, interleaved.")
    families: bool = flag(False, "Compare layouts, precisions and torch.compile by backbone family instead.")


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Measure CPU time, of all threads and of finished child processes, and wall time."""
    before, start = os.times(), time.perf_counter()
    work()
    after, wall = os.times(), time.perf_counter() - start
    return sum(after[:4]) - sum(before[:4]), wall


def show(name: str, measured: list[tuple[float, float]], reference: list[float]) -> list[float]:
    cpu, wall = ([sample[k] for sample in measured] for k in range(2))
    cells = [f"{min(kind):.2f} (to {max(kind):.2f})" for kind in (cpu, wall)]
    ratios = [f"{min(kind) / bound:.2f}" for kind, bound in zip((cpu, wall), reference, strict=False)]
    print(f"| {' | '.join([name, *cells, *(ratios or ['', ''])])} |", flush=True)
    return [min(cpu), min(wall)]


def compare(args: Arguments) -> None:
    backbone = load_backbone(args.backbone, pretrained=args.pretrained, image_size=args.image_size)
    train = load_long_tailed(args.dataset, **args.data_options()).train
    split = train.take(np.random.default_rng(0).permutation(len(train))[: args.images])
    accelerator = Accelerator(cpu=True, mixed_precision=args.mixed_precision)
    backbone.model.to(memory_format=torch.channels_last)
    files = [
        encoded["bytes"] or Path(encoded["path"]).read_bytes() for encoded in split.encoded(range(len(split)))
    ]
    side, size, threads = backbone.image_size, args.batch_size, torch.get_num_threads()
    pixels = torch.randn(size, 3, side, side).to(memory_format=torch.channels_last)

    def decode() -> None:
        torch.set_num_threads(1)  # more of them only wait for each other over an image
        for file in files:
            backbone.transform(Image.open(io.BytesIO(file)).convert("RGB"))
        torch.set_num_threads(threads)

    def forward() -> None:
        with torch.inference_mode(), accelerator.autocast():
            for start in range(0, len(files), size):
                backbone.features(pixels[: len(files) - start])

    def extract() -> None:
        with tempfile.TemporaryDirectory() as folder:
            options = {"batch_size": size, "num_workers": args.num_workers, "accelerator": accelerator}
            extract_features(backbone, split, folder=Path(folder), **options)

    measured = defaultdict(list)
    for work in (decode, forward, extract) * (args.repeats + 1):
        measured[work.__name__].append(seconds(work))
    for samples in measured.values():
        samples.pop(0)  # the first warms up
    print(
        f"{len(files)} images of {args.dataset} at {side} px, {args.backbone}, {args.num_workers} workers, "
        f"{threads} threads\n\n| | CPU, s | wall, s | CPU / sum | wall / slower |\n" + "| --- " * 5 + "|"
    )
    halves = [show(name, measured[name], []) for name in ("decode", "forward")]
    bounds = [halves[0][0] + halves[1][0], max(halves[0][1], halves[1][1])]
    show("extract", measured["extract"], bounds)


@torch.no_grad()
def families() -> None:
    kinds = [
        f"{kind}{precision}"
        for precision in ("", ", bf16")
        for kind in ("plain", "channels last", "compiled")
    ]
    print(f"CPU ms an image\n\n| backbone | {' | '.join(kinds)} | compiling, s |\n" + "| --- " * 8 + "|")
    for name, size in FAMILIES.items():
        backbone = load_backbone(name, pretrained=False)
        pixels = torch.randn(size, 3, backbone.image_size, backbone.image_size)
        cells, compiling = [], 0.0
        for bf16 in (False, True):
            for layout in (torch.contiguous_format, torch.channels_last, None):
                features = torch.compile(backbone.features) if layout is None else backbone.features
                backbone.model.to(memory_format=layout or torch.channels_last)
                batch = pixels.to(memory_format=layout or torch.channels_last)

                def forward(features=features, batch=batch, bf16=bf16) -> None:
                    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                        features(batch)

                first = seconds(forward)[0]
                rest = min(seconds(lambda: [forward() for _ in range(4)])[0] for _ in range(3)) / 4
                compiling += first - rest if layout is None else 0.0
                cells.append(f"{1e3 * rest / size:.2f}")
        print(f"| {name} | {' | '.join(cells)} | {compiling:.0f} |", flush=True)


def main() -> None:
    args = parse_arguments(Arguments, description=__doc__)
    reuse_freed_memory()
    families() if args.families else compare(args)


if __name__ == "__main__":
    main()
