"""Compare accuracy with calibrated likelihood as scorers on the few images that stage 1 holds out.

Every setting of every method is fitted once on the images that stage 1 was trained on. Held-out sets of the
usual size (a tenth of each class, at least one image) are drawn 40 times from a balanced validation set. Each
set makes a choice, and the choice is scored on the other validation images.

python benchmarks/selection_noise.py --backbone out/stage1 --dataset FOLDER --imbalance exp:100
(FOLDER holds train.parquet, and as test.parquet images that neither train nor test anything)
"""

from collections import defaultdict
from dataclasses import replace

import torch
from accelerate import Accelerator

from lort_hub.backbones.load import load_backbone
from lort_hub.commands.arguments import RunArguments
from lort_hub.commands.parser import parse_arguments
from lort_hub.data.load import load_long_tailed
from lort_hub.heads.base import FitInputs, LinearHead
from lort_hub.heads.cross_validation import FOLD_TOLERANCE
from lort_hub.heads.fitters import fit_method
from lort_hub.heads.methods import BEST_OF, METHODS
from lort_hub.heads.scorers import SCORERS, Predictions, calibration_scale, log_likelihoods, standard_error
from lort_hub.heads.search import setting_paths
from lort_hub.heads.task import RetrainingTask

DRAWS = 40
RULES = {"accuracy": "balanced-accuracy", "likelihood": "nll"}


def main() -> None:
    args = parse_arguments(RunArguments, description=__doc__)
    backbone = load_backbone(args.backbone, image_size=args.image_size)
    data = load_long_tailed(args.dataset, **args.data_options())
    task = RetrainingTask.extract(backbone, data, Accelerator(cpu=True))
    assert task is not None
    assert task.training.held_out is not None
    kept, baseline = ~task.training.held_out, task.baseline(backbone)
    paths = []
    for name in BEST_OF:
        inputs = FitInputs(task.training, kept, base=baseline.base, tolerance=FOLD_TOLERANCE)
        for path in setting_paths(METHODS[name], task.training, {}, decay_stride=2):
            logits = []
            dear = "weight_decay" in METHODS[name].grid  # the smallest are, and never the best
            for settings in path[:7] if dear else path:
                head = fit_method(METHODS[name], inputs, settings)
                inputs = replace(inputs, start=head) if isinstance(head, LinearHead) else inputs
                logits.append(head.logits(task.test.x))
            paths.append((name, logits))
    labels, found = task.test.y, defaultdict(list)
    sizes = (task.training.class_counts / 10).round().clamp_min(1).long().tolist()
    for draw in range(DRAWS):
        shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(draw))
        rows = [shuffled[labels[shuffled] == k] for k in range(len(sizes))]
        drawn = torch.cat(
            [of_class[: min(n, len(of_class) - 10)] for of_class, n in zip(rows, sizes, strict=True)]
        )
        rest = torch.ones(len(labels), dtype=torch.bool).index_fill_(0, drawn, False)
        truth = [[accuracy(z[rest], labels[rest]) for z in logits] for _, logits in paths]
        said = [[told(z[drawn], labels[drawn]) for z in logits] for _, logits in paths]
        for rule, by in RULES.items():
            winners = {}
            for (name, _), path, true in zip(paths, said, truth, strict=True):
                scores = [SCORERS[by](one) for one in path]
                best = max(range(len(path)), key=scores.__getitem__)
                at = next(
                    k
                    for k in range(best + 1)
                    if scores[best] - scores[k] <= standard_error(path[best], path[k], by)
                )
                if name not in winners or scores[at] > winners[name][0]:
                    winners[name] = scores[at], path[at], true[at]
            best = max(winners, key=lambda name: winners[name][0])
            auto = next(
                name
                for name in BEST_OF
                if winners[best][0] - winners[name][0]
                <= standard_error(winners[best][1], winners[name][1], by)
            )
            for name, (_, _, true_accuracy) in winners.items():
                found[rule, name].append(true_accuracy)
            found[rule, "auto"].append(winners[auto][2])
    print(f"| method | {' | '.join(RULES)} |\n| --- | --- | --- |")
    for name in (*BEST_OF, "auto"):
        cells = (torch.tensor(found[rule, name]) * 100 for rule in RULES)
        print(f"| {name} | {' | '.join(f'{cell.mean():.1f} ± {cell.std():.1f}' for cell in cells)} |")


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return SCORERS["balanced-accuracy"](Predictions(labels, logits.argmax(dim=1)))


def told(logits: torch.Tensor, labels: torch.Tensor) -> Predictions:
    likelihoods = log_likelihoods(calibration_scale(logits, labels) * logits, labels)
    return Predictions(labels, logits.argmax(dim=1), likelihoods)


if __name__ == "__main__":
    main()
