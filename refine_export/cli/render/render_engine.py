"""What the command line shows of an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from refine_export.cli.render.console import escape
from refine_export.support.text import size_text

if TYPE_CHECKING:
    from refine_export.engine.engine_file import EngineFile

_CANARY = {True: "[green]right[/]", False: "[red]wrong[/]", None: "[yellow]not run[/]"}
_PROVEN = {True: "[green]proven[/]", False: "[yellow]not proven[/]"}


def print_engine(made: EngineFile) -> None:
    """What was built, how it was proven, and what there is to know of it."""
    say = _sayer()
    for change in made.changes:
        say(f"built anew: {_line(change)}")
    for line in _proofs(made.manifest.details):
        say(line)
    state = "reused: nothing that it depends on has changed" if made.reused else f"{made.manifest.seconds:.0f} s"
    say(f"{_line(made.path)}  {made.size_bytes / 2**20:.1f} MiB, rung {_line(made.rung)} ({state})")


def print_plan(description: Mapping[str, Any]) -> None:
    """What `engine.plan.describe` found: the file, what it was built for and from, and its proofs."""
    say = _sayer()
    for name in ("file", "sha256", "size_bytes", "tensorrt", "manifest"):
        say(f"{name}: {_line(description[name])}")
    if "key" not in description:
        return
    say("built for and from:")
    for name, value in description["key"].items():
        if isinstance(value, Mapping):
            said = ", ".join(f"{option} {setting}" for option, setting in value.items() if setting is not None)
            say(f"  {_line(name)}: {_line(said)}")
        elif name == "profiles":
            for line in _profiles(value):
                say(f"  {line}")
        else:
            say(f"  {_line(name)}: {_line(value)}")
    if source := description["details"].get("artifact"):
        graph, precision, file, weights, sha256 = (
            _line(source.get(name, "not recorded"))
            for name in ("graph", "precision", "file", "checkpoint", "checkpoint_sha256")
        )
        say(f"  graph: {graph}, {precision}, {file}")
        say(f"  weights: {weights} (sha256 {sha256})")
    say("proofs:")
    for line in _proofs(description["details"]):
        say(f"  {line}")


def _line(text: object) -> str:
    """In one line, whatever a manifest or an error says: a line of its own could be taken for ours."""
    return escape("; ".join(part.strip() for part in str(text).splitlines()))


def _sayer() -> Callable[[str], None]:
    console = Console(highlight=False)
    return lambda text: console.print(text, soft_wrap=True)


def _profiles(profiles: Any) -> Iterator[str]:
    for number, profile in enumerate(profiles):
        for tensor, shapes in profile.items():
            said = " / ".join(size_text(shape) for shape in shapes)
            yield _line(f"profile {number} of {tensor}: {said}")


def _proofs(details: Mapping[str, Any]) -> Iterator[str]:
    """Markup, line by line: repairs, canary, rungs, types, notes; each of them where the manifest has it."""
    for repair in (details.get("guard") or {}).get("repairs", ()):
        yield _line(f"repaired {repair['layer']}: {repair['attribute']} was {repair['found']}, is {repair['set']}")
    if canary := details.get("canary"):
        yield f"canary: {_CANARY[canary['passed']]}, {_line(canary['words'])}"
    for tried in details.get("ladder") or ():
        yield f"rung {_line(_rung(tried))}"
    notes = list(details.get("notes") or ())
    if precision := details.get("precision"):
        types = ", ".join(f"{count} {kind}" for kind, count in precision["convolutions"].items()) or "none"
        yield f"types of the convolutions in the engine: {_line(types)} ({_PROVEN[precision['proven']]})"
        notes = [*precision["notes"], *notes]
    if refitted := details.get("refitted"):
        yield f"refitted: its weights came into the plan {_line(refitted['plan_sha256'])[:12]}"
    for note in notes:
        yield f"note: {_line(note)}"


def _rung(tried: Mapping[str, Any]) -> str:
    """`native: passed, largest error 0.0021 of the peak (at most 0.05), 66.8 dB (at least 58)`."""
    head = f"{tried['rung']}: {tried['status']}"
    limits = tried["limits"]
    if limits is None:
        return f"{head}, {tried['reason']}"
    errors = [one["max_abs"] for one in tried["numbers"]]
    levels = [one["psnr_db"] for one in tried["numbers"] if one["psnr_db"] is not None]
    error = "not finite" if None in errors else f"{max(errors):.2g} of the peak"
    level = f", {min(levels):.1f} dB (at least {limits['psnr_db']:g})" if levels else ""
    return f"{head}, largest error {error} (at most {limits['max_abs']:g}){level}"
