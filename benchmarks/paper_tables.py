"""The tables of paper.py: heads with their numbers, and claims with their verdicts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, pstdev

from paper_claims import Claim

from lort_hub.evaluation.arrays import Array
from lort_hub.evaluation.report import Report
from lort_hub.evaluation.tables import Table
from lort_hub.files import write_atomically, write_csv

NOTES = """
Protocol: the first n_k images of each class, n_k = int(n_0 IR^(-k/(K-1))); stage 1 once, by SGD (learning
rate 0.01, momentum 0.9, weight decay 5e-3, batch 64, cosine, crop and flip) on all of them; stage 2 for
each seed from the stage-1 classifier, by SGD on the classifier alone (5e-4, momentum 0.9, no weight decay,
batch 64, cosine, instance-balanced unless the method is cRT or MaxNorm, a fresh crop and flip of each image
in each epoch).

Balanced accuracy in % at the last epoch, without flip averaging: the honest number. The columns in brackets
are no results: they average over the flipped test image, pick the epoch of stage 2 on the test set, or
both, as the authors' code does, and are here to be compared with numbers made that way. The spread is over
seeds of stage 2.

Differences from the authors' code: the backbone of stage 2 is in evaluation mode, where theirs lets the
BatchNorm statistics drift in train mode; stage 1 leaves biases and BatchNorm out of the weight decay, as
timm's optimisers do, where a plain SGD would decay them; seeds of stage 2 share the augmented views, in
another order; cRT and MaxNorm, too, start from the stage-1 classifier, and draw batches from classes equally
likely. `auto` and `lort` are solved exactly, their settings chosen without test images but on training
images that the backbone has memorised, as this protocol holds none out.
"""


@dataclass(frozen=True)
class Scored:
    """A head on the test images: its numbers, which images (N,) are right, numbers with a look at them.

    The halves are its numbers on two halves of the images of each class, so that what predicts is of others
    than what is predicted.
    """

    report: Report
    halves: tuple[Report, Report]
    right: Array
    flipped: float
    picked: float | None = None
    flipped_and_picked: float | None = None


Found = dict[int, tuple[dict[str, list[Scored]], list[Claim]]]
"""Runs of each head, one for each seed of a head by SGD, and claims, by imbalance ratio."""

COLUMNS = (
    "balanced",
    "spread",
    "many",
    "medium",
    "few",
    "LoMa",
    "spread of LoMa",
    "RSD",
    "flipped",
    "picked",
    "both",
)


def numbers(run: Scored) -> dict[str, float | None]:
    report = run.report
    rates = {name: getattr(report, name) for name in ("many", "medium", "few")}
    rates = {"balanced": report.balanced_accuracy, **rates, "flipped": run.flipped, "picked": run.picked}
    rates["both"] = run.flipped_and_picked
    percent = {name: None if rate is None else round(100 * rate, 2) for name, rate in rates.items()}
    magnitude = report.logits_magnitude
    return {
        **percent,
        "LoMa": magnitude.mean,
        "spread of LoMa": magnitude.std,
        "RSD": report.regularized_std.mean,
    }


def write(folder: Path, title: str, found: Found) -> str:
    """Write results.md, results.csv with a row for each seed, and claims.csv; return the first."""
    rows, judged = [], []
    text = [f"# {title}", NOTES.strip()]
    for ratio, (heads, tested) in found.items():
        lines = []
        for name, runs in heads.items():
            each = [numbers(run) for run in runs]
            rows += [{"IR": ratio, "head": name, "run": k, **row} for k, row in enumerate(each)]
            means = {
                key: None if any(row[key] is None for row in each) else fmean(row[key] for row in each)
                for key in each[0]
            }
            means["spread"] = pstdev(row["balanced"] for row in each) if len(each) > 1 else None
            lines.append((name, *("" if means[key] is None else f"{means[key]:.2f}" for key in COLUMNS)))
        header = ("head", *COLUMNS[:-3], "(flipped)", "(picked)", "(both)")
        text += [f"## IR {ratio}", Table(header, tuple(lines)).to_markdown(), claims_table(tested)]
        judged += [{"IR": ratio, **asdict(claim)} for claim in tested]
    write_csv(folder / "results.csv", rows)
    write_csv(folder / "claims.csv", judged)
    page = "\n\n".join(text) + "\n"
    write_atomically(folder / "results.md", page.encode())
    return page


def claims_table(tested: Sequence[Claim]) -> str:
    """The claims with their verdicts; differences of accuracy are in points, those of rho are not."""
    lines = []
    for claim in tested:
        unit = 1 if claim.family == "logits magnitude" else 100
        low, high, value = (f"{unit * number:+.2f}" for number in (claim.low, claim.high, claim.value))
        lines.append((claim.text, value, f"{low} to {high}", f"{claim.p:.4f}", claim.verdict))
    return Table(("claim", "difference", "95 % interval", "p (Holm)", "verdict"), tuple(lines)).to_markdown()
