"""Measure images per second of training on a CPU: a bare loop in several forms, and train.py.

python benchmarks/train_throughput.py --threads 2

A bare loop takes the same batch of random pixels again and again, so it is what no training can exceed. All
forms are measured in turn, several times, and the best of each counts: other work on the machine slows all
alike, and the best least.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.nn.functional as F

from lort_hub.backbones.load import load_backbone
from lort_hub.commands.arguments import flag
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.runtime import reuse_freed_memory
from lort_hub.data.load import load_long_tailed
from lort_hub.evaluation.tables import Table
from lort_hub.training.batches import Batches

RECIPE = Path(__file__).parents[1] / "recipes" / "train.py"
BATCH, SMALLER = 128, 24


@dataclass
class Arguments:
    backbone: str = flag("resnet32_cifar", "Net to train, of 32 pixels.")
    threads: int = flag(os.cpu_count() or 1, "Threads of a process.")
    images: int = flag(1024, "Images of one measurement.")
    rounds: int = flag(3, "Measurements of each form.")
    compile: bool = flag(True, "Measure torch.compile too, whose first step takes a minute or more.")


@dataclass(frozen=True)
class Loop:
    """A form of the bare loop."""

    batch: int = BATCH
    channels_last: bool = True
    compiled: bool = False
    bf16: bool = False
    side: int = 32

    def prepare(self, backbone: str) -> Callable[[], None]:
        """Build the model and a batch, and take the first step; returns one that takes the next."""
        torch.manual_seed(0)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        model = load_backbone(backbone, pretrained=False).model.requires_grad_(True).train()
        model.to(memory_format=layout)
        forward = torch.compile(model) if self.compiled else model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-3)
        pixels = torch.randn(self.batch, 3, self.side, self.side).to(memory_format=layout)
        labels = torch.randint(100, (self.batch,))

        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                loss = F.cross_entropy(forward(pixels), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        step()
        return step


FORMS = {
    "contiguous": Loop(channels_last=False),
    "channels last": Loop(),
    "channels last, batch 64": Loop(batch=64),
    "channels last, batch 256": Loop(batch=256),
    "channels last, bf16": Loop(bf16=True),
    f"channels last, {SMALLER} px": Loop(side=SMALLER),
    "channels last, compiled": Loop(compiled=True),
    "channels last, bf16, compiled": Loop(bf16=True, compiled=True),
}


def rate(step: Callable[[], None], batch: int, images: int) -> float:
    steps, start = max(1, images // batch), time.perf_counter()
    for _ in range(steps):
        step()
    return steps * batch / (time.perf_counter() - start)


def serve_rates(connection: Connection, backbone: str) -> None:
    """One of several processes of one thread: measures as many images as it is asked to."""
    torch.set_num_threads(1)
    reuse_freed_memory()
    step = Loop().prepare(backbone)
    connection.send(None)
    while images := connection.recv():
        connection.send(rate(step, BATCH, images))


def of_recipe(backbone: str, images: int) -> float:
    """The fastest epoch of train.py on the digits, whose epochs are of about 500 images."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, RECIPE, "--backbone", backbone, "--no-pretrained", "--dataset", "digits"]
        command += ["--batch-size", BATCH, "--holdout", 0, "--bootstrap", 0, "--output-dir", out]
        command += ["--epochs", 1 + images // 500]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        history = json.loads((out / "metrics.json").read_text())["history"]
    return max(row["images_per_second"] for row in history)


def of_data(backbone: str) -> float:
    """Batches of train.py alone, decoded and augmented."""
    batches = Batches(
        load_long_tailed("digits").train, load_backbone(backbone, pretrained=False), batch_size=BATCH
    )
    start = time.perf_counter()
    images = sum(len(batch.labels) for epoch in range(20) for batch in batches.epoch(epoch))
    return images / (time.perf_counter() - start)


def main() -> None:
    args = parse_arguments(Arguments, description=__doc__)
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    reuse_freed_memory()
    several = f"channels last, {args.threads} processes of one thread"
    pipes = [multiprocessing.get_context("spawn").Pipe() for _ in range(args.threads)]
    workers = [
        multiprocessing.get_context("spawn").Process(
            target=serve_rates, args=(theirs, args.backbone), daemon=True
        )
        for _, theirs in pipes
    ]
    for worker in workers:
        worker.start()
    for ours, _ in pipes:
        ours.recv()

    steps, first = {}, {}
    for name, form in FORMS.items():
        if form.compiled and not args.compile:
            continue
        start = time.perf_counter()
        steps[name] = form.prepare(args.backbone)
        first[name] = time.perf_counter() - start
    rates: dict[str, list[float]] = {name: [] for name in (*steps, several, "train.py", "its data alone")}
    for _ in range(args.rounds):
        for name, step in steps.items():
            rates[name].append(rate(step, FORMS[name].batch, args.images))
        for ours, _ in pipes:
            ours.send(args.images // args.threads)
        rates[several].append(sum(ours.recv() for ours, _ in pipes))
        rates["train.py"].append(of_recipe(args.backbone, args.images))
        rates["its data alone"].append(of_data(args.backbone))
    for ours, _ in pipes:
        ours.send(0)

    best = {name: max(found) for name, found in rates.items()}
    small, full = best[f"channels last, {SMALLER} px"], best["channels last"]
    best[f"channels last, {SMALLER} px in the first half, then 32"] = 2 / (1 / small + 1 / full)
    rows = [
        (name, f"{value:.0f}", f"{value / full:.2f}", f"{first[name]:.0f}" if name in first else "")
        for name, value in best.items()
    ]
    header = ("loop", "images/s", "to channels last", "seconds until the first step")
    print(f"{args.backbone}, batch {BATCH} unless said, {args.threads} threads, torch {torch.__version__}")
    print(Table(header, tuple(rows)).to_markdown())


if __name__ == "__main__":
    main()
