"""README and docs say what the code and the data say, and link to what is there."""

import re
import runpy
from dataclasses import fields, is_dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lort_hub.heads.methods import methods_table
from tests.support import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.glob("*.md"), DOCS / "api" / "index.md", ROOT / "model_cards" / "README.md"]
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FLAG = re.compile(r"--[a-z][\w-]*")
LAUNCHERS = {
    "--config",
    "--help",
    "--json",
    "--no-calibrate",
    "--no-pretrained",
    "--machine-rank",
    "--main-process-ip",
    "--main-process-port",
    "--num-machines",
    "--num-processes",
    "--quiet",
}
"""Flags on the page that no recipe declares."""


def prose(page: Path) -> str:
    return re.sub(r"(?s)```.*?```", "", page.read_text())


def anchors(page: Path) -> set[str]:
    """Names that GitHub gives the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.*)$", prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_figure_of_a_page_is_there(page):
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        if path.startswith("http"):
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor and not anchor.startswith("lort_hub."):  # of the API, which the site's strict build checks
            assert anchor in anchors(target), link


def test_every_figure_is_shown_on_some_page():
    shown = {Path(link).name for page in PAGES for link in LINK.findall(page.read_text())}
    assert {path.name for path in (DOCS / "figures").iterdir()} <= shown


def test_the_figures_show_the_numbers_of_the_data(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    runpy.run_path(str(ROOT / "benchmarks" / "figures.py"))["main"](tmp_path)
    drawn, committed = (
        {path.name: texts(path) for path in folder.iterdir()} for folder in (tmp_path, DOCS / "figures")
    )
    assert drawn == committed


def texts(figure: Path) -> list[str]:
    """The texts of an SVG: labels, ticks and the numbers beside marks."""
    return [
        "".join(text.itertext()) for text in ElementTree.parse(figure).iter() if text.tag.endswith("}text")
    ]


def test_the_page_of_the_method_has_the_table_of_methods():
    assert methods_table() in (DOCS / "method.md").read_text()


def test_the_page_of_commands_names_every_flag_and_no_other():
    declared = set()
    for recipe in (ROOT / "recipes").glob("*.py"):
        kinds = [
            kind
            for kind in runpy.run_path(str(recipe)).values()
            if isinstance(kind, type) and is_dataclass(kind)
        ]
        flags = {
            field.name for kind in kinds if kind.__name__.endswith("Arguments") for field in fields(kind)
        }
        assert flags, recipe
        declared |= {f"--{name.replace('_', '-')}" for name in flags}
    assert set(FLAG.findall((DOCS / "cli.md").read_text())) - LAUNCHERS == declared


def test_the_index_leads_to_every_page():
    linked = {Path(link).name for link in LINK.findall((DOCS / "index.md").read_text())}
    assert {path.name for path in DOCS.glob("*.md")} - {"index.md"} <= linked
