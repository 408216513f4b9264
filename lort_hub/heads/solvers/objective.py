r"""Define the objective that all convex head re-training methods share.

Over a linear head (W, b) on features x_i, with labels y_i in 0..K-1 and training counts n_k:

    f(W, b) = sum_i omega_i CE(softmax(W x_i + b + tau log pi), t_i) + (weight_decay / 2) ||W||^2

    t_i      = (1 - delta) onehot(y_i) + delta / K      label over-smoothing (LORT: delta near 1);
                                                        label-aware: delta falls with the class's count
    omega_i  = n_{y_i}^(-gamma) / sum_j n_{y_j}^(-gamma)   class balance (gamma = 1: equal class weights)
    pi_k     = n_k / sum_j n_j                          logit adjustment (tau = 1: balanced softmax)

Cross-entropy is (delta, gamma, tau) = (0, 0, 0). The exported head is (W, b); tau acts in training only.
docs/method.md derives the special cases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import TYPE_CHECKING

from lort_hub.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

Settings = Mapping[str, float]
"""Values of a method's settings by name."""

LORT_LOGIT_GAP = math.log(1 + 100 * (1 - 0.98) / 0.98)
"""Logit gap (1.11) of the paper's delta 0.98 at K = 100. LORT uses it at every number of classes."""


@dataclass(frozen=True)
class Objective:
    """One member of the family of objectives above.

    Attributes:
        delta: Label smoothing in [0, 1).
        gamma: Class-balance exponent of the sample weights.
        tau: Strength of the logit adjustment during training.
        weight_decay: Ridge penalty on W, in the units of the mean loss; the bias has none.
        label_aware: If true, delta is that of the largest class, and falls to 0 at the smallest class
            (arXiv 2104.00466).

    Raises:
        ConfigError: A value outside its range.

    Example:
        >>> Objective(delta=0.98)
        Objective(delta=0.98, gamma=0.0, tau=0.0, weight_decay=0.0, label_aware=False)
    """

    delta: float = 0.0
    gamma: float = 0.0
    tau: float = 0.0
    weight_decay: float = 0.0
    label_aware: bool = False

    def __post_init__(self) -> None:
        """Refuse values that define no objective."""
        for name in ("delta", "gamma", "tau", "weight_decay"):
            if not isinstance(getattr(self, name), Real):
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected a number.")
        if not 0 <= self.delta < 1:
            raise ConfigError(f"delta is {self.delta}, expected 0 (cross-entropy) <= delta < 1 (LORT: 0.98).")
        for name in ("gamma", "tau", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected a number >= 0.")


def smoothing(objective: Objective, class_counts: Tensor) -> Tensor:
    """Compute the label smoothing delta (K,) of each class, float64.

    Label-aware smoothing falls as the sine of the class's count (MiSLAS, arXiv 2104.00466).

    Args:
        objective: The objective.
        class_counts: Training images n_k of each class (K,).

    Example:
        >>> import torch
        >>> smoothing(Objective(delta=0.4, label_aware=True), torch.tensor([30, 20, 10])).round(decimals=3)
        tensor([0.4000, 0.2830, 0.0000], dtype=torch.float64)
    """
    counts = class_counts.double()
    if not objective.label_aware:
        return counts.new_full(counts.shape, objective.delta)
    share = (counts - counts.min()) / (counts.max() - counts.min()).clamp_min(1)
    return objective.delta * (share * math.pi / 2).sin()


def logit_gap(delta: float, num_classes: int) -> float:
    """Compute the gap of the true logit over the others at which the softmax is the smoothed target.

    log(1 + K (1 - delta) / delta), the optimum of label smoothing (docs/method.md).

    Args:
        delta: Label smoothing in (0, 1).
        num_classes: K.

    Example:
        >>> round(logit_gap(0.98, 100), 2), round(logit_gap(0.98, 8142), 2)
        (1.11, 5.12)
    """
    return math.log1p(num_classes * (1 - delta) / delta)


def delta_for_gap(gap: float, num_classes: int) -> float:
    """Compute the label smoothing with an optimal logit gap of `gap`: the inverse of `logit_gap`.

    Args:
        gap: Logit gap, > 0.
        num_classes: K.

    Example:
        >>> round(delta_for_gap(LORT_LOGIT_GAP, 100), 10), round(delta_for_gap(LORT_LOGIT_GAP, 10), 3)
        (0.98, 0.831)
    """
    return num_classes / (num_classes + math.expm1(gap))


def sample_weights(labels: Tensor, class_counts: Tensor, gamma: float) -> Tensor:
    """Compute sample weights omega (N,), float64, that sum to 1 over all samples of `class_counts`.

    Args:
        labels: Labels (N,) of all these samples, or of some, where the weights are to be.
        class_counts: Samples n_k of each class (K,).
        gamma: Class-balance exponent.

    Example:
        >>> import torch
        >>> sample_weights(torch.tensor([0, 0, 0, 1]), torch.tensor([3, 1]), gamma=1.0)
        tensor([0.1667, 0.1667, 0.1667, 0.5000], dtype=torch.float64)
    """
    counts = class_counts.double()
    weights = counts.clamp_min(1).pow(-gamma)
    return (weights / (weights @ counts)).to(labels.device)[labels]


def logit_adjustment(class_counts: Tensor, tau: float) -> Tensor:
    """Compute the logit adjustment tau * log pi (K,), float64.

    Args:
        class_counts: Training images n_k of each class (K,), all positive.
        tau: Strength.

    Example:
        >>> import torch
        >>> logit_adjustment(torch.tensor([3, 1]), tau=1.0).exp()
        tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    counts = class_counts.double().clamp_min(1)
    return tau * (counts / counts.sum()).log()


def objective_value(
    objective: Objective, weight: Tensor, bias: Tensor, x: Tensor, labels: Tensor, class_counts: Tensor
) -> Tensor:
    """Compute the objective f(W, b) as written above, differentiably; solvers are tested against it.

    Args:
        objective: The objective.
        weight: W (K, D).
        bias: b (K,).
        x: Features (N, D).
        labels: Labels (N,).
        class_counts: Training images n_k of each class (K,).

    Returns:
        A scalar tensor.

    Example:
        >>> import torch
        >>> x, y, counts = torch.eye(2), torch.tensor([0, 1]), torch.tensor([1, 1])
        >>> round(objective_value(Objective(), torch.zeros(2, 2), torch.zeros(2), x, y, counts).item(), 4)
        0.6931
    """
    logits = x @ weight.T + bias + logit_adjustment(class_counts, objective.tau).to(x.dtype)
    delta = smoothing(objective, class_counts).to(x.dtype)[labels]
    log_p = logits.log_softmax(dim=1)
    losses = (delta - 1) * log_p.gather(1, labels[:, None]).squeeze(1) - delta * log_p.mean(dim=1)
    omega = sample_weights(labels, class_counts, objective.gamma).to(x.dtype)
    return omega @ losses / omega.sum() + 0.5 * objective.weight_decay * weight.square().sum()


DEFAULTS: dict[str, float] = {field.name: field.default for field in fields(Objective)}  # type: ignore[misc]
"""Settings of plain cross-entropy."""


def objective_of(settings: Settings) -> Objective:
    """Make the objective of a method's settings; settings that are not its fields are ignored.

    Example:
        >>> objective_of({"delta": 0.5, "share": 0.3}).delta
        0.5
    """
    return Objective(**{name: settings[name] for name in DEFAULTS if name in settings})  # type: ignore[arg-type]
