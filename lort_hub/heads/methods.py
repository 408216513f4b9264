"""Every way of re-training a head that lort_hub knows, by name.

Most are points of the one objective (objectives.py); the others start from a head already trained, or change
what a logit is. Each says what it minimises, where it is from, and whether it has to know the class counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lort_hub.heads.solvers.objective import Settings

STAGE1 = "stage 1"


RELATIVE_DECAYS = tuple(10.0 ** (-half / 2) for half in range(-2, 15))
"""Weight decays to try, the safest first, in units of the features' mean variance over K: scale drops out."""
STRENGTHS = tuple(tenth / 10 for tenth in range(21))
GAMMAS = (0.0, 0.25, 0.5, 0.75, 1.0)
SPHERICITIES = (0.97, 0.9, 0.75, 0.5, 0.25)
"""Shares of its mean that each variance of the discriminant is drawn to, the safest first."""


@dataclass(frozen=True)
class Method:
    """One re-training method.

    Attributes:
        summary: What it is, for tables and cards.
        equation: What it minimises or computes.
        source: Where it is from.
        fitted_by: Its fitter's key in `lort_hub.heads.fitters.FITTERS`.
        fixed: Settings that define it.
        grid: Settings to choose, each with its values from the simplest head on; the last is walked along.
        over_smoothed: Its delta is LORT's logit gap at the number of classes.
        needs_counts: Whether it has to know how many training images a class has.
        needs_base: Whether it starts from a trained head.
        folds: Whether it ends in a linear head, which can be exported.
    """

    summary: str
    equation: str
    source: str
    fitted_by: str
    fixed: Settings = field(default_factory=dict)
    grid: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    over_smoothed: bool = False
    needs_counts: bool = True
    needs_base: bool = False
    folds: bool = True


CE = "CE(softmax(Wx + b), y)"
LORT = "arXiv 2403.00250"
DECOUPLING = "arXiv 1910.09217"
DECAY = {"weight_decay": RELATIVE_DECAYS}
BOUNDED = {"weight_decay": (1e-3,), "share": (0.2, 0.4, 0.6, 0.8, 1.0)}

