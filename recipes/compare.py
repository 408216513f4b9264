"""Compare the methods on the same frozen features, in one table.

lort-hub compare --features-of out/stage1 --dataset cifar100 --output-dir out/comparison
lort-hub compare --features-of tf_efficientnet_lite0.in1k --image-size 96 --subset shuffle --seeds 5
lort-hub compare --features-of out/stage1 --imbalances exp:100 step:100 --methods ce lort auto
"""

import shutil
import time
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lort_hub.commands.arguments import FeatureArguments, flag
from lort_hub.commands.command_line import recorded_command, with_flags
from lort_hub.commands.output_dir import finished_results, kept_on_failure, start_run
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.runtime import make_accelerator, phase, run, start_log
from lort_hub.commands.together import in_turns, load_data, on_first
from lort_hub.commands.tracking import track_output
from lort_hub.data.imbalance import long_tailed_counts
from lort_hub.errors import ConfigError, did_you_mean
from lort_hub.evaluation.metrics import evaluate
from lort_hub.evaluation.report import ResultRow
from lort_hub.experiments.partial_results import SeedResults, checksums, describe_seeds, partial_folder
from lort_hub.files import atomic_folder
from lort_hub.heads.methods import CHOICES, METHODS, SELECT_BY, STAGE1
from lort_hub.records import environment

if TYPE_CHECKING:
    from lort_hub.backbones.backbone import Backbone
    from lort_hub.data.dataset import Duplicate
    from lort_hub.heads.task import RetrainingTask


