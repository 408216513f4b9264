"""Train or fine-tune a backbone on a long-tailed data set: stage 1, whose head retrain.py then replaces.

accelerate launch recipes/train.py --backbone resnet32_cifar --no-pretrained     (CIFAR-100-LT, from the Hub)
accelerate launch recipes/train.py --backbone test_resnet --no-pretrained --dataset digits --image-size 32
ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 recipes/train.py --dataset digits --backbone test_resnet
"""

import json
import sys
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed, tqdm
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lort_hub.backbones import Backbone
from lort_hub.card import results_table
from lort_hub.checkpoint import check_output_dir, is_finished
from lort_hub.config import RunArguments, environment, flag, make_accelerator, parse_arguments, phase, run
from lort_hub.data import ImageSplit, LongTailedData, load_long_tailed
from lort_hub.errors import ConfigError, LortHubError
from lort_hub.heads import stage1_fit
from lort_hub.holdout import TrainedOn, hold_out
from lort_hub.loading import load_backbone
from lort_hub.metrics import evaluate
from lort_hub.output import write_output
from lort_hub.transforms import Transform


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
        kept, held = hold_out(data.train, args.holdout, seed=args.seed)
    accelerator.print(plan(args, backbone, data, kept, held))
    if args.dry_run:
        return

    backbone = with_new_classifier(backbone, data)
    model: nn.Module = backbone.model.requires_grad_(True).to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(model, "momentum", lr=args.lr, weight_decay=args.weight_decay)
    scheduler, _ = create_scheduler_v2(optimizer, "cosine", num_epochs=args.epochs)
    train_batches = batches(kept, backbone.augment, args, shuffle=True)
    held_batches = batches(held, backbone.transform, args)
    test_batches = batches(data.test, backbone.transform, args)
    trained, optimizer, train_batches, held_batches, test_batches = accelerator.prepare(
        model, optimizer, train_batches, held_batches, test_batches
    )
    with phase("training", timing):
        for epoch in range(args.epochs):
            scheduler.step(epoch)
            losses = torch.zeros(2, device=accelerator.device)
            trained.train()
            for pixels, labels in tqdm(train_batches, leave=False, disable=not sys.stderr.isatty()):
                with accelerator.autocast():
                    loss = F.cross_entropy(logits_of(trained(pixels)), labels)
                if not loss.isfinite():
                    lr = optimizer.param_groups[0]["lr"]
                    raise LortHubError(
                        f"The loss is {loss.item()} in epoch {epoch + 1} at lr {lr:.3g}.\n"
                        "Expected a finite loss: lower --lr, or use --mixed-precision no."
                    )
                optimizer.zero_grad()
                accelerator.backward(loss)
                optimizer.step()
                losses += torch.stack([loss.detach() * len(labels), losses.new_tensor(len(labels))])
            total, count = accelerator.reduce(losses).tolist()
            line = f"epoch {epoch + 1}/{args.epochs}: loss {total / count:.3f}"
            if len(held):
                report = evaluate(*predict(trained, held_batches, accelerator), data.class_counts)
                line += f", held-out balanced accuracy {100 * report['balanced_accuracy']:.1f} %"
            accelerator.print(line)

    with phase("evaluation", timing):
        logits, labels = predict(trained, test_batches, accelerator)
    if not accelerator.is_main_process:
        return
    model = accelerator.unwrap_model(trained, keep_fp32_wrapper=False).cpu().eval().requires_grad_(False)
    trained_on = TrainedOn(data.train.fingerprint(), tuple(held.rows.tolist()))
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
            arguments=arguments,
            environment=environment(),
        )
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


class Labelled(Dataset[tuple[Tensor, int]]):
    """Transformed images of a split with their labels."""

    def __init__(self, split: ImageSplit, transform: Transform) -> None:
        """Keep the split; images are decoded when asked for."""
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.split.image(index)), int(self.split.labels[index])


def batches(split: ImageSplit, transform: Transform, args: Arguments, *, shuffle: bool = False) -> DataLoader:
    """Batches of a split; training drops none and reshuffles each epoch."""
    return DataLoader(
        Labelled(split, transform),
        args.batch_size,
        shuffle=shuffle,
        num_workers=args.num_workers,
        persistent_workers=args.num_workers > 0,
    )


def logits_of(output: object) -> Tensor:
    """Logits (N, K) of either library's model output."""
    return output if isinstance(output, Tensor) else output.logits


@torch.inference_mode()
def predict(model: nn.Module, loader: DataLoader, accelerator: Accelerator) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, K) and labels (N,) of a whole split, gathered from all processes."""
    model.eval()
    found = []
    for pixels, labels in loader:
        with accelerator.autocast():
            output = logits_of(model(pixels)).float()
        found.append([tensor.cpu() for tensor in accelerator.gather_for_metrics((output, labels))])
    logits, labels = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    return logits, labels


if __name__ == "__main__":
    run(main)
