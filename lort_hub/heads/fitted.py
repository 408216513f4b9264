"""Hold a re-trained head with its settings and their selection."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lort_hub.backbones.backbone import Backbone
from lort_hub.errors import ConfigError
from lort_hub.heads.base import Head, LinearHead
from lort_hub.heads.choice import Choice
from lort_hub.heads.methods import STAGE1
from lort_hub.heads.scorers import Predictions
from lort_hub.heads.search import Selection
from lort_hub.heads.solvers.objective import Objective, objective_of
from lort_hub.records import ChosenSettings, ClassMix


@dataclass(frozen=True)
class Fit:
    """Re-trained head, with its method, its settings and their selection.

    Attributes:
        head: The head; a `LinearHead` for every method that can be exported.
        method: Name of the method in `METHODS`, or `STAGE1`.
        settings: Value of each setting of the method.
        selection: Selection of the settings; None where there was nothing to choose.
        choice: Choice of the method; None where the caller named it.
        scale: Factor that calibrates the head's logits; 1 leaves the head as solved.
        shift: Added to the calibrated bias (K,) to move the head to a class mix; None where it was not moved.
        unmoved_scale: The factor before the head was moved; None where it was not moved.
        candidates: Settings and scale of other heads that were chosen on the same samples, by method:
            those that a sum was chosen among, or that a head is compared with; None where there are none.
        mix: Class mix that its probabilities hold for; None where it was not measured.
        held_out: Decisions on held-out training samples, as if all classes were equally likely; None as well.
        offset: What the loss of stage 1 added to its logits (K,); None for nothing, and for other methods.
    """

    head: Head
    method: str
    settings: dict[str, float]
    selection: Selection | None = None
    choice: Choice | None = None
    scale: float = 1.0
    shift: Tensor | None = None
    mix: ClassMix | None = None
    held_out: Predictions | None = None
    offset: Tensor | None = None
    unmoved_scale: float | None = None
    candidates: dict[str, ChosenSettings] | None = None

    @property
    def reason(self) -> str | None:
        """Reason for this method, in one sentence; None where the caller named it."""
        return self.choice.reason if self.choice else None

    @property
    def linear(self) -> LinearHead:
        """The head, if it is linear.

        Raises:
            ConfigError: The head is not linear.
        """
        if not isinstance(self.head, LinearHead):
            raise ConfigError(f"The head of '{self.method}' is not linear, so it fits into no backbone.")
        return self.head

    @property
    def weight(self) -> Tensor:
        """Calibrated weight W (K, D), float32."""
        return self.scale * self.linear.weight

    @property
    def bias(self) -> Tensor:
        """Calibrated bias b (K,), moved to the class mix, float32."""
        bias = self.scale * self.linear.bias
        return bias if self.shift is None else bias + self.shift

    @property
    def as_solved(self) -> tuple[Tensor, Tensor]:
        """Head (K, D), (K,) without calibration."""
        return self.linear.weight, self.linear.bias

    @property
    def base(self) -> tuple[Tensor, Tensor]:
        """Head (K, D), (K,) from which other methods start, which decides for the mix of the training images.

        It is not calibrated. A head trained with balanced softmax is of that mix with what its loss added.
        """
        weight, bias = self.as_solved
        return weight, bias if self.offset is None else bias + self.offset

    @property
    def objective(self) -> Objective:
        """The objective that was minimised; plain cross-entropy for closed forms."""
        return objective_of(self.settings)

    def fingerprint(self) -> str:
        """Return the sha256 of W and b, and of the head that others start from."""
        parts = self.weight, self.bias, *self.base
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()

    def to_cache(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Split the fit of a linear head into tensors and JSON-ready values, without held-out predictions."""
        values = {
            "method": self.method,
            "settings": self.settings,
            "selection": self.selection and self.selection.to_dict(),
            "choice": self.choice and self.choice.to_dict(),
            "iterations": self.linear.iterations,
            "relative_gradient": self.linear.relative_gradient,
            "scale": self.scale,
            "mix": self.mix and self.mix.to_json(),
            "candidates": {name: one.to_json() for name, one in (self.candidates or {}).items()},
        }
        weight, bias = self.as_solved
        tensors = {"weight": weight.contiguous(), "bias": bias.contiguous()}
        if self.held_out is not None:
            tensors |= {"labels": self.held_out.labels, "predicted": self.held_out.predicted}
        return tensors, values

    @classmethod
    def from_cache(cls, tensors: dict[str, Tensor], values: dict[str, Any]) -> Fit:
        """Restore a fit from the tensors and values of `to_cache`."""
        head = LinearHead(
            tensors["weight"], tensors["bias"], values["iterations"], values["relative_gradient"]
        )
        selection = Selection.from_dict(values["selection"]) if values["selection"] else None
        choice = Choice.from_dict(values["choice"]) if values["choice"] else None
        mix = ClassMix.from_json(values["mix"]) if values["mix"] else None
        held_out = Predictions(tensors["labels"], tensors["predicted"]) if "labels" in tensors else None
        candidates = {name: ChosenSettings.from_json(one) for name, one in values["candidates"].items()}
        made = values["method"], values["settings"], selection, choice, values["scale"]
        return cls(head, *made, mix=mix, held_out=held_out, candidates=candidates or None)

    def describe(self) -> str:
        """Describe settings, solver and selection in one line."""
        text = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in self.settings.items())
        text = text or "nothing to set"
        if isinstance(self.head, LinearHead) and self.head.relative_gradient is not None:
            text += (
                f"; relative gradient {self.head.relative_gradient:.0e} in {self.head.iterations} iterations"
            )
        elif isinstance(self.head, LinearHead) and self.head.iterations:
            text += f"; {self.head.iterations} epochs of SGD from the baseline head"
        if self.selection:
            text += f"; chosen among {len(self.selection.candidates)} settings by {self.selection.validation}"
        return text

    def logits(self, x: Tensor) -> Tensor:
        """Compute calibrated logits (N, K) of features (N, D), moved to the class mix."""
        logits = self.scale * self.head.logits(x)
        return logits if self.shift is None else logits + self.shift


