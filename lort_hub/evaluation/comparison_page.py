"""Render a comparison of methods as Markdown and as a page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lort_hub.evaluation.html import data_address, render_page
from lort_hub.evaluation.markdown import escape
from lort_hub.evaluation.plots import plot_comparison
from lort_hub.evaluation.report import ResultRow
from lort_hub.evaluation.report_page import Facts
from lort_hub.evaluation.significance import Array, paired_tests
from lort_hub.evaluation.tables import Table, comparison_table, shift_table

TEMPLATE = Path(__file__).parent / "templates" / "comparison.html"


@dataclass(frozen=True)
class ComparedCell:
    """The methods on one data cell.

    Attributes:
        title: Backbone, data set and cut.
        rows: Row of each method and seed.
        table: Numbers and tests of each method.
        note: How much was tested, and how the settings were chosen.
        shifts: Accuracy under shifted test priors; None where no head was adapted.
    """

    title: str
    rows: Sequence[ResultRow]
    table: Table
    note: str
    shifts: Table | None = None

    @classmethod
    def of(
        cls,
        title: str,
        rows: Sequence[ResultRow],
        right: Mapping[str, Sequence[Array]],
        labels: Array,
        note: str,
    ) -> ComparedCell:
        """Test the methods against each other, and build the tables of a data cell.

        Args:
            title: Backbone, data set and cut.
            rows: Row of each method and seed.
            right: Whether each test image (N,) was right, one array for each seed, by method.
            labels: Labels (N,) of the test images.
            note: How much was tested, and how the settings were chosen.
        """
        table = comparison_table(rows, paired_tests(right, labels))
        return cls(title, rows, table, note, shift_table(rows))

    @property
    def numbers(self) -> Table:
        """The table with the tests beside the balanced accuracy, without the settings."""
        header = self.table.header
        first = [title for title in header if title in ("method", "balanced") or title.startswith("p vs ")]
        titles = (*first, *(title for title in header if title not in (*first, "chosen")))
        rows = (dict(zip(header, row, strict=True)) for row in self.table.rows)
        return Table(titles, tuple(tuple(row[title] for title in titles) for row in rows))

    @property
    def chosen(self) -> list[tuple[str, str]]:
        """The settings of each method that has any."""
        named = self.table.header[-1] == "chosen"
        return [(row[0], row[-1]) for row in self.table.rows if named and row[-1]]

    def to_markdown(self) -> str:
        """Render the cell as a section of results.md."""
        shifts = self.shifts.to_markdown() if self.shifts else None
        parts = (f"## {escape(self.title)}", self.table.to_markdown(), self.note, shifts)
        return "\n\n".join(part for part in parts if part)


def render_comparison(cells: Sequence[ComparedCell], facts: Sequence[Facts] = ()) -> str:
    """Render the page of a comparison: self-contained, every text escaped.

    Args:
        cells: The methods on each data cell.
        facts: Further sections, at the end.

    Example:
        >>> table = Table(("method", "balanced"), (("ce", "80.1"),))
        >>> cell = ComparedCell("<digits>", [], table, "500 images.")
        >>> page = render_comparison([cell])
        >>> "&lt;digits&gt;" in page, "80.1" in page
        (True, True)
    """
    return render_page(
        TEMPLATE,
        title="Comparison of methods",
        cells=[(cell, _plot(cell.rows) if cell.rows else None) for cell in cells],
        facts=facts,
    )


def _plot(rows: Sequence[ResultRow]) -> str:
    file = io.BytesIO()
    plot_comparison(file, rows)
    return data_address(file.getvalue(), "image/svg+xml")
