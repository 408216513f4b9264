"""Every classifier re-training method on the same frozen features, chosen without the test set: one table.

python recipes/compare.py --features-of out/stage1 --dataset cifar100 --output-dir out/comparison
python recipes/compare.py --features-of tf_efficientnet_lite0.in1k --image-size 96 --subset shuffle --seeds 5
python recipes/compare.py --features-of out/stage1 --imbalances exp:100 step:100 --methods ce lort auto
"""

import json
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from accelerate.utils import set_seed

from lort_hub.checkpoint import atomic_folder, check_output_dir, is_finished
from lort_hub.comparison import comparison_table, each_method, paired_tests, result_row
from lort_hub.config import RunArguments, environment, flag, make_accelerator, parse_arguments, phase, run
from lort_hub.data import load_long_tailed
from lort_hub.eigenbasis import TrainingSet
from lort_hub.errors import ConfigError, did_you_mean
from lort_hub.features import extract_features
from lort_hub.fitting import LinearHead
from lort_hub.heads import fit_head, own_head, stage1_fit
from lort_hub.judging import SCORES
from lort_hub.loading import load_backbone
from lort_hub.methods import METHODS
from lort_hub.metrics import evaluate
from lort_hub.output import write_csv, write_json
from lort_hub.plots import plot_comparison


@dataclass
class Arguments(RunArguments):
    """Flags of this recipe."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {**RunArguments.RANGES, "seeds": (1, inf)}

    features_of: str | None = flag(None, "The backbone; the same as --backbone.")
    methods: list[str] = flag(["all"], f"all, or some of: {', '.join(METHODS)}, auto.")
    imbalances: list[str] = flag([], "Several cuts, a table each (default: --imbalance).")
    seeds: int = flag(1, "Runs: each its own folds and SGD order, and its own tail with --subset shuffle.")
    select_by: Literal[tuple(SCORES)] = flag("balanced-accuracy", "Score of the choices.")  # type: ignore[valid-type]

    def __post_init__(self) -> None:
        """Refuse unknown methods before anything is loaded."""
        super().__post_init__()
        self.backbone = self.features_of or self.backbone
        if self.methods == ["all"]:
            self.methods = [*METHODS, "auto"]
        for name in self.methods:
            if name not in (*METHODS, "auto"):
                raise ConfigError(f"Unknown method '{name}'.{did_you_mean(name, [*METHODS, 'auto'])}")


def main() -> None:
    """Extract features, then choose, fit and test every method, for each cut and seed."""
    args = parse_arguments(Arguments, description=__doc__)
    accelerator = make_accelerator(args)
    arguments = json.loads(json.dumps(asdict(args), default=str))
    if args.resume and is_finished(args.output_dir, arguments):
        accelerator.print(f"{args.output_dir} is finished; nothing to do.")
        return
    check_output_dir(args.output_dir, overwrite=args.overwrite)
    set_seed(args.seed)
    timing: dict[str, float] = {}
    with phase("backbone", timing):
        backbone = load_backbone(args.backbone, pretrained=args.pretrained, image_size=args.image_size)
    rows: list[dict[str, Any]] = []
    tables: dict[str, str] = {}
    for imbalance in args.imbalances or [args.imbalance]:
        right: dict[str, list[np.ndarray]] = {}
        start = len(rows)
        for seed in range(args.seed, args.seed + args.seeds):
            with phase("data", timing), accelerator.main_process_first():
                cut = {"imbalance": imbalance, "subset_seed": args.subset_seed + seed}
                data = load_long_tailed(args.dataset, **{**args.data_options(), **cut})
            cell = f"{Path(backbone.source).name}, {data.name}, {data.source['imbalance']}"
            counts = data.class_counts
            accelerator.print(
                f"{cell}, seed {seed}: {len(data.train)} training, {len(data.test)} test images"
            )
            if args.dry_run:
                continue
            with phase("features", timing):
                how = {
                    "accelerator": accelerator,
                    "batch_size": args.batch_size,
                    "num_workers": args.num_workers,
                }
                stores = [extract_features(backbone, split, **how) for split in (data.train, data.test)]
            if not accelerator.is_main_process:  # the heads take minutes at most; one process fits them
                continue
            train, test = (store.load() for store in stores)
            labels = test.y.numpy()
            unseen = backbone.trained_on.unseen(data) if backbone.trained_on else None
            held_out = None if unseen is None else torch.from_numpy(unseen)
            training = TrainingSet(train.x, train.y, data.num_classes, held_out)
            own = own_head(backbone, data.class_names)
            baseline = (
                stage1_fit(*own) if own else fit_head(training, "ce", select_by=args.select_by, seed=seed)
            )
            for name, fit, seconds in each_method(
                training, baseline, args.methods, by=args.select_by, seed=seed
            ):
                logits = fit.logits(test.x).numpy()
                weight = fit.weight.numpy() if isinstance(fit.head, LinearHead) else None
                report = evaluate(logits, labels, counts, weight=weight)
                chosen = json.dumps(
                    {"method": fit.method, **fit.settings} if name == "auto" else fit.settings
                )
                about = {"cell": cell, "method": name, "seed": seed, "seconds": seconds, "chosen": chosen}
                rows.append(result_row(report, counts, **about))
                right.setdefault(name, []).append(logits.argmax(axis=1) == labels)
                print(f"{name}: {100 * report['balanced_accuracy']:.1f} in {seconds:.1f} s", flush=True)
        if rows[start:]:
            tables[cell] = comparison_table(rows[start:], paired_tests(right, labels))
    if args.dry_run or not accelerator.is_main_process:
        return
    with atomic_folder(args.output_dir, overwrite=args.overwrite) as staged:
        write_csv(staged / "results.csv", rows)
        results = "\n\n".join(f"## {cell}\n\n{table}" for cell, table in tables.items())
        (staged / "results.md").write_text(f"{results}\n")
        plot_comparison(staged / "comparison.png", rows)
        write_json(
            staged / "run.json", {"arguments": arguments, "environment": environment(), "timing": timing}
        )
    print(results)
    print(f"Wrote {args.output_dir}")


if __name__ == "__main__":
    run(main)
