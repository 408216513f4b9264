"""Measure images per second of train.py, of its model alone on fixed tensors, and of its data alone.

python benchmarks/train_throughput.py --dataset cifar100 --mixed-precision bf16
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from lort_hub.backbones.load import load_backbone
from lort_hub.data.holdout import hold_out
from lort_hub.data.load import load_long_tailed
from lort_hub.training.batches import Batches

RECIPE = Path(__file__).parents[1] / "recipes" / "train.py"
EPOCHS, STEPS, BATCH = 3, 60, 64


def recipe(flags: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        fixed = [
            "--backbone",
            "resnet32_cifar",
            "--no-pretrained",
            "--bootstrap",
            "0",
            "--batch-size",
            str(BATCH),
        ]
        command = [sys.executable, RECIPE, *fixed, *flags, "--epochs", str(EPOCHS), "--output-dir", out]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        history = json.loads((out / "metrics.json").read_text())["history"]
    return max(row["images_per_second"] for row in history)


def bare_loop(bf16: bool) -> float:
    model = load_backbone("resnet32_cifar", pretrained=False).model.requires_grad_(True).train()
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-3)
    pixels = torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(100, (BATCH,))
    best = 0.0
    for _ in range(EPOCHS):
        start = time.perf_counter()
        for _ in range(STEPS):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(model(pixels), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        best = max(best, STEPS * BATCH / (time.perf_counter() - start))
    return best


def data_alone(dataset: str, label_column: str | None) -> float:
    backbone = load_backbone("resnet32_cifar", pretrained=False)
    data = load_long_tailed(dataset, imbalance="exp:100", label_column=label_column)
    batches = Batches(hold_out(data.train, 0.1)[0], backbone, batch_size=BATCH)
    start = time.perf_counter()
    images = sum(len(batch.labels) for batch in batches.epoch(0))
    return images / (time.perf_counter() - start)


def main() -> None:
    flags = sys.argv[1:]
    given = dict(zip(flags[::2], flags[1::2], strict=True))
    loop, data = (
        bare_loop(given.get("--mixed-precision") == "bf16"),
        data_alone(given["--dataset"], given.get("--label-column")),
    )
    ours = recipe([*flags, "--imbalance", "exp:100"])
    print("| loop | images/s | share of the slower bound |\n| --- | --- | --- |")
    for name, rate in (("train.py", ours), ("bare torch loop", loop), ("data alone", data)):
        print(f"| {name} | {rate:.0f} | {rate / min(loop, data):.2f} |")


if __name__ == "__main__":
    main()
