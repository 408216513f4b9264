"""Train or fine-tune a backbone on a long-tailed data set: stage 1, whose head retrain.py then replaces.

accelerate launch recipes/train.py --backbone resnet32_cifar --no-pretrained     (CIFAR-100-LT, from the Hub)
accelerate launch recipes/train.py --backbone test_resnet --no-pretrained --dataset digits --image-size 32
ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 recipes/train.py --dataset digits --backbone test_resnet
"""

import json
import shutil
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate.utils import set_seed, tqdm
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn

from lort_hub.backbones import Backbone, logits_of
from lort_hub.batches import Batches
from lort_hub.card import results_table
from lort_hub.checkpoint import check_output_dir, is_finished
from lort_hub.config import RunArguments, environment, flag, make_accelerator, parse_arguments, phase, run
from lort_hub.data import ImageSplit, LongTailedData, load_long_tailed
from lort_hub.errors import CheckpointError, ConfigError, LortHubError
from lort_hub.heads import stage1_fit
from lort_hub.holdout import TrainedOn, hold_out
from lort_hub.loading import load_backbone
from lort_hub.metrics import evaluate
from lort_hub.output import write_output
from lort_hub.predict import predict
from lort_hub.resume import resume_from, save_epoch, training_folder


@dataclass
class Arguments(RunArguments):
    """Flags of this recipe; the defaults are the paper's stage 1 (PAPER section 4)."""

    epochs: int = flag(200, "Passes over the training images.")
    lr: float = flag(0.01, "Learning rate of SGD with momentum 0.9 at the start of its cosine.")
    weight_decay: float = flag(5e-3, "Weight decay.")
    holdout: float = flag(0.1, "Share of each class kept out of training, for the choices of retrain.py.")
    bootstrap: int = flag(1000, "Resamples of the test images for the intervals; 0 for none.")

    def __post_init__(self) -> None:
        """Refuse values out of range before anything is loaded."""
        super().__post_init__()
        if self.epochs < 1 or self.lr <= 0 or self.weight_decay < 0 or not 0 <= self.holdout < 1:
            raise ConfigError(
                f"Got --epochs {self.epochs} --lr {self.lr} --weight-decay {self.weight_decay} --holdout "
                f"{self.holdout}.\nExpected epochs >= 1, lr > 0, weight decay >= 0, 0 <= holdout < 1."
            )