@dataclass
class Arguments(FeatureArguments):
    """Flags of this recipe."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {**FeatureArguments.RANGES, "seeds": (1, inf)}

    features_of: str | None = flag(None, "Backbone; the same as --backbone.")
    methods: list[str] = flag(["all"], f"all, or some of: {', '.join((*METHODS, *CHOICES))}.")
    imbalances: list[str] = flag([], "Several imbalances, each with its own table (default: --imbalance).")
    adapt: bool = flag(False, "Test heads moved to their estimates of the shifted test priors as well.")
    seeds: int = flag(1, "Number of runs, each with its own folds, SGD order and (--subset shuffle) images.")
    select_by: Literal[SELECT_BY] | None = flag(
        None, "Score that chooses the settings (default: the method's)."
    )  # type: ignore[valid-type]

    def __post_init__(self) -> None:
        """Refuse unknown methods before anything is loaded."""
        super().__post_init__()
        self.backbone = self.features_of or self.backbone
        known = [*METHODS, *CHOICES]
        self.methods = known if "all" in self.methods else list(dict.fromkeys(self.methods))
        for name in self.methods:
            if name not in known:
                hint = did_you_mean(name, known)
                raise ConfigError(
                    f"Unknown method '{name}'.{hint}\nExpected all, or some of: {', '.join(known)}."
                )
        for imbalance in self.imbalances:
            long_tailed_counts(imbalance, 2, 1)


def main() -> dict[str, Any] | None:
    """Extract features, then choose, fit and test every method, for each cut and seed."""
    args = parse_arguments(Arguments, description=__doc__, json=True)
    # Here and not above: --help and a mistyped flag need not wait for torch.
    from accelerate.utils import set_seed

    from lort_hub.backbones.load import load_backbone
    from lort_hub.data.load import load_long_tailed
    from lort_hub.data.overlap import write_duplicates
    from lort_hub.evaluation.comparison_page import ComparedCell, render_comparison
    from lort_hub.evaluation.html import write_page
    from lort_hub.evaluation.plots import plot_comparison
    from lort_hub.evaluation.report_page import how_to_repeat
    from lort_hub.files import write_csv, write_json
    from lort_hub.heads.task import RetrainingTask

    accelerator = make_accelerator(args)
    arguments = start_run(args, accelerator)
    if arguments is None:
        return finished_results(args.output_dir) if accelerator.is_main_process else None
    set_seed(args.seed)
    log = start_log()
    with phase("backbone", log):
        backbone = in_turns(accelerator, load_backbone, args.backbone, **args.backbone_options())
    cuts, seeds = args.imbalances or [args.imbalance], range(args.seed, args.seed + args.seeds)
    accelerator.print(plan := f"{', '.join(args.methods)} into {args.output_dir}")
    if not args.dry_run:
        kept = on_first(accelerator, partial_folder, args.output_dir, arguments)
        accelerator.init_trackers("lort_hub", config={name: str(value) for name, value in arguments.items()})
    rows, cells, noted = list[ResultRow](), list[ComparedCell](), set[str]()
    duplicates: list[Duplicate] = []
    for number, imbalance in enumerate(cuts):
        found = []
        for seed in seeds:
            with phase("data", log):
                cut = {"imbalance": imbalance, "subset_seed": args.subset_seed + seed}
                data = load_data(accelerator, load_long_tailed, args.dataset, **args.data_options() | cut)
            cell = f"{Path(backbone.source).name}, {data.name}, {data.source['imbalance']}"
            sizes = f"{cell}, seed {seed}: {len(data.train)} training, {len(data.test)} test images"
            notes = [note for note in data.notes if note not in noted]
            accelerator.print(sizes, *with_flags(notes, vars(args)), sep="\n")
            noted |= set(data.notes)
            duplicates += data.duplicates
            if args.dry_run:
                continue
            with phase("features", log):
                task = RetrainingTask.extract(backbone, data, accelerator, **args.extraction_options())
            if task is None:  # the main process alone fits the heads
                continue
            path = kept / f"{number}-{seed}.npz"
            made_from = checksums(backbone, data)
            results = SeedResults.load(path, made_from)
            if results:
                print("done before the interruption")
            else:
                for line in with_flags(task.notes, vars(args)):
                    print(line)
                results = one_seed(args, backbone, task, cell, seed, made_from)
                results.save(path)
            found.append(results)
            for row in results.rows:
                log.add("result", **row.to_json())
                score, step = {f"{cell}/{row.method}": row.balanced_accuracy}, number * args.seeds + seed
                accelerator.log(score, step=step - args.seed)
        if found:
            own = [row for results in found for row in results.rows]
            right = {name: [results.right[name] for results in found] for name in found[0].right}
            cells.append(ComparedCell.of(cell, own, right, found[0].labels, describe_seeds(found)))
            rows += own
    if args.dry_run or not accelerator.is_main_process:
        return {"plan": plan} if args.dry_run else None
    with (
        kept_on_failure(f"the results are in {kept}"),
        atomic_folder(args.output_dir, overwrite=args.overwrite) as staged,
    ):
        write_duplicates(staged, duplicates)
        write_csv(staged / "results.csv", [row.to_csv() for row in rows])
        text = "\n\n".join(cell.to_markdown() for cell in cells)
        (staged / "results.md").write_text(f"{text}\n", encoding="utf-8")
        plot_comparison(staged / "comparison.png", rows)
        made_with = environment(recorded_command())
        write_page(staged / "report.html", render_comparison(cells, [how_to_repeat(made_with)]))
        record = {"arguments": arguments, "environment": made_with.to_json()}
        write_json(staged / "run.json", {**record, "timing": log.seconds})
        log.write(staged)
    shutil.rmtree(kept, ignore_errors=True)
    track_output(accelerator, [row.to_csv() for row in rows], text, args.output_dir)
    print(text, f"Wrote {args.output_dir}", sep="\n")
    return finished_results(args.output_dir)


def one_seed(
    args: Arguments,
    backbone: "Backbone",
    task: "RetrainingTask",
    cell: str,
    seed: int,
    made_from: list[str],
) -> SeedResults:
    """Choose, fit and test every method once."""
    from lort_hub.evaluation.tables import result_row
    from lort_hub.experiments.compare import each_method
    from lort_hub.experiments.shifts import adapted_accuracy
    from lort_hub.heads.base import LinearHead
    from lort_hub.heads.class_mix import measure_mix

    training, test = task.training, task.test
    counts, labels = training.class_counts, test.y.numpy()
    rows, right, how = [], {}, {}
    start = time.perf_counter()
    baseline = task.baseline(backbone, select_by=args.select_by, seed=seed)
    choice = {"by": args.select_by, "seed": seed, "baseline_seconds": time.perf_counter() - start}
    for name, fit, seconds in each_method(training, baseline, args.methods, **choice):
        logits = fit.logits(test.x).numpy()
        weight = fit.weight if isinstance(fit.head, LinearHead) else None
        report = evaluate(logits, labels, counts, weight=weight)
        chosen = {"method": fit.method, **fit.settings} if name in CHOICES else fit.settings
        columns = {"cell": cell, "method": name, "seed": seed, "seconds": seconds, "chosen": chosen}
        row = result_row(report, counts, **columns)
        if args.adapt and fit.method != STAGE1:
            fit = measure_mix(training, fit, baseline, seed=seed)
            shifts = adapted_accuracy(fit, test, counts.numpy(), seed=seed)
            row = replace(row, shifted=row.shifted | shifts)
        rows.append(row)
        right[name] = logits.argmax(axis=1) == labels
        if made := fit.choice or fit.selection:
            how[name] = f"{made.scorer} by {made.validation}"
        print(f"{name}: {100 * report.balanced_accuracy:.1f} in {seconds:.1f} s", flush=True)
    return SeedResults(made_from, rows, right, labels, how)


if __name__ == "__main__":
    run(main, Arguments)
