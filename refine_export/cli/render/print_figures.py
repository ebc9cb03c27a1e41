"""Print figures: quality against true frames, speed and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refine_export.cli.render.screen import Screen

if TYPE_CHECKING:
    from refine_export.bench.bench_result import Benchmarks
    from refine_export.score.score_result import Scores


def print_scores(result: Scores) -> None:
    """Print a line per split and file, what has no figures, the notes, the verdict."""
    screen = Screen()
    table, _ = result.tables()
    screen.table(table.headings, table.rows)
    for one in result.shortfalls:
        screen.line(f"{one.what}: {one.reason}", mark=one.status)
    _print_end(screen, result, "score.html")


def print_benchmarks(result: Benchmarks) -> None:
    """Print a line per subject and size, the state of the GPU, what has no figures, the notes, the verdict."""
    from refine_export.bench.bench_result import shown_status

    screen = Screen()
    for table in result.tables()[:2]:
        if table.rows:
            screen.table(table.headings, table.rows)
    for one in result.shortfalls:
        screen.line(f"{one.what}: {one.reason}", mark=shown_status(one))
    _print_end(screen, result, "bench.html")


def _print_end(screen: Screen, result: Scores | Benchmarks, page: str) -> None:
    """Print the notes, the verdict, and the path of the page where one was written."""
    screen.notes(result.notes)
    # Figures are not judged: the status says whether there are all that were asked for.
    screen.verdict("measured" if result.status == "passed" else result.status, result.summary())
    if result.folder is not None:
        screen.line(result.folder / page, mark="report")
