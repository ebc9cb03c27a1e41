"""What the command line shows: progress on standard error, results on standard output."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from refine_export.cli.clean_text import clean
from refine_export.support.progress import Progress, Silent

if TYPE_CHECKING:
    from rich.status import Status

    from refine_export.deploy.triton.repository import Deployed
    from refine_export.doctor.diagnosis import Check
    from refine_export.graph.lint_rules import Finding
    from refine_export.jobs.export_graphs import ExportedFile
    from refine_export.jobs.lint_files import LintReport
    from refine_export.jobs.validation_report import ValidationReport
    from refine_export.lower.fp32_islands import Search
    from refine_export.lower.lowered_file import LoweredFile

STYLES = {"passed": "[green]passed[/]", "failed": "[red]failed[/]", "not compared": "[yellow]not compared[/]"}
OUTPUTS_SHOWN = 40
NOTES_SHOWN = 5


def escape(text: str) -> str:
    """Clean text that is not read as markup."""
    return escape_markup(clean(text))


class ConsoleProgress:
    """A spinner with the time on a terminal; elsewhere a plain line when a step starts and when it is done."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status: Status | None = None
        self._label = ""

    def within(self, phase: str, done: int, steps: int) -> None:
        """Show how far a phase of the step has come, on a terminal."""
        if self._status is not None:
            self._status.update(f"{self._label}: {escape(phase)} {done}/{steps}")

    @contextmanager
    def step(self, label: str) -> Iterator[Callable[[str], None]]:
        """Show a step while it lasts, and how it went."""
        outcome: list[str] = []
        started = time.perf_counter()
        if self._console.is_terminal:
            self._label = escape(label)
            with self._console.status(self._label) as self._status:
                yield outcome.append
            self._status = None
        else:
            self._console.print(f"{escape(label)} ...", soft_wrap=True)
            yield outcome.append
        seconds = time.perf_counter() - started
        said = f": {escape(outcome[-1])}" if outcome else ""
        self._console.print(f"{escape(label)}{said} ({seconds:.1f} s)", soft_wrap=True)


def make_progress(quiet: bool) -> Progress:
    """Progress on standard error, or none."""
    return Silent() if quiet else ConsoleProgress()


def print_report(result: ValidationReport) -> None:
    """Print the verdict, a line per comparison, the notes."""
    report = result.report
    console = Console(highlight=False)
    if not console.is_terminal:  # a file has no edge at which rows would have to break
        console.width = max(console.width, 160)
    comparisons = report["comparisons"]
    several = len({comparison["verdict"]["runtime"] for comparison in comparisons}) > 1
    pairs = {(comparison["graph"], comparison["file"]) for comparison in comparisons}
    files = len(pairs) > len({graph for graph, _ in pairs})
    table = Table(box=None, pad_edge=False)
    optional = [*(["file"] if files else []), *(["runtime"] if several else [])]
    for heading in ("feed", *optional, "output", "PSNR dB", "largest error", "verdict"):
        table.add_column(heading, justify="right" if heading in ("PSNR dB", "largest error") else "left")
    rows = [(comparison, output) for comparison in comparisons for output in _outputs(comparison)]
    for comparison, output in rows[:OUTPUTS_SHOWN]:
        verdict = comparison["verdict"]
        metrics = output["metrics"] if output else None
        table.add_row(
            escape(verdict["feed"]),
            *([escape(comparison["file"])] if files else []),
            *([escape(verdict["runtime"])] if several else []),
            escape(output["output"]) if output else "",
            _psnr(metrics),
            "" if not metrics or metrics["max_abs"] is None else f"{metrics['max_abs'] / metrics['peak']:.2g}",
            STYLES[output["status"] if output else verdict["status"]],
        )
    console.print(table)
    if len(rows) > OUTPUTS_SHOWN:
        console.print(f"and {len(rows) - OUTPUTS_SHOWN} more in the report")
    for (status, reason), keys in result.reasons().items():
        more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
        console.print(f"{status}: {escape(keys[0])}{more}: {escape(reason)}", soft_wrap=True)
    for shortfall in report["shortfalls"]:
        state = STYLES[shortfall["status"]] if shortfall["counts"] else shortfall["status"]
        console.print(f"{escape(shortfall['what'])}: {state}, {escape(shortfall['reason'])}", soft_wrap=True)
    for note in report["notes"]:
        console.print(f"note: {escape(note)}", soft_wrap=True)
    passed = sum(comparison["verdict"]["status"] == "passed" for comparison in comparisons)
    limits = "; ".join(f"{', '.join(names)}: {text}" for text, names in _limits(report["thresholds"]).items())
    missing = sum(comparison["verdict"]["status"] == "not compared" for comparison in comparisons)
    left_out = f"; {missing} could not be run" if missing else ""
    console.print(
        f"\n{STYLES[report['status']]}: {passed} of {len(comparisons)} comparisons with {escape(report['reference'])} "
        f"are within their limits ({limits}){left_out}",
        soft_wrap=True,
    )
    if result.folder is not None:
        console.print(f"report: {escape(str(result.folder / 'report.html'))}", soft_wrap=True)


