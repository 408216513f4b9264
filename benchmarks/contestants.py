"""Run one of the programs that versus.py compares; versus.py starts each in a process of its own.

python benchmarks/contestants.py NAME JSON     (JSON: fields of `Job`; prints the result as JSON)

All of them take images, preprocessing, augmentation and weights from lort_hub's loaders, run on the CPU in
float32, and are measured by the same balanced accuracy. Imports are inside the functions, so that each
program is timed with its own imports alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lort_hub import extract_features, fit_head, load_backbone, load_long_tailed
from lort_hub.backbones.backbone import Backbone
from lort_hub.data.dataset import ImageSplit, LongTailedData
from lort_hub.data.transforms import Transform
from lort_hub.features.store import Features
from lort_hub.heads.fitted import own_head
from lort_hub.heads.methods import RELATIVE_DECAYS
from lort_hub.heads.solvers.objective import Objective, objective_value
from lort_hub.heads.solvers.sgd import sgd

LBFGS_EVALUATIONS = 4000
CLOSE = 1e-6


@dataclass(frozen=True)
class Job:
    backbone: str
    dataset: str
    imbalance: str | None
    image_size: int | None
    epochs: int
    measured: int
    batch_size: int
    num_workers: int
    channels_last: bool
    lr: float
    delta: float
    weight_decay: float
    ours_first: bool = True


@dataclass(frozen=True)
class Images(Dataset[tuple[Tensor, int]]):
    split: ImageSplit
    transform: Transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(self.split.image(row)), int(self.split.labels[row])


def load(job: Job) -> tuple[Backbone, LongTailedData]:
    torch.manual_seed(0)
    backbone = load_backbone(job.backbone, image_size=job.image_size)
    return backbone, load_long_tailed(job.dataset, imbalance=job.imbalance)


def balanced_accuracy(logits: Tensor, labels: Tensor) -> float:
    hits = (logits.argmax(dim=1) == labels).double()
    counts = torch.bincount(labels, minlength=logits.shape[1])
    return float((torch.zeros(len(counts)).double().index_add(0, labels, hits) / counts)[counts > 0].mean())


# Whole processes, from nothing to the test accuracy; and the seconds of the epochs that were not run.

Result = tuple[float, float]


def left_out(job: Job, ends: list[float]) -> float:
    """Estimate the seconds of the epochs that were not run, from those that were; ends[0] is the start."""
    return (job.epochs - len(ends) + 1) * (ends[-1] - ends[0]) / (len(ends) - 1)


def ours(job: Job, **settings: float) -> Result:
    """Extract the features once, then fit the exact head; settings that are not given are chosen."""
    backbone, data = load(job)
    how = {"batch_size": job.batch_size, "num_workers": job.num_workers}
    train, test = (extract_features(backbone, split, **how).load() for split in (data.train, data.test))
    fit = fit_head(train, "lort", delta=job.delta, calibrate=False, **settings)
    print(fit.describe(), file=sys.stderr)
    return balanced_accuracy(fit.logits(test.x), test.y), 0.0


def in_the_loop(job: Job, *, frozen: bool) -> Result:
    """Run the usual stage 2: SGD on the classifier, with every image through the backbone in every epoch.

    As in the LORT authors' code, the backbone is in train mode and has a backward pass, although the
    optimiser has only the classifier; with `frozen` it is in eval mode under no_grad. The classifier starts
    from that of stage 1 if the backbone knows the classes, else from zeros: from nn.Linear's random weights,
    20 epochs at the published learning rate end at 6 % on Caltech-101 (64 px), from zeros at 53 %.
    """
    backbone, data = load(job)
    zeros = torch.zeros(data.num_classes, backbone.num_features), torch.zeros(data.num_classes)
    start = own_head(backbone, data.class_names) or zeros
    backbone = backbone.with_classifier(*start, data.class_names)
    model, classifier = backbone.model.requires_grad_(not frozen), backbone.classifier.requires_grad_(True)
    layout = torch.channels_last if job.channels_last else torch.contiguous_format
    model.to(memory_format=layout)
    how = {"batch_size": job.batch_size, "num_workers": job.num_workers}
    train = DataLoader(Images(data.train, backbone.augment), shuffle=True, **how)
    test = DataLoader(Images(data.test, backbone.transform), **how)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=job.lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, job.epochs)
    ends = [time.perf_counter()]
    for epoch in range(job.measured):
        model.train(not frozen)
        for pixels, labels in train:
            with torch.set_grad_enabled(not frozen):
                features = backbone.features(pixels.to(memory_format=layout))
            loss = F.cross_entropy(classifier(features), labels, label_smoothing=job.delta)
            model.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        model.eval()
        with torch.no_grad():
            found = [(backbone.logits(pixels.to(memory_format=layout)), labels) for pixels, labels in test]
        accuracy = balanced_accuracy(*map(torch.cat, zip(*found, strict=True)))
        ends.append(time.perf_counter())
        print(f"epoch {epoch}: {accuracy:.4f} in {ends[-1] - ends[-2]:.1f} s", file=sys.stderr)
    return accuracy, left_out(job, ends)


class ForTrainer(nn.Module):
    """Model in the form that Trainer needs: a config, named inputs, and a loss, with logits in evaluation.

    (TimmWrapperForImageClassification of transformers refuses timm folders whose config has num_classes.)
    """

    def __init__(self, model: nn.Module) -> None:
        from transformers import PreTrainedConfig

        super().__init__()
        self.model, self.config = model, PreTrainedConfig()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.model(pixel_values)
        loss = {} if labels is None else {"loss": F.cross_entropy(logits, labels)}
        return {**loss, "logits": logits}


def with_trainer(job: Job) -> Result:
    """Run transformers' Trainer as usual: a backbone without gradients, AdamW, lr 1e-3, cosine."""
    import tempfile

    from transformers import Trainer, TrainerCallback, TrainingArguments

    backbone, data = load(job)
    backbone = backbone.with_new_classifier(data.class_names)
    backbone.classifier.requires_grad_(True)

    def collate(samples: list[tuple[Tensor, int]]) -> dict[str, Tensor]:
        pixels, labels = zip(*samples, strict=True)
        return {"pixel_values": torch.stack(pixels), "labels": torch.tensor(labels)}

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

        def on_evaluate(self, *found: Any, **_: Any) -> None:
            ends.append(time.perf_counter())
            found[2].should_training_stop = len(ends) > job.measured

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=job.epochs, per_device_train_batch_size=job.batch_size,
            per_device_eval_batch_size=job.batch_size, dataloader_num_workers=job.num_workers,
            learning_rate=1e-3, lr_scheduler_type="cosine", label_smoothing_factor=job.delta,
            eval_strategy="epoch", save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            remove_unused_columns=False,
        )  # fmt: skip
        trainer = Trainer(
            ForTrainer(backbone.model),
            arguments,
            data_collator=collate,
            train_dataset=Images(data.train, backbone.augment),
            eval_dataset=Images(data.test, backbone.transform),
            callbacks=[Clock()],
            compute_metrics=lambda found: {
                "accuracy": balanced_accuracy(*map(torch.from_numpy, (found.predictions, found.label_ids)))
            },
        )
        trainer.train()
    accuracies = [row["eval_accuracy"] for row in trainer.state.log_history if "eval_accuracy" in row]
    return accuracies[-1], left_out(job, ends)


