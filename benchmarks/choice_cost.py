"""Measure what the choice of the default head costs beside the matrix products of a single fit.

python benchmarks/choice_cost.py --store FOLDER --size 43751 512 814   # a tenth of iNaturalist 2018's classes

On synthetic features, as those of scale.py. "Bare" are the products of a Gram matrix for each member of the
sum, and those of one path of weight decays of cross-entropy on all images, down to the chosen one, at the
speed of products of that shape on a block in memory.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import torch
from scale import bare_products, now, seconds, synthetic_store
from torch.utils.flop_counter import FlopCounterMode

from lort_hub.features.matrix import BLOCK
from lort_hub.heads.base import FitInputs
from lort_hub.heads.cross_validation import FOLD_TOLERANCE
from lort_hub.heads.fit import BASELINE_TOLERANCE, fit_baseline, fit_head
from lort_hub.heads.fitted import Fit
from lort_hub.heads.fitters import exact
from lort_hub.heads.methods import METHODS, STACKED
from lort_hub.heads.search import path_to
from lort_hub.heads.training_set import TrainingSet


def one_path(training: TrainingSet, baseline: Fit) -> None:
    """Solve cross-entropy on all images along the baseline's weight decays."""
    assert baseline.selection
    inputs = FitInputs(training, tolerance=FOLD_TOLERANCE)
    path = path_to(baseline.selection, METHODS["ce"])
    for settings in path:
        tolerance = BASELINE_TOLERANCE if settings == path[-1] else FOLD_TOLERANCE
        inputs = replace(inputs, start=exact(replace(inputs, tolerance=tolerance), settings))


def flops_per_second(dim: int, num_classes: int) -> float:
    """Measure the products of a gradient on a block in memory."""
    x, weight = (torch.rand(rows, dim) for rows in (BLOCK, num_classes))
    weight @ x.T @ x
    return 5 * 4 * BLOCK * dim * num_classes / seconds(lambda: [(x @ weight.T).T @ x for _ in range(5)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True, help="folder for the synthetic features")
    parser.add_argument("--size", type=int, nargs=3, required=True, help="images, features and classes")
    args = parser.parse_args()
    n, dim, num_classes = args.size
    matrix, labels, _ = synthetic_store(args.store, n, dim, num_classes).open()
    training = TrainingSet(matrix, labels, num_classes)
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    rate = flops_per_second(dim, num_classes)
    start = now()
    baseline = fit_baseline(training)
    fit = fit_head(training, "auto", baseline=baseline)
    choice = now() - start
    with FlopCounterMode(display=False) as of_path:
        one_path(training, baseline)
    path = of_path.get_total_flops()
    gram = len(STACKED) * bare_products(n, dim, num_classes, torch.device("cpu"))["Gram matrix"]
    bare = gram + path / rate
    print(f"the sum: {fit.reason}")
    print(f"the path {path / 1e12:.2f} Tflop at {rate / 1e9:.0f} Gflop/s")
    print(f"choice {choice:.1f} s, bare {bare:.1f} s ({gram:.1f} of Gram matrices): {choice / bare:.2f}")


if __name__ == "__main__":
    main()
