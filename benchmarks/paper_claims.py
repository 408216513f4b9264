"""The claims of the LORT paper (arXiv 2403.00250) as tests: supported, not supported or undecided.

Differences of balanced accuracy are those of the same test images, right or wrong on average over the seeds
of stage 2, by `paired_p_value` and `paired_interval`. They say nothing of other seeds of stage 1.
Correlations are over heads, or classes, that are drawn as if they were independent; variants of one method
are not.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata

from lort_hub.evaluation.arrays import Array
from lort_hub.evaluation.significance import holm, paired_interval, paired_p_value

LEVEL = 0.05
MARGIN = 0.01
"""Largest change of accuracy that counts as none."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Claim:
    """A claim with the number that it is about, its 95 % interval, and its p-value, corrected by `judge`.

    Accuracies are fractions. `family` are the claims whose p-values are corrected together (Holm). `verdict`
    is there before `judge` where nothing can be told, as of two heads that are no better than chance.
    """

    family: str
    text: str
    value: float
    low: float
    high: float
    p: float
    verdict: str = ""


def verdict_of_sign(claim: Claim) -> str:
    """Positive, negative or undecided; heads that decide alike on every image differ by nothing."""
    if claim.low == claim.high == 0:
        return "not supported"
    return "undecided" if claim.p >= LEVEL else "supported" if claim.value > 0 else "not supported"


def verdict_of_size(claim: Claim) -> str:
    """Smaller than the margin, larger, or undecided, by the interval."""
    if max(abs(claim.low), abs(claim.high)) < MARGIN:
        return "supported"
    return "not supported" if claim.low > MARGIN or claim.high < -MARGIN else "undecided"


def difference(family: str, text: str, right: Array, other: Array, labels: Array) -> Claim:
    """How much more balanced accuracy one head has than the other."""
    present = np.unique(labels)
    value = np.mean([(right - other)[labels == k].mean() for k in present])
    low, high = paired_interval(right, other, labels, resamples=RESAMPLES)
    p = paired_p_value(right, other, labels, resamples=RESAMPLES)
    return Claim(family, text, float(value), low, high, p)


def at_chance(right: Array, labels: Array) -> bool:
    """Whether the balanced accuracy of a head is not surely above that of one class for every image."""
    chance = np.full(len(labels), 1 / len(np.unique(labels)))
    return paired_interval(right, chance, labels, resamples=RESAMPLES)[0] <= 0


def rank_correlations(values: Array, others: Array) -> Array:
    """Spearman's rho of each row with the same row of others; 0 where a row is constant."""
    ranks = [rankdata(rows, axis=1) for rows in (values, others)]
    centred = [rows - rows.mean(axis=1, keepdims=True) for rows in ranks]
    norms = np.prod([np.linalg.norm(rows, axis=1) for rows in centred], axis=0)
    return np.divide((centred[0] * centred[1]).sum(axis=1), norms, out=np.zeros(len(norms)), where=norms > 0)


def predicts_better(text: str, first: Array, second: Array, target: Array) -> Claim:
    """How much more one number correlates with a third than another does, in Spearman's rho."""

    def lead(rows: Array) -> Array:
        one, two = (rank_correlations(values[rows], target[rows]) for values in (first, second))
        return one - two

    drawn = lead(np.random.default_rng(0).integers(len(target), size=(RESAMPLES, len(target))))
    p = np.clip(2 * min(np.mean(drawn <= 0), np.mean(drawn >= 0)), 1 / RESAMPLES, 1)
    low, high = np.percentile(drawn, [2.5, 97.5]).tolist()
    value = float(lead(np.arange(len(target))[None])[0])
    verdict = "undecided" if np.ptp(target) == 0 else ""
    return Claim("logits magnitude", text, value, low, high, float(p), verdict)


def judge(claims: Sequence[Claim]) -> list[Claim]:
    """Correct the p-values within each family, and decide."""
    judged = []
    for family in dict.fromkeys(claim.family for claim in claims):
        own = {claim.text: claim for claim in claims if claim.family == family}
        for text, p in holm({text: claim.p for text, claim in own.items()}).items():
            own[text] = replace(own[text], p=p)
        rule = verdict_of_size if family == "robustness" else verdict_of_sign
        judged += [replace(claim, verdict=claim.verdict or rule(claim)) for claim in own.values()]
    return judged


def claims(right: Mapping[str, Array], labels: Array) -> Iterator[Claim]:
    """The claims on accuracy.

    `right` says by the name of a head how often each test image (N,) was right: heads of paper_heads.py,
    post-hoc ones, "NAME / 8" for a head with all logits divided by 8, "NAME, noise" for noisy logits.
    """
    score = {
        name: np.mean([hits[labels == k].mean() for k in np.unique(labels)]) for name, hits in right.items()
    }
    by_chance = {name for name, hits in right.items() if at_chance(hits, labels)}

    def versus(
        family: str, text: str, other: str, ours: str = "LORT", of: Mapping[str, Array] = right
    ) -> Claim:
        claim = difference(family, text, of[ours], of[other], labels)
        return replace(claim, verdict="undecided") if {ours, other} <= by_chance else claim

    heads = [name for name in right if "noise" not in name and "/" not in name]
    for rival in ("stage 1", "CE", "cRT", "balanced softmax"):
        yield versus("rivals", f"LORT is better than {rival}", rival)
    for rival in ("cRT", "tau-norm", "MaxNorm", "balanced softmax"):
        family = [name for name in heads if name.partition(",")[0] == rival]
        best = max(family, key=score.__getitem__)
        text = f"LORT is better than the best {rival} on the test set, of {len(family)} ({best})"
        yield versus("rivals at their best on the test set", text, best)
    for name in (name for name in heads if name.startswith("LORT, delta")):
        yield versus("delta", f"delta 0.98 is better than {name.removeprefix('LORT, delta ')}", name)
    for name in (name for name in heads if name.startswith(("LORT, lr", "LORT, weight decay"))):
        setting = name.removeprefix("LORT, ")
        yield versus("robustness", f"{setting} changes LORT by less than {100 * MARGIN:g} point", name)
    for head in ("LORT", "stage 1"):
        text = f"dividing all logits of {head} by 8, and so LoMa, makes it more accurate"
        yield versus("LoMa alone", text, head, f"{head} / 8")
    loss = {name: right[name] - right[f"{name}, noise"] for name in ("LORT", "LORT / 8", "stage 1")}
    text = "noise of half a logit's standard deviation costs LORT less than"
    yield versus("noise", f"{text} stage 1", "LORT", "stage 1", of=loss)
    yield versus("noise", f"{text.replace('LORT', 'LORT / 8')} LORT", "LORT / 8", "LORT", of=loss)