def print_exported(files: Sequence[ExportedFile]) -> None:
    """Print a line per file."""
    console = Console(highlight=False)
    for file in files:
        artifact = file.artifact
        state = "reused" if file.reused else f"{artifact.seconds:.1f} s"
        console.print(
            f"{escape(str(file.path))}  {artifact.size_bytes / 2**20:.1f} MiB, opset {artifact.opset}, "
            f"{artifact.nodes} nodes, {escape(artifact.sizes)} ({state})",
            soft_wrap=True,
        )


def print_lint(report: LintReport) -> None:
    """Print the findings of each file."""
    print_findings(report.findings)


def print_findings(found: Mapping[str, Sequence[Finding]]) -> None:
    """Print each finding with its node, why it matters and what to do."""
    console = Console(highlight=False)
    for file, findings in found.items():
        for finding in findings:
            colour = "red" if finding.severity == "error" else "yellow"
            where = f"{escape(finding.node)}: " if finding.node else ""
            console.print(
                f"[{colour}]{finding.severity}[/] {escape(file)}: {where}{escape(finding.message)}", soft_wrap=True
            )
            console.print(f"  why: {escape(finding.why)}", soft_wrap=True)
            console.print(f"  do:  {escape(finding.fix)} [dim]({finding.rule})[/]", soft_wrap=True)
        errors = sum(finding.severity == "error" for finding in findings)
        state = "[green]nothing found[/]" if not findings else f"{errors} errors, {len(findings) - errors} warnings"
        console.print(f"{escape(file)}: {state}", soft_wrap=True)


def print_checks(checks: Sequence[Check]) -> None:
    """What works, what does not, and what to do about it."""
    console = Console(highlight=False)
    width = max(len(check.name) for check in checks)
    for check in checks:
        state = "[green]yes[/]" if check.works else "[yellow]no [/]"
        console.print(f"{state} {check.name:<{width}}  {escape(check.found)} [dim]({check.enables})[/]", soft_wrap=True)
        if check.add:
            console.print(f"    {'':<{width}}  to add it: {escape(check.add)}", soft_wrap=True)


def print_description(description: Mapping[str, Any], indent: int = 0) -> None:
    """Names and values; what is nested is indented."""
    console = Console(highlight=False)
    for name, value in description.items():
        if isinstance(value, Mapping) and value and not any(isinstance(part, Mapping | str) for part in value.values()):
            said = ", ".join(f"{key} {_number(part)}" for key, part in value.items())
        elif isinstance(value, Mapping):
            console.print(f"{' ' * indent}{escape(str(name))}:")
            print_description(value, indent + 2)
            continue
        elif isinstance(value, list):
            console.print(f"{' ' * indent}{escape(str(name))}:")
            for part in value:
                shape = ", ".join(map(str, part["shape"]))
                said = clean(f"{part['name']}: {part['dtype']} [{shape}]")
                console.print(f"{' ' * indent}  {said}", soft_wrap=True, markup=False)
            continue
        else:
            said = _number(value)
        console.print(f"{' ' * indent}{escape(str(name))}: {escape(said)}", soft_wrap=True)


