"""Extract features once, store them on disk, and read them in blocks, on one or several processes."""

from lort_hub.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "FeatureStore": "store",
        "Features": "store",
        "extract_features": "extract",
    },
)
