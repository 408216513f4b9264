"""List the head re-training methods by name, with their equations, sources and settings.

Most are special cases of one objective (`lort_hub.heads.solvers.objective`). The others change a trained
head, or use logits that are not linear in the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lort_hub.errors import ConfigError
from lort_hub.heads.solvers.objective import DEFAULTS, Settings

STAGE1 = "stage 1"
"""Name of the head that a backbone was trained with, in place of a method's."""

RELATIVE_DECAYS = tuple(10.0 ** (-half / 2) for half in range(-2, 15))
"""Weight decays to try, from the simplest head on, in units of the features' mean variance over K.

In these units the choice does not depend on the scale of the features.
"""
STRENGTHS = tuple(tenth / 10 for tenth in range(21))
GAMMAS = (0.0, 0.25, 0.5, 0.75, 1.0)
SPHERICITIES = (0.97, 0.9, 0.75, 0.5, 0.25)
"""Shares of its mean that each variance of the discriminant is drawn to, the safest first."""
BALANCING = ("gamma", "tau", "power", "strength", "rho")
"""Settings that take a head from the class mix of the training images to balanced classes; 0 leaves it."""
Mix = Literal["training", "balanced", "inverse"]
"""Class mix that a head decides for: that of the training images, equal classes, or mostly rare ones."""


@dataclass(frozen=True)
class Method:
    """Head re-training method.

    Attributes:
        summary: Short description for tables and cards.
        equation: The objective or formula.
        source: Publication or page that derives the method.
        fitter: Key of its fitter in `lort_hub.heads.fitters.FITTERS`.
        fixed: Settings with a fixed value.
        grid: Values to try of each setting to choose, from the simplest head on.
        path: Setting of the grid that varies along a path of heads, each solved from the one before; every
            combination of the other settings of the grid has a path of its own. None without a grid.
        over_smoothed: Whether its delta has the logit gap of LORT at the number of classes.
        needs_counts: Whether it needs the number of training images of each class.
        needs_base: Whether it starts from a trained head.
        linear: Whether it returns a linear head, which can be exported.
        mix: Class mix that its head decides for; None where a setting of `BALANCING` says it.
    """

    summary: str
    equation: str
    source: str
    fitter: str
    fixed: Settings = field(default_factory=dict)
    grid: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    path: str | None = None
    over_smoothed: bool = False
    needs_counts: bool = True
    needs_base: bool = False
    linear: bool = True
    mix: Mix | None = None


CE = "CE(softmax(Wx + b), y)"
LORT = "arXiv 2403.00250"
DECOUPLING = "arXiv 1910.09217"
DECAYS = {"weight_decay": RELATIVE_DECAYS}
MAXNORM_GRID = {"weight_decay": (1e-3,), "share": (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)}

