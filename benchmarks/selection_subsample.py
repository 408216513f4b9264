"""Measure the loss from choosing LORT's settings on a class-balanced subsample; flags as of retrain.py.

python benchmarks/selection_subsample.py --backbone local-dir:FOLDER --dataset FOLDER --imbalance exp:100
"""

import time

import torch
from accelerate import Accelerator
from sklearn.metrics import balanced_accuracy_score

from lort_hub.backbones.load import load_backbone
from lort_hub.commands.arguments import FeatureArguments
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.runtime import make_accelerator
from lort_hub.data.load import load_long_tailed
from lort_hub.heads.cross_validation import Validator
from lort_hub.heads.fitted import stage1_fit
from lort_hub.heads.methods import METHODS
from lort_hub.heads.search import select
from lort_hub.heads.selected import fit_selected
from lort_hub.heads.task import RetrainingTask
from lort_hub.heads.training_set import TrainingSet

MOST, SEEDS = (2, 5, 10, 20, None), 5


def subsample(training: TrainingSet, most: int | None, seed: int) -> torch.Tensor:
    """Mark the samples (N,) to score, at most `most` of each class."""
    order = torch.randperm(len(training.labels), generator=torch.Generator().manual_seed(seed))
    scored = torch.zeros(len(order), dtype=torch.bool)
    for label in range(training.num_classes):
        scored[order[training.labels[order] == label][:most]] = True
    return scored


def main() -> None:
    args = parse_arguments(FeatureArguments, description=__doc__)
    accelerator: Accelerator = make_accelerator(args)
    backbone = load_backbone(args.backbone, image_size=args.image_size)
    data = load_long_tailed(args.dataset, **args.data_options())
    task = RetrainingTask.extract(backbone, data, accelerator, **args.extraction_options())
    assert task is not None
    training, test = task.training, task.test
    start = stage1_fit(
        torch.zeros(training.num_classes, training.matrix.dim), torch.zeros(training.num_classes)
    )
    accuracy: dict[dict, float] = {}
    print("| scored of each class | samples | seconds | test accuracy [least, most of the seeds] | gammas |")
    print("| --- " * 5 + "|")
    for most in MOST:
        found, gammas, seconds = [], set(), []
        for seed in range(SEEDS if most else 1):
            training.scoring_mask = scored = subsample(training, most, seed)
            begin = time.perf_counter()
            choice = select(Validator(training), METHODS["lort"])
            seconds.append(time.perf_counter() - begin)
            key = tuple(choice.chosen.values())
            if key not in accuracy:
                head = fit_selected(training, "lort", choice, baseline=start)
                said = head.logits(test.x).argmax(dim=1)
                accuracy[key] = 100 * balanced_accuracy_score(test.y, said)
            found.append(accuracy[key])
            gammas.add(choice.chosen["gamma"])
        spread = f"{sum(found) / len(found):.2f} [{min(found):.2f}, {max(found):.2f}]"
        print(
            f"| {most or 'all'} | {int(scored.sum()):,} | {min(seconds):.1f} | {spread} | "
            f"{', '.join(map(str, sorted(gammas)))} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
