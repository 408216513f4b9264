"""Define the flags of retrain.py, and its --refit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from lort_hub.commands.arguments import FeatureArguments, ModelArguments, flag
from lort_hub.errors import CheckpointError, ConfigError
from lort_hub.evaluation.metrics import class_groups
from lort_hub.heads.methods import CHOICES, METHODS, SELECT_BY, STAGE1, check_settings
from lort_hub.heads.solvers.objective import Objective
from lort_hub.records import RunRecord

SETTINGS = ("delta", "gamma", "weight_decay", "solver")
SETTLED = (*SETTINGS, "method", "views", "select_by", "calibrate")
"""Arguments that a finished run has settled, as far as `--refit` goes."""
EXPORTABLE = (*(name for name, method in METHODS.items() if method.linear), *CHOICES)


@dataclass
class RetrainingArguments(FeatureArguments, ModelArguments):
    """Flags of retrain.py.

    Example:
        >>> RetrainingArguments().method, RetrainingArguments(gamma=1.0).method
        ('auto', 'lort')
    """

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        **ModelArguments.RANGES,
        "views": (0, inf),
        "bootstrap": (0, inf),
    }

    method: Literal[EXPORTABLE] | None = flag(  # type: ignore[valid-type]
        None,
        "Method that re-trains the head; auto adds up heads, best takes one (default: auto; lort where its "
        "settings are given, or --no-calibrate).",
    )
    delta: float | None = flag(None, "Label smoothing (default: LORT's logit gap, 0.98 at 100 classes).")
    gamma: float | None = flag(None, "Class-balance exponent (default: chosen on the training images).")
    weight_decay: float | None = flag(None, "Weight decay (default: chosen on the training images).")
    solver: Literal["exact", "closed-form", "sgd"] | None = flag(
        None, "exact, closed-form (its limit, one pass over the features) or SGD (default: the method's)."
    )
    views: int = flag(0, "Augmented views of each training image to fit on.")
    select_by: Literal[SELECT_BY] | None = flag(  # type: ignore[valid-type]
        None, "Score that chooses the settings (default: the method's)."
    )
    calibrate: bool = flag(True, "Scale the logits so that probabilities hold on a balanced test set.")
    test_prior: str | None = flag(
        None, "Class mix to make the head for: balanced, train, or a CSV (default: the method's own)."
    )
    refit: Path | None = flag(
        None, "Output folder of a finished run, to fit its head again with nothing chosen anew."
    )
    bootstrap: int = flag(1000, "Resamples of the test images for confidence intervals; 0 for none.")
    groups: list[int] = flag(
        [20, 100], "Training images of a class below which it is few-shot, and above which many-shot."
    )

    def __post_init__(self) -> None:
        """Refuse values out of range before anything is loaded."""
        super().__post_init__()
        if self.method is None:
            self.method = "lort" if self.sets_the_objective() or not self.calibrate else "auto"
        Objective(delta=self.delta or 0.0, gamma=self.gamma or 0.0, weight_decay=self.weight_decay or 0.0)
        class_groups(np.zeros(0), tuple(self.groups))  # type: ignore[arg-type]
        if not self.refit:
            given = {name: getattr(self, name) for name in SETTINGS}
            check_settings(self.method, {**given, "views": self.views or None})
        if self.method == "auto" and not self.calibrate:
            raise ConfigError("--method auto adds up calibrated heads.\nLeave out --no-calibrate.")
        if not self.calibrate and self.test_prior is not None:
            raise ConfigError(
                "--test-prior needs calibrated log-odds to move.\nLeave out --no-calibrate, or --test-prior."
            )

    def sets_the_objective(self) -> bool:
        """Check whether a flag changes the objective of the method, or its solver."""
        return any(getattr(self, name) is not None for name in SETTINGS) or self.views > 0


def refit_arguments(now: RetrainingArguments, folder: Path) -> tuple[RetrainingArguments, RunRecord]:
    """Read the record of a finished run of retrain.py, to fit its head again on other features.

    Args:
        now: Arguments of the run about to start. Beside `refit` it may set where features come from, what
            the head is made for, and how it is tested.
        folder: Output folder of the finished run.

    Returns:
        The arguments, and the record.

    Raises:
        ConfigError: The folder is no finished run of retrain.py that chose by calibrated heads, its head was
            moved to a class mix, or `now` sets what the run has settled.

    Example:
        >>> refit_arguments(RetrainingArguments(), Path("out/head"))  # doctest: +SKIP
    """
    try:
        earlier = RunRecord.read(folder / "run.json")
    except (OSError, ValueError, CheckpointError) as cause:
        raise ConfigError(
            f"--refit {folder} is not the output folder of a finished retrain.py: {cause}\n"
            "Run retrain on a backbone that held images out, then give its --output-dir here."
        ) from cause
    head = earlier.head
    if head.method == STAGE1:
        raise ConfigError(f"--refit {folder} is of train.py.\nGive the output folder of a run of retrain.py.")
    if given := sorted(f"--{name.replace('_', '-')}" for name in SETTLED if name in now.given):
        raise ConfigError(
            f"{', '.join(given)} beside --refit, which takes all settings of the head in {folder}.\n"
            "Leave them out."
        )
    if not earlier.arguments:
        raise ConfigError(
            f"--refit {folder} was made in Python: there is no record of its solver and its views.\n"
            "Give the output folder of a run of retrain.py, or call `lort_hub.heads.refit.refit`."
        )
    if head.mix is None or not head.candidates:
        raise ConfigError(
            f"--refit {folder} does not record all of its settings: its head is not calibrated, or it is of "
            "an older version.\nRun retrain again, without --no-calibrate."
        )
    if head.mix.is_moved:
        raise ConfigError(
            f"--refit {folder} was moved to the class mix '{head.mix.name}'.\n"
            "Run it without --test-prior, and give --test-prior beside --refit."
        )
    before = {name: earlier.arguments[name] for name in ("method", "solver", "views")}
    return replace(now, **before), earlier
