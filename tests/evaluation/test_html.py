"""A page holds text as text, and pictures inside."""

import base64
import io

from PIL import Image

from lort_hub.evaluation.html import render_page, thumbnail
from tests.support.images import noise_image


def test_values_are_text_and_never_markup(tmp_path):
    template = tmp_path / "page_of.html"
    template.write_text(
        '{% extends "page.html" %}{% block content %}<img alt="{{ name }}"><p>{{ name }}</p>{% endblock %}'
    )
    name = '"><script>alert(1)</script> & {{ 7 * 7 }}'
    page = render_page(template, title="</title><b>", name=name)
    assert "<script>" not in page
    assert "</title><b>" not in page
    assert "{{ 7 * 7 }}" in page
    assert page.count("&#34;&gt;&lt;script&gt;") == 2
    assert "http" not in page  # nothing to load from elsewhere


def test_a_thumbnail_is_the_picture_made_small():
    address = thumbnail(noise_image(1, (300, 150)).convert("RGBA"))
    small = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    assert (small.size, small.format) == ((96, 48), "JPEG")
