"""Heads: the re-training methods by name, and the linear head they all end in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lort_hub.backbones import Backbone
from lort_hub.eigenbasis import TrainingSet
from lort_hub.errors import CheckpointError, ConfigError, did_you_mean
from lort_hub.hub import download_model
from lort_hub.objectives import LORT_LOGIT_GAP, Objective, delta_for_gap
from lort_hub.selection import Selection, select
from lort_hub.solvers import minimise, sgd
from lort_hub.store import Features

GAMMAS = (0.0, 0.25, 0.5, 0.75, 1.0)
STAGE1 = "stage 1"


@dataclass(frozen=True)
class Method:
    """One re-training method as a point, or a searched part, of the objective's family.

    Attributes:
        summary: What it is, for the card.
        over_smoothed: Delta follows from LORT's logit gap; otherwise it is zero.
        tau: Logit adjustment during training.
        gammas: Class-balance exponents to choose from.
        weight_decay: Fixed weight decay; None to choose it.
        solver: "exact" or "sgd".
    """

    summary: str
    over_smoothed: bool = False
    tau: float = 0.0
    gammas: tuple[float, ...] = (0.0,)
    weight_decay: float | None = None
    solver: str = "exact"


METHODS = {
    "ce": Method("cross-entropy"),
    "lort": Method("label over-smoothing with chosen class balance", over_smoothed=True, gammas=GAMMAS),
    "lort-published": Method(
        "LORT as published (arXiv 2403.00250)", over_smoothed=True, weight_decay=0.0, solver="sgd"
    ),
    "balanced-softmax": Method("logit-adjusted cross-entropy (arXiv 2007.10740)", tau=1.0),
}


@dataclass(frozen=True)
class Fit:
    """A re-trained head and how it came about.

    Attributes:
        weight: W (K, D), float32.
        bias: b (K,), float32.
        method: Its name in `METHODS`.
        solver: "exact" or "sgd".
        objective: What was minimised.
        iterations: Iterations or epochs of the solver.
        relative_gradient: Gradient norm over its norm at the zero head; None for SGD.
        selection: How gamma and weight decay were chosen; None where both were given.
    """

    weight: Tensor
    bias: Tensor
    method: str
    solver: str
    objective: Objective
    iterations: int
    relative_gradient: float | None
    selection: Selection | None

    def describe(self) -> str:
        """What was minimised and how it was chosen and solved, in a line."""
        objective = self.objective
        text = (
            f"delta {objective.delta:.4g}, gamma {objective.gamma:.3g}, tau {objective.tau:.3g}, "
            f"weight decay {objective.weight_decay:.3g}, "
        )
        if self.relative_gradient is None:
            text += f"{self.iterations} epochs of SGD from the baseline head"
        else:
            text += f"relative gradient {self.relative_gradient:.0e} in {self.iterations} iterations"
        if self.selection:
            text += f"; chosen among {len(self.selection.candidates)} settings by {self.selection.how}"
        return text

    def logits(self, x: Tensor) -> Tensor:
        """Logits (N, K) of features (N, D)."""
        return torch.addmm(self.bias, x, self.weight.T)


def fit_head(
    training: TrainingSet | Features,
    method: str = "lort",
    *,
    delta: float | None = None,
    gamma: float | None = None,
    weight_decay: float | None = None,
    solver: str | None = None,
    init: tuple[Tensor, Tensor] | None = None,
    views: Sequence[Tensor] = (),
    select_by: str = "balanced-accuracy",
    seed: int = 0,
) -> Fit:
    """Re-train a linear head on frozen features.

    Args:
        training: Features (N, D) and labels; a `TrainingSet` keeps its eigenbases for further fits.
        method: One of `METHODS`.
        delta: Label smoothing; None for the method's own.
        gamma: Class-balance exponent; None to choose it where the method leaves it open.
        weight_decay: Weight decay; None to choose it where the method leaves it open.
        solver: "exact" or "sgd"; None for the method's own.
        init: Head (K, D), (K,) that SGD starts from; None for zero.
        views: Augmented features (N, D): the exact solver fits on them and the training features, SGD on one
            of them each epoch, as the paper does. The choice of gamma and weight decay ignores them.
        select_by: Score of the choice, one of `lort_hub.selection.SCORES`.
        seed: Seed of folds and of SGD's order.

    Returns:
        The head.

    Raises:
        ConfigError: Unknown method, solver or score, or a value outside its range.

    Example:
        >>> x = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0]])
        >>> fit = fit_head(TrainingSet(x, torch.tensor([0, 0, 1, 1]), num_classes=2), "lort", gamma=1.0)
        >>> fit.logits(x).argmax(dim=1), fit.relative_gradient < 1e-5
        (tensor([0, 0, 1, 1]), True)
    """
    if method not in METHODS:
        raise ConfigError(
            f"Unknown method '{method}'.{did_you_mean(method, METHODS)} Expected: {', '.join(METHODS)}."
        )
    if isinstance(training, Features):
        training = TrainingSet(training.x, training.y, int(training.y.max()) + 1)
    chosen, num_classes = METHODS[method], len(training.class_counts)
    solver = solver or chosen.solver
    if solver not in ("exact", "sgd"):
        raise ConfigError(
            f"Unknown solver '{solver}'.{did_you_mean(solver, ('exact', 'sgd'))} Expected: exact, sgd."
        )
    if delta is None:
        delta = delta_for_gap(LORT_LOGIT_GAP, num_classes) if chosen.over_smoothed else 0.0
    gammas = chosen.gammas if gamma is None else (gamma,)
    weight_decay = chosen.weight_decay if weight_decay is None else weight_decay
    objective = Objective(delta=delta, tau=chosen.tau, gamma=gammas[0], weight_decay=weight_decay or 0.0)
    selection = None
    if weight_decay is None or len(gammas) > 1:
        selection = select(
            training, objective, gammas=gammas, weight_decay=weight_decay, by=select_by, seed=seed
        )
        objective = selection.chosen
    return _solve(training, method, objective, solver, init, views, selection, seed)


def own_head(backbone: Backbone, class_names: Sequence[str]) -> tuple[Tensor, Tensor] | None:
    """The backbone's own classifier, if it knows exactly these classes.

    Args:
        backbone: The backbone.
        class_names: Names of the K classes, in the order wanted.

    Returns:
        Head (K, D), (K,) with its rows in that order; None where the classes differ or are unnamed.

    Example:
        >>> from lort_hub.loading import load_backbone
        >>> own_head(load_backbone("test_resnet", pretrained=False), ["cat", "dog"]) is None
        True
    """
    if backbone.class_names is None or set(backbone.class_names) != set(class_names):
        return None
    rows = [backbone.class_names.index(name) for name in class_names]
    return backbone.weight[rows].float().cpu(), backbone.bias[rows].float().cpu()


def stage1_fit(weight: Tensor, bias: Tensor) -> Fit:
    """The head a backbone was trained with, as a `Fit` to stand beside the others.

    Args:
        weight: W (K, D).
        bias: b (K,).

    Example:
        >>> stage1_fit(torch.eye(2), torch.zeros(2)).method
        'stage 1'
    """
    return Fit(weight, bias, STAGE1, "none", Objective(), 0, None, None)


def _solve(
    training: TrainingSet,
    method: str,
    objective: Objective,
    solver: str,
    init: tuple[Tensor, Tensor] | None,
    views: Sequence[Tensor],
    selection: Selection | None,
    seed: int,
) -> Fit:
    if solver == "sgd":
        dim, num_classes = training.x.shape[1], len(training.class_counts)
        start = init or (torch.zeros(num_classes, dim), torch.zeros(num_classes))
        head = sgd(
            views or [training.x], training.labels, training.class_counts, objective, init=start, seed=seed
        )
        weight, bias = head.weight, head.bias
    else:
        if views:
            training = TrainingSet(
                torch.cat([training.x, *views]),
                training.labels.repeat(len(views) + 1),
                len(training.class_counts),
            )
        basis = training.basis(objective.gamma)
        head = minimise(basis.x, training.labels, basis.omega, basis.values, training.class_counts, objective)
        weight, bias = basis.unrotate(head.weight, head.bias)
    return Fit(
        weight=weight.float(),
        bias=bias.float(),
        method=method,
        solver=solver,
        objective=objective,
        iterations=head.iterations,
        relative_gradient=head.relative_gradient,
        selection=selection,
    )


class LortHead(nn.Linear):
    """A re-trained head on its own: (W, b) with the record of what it belongs to.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> LortHead(torch.eye(2), torch.zeros(2), {"class_names": ["cat", "dog"]}).save_pretrained(folder)
        >>> LortHead.from_pretrained(str(folder))(torch.tensor([[0.0, 1.0]]))
        tensor([[0., 1.]], grad_fn=<AddmmBackward0>)
    """

    def __init__(self, weight: Tensor, bias: Tensor, config: dict[str, Any]) -> None:
        """Wrap W (K, D) and b (K,) with a JSON-ready config."""
        super().__init__(weight.shape[1], weight.shape[0])
        self.load_state_dict({"weight": weight, "bias": bias})
        self.config = config

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and model.safetensors.

        Args:
            folder: Made if it does not exist.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n")
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def from_pretrained(cls, source: str) -> LortHead:
        """Load a head from a folder or the Hub; missing or surplus tensors are errors.

        Args:
            source: A folder, or `org/name[@revision]`.

        Raises:
            CheckpointError: It does not hold exactly a weight (K, D) and a bias (K,).
            HubUnavailableError: The Hub is needed and does not answer.
        """
        folder = Path(source)
        if not folder.is_dir():
            repo_id, _, revision = source.partition("@")
            folder, _ = download_model(repo_id, revision or None, error=CheckpointError)
        try:
            tensors = load_file(folder / "model.safetensors")
            config = json.loads((folder / "config.json").read_text())
        except FileNotFoundError as cause:
            raise CheckpointError(f"'{source}' is not a LORT head: {cause}.") from cause
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if set(shapes) != {"weight", "bias"} or shapes["bias"] != shapes["weight"][:1]:
            raise CheckpointError(f"'{source}' holds {shapes}, expected exactly weight (K, D) and bias (K,).")
        return cls(tensors["weight"], tensors["bias"], config)
