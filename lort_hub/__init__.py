"""Re-train the heads of timm and Hugging Face models for long-tailed data, measure them, publish them."""

import time

from lort_hub.lazy import lazy_names

__version__ = "0.1.0"
STARTED = time.perf_counter()
"""When the process started, to a few hundredths of a second where it is one of the recipes."""

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "FeatureStore": "features.store",
        "LortHead": "hub.lort_head",
        "LortHubError": "errors",
        "evaluate": "evaluation.metrics",
        "extract_features": "features.extract",
        "fit_head": "heads.fit",
        "load_backbone": "backbones.load",
        "load_long_tailed": "data.load",
        "logits_magnitude": "evaluation.metrics",
        "long_tailed_counts": "data.imbalance",
        "push_to_hub": "hub.upload",
        "regularized_std": "evaluation.metrics",
        "save_output": "hub.output",
    },
)
