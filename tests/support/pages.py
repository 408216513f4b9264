"""Pages as a browser and a screen reader would have them."""

import base64
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.texts))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def check_page(text):
    """A page that stands alone, and that a screen reader can read."""
    page = Page(text)
    assert re.findall(r"(?:src|href)=\"(?!data:image/|#)", text) == []
    assert "url(" not in text
    assert "<script" not in text
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = {one["href"][1:] for one in page.all("a")}
    named |= {one["aria-labelledby"] for _, one in page.elements if "aria-labelledby" in one}
    assert named <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    counted = Counter(tag for tag, _ in page.elements)
    assert (counted["main"], counted["header"], counted["nav"]) == (1, 1, 1)
    assert counted["caption"] == counted["table"]
    assert all("scope" in one for one in page.all("th"))
    assert all(one["alt"].strip() and one["src"].startswith("data:image/") for one in page.all("img"))
    return page


def plots_of(page):
    """The SVG plots of a page, parsed."""
    for image in page.all("img"):
        kind, _, data = image["src"].partition(",")
        if "svg" in kind:
            yield ElementTree.fromstring(base64.b64decode(data))
