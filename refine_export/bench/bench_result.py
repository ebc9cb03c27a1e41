"""Figures of files and of torch at each batch and size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from refine_export.bench.gpu_state import GpuState
from refine_export.bench.memory_child import Memory
from refine_export.report.figure_page import FigureTable
from refine_export.report.report_data import Shortfall
from refine_export.runners.latency import Latency
from refine_export.support.text import dict_from_result, size_text
from refine_export.validate.comparison import Status

NOT_MEASURED: Final = "not measured"
NOISY: Final = 0.1
"""Spread above which other programs have disturbed a measurement; on an idle machine it is a few percent."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Figures of one subject at one batch and size."""

    file: str
    runtime: str
    provider: str
    device: str
    graph: str
    batch: int
    size: tuple[int, int]
    """Height and width in pixels."""
    latency: Latency
    first_ms: float
    """Time of the first run, in which a runtime may compile."""
    per_second: float
    """Frame pairs at the median latency."""
    ratio: float
    """Latency over that of the first subject of the graph at this batch and size: the median of the rounds' ratios."""
    ratio_error: float
    """Its relative standard error."""
    gflops: float | None
    """10^9 FP32 or FP16 operations a second, two for a multiply-add of a convolution; None where not counted."""
    roofline: float | None
    """Share of what the GPU could reach at most (`known_gpus`); None for a CPU and for an unknown GPU."""
    memory: Memory | None
    """None where it was not measured."""


@dataclass(frozen=True, kw_only=True)
class PointState:
    """GPU before and after the measurement at one batch and size."""

    batch: int
    size: tuple[int, int]
    before: GpuState
    after: GpuState


@dataclass(frozen=True, kw_only=True)
class Benchmarks:
    """Latency, throughput and memory of files and of torch."""

    status: Status
    """`failed` where a file fails in a run; `not compared` where nothing, or not what was asked for, was measured."""
    folder: Path | None
    """Folder of `bench.json` and `bench.html`, if they were written."""
    measurements: tuple[Measurement, ...] = field(repr=False)
    gpu_states: tuple[PointState, ...] = field(repr=False)
    """Empty without a GPU or without NVML."""
    shortfalls: tuple[Shortfall, ...]
    """Files that fail, and what this machine cannot run."""
    notes: tuple[str, ...]
    rounds: int
    frames: str
    seconds: float
    environment: Mapping[str, str] = field(repr=False)

    @property
    def passed(self) -> bool:
        """True if no file failed and what was asked for was measured."""
        return self.status == "passed"

    @property
    def path(self) -> Path | None:
        """`bench.json`, if it was written."""
        return None if self.folder is None else self.folder / "bench.json"

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON types."""
        return dict_from_result(self)

    def tables(self) -> list[FigureTable]:
        """Return the figures, and what has none, for the page and the console; empty columns are left out."""
        memory = [one.memory or Memory(peak_mib=None, gpu_mib=None) for one in self.measurements]
        columns = {
            "file": [one.file for one in self.measurements],
            "runtime": [one.runtime for one in self.measurements],
            "size": [size_text((one.batch, *one.size)) for one in self.measurements],
            ">median ms": [_number(one.latency.median_ms) for one in self.measurements],
            ">p90": [_number(one.latency.p90_ms) for one in self.measurements],
            ">p99": [_number(one.latency.p99_ms) for one in self.measurements],
            ">spread": [f"{one.latency.spread:.1%}" for one in self.measurements],
            ">first run": [_number(one.first_ms) for one in self.measurements],
            ">ratio": [f"{one.ratio:.2f}" for one in self.measurements],
            ">pairs/s": [_number(one.per_second) for one in self.measurements],
            ">GFLOP/s": [_number(one.gflops) for one in self.measurements],
            ">roofline": ["" if one.roofline is None else f"{one.roofline:.0%}" for one in self.measurements],
            ">memory MiB": [_number(one.peak_mib) for one in memory],
            ">GPU MiB": [_number(one.gpu_mib) for one in memory],
        }
        shown = {heading: [cell or "-" for cell in cells] for heading, cells in columns.items() if any(cells)}
        states = [
            (
                size_text((one.batch, *one.size)),
                moment,
                str(state.clock_mhz),
                str(state.temperature_c),
                _number(state.power_w),
            )
            for one in self.gpu_states
            for moment, state in (("before", one.before), ("after", one.after))
        ]
        return [
            FigureTable(
                title="Speed and memory",
                lead="Runs in turn (A B A B) after a warm-up. Size: batch, height, width. Spread: median deviation, "
                "scaled to a standard deviation, over the median. First run: in ms; a runtime may compile in it. "
                "Ratio: latency over that of the first row of the "
                "same graph and size. Memory: peak of a process that does nothing else, libraries and feeds included.",
                headings=tuple(shown),
                rows=tuple(zip(*shown.values(), strict=True)),
            ),
            FigureTable(
                title="GPU",
                lead="By NVML, before and after the rounds of a size. Clocks that fall mean that the GPU throttles.",
                headings=("size", "", ">clock MHz", ">°C", ">W"),
                rows=tuple(states),
            ),
            FigureTable(
                title="Not measured, or failed",
                lead="Files that fail, and what this machine cannot run.",
                headings=("what", "status", "reason"),
                rows=tuple((one.what, shown_status(one), one.reason) for one in self.shortfalls),
            ),
        ]

    def summary(self) -> str:
        """Return a line for each graph and size, the fastest first: `refine 1x64x96: 5 ms in torch (eager), ...`."""
        lines = []
        for graph, batch, size in dict.fromkeys((one.graph, one.batch, one.size) for one in self.measurements):
            members = [one for one in self.measurements if (one.graph, one.batch, one.size) == (graph, batch, size)]
            members.sort(key=lambda one: one.latency.median_ms)
            texts = [f"{_number(one.latency.median_ms)} ms in {one.file} ({one.runtime})" for one in members]
            lines.append(f"{graph} {size_text((batch, *size))}: {', '.join(texts)}")
        return "\n".join(lines) or "nothing was measured"


def shown_status(shortfall: Shortfall) -> str:
    """Return `failed` or `not measured`."""
    return "failed" if shortfall.status == "failed" else NOT_MEASURED


def notes_on_noise(measurements: Iterable[Measurement]) -> Iterator[str]:
    """Say where other programs ran meanwhile: that slows down runtimes by different factors, and ratios with them."""
    if noisy := [one for one in measurements if one.latency.spread > NOISY]:
        worst = max(noisy, key=lambda one: one.latency.spread)
        yield (
            f"The times of {len(noisy)} row{'s' * (len(noisy) != 1)} spread by more than {NOISY:.0%} (to "
            f"{worst.latency.spread:.0%}, {worst.file} in {worst.runtime}): other programs ran meanwhile, "
            "which changes ratios too. Measure again on an idle machine."
        )


def _number(value: float | None) -> str:
    """Return a number with three significant digits, or an empty string for None."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
