"""Rows of results.csv."""

from lort_hub.evaluation.report import ResultRow

NUMBERS = (
    *("seconds", "accuracy", "balanced_accuracy", "many", "medium", "few", "macro_f1", "nll", "ece"),
    *("logits_magnitude_mean", "logits_magnitude_std", "regularized_std_mean", "regularized_std_std"),
    "weight_norm_spread",
)


def row_of(**fields):
    """A row whose numbers are all one half, but for those given."""
    defaults = {"method": "ce", "seed": 0, "chosen": {}, "n": 100, "shifted": {"uniform": 0.5}}
    return ResultRow(**{**defaults, **dict.fromkeys(NUMBERS, 0.5), **fields})
