"""Print verdicts: reports, the gate, its self-test, bisections and what a server answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from refine_export.cli.render.screen import Screen
from refine_export.runners.runtime_names import REQUIRED_NAMES
from refine_export.support.text import listed, size_text

if TYPE_CHECKING:
    from refine_export.bisect.bisect_result import Bisected, LayerError
    from refine_export.deploy.verify.verify_result import Answer, Verified
    from refine_export.jobs.gate_report import GateResult
    from refine_export.jobs.validation_report import ValidationReport
    from refine_export.self_test.self_test_result import SelfTest

ROWS_SHOWN = 40
REASONS_SHOWN = 12
JUMPS_SHOWN = 10
NODES_SHOWN = 4


def print_report(result: ValidationReport) -> None:
    """Print a line per output of each comparison, the reasons, the notes, the verdict."""
    screen, report = Screen(), result.report
    comparisons = report["comparisons"]
    graphs = {comparison["graph"] for comparison in comparisons}
    # A column that would have one value in every row is left out.
    files = len({(comparison["graph"], comparison["file"]) for comparison in comparisons}) > len(graphs)
    runtimes = len({comparison["verdict"]["runtime"] for comparison in comparisons}) > 1
    optional = [*(["file"] if files else []), *(["runtime"] if runtimes else [])]
    rows = []
    for comparison in comparisons:
        verdict = comparison["verdict"]
        known = [*([comparison["file"]] if files else []), *([verdict["runtime"]] if runtimes else [])]
        for output in verdict["outputs"] or [None]:
            rows.append([verdict["feed"], *known, *_numbers(output), (output or verdict)["status"]])
    screen.table(["feed", *optional, "output", ">PSNR dB", ">largest error", "verdict"], rows[:ROWS_SHOWN])
    screen.more(len(rows) - ROWS_SHOWN, "in the report")
    for one in report["latencies"]:
        what = f"{one['file']} in {one['runtime']} at {size_text((one['batch'], *one['size']))}"
        screen.line(
            f"{what}: {one['median_ms']:.1f} ms, {one['ratio']:.3f} times the reference's, to {one['ratio_error']:.1%}",
            mark="latency",
        )
    for (status, reason), keys in result.reasons().items():
        screen.line(f"{listed(keys, 1)}: {reason}", mark=status)
    for shortfall in report["shortfalls"]:
        screen.line(f"{shortfall['what']}: {shortfall['status']}, {shortfall['reason']}")
    screen.notes(report["notes"])
    statuses = [comparison["verdict"]["status"] for comparison in comparisons]
    missing = statuses.count("not compared")
    counted = "nothing could be compared"  # such as engines alone, for GPUs that this machine does not have
    if statuses:
        counted = (
            f"{statuses.count('passed')} of {len(statuses)} comparisons with {report['reference']} are within their "
            f"limits ({_limits(report['thresholds'])})" + (f"; {missing} could not be run" if missing else "")
        )
    screen.verdict(report["status"], "; ".join([counted, *_causes(report["shortfalls"])]))
    if result.folder is not None:
        screen.line(result.folder / "report.html", mark="report")


def _causes(shortfalls: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Name what the verdict depends on beside the comparisons, and is missing or failed."""
    for one in shortfalls:
        if one["counts"]:
            runtime = one["runtime"]
            required = f"required (--require {runtime}) and " if REQUIRED_NAMES.get(runtime) == one["what"] else ""
            yield f"{one['what']} is {required}{one['status']}"


def _numbers(output: Mapping[str, Any] | None) -> list[str]:
    """Return name, PSNR and largest error of an output."""
    if output is None:
        return ["", "", ""]
    metrics = output["metrics"]
    psnr = "" if metrics["psnr_db"] is None else f"{metrics['psnr_db']:.1f}"
    error = "" if metrics["max_abs"] is None else f"{metrics['max_abs'] / metrics['peak']:.2g}"
    return [output["output"], "identical" if metrics["identical"] else psnr, error]


