"""Long-tailed recognition for timm and Hugging Face."""

__version__ = "0.1.0"
