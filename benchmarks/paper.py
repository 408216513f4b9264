"""Run the experiments of the LORT paper (arXiv 2403.00250) on CIFAR-100-LT, and test its claims.

python benchmarks/paper.py --dataset cifar100 --output-dir out/paper --minutes 9
python benchmarks/paper.py --dataset cifar100 --output-dir out/paper --minutes 9 --resume

Exit code 75: the minutes are over, and `--resume` goes on. What is finished is kept at any end, kill -9 too:
each epoch of stage 1, each part of the features, each seed of stage 2. A call has to be longer than one of
them.
"""

import json
import runpy
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, nan
from pathlib import Path
from types import FrameType
from typing import NoReturn

import numpy as np
import torch
from accelerate import Accelerator
from paper_claims import Claim, claims, judge, predicts_better
from paper_heads import POWERS, Trained, balanced_accuracies, recipes, stage2
from paper_tables import Scored, write
from safetensors.torch import load_file, save
from torchvision.transforms import Compose, RandomHorizontalFlip

from lort_hub.backbones.load import load_backbone
from lort_hub.commands.arguments import flag
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.runtime import reuse_freed_memory, run
from lort_hub.data.load import load_long_tailed
from lort_hub.errors import CheckpointError
from lort_hub.evaluation.metrics import evaluate
from lort_hub.evaluation.report import Report
from lort_hub.experiments.ablations import NoisyHead
from lort_hub.features.extract import extract_features
from lort_hub.files import write_atomically
from lort_hub.heads.base import Head, LinearHead
from lort_hub.heads.choose import fit_by_name
from lort_hub.heads.fit import fit_head
from lort_hub.heads.fitted import Fit, own_fit
from lort_hub.heads.posthoc import logit_adjusted, tau_normalised
from lort_hub.heads.task import RetrainingTask
from lort_hub.records import changed_arguments
from lort_hub.training.checkpoints import training_folder

TRAIN = Path(__file__).parents[1] / "recipes" / "train.py"
STAGE1 = (
    "--opt",
    "momentum",
    "--lr",
    "0.01",
    "--weight-decay",
    "0.005",
    "--warmup-epochs",
    "0",
    "--batch-size",
    "64",
)
STAGE1 += ("--no-pretrained", "--holdout", "0", "--bootstrap", "0", "--resume")
VIEWS_AT_ONCE = 5
TIME_IS_UP = 75
NOISE = 0.5
RECORD = "arguments.json"


@dataclass
class Arguments:
    dataset: str = flag("cifar100", "As for train.py.")
    label_column: str | None = flag(None, "Column of the labels (default: found by its type).")
    imbalances: list[int] = flag([100, 50, 10], "Imbalance ratios, one study each.")
    backbone: str = flag("resnet34_cifar", "Net to train from scratch, of 32 pixels.")
    epochs: int = flag(200, "Epochs of stage 1.")
    stage2_epochs: int = flag(20, "Epochs of stage 2, each on augmented views of its own.")
    seeds: int = flag(3, "Seeds of stage 2.")
    seed: int = flag(0, "Seed of stage 1, and the first one of stage 2.")
    mixed_precision: str = flag("no", "Precision of the backbone: no, bf16 or fp16.")
    num_workers: int = flag(4, "Threads or processes that decode images.")
    minutes: float = flag(0.0, "Stop after so many minutes; 0 for no limit.")
    resume: bool = flag(False, "Go on in the output folder.")
    output_dir: Path = flag(Path("out/paper"), "Where everything goes.")


class TimeIsUpError(BaseException):
    """Not an Exception: no library on the way may take it for an error of its own."""


def stop(_: int, __: FrameType | None) -> NoReturn:
    raise TimeIsUpError


def main() -> None:
    args = parse_arguments(Arguments, description=__doc__)
    args.output_dir = Path(args.output_dir)
    if not (args.output_dir / RECORD).exists():
        check_inputs(args)
    check_folder(args)
    reuse_freed_memory()
    ends = time.monotonic() + 60 * args.minutes if args.minutes else inf
    if args.minutes:
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 60 * args.minutes, 5)
    try:
        for ratio in args.imbalances:
            train_backbone(args, ratio)
        found = {ratio: study(args, ratio) for ratio in args.imbalances}
    except (TimeIsUpError, Exception) as error:
        # Compiled code of torch may make another error of the one that a signal handler raises in it.
        if time.monotonic() < ends:
            raise
        if not isinstance(error, TimeIsUpError):
            print(f"Stopped in the midst of it: {error}", file=sys.stderr)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(f"{args.minutes:g} minutes are over. Left: {'; '.join(left(args))}. --resume goes on.")
        sys.exit(TIME_IS_UP)
    signal.setitimer(signal.ITIMER_REAL, 0)
    title = f"The LORT paper's protocol: {args.backbone}, {args.dataset}, {args.epochs} epochs of stage 1"
    print(write(args.output_dir, title, found))


