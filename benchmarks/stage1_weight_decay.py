"""Find the weight decay of stage 1 with the best features for stage 2, without the test set.

The last 50 images of every class of the original training split are the validation set; a long-tailed set
would have too few. The rest is cut to a long tail, and both recipes run on it for each weight decay.

python benchmarks/stage1_weight_decay.py --dataset cifar100 --label-column fine_label --output-dir out/decays
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lort_hub.commands.arguments import flag
from lort_hub.commands.parser import parse_arguments
from lort_hub.data.request import Request
from lort_hub.data.sources import open_source

RECIPES = Path(__file__).parents[1] / "recipes"
METHODS = ("lort", "balanced-softmax")


@dataclass
class Arguments:
    dataset: str = flag("cifar100", "As for train.py.")
    label_column: str = flag("fine_label", "Column of the labels.")
    backbone: str = flag("resnet32_cifar", "As for train.py; trained from scratch.")
    imbalance: str = flag("exp:100", "Cut of what is left for training.")
    weight_decays: list[float] = flag([1e-3, 5e-3, 1e-2, 2e-2, 4e-2], "What to try.")
    epochs: int = flag(50, "Passes of each stage 1.")
    lr: float = flag(0.01, "Its learning rate.")
    validation: int = flag(50, "Images per class to judge by.")
    output_dir: Path = flag(Path("out/decays"), "Where everything goes.")


def main() -> None:
    args = parse_arguments(Arguments, description=__doc__)
    data = args.output_dir / "data"
    if not (data / "test.parquet").exists():
        split(args, data)
    shared = ["--dataset", data, "--label-column", args.label_column, "--imbalance", args.imbalance]
    print("| weight decay | stage 1 | " + " | ".join(METHODS) + " | mean and spread of LoMa |")
    print("| --- " * (len(METHODS) + 3) + "|")
    for decay in args.weight_decays:
        stage1 = args.output_dir / f"stage1-{decay:g}"
        scratch = ["--backbone", args.backbone, "--no-pretrained", "--mixed-precision", "bf16"]
        schedule = ["--epochs", args.epochs, "--lr", args.lr, "--weight-decay", decay]
        recipe("train.py", *shared, *scratch, *schedule, "--output-dir", stage1, "--resume")
        heads = [args.output_dir / f"{method}-{decay:g}" for method in METHODS]
        for method, folder in zip(METHODS, heads, strict=True):
            flags = ["--backbone", stage1, "--method", method, "--output-dir", folder, "--resume"]
            recipe("retrain.py", *shared, *flags)
        reports = [json.loads((folder / "metrics.json").read_text())["test"] for folder in (stage1, *heads)]
        magnitude = reports[0]["logits_magnitude"]
        scores = " | ".join(f"{100 * report['balanced_accuracy']:.1f}" for report in reports)
        print(f"| {decay:g} | {scores} | {magnitude['mean']:.1f} ± {magnitude['std']:.1f} |", flush=True)


def split(args: Arguments, folder: Path) -> None:
    rows = open_source(Request(args.dataset, label_column=args.label_column)).train
    labels = np.asarray(rows[args.label_column][:])
    validation = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        validation[np.flatnonzero(labels == label)[-args.validation :]] = True
    folder.mkdir(parents=True, exist_ok=True)
    rows.select(np.flatnonzero(~validation)).to_parquet(folder / "train.parquet")
    rows.select(np.flatnonzero(validation)).to_parquet(folder / "test.parquet")


def recipe(name: str, *flags: object) -> None:
    subprocess.run([sys.executable, RECIPES / name, *map(str, flags)], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
