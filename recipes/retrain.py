"""Re-train the head of a frozen backbone, evaluate it, write the model.

lort-hub retrain --backbone resnet50                                        (CIFAR-100-LT, from the Hub)
lort-hub retrain --backbone local-dir:FOLDER --dataset ./photos             (your images)
lort-hub retrain --backbone out/stage1 --dataset ./photos --num-processes 4 (on four GPUs)
lort-hub retrain --backbone out/refitted --dataset ./photos --refit out/head (after train --refit)

From a checkout: accelerate launch recipes/retrain.py ...
"""

from pathlib import Path
from typing import Any

from lort_hub.commands.command_line import recorded_command, with_flags
from lort_hub.commands.output_dir import check_model, describe_inputs, kept_on_failure, start_run
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.push import push_output
from lort_hub.commands.retraining_arguments import SETTINGS, RetrainingArguments, refit_arguments
from lort_hub.commands.runtime import make_accelerator, phase, run, start_log
from lort_hub.commands.together import in_turns, load_data, on_first
from lort_hub.commands.tracking import track_results
from lort_hub.records import environment


def main() -> dict[str, Any] | None:
    """Load the backbone and data, extract features, re-train the head, evaluate and write it."""
    args = parse_arguments(RetrainingArguments, description=__doc__, json=True)
    # Here and not above: --help and a mistyped flag need not wait for torch.
    from accelerate.utils import set_seed

    from lort_hub.backbones.load import load_backbone
    from lort_hub.data.load import load_long_tailed
    from lort_hub.evaluation.heads import compared_heads, evaluate_fit, optimism_note
    from lort_hub.evaluation.tables import results_table
    from lort_hub.heads.choose import fit_by_name
    from lort_hub.heads.class_mix import move, stated_shares
    from lort_hub.heads.fit import fit_head
    from lort_hub.heads.refit import refit
    from lort_hub.heads.task import RetrainingTask
    from lort_hub.hub.earlier_run import check_earlier_run
    from lort_hub.hub.head_file import read_held_out
    from lort_hub.hub.output import save_output
    from lort_hub.hub.upload import check_push

    args, earlier = refit_arguments(args, args.refit) if args.refit else (args, None)
    accelerator = make_accelerator(args)
    arguments = start_run(args, accelerator)
    if arguments is None:
        return push_output(args) if accelerator.is_main_process else None
    if args.push_to_hub:
        on_first(accelerator, check_push, args.push_to_hub, private=args.private, license=args.license)
    set_seed(args.seed)

    log = start_log()
    with phase("backbone", log):
        backbone = in_turns(accelerator, load_backbone, args.backbone, **args.backbone_options())
    with phase("data", log):
        data = load_data(accelerator, load_long_tailed, args.dataset, **args.data_options())
    plan = f"{describe_inputs(backbone, data)}; {args.method} into {args.output_dir}"
    accelerator.print(plan, *with_flags(data.notes, vars(args)), sep="\n")
    if earlier:
        on_first(accelerator, check_earlier_run, earlier, backbone, data.class_names)
    if args.test_prior:  # mistakes in a file are found here
        on_first(accelerator, stated_shares, args.test_prior, data.class_names, data.class_counts)
    with phase("save check", log):
        check_model(backbone, data.class_names, args.output_dir, accelerator)
    if args.dry_run:
        return {"plan": plan}
    accelerator.init_trackers("lort_hub", config={name: str(value) for name, value in arguments.items()})

    with phase("features", log):
        options = {
            "views": args.views,
            "seed": args.seed,
            "chooses": not earlier,
            **args.extraction_options(),
        }
        task = RetrainingTask.extract(backbone, data, accelerator, shared=True, **options)
    data, training = task.data, task.training
    for line in with_flags(task.notes, vars(args)):
        accelerator.print(line)

    with phase("baseline", log):
        how = {"select_by": args.select_by, "seed": args.seed}
        chosen = (earlier and earlier.head.candidates) or {}
        exact = args.method == "ce"
        baseline = task.cached_baseline(backbone, **how, exact=exact, chosen=chosen.get("ce"))
    made_by = {**how, "baseline": baseline.fingerprint(), "refit": earlier and earlier.head.to_json()}
    how |= {"baseline": baseline, "chosen": chosen.get("lort")}
    with phase("LORT's head", log):
        lort = task.cached({**made_by, "method": "lort"}, lambda: fit_head(training, "lort", **how))
    with phase("head", log):
        settings = {name: getattr(args, name) for name in SETTINGS}
        options = {"select_by": args.select_by, "calibrate": args.calibrate, "seed": args.seed}
        made_by |= {"chosen": args.method, "views": args.views, **settings, **options}
        options |= {"known": [baseline, lort], "settings": settings, "views": task.views}
        kept = "features and heads"
        if fit := task.load_head(made_by):
            accelerator.print("the head is in the cache, from a run with the same features and settings")
        else:
            if earlier:
                how = {"solver": args.solver, "views": task.views, "seed": args.seed}
                held_out = read_held_out(args.refit / "head")
                before = earlier.head, earlier.data.class_counts
                fit = refit(training, *before, baseline=baseline, held_out=held_out, **how)
            else:
                fit = fit_by_name(training, args.method, **options)
            kept = kept if task.save_head(fit, made_by) else "the features"
        if fit.reason:
            accelerator.print(fit.reason)
        if args.calibrate and args.test_prior:
            stated = (args.test_prior, data.class_names, training.class_counts)
            shares = on_first(accelerator, stated_shares, *stated)
            fit = move(fit, Path(args.test_prior).name, shares)
    if not accelerator.is_main_process:  # the heads are the same on all of them
        return None
    with phase("evaluation", log):
        options = {"thresholds": args.groups, "bootstrap": args.bootstrap, "seed": args.seed, "mix": fit.mix}
        rows = compared_heads(fit, [baseline, lort])
        reports = {
            name: evaluate_fit(head, task.test, training.class_counts, **options)
            for name, head in rows.items()
        }
        logits = fit.logits(task.test.x)
    with phase("output", log), kept_on_failure(f"{kept} are in the cache"):
        save_output(
            args.output_dir,
            overwrite=args.overwrite,
            license=args.license,
            backbone=backbone,
            data=data,
            fit=fit,
            reports=reports,
            baseline=next((name for name, head in rows.items() if head is baseline), fit.method),
            log=log,
            arguments=arguments,
            environment=environment(recorded_command()),
            logits=logits,
        )
    track_results(accelerator, reports, args.output_dir / "plots")

    print(results_table(reports))
    print(f"{fit.method}: {fit.describe()}")
    if note := optimism_note(fit, logits, data.test.labels):
        print(note)
    print(f"Wrote {args.output_dir}")
    return push_output(args)


if __name__ == "__main__":
    run(main, RetrainingArguments)