def check_inputs(args: Arguments) -> None:
    """Load the net, untrained, and the data, so that a mistake in their names takes no folder."""
    load_backbone(args.backbone, pretrained=False)
    for ratio in args.imbalances:
        load_long_tailed(args.dataset, label_column=args.label_column, imbalance=f"exp:{ratio}")


def check_folder(args: Arguments) -> None:
    """Refuse to mix runs: a folder is resumed with the arguments that it was started with."""
    record, now = args.output_dir / RECORD, {**vars(args), "output_dir": None}
    now = {name: value for name, value in now.items() if name not in ("minutes", "given")}
    if not record.exists():
        args.output_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(record, json.dumps(now).encode())
    elif not args.resume:
        raise CheckpointError(
            f"{args.output_dir} holds a run.\nGo on with `resume=True`, or name another folder."
        )
    elif changes := changed_arguments(now, json.loads(record.read_text())):
        raise CheckpointError(
            f"{args.output_dir} holds a run with other arguments: {changes}.\nGive the same ones."
        )


def stage1_folder(args: Arguments, ratio: int) -> Path:
    return args.output_dir / f"stage1-IR{ratio}"


def heads_file(args: Arguments, ratio: int, seed: int) -> Path:
    return args.output_dir / f"heads-IR{ratio}-seed{seed}.safetensors"


def seeds(args: Arguments) -> range:
    return range(args.seed, args.seed + args.seeds)


def left(args: Arguments) -> list[str]:
    """What is not done yet, an entry for each imbalance."""
    texts = []
    for ratio in args.imbalances:
        folder = stage1_folder(args, ratio)
        epochs = max((int(path.name[-4:]) for path in training_folder(folder).glob("epoch_*")), default=0)
        text = "" if folder.exists() else f"stage 1 after epoch {epochs} of {args.epochs}, "
        missing = sum(not heads_file(args, ratio, seed).exists() for seed in seeds(args))
        texts.append(f"IR {ratio}: {text}{missing} of {args.seeds} seeds of stage 2")
    return texts


def train_backbone(args: Arguments, ratio: int) -> None:
    """Stage 1, by train.py in this process: a second process would outlive a killed one and go on writing."""
    folder = stage1_folder(args, ratio)
    if folder.exists():  # train.py puts it in place when it is complete
        return
    column = ("--label-column", args.label_column) if args.label_column else ()
    flags = [
        "--dataset",
        args.dataset,
        *column,
        "--imbalance",
        f"exp:{ratio}",
        "--backbone",
        args.backbone,
        *STAGE1,
    ]
    flags += ["--epochs", args.epochs, "--seed", args.seed, "--mixed-precision", args.mixed_precision]
    flags += ["--num-workers", args.num_workers, "--output-dir", folder]
    command, sys.argv = sys.argv, [str(TRAIN), *map(str, flags)]
    try:
        runpy.run_path(str(TRAIN))["main"]()
    finally:
        sys.argv = command


def study(args: Arguments, ratio: int) -> tuple[dict[str, list[Scored]], list[Claim]]:
    """All heads on the features of one stage 1, and the claims about them."""
    accelerator = Accelerator(mixed_precision=args.mixed_precision)
    backbone = load_backbone(str(stage1_folder(args, ratio)))
    data = load_long_tailed(args.dataset, label_column=args.label_column, imbalance=f"exp:{ratio}")
    features = args.output_dir / "features"
    options = {"batch_size": 256, "num_workers": args.num_workers}
    for views in (*range(0, args.stage2_epochs, VIEWS_AT_ONCE), args.stage2_epochs):
        task = RetrainingTask.extract(
            backbone, data, accelerator, views=views, seed=args.seed, folder=features, **options
        )
    assert task is not None
    flipped = replace(backbone, transform=Compose([RandomHorizontalFlip(1.0), backbone.transform]))
    # In a folder of its own: the name of a store does not say that its images are flipped.
    mirror = extract_features(
        flipped, data.test, accelerator=accelerator, folder=features / "flipped", **options
    )
    tests = [task.test.x, (task.test.x + mirror.x) / 2]
    counts, labels = task.training.class_counts, task.test.y.numpy()
    second = np.zeros(len(labels), dtype=bool)  # every other image of each class
    for k in range(data.num_classes):
        second[np.flatnonzero(labels == k)[1::2]] = True

    def scored(head: Head, accuracies: torch.Tensor | None = None) -> Scored:
        logits, average = (head.logits(x) for x in tests)
        shown = {"weight": head.weight if isinstance(head, LinearHead) else None}
        report, *halves = (
            evaluate(logits[rows], labels[rows], counts, **shown)
            for rows in (slice(None), np.flatnonzero(~second), np.flatnonzero(second))
        )
        flipped = balanced_accuracies(average[:, None], task.test.y).item()
        best = (None, None) if accuracies is None else accuracies.max(dim=0).values.tolist()
        right = logits.argmax(dim=1).numpy() == labels
        return Scored(report, (halves[0], halves[1]), right, flipped, *best)

    own = own_fit(backbone, data.class_names)
    assert own is not None
    fixed: dict[str, Head] = {"stage 1": own.linear}
    fixed |= {f"tau-norm, {power:g}": LinearHead(*tau_normalised(*own.base, power)) for power in POWERS}
    fixed["logit adjustment"] = LinearHead(*logit_adjusted(*own.base, counts, 1.0))
    fixed |= {f"{name}, exact": fit.head for name, fit in solved(args, task, own).items()}
    found = defaultdict(list, {name: [scored(head)] for name, head in fixed.items()})
    extra = defaultdict(list, variants("stage 1", own.linear, args.seed))
    for seed in seeds(args):
        trained = trained_heads(args, ratio, seed, task, own, tests, accelerator.device)
        for row, recipe in enumerate(recipes()):
            head = LinearHead(trained.weight[row], trained.bias[row])
            found[recipe.name].append(scored(head, trained.accuracies[row]))
            if recipe.name == "LORT":
                for name, heads in variants("LORT", head, seed).items():
                    extra[name] += heads
    right = {name: np.mean([run.right for run in runs], axis=0) for name, runs in found.items()}
    right |= {name: np.mean([scored(head).right for head in heads], axis=0) for name, heads in extra.items()}
    tested = [
        *claims(right, labels),
        *magnitude_claims({name: runs[0].halves for name, runs in found.items()}),
    ]
    return dict(found), judge(tested)


