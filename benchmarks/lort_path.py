"""Compare LORT's SGD on stage-1 features over time with the closed-form step of the same length.

python benchmarks/lort_path.py FEATURES.safetensors
(train_features, train_labels, test_features, test_labels, stage1_weight, stage1_bias)
"""

import sys

import torch
from safetensors.torch import load_file

from lort_hub.evaluation.metrics import evaluate
from lort_hub.experiments.ablations import RATES, Bench
from lort_hub.heads.base import LinearHead
from lort_hub.heads.fitted import stage1_fit
from lort_hub.heads.posthoc import linearly_adjusted, logit_adjusted, lort_step, matched_strength
from lort_hub.heads.training_set import TrainingSet

EPOCHS, BATCH, MOMENTUM = 20, 64, 0.9


def main() -> None:
    found = load_file(sys.argv[1])
    weight, bias, x = (
        found["stage1_weight"].float(),
        found["stage1_bias"].float(),
        found["train_features"].float(),
    )
    labels, test = found["train_labels"].long(), found["test_features"].float()
    training = TrainingSet(x, labels, len(weight))
    bench = Bench(training, stage1_fit(weight, bias))

    def row(name: str, strength: float | None, head: LinearHead) -> None:
        report = evaluate(
            head.logits(test).numpy(), found["test_labels"].numpy(), training.class_counts.numpy()
        )
        length = "" if strength is None else f"{strength:.2f}"
        rates = " | ".join(
            f"{100 * report[name]:.1f}" for name in ("balanced_accuracy", "many", "medium", "few")
        )
        print(f"| {name} | {length} | {rates} |", flush=True)

    print("| head | logits | balanced | many | medium | few |\n| --- | --- | --- | --- | --- | --- |")
    row("stage 1", 0.0, bench.baseline.linear)
    mean = x.double().mean(dim=0)
    for lr in RATES:
        steps = EPOCHS * len(x) / BATCH
        time = lr / (1 - MOMENTUM) * steps / 2  # the mean of a cosine that ends in zero is a half
        strength = time * bench.delta * float(mean @ mean + 1) / len(weight)
        row(f"LORT by SGD, lr {lr:g}", strength, bench.sgd(lr=lr))
        row(
            "one step of that length",
            strength,
            LinearHead(*lort_step(weight, bias, x, labels, strength=strength)),
        )
    for lr in (5e-5, 5e-4, 1e-2):
        row(f"LORT by SGD from zero, lr {lr:g}", None, bench.sgd(lr=lr, zero=True))
    matched = matched_strength(training.class_counts)
    for strength in (0.25, 0.5, 0.75, matched, 1.5):
        row("one step", strength, LinearHead(*lort_step(weight, bias, x, labels, strength=strength)))
        linear = linearly_adjusted(weight, bias, training.class_counts, strength=strength)
        row("bias linear in the counts", strength, LinearHead(*linear))
    row("bias - log pi", None, LinearHead(*logit_adjusted(weight, bias, training.class_counts, 1.0)))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
