"""Measure a head by groups of classes, test differences, and draw tables and plots."""

from lort_hub.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "evaluate": "metrics",
        "logits_magnitude": "metrics",
        "regularized_std": "metrics",
    },
)
