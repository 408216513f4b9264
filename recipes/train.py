"""Train or fine-tune a backbone on a long-tailed data set.

lort-hub train --config cifar100_lt_ir100.yaml                              (the paper's stage 1)
lort-hub train --backbone vit_small_patch16_224 --tune lora --dataset ./photos
lort-hub train --backbone resnet50 --dataset ./photos --num-processes 4     (on four GPUs)

From a checkout: accelerate launch recipes/train.py ...
"""

import shutil
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from lort_hub.commands.command_line import recorded_command, with_flags
from lort_hub.commands.output_dir import check_model, describe_inputs, kept_on_failure, start_run
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.push import push_output
from lort_hub.commands.runtime import make_accelerator, phase, run, start_log
from lort_hub.commands.together import in_turns, load_data, on_first
from lort_hub.commands.tracking import held_out_scores, track_results
from lort_hub.commands.training_arguments import TrainingArguments, refit_arguments
from lort_hub.data.holdout import hold_out, record_training
from lort_hub.evaluation.metrics import evaluate
from lort_hub.records import environment
from lort_hub.training.checkpoints import (
    best_epoch,
    check_no_interrupted_run,
    load_epoch,
    remove_finished,
    resume_from,
    save_epoch,
    start_checkpoints,
    training_folder,
)
from lort_hub.training.stopping import has_ended
from lort_hub.training.trainable import check_trainable, merge_lora, select_trainable, train_mode


