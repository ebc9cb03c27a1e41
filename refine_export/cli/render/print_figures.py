"""Print figures: quality against true frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refine_export.cli.render.screen import Screen

if TYPE_CHECKING:
    from refine_export.score.score_result import Scores


def print_scores(result: Scores) -> None:
    """Print a line per split and file, what has no figures, the notes, the verdict."""
    screen = Screen()
    table, _ = result.tables()
    screen.table(table.headings, table.rows)
    for one in result.shortfalls:
        screen.line(f"{one.what}: {one.reason}", mark=one.status)
    screen.notes(result.notes)
    screen.verdict(result.status, result.summary())
    if result.folder is not None:
        screen.line(result.folder / "score.html", mark="report")
