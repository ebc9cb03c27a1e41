"""Tables of figures as one HTML page, in the style of a report's page, without a script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from refine_export.report.html import page_environment
from refine_export.validate.comparison import Status


@dataclass(frozen=True, kw_only=True)
class FigureTable:
    """A table for the page and the console."""

    title: str
    lead: str
    """Meaning of the figures."""
    headings: tuple[str, ...]
    """One that begins with `>` aligns its column to the right."""
    rows: tuple[tuple[str, ...], ...]


def html_from_tables(
    title: str,
    status: Status,
    outcome: str,
    tables: Sequence[FigureTable],
    notes: Iterable[str],
    facts: Mapping[str, str],
) -> str:
    """Render the page.

    Args:
        title: what was measured.
        status: the verdict.
        outcome: the result in lines.
        tables: tables without rows are left out.
        notes: sentences on what to know about the figures.
        facts: how the figures were made, by name.
    """
    template = page_environment().get_template("figures.html.j2")
    shown = [table for table in tables if table.rows]
    return template.render(title=title, status=status, outcome=outcome, tables=shown, notes=list(notes), facts=facts)
