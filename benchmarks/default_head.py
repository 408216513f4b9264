"""Test the default head against single methods, on features that are extracted once and cut for each seed.

python benchmarks/default_head.py --backbone local-dir:FOLDER --image-size 96 --dataset cifar100 \
    --imbalance exp:100 --seeds 3 --table docs/results/default/lite0-cifar100-exp100.csv

Flags as of retrain.py. Each seed draws the order of the class sizes, the images that are kept and the folds.
--classes 10 draws so many of the classes first. --methods adds or leaves out methods. Rows are added to the
table as they come.
"""

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from lort_hub.backbones.load import load_backbone
from lort_hub.commands.arguments import FeatureArguments, ModelArguments, flag
from lort_hub.commands.parser import parse_arguments
from lort_hub.data.imbalance import long_tailed_counts
from lort_hub.data.load import load_long_tailed
from lort_hub.evaluation.metrics import evaluate
from lort_hub.experiments.compare import each_method
from lort_hub.features.extract import extract_features
from lort_hub.features.store import Features
from lort_hub.heads.fit import fit_baseline
from lort_hub.heads.methods import CHOICES, METHODS
from lort_hub.heads.training_set import TrainingSet

SLOW = ("maxnorm", "disalign", "cosine", "ldam", "lort-sgd", "maxnorm+lort")
"""Methods that would take most of the time of all."""


@dataclass
class Arguments(FeatureArguments, ModelArguments):
    """Flags of this benchmark."""

    seeds: int = flag(1, "Number of draws.")
    classes: int = flag(0, "Classes to draw; 0 for all.")
    methods: list[str] = flag([name for name in (*METHODS, *CHOICES) if name not in SLOW], "Methods to test.")
    table: Path = flag(Path("default.csv"), "Table that rows are added to.")


def main() -> None:
    args = parse_arguments(Arguments, description=__doc__)
    backbone = load_backbone(args.backbone, image_size=args.image_size)
    natural = args.imbalance in (None, "none")
    data = load_long_tailed(args.dataset, **{**args.data_options(), "imbalance": "none"})
    accelerator = Accelerator(cpu=True, mixed_precision=args.mixed_precision)
    options = {"batch_size": args.batch_size, "num_workers": args.num_workers}
    train, test = (
        extract_features(backbone, part, accelerator=accelerator, **options).load()
        for part in (data.train, data.test)
    )
    for seed in range(args.seed, args.seed + args.seeds):
        random = np.random.default_rng(seed)
        kept = np.sort(random.permutation(data.num_classes)[: args.classes or data.num_classes])
        cut, tested = select_classes(train, kept), select_classes(test, kept)
        if not natural:
            largest = int(torch.bincount(cut.y).max())
            counts = random.permutation(long_tailed_counts(args.imbalance, len(kept), largest))
            rows = torch.cat([draw(cut.y, k, n, random) for k, n in enumerate(counts)])
            cut = Features(cut.x[rows], cut.y[rows], rows)
        one_seed(args.table, seed, TrainingSet(cut.x, cut.y, len(kept)), tested, args.methods)


def select_classes(features: Features, kept: np.ndarray) -> Features:
    """The images of some classes, numbered anew."""
    mask = torch.isin(features.y, torch.from_numpy(kept))
    labels = torch.searchsorted(torch.from_numpy(kept), features.y[mask])
    return Features(features.x[mask], labels, mask.nonzero().flatten())


def draw(labels: torch.Tensor, label: int, count: int, random: np.random.Generator) -> torch.Tensor:
    """Rows of so many images of a class."""
    rows = (labels == label).nonzero().flatten().numpy()
    return torch.from_numpy(random.permutation(rows)[:count])


def one_seed(table: Path, seed: int, training: TrainingSet, test: Features, methods: Sequence[str]) -> None:
    """Fit and test each method; add their rows to the table."""
    start = time.perf_counter()
    baseline = fit_baseline(training, seed=seed)
    options = {"by": None, "seed": seed, "baseline_seconds": time.perf_counter() - start}
    for name, fit, seconds in each_method(training, baseline, methods, **options):
        report = evaluate(fit.logits(test.x), test.y, training.class_counts)
        row = {
            "method": name,
            "seed": seed,
            "balanced_accuracy": report.balanced_accuracy,
            **{group: getattr(report, group) for group in ("many", "medium", "few")},
            "ece": report.ece,
            "nll": report.nll,
            "seconds": round(seconds, 2),
            "training_images": len(training.labels),
            "test_images": len(test.y),
            "chosen": fit.settings,
        }
        new = not table.exists()
        with table.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(f"{seed} {name}: {100 * report.balanced_accuracy:.2f}, ECE {100 * report.ece:.1f}", flush=True)


if __name__ == "__main__":
    main()
