"""Measure the time of choosing a method's settings, in single fits of cross-entropy; flags as of retrain.py.

python benchmarks/selection_cost.py --backbone local-dir:FOLDER --dataset FOLDER --imbalance exp:100
"""

import time

from accelerate import Accelerator

from lort_hub.backbones.load import load_backbone
from lort_hub.commands.arguments import RunArguments
from lort_hub.commands.parser import parse_arguments
from lort_hub.data.load import load_long_tailed
from lort_hub.heads.methods import BEST_OF, METHODS
from lort_hub.heads.search import select
from lort_hub.heads.selected import fit_selected, make_validator
from lort_hub.heads.task import RetrainingTask
from lort_hub.heads.training_set import TrainingSet


def main() -> None:
    args = parse_arguments(RunArguments, description=__doc__)
    backbone = load_backbone(args.backbone, image_size=args.image_size)
    data = load_long_tailed(args.dataset, **args.data_options())
    task = RetrainingTask.extract(backbone, data, Accelerator(cpu=True))
    assert task is not None
    baseline = task.baseline(backbone)
    print(
        "| method | settings | by | selection, s | one fit, s | selection in fits of ce |\n"
        + "| --- " * 6
        + "|"
    )
    single = 0.0
    for name in BEST_OF:
        seconds = []
        for _ in range(2):  # a fresh training set has no eigenbasis yet; a single fit has to make its own
            kept = task.training
            training = TrainingSet(kept.x, kept.labels, len(kept.class_counts), kept.held_out)
            start = time.perf_counter()
            if not seconds:
                chosen = select(make_validator(training, baseline, None, 0), METHODS[name])
            else:
                fit_selected(training, name, chosen, baseline=baseline)
            seconds.append(time.perf_counter() - start)
        single = seconds[1] if name == "ce" else single
        numbers = f"{seconds[0]:.2f} | {seconds[1]:.2f} | {seconds[0] / single:.1f}"
        print(f"| {name} | {len(chosen.candidates)} | {chosen.validation} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
