"""Load and save frozen backbones of timm and transformers, and run them on images."""

from lort_hub.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Backbone": "backbone",
        "load_backbone": "load",
    },
)
