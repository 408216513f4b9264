"""What the documentation site needs beyond its generator: equations as MathML, examples as code."""

import re
from html import unescape
from typing import Any

import griffe
from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.postprocessors import Postprocessor

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
"""What pymdownx.arithmatex makes of $...$ and $$...$$."""


def as_mathml(equation: re.Match[str]) -> str:
    """Write an equation as MathML, which browsers draw without a script."""
    tag, latex = equation.groups()
    if tag == "span":
        return convert(unescape(latex))
    return f'<div class="equation">{convert(unescape(latex), display="block")}</div>'


class Equations(Postprocessor):
    """Convert every equation of a page."""

    def run(self, text: str) -> str:
        """Convert those of this text."""
        return EQUATION.sub(as_mathml, text)


class MathML(Extension):
    """The Markdown extension."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Convert equations after everything else."""
        md.postprocessors.register(Equations(md), "mathml", -10)


def makeExtension(**options: Any) -> MathML:
    """Make the Markdown extension, under the name that Markdown looks for."""
    return MathML(**options)


class Examples(griffe.Extension):
    """Read the sections "Example:" of docstrings as griffe reads "Examples:", as code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section of one object."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?m)^(\s*)Example:$", r"\1Examples:", obj.docstring.value)