def main() -> dict[str, Any] | None:
    """Load the backbone and data, train, evaluate and write the model."""
    args = parse_arguments(TrainingArguments, description=__doc__, json=True)
    # Here and not above: --help and a mistyped flag need not wait for torch.
    import torch
    import torch.nn.functional as F
    from accelerate.utils import set_seed, tqdm
    from timm.data import Mixup
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import ModelEmaV3

    from lort_hub.backbones.backbone import logits_of
    from lort_hub.backbones.load import load_backbone
    from lort_hub.backbones.predict import predict
    from lort_hub.data.image_loader import check_images
    from lort_hub.data.load import load_long_tailed
    from lort_hub.evaluation.tables import results_table
    from lort_hub.heads.fitted import stage1_fit
    from lort_hub.heads.solvers.objective import logit_adjustment
    from lort_hub.hub.output import save_output
    from lort_hub.hub.upload import check_push
    from lort_hub.training.batches import Batches, check_cutout
    from lort_hub.training.epoch_loss import EpochLoss

    args, epochs = refit_arguments(args, args.refit) if args.refit else (args, args.epochs)
    accelerator = make_accelerator(args, dynamo_backend="inductor" if args.compile else None)
    arguments, checkpoints = start_run(args, accelerator), training_folder(args.output_dir)
    if arguments is None:
        if not args.dry_run:
            on_first(accelerator, remove_finished, checkpoints, args.output_dir)
        return push_output(args) if accelerator.is_main_process else None
    on_first(accelerator, check_no_interrupted_run, checkpoints, resume=args.resume, overwrite=args.overwrite)
    if args.push_to_hub:
        on_first(accelerator, check_push, args.push_to_hub, private=args.private, license=args.license)
    set_seed(args.seed, device_specific=True)

    log = start_log()
    with phase("backbone", log):
        backbone = in_turns(accelerator, load_backbone, args.backbone, **args.backbone_options())
        backbone = backbone.with_auto_augment(args.auto_augment) if args.auto_augment else backbone
        check_cutout(args.cutout, backbone)
    with phase("data", log):
        data = load_data(accelerator, load_long_tailed, args.dataset, **args.data_options())
    plan = (
        f"{describe_inputs(backbone, data)}; {args.holdout:.0%} held out, {epochs} epochs of {args.opt}, "
        f"lr {args.lr:g}{'' if args.pretrained else ', from scratch'}, into {args.output_dir}"
    )
    accelerator.print(plan, *with_flags(data.notes, vars(args)), sep="\n")
    backbone = backbone.with_new_classifier(data.class_names)
    model = select_trainable(backbone, args.tune, lora_rank=args.lora_rank)
    model.to(memory_format=torch.channels_last)
    check_trainable(model, backbone, args.tune, batch_size=args.batch_size, layer_decay=args.layer_decay)
    optimizer = create_optimizer_v2(model, args.opt, args.lr, args.weight_decay, layer_decay=args.layer_decay)
    with phase("save check", log):
        as_saved = replace(backbone, model=merge_lora(model))
        check_model(as_saved, data.class_names, args.output_dir, accelerator)
    if args.dry_run:
        return {"plan": plan}
    on_first(accelerator, start_checkpoints, checkpoints, args.output_dir)
    accelerator.init_trackers("lort_hub", config={name: str(value) for name, value in arguments.items()})
    part = {"process": accelerator.process_index, "processes": accelerator.num_processes}
    options = {"batch_size": args.batch_size, "num_workers": args.num_workers, **part}
    with phase("images", log):
        data = check_images(data, accelerator, on_bad_image=args.on_bad_image, num_workers=args.num_workers)
        for line in data.left_out():
            accelerator.print(line)
        kept, held = hold_out(data.train, args.holdout, seed=args.seed)
        accumulation = args.gradient_accumulation_steps
        arguments["images"] = kept.whole  # a run that resumes has the same ones
        drawn = {"seed": args.seed, "cutout": args.cutout, "gradient_accumulation_steps": accumulation}
        batches = Batches(kept, backbone, **drawn, **options)
    warmup = {"warmup_epochs": args.warmup_epochs, "warmup_lr": args.lr / (args.warmup_epochs + 1)}
    counts = torch.bincount(batches.labels, minlength=data.num_classes)
    added = logit_adjustment(counts, float(args.loss != "ce")).float().to(accelerator.device)
    scheduler, _ = create_scheduler_v2(optimizer, "cosine", num_epochs=args.epochs, **warmup)
    mix = Mixup(args.mixup, args.cutmix, label_smoothing=0.0, num_classes=data.num_classes)
    average = ModelEmaV3(model, decay=args.ema_decay, use_warmup=True) if args.ema_decay else None
    trained, optimizer = accelerator.prepare(model, optimizer)
    scored = accelerator.prepare_model(average.module, evaluation_mode=True) if average else trained
    checkpoint, history = resume_from(accelerator, checkpoints, arguments=arguments, resume=args.resume)
    log.go_on_from(checkpoint)

    with phase("training", log):
        while not has_ended(history, epochs, args.patience):
            epoch, start, step = len(history), time.perf_counter(), 0
            scheduler.step(epoch)
            train_mode(trained, args.tune)
            losses = EpochLoss(epoch=epoch, lr=optimizer.param_groups[0]["lr"], checkpoints=checkpoints)
            shown = {"total": len(batches) * accumulation, "disable": not sys.stderr.isatty()}
            for batch in tqdm(batches.epoch(epoch), leave=False, **shown):
                pixels = batch.pixels.to(accelerator.device, memory_format=torch.channels_last)
                targets = batch.labels.to(accelerator.device)
                if args.mixup or args.cutmix:
                    even = len(pixels) // 2 * 2
                    pixels, targets = mix(pixels[:even], targets[:even])
                with nullcontext() if batch.ends_step else accelerator.no_sync(trained):
                    with accelerator.autocast():
                        logits = logits_of(trained(pixels)) + added
                        loss = F.cross_entropy(logits, targets, label_smoothing=args.label_smoothing)
                    accelerator.backward(loss * batch.share)
                losses.add(loss, share=batch.share, step=step)
                if not batch.ends_step:
                    continue
                if args.clip_grad:
                    accelerator.clip_grad_norm_(trained.parameters(), args.clip_grad)
                optimizer.step()
                optimizer.zero_grad()
                step += 1
                if average:
                    average.update(model, step=epoch * len(batches) + step)
            mean_loss = accelerator.reduce(losses.total(), "mean").item() / len(batches)
            row = {"epoch": epoch + 1, "loss": mean_loss}
            row["lr"] = max(group["lr"] for group in optimizer.param_groups)
            row["images_per_second"] = len(kept) / (time.perf_counter() - start)
            if len(held):
                report = evaluate(*predict(scored, backbone, held, accelerator, **options), data.class_counts)
                row |= held_out_scores(report)
            history.append(row)
            log.add("epoch", **row)
            accelerator.log(row, step=epoch + 1)
            accelerator.print(", ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
            save_epoch(accelerator, checkpoints, arguments=arguments, history=history, log=log)

    if args.patience and best_epoch(history) < len(history):
        load_epoch(accelerator, checkpoints, best_epoch(history))
    with phase("evaluation", log):
        logits, labels = predict(scored, backbone, data.test, accelerator, **options)
    if not accelerator.is_main_process:
        return None
    trained = accelerator.unwrap_model(scored, keep_fp32_wrapper=False, keep_torch_compile=False)
    model = merge_lora(trained.cpu()).eval().requires_grad_(False)
    record = record_training(data, kept, args.loss, added.tolist())
    backbone = replace(backbone, model=model, trained_on=record)
    fit = stage1_fit(backbone.weight, backbone.bias, record.logit_offset)
    shown = {"weight": fit.weight, "bootstrap": args.bootstrap, "seed": args.seed}
    reports = {fit.method: evaluate(logits, labels, data.class_counts, **shown)}
    with phase("output", log), kept_on_failure(f"the trained weights are in {checkpoints}"):
        save_output(
            args.output_dir,
            overwrite=args.overwrite,
            license=args.license,
            backbone=backbone,
            data=data,
            fit=fit,
            reports=reports,
            logits=logits,
            log=log,
            history=history,
            arguments=arguments | {"processes": accelerator.num_processes},
            environment=environment(recorded_command()),
        )
    shutil.rmtree(checkpoints, ignore_errors=True)
    track_results(accelerator, reports, args.output_dir / "plots")
    print(results_table(reports), f"Wrote {args.output_dir}", sep="\n")
    return push_output(args)


if __name__ == "__main__":
    run(main, TrainingArguments)