def solved(args: Arguments, task: RetrainingTask, own: Fit) -> dict[str, Fit]:
    """Our exact solvers' heads, from the feature store if they are there."""
    how = {"baseline": own, "seed": args.seed}
    made_by = {"seed": args.seed, "baseline": own.fingerprint()}
    lort = task.cached({**made_by, "method": "lort"}, lambda: fit_head(task.training, "lort", **how))
    known = [own, lort]
    auto = task.cached(
        {**made_by, "method": "auto"},
        lambda: fit_by_name(task.training, "auto", known=known, settings={}, seed=args.seed),
    )
    return {"auto": auto, "lort": lort}


def variants(name: str, head: LinearHead, seed: int) -> dict[str, list[Head]]:
    """A head with another LoMa alone, and with noisy logits; an eighth rounds nothing."""
    eighth = LinearHead(head.weight / 8, head.bias / 8)
    noisy = {f"{name}, noise": head, f"{name} / 8, noise": eighth}
    return {f"{name} / 8": [eighth], **{key: [NoisyHead(value, NOISE, seed)] for key, value in noisy.items()}}


def trained_heads(
    args: Arguments,
    ratio: int,
    seed: int,
    task: RetrainingTask,
    own: Fit,
    tests: Sequence[torch.Tensor],
    device: torch.device,
) -> Trained:
    """Stage 2 with one seed, from its file if it is there."""
    path = heads_file(args, ratio, seed)
    if not path.exists():
        views = [view.whole().to(device) for view in task.views]
        turn = (seed - args.seed) * len(views) // args.seeds
        trained = stage2(
            views[turn:] + views[:turn],
            task.training.labels.to(device),
            own.base,
            recipes(),
            [x.to(device) for x in tests],
            task.test.y.to(device),
            seed=seed,
        )
        write_atomically(path, save({name: value.contiguous() for name, value in vars(trained).items()}))
    return Trained(**load_file(path))


def magnitude_claims(halves: dict[str, tuple[Report, Report]]) -> list[Claim]:
    """Whether LoMa predicts accuracy better than the weight norm: of heads, and of the classes of stage 1.

    LoMa is of one half of the test images, the accuracy of the other: it is computed with their labels.
    """

    def spread(report: Report, name: str) -> float:
        found = getattr(report, name)
        return found.std / found.mean if found.mean and found.std is not None else nan

    names = ("logits_magnitude", "weight_norm")
    accuracies = np.array([tested.balanced_accuracy for _, tested in halves.values()])
    evenness = [np.array([-spread(known, name) for known, _ in halves.values()]) for name in names]
    known, tested = halves["stage 1"]
    of_class = [np.array(getattr(known, name).per_class, dtype=float) for name in names]
    return [
        predicts_better(
            f"an even LoMa ranks {len(halves)} heads better than even norms", *evenness, accuracies
        ),
        predicts_better(
            "LoMa ranks the classes of stage 1 by accuracy better than their weight norm",
            *of_class,
            np.array(tested.per_class_accuracy, dtype=float),
        ),
    ]


if __name__ == "__main__":
    run(main, Arguments)