# Heads alone, on the same cached features: (W, b) and seconds.

Head = tuple[Tensor, Tensor, float]


def exact(job: Job, train: Features, **chosen: Any) -> Head:
    settings = {"delta": job.delta, "gamma": 1.0, "weight_decay": job.weight_decay, **chosen}
    start = time.perf_counter()
    fit = fit_head(train, "lort", calibrate=False, **settings)
    return fit.weight, fit.bias, time.perf_counter() - start


def of_sklearn(model: Any, train: Features) -> Head:
    x, y = train.x.numpy(), train.y.numpy()
    start = time.perf_counter()
    model.fit(x, y)
    seconds = time.perf_counter() - start
    return torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_), seconds


def logistic(job: Job, train: Features, _: float) -> Head:
    """Fit the objective at delta 0 in scikit-learn's units: C times the sum of the balanced losses."""
    from sklearn.linear_model import LogisticRegression

    scale = 1 / (job.weight_decay * len(train))
    return of_sklearn(LogisticRegression(C=scale, class_weight="balanced", max_iter=10_000), train)


def ridge(job: Job, train: Features, _: float) -> Head:
    """Fit the limit delta -> 1 of the objective, in scikit-learn's units."""
    from sklearn.linear_model import RidgeClassifier

    alpha = len(train) * (int(train.y.max()) + 1) * job.weight_decay
    return of_sklearn(RidgeClassifier(alpha, class_weight="balanced"), train)


def ridge_cv(_: Job, train: Features, __: float) -> Head:
    """Choose among as many alphas as fit_head tries weight decays at most, over the same range."""
    from sklearn.linear_model import RidgeClassifierCV

    unit = len(train) * float(train.x.var(dim=0).mean())
    return of_sklearn(
        RidgeClassifierCV([unit * decay for decay in RELATIVE_DECAYS], class_weight="balanced"), train
    )


