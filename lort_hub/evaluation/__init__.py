"""Measure heads by groups of classes, test their differences, render tables and plots."""

from lort_hub.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Report": "report",
        "evaluate": "metrics",
        "logits_magnitude": "metrics",
        "regularized_std": "metrics",
    },
)