METHODS = {
    "ce": Method(
        "cross-entropy", CE, "textbook", "exact", grid=DECAYS, path="weight_decay", needs_counts=False
    ),
    "ncm": Method(
        "nearest class mean", "W_k = mu_k, b_k = -|mu_k|^2 / 2", DECOUPLING, "class-means",
        needs_counts=False, mix="balanced",
    ),
    "eb-lda": Method(
        "empirical-Bayes discriminant", "W_k = S^-1 m_k, b_k = -W_k (g + m_k / 2), m_k shrunk "
        "class mean about g", "docs/method.md", "discriminant", grid={"sphericity": SPHERICITIES},
        path="sphericity", mix="balanced",
    ),
    "tau-norm": Method(
        "normalised class weights", "W_k / |W_k|^power, b = 0", DECOUPLING, "tau-norm",
        grid={"power": STRENGTHS}, path="power", needs_counts=False, needs_base=True,
    ),
    "logit-adjust": Method(
        "logit adjustment after training", "b_k - tau log pi_k", "arXiv 2007.07314", "logit-adjust",
        grid={"tau": STRENGTHS}, path="tau", needs_base=True,
    ),
    "lort-path": Method(
        "the first step of LORT, in closed form", "W_k - strength K pi_k mu_k / (|mu|^2 + 1), b alike",
        "docs/method.md", "lort-path", grid={"strength": STRENGTHS}, path="strength", needs_counts=False,
        needs_base=True,
    ),
    "linear-adjust": Method(
        "a logit adjustment linear in the counts", "b_k - strength K pi_k", "docs/method.md",
        "linear-adjust", grid={"strength": STRENGTHS}, path="strength", needs_base=True,
    ),
    "crt": Method(
        "class-balanced cross-entropy", f"{CE} with weights 1 / n_y", DECOUPLING, "exact",
        fixed={"gamma": 1.0}, grid=DECAYS, path="weight_decay",
    ),
    "lws": Method(
        "learned scale of each class's weight", "min over s of crt's loss with W_k = s_k W_k", DECOUPLING,
        "lws", needs_base=True, mix="balanced",
    ),
    "balanced-softmax": Method(
        "logit-adjusted cross-entropy", "CE(softmax(Wx + b + log pi), y)", "arXiv 2007.10740", "exact",
        fixed={"tau": 1.0}, grid=DECAYS, path="weight_decay",
    ),
    "las": Method(
        "label-aware smoothing", "crt's loss, labels smoothed by delta sin of the class's count",
        "arXiv 2104.00466", "exact", fixed={"gamma": 1.0, "label_aware": True},
        grid={"delta": (0.1, 0.2, 0.4), **DECAYS}, path="weight_decay",
    ),
    "maxnorm": Method(
        "class weights no longer than a radius", "crt's loss with |W_k| <= share max |W|", "arXiv 2203.14197",
        "maxnorm", fixed={"gamma": 1.0}, grid=MAXNORM_GRID, path="share",
    ),
    "disalign": Method(
        "distribution alignment", "CE(softmax(s(x) (alpha z + beta) + (1 - s(x)) z), y), weights pi_y^-rho",
        "arXiv 2103.16370", "disalign", grid={"rho": (0.5, 1.0, 1.5)}, path="rho", needs_base=True,
        linear=False,
    ),
    "cosine": Method(
        "cosine classifier", "CE(softmax(scale cos(W, x)), y) with weights n_y^-gamma", "arXiv 1804.09458",
        "cosine", grid={"gamma": (0.0, 1.0), "scale": (8.0, 16.0, 32.0)}, path="scale", linear=False,
    ),
    "ldam": Method(
        "label-distribution-aware margin", "cosine with the true cos less margin (n_min / n_y)^(1/4)",
        "arXiv 1906.07413", "cosine", fixed={"margin": 0.5},
        grid={"gamma": (0.0, 1.0), "scale": (8.0, 16.0, 32.0)}, path="scale", linear=False,
    ),
    "lort-published": Method(
        "LORT as published", "SGD on LORT from the trained head, lr 5e-4, 20 epochs", LORT, "sgd",
        over_smoothed=True, needs_counts=False, needs_base=True, mix="balanced",
    ),
    "lort-sgd": Method(
        "LORT as published, its learning rate chosen", "SGD on LORT from the trained head, 20 epochs", LORT,
        "sgd", grid={"lr": (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4)}, path="lr", over_smoothed=True,
        needs_counts=False, needs_base=True, mix="balanced",
    ),
    "lort": Method(
        "label over-smoothing with chosen class balance", "CE(softmax(Wx + b), (1 - delta) y + delta / K) "
        "with weights n_y^-gamma", LORT, "exact", grid={"gamma": GAMMAS, **DECAYS}, path="weight_decay",
        over_smoothed=True,
    ),
    "crt+lort": Method(
        "LORT with balanced classes", "crt's loss with LORT's labels", LORT, "exact",
        fixed={"gamma": 1.0}, grid=DECAYS, path="weight_decay", over_smoothed=True,
    ),
    "lws+lort": Method(
        "LORT on learned scales", "lws's loss with LORT's labels", LORT, "lws", over_smoothed=True,
        needs_base=True, mix="training",
    ),
    "balanced-softmax+lort": Method(
        "LORT under logit adjustment", "balanced softmax's loss with LORT's labels", LORT, "exact",
        fixed={"tau": 1.0}, grid=DECAYS, path="weight_decay", over_smoothed=True, mix="inverse",
    ),
    "maxnorm+lort": Method(
        "LORT within MaxNorm", "maxnorm's loss with LORT's labels", LORT, "maxnorm",
        fixed={"gamma": 1.0}, grid=MAXNORM_GRID, path="share", over_smoothed=True,
    ),
}  # fmt: skip
"""Methods by name, the simplest first: of equally good methods the earlier one is chosen."""
BEST_OF = ("ce", "eb-lda", "tau-norm", "logit-adjust", "lort-path", "crt", "lws", "balanced-softmax", "lort")
"""Candidates of `method="best"`: the methods with a linear head, without their costly variants."""
STACKED = ("ce", "eb-lda", "tau-norm", "crt", "balanced-softmax", "lort")
"""Candidates of `method="auto"`, which adds up heads: cheap ones that differ in what they assume.

The log prior is added too, so that `logit-adjust` is one of the sums.
"""
STACK = "stack"
"""Name of a sum of heads, in place of a method's."""
CHOICES = ("auto", "best")
"""Names of what is chosen among methods: the best sum of heads, and the best single one."""
SOLVERS = ("exact", "closed-form", "sgd")
"""Fitters of the one objective; a method of that objective may use any of them."""
SELECT_BY = ("balanced-accuracy", "macro-f1", "nll")
"""Scorers of settings and methods: the names in `lort_hub.heads.scorers.SCORERS`."""


