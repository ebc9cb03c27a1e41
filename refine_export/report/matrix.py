"""The verdicts as a matrix: a line for each file and runtime, a column for each size; and their comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refine_export.report.data import Comparison, Group, Report
from refine_export.report.rows import ORDER, Row, psnr_order
from refine_export.signature import GraphName
from refine_export.validate.comparison import OutputVerdict

_Key = tuple[str, str, str, tuple[int, int], int]


@dataclass(frozen=True, kw_only=True, order=True)
class Size:
    """A column: single pairs first and small ones first."""

    batch: int
    pixels: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One file in one runtime at one size, over all feeds."""

    anchor: str
    """Of its rows in the table of comparisons."""
    group: Group
    rows: tuple[Row, ...]
    """Worst first."""
    worst: Row
    """That has the largest error."""
    error: float | None
    """The largest, in units of the peak; None where no output was compared."""
    lowest: OutputVerdict | None
    """The output of the lowest PSNR; an identical one where all are."""
    silent: int
    """Runs that failed without an output."""

    @property
    def link(self) -> str:
        """Where the largest error is shown: the details of its comparison, or its row."""
        return self.worst.anchor if self.worst.detailed else self.anchor

    @property
    def tally(self) -> str:
        """How many feeds failed or were not compared, in words; empty where all passed."""
        group = self.group
        total = group.passed + group.failed + group.missing
        allowed = ", allowed" if group.status == "passed" else ""
        said = [f"{group.failed} of {total} failed{allowed}"] if group.failed else []
        said += [f"{group.missing} of {total} not compared"] if 0 < group.missing < total else []
        return "; ".join(said)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A file in a runtime."""

    row: Row
    """Any row of the file and runtime."""
    cells: tuple[Cell | None, ...]
    """One for each size; None where there was no run."""


def cells_from_rows(report: Report, rows: Sequence[Row]) -> list[Cell]:
    """A cell for each group of the report, those that failed first; rows keep their order."""
    members: dict[_Key, list[Row]] = {}
    for row in rows:
        members.setdefault(_key(row.comparison), []).append(row)
    cells = []
    for number, group in enumerate(report.groups, 1):
        of_group = members[group.graph, group.file, group.runtime, group.size, group.batch]
        outputs = [output for row in of_group for output in row.comparison.verdict.outputs]
        cell = Cell(
            anchor=f"group-{number}",
            group=group,
            rows=tuple(of_group),
            worst=max(of_group, key=_largest_error),
            error=max((output.metrics.max_of_peak for output in outputs), default=None),
            lowest=min(outputs, key=psnr_order, default=None),
            silent=sum(row.status == "failed" and not row.comparison.verdict.outputs for row in of_group),
        )
        cells.append(cell)
    return sorted(cells, key=lambda cell: (ORDER[cell.group.status], cell.group.failed == 0))


def matrix_from_cells(cells: Sequence[Cell]) -> tuple[list[Size], list[Line]]:
    """The columns, and the lines: what failed comes first, then the files of a graph are neighbours."""
    sizes = sorted({_size(cell.group) for cell in cells})
    graphs = sorted({cell.group.graph for cell in cells}, key=lambda graph: _first(cells, graph))
    lines: dict[tuple[GraphName, str, str], dict[Size, Cell]] = {}
    for cell in sorted(cells, key=lambda cell: int(cell.anchor.partition("-")[2])):
        lines.setdefault((cell.group.graph, cell.group.file, cell.group.runtime), {})[_size(cell.group)] = cell

    def order(item: tuple[tuple[GraphName, str, str], dict[Size, Cell]]) -> tuple[int, int]:
        (graph, _, _), at = item
        return min(ORDER[cell.group.status] for cell in at.values()), graphs.index(graph)

    return sizes, [
        Line(row=next(iter(at.values())).rows[0], cells=tuple(at.get(size) for size in sizes))
        for _, at in sorted(lines.items(), key=order)
    ]


def _first(cells: Sequence[Cell], graph: str) -> int:
    return min(int(cell.anchor.partition("-")[2]) for cell in cells if cell.group.graph == graph)


def _largest_error(row: Row) -> float:
    return row.worst.metrics.max_of_peak if row.worst else -1.0


def _key(comparison: Comparison) -> _Key:
    return comparison.graph, comparison.file, comparison.verdict.runtime, comparison.size, comparison.batch


def _size(group: Group) -> Size:
    height, width = group.size
    return Size(batch=group.batch, pixels=height * width, height=height, width=width)