def _limits(thresholds: Mapping[str, Mapping[str, Any]]) -> str:
    """Return each set of limits once, with the names of those that have it."""
    from refine_export.report.formatting import times_text  # needs numpy, which --help does not

    found: dict[str, list[str]] = {}
    for name, limits in thresholds.items():
        times = "" if limits["times"] is None else f", or {times_text(limits['times'])}"
        found.setdefault(f"{limits['max_abs']:g} of the peak and {limits['psnr_db']:g} dB{times}", []).append(name)
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in found.items())


def print_gate(result: GateResult) -> None:
    """Print a line per group, what is wrong, what became of the baseline, the decision."""
    from refine_export.report.formatting import error_text, psnr_text  # needs numpy, which --help does not

    screen, decision = Screen(), result.decision
    screen.table(
        ["artifact", ">feeds", ">lowest PSNR", ">largest error", "verdict"],
        [
            [
                str(group.group.key),
                f"{group.group.passed}/{len(group.comparisons)}",
                "" if group.lowest is None else psnr_text(group.lowest),
                "" if group.largest_error is None else error_text(group.largest_error),
                group.status,
            ]
            for group in decision.groups
        ],
    )
    for problem in decision.problems[:ROWS_SHOWN]:
        screen.line(f"{problem.what}: {problem.reason}", mark=problem.status, aside=problem.rule)
    screen.more(len(decision.problems) - ROWS_SHOWN, "problems, which --json lists")
    if (changes := result.changes) is not None:
        for change in changes.gains:
            screen.line(f"{change.entry.name}: {change}", mark="better")
        for entry in changes.new:
            screen.line(entry.name, mark="new")
        screen.notes(changes.notes)
    if result.baseline:
        screen.line(result.baseline, mark="baseline")
    screen.verdict(result.status, decision.sentence)


def print_self_test(tested: SelfTest) -> None:
    """Print a line for the good file and for each known-bad one, what is wrong, the verdict."""
    from refine_export.report.formatting import error_text  # needs numpy, which --help does not

    screen = Screen()
    stopped = {"failed": "stops it", "passed": "lets it through"}
    screen.table(
        ["version", ">PSNR dB", ">largest error", ">of the limit", "limit", "on", "the gate"],
        [
            [
                trial.name,
                "" if trial.psnr_db is None else f"{trial.psnr_db:.1f}",
                "" if trial.max_abs is None else error_text(trial.max_abs),
                "" if trial.margin is None else f"{trial.margin:.3g}",
                trial.limit,
                trial.feed or trial.note,
                trial.outcome if trial is tested.good else stopped.get(trial.outcome, trial.outcome),
            ]
            for trial in (tested.good, *tested.mutants)
        ],
    )
    for problem in tested.problems:
        screen.line(problem, mark="problem")
    outcomes = [trial.outcome for trial in tested.mutants if trial.outcome in ("passed", "failed")]
    screen.verdict(
        tested.status,
        f"the limits of {tested.graph}_{tested.precision} "
        f"{'pass' if tested.good.outcome == 'passed' else 'fail'} {tested.file} and stop {outcomes.count('failed')} of "
        f"{len(outcomes)} known-bad versions of it, in {tested.runtime} ({tested.seconds:.1f} s)",
    )