def _limits(thresholds: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Each set of limits as text, with the names of those that have it."""
    found: dict[str, list[str]] = {}
    for name, limits in thresholds.items():
        text = f"{limits['max_abs']:g} of the peak and {limits['psnr_db']:g} dB"
        found.setdefault(text, []).append(name)
    return found


def _outputs(comparison: Mapping[str, Any]) -> list[Any]:
    return comparison["verdict"]["outputs"] or [None]


def _psnr(metrics: Mapping[str, Any] | None) -> str:
    if metrics is None:
        return ""
    if metrics["identical"]:
        return "identical"
    return "" if metrics["psnr_db"] is None else f"{metrics['psnr_db']:.1f}"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def print_lowered(result: LoweredFile, *, explain: bool) -> None:
    """What became of the file; with `explain` every node, with a search its table."""
    console = Console(highlight=False)
    if explain:
        for node in result.nodes:
            said = escape(f"{node.operator} {node.node}: {node.reason}")
            console.print(f"{node.type:<9} {said}", soft_wrap=True)
    if result.search is not None:
        _print_search(console, result.search)
    for note in result.notes[:NOTES_SHOWN]:
        console.print(f"note: {escape(note)}", soft_wrap=True)
    if len(result.notes) > NOTES_SHOWN:
        console.print(f"note: and {len(result.notes) - NOTES_SHOWN} more like these in the manifest")
    types = ", ".join(f"{count} nodes {kind}" for kind, count in sorted(result.types.items()))
    state = "reused" if result.reused else f"{result.seconds:.1f} s"
    exact = math.isinf(result.psnr_db)
    accuracy = "equal to FP32" if exact else f"{result.psnr_db:.1f} dB, largest error {result.max_error:.2g}"
    console.print(f"on the calibration feeds, rounded as its types say: {accuracy}", soft_wrap=True)
    console.print(
        f"{escape(str(result.path))}  {result.size_bytes / 2**20:.1f} MiB (FP32: {result.source_bytes / 2**20:.1f}), "
        f"{types}; {result.macs_low:.1%} of the multiply-adds in FP16 or BF16 ({state})",
        soft_wrap=True,
    )


def _print_search(console: Console, search: Search) -> None:
    if search.steps:
        table = Table(box=None, pad_edge=False)
        for heading in ("region", "alone dB", "total dB", "error", "MACs", "bytes"):
            table.add_column(heading, justify="left" if heading == "region" else "right", no_wrap=True)
        for step in search.steps:
            table.add_row(
                escape(step.region),
                f"{step.alone_db:+.2f}",
                f"{step.psnr_db:.2f}",
                f"{step.max_error:.2g}",
                f"{step.macs_share:.1%}",
                f"{step.bytes_share:.1%}",
            )
        console.print("kept in FP32, with their shares of what would be FP16:")
        console.print(table)
    start, final, bound = search.start, search.final, search.bound
    said = "target met" if search.reached else "target missed: every region is FP32, and that is the best there is"
    all_of_them = f"; with every region in FP32 {bound.psnr_db:.2f} dB" if search.islands else ""
    console.print(
        f"{said}: from {start.psnr_db:.2f} to {final.psnr_db:.2f} dB, largest error {start.max_error:.2g} to "
        f"{final.max_error:.2g}{all_of_them}",
        soft_wrap=True,
    )


def print_deployed(made: Deployed) -> None:
    """Print a line for each model, and what to do next."""
    path, deployment, notes = made.path, made.deployment, made.notes
    console = Console(highlight=False)

    def say(text: str) -> None:
        console.print(escape(text), soft_wrap=True)

    for model in deployment["models"]:
        versions = ", ".join(map(str, model["versions"]))
        said = [f"{model['backend']}, version {versions}"]
        if model.get("max_batch_size"):
            said.append(f"batches up to {model['max_batch_size']}")
        if sizes := model.get("warmed_up_at"):
            said.append(f"warmed up at {', '.join(sizes)}")
        say(f"{model['name']}: {'; '.join(said)}")
        for artifact in model.get("artifacts", ()):
            engine = artifact["engine"]
            for_what = f"TensorRT {engine['tensorrt']} on {engine['gpu']}" if engine else "ONNX"
            file = f"{model['name']}/{artifact['version']}/{artifact['file']}"
            say(f"  {file}: {for_what}, {artifact['precision']}, {artifact['sizes']}")
    for note in notes:
        say(f"note: {note}")
    size = sum(file["size_bytes"] for file in deployment["files"].values()) / 2**20
    say(f"{path}: {len(deployment['files']) + 1} files, {size:.1f} MiB")
    say(f"next: refine-export deploy check {clean(str(path))}; {path / 'README.md'} says how to start the server")
