"""Vary one setting of LORT at a time: a table and a plot for each.

lort-hub sweep --features-of out/stage1 --dataset cifar100 --output-dir out/sweep
lort-hub sweep --features-of out/stage1 --dataset cifar100 --studies delta lr --output-dir out/sweep
"""

import shutil
import time
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

from lort_hub.commands.arguments import FeatureArguments, flag
from lort_hub.commands.command_line import recorded_command, with_flags
from lort_hub.commands.output_dir import finished_results, kept_on_failure, start_run
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.runtime import make_accelerator, phase, run, start_log
from lort_hub.commands.together import in_turns, load_data, on_first
from lort_hub.commands.tracking import track_output
from lort_hub.errors import ConfigError, did_you_mean
from lort_hub.evaluation.metrics import evaluate
from lort_hub.evaluation.report import ResultRow
from lort_hub.experiments.partial_results import SeedResults, checksums, partial_folder
from lort_hub.files import atomic_folder
from lort_hub.records import environment

if TYPE_CHECKING:
    from lort_hub.experiments.ablations import Bench
    from lort_hub.heads.task import RetrainingTask

STUDIES = ("delta", "lr", "weight-decay", "views", "scale", "noise", "path")


@dataclass
class Arguments(FeatureArguments):
    """Flags of this recipe."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {**FeatureArguments.RANGES, "views": (0, inf)}

    features_of: str | None = flag(None, "Backbone; the same as --backbone.")
    studies: list[str] = flag(["all"], f"all, or some of: {', '.join(STUDIES)}.")
    views: int = flag(2, "Augmented views of each training image, in the study of views.")

    def __post_init__(self) -> None:
        """Refuse unknown studies before anything is loaded."""
        super().__post_init__()
        self.backbone = self.features_of or self.backbone
        self.studies = [*STUDIES] if "all" in self.studies else list(dict.fromkeys(self.studies))
        for name in self.studies:
            if name not in STUDIES:
                hint = did_you_mean(name, STUDIES)
                raise ConfigError(
                    f"Unknown study '{name}'.{hint}\nExpected all, or some of: {', '.join(STUDIES)}."
                )


def main() -> dict[str, Any] | None:
    """Extract features, fit the heads of each study, and test them."""
    args = parse_arguments(Arguments, description=__doc__, json=True)
    # Here and not above: --help and a mistyped flag need not wait for torch.
    from accelerate.utils import set_seed

    from lort_hub.backbones.load import load_backbone
    from lort_hub.data.load import load_long_tailed
    from lort_hub.data.overlap import write_duplicates
    from lort_hub.evaluation.plots import plot_study
    from lort_hub.evaluation.tables import study_table
    from lort_hub.experiments import ablations
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
    with phase("data", log):
        data = load_data(accelerator, load_long_tailed, args.dataset, **args.data_options())
    plan = f"{backbone.source} on {data.name}: studies {', '.join(args.studies)} into {args.output_dir}"
    accelerator.print(plan, *with_flags(data.notes, vars(args)), sep="\n")
    if args.dry_run:
        return {"plan": plan}
    kept = on_first(accelerator, partial_folder, args.output_dir, arguments)
    accelerator.init_trackers("lort_hub", config={name: str(value) for name, value in arguments.items()})
    with phase("features", log):
        views = args.views if "views" in args.studies else 0
        options = {"views": views, "seed": args.seed, **args.extraction_options()}
        task = RetrainingTask.extract(backbone, data, accelerator, **options)
    if task is None:
        return None
    for line in with_flags(task.notes, vars(args)):
        print(line)
    baseline = task.cached_baseline(backbone, seed=args.seed)
    bench = ablations.Bench(task.training, baseline, task.views, args.seed)
    made_from = checksums(backbone, data)
    rows: list[ResultRow] = []
    tables = {}
    for number, study in enumerate(args.studies):
        path = kept / f"{number}-{args.seed}.npz"
        results = SeedResults.load(path, made_from)
        if results:
            print("done before the interruption")
        else:
            results = SeedResults(
                made_from, one_study(study, bench, task, args.seed), {}, task.test.y.numpy(), {}
            )
            results.save(path)
        for row in results.rows:
            rows.append(row)
            log.add("result", **row.to_json())
            accelerator.log({f"{study}/balanced_accuracy": row.balanced_accuracy}, step=len(rows))
        tables[study] = study_table(results.rows)
        print(f"\n{study}\n\n{tables[study]}", flush=True)
    correlations = ablations.rank_correlations(rows)
    lines = [f"- {name}: {rho}" for name, rho in correlations.items()]
    title = "rank correlation with balanced accuracy, over all linear heads above"
    tables[title] = "\n".join(lines)
    print(f"\n{title}", *lines, sep="\n")
    with (
        kept_on_failure(f"the results are in {kept}"),
        atomic_folder(args.output_dir, overwrite=args.overwrite) as staged,
    ):
        write_duplicates(staged, data.duplicates)
        write_csv(staged / "results.csv", [row.to_csv() for row in rows])
        text = "\n\n".join(f"## {name}\n\n{table}" for name, table in tables.items())
        (staged / "results.md").write_text(f"{text}\n", encoding="utf-8")
        for study in args.studies:
            plot_study(staged / f"{study}.png", study, [row for row in rows if row.method == study])
        software = environment(recorded_command()).to_json()
        record = {"arguments": arguments, "environment": software, "timing": log.seconds}
        write_json(staged / "run.json", record)
        log.write(staged)
    shutil.rmtree(kept, ignore_errors=True)
    track_output(accelerator, [row.to_csv() for row in rows], text, args.output_dir)
    print(f"Wrote {args.output_dir}")
    return finished_results(args.output_dir)


def one_study(study: str, bench: "Bench", task: "RetrainingTask", seed: int) -> list[ResultRow]:
    """Make the heads of one study and test them: a row for each."""
    from lort_hub.evaluation.tables import result_row
    from lort_hub.experiments.ablations import STUDIES
    from lort_hub.heads.base import LinearHead

    counts, test, rows = task.training.class_counts, task.test, list[ResultRow]()
    start = time.perf_counter()
    for varied, head in STUDIES[study](bench):
        seconds = time.perf_counter() - start
        weight = head.weight if isinstance(head, LinearHead) else None
        report = evaluate(head.logits(test.x), test.y, counts, weight=weight)
        columns = {"method": study, "seed": seed, "seconds": seconds, "chosen": varied}
        rows.append(result_row(report, counts, **columns))
        start = time.perf_counter()
    return rows


if __name__ == "__main__":
    run(main, Arguments)
