"""The paper's studies on any frozen features: a table, a plot and results.csv for each.

python recipes/sweep.py --features-of out/stage1 --dataset cifar100 --output-dir out/sweep
python recipes/sweep.py --features-of out/stage1 --dataset cifar100 --studies delta lr --output-dir out/sweep
"""

import json
import time
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, ClassVar

import torch
from accelerate.utils import set_seed

from lort_hub.checkpoint import atomic_folder, check_output_dir, is_finished
from lort_hub.comparison import result_row, study_table
from lort_hub.config import RunArguments, environment, flag, make_accelerator, parse_arguments, phase, run
from lort_hub.data import load_long_tailed
from lort_hub.eigenbasis import TrainingSet
from lort_hub.errors import ConfigError, did_you_mean
from lort_hub.features import extract_features
from lort_hub.fitting import LinearHead
from lort_hub.heads import fit_head, own_head, stage1_fit
from lort_hub.loading import load_backbone
from lort_hub.metrics import evaluate
from lort_hub.output import write_csv, write_json
from lort_hub.plots import plot_study
from lort_hub.store import augmented_view
from lort_hub.studies import STUDIES, Bench, rank_correlations


@dataclass
class Arguments(RunArguments):
    """Flags of this recipe."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {**RunArguments.RANGES, "views": (0, inf)}

    features_of: str | None = flag(None, "The backbone; the same as --backbone.")
    studies: list[str] = flag(["all"], f"all, or some of: {', '.join(STUDIES)}.")
    views: int = flag(2, "Augmented views of each training image, for the study of views.")

    def __post_init__(self) -> None:
        """Refuse unknown studies before anything is loaded."""
        super().__post_init__()
        self.backbone = self.features_of or self.backbone
        self.studies = [*STUDIES] if self.studies == ["all"] else self.studies
        for name in self.studies:
            if name not in STUDIES:
                raise ConfigError(f"Unknown study '{name}'.{did_you_mean(name, STUDIES)}")


def main() -> None:
    """Extract features, make each study's heads, test them."""
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
    with phase("data", timing), accelerator.main_process_first():
        data = load_long_tailed(args.dataset, **args.data_options())
    accelerator.print(f"{backbone.source} on {data.name}: studies {', '.join(args.studies)}")
    if args.dry_run:
        return
    with phase("features", timing):
        views = args.views if "views" in args.studies else 0
        how = {"accelerator": accelerator, "batch_size": args.batch_size, "num_workers": args.num_workers}
        stores = [
            extract_features(backbone, split, views=number, seed=args.seed, **how)
            for split, number in ((data.train, views), (data.test, 0))
        ]
    if not accelerator.is_main_process:
        return
    train, test = (store.load() for store in stores)
    unseen = backbone.trained_on.unseen(data) if backbone.trained_on else None
    training = TrainingSet(
        train.x, train.y, data.num_classes, None if unseen is None else torch.from_numpy(unseen)
    )
    own = own_head(backbone, data.class_names)
    baseline = stage1_fit(*own) if own else fit_head(training, "ce", seed=args.seed)
    seen = [stores[0].load(augmented_view(args.seed, view + 1)).x for view in range(views)]
    bench = Bench(training, baseline, seen, args.seed)
    rows: list[dict[str, Any]] = []
    tables = {}
    for study in args.studies:
        start, first = time.perf_counter(), len(rows)
        for varied, head in STUDIES[study](bench):
            weight = head.weight.numpy() if isinstance(head, LinearHead) else None
            report = evaluate(head.logits(test.x).numpy(), test.y.numpy(), data.class_counts, weight=weight)
            seconds, start = time.perf_counter() - start, time.perf_counter()
            about = {"method": study, "seed": args.seed, "seconds": seconds, "chosen": json.dumps(varied)}
            rows.append(result_row(report, data.class_counts, **about))
        tables[study] = study_table(rows[first:])
        print(f"\n{study}\n\n{tables[study]}", flush=True)
    correlations = rank_correlations(rows)
    lines = [f"- {name}: {rho}" for name, rho in correlations.items()]
    tables["rank correlation with balanced accuracy, over all heads above"] = "\n".join(lines)
    print("\nrank correlation with balanced accuracy, over all heads above\n" + "\n".join(lines))
    with atomic_folder(args.output_dir, overwrite=args.overwrite) as staged:
        write_csv(staged / "results.csv", rows)
        text = "\n\n".join(f"## {name}\n\n{table}" for name, table in tables.items())
        (staged / "results.md").write_text(f"{text}\n")
        for study in args.studies:
            plot_study(staged / f"{study}.png", study, [row for row in rows if row["method"] == study])
        write_json(
            staged / "run.json", {"arguments": arguments, "environment": environment(), "timing": timing}
        )
    print(f"Wrote {args.output_dir}")


if __name__ == "__main__":
    run(main)