METHODS = {
    "ce": Method("cross-entropy", CE, "textbook", "exact", grid=DECAY, needs_counts=False),
    "ncm": Method(
        "nearest class mean", "W_k = mu_k, b_k = -|mu_k|^2 / 2", DECOUPLING, "class-means",
        needs_counts=False,
    ),
    "eb-lda": Method(
        "empirical-Bayes discriminant", "W_k = S^-1 m_k, b_k = -W_k (g + m_k / 2), m_k shrunk "
        "class mean about g", "docs/method.md", "discriminant", grid={"sphericity": SPHERICITIES},
    ),
    "tau-norm": Method(
        "normalised class weights", "W_k / |W_k|^power, b = 0", DECOUPLING, "tau-norm",
        grid={"power": STRENGTHS}, needs_counts=False, needs_base=True,
    ),
    "logit-adjust": Method(
        "logit adjustment after training", "b_k - tau log pi_k", "arXiv 2007.07314", "logit-adjust",
        grid={"tau": STRENGTHS}, needs_base=True,
    ),
    "lort-path": Method(
        "the first step of LORT, in closed form", "W_k - strength K pi_k mu_k / (|mu|^2 + 1), b alike",
        "docs/method.md", "lort-path", grid={"strength": STRENGTHS}, needs_counts=False,
        needs_base=True,
    ),
    "linear-adjust": Method(
        "a logit adjustment linear in the counts", "b_k - strength K pi_k", "docs/method.md",
        "linear-adjust", grid={"strength": STRENGTHS}, needs_base=True,
    ),
    "crt": Method(
        "class-balanced cross-entropy", f"{CE} with weights 1 / n_y", DECOUPLING, "exact",
        fixed={"gamma": 1.0}, grid=DECAY,
    ),
    "lws": Method(
        "learned scale of each class's weight", "min over s of crt's loss with W_k = s_k W_k", DECOUPLING,
        "lws", needs_base=True,
    ),
    "balanced-softmax": Method(
        "logit-adjusted cross-entropy", "CE(softmax(Wx + b + log pi), y)", "arXiv 2007.10740", "exact",
        fixed={"tau": 1.0}, grid=DECAY,
    ),
    "las": Method(
        "label-aware smoothing", "crt's loss, labels smoothed by delta sin of the class's count",
        "arXiv 2104.00466", "exact", fixed={"gamma": 1.0, "label_aware": True},
        grid={"delta": (0.1, 0.2, 0.4), **DECAY},
    ),
    "maxnorm": Method(
        "class weights no longer than a radius", "crt's loss with |W_k| <= share max |W|", "arXiv 2203.14197",
        "maxnorm", fixed={"gamma": 1.0}, grid=BOUNDED,
    ),
    "disalign": Method(
        "distribution alignment", "CE(softmax(s(x) (alpha z + beta) + (1 - s(x)) z), y), weights pi_y^-rho",
        "arXiv 2103.16370", "disalign", grid={"rho": (0.5, 1.0, 1.5)}, needs_base=True,
        folds=False,
    ),
    "cosine": Method(
        "cosine classifier", "CE(softmax(scale cos(W, x)), y) with weights n_y^-gamma", "arXiv 1804.09458",
        "cosine", grid={"gamma": (0.0, 1.0), "scale": (8.0, 16.0, 32.0)}, folds=False,
    ),
    "ldam": Method(
        "label-distribution-aware margin", "cosine with the true cos less margin (n_min / n_y)^(1/4)",
        "arXiv 1906.07413", "cosine", fixed={"margin": 0.5},
        grid={"gamma": (0.0, 1.0), "scale": (8.0, 16.0, 32.0)}, folds=False,
    ),
    "lort-published": Method(
        "LORT as published", "SGD on LORT from the trained head, lr 5e-4, 20 epochs", LORT, "sgd",
        over_smoothed=True, needs_counts=False, needs_base=True,
    ),
    "lort-sgd": Method(
        "LORT as published, its learning rate chosen", "SGD on LORT from the trained head, 20 epochs", LORT,
        "sgd", grid={"lr": (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4)}, over_smoothed=True,
        needs_counts=False, needs_base=True,
    ),
    "lort": Method(
        "label over-smoothing with chosen class balance", "CE(softmax(Wx + b), (1 - delta) y + delta / K) "
        "with weights n_y^-gamma", LORT, "exact", grid={"gamma": GAMMAS, **DECAY}, over_smoothed=True,
    ),
    "crt+lort": Method(
        "LORT with balanced classes", "crt's loss with LORT's labels", LORT, "exact",
        fixed={"gamma": 1.0}, grid=DECAY, over_smoothed=True,
    ),
    "lws+lort": Method(
        "LORT on learned scales", "lws's loss with LORT's labels", LORT, "lws", over_smoothed=True,
        needs_base=True,
    ),
    "balanced-softmax+lort": Method(
        "LORT under logit adjustment", "balanced softmax's loss with LORT's labels", LORT, "exact",
        fixed={"tau": 1.0}, grid=DECAY, over_smoothed=True,
    ),
    "maxnorm+lort": Method(
        "LORT within MaxNorm", "maxnorm's loss with LORT's labels", LORT, "maxnorm",
        fixed={"gamma": 1.0}, grid=BOUNDED, over_smoothed=True,
    ),
}  # fmt: skip
"""From the simplest on: of equally good methods the earlier one is the choice."""
AUTO = ("ce", "eb-lda", "tau-norm", "logit-adjust", "lort-path", "crt", "lws", "balanced-softmax", "lort")
"""What `--method auto` chooses among: the methods that end in a linear layer, less their costly variants."""
SELECT_BY = ("balanced-accuracy", "macro-f1", "nll")
"""What a choice can go by: the names in `lort_hub.heads.scorers.SCORES`."""


def methods_table() -> str:
    """All methods as a Markdown table.

    Example:
        >>> print(methods_table().splitlines()[2])
        | `ce` | CE(softmax(Wx + b), y) | textbook | no | yes |
    """
    lines = [["method", "what it minimises or computes", "source", "needs class counts", "exports"]]
    lines.append(["---"] * 5)
    for name, method in METHODS.items():
        answers = ("yes" if value else "no" for value in (method.needs_counts, method.folds))
        lines.append([f"`{name}`", method.equation.replace("|", "\\|"), method.source, *answers])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
