"""Save a model as an output folder with its card, and publish it on the Hugging Face Hub."""

from lort_hub.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "LortHead": "lort_head",
        "list_heads": "search",
        "push_to_hub": "upload",
        "save_output": "output",
    },
)