def class_mix(method: str, settings: Settings) -> Mix:
    """Tell which class mix a head decides for.

    Scales that LORT's labels ask for are so small that the bias, and with it the training mix, decides;
    logits that small are outweighed by log pi, and rare classes win.

    Args:
        method: One of `METHODS`, `STACK` (its weights are chosen with classes alike) or `STAGE1`.
        settings: Its settings.

    Example:
        >>> class_mix("lort", {"gamma": 0.5}), class_mix("lort", {"gamma": 0.0}), class_mix("ncm", {})
        ('balanced', 'training', 'balanced')
    """
    if method == STACK:
        return "balanced"
    declared = METHODS[method].mix if method in METHODS else None
    return declared or ("balanced" if any(settings.get(name) for name in BALANCING) else "training")


def shown_settings(method: str, settings: Settings) -> Settings:
    """Leave out settings that are 0 because the method is without that term; one that was chosen as 0 stays.

    Args:
        method: One of `METHODS`; all settings of any other stay.
        settings: Its settings.

    Example:
        >>> shown_settings("lort", {"delta": 0.9, "gamma": 0.0, "tau": 0.0})
        {'delta': 0.9, 'gamma': 0.0}
    """
    if method not in METHODS:
        return settings
    one = METHODS[method]
    own = {*one.fixed, *one.grid, *({"delta"} if one.over_smoothed else ())}
    return {name: value for name, value in settings.items() if value or name in own}


def check_settings(name: str, given: Mapping[str, float | str | None]) -> None:
    """Check that a method has the settings that it is given, and that its objective has a minimum.

    Args:
        name: One of `METHODS` or `CHOICES`, which choose every setting.
        given: Arguments of `fit_head`: delta, gamma, weight_decay, solver, and the number of views; None
            where it is not given.

    Raises:
        ConfigError: It has not.

    Example:
        >>> check_settings("ce", {"weight_decay": 0.1, "gamma": None})
    """
    if name in CHOICES and any(value is not None for value in given.values()):
        raise ConfigError(
            f'`method="{name}"` chooses every setting.\n'
            "Leave out `delta`, `gamma`, `weight_decay`, `solver` and `views`."
        )
    if name in CHOICES:
        return
    method = METHODS[name]
    solver, decay = given.get("solver"), given.get("weight_decay")
    if solver and method.fitter not in SOLVERS:
        raise ConfigError(
            f"`solver=\"{solver}\"`: '{name}' is not a point of the objective that solvers minimise.\n"
            "Leave `solver` out."
        )
    known = {**method.fixed, **method.grid, **(DEFAULTS if method.fitter in SOLVERS else {})}
    for setting, value in given.items():
        if value is not None and setting not in (*known, "solver", "views"):
            has = f"it has: {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"'{name}' has no setting `{setting}`; {has}.\nLeave `{setting}` out.")
    solver = solver or method.fitter
    smoothed = method.over_smoothed or "delta" in method.grid
    if given.get("delta") is not None:
        smoothed = bool(given["delta"])
    if solver == "closed-form" and decay is None and "weight_decay" not in method.grid:
        decay = 0.0
    has_limit = smoothed and not method.fixed.keys() & {"tau", "label_aware"}
    if solver == "closed-form" and not has_limit:
        raise ConfigError(
            f"`solver=\"closed-form\"` is the limit of over-smoothed labels, which '{name}' has not.\n"
            'Use it with `method="lort"` or crt+lort, whose `delta` is near 1.'
        )
    if decay == 0 and solver in ("exact", "closed-form") and (solver == "closed-form" or not smoothed):
        raise ConfigError(
            f"`weight_decay` is 0, without which the objective of '{name}' by this solver has no minimum.\n"
            'Give a positive `weight_decay`, or `solver="sgd"`.'
        )


def methods_table() -> str:
    """Render all methods as a Markdown table.

    Example:
        >>> print(methods_table().splitlines()[2])
        | `ce` | CE(softmax(Wx + b), y) | textbook | training | no | no | yes |
    """
    header = ["method", "what it minimises or computes", "source", "class mix"]
    lines = [[*header, "flat as solved", "needs class counts", "exports"], ["---"] * 7]
    for name, method in METHODS.items():
        dials = [dial for dial in BALANCING if dial in method.grid]
        mix = f"by {dials[0]}" if dials else class_mix(name, method.fixed)
        facts = (method.over_smoothed, method.needs_counts, method.linear)
        flags = ("yes" if value else "no" for value in facts)
        lines.append([f"`{name}`", method.equation.replace("|", "\\|"), method.source, mix, *flags])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
