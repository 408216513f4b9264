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
TINY = 32
"""Longest side of a picture that JPEG would blur."""


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
    environment.filters |= {"shorten": shorten}
    return environment.get_template(template.name).render(**values)


def shorten(text: str, length: int = 60, *, end: bool = False) -> str:
    """Shorten a long name: its start stays, or its end.

    Example:
        >>> shorten("a long name", 7), shorten("a long name", 7, end=True)
        ('a long…', '…g name')
    """
    if len(text) <= length:
        return text
    return f"…{text[1 - length :]}" if end else f"{text[: length - 1]}…"


def write_page(file: Path, page: str) -> None:
    """Write a page; half a character, of a file name that is no UTF-8, becomes a question mark.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "report.html"
        >>> write_page(file, f"{chr(0xDCFF)}.png")
        >>> file.read_text()
        '?.png'
    """
    file.write_text(page, encoding="utf-8", errors="replace")


def thumbnail(image: Image.Image) -> str:
    """Cut an image down to a thumbnail, as the address of an `img`.

    Example:
        >>> thumbnail(Image.new("RGB", (300, 200)))[:23]
        'data:image/jpeg;base64,'
    """
    image = image.convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    if max(image.size) <= TINY:
        image.save(buffer, "PNG")
        return data_address(buffer.getvalue(), "image/png")
    image.save(buffer, "JPEG", quality=70, optimize=True)
    return data_address(buffer.getvalue(), "image/jpeg")


def data_address(data: bytes, kind: str) -> str:
    """Write the bytes of a picture as an address.

    Example:
        >>> data_address(b"<svg/>", "image/svg+xml")
        'data:image/svg+xml;base64,PHN2Zy8+'
    """
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
