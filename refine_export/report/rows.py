"""The comparisons as the page shows them: a row each, and the table of sizes over them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from refine_export.onnx_file import FilePrecision
from refine_export.report.data import Comparison, Report
from refine_export.report.pictures import Pictures
from refine_export.signature import SIGNATURES
from refine_export.validate import OutputVerdict, Status, overall


@dataclass(frozen=True, kw_only=True)
class Row:
    """A comparison as the page shows it."""

    anchor: str
    """Id of its section."""
    comparison: Comparison
    precision: FilePrecision
    """Of its file."""
    several: bool
    """Its graph has other files in the report, so that the file is shown."""
    feed: str
    """What sets it apart from the graph's other feeds."""
    worst: OutputVerdict | None
    """The output that is furthest from the reference; None where none was compared."""
    shown: OutputVerdict | None
    """The output that the pictures show: the first."""
    sizes: Mapping[str, tuple[int, ...]]
    """Height and width of each output."""
    channel: str
    """Of the worst pixel of `shown`."""
    gauge: float | None
    """Length of the bar of the largest error, 0 to 1."""
    mark: float
    """Where its limit is along that bar, 0 to 1."""
    pictures: Pictures | None
    opened: bool

    @property
    def of_limit(self) -> float:
        """The largest error in units of the limit; -1 where nothing was compared."""
        return self.worst.metrics.max_of_peak / self.comparison.verdict.limits.max_abs if self.worst else -1.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """A column of the table of sizes."""

    height: int
    width: int
    batch: int


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One file in one runtime at one size, over all feeds."""

    status: Status
    error: float | None
    """The largest, in units of the peak; None where no output was compared."""
    anchor: str
    """Of the comparison that has it."""
    lowest: OutputVerdict | None
    """The output of the lowest PSNR; an identical one where all are."""
    silent: int
    """Runs that failed without an output."""


@dataclass(frozen=True, kw_only=True)
class SizeLine:
    """A line of the table of sizes."""

    row: Row
    """Any row of the file and runtime."""
    cells: tuple[Cell | None, ...]
    """One for each size; None where there was no run."""


def rows_from_report(report: Report, pictures: Mapping[str, Pictures]) -> list[Row]:
    """A row for each comparison; those that failed are open, or else the one nearest to its limit."""
    errors = [one.output.metrics.max_of_peak for one in report.measured()]
    ends = [error for error in errors if 0 < error < math.inf]
    ends += [comparison.verdict.limits.max_abs for comparison in report.comparisons]
    # Decades of the bars: a tenth of the smallest error or limit to ten times the largest.
    low = math.floor(math.log10(min(ends, default=1.0))) - 1
    high = math.ceil(math.log10(max(ends, default=1.0))) + 1

    def along(value: float) -> float:
        if value in (0, math.inf):
            return float(value > 0)
        return (math.log10(value) - low) / (high - low)

    precisions = {artifact.file: artifact.precision for artifact in report.artifacts}
    files = {(comparison.graph, comparison.file) for comparison in report.comparisons}
    graphs = [graph for graph, _ in files]
    rows = []
    for number, comparison in enumerate(report.comparisons, 1):
        verdict = comparison.verdict
        worst = max(verdict.outputs, key=_badness, default=None)
        shown = verdict.outputs[0] if verdict.outputs else None
        row = Row(
            anchor=f"comparison-{number}",
            comparison=comparison,
            precision=precisions[comparison.file],
            several=graphs.count(comparison.graph) > 1,
            feed=verdict.feed.partition(", ")[2] or "the two frames",
            worst=worst,
            shown=shown,
            sizes={spec.name: spec.shape_at(1, *comparison.size)[2:] for spec in SIGNATURES[comparison.graph].outputs},
            channel=_channel(comparison, shown),
            gauge=along(worst.metrics.max_of_peak) if worst else None,
            mark=along(verdict.limits.max_abs),
            pictures=pictures.get(comparison.key),
            opened=verdict.status == "failed",
        )
        rows.append(row)
    if rows and not any(row.opened for row in rows):
        nearest = max(rows, key=lambda row: row.of_limit)
        rows = [replace(row, opened=row is nearest) for row in rows]
    return rows


def size_table(rows: Sequence[Row]) -> tuple[list[Size], list[SizeLine]]:
    """A column for each size, single pairs first and small ones first; a line for each file and runtime."""
    sizes = sorted({_size(row) for row in rows}, key=lambda size: (size.batch, size.height * size.width, size.height))
    graphs = list(dict.fromkeys(row.comparison.graph for row in rows))
    lines: dict[tuple[int, str, str], list[Row]] = {}
    for row in rows:
        comparison = row.comparison
        key = (graphs.index(comparison.graph), comparison.file, comparison.verdict.runtime)
        lines.setdefault(key, []).append(row)
    return sizes, [
        SizeLine(row=line[0], cells=tuple(_cell([row for row in line if _size(row) == size]) for size in sizes))
        for _, line in sorted(lines.items(), key=lambda item: item[0][0])  # the files of a graph are neighbours
    ]


def _cell(rows: Sequence[Row]) -> Cell | None:
    if not rows:
        return None
    outputs = [output for row in rows for output in row.comparison.verdict.outputs]
    verdicts = [row.comparison.verdict for row in rows]
    return Cell(
        status=overall(verdict.status for verdict in verdicts),
        error=max((output.metrics.max_of_peak for output in outputs), default=None),
        anchor=max(rows, key=_largest_error).anchor,
        lowest=min(outputs, key=_psnr_order, default=None),
        silent=sum(verdict.status == "failed" and not verdict.outputs for verdict in verdicts),
    )


def _size(row: Row) -> Size:
    height, width = row.comparison.size
    return Size(height=height, width=width, batch=row.comparison.batch)


def _channel(comparison: Comparison, shown: OutputVerdict | None) -> str:
    if shown is None or shown.metrics.worst is None:
        return ""
    channel = shown.metrics.worst.channel
    picture = SIGNATURES[comparison.graph].outputs[0].quantity in ("image", "residual")
    return f"{channel} ({('red', 'green', 'blue')[channel]})" if picture else str(channel)


def _badness(output: OutputVerdict) -> tuple[bool, float]:
    return output.status == "failed", output.metrics.max_of_peak


def _largest_error(row: Row) -> float:
    return max((output.metrics.max_of_peak for output in row.comparison.verdict.outputs), default=-1.0)


def _psnr_order(output: OutputVerdict) -> float:
    if output.metrics.identical:
        return math.inf
    return -math.inf if output.metrics.psnr_db is None else output.metrics.psnr_db