def print_bisected(found: Bisected) -> None:
    """Print the first jump, the largest ones and the outputs: at most a screenful."""
    screen = Screen()
    screen.line(f"{found.candidate} against {found.reference}: {len(found.layers)} tensors on {len(found.feeds)} feeds")
    screen.notes(found.notes)
    if found.first is not None:
        layer = found.first.layer
        screen.line()
        screen.line(f"first jump: {layer.operator} {layer.node}")
        screen.line(
            f"  error before {layer.before:.2g}, after {layer.after:.2g}; made here {layer.own:.2g}, {layer.type} "
            f"explains {layer.allowed:.2g} ({layer.feed})"
        )
        if others := [name for name in found.first.candidate if name != layer.node]:
            screen.line(f"  in the file also: {listed(others, NODES_SHOWN)}")
        unexplained = ["nothing is written differently here: the runtime computes something else"]
        for reason in found.first.reasons or unexplained:
            screen.line(f"  {reason}")
    ranked = sorted((jump.layer for jump in found.jumps), key=lambda layer: layer.excess, reverse=True)
    if len(ranked) > 1:
        screen.line(f"\nthe largest of {len(ranked)} jumps, in units of each tensor's peak:")
        _print_layers(screen, ranked[:JUMPS_SHOWN])
    screen.line()
    screen.line("outputs:")
    _print_layers(screen, found.outputs)
    if found.first is None:
        screen.verdict("passed", "no jump: every error is explained by the types and by what came in")


def _print_layers(screen: Screen, layers: Sequence[LayerError]) -> None:
    numbers = [(layer.before, layer.after, layer.own, layer.allowed) for layer in layers]
    screen.table(
        ["node", "type", ">before", ">after", ">made here", ">explained"],
        [
            [f"{layer.operator} {layer.node}", layer.type, *(f"{number:.2g}" for number in of_layer)]
            for layer, of_layer in zip(layers, numbers, strict=True)
        ],
    )


def print_verified(result: Verified) -> None:
    """Print a line per model and channel, what failed, and how fast it was."""
    from refine_export.validate.comparison import overall  # needs numpy, which --help does not

    screen = Screen()
    groups: dict[tuple[str, str], list[Answer]] = {}
    for answer in result.answers:
        groups.setdefault((answer.model, answer.channel), []).append(answer)
    if groups:
        screen.table(
            ["model", "channel", ">feeds", "worst", "verdict"],
            [
                [model, channel, str(len(members)), _worst(members), overall(answer.status for answer in members)]
                for (model, channel), members in list(groups.items())[:ROWS_SHOWN]
            ],
        )
    failed = [answer for answer in result.answers if answer.reasons]
    for answer in failed[:REASONS_SHOWN]:
        reasons = "; ".join(answer.reasons)
        screen.line(f"{answer.model} over {answer.channel}, {answer.feed}: {reasons}", mark=answer.status)
    screen.more(len(failed) - REASONS_SHOWN, "like these, which --json lists")
    for shortfall in result.shortfalls:
        screen.line(f"{shortfall.what}: {shortfall.reason}", mark=shortfall.status)
    if result.loads:
        times = ("p50", "p90", "p95", "p99")
        screen.table(
            ["model", "size", "channel", ">at once", *(f">{name} ms" for name in times), ">a second", ">errors"],
            [
                [load.model, size_text(load.size), load.channel, str(load.concurrency)]
                + [f"{load.latency_ms[name]:.1f}" if load.latency_ms else "" for name in times]
                + [f"{load.per_second:.1f}", str(load.errors)]
                for load in result.loads
            ],
        )
    for load in result.loads:
        if load.errors:
            screen.line(f"{load.model} over {load.channel}: {load.reason}", mark="failed")
    screen.notes(result.notes)
    passed = sum(answer.status == "passed" for answer in result.answers)
    counted = f"{passed} of {len(result.answers)} answers of {result.server} are the reference's, within their limits"
    screen.verdict(result.status, counted if result.answers else f"no answer of {result.server} was compared")


def _worst(members: Sequence[Answer]) -> str:
    numbers = [answer.numbers for answer in members if answer.numbers]
    if not numbers:
        return ""
    if "levels" in numbers[0]:
        largest, mean = (max(one[name] or 0.0 for one in numbers) for name in ("levels", "mean_levels"))
        return f"{largest:.0f} of 255 levels, {mean:.2g} in the mean"
    ratios = [one["psnr_db"] for one in numbers if one["psnr_db"] is not None]
    error = max(one["max_of_peak"] or 0.0 for one in numbers)
    return f"{min(ratios):.1f} dB, {error:.2g} of the peak" if ratios else "identical"
