"""What the command line shows of the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from refine_export.cli.render.console import STYLES, escape

if TYPE_CHECKING:
    from refine_export.jobs.check_report import GateResult
    from refine_export.self_test.self_test_result import SelfTest, Trial

PROBLEMS_SHOWN = 40


def print_gate(result: GateResult) -> None:
    """A line per group, what is wrong, what the baseline says, the decision."""
    from refine_export.report.formatting import error_text, psnr_text  # needs numpy, which --help does not

    console = _wide()
    table = Table(box=None, pad_edge=False)
    for heading in ("artifact", "feeds", "lowest PSNR", "largest error", "verdict"):
        table.add_column(heading, justify="left" if heading in ("artifact", "verdict") else "right")
    for group in result.decision.groups:
        table.add_row(
            escape(str(group.group.key)),
            f"{group.group.passed}/{len(group.comparisons)}",
            "" if group.lowest is None else psnr_text(group.lowest),
            "" if group.largest_error is None else error_text(group.largest_error),
            STYLES[group.status],
        )
    console.print(table)
    problems = result.decision.problems
    for problem in problems[:PROBLEMS_SHOWN]:
        console.print(
            f"{STYLES[problem.status]}: {escape(problem.what)}: {escape(problem.reason)} [dim]({problem.rule})[/]",
            soft_wrap=True,
        )
    if len(problems) > PROBLEMS_SHOWN:
        console.print(f"and {len(problems) - PROBLEMS_SHOWN} more")
    if (changes := result.changes) is not None:
        for change in changes.gains:
            console.print(f"better: {escape(change.entry.name)}: {escape(str(change))}", soft_wrap=True)
        for entry in changes.new:
            console.print(f"new: {escape(entry.name)}", soft_wrap=True)
        for note in changes.notes:
            console.print(f"note: {escape(note)}", soft_wrap=True)
    if result.baseline:
        console.print(f"baseline: {escape(result.baseline)}", soft_wrap=True)
    console.print(f"\n{STYLES[result.status]}: {escape(result.decision.sentence)}", soft_wrap=True)


def print_self_test(tested: SelfTest) -> None:
    """A line for the good file and for each known-bad one, what is wrong, the verdict."""
    from refine_export.report.formatting import error_text  # as above

    console = _wide()
    table = Table(box=None, pad_edge=False)
    for heading in ("version", "PSNR dB", "largest error", "of the limit", "limit", "on", "the gate"):
        numbers = heading in ("PSNR dB", "largest error", "of the limit")
        table.add_column(heading, justify="right" if numbers else "left")
    for trial in (tested.good, *tested.mutants):
        table.add_row(
            escape(trial.name),
            "" if trial.psnr_db is None else f"{trial.psnr_db:.1f}",
            "" if trial.max_abs is None else error_text(trial.max_abs),
            "" if trial.margin is None else f"{trial.margin:.3g}",
            escape(trial.limit),
            escape(trial.feed or trial.note),
            _outcome(trial, good=trial is tested.good),
        )
    console.print(table)
    for problem in tested.problems:
        console.print(f"[red]problem[/]: {escape(problem)}", soft_wrap=True)
    tried = [trial for trial in tested.mutants if trial.outcome in ("passed", "failed")]
    stopped = sum(trial.outcome == "failed" for trial in tried)
    console.print(
        f"\n{STYLES[tested.status]}: the limits of {tested.graph}_{tested.precision} "
        f"{'pass' if tested.good.outcome == 'passed' else 'fail'} {escape(tested.file)} and stop {stopped} of "
        f"{len(tried)} known-bad versions of it, in {escape(tested.runtime)} ({tested.seconds:.1f} s)",
        soft_wrap=True,
    )


def _outcome(trial: Trial, *, good: bool) -> str:
    """What the gate says of a version, green where that is right."""
    right = trial.outcome == ("passed" if good else "failed")
    colour = "green" if right else "red" if trial.outcome in ("passed", "failed") else "yellow"
    return f"[{colour}]{trial.outcome}[/]"


def _wide() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:  # a file has no edge at which rows would have to break
        console.width = max(console.width, 160)
    return console
