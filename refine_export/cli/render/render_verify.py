"""What the command line shows of a served model's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from refine_export.cli.render.console import STYLES, escape

if TYPE_CHECKING:
    from refine_export.deploy.verify.verify_result import Answer, Verified

ROWS_SHOWN = 40
REASONS_SHOWN = 12


def print_verified(result: Verified) -> None:
    """A line per model and channel, what failed, and how fast it was."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    if result.answers:
        console.print(_answers(result))
    failed = [one for one in result.answers if one.reasons]
    for one in failed[:REASONS_SHOWN]:
        said = f"{one.model} over {one.channel}, {one.feed}: {'; '.join(one.reasons)}"
        console.print(f"{STYLES[one.status]}: {escape(said)}", soft_wrap=True)
    if len(failed) > REASONS_SHOWN:
        console.print(f"and {len(failed) - REASONS_SHOWN} more like these, which --json lists")
    for short in result.shortfalls:
        console.print(f"{STYLES[short.status]}: {escape(f'{short.what}: {short.reason}')}", soft_wrap=True)
    if result.loads:
        console.print(_loads(result))
    for load in result.loads:
        if load.errors:
            console.print(
                f"[red]failed[/]: {escape(f'{load.model} over {load.channel}: {load.reason}')}", soft_wrap=True
            )
    for note in result.notes:
        console.print(f"note: {escape(note)}", soft_wrap=True)
    if not result.answers:
        console.print(f"\n{STYLES[result.status]}: no answer of {escape(result.server)} was compared", soft_wrap=True)
        return
    passed = sum(one.status == "passed" for one in result.answers)
    console.print(
        f"\n{STYLES[result.status]}: {passed} of {len(result.answers)} answers of {escape(result.server)} are the "
        "reference's, within their limits",
        soft_wrap=True,
    )


def _answers(result: Verified) -> Table:
    groups: dict[tuple[str, str], list[Answer]] = {}
    for one in result.answers:
        groups.setdefault((one.model, one.channel), []).append(one)
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "channel", "feeds", "worst", "verdict"):
        table.add_column(heading, justify="right" if heading == "feeds" else "left")
    for (model, channel), members in list(groups.items())[:ROWS_SHOWN]:
        statuses = {one.status for one in members}
        status = next(one for one in ("failed", "not compared", "passed") if one in statuses)
        table.add_row(escape(model), escape(channel), str(len(members)), _worst(members), STYLES[status])
    return table


def _worst(members: list[Answer]) -> str:
    numbers = [one.numbers for one in members if one.numbers]
    if not numbers:
        return ""
    if "levels" in numbers[0]:
        largest, mean = (max(one[name] or 0.0 for one in numbers) for name in ("levels", "mean_levels"))
        return f"{largest:.0f} of 255 levels, {mean:.2g} in the mean"
    ratios = [one["psnr_db"] for one in numbers if one["psnr_db"] is not None]
    error = max(one["max_of_peak"] or 0.0 for one in numbers)
    return f"{min(ratios):.1f} dB, {error:.2g} of the peak" if ratios else "identical"


def _loads(result: Verified) -> Table:
    table = Table(box=None, pad_edge=False)
    headings = ("model", "size", "channel", "at once", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "a second", "errors")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("model", "size", "channel") else "right")
    for load in result.loads:
        times = (f"{load.latency_ms[name]:.1f}" if load.latency_ms else "" for name in ("p50", "p90", "p95", "p99"))
        size = f"{load.size[0]}x{load.size[1]}"
        counts = (f"{load.per_second:.1f}", str(load.errors))
        table.add_row(escape(load.model), size, escape(load.channel), str(load.concurrency), *times, *counts)
    return table