def lbfgs(job: Job, train: Features, goal: float, dtype: torch.dtype = torch.float32) -> Head:
    """Run torch's L-BFGS on the objective until its value is within 1e-6 of `goal` or no longer changes.

    In float32 it stops changing before it is that close: a step gains less than the rounding of the value.
    """
    x, counts = train.x.to(dtype), torch.bincount(train.y)
    weight = torch.zeros(len(counts), x.shape[1], dtype=dtype, requires_grad=True)
    bias = torch.zeros(len(counts), dtype=dtype, requires_grad=True)
    objective = Objective(delta=job.delta, gamma=1.0, weight_decay=job.weight_decay)
    optimizer = torch.optim.LBFGS(
        [weight, bias], line_search_fn="strong_wolfe", tolerance_grad=0, tolerance_change=0
    )
    trace: list[tuple[float, float]] = []
    start = time.perf_counter()

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective_value(objective, weight, bias, x, train.y, counts)
        value.backward()
        trace.append((time.perf_counter() - start, value.item()))
        return value

    best = float("inf")
    while len(trace) < LBFGS_EVALUATIONS:
        optimizer.step(closure)
        before, best = best, min(value for _, value in trace)
        if best <= goal * (1 + CLOSE) or best >= before:
            break
    seconds = next((t for t, value in trace if value <= goal * (1 + CLOSE)), trace[-1][0])
    return weight.detach(), bias.detach(), seconds


def heads(job: Job, name: str) -> dict[str, dict[str, float]]:
    """Time both heads in one process, each on a small problem first, so that neither time has a start-up."""
    backbone, data = load(job)
    train, test = (extract_features(backbone, split).load() for split in (data.train, data.test))
    toy = Features(torch.randn(400, 8), torch.arange(400) % 4, torch.arange(400))
    theirs = HEADS[name]
    chosen: dict[str, Any] = {}
    if theirs is ridge_cv:
        chosen = {"weight_decay": None}
    elif theirs is ridge:  # the same objective, so the same solver
        chosen = {"solver": "closed-form"}
    objective = Objective(delta=job.delta, gamma=1.0, weight_decay=job.weight_decay)
    counts = torch.bincount(train.y)

    def value(head: Head) -> float:
        doubles = (head[0].double(), head[1].double(), train.x.double())
        return float(objective_value(objective, *doubles, train.y, counts))

    goal = value(exact(job, train)) if "LBFGS" in name else 0.0
    runs = {
        "ours": lambda found: exact(job, found, **chosen),
        "theirs": lambda found: theirs(job, found, goal),
    }
    results = {}
    for side in sorted(runs, reverse=not job.ours_first):
        runs[side](toy)
        head = runs[side](train)
        logits = F.linear(test.x, head[0].float(), head[1].float())
        results[side] = {"seconds": head[2], "accuracy": balanced_accuracy(logits, test.y)}
        if goal or (theirs is logistic and job.delta == 0):  # the others minimise something else
            results[side]["objective"] = value(head)
    return results


WHOLE: dict[str, Callable[[Job], Result]] = {
    "ours, settings chosen": ours,
    "ours, settings given": lambda job: ours(job, gamma=1.0, weight_decay=job.weight_decay),
    "(a) backbone in the loop": lambda job: in_the_loop(job, frozen=False),
    "(b) backbone frozen, no_grad": lambda job: in_the_loop(job, frozen=True),
    "(e) Trainer, backbone frozen": with_trainer,
}


def published(job: Job, train: Features, _: float) -> Head:
    """Run the SGD of (a) and (b) on the cached features: the same schedule, without augmentation."""
    num_classes = int(train.y.max()) + 1
    start = time.perf_counter()
    head = sgd(
        [train.x], train.y, torch.bincount(train.y), Objective(delta=job.delta),
        init=(torch.zeros(num_classes, train.x.shape[1]), torch.zeros(num_classes)),
        epochs=job.epochs, lr=job.lr,
    )  # fmt: skip
    return head.weight.float(), head.bias.float(), time.perf_counter() - start


HEADS = {
    "(c) LogisticRegression": logistic,
    "(c) RidgeClassifier": ridge,
    "(c) RidgeClassifierCV": ridge_cv,
    "(f) SGD of (a), (b) on cached features": published,
    "(d) torch.optim.LBFGS": lbfgs,
    "(d) torch.optim.LBFGS, float64": partial(lbfgs, dtype=torch.float64),
}


if __name__ == "__main__":
    name, job = sys.argv[1], Job(**json.loads(sys.argv[2]))
    if name in WHOLE:
        accuracy, left = WHOLE[name](job)
        print(json.dumps({"accuracy": accuracy, "left out": left}))
    else:
        print(json.dumps(heads(job, name)))
