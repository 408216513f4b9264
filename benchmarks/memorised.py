"""Compare heads on a backbone that has memorised its images: all chosen anew, and taken from another run.

python benchmarks/memorised.py FEATURES.safetensors
(train_features, train_labels, test_features, test_labels, stage1_weight, stage1_bias)

The other run stands for one on a backbone that held a tenth of each class out: its held-out images are test
images, which are left out of the test. Each of five seeds draws them.
"""

import sys

import torch
from safetensors.torch import load_file
from torch import Tensor

from lort_hub.evaluation.metrics import evaluate
from lort_hub.heads.choose import fit_by_name
from lort_hub.heads.fitted import Fit, stage1_fit
from lort_hub.heads.refit import refit
from lort_hub.heads.training_set import TrainingSet
from lort_hub.hub.run_record import head_record

SEEDS, SHARE = 5, 0.1
METHODS = ("lort", "eb-lda", "tau-norm", "balanced-softmax", "auto")


def main() -> None:
    found = load_file(sys.argv[1])
    x, labels = found["train_features"].float(), found["train_labels"].long()
    test, tested = found["test_features"].float(), found["test_labels"].long()
    own = stage1_fit(found["stage1_weight"].float(), found["stage1_bias"].float())
    whole = TrainingSet(x, labels, len(own.bias))
    rows: dict[str, list[list[float]]] = {}
    for seed in range(SEEDS):
        seen, held = draw(labels, tested, whole.class_counts, torch.Generator().manual_seed(seed))
        rest = torch.ones(len(tested), dtype=torch.bool)
        rest[held] = False
        unseen = torch.arange(len(seen) + len(held)) >= len(seen)
        parts = torch.cat([x[seen], test[held]]), torch.cat([labels[seen], tested[held]])
        honest = TrainingSet(*parts, whole.num_classes, held_out=unseen)

        def score(name: str, head: Fit, rest: Tensor = rest) -> None:
            report = evaluate(head.logits(test[rest]), tested[rest], whole.class_counts)
            scores = [100 * report.balanced_accuracy, 100 * report.ece, report.nll]
            rows.setdefault(name, []).append(scores)

        score("as trained", own)
        for method in METHODS:
            head = fit_by_name(honest, method, known=[own], settings={})
            score(f"{method}, a tenth held out", head)
            score(f"{method}, chosen anew", fit_by_name(whole, method, known=[own], settings={}))
            before = head_record(head), honest.class_counts.tolist()
            score(f"{method}, refit", refit(whole, *before, baseline=own))
    print("| head | balanced accuracy | ECE | NLL |\n| --- | --- | --- | --- |")
    for name, scores in rows.items():
        mean = torch.tensor(scores).mean(dim=0).tolist()
        print(f"| {name} | {mean[0]:.1f} | {mean[1]:.1f} | {mean[2]:.2f} |")


def draw(labels: Tensor, tested: Tensor, counts: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of training images that are seen, and of test images in place of those held out."""
    train_order, test_order = (torch.randperm(len(y), generator=generator) for y in (labels, tested))
    seen, held = [], []
    for k, count in enumerate(counts.tolist()):
        number = max(1, round(SHARE * count))
        seen.append(train_order[labels[train_order] == k][number:])
        held.append(test_order[tested[test_order] == k][:number])
    return torch.cat(seen), torch.cat(held)


if __name__ == "__main__":
    main()
