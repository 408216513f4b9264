"""Build the page that shows a classifier in the browser.

A Space has a copy of this file, so it imports nothing of lort_hub.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 5
NO_PICTURE = "This file is no picture that can be read ({reason}). Give a JPEG, PNG, WebP or the like."
STYLE = "<style>.classes {width: 100%} .classes th, .classes td {padding: 4px 8px; text-align: left}</style>"
HEADINGS = ("class", "training images", "most often taken for, on the test images")


@dataclass(frozen=True)
class ClassFacts:
    """What the page says of a class beside its probability; None where nothing is known.

    Attributes:
        name: Its name, which no other class has.
        train_images: Training images.
        test_images: Test images.
        confused_with: Name of the class that its test images are most often taken for.
        confused_images: How many are.
    """

    name: str
    train_images: int | None = None
    test_images: int | None = None
    confused_with: str | None = None
    confused_images: int = 0


@dataclass(frozen=True)
class About:
    """What the page says of a classifier.

    Attributes:
        title: Its name.
        description: How it was made and how good it is, in Markdown.
        classes: Its K classes.
    """

    title: str
    description: str
    classes: tuple[ClassFacts, ...]

    @classmethod
    def read(cls, path: Path) -> About:
        """Read it from a JSON file."""
        values = json.loads(path.read_text(encoding="utf-8"))
        classes = tuple(ClassFacts(**one) for one in values["classes"])
        return cls(values["title"], values["description"], classes)


def load_logits(repo_id: str, revision: str | None = None) -> Callable[[Image.Image], Tensor]:
    """Load a complete model from the Hub, with plain timm or transformers.

    Args:
        repo_id: `org/name`.
        revision: Commit; None for the newest.

    Returns:
        A function from a picture to its logits (K,).

    Example:
        >>> logits = load_logits("me/photos")  # doctest: +SKIP
    """
    from huggingface_hub import hf_hub_download

    config = json.loads(Path(hf_hub_download(repo_id, "config.json", revision=revision)).read_text())
    if "architecture" in config:  # timm's
        import timm

        name = f"{repo_id}@{revision}" if revision else repo_id
        model = timm.create_model(f"hf-hub:{name}", pretrained=True).eval()
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
        return lambda image: model(transform(to_rgb(image))[None])[0]
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    network: Any = AutoModelForImageClassification.from_pretrained(repo_id, revision=revision).eval()
    processor = AutoImageProcessor.from_pretrained(repo_id, revision=revision)
    return lambda image: network(**processor(to_rgb(image), return_tensors="pt")).logits[0]


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to 8-bit RGB, as in training.

    Greys of more than 8 bits are 0 to 65535, or 0 to 1.

    Example:
        >>> to_rgb(Image.new("I;16", (1, 1), 65535)).getpixel((0, 0))
        (255, 255, 255)
    """
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(int) // 256).clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        image = Image.fromarray((np.asarray(image).clip(0, 1) * 255).round().astype(np.uint8))
    return image.convert("RGB")


def classify(
    about: About, logits: Callable[[Image.Image], Tensor], image: Image.Image | None
) -> tuple[dict[str, float], str]:
    """Compute the probabilities of the likeliest classes, in descending order, and what is known of them.

    Args:
        about: What the page says of the classifier.
        logits: Function from a picture to its logits (K,).
        image: The picture; None for none.

    Returns:
        Probabilities by the name of the class, and a table in HTML.

    Example:
        >>> about = About("pets", "", (ClassFacts("cat", 200, 50, "dog", 3), ClassFacts("dog", 5)))
        >>> classify(about, lambda image: torch.tensor([0.0, 0.0]), Image.new("RGB", (8, 8)))[0]
        {'cat': 0.5, 'dog': 0.5}
    """
    if image is None:
        return {}, ""
    with torch.inference_mode():
        probabilities = logits(image).softmax(0)
    top = probabilities.argsort(descending=True, stable=True)[:SHOWN].tolist()
    shown = [about.classes[k] for k in top]
    return dict(zip([one.name for one in shown], probabilities[top].tolist(), strict=True)), _table(shown)


def _table(classes: list[ClassFacts]) -> str:
    rows = []
    for one in classes:
        count = "not known" if one.train_images is None else f"{one.train_images:,}"
        other = "none was wrong" if one.test_images else "not known"
        if one.confused_with:
            other = f"{one.confused_with} ({one.confused_images:,} of {one.test_images:,})"
        rows.append("".join(f"<td>{escape(cell)}</td>" for cell in (one.name, count, other)))
    head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'{STYLE}<table class="classes"><tr>{head}</tr>{body}</table>'


def build_page(about: About, logits: Callable[[Image.Image], Tensor]) -> Any:
    """Build the page with gradio.

    Args:
        about: What it says of the classifier.
        logits: Function from a picture to its logits (K,).

    Returns:
        gradio's application.

    Example:
        >>> build_page(about, logits).launch()  # doctest: +SKIP
    """
    import gradio

    def readable(read: Callable[[Any], Any], given: Any) -> Any:
        """Read a picture, or say what to do where the file is none."""
        try:
            return read(given)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as cause:
            reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
            reason = "not an image" if "cannot identify" in reason else reason
            raise gradio.Error(NO_PICTURE.format(reason=reason), print_exception=False) from cause

    picture = gradio.Image(type="pil", image_mode=None, sources=["upload", "clipboard"], label="Picture")
    picture.preprocess = partial(readable, picture.preprocess)
    return gradio.Interface(
        partial(readable, partial(classify, about, logits)),
        picture,
        [gradio.Label(num_top_classes=SHOWN, label="Classes"), gradio.HTML()],
        title=about.title,
        description=about.description,
        api_name="classify",
        live=True,
        flagging_mode="never",
    )
