"""The tables of the page: a row for each comparison, and a matrix of files and runtimes by size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from refine_export.accuracy.effective_limits import limits_on, margins
from refine_export.accuracy.limits import Limits
from refine_export.report.grouping import JudgedGroup, groups_of_report
from refine_export.report.pictures import Pictures
from refine_export.report.report_data import Comparison, Group, GroupKey, Report
from refine_export.signature import SIGNATURES, FilePrecision
from refine_export.validate.comparison import OutputVerdict, Status

ORDER: dict[Status, int] = {"failed": 0, "not compared": 1, "passed": 2}
MOST_DETAILS = 60
"""Comparisons with details; more are hard to read and make the page large."""
MOST_OPEN = 6
PICTURE_BYTES = 14 * 2**20
"""Upper bound of all pictures of comparisons, so that a page stays under 20 MB."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A comparison as the page shows it."""

    anchor: str
    """Id of its details."""
    comparison: Comparison
    precision: FilePrecision
    """Precision of its file."""
    feed: str
    """The feed without the graph and size, which its group shows."""
    worst: OutputVerdict | None
    """The output that is furthest from the reference; None where none was compared."""
    shown: OutputVerdict | None
    """The output that the pictures show: the first."""
    gauge: float | None
    """Length of the bar of the largest error, 0 to 1."""
    mark: float
    """Place of its limit along that bar, 0 to 1."""
    pictures: Pictures | None
    detailed: bool = False
    opened: bool = False

    @property
    def status(self) -> Status:
        """Verdict of the comparison."""
        return self.comparison.verdict.status

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width of the output that is shown."""
        return SIGNATURES[self.comparison.graph].outputs[0].shape_at(1, *self.comparison.size)[2:]

    @property
    def channel(self) -> str:
        """The worst pixel's channel, with its colour where the output is a picture."""
        if self.shown is None or self.shown.metrics.worst is None:
            return ""
        channel = self.shown.metrics.worst.channel
        picture = SIGNATURES[self.comparison.graph].outputs[0].quantity in ("image", "residual")
        return f"{channel} ({('red', 'green', 'blue')[channel]})" if picture else str(channel)

    @property
    def missed(self) -> frozenset[str]:
        """The limits that the worst output misses."""
        if self.worst is None:
            return frozenset()
        found = margins(self.worst.metrics, self.comparison.verdict.limits)
        return frozenset(margin.limit for margin in found if margin.missed)

    @property
    def of_limit(self) -> float:
        """The largest error in units of the limit; infinite where a run failed without an output, -1 without a run."""
        if self.worst is None:
            return math.inf if self.status == "failed" else -1.0
        return self.worst.metrics.max_of_peak / self.limits.max_abs

    @property
    def limits(self) -> Limits:
        """The limits that decided on the worst output; the cost of rounding is in them where it was measured."""
        rounding = self.worst.metrics.rounding if self.worst else None
        limits = limits_on(self.comparison.verdict.limits, rounding)
        return limits if rounding is None else replace(limits, times=None)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One file in one runtime at one size, over all feeds."""

    anchor: str
    """Id of its rows in the table of comparisons."""
    judged: JudgedGroup
    rows: tuple[Row, ...]
    """Worst first."""

    @property
    def group(self) -> Group:
        """Its verdict."""
        return self.judged.group

    @property
    def silent(self) -> int:
        """Runs that failed without an output."""
        return sum(row.status == "failed" and row.worst is None for row in self.rows)

    @property
    def link(self) -> str:
        """Anchor of the largest error: the details of its comparison, or the rows."""
        worst = max(self.rows, key=lambda row: row.worst.metrics.max_of_peak if row.worst else -1.0)
        return worst.anchor if worst.detailed else self.anchor

    @property
    def tally(self) -> str:
        """Numbers of feeds that failed or were not compared; empty where all passed."""
        group, total = self.group, len(self.rows)
        allowed = ", allowed" if group.status == "passed" else ""
        counts = [f"{group.failed} of {total} failed{allowed}"] if group.failed else []
        counts += [f"{group.missing} of {total} not compared"] if 0 < group.missing < total else []
        return "; ".join(counts)


Size = tuple[int, tuple[int, int]]
"""A column of the matrix: batch, then height and width."""

MatrixLine = tuple[Cell | None, ...]
"""A line of the matrix: the cells of a file in a runtime, one for each size; None where nothing was run."""


def rows_from_report(report: Report, pictures: Mapping[str, Pictures]) -> tuple[list[Row], int]:
    """A row for each comparison, failed ones first and the largest errors of those first.

    Those that failed or have pictures have details, the worst of them where they are many; of these the first failed
    ones are open, or else the one nearest to its limit.

    Returns:
        The rows, and the number of comparisons that lost their pictures because all of them would be too large.
    """
    rows = sorted(_plain_rows(report, pictures), key=lambda row: (ORDER[row.status], -row.of_limit))
    nearest = max(rows, key=lambda row: row.of_limit, default=None)
    chosen = [row for row in rows if row.status == "failed" or row.pictures] or ([nearest] if nearest else [])
    chosen = sorted(chosen, key=lambda row: (row.status != "failed", row.pictures is None))[:MOST_DETAILS]
    detailed = {row.anchor for row in chosen}
    opened = [row.anchor for row in chosen if row.status == "failed"][:MOST_OPEN] or [row.anchor for row in chosen[:1]]
    kept, left = set(), PICTURE_BYTES
    for row in chosen:
        if row.pictures is not None and row.pictures.size_bytes <= left:
            kept.add(row.anchor)
            left -= row.pictures.size_bytes
    finished = [
        replace(
            row,
            detailed=row.anchor in detailed,
            opened=row.anchor in opened,
            pictures=row.pictures if row.anchor in kept else None,
        )
        for row in rows
    ]
    return finished, sum(row.pictures is not None for row in rows) - len(kept)


def cells_from_rows(report: Report, rows: Sequence[Row]) -> list[Cell]:
    """A cell for each group of the report, those that failed first; rows keep their order."""
    members: dict[GroupKey, list[Row]] = {}
    for row in rows:
        members.setdefault(row.comparison.group_key, []).append(row)
    cells = [
        Cell(anchor=f"group-{number}", judged=judged, rows=tuple(members[judged.group.key]))
        for number, judged in enumerate(groups_of_report(report), 1)
    ]
    return sorted(cells, key=lambda cell: (ORDER[cell.group.status], cell.group.failed == 0))


def matrix_from_cells(report: Report, cells: Sequence[Cell]) -> tuple[list[Size], list[MatrixLine]]:
    """The columns and the lines of the matrix.

    Single pairs come before batches and small sizes before large ones; lines that failed come first, and the files of a
    graph are neighbours.
    """
    sizes = sorted(
        {(group.batch, group.size) for group in report.groups}, key=lambda size: (size[0], math.prod(size[1]))
    )
    graphs = list(dict.fromkeys(group.graph for group in report.groups))
    by_key = {cell.group.key: cell for cell in cells}
    lines: dict[tuple[str, ...], dict[Size, Cell]] = {}
    for group in report.groups:
        lines.setdefault((group.graph, group.file, group.runtime), {})[group.batch, group.size] = by_key[group.key]

    def order(line: Mapping[Size, Cell]) -> tuple[int, int]:
        groups = [cell.group for cell in line.values()]
        return min(ORDER[group.status] for group in groups), graphs.index(groups[0].graph)

    return sizes, [tuple(line.get(size) for size in sizes) for line in sorted(lines.values(), key=order)]


def _plain_rows(report: Report, pictures: Mapping[str, Pictures]) -> list[Row]:
    outputs = [(comparison, output) for comparison in report.comparisons for output in comparison.verdict.outputs]
    ends = [output.metrics.max_of_peak for _, output in outputs if 0 < output.metrics.max_of_peak < math.inf]
    ends += [limits_on(one.verdict.limits, output.metrics.rounding).max_abs for one, output in outputs]
    # The bars are logarithmic on one scale: from a tenth of the smallest error or limit to ten times the largest.
    low = math.floor(math.log10(min(ends, default=1.0))) - 1
    high = math.ceil(math.log10(max(ends, default=1.0))) + 1

    def along(value: float) -> float:
        return float(value > 0) if value in (0, math.inf) else (math.log10(value) - low) / (high - low)

    precisions = {artifact.file: artifact.precision for artifact in report.artifacts}
    rows = []
    for number, comparison in enumerate(report.comparisons, 1):
        verdict = comparison.verdict
        worst = max(verdict.outputs, key=lambda one: (one.status == "failed", one.metrics.max_of_peak), default=None)
        row = Row(
            anchor=f"comparison-{number}",
            comparison=comparison,
            precision=precisions[comparison.file],
            feed=verdict.feed.partition(", ")[2] or "the two frames",
            worst=worst,
            shown=verdict.outputs[0] if verdict.outputs else None,
            gauge=along(worst.metrics.max_of_peak) if worst else None,
            mark=along(limits_on(verdict.limits, worst.metrics.rounding if worst else None).max_abs),
            pictures=pictures.get(comparison.key),
        )
        rows.append(row)
    return rows
