"""Define the flags of train.py, with the defaults of each kind of training, and its --refit."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any, ClassVar, Literal

from lort_hub.commands.arguments import ModelArguments, flag
from lort_hub.errors import ConfigError, did_you_mean
from lort_hub.records import WITHOUT_EFFECT
from lort_hub.training.checkpoints import best_epoch
from lort_hub.training.trainable import Tune

SCRATCH = {"epochs": 200, "opt": "momentum", "lr": 0.01, "weight_decay": 5e-3, "warmup_epochs": 0}
FULL = {"epochs": 20, "opt": "adamw", "lr": 1e-4, "weight_decay": 0.05, "warmup_epochs": 1}
PART = {"epochs": 20, "opt": "adamw", "lr": 1e-3, "weight_decay": 0.05, "warmup_epochs": 1}


@dataclass
class TrainingArguments(ModelArguments):
    """Flags of train.py; their defaults are those of the paper's stage 1 from scratch, else of fine-tuning.

    The paper is arXiv 2403.00250, section 4.

    Example:
        >>> TrainingArguments(pretrained=False).lr, TrainingArguments(tune="lora").lr
        (0.01, 0.001)
    """

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        **ModelArguments.RANGES,
        **dict.fromkeys(("lora_rank", "epochs", "gradient_accumulation_steps"), (1, inf)),
        **dict.fromkeys(
            ("lr", "weight_decay", "warmup_epochs", "layer_decay", "mixup", "cutmix", "cutout"), (0, inf)
        ),
        **dict.fromkeys(("clip_grad", "patience", "bootstrap"), (0, inf)),
        **dict.fromkeys(("label_smoothing", "ema_decay"), (0, 1)),
        "holdout": (0, 0.9),
    }

    tune: Tune = flag(
        "full", "Weights to train: all, the head alone, or low-rank updates (lora) or biases and the head."
    )
    lora_rank: int = flag(8, "Rank of the updates of --tune lora.")
    epochs: int | None = flag(None, "Passes over the training images (default: 200; fine-tuning 20).")
    opt: str | None = flag(None, "Optimiser, by its name in timm (default: momentum; fine-tuning adamw).")
    lr: float | None = flag(
        None, "Learning rate (default: 0.01; fine-tuning 1e-4, or 1e-3 unless --tune full)."
    )
    weight_decay: float | None = flag(None, "Weight decay (default: 5e-3; fine-tuning 0.05).")
    warmup_epochs: int | None = flag(
        None, "Epochs in which the learning rate rises (default: 0; fine-tuning 1)."
    )
    layer_decay: float | None = flag(
        None, "Factor of the learning rate from a layer to the one below (default: none)."
    )
    loss: Literal["ce", "balanced-softmax", "logit-adjust"] = flag(
        "ce", "Cross-entropy of the logits, or of the logits plus the log of the class frequencies."
    )
    label_smoothing: float = flag(0.0, "Label smoothing.")
    mixup: float = flag(0.0, "Alpha of mixup; 0 for none.")
    cutmix: float = flag(0.0, "Alpha of CutMix; 0 for none.")
    auto_augment: str | None = flag(
        None,
        "Random operations: a RandAugment of timm as rand-m9-mstd0.5-inc1, or autoaugment-cifar10, "
        "autoaugment-imagenet, autoaugment-svhn, trivialaugment-wide.",
    )
    cutout: int = flag(0, "Side in pixels of the square that is hidden in each training image; 0 for none.")
    ema_decay: float = flag(0.0, "Decay of the moving average of the weights; 0 for none.")
    gradient_accumulation_steps: int = flag(1, "Batches per optimiser step.")
    clip_grad: float | None = flag(None, "Largest norm of the gradient (default: no limit).")
    compile: bool = flag(False, "Compile the model with torch.compile.")
    holdout: float = flag(0.1, "Share of each class held out, on which retrain chooses its settings.")
    patience: int = flag(0, "Epochs without improvement on the held-out images before it stops; 0: never.")
    refit: Path | None = flag(None, "Output folder of a finished run, to train again with nothing held out.")
    bootstrap: int = flag(1000, "Resamples of the test images for confidence intervals; 0 for none.")

    def __post_init__(self) -> None:
        """Fill the defaults and refuse what does not fit together, before anything is loaded."""
        start = SCRATCH if not self.pretrained else FULL if self.tune == "full" else PART
        for name, value in start.items():
            setattr(self, name, value if getattr(self, name) is None else getattr(self, name))
        super().__post_init__()
        if self.layer_decay and self.tune != "full":
            raise ConfigError("--layer-decay needs --tune full.")
        if (self.mixup or self.cutmix) and self.batch_size < 2:
            raise ConfigError("--mixup and --cutmix need two images in a batch; give a --batch-size above 1.")
        if self.patience and not self.holdout:
            raise ConfigError("--patience compares epochs on held-out images; give a --holdout above 0.")
        if self.opt != start["opt"]:
            _check_optimiser(self.opt or "")


def _check_optimiser(name: str) -> None:
    from timm.optim import list_optimizers

    known = list_optimizers()
    if name not in known:
        hint = did_you_mean(name, known)
        raise ConfigError(f"timm has no optimiser '{name}'.{hint}\nUsual: momentum, adamw, lamb, sgd.")


def refit_arguments(now: TrainingArguments, folder: Path) -> tuple[TrainingArguments, int]:
    """Read the arguments of a finished run of train.py, to train again with nothing held out.

    Args:
        now: Arguments of the run about to start. Beside `refit` it may set arguments that do not change the
            weights, such as the output folder.
        folder: Output folder of the finished run.

    Returns:
        The arguments, and the number of epochs: all, or up to the best one if the finished run kept that.

    Raises:
        ConfigError: The folder is no finished run of train.py, its run held nothing out, or `now` sets an
            argument that changes the weights.

    Example:
        >>> refit_arguments(TrainingArguments(), Path("out/stage1"))  # doctest: +SKIP
    """
    try:
        before = json.loads((folder / "run.json").read_text())["arguments"]
        history: list[dict[str, Any]] = json.loads((folder / "metrics.json").read_text())["history"]
    except (OSError, ValueError, KeyError) as cause:
        raise ConfigError(
            f"--refit {folder} is not the output folder of a finished train.py ({type(cause).__name__}: "
            f"{cause}).\nTrain with --holdout first, then give its --output-dir here."
        ) from cause
    if not before["holdout"]:
        raise ConfigError(f"--refit {folder} held nothing out: its model is trained on all images already.")
    free = (*WITHOUT_EFFECT, "refit", "bootstrap", "license")
    settled = {name.name for name in fields(now) if name.name not in free}
    if lacks := sorted(settled - set(before)):
        raise ConfigError(
            f"--refit {folder} is of another version: it does not record {', '.join(lacks)}.\n"
            "Train again with --holdout first."
        )
    if given := sorted(f"--{name.replace('_', '-')}" for name in settled & now.given):
        raise ConfigError(
            f"{', '.join(given)} beside --refit, which takes the settings of {folder}.\n"
            "Leave them out, or first train with them and with --holdout."
        )
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if (trained := before.get("processes", processes)) != processes:
        raise ConfigError(
            f"--refit {folder} was trained by {trained} processes, each with batches of its own, got "
            f"{processes}.\nStart as many: --num-processes {trained}."
        )
    values = {name: before[name] for name in settled}
    epochs = best_epoch(history) if values["patience"] else len(history)
    return replace(now, **{**values, "holdout": 0.0, "patience": 0}), epochs