def own_head(backbone: Backbone, class_names: Sequence[str]) -> tuple[Tensor, Tensor] | None:
    """Return the backbone's own classifier if its classes are exactly these.

    Args:
        backbone: The backbone.
        class_names: Names of the K classes, in the order of the data set.

    Returns:
        Head (K, D), (K,) with its rows in that order; None where the classes differ or have no names.

    Example:
        >>> import torch
        >>> from lort_hub.backbones.load import load_backbone
        >>> own_head(load_backbone("test_resnet", pretrained=False), ["cat", "dog"]) is None
        True
    """
    if backbone.class_names is None or set(backbone.class_names) != set(class_names):
        return None
    rows = [backbone.class_names.index(name) for name in class_names]
    return backbone.weight[rows].float().cpu(), backbone.bias[rows].float().cpu()


def own_fit(backbone: Backbone, class_names: Sequence[str]) -> Fit | None:
    """Make a `Fit` of the backbone's own classifier if its classes are exactly these.

    Args:
        backbone: The backbone.
        class_names: Names of the K classes, in the order of the data set.

    Returns:
        None where the classes differ or have no names.

    Example:
        >>> from lort_hub.backbones.load import load_backbone
        >>> own_fit(load_backbone("test_resnet", pretrained=False), ["cat", "dog"]) is None
        True
    """
    own = own_head(backbone, class_names)
    if own is None or backbone.class_names is None:
        return None
    offset = backbone.trained_on and backbone.trained_on.logit_offset
    by_name = dict(zip(backbone.class_names, offset, strict=True)) if offset else {}
    return stage1_fit(*own, [by_name[name] for name in class_names] if offset else None)


def stage1_fit(weight: Tensor, bias: Tensor, logit_offset: Sequence[float] | None = None) -> Fit:
    """Make a `Fit` of the head that a backbone was trained with.

    Args:
        weight: W (K, D).
        bias: b (K,).
        logit_offset: log pi (K,) of balanced softmax, which that loss adds to the logits; None for
            cross-entropy.

    Example:
        >>> import torch
        >>> stage1_fit(torch.eye(2), torch.zeros(2)).method
        'stage 1'
        >>> stage1_fit(torch.eye(2), torch.zeros(2), [-0.5, -1.0]).base[1]
        tensor([-0.5000, -1.0000])
    """
    if logit_offset is None:
        return Fit(LinearHead(weight, bias), STAGE1, {})
    return Fit(LinearHead(weight, bias), STAGE1, {"tau": 1.0}, offset=torch.tensor(logit_offset))
