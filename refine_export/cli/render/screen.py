"""Standard output: lines and tables in which nothing that a file, a server or a user says can pass for ours.

Loaded by `--help`, which prints nothing with rich: it is imported when something is printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from refine_export.support.text import clean

MARKS = {
    "passed": "[green]passed[/]",
    "measured": "[green]measured[/]",
    "failed": "[red]failed[/]",
    "error": "[red]error[/]",
    "warning": "[yellow]warning[/]",
    "problem": "[red]problem[/]",
    "not compared": "[yellow]not compared[/]",
    "not measured": "[yellow]not measured[/]",
    "yes": "[green]yes[/]",
    "no ": "[yellow]no [/]",
}
"""Words that are shown in a colour where they stand at the start of a line or alone in a cell."""
NARROWEST = 160
"""Columns of a table in a file, which has no edge at which rows would have to break."""


class Screen:
    """Prints results; every text is cleaned of control characters and is never read as markup."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = max(self._console.width, NARROWEST)

    def line(self, text: object = "", mark: str = "", *, aside: str = "") -> None:
        """Print a line: a mark with its colour and a colon, the text, and an aside in brackets."""
        from rich.markup import escape
        from rich.text import Text

        line = Text.from_markup(f"{MARKS.get(mark, escape(mark))}: ") if mark else Text()
        line.append(clean(str(text)))  # not by `escape`, which doubles a backslash at the end
        line.append(f" ({clean(aside)})" if aside else "", style="dim")
        self._console.print(line, soft_wrap=True)

    def verdict(self, status: str, text: str) -> None:
        """Print the verdict, behind an empty line."""
        self._console.print()
        self.line(text, mark=status)

    def notes(self, notes: Sequence[str], most: int | None = None) -> None:
        """Print notes, `most` of them written out."""
        for note in notes[:most]:
            self.line(note, mark="note")
        self.more(len(notes) - len(notes[:most]), "notes like these, which --json lists")

    def more(self, count: int, what: str) -> None:
        """Print how many are not shown, if any."""
        if count > 0:
            self.line(f"and {count} more {what}")

    def table(self, headings: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table; a heading that begins with `>` aligns its column to the right."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for heading in headings:
            table.add_column(heading.lstrip(">"), justify="right" if heading.startswith(">") else "left")
        for row in rows:
            table.add_row(*(MARKS.get(cell, Text(clean(cell))) for cell in row))
        self._console.print(table)
