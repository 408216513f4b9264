"""Re-train a linear head on frozen features: methods, choice of settings, solvers."""

from lort_hub.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Fit": "fit",
        "METHODS": "methods",
        "TrainingSet": "training_set",
        "fit_best": "fit",
        "fit_head": "fit",
    },
)
