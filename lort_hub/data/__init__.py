"""Read images and labels, cut them to a long tail, decode and transform the images."""

from lort_hub.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ImageSplit": "dataset",
        "LongTailedData": "dataset",
        "load_long_tailed": "load",
    },
)
