"""The comparisons as the page shows them, worst first: a row each, and which of them have details and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from refine_export.report.data import Comparison, Report
from refine_export.report.pictures import Pictures
from refine_export.signature import SIGNATURES, FilePrecision
from refine_export.validate.comparison import OutputVerdict, Status

ORDER: dict[Status, int] = {"failed": 0, "not compared": 1, "passed": 2}
MOST_DETAILS = 60
"""Comparisons with details: more are hard to read, and make a page large."""
MOST_OPEN = 6
PICTURE_BYTES = 14 * 2**20
"""Of all pictures of comparisons, so that a page stays under 20 MB."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A comparison as the page shows it."""

    anchor: str
    """Id of its details."""
    comparison: Comparison
    precision: FilePrecision
    """Of its file."""
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
    detailed: bool = False
    opened: bool = False

    @property
    def status(self) -> Status:
        """Of the comparison."""
        return self.comparison.verdict.status

    @property
    def broken(self) -> frozenset[str]:
        """Which limits the worst output does not keep, beside that of the largest error, which has a gauge."""
        if self.worst is None:
            return frozenset()
        metrics, limits = self.worst.metrics, self.comparison.verdict.limits
        found = {
            "psnr_db": _above(limits.psnr_db, metrics.psnr_db),
            "ssim": _above(limits.ssim, metrics.ssim),
            "p999_abs": _above(metrics.p999_abs, limits.p999_abs, metrics.peak),
            "flicker": _above(metrics.flicker, limits.flicker, metrics.peak),
        }
        return frozenset(name for name, broken in found.items() if broken)

    @property
    def of_limit(self) -> float:
        """The largest error in units of the limit; infinite where a run failed without an output, -1 without a run."""
        if self.worst is None:
            return math.inf if self.status == "failed" else -1.0
        return self.worst.metrics.max_of_peak / self.comparison.verdict.limits.max_abs


def rows_from_report(report: Report, pictures: Mapping[str, Pictures]) -> tuple[list[Row], int]:
    """A row for each comparison, failed ones first and the largest errors of those first.

    Those that failed or have pictures have details, the worst of them where they are many; of these the first failed
    ones are open, or else the one nearest to its limit. The second value is how many comparisons lost their pictures
    because all of them would be too large.
    """
    rows = _plain(report, pictures)
    rows.sort(key=lambda row: (ORDER[row.status], -row.of_limit))
    rank = [row for row in rows if row.status == "failed" or row.pictures is not None] or _nearest(rows)
    rank = sorted(rank, key=lambda row: (row.status != "failed", row.pictures is None))[:MOST_DETAILS]
    detailed = {row.anchor for row in rank}
    opened = [row.anchor for row in rank if row.status == "failed"][:MOST_OPEN] or [row.anchor for row in rank[:1]]
    kept, left = set(), PICTURE_BYTES
    for row in rank:
        if row.pictures is not None and (size := _bytes_of(row.pictures)) <= left:
            kept.add(row.anchor)
            left -= size
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


def psnr_order(output: OutputVerdict) -> float:
    """The PSNR; infinite where the arrays are equal, and below all others where it has none."""
    if output.metrics.identical:
        return math.inf
    return -math.inf if output.metrics.psnr_db is None else output.metrics.psnr_db


def _above(value: float | None, limit: float | None, unit: float = 1.0) -> bool:
    return value is not None and limit is not None and value / unit > limit


def _nearest(rows: Sequence[Row]) -> list[Row]:
    """The row that is nearest to its limit, if there is one."""
    return [max(rows, key=lambda row: row.of_limit)] if rows else []


def _plain(report: Report, pictures: Mapping[str, Pictures]) -> list[Row]:
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
    rows = []
    for number, comparison in enumerate(report.comparisons, 1):
        verdict = comparison.verdict
        worst = max(verdict.outputs, key=_badness, default=None)
        shown = verdict.outputs[0] if verdict.outputs else None
        row = Row(
            anchor=f"comparison-{number}",
            comparison=comparison,
            precision=precisions[comparison.file],
            feed=verdict.feed.partition(", ")[2] or "the two frames",
            worst=worst,
            shown=shown,
            sizes={spec.name: spec.shape_at(1, *comparison.size)[2:] for spec in SIGNATURES[comparison.graph].outputs},
            channel=_channel(comparison, shown),
            gauge=along(worst.metrics.max_of_peak) if worst else None,
            mark=along(verdict.limits.max_abs),
            pictures=pictures.get(comparison.key),
        )
        rows.append(row)
    return rows


def _channel(comparison: Comparison, shown: OutputVerdict | None) -> str:
    if shown is None or shown.metrics.worst is None:
        return ""
    channel = shown.metrics.worst.channel
    picture = SIGNATURES[comparison.graph].outputs[0].quantity in ("image", "residual")
    return f"{channel} ({('red', 'green', 'blue')[channel]})" if picture else str(channel)


def _badness(output: OutputVerdict) -> tuple[bool, float]:
    return output.status == "failed", output.metrics.max_of_peak


def _bytes_of(pictures: Pictures) -> int:
    return sum(len(value) for value in vars(pictures).values() if isinstance(value, str))
