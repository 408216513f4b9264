"""Long-tailed recognition for timm and Hugging Face: re-train the head, know how good it is, publish it."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

__version__ = "0.1.0"
STARTED = time.perf_counter()
"""When the process started, to a few hundredths of a second where it is one of the recipes."""

_HOMES = {
    "FeatureStore": "store",
    "LortHead": "lort_head",
    "LortHubError": "errors",
    "evaluate": "metrics",
    "extract_features": "features",
    "fit_head": "heads",
    "load_backbone": "loading",
    "load_long_tailed": "data",
    "logits_magnitude": "metrics",
    "long_tailed_counts": "longtail",
    "push_to_hub": "publish",
    "regularized_std": "metrics",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lort_hub' has no attribute '{name}'")
    return getattr(import_module(f"lort_hub.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
