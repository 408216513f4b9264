"""Test heads of a few classes of a few images each, calibrated with more or fewer wrong samples.

python benchmarks/few_samples.py --backbone local-dir:FOLDER --image-size 96 --dataset digits --imbalance none

Flags as of retrain.py. Each draw takes 2 to 6 classes, the largest of 6 to 40 images, the others fewer, down
to 2. Every number of `--wrong` samples is tried on the same draws.
"""

from dataclasses import dataclass

import numpy as np
import torch
from default_head import draw, select_classes

from lort_hub.backbones.load import load_backbone
from lort_hub.commands.arguments import FeatureArguments, ModelArguments, flag
from lort_hub.commands.parser import parse_arguments
from lort_hub.data.load import load_long_tailed
from lort_hub.evaluation.metrics import evaluate
from lort_hub.evaluation.tables import Table
from lort_hub.features.extract import extract_features
from lort_hub.features.store import Features
from lort_hub.heads import scorers
from lort_hub.heads.fit import fit_baseline, fit_head
from lort_hub.heads.stack import fit_stack
from lort_hub.heads.training_set import TrainingSet

COLUMNS = ("wrong samples", "head", "balanced accuracy", "ECE", "NLL", "median NLL", "largest NLL")


@dataclass
class Arguments(FeatureArguments, ModelArguments):
    """Flags of this benchmark."""

    draws: int = flag(24, "Number of draws.")
    wrong: list[float] = flag([0.0, 0.25, 0.5, 1.0], "Wrong samples to try.")


def main() -> None:
    args = parse_arguments(Arguments, description=__doc__)
    backbone = load_backbone(args.backbone, image_size=args.image_size)
    data = load_long_tailed(args.dataset, **args.data_options())
    train, test = (
        extract_features(backbone, part, batch_size=args.batch_size, num_workers=args.num_workers).load()
        for part in (data.train, data.test)
    )
    rows = []
    for wrong in args.wrong:
        scorers.WRONG = wrong
        scores: dict[str, list[tuple[float, float, float]]] = {}
        for seed in range(args.seed, args.seed + args.draws):
            for name, score in one_draw(train, test, data.num_classes, seed).items():
                scores.setdefault(name, []).append(score)
        for name, every in scores.items():
            accuracy, ece, nll = np.array(every).T
            means = (100 * accuracy.mean(), 100 * ece.mean(), nll.mean(), np.median(nll), nll.max())
            rows.append((f"{wrong:g}", name, *(f"{value:.{1 + k // 2}f}" for k, value in enumerate(means))))
    print(Table(COLUMNS, tuple(rows)).to_markdown())


def one_draw(
    train: Features, test: Features, num_classes: int, seed: int
) -> dict[str, tuple[float, float, float]]:
    """Balanced accuracy, ECE and NLL of each head on a draw of classes and images."""
    random = np.random.default_rng(seed)
    kept = np.sort(random.permutation(num_classes)[: random.integers(2, 7)])
    largest, ratio = random.integers(6, 41), random.integers(1, 15)
    steps = np.arange(len(kept)) / (len(kept) - 1)
    counts = random.permutation(np.maximum(largest * (1 / ratio) ** steps, 2).astype(int))
    cut, tested = select_classes(train, kept), select_classes(test, kept)
    rows = torch.cat([draw(cut.y, k, n, random) for k, n in enumerate(counts)])
    training = TrainingSet(cut.x[rows], cut.y[rows], len(kept))
    baseline, lort = fit_baseline(training, seed=seed), fit_head(training, "lort", seed=seed)
    scores = {}
    for fit in (baseline, lort, fit_stack(training, baseline=baseline, known=[lort], seed=seed)):
        report = evaluate(fit.logits(tested.x), tested.y, counts)
        scores[fit.method] = report.balanced_accuracy, report.ece, report.nll
    return scores


if __name__ == "__main__":
    main()
