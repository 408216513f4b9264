"""Render a page of HTML that needs no other file: styles, figures and thumbnails are inside."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

TEMPLATES = Path(__file__).parent / "templates"
THUMBNAIL = 96
"""Longest side of a thumbnail in pixels: 2 to 9 KB as JPEG."""


def render_page(template: Path, **values: Any) -> str:
    """Render a template that extends `page.html`; values are text, never markup.

    Args:
        template: The template.
        values: What it shows.

    Example:
        >>> import tempfile
        >>> template = Path(tempfile.mkdtemp()) / "one.html"
        >>> _ = template.write_text('{% extends "page.html" %}{% block content %}{{ name }}{% endblock %}')
        >>> page = render_page(template, title="One", name="<b>bold")
        >>> "&lt;b&gt;bold" in page, "<b>bold" in page
        (True, False)
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(**values)


def thumbnail(image: Image.Image) -> str:
    """Cut an image down to a thumbnail, as the address of an `img`.

    Example:
        >>> thumbnail(Image.new("RGB", (300, 200)))[:23]
        'data:image/jpeg;base64,'
    """
    image = image.convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70, optimize=True)
    return data_address(buffer.getvalue(), "image/jpeg")


def data_address(data: bytes, kind: str) -> str:
    """Write the bytes of a picture as an address.

    Example:
        >>> data_address(b"<svg/>", "image/svg+xml")
        'data:image/svg+xml;base64,PHN2Zy8+'
    """
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