def main() -> None:
    """Load, train, evaluate, write."""
    args = parse_arguments(Arguments, description=__doc__)
    accelerator = make_accelerator(args)
    arguments = json.loads(json.dumps(asdict(args), default=str))
    checkpoints = training_folder(args.output_dir)
    if args.resume and is_finished(args.output_dir, arguments):
        if accelerator.is_main_process:
            shutil.rmtree(checkpoints, ignore_errors=True)
        accelerator.print(f"{args.output_dir} is finished; nothing to do.")
        return
    check_output_dir(args.output_dir, overwrite=args.overwrite)
    check_checkpoints(checkpoints, args)
    set_seed(args.seed, device_specific=True)

    timing: dict[str, float] = {}
    with phase("backbone", timing):
        backbone = load_backbone(args.backbone, pretrained=args.pretrained, image_size=args.image_size)
    with phase("data", timing), accelerator.main_process_first():
        data = load_long_tailed(args.dataset, **args.data_options())
        kept, held = hold_out(data.train, args.holdout, seed=args.seed)
    accelerator.print(plan(args, backbone, data, kept, held))
    if args.dry_run:
        return

    if args.overwrite and accelerator.is_main_process:
        shutil.rmtree(checkpoints, ignore_errors=True)
    accelerator.wait_for_everyone()  # or another process goes on from what is being deleted
    backbone = with_new_classifier(backbone, data)
    model: nn.Module = backbone.model.requires_grad_(True).to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(model, "momentum", lr=args.lr, weight_decay=args.weight_decay)
    scheduler, _ = create_scheduler_v2(optimizer, "cosine", num_epochs=args.epochs)
    trained, optimizer = accelerator.prepare(model, optimizer)
    part = {"process": accelerator.process_index, "processes": accelerator.num_processes}
    options = {"batch_size": args.batch_size, "num_workers": args.num_workers, **part}
    with phase("decoding", timing):
        batches = Batches(kept, backbone, seed=args.seed, **options)
    checkpoint, history = resume_from(accelerator, checkpoints, arguments=arguments)
    if checkpoint:
        accelerator.print(f"going on from {checkpoint}")

    if args.report_to != "none":
        accelerator.init_trackers("lort_hub", config={name: str(value) for name, value in arguments.items()})
    with phase("training", timing):
        for epoch in range(len(history), args.epochs):
            scheduler.step(epoch)
            trained.train()
            start = time.perf_counter()
            loss_sum = torch.zeros((), device=accelerator.device)
            steps = tqdm(
                batches.epoch(epoch), total=len(batches), leave=False, disable=not sys.stderr.isatty()
            )
            for step, batch in enumerate(steps):
                pixels = batch.pixels.to(accelerator.device, memory_format=torch.channels_last)
                with accelerator.autocast():
                    loss = F.cross_entropy(logits_of(trained(pixels)), batch.labels.to(accelerator.device))
                if not loss.isfinite():
                    raise LortHubError(not_finite(loss, epoch, step, optimizer, checkpoints))
                accelerator.backward(loss * batch.share)
                optimizer.step()
                optimizer.zero_grad()
                loss_sum += loss.detach() * batch.share
            row = {"epoch": epoch + 1, "loss": accelerator.reduce(loss_sum, "mean").item() / len(batches)}
            row["images_per_second"] = len(kept) / (time.perf_counter() - start)
            if len(held):
                said = predict(trained, backbone, held, accelerator, **options)
                report = evaluate(*said, data.class_counts)
                row["held_out_balanced_accuracy"] = report["balanced_accuracy"]
            history.append(row)
            accelerator.log(row, step=epoch + 1)
            accelerator.print(", ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
            save_epoch(accelerator, checkpoints, arguments=arguments, history=history)

    with phase("evaluation", timing):
        logits, labels = predict(trained, backbone, data.test, accelerator, **options)
    accelerator.end_training()
    if not accelerator.is_main_process:
        return
    model = accelerator.unwrap_model(trained, keep_fp32_wrapper=False).cpu().eval().requires_grad_(False)
    trained_on = TrainedOn.of(data, kept)
    backbone = replace(backbone, model=model, trained_on=trained_on)
    fit, counts = stage1_fit(backbone.weight, backbone.bias), data.class_counts
    weight = fit.weight.numpy()
    report = evaluate(logits, labels, counts, weight=weight, bootstrap=args.bootstrap, seed=args.seed)
    with phase("output", timing):
        write_output(
            args.output_dir,
            overwrite=args.overwrite,
            backbone=backbone,
            data=data,
            fit=fit,
            reports={fit.method: report},
            timing=timing,
            history=history,
            arguments=arguments,
            environment=environment(),
        )
    shutil.rmtree(checkpoints)
    print(results_table({fit.method: report}))
    print(f"Wrote {args.output_dir}")


def plan(
    args: Arguments, backbone: Backbone, data: LongTailedData, kept: ImageSplit, held: ImageSplit
) -> str:
    """What is about to happen, before minutes of compute."""
    counts = data.class_counts
    return (
        f"{backbone.source} ({backbone.library}, {backbone.image_size} px"
        f"{'' if args.pretrained else ', from scratch'}) on {data.name}: {len(kept)} training images of "
        f"{len(counts)} classes ({data.source['imbalance']}), {len(held)} held out, {len(data.test)} test "
        f"images; {args.epochs} epochs into {args.output_dir}"
    )


def with_new_classifier(backbone: Backbone, data: LongTailedData) -> Backbone:
    """The backbone with a fresh classifier of the data's classes, as `nn.Linear` starts it."""
    fresh = nn.Linear(backbone.num_features, data.num_classes)
    return backbone.with_classifier(fresh.weight, fresh.bias, data.class_names)


def not_finite(loss: Tensor, epoch: int, step: int, optimizer: torch.optim.Optimizer, folder: Path) -> str:
    """What to say when the loss has run away."""
    last = max(folder.glob("epoch_*"), default="none yet")
    lr = optimizer.param_groups[0]["lr"]
    return (
        f"The loss is {loss.item()} in epoch {epoch + 1}, step {step + 1}, at lr {lr:.3g}; "
        f"last good checkpoint: {last}.\n"
        "Expected a finite loss: lower --lr, or use --mixed-precision no."
    )


def check_checkpoints(folder: Path, args: Arguments) -> None:
    """Refuse to start anew beside the checkpoints of an interrupted run."""
    if any(folder.glob("epoch_*")) and not (args.resume or args.overwrite):
        raise CheckpointError(
            f"{folder} holds an interrupted run.\n"
            "Add --resume to go on from there, or --overwrite to start anew."
        )


if __name__ == "__main__":
    run(main)
